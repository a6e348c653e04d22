"""Values that are followed: what was computed of them, by which ops, is written down as it happens.

``fastnn.ops`` calls ``record`` where one of its arguments is ``Traced``; ``fastnn.differentiation`` reads the records
backwards. In a program (``fastnn.programs``) all calls go to its recorder, which has values of its own kind. What is
followed is no NumPy array: what cannot be followed, a NumPy expression say, is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count, pairwise
from numbers import Real
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from fastnn import backends
from fastnn.kernels.contexts import setting

_serial = count()

# The ops that + and the like of arrays are, by calculation: ``fastnn.ops`` enters them.
OPERATORS: dict[str, Callable[..., Any]] = {}

# In the current context (thread or task), what is followed in the place of values that are held, by their ids.
_in_place: ContextVar[Mapping[int, Any]] = ContextVar("fastnn_in_place", default=MappingProxyType({}))


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


class Followed:
    """A value that is followed: an array with its shape and dtype, or a number, which can be calculated with.

    Subclasses say what it is followed for, and what becomes of what is made of it.
    """

    __slots__ = ("_value",)

    purpose, hint = "", ""

    def __init__(self, value: Any) -> None:
        self._value = value

    def made(self, name: str, given: Mapping[str, Any]) -> Any:
        """What one of ``CALCULATIONS`` makes of these values, followed as well."""
        raise NotImplementedError(f"{type(self).__name__}: wants a method made(name, given)")

    def __repr__(self) -> str:
        return f"<{_described(self._value)}, followed>"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array; () for a number."""
        return getattr(self._value, "shape", ())

    @property
    def ndim(self) -> int:
        """How many dimensions."""
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        """Of the array."""
        return self._value.dtype

    @property
    def size(self) -> int:
        """Elements of the array."""
        return int(self._value.size)

    def reshape(self, *shape: Any) -> Any:
        """The array in another shape."""
        return self.made("reshape", {"x": self, "shape": shape})

    def ravel(self) -> Any:
        """The array in one dimension."""
        return self.reshape(-1)

    def transpose(self, *axes: int) -> Any:
        """The array with its axes in this order."""
        return self.made("permute", {"x": self, "axes": axes})

    @property
    def T(self) -> Any:  # noqa: N802 - NumPy's name
        """The array with its axes in reverse."""
        return self.made("transpose", {"x": self})

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        """As ``ops.sum``."""
        return OPERATORS["sum"](self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        """As ``ops.mean``."""
        return OPERATORS["mean"](self, axis, keepdims)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise AttributeError(_refusal(f".{name}", self))

    def __add__(self, other: Any) -> Any:
        return _calculated("plus", "+", self, operand_of(other))

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        return _calculated("times", "*", self, operand_of(other))

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return _calculated("times", "*", self, -1.0)

    def __sub__(self, other: Any) -> Any:
        return _calculated("minus", "-", self, operand_of(other))

    def __rsub__(self, other: Any) -> Any:
        return _calculated("minus", "-", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _calculated("over", "/", self, operand_of(other))

    def __rtruediv__(self, other: Any) -> Any:
        return _calculated("over", "/", other, self)

    def __matmul__(self, other: Any) -> Any:
        return OPERATORS["product"](self, operand_of(other))

    def __rmatmul__(self, other: Any) -> Any:
        return OPERATORS["product"](operand_of(other), self)

    def __pow__(self, exponent: Any) -> Any:
        return powers(self, operand_of(exponent))

    def __rpow__(self, x: Any) -> Any:
        return powers(operand_of(x), self)

    def __getitem__(self, index: Any) -> Any:
        """The part that slices and integers tell; where it is a single one, that number."""
        for each in index if isinstance(index, tuple) else (index,):
            if not (each is Ellipsis or isinstance(each, (int, slice))):
                raise TypeError(_refusal("[...]", self))
        part = self.made("part", {"x": self, "index": index})
        return part if part.ndim else OPERATORS["total"](part.reshape(1))[0]

    def __array_ufunc__(self, ufunc: Any, method: str, *operands: Any, **options: Any) -> Any:
        """NumPy's numbers and arrays calculate by ufuncs."""
        if ufunc.__name__ == "matmul" and method == "__call__" and not options:
            return OPERATORS["product"](*operands)
        name = _UFUNCS.get(ufunc.__name__)
        if name is None or method != "__call__" or options:
            raise TypeError(_refusal(f"numpy.{ufunc.__name__}", self))
        return _calculated(name, f"numpy.{ufunc.__name__}", *operands)

    def __array_function__(self, function: Any, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(_refusal(f"numpy.{function.__name__}", self))


def _refuse(name: str, wanted: str) -> Callable[..., NoReturn]:
    """A method that says what cannot be done with a value which is followed."""

    def method(self: Followed, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(_refusal(wanted, self))

    method.__name__ = method.__qualname__ = name
    return method


# What Python or NumPy would make of the value unseen, by method.
_UNSEEN = {
    "__float__": "float",
    "__int__": "int",
    "__index__": "an index",
    "__bool__": "if",
    "__abs__": "abs",
    "__len__": "len",
    "__iter__": "for",
    "__setitem__": "[...] =",
    "__lt__": "<",
    "__le__": "<=",
    "__gt__": ">",
    "__ge__": ">=",
    "__eq__": "==",
    "__ne__": "!=",
    "__array__": "numpy.asarray",
}
for _name, _wanted in _UNSEEN.items():
    setattr(Followed, _name, _refuse(_name, _wanted))
setattr(Followed, "__hash__", object.__hash__)  # noqa: B010 - it is itself, and equal to nothing else


class Traced(Followed):
    """A value that gradients are wanted of: ``value`` is what it stands for, and what is made of that is constant."""

    __slots__ = ("node", "place")

    purpose, hint = "for its gradient", " (what is made of its .value counts as constant)"

    def __init__(self, value: Any, node: Node | None = None, place: int = 0) -> None:
        super().__init__(value)
        self.node, self.place = node, place

    @property
    def value(self) -> Any:
        """What it stands for."""
        return self._value

    def made(self, name: str, given: Mapping[str, Any]) -> Any:
        """A calculation, followed."""
        plain, parents = _split(given)
        return _traced(name, plain, calculate(name, **plain), parents)


def _traced(name: str, given: Mapping[str, Any], results: Any, parents: Mapping[str, Traced]) -> Any:
    """The results of a call, an array or number or a tuple of such, followed."""
    together = results if isinstance(results, tuple) else (results,)
    node = Node(name, given, together, parents)
    traced = tuple(Traced(result, node, place) for place, result in enumerate(together))
    return traced if isinstance(results, tuple) else traced[0]


def _described(value: Any) -> str:
    if isinstance(value, Followed):
        value = value._value
    if not hasattr(value, "dtype"):
        return f"the number {value}"
    return f"an array of shape {value.shape} and dtype {value.dtype}"


def _refusal(what: str, got: Followed) -> str:
    wanted = f"wants an op of fastnn.ops in its place{got.hint}"
    return f"{what}: got {_described(got)} that is followed {got.purpose}, {wanted}"


def _unbroadcast(x: Any, shape: tuple[int, ...]) -> Any:
    lead = x.ndim - len(shape)
    stretched = [lead + axis for axis, size in enumerate(shape) if size == 1 and x.shape[lead + axis] != 1]
    # the axes are kept until the end: without any NumPy would make a number of it, not an array ()
    return x.sum(axis=(*range(lead), *stretched), dtype=x.dtype, keepdims=True).reshape(shape)


def _part(x: Any, index: Any) -> Any:
    """The part that an index tells: an array, of a single number too."""
    given = index if isinstance(index, tuple) else (index,)
    return x[given if any(each is Ellipsis for each in given) else (*given, ...)]


def _spread(x: Any, index: Any, like: Any) -> Any:
    """Zeros like an array but for x in the part that an index tells."""
    whole = np.zeros_like(like, order="C")
    whole[index] = x
    return whole


def _parted(x: Any, bounds: tuple[int, ...], axis: int) -> tuple[Any, ...]:
    before = (slice(None),) * axis
    return tuple(x[(*before, slice(*some))] for some in pairwise(bounds))


def _scaled(x: Any, factor: Any) -> Any:
    """On a device the factor may be an array (): a number that nobody waits for."""
    return x * (factor.astype(x.dtype) if hasattr(factor, "astype") else x.dtype.type(factor))


# What is made of values beside what ops make of them: arrays of an array x, and numbers of numbers a and b. An array is
# looked at in another way, in part or in parts, multiplied with a number or divided by it, or summed over what was
# broadcast from a shape; zeros are of its shape, or of another one.
CALCULATIONS: dict[str, Callable[..., Any]] = {
    "reshape": lambda x, shape: x.reshape(*shape),
    "transpose": lambda x: x.T,
    "permute": lambda x, axes: x.transpose(*axes),
    "part": _part,
    "spread": _spread,
    "split": _parted,
    "scaled": _scaled,
    "divided": lambda x, factor: x / x.dtype.type(factor),
    "unbroadcast": _unbroadcast,
    "zeros": lambda x, shape=None: np.zeros_like(x, order="C", shape=shape),
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
    "over": lambda a, b: a / b,
}

_UFUNCS = {"add": "plus", "subtract": "minus", "multiply": "times", "divide": "over"}


def calculate(name: str, **given: Any) -> Any:
    """One of ``CALCULATIONS``, followed where one of the values is."""
    followed = [value for value in given.values() if isinstance(value, Followed)]
    if not followed:
        return CALCULATIONS[name](**given)
    # what gradients are wanted of may itself stand for what a program records, not the other way round
    return next((value for value in followed if isinstance(value, Traced)), followed[0]).made(name, given)


# The largest whole power that is made of products.
_MOST_PRODUCTS = 64


def powers(x: Any, exponent: Any) -> Any:
    """x to a power: 0.5 by a root, whole ones up to 64 by products, others as exp(exponent log x), for x > 0."""
    if not is_number(exponent) and not hasattr(exponent, "shape"):
        raise TypeError(f"**: got the exponent {exponent!r}, wants a number or an array")
    if isinstance(exponent, Real) and exponent == 0.5:
        return OPERATORS["sqrt"](x)
    if isinstance(exponent, Real) and exponent == int(exponent) and 1 <= abs(exponent) <= _MOST_PRODUCTS:
        y = _product_of(x, abs(int(exponent)))
        return y if exponent > 0 else 1.0 / y
    return OPERATORS["exponential"](OPERATORS["times"](OPERATORS["log"](x), exponent))


def _product_of(x: Any, times: int) -> Any:
    """So many x multiplied, by squares."""
    half, odd = divmod(times, 2)
    if not half:
        return x
    square = OPERATORS["square"](_product_of(x, half))
    return square * x if odd else square


def _calculated(name: str, sign: str, a: Any, b: Any) -> Any:
    """A calculation with two numbers, one or both followed; of arrays by the op that stands for the sign."""
    if any(getattr(operand, "ndim", 0) for operand in (a, b)):
        return _of_arrays(name, sign, a, b)
    for operand in (a, b):
        if isinstance(operand, Followed) and operand.ndim:
            raise TypeError(_refusal(sign, operand))
        if not isinstance(operand, (Real, Followed)):
            raise TypeError(f"{sign}: got {type(operand).__name__} beside a number that is followed, wants a number")
    return calculate(name, a=a, b=b)


def _of_arrays(name: str, sign: str, a: Any, b: Any) -> Any:
    """The same where at least one is an array: by an op, or where the other is a number as a multiple."""
    followed = next(operand for operand in (a, b) if isinstance(operand, Followed))
    numbers = [operand for operand in (a, b) if is_number(operand)]
    if name == "over" and numbers and numbers[0] is b and isinstance(b, Real):
        return calculate("divided", x=a, factor=float(b))
    if name == "times" and numbers:
        number = numbers[0] if isinstance(numbers[0], Followed) else float(numbers[0])
        return calculate("scaled", x=b if numbers[0] is a else a, factor=number)
    if name not in OPERATORS:
        raise TypeError(_refusal(sign, followed))
    array = next(operand for operand in (a, b) if getattr(operand, "ndim", 0))
    given = [constant(float(o), array) if isinstance(o, Real) else o for o in (a, b)]
    return OPERATORS[name](*(as_array(o, array) if is_number(o) else o for o in given))


def constant(number: float, like: Any, shape: tuple[int, ...] = (1,)) -> Any:
    """An array of one number beside ``like``: of one place that stretches to any shape, or of a ``shape``."""
    return kept(("constant", number, like.dtype, shape), like, lambda: np.full(shape, number, like.dtype))


def kept(what: Any, like: Any, make: Callable[[], Any]) -> Any:
    """The array of NumPy's that ``make`` gives for what is wanted, beside the array ``like``.

    Always the same one, so that programs find it where it was.
    """
    beside = plain(like)
    on_host = isinstance(beside, np.ndarray)
    known = what, None if on_host else beside.device.id
    if known not in _kept:
        if len(_kept) >= _MOST_KEPT:
            del _kept[next(iter(_kept))]
        _kept[known] = make() if on_host else backends.arrays_of("cuda").copied(make())
    return _kept[known]


_DOUBLE = np.zeros(1)
# The arrays that are kept, by what they are and their device.
_kept: dict[Any, Any] = {}
_MOST_KEPT = 4096


def plain(value: Any) -> Any:
    """What is followed: the array or the number itself."""
    while isinstance(value, Followed):
        value = value._value
    return value


def is_number(value: Any) -> bool:
    """Whether a value is a number, followed or not, and no array."""
    return isinstance(plain(value), Real)


def as_array(number: Any, like: Any = None) -> Any:
    """A number that may be followed as an array (1,), of the dtype of the array ``like``, else of float64."""
    beside = _DOUBLE if like is None else like
    if not isinstance(number, Followed):
        return constant(float(number), beside)
    return calculate("scaled", x=constant(1.0, beside), factor=number)


class Held:
    """A value that something keeps, a weight say: ops take its ``value``, or what is followed in its place."""

    value: Any

    @property
    def operand(self) -> Any:
        """What ops take."""
        return _in_place.get().get(id(self), self.value)

    def __add__(self, other: Any) -> Any:
        return self.operand + operand_of(other)

    def __radd__(self, other: Any) -> Any:
        return operand_of(other) + self.operand

    def __mul__(self, other: Any) -> Any:
        return self.operand * operand_of(other)

    def __rmul__(self, other: Any) -> Any:
        return operand_of(other) * self.operand

    def __sub__(self, other: Any) -> Any:
        return self.operand - operand_of(other)

    def __rsub__(self, other: Any) -> Any:
        return operand_of(other) - self.operand

    def __truediv__(self, other: Any) -> Any:
        return self.operand / operand_of(other)

    def __rtruediv__(self, other: Any) -> Any:
        return operand_of(other) / self.operand

    def __matmul__(self, other: Any) -> Any:
        return OPERATORS["product"](self.operand, operand_of(other))

    def __rmatmul__(self, other: Any) -> Any:
        return OPERATORS["product"](operand_of(other), self.operand)

    def __neg__(self) -> Any:
        return -self.operand

    def reshape(self, *shape: Any) -> Any:
        """The value in another shape."""
        return self.operand.reshape(*shape)

    @property
    def T(self) -> Any:  # noqa: N802 - NumPy's name
        """The value with its axes in reverse."""
        return self.operand.T


def operand_of(value: Any) -> Any:
    """What ops take of a value that may be held."""
    return value.operand if isinstance(value, Held) else value


def operands(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arguments with operands in place of values that are held; None where there are none such."""
    found = {
        name: [*map(operand_of, value)] if isinstance(value, (list, tuple)) else operand_of(value)
        for name, value in given.items()
    }
    same = all(
        value is given[name] or (isinstance(value, list) and all(map(operator.is_, value, given[name])))
        for name, value in found.items()
    )
    return None if same else found


def in_place_of(held: Iterable[Held], values: Iterable[Any]) -> AbstractContextManager[None]:
    """``with`` this, ops take these values in place of those that are held."""
    return setting(_in_place, {**_in_place.get(), **dict(zip(map(id, held), values, strict=True))})


class Symbol:
    """What stands for an array before there are any data: graphs of layers are made of such."""

    def applied(self, function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
        """What stands for what a function of ``fastnn.ops`` gives for these arguments, this one among them."""
        raise NotImplementedError(f"{type(self).__name__}: wants a method applied(function, given)")


def symbol_among(given: Iterable[Any]) -> Symbol | None:
    """The first symbol among arguments, or in a list or tuple that is one; None where there is none."""
    for value in given:
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(each, Symbol):
                return each
    return None


def _split(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Traced]]:
    """(arguments with values in place of what is followed, what is followed by name)."""
    parents = {name: value for name, value in given.items() if isinstance(value, Traced)}
    return {name: value.value if name in parents else value for name, value in given.items()}, parents


def follows(given: Mapping[str, Any]) -> bool:
    """Whether a call's arguments have to be followed."""
    return any(
        isinstance(value, Traced)
        or (isinstance(value, (list, tuple)) and any(isinstance(each, Traced) for each in value))
        for value in given.values()
    )


def record(
    op: str, call: Callable[..., Any], given: Mapping[str, Any], inplace: Iterable[str], into: Iterable[str]
) -> Any:
    """The results of an op, followed, with what a call of it on the values gives.

    What it writes to is refused: ``inplace`` where it is followed, since what that held is still needed, and whatever
    is there for results to go ``into``.
    """
    for name, value in given.items():
        if isinstance(value, (list, tuple)) and any(isinstance(each, Traced) for each in value):
            raise TypeError(f"{name}: got a list with arrays that are followed for their gradients, wants none in {op}")
    plain, parents = _split(given)
    for name in (*(name for name in inplace if name in parents), *into):
        if given[name] is not None:
            raise TypeError(f"{name}: got an array to write to where gradients are followed, wants none in {op}")
    return _traced(op, plain, call(**plain), parents)
