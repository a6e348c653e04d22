"""Values that are followed: what was computed of them, by which ops, is written down as it happens.

``fastnn.ops`` calls ``record`` where one of its arguments is ``Traced``; ``fastnn.differentiation`` reads the records
backwards. A traced value is no NumPy array: what cannot be followed, a NumPy expression say, is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from numbers import Real
from typing import Any, NoReturn

_serial = count()


@dataclass(frozen=True, eq=False)
class Node:
    """One call: the op's name, its arguments by name, its results, which of the arguments are followed.

    ``number`` counts all calls: a node's parents have smaller ones.
    """

    op: str
    given: Mapping[str, Any]
    results: tuple[Any, ...]
    parents: Mapping[str, Traced]
    number: int = field(default_factory=lambda: next(_serial))


class Traced:
    """A value that is followed: an array with its shape and dtype, or a number, which can be calculated with.

    ``value`` is what it stands for; what is made of that is not followed.
    """

    __slots__ = ("node", "place", "value")

    def __init__(self, value: Any, node: Node | None = None, place: int = 0) -> None:
        self.value, self.node, self.place = value, node, place

    def __repr__(self) -> str:
        return f"<{_described(self.value)}, followed>"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array; () for a number."""
        return getattr(self.value, "shape", ())

    @property
    def ndim(self) -> int:
        """How many dimensions."""
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        """Of the array."""
        return self.value.dtype

    @property
    def size(self) -> int:
        """Elements of the array."""
        return int(self.value.size)

    def reshape(self, *shape: Any) -> Traced:
        """The array in another shape."""
        return _recorded("reshape", {"x": self}, self.value.reshape(*shape))

    def ravel(self) -> Traced:
        """The array in one dimension."""
        return self.reshape(-1)

    @property
    def T(self) -> Traced:  # noqa: N802 - NumPy's name
        """The array with its axes in reverse."""
        return _recorded("transpose", {"x": self}, self.value.T)

    def __add__(self, other: Any) -> Traced:
        return _calculated("plus", "+", self, other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Traced:
        return _calculated("times", "*", self, other)

    __rmul__ = __mul__

    def __neg__(self) -> Traced:
        return _calculated("times", "*", self, -1.0)

    def __sub__(self, other: Any) -> Traced:
        return _calculated("minus", "-", self, other)

    def __rsub__(self, other: Any) -> Traced:
        return _calculated("minus", "-", other, self)

    def __truediv__(self, other: Any) -> Traced:
        return _calculated("over", "/", self, other)

    def __rtruediv__(self, other: Any) -> Traced:
        return _calculated("over", "/", other, self)

    def __float__(self) -> NoReturn:
        raise TypeError(_refusal("float", self))

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(_refusal("numpy.asarray", self))

    def __array_ufunc__(self, ufunc: Any, method: str, *operands: Any, **_: Any) -> Traced:
        """Numbers of NumPy's calculate by ufuncs."""
        name = _UFUNCS.get(ufunc.__name__)
        if name is None or method != "__call__" or any(getattr(operand, "shape", ()) for operand in operands):
            raise TypeError(_refusal(f"numpy.{ufunc.__name__}", self))
        return _calculated(name, f"numpy.{ufunc.__name__}", *operands)

    def __array_function__(self, function: Any, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(_refusal(f"numpy.{function.__name__}", self))


def _described(value: Any) -> str:
    if not hasattr(value, "dtype"):
        return f"the number {value}"
    return f"an array of shape {value.shape} and dtype {value.dtype}"


def _refusal(what: str, got: Traced) -> str:
    return (
        f"{what}: got {_described(got.value)} that is followed for its gradient, wants an op of fastnn.ops in its "
        "place (what is made of its .value counts as constant)"
    )


# What becomes of two numbers.
_CALCULATIONS: dict[str, Callable[..., Any]] = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
    "over": lambda a, b: a / b,
}

_UFUNCS = {"add": "plus", "subtract": "minus", "multiply": "times", "divide": "over"}


def _calculated(name: str, sign: str, a: Any, b: Any) -> Traced:
    """A calculation with two numbers, one or both followed."""
    for operand in (a, b):
        if isinstance(operand, Traced) and operand.ndim:
            raise TypeError(_refusal(sign, operand))
        if not isinstance(operand, (Real, Traced)):
            raise TypeError(f"{sign}: got {type(operand).__name__} beside a number that is followed, wants a number")
    plain, _ = _split({"a": a, "b": b})
    return _recorded(name, {"a": a, "b": b}, _CALCULATIONS[name](**plain))


def _recorded(op: str, given: Mapping[str, Any], result: Any) -> Traced:
    plain, parents = _split(given)
    return Traced(result, Node(op, plain, (result,), parents))


def _split(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Traced]]:
    """(arguments with values in place of what is followed, what is followed by name)."""
    parents = {name: value for name, value in given.items() if isinstance(value, Traced)}
    return {name: value.value if name in parents else value for name, value in given.items()}, parents


def follows(given: Mapping[str, Any]) -> bool:
    """Whether a call's arguments have to be followed."""
    return any(isinstance(value, Traced) for value in given.values())


def record(
    op: str, call: Callable[..., Any], given: Mapping[str, Any], inplace: Iterable[str], into: Iterable[str]
) -> Any:
    """The results of an op, followed, with what a call of it on the values gives.

    What it writes to is refused: ``inplace`` where it is followed, since what that held is still needed, and whatever
    is there for results to go ``into``.
    """
    plain, parents = _split(given)
    for name in (*(name for name in inplace if name in parents), *into):
        if given[name] is not None:
            raise TypeError(f"{name}: got an array to write to where gradients are followed, wants none in {op}")
    results = call(**plain)
    together = results if isinstance(results, tuple) else (results,)
    node = Node(op, plain, together, parents)
    traced = tuple(Traced(result, node, place) for place, result in enumerate(together))
    return traced if isinstance(results, tuple) else traced[0]
