"""Symbolic tensors: what stands for what a layer gives before there are any data, and the calls that they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from fastnn import ops
from fastnn.tape import Symbol

if TYPE_CHECKING:
    from fastnn.layers.base import Operation

BatchShape = tuple[int | None, ...]

# The layers that + and the like of tensors are, by the operator's method, and under "function" what makes the layer of
# any other call: ``layers.merging`` and ``layers.functions`` enter them.
OPERATORS: dict[str, Callable[..., Any]] = {}


class SymbolicTensor(Symbol):
    """Shape (the batch axis as None), dtype and name of what a call will give; layers are called on it.

    + - * between tensors are layers of their own, as in Keras, and so is what functions of ``fastnn.ops``, other signs
    and [...] make of it.
    """

    # NumPy leaves calculations with it alone.
    __array_ufunc__ = None

    def __init__(self, shape: BatchShape, dtype: str, name: str, node: Node, place: int = 0) -> None:
        self.shape, self.dtype, self.name, self.node, self.place = shape, dtype, name, node, place

    @property
    def ndim(self) -> int:
        """Number of axes, that of the batch included."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<SymbolicTensor {self.name!r} of shape {self.shape} and dtype {self.dtype}>"

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"got {self!r}, wants an array: data take its place when the model is called or fitted")

    def applied(self, function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
        """The symbolic tensor that a layer gives which is this call of the function."""
        return OPERATORS["function"](function.__name__, given)

    def __getitem__(self, key: Any) -> Any:
        return OPERATORS["function"]("get_item", {"x": self, "key": key})


def _sign(method: str, function: str, reflected: bool = False) -> Callable[[SymbolicTensor, Any], Any]:
    """The method of a sign: between tensors the layer that is entered for it, else a function of ``fastnn.ops``."""

    def made(self: SymbolicTensor, other: Any) -> Any:
        if method in OPERATORS and isinstance(other, SymbolicTensor):
            return OPERATORS[method]([self, other])
        a, b = (other, self) if reflected else (self, other)
        return getattr(ops, function)(a, b)

    made.__name__ = made.__qualname__ = method
    return made


# The functions that signs are, by name in Python's methods.
_SIGNS = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "power", "matmul": "matmul"}
for _name, _function in _SIGNS.items():
    setattr(SymbolicTensor, f"__{_name}__", _sign(f"__{_name}__", _function))
    setattr(SymbolicTensor, f"__r{_name}__", _sign(f"__r{_name}__", _function, reflected=True))
setattr(SymbolicTensor, "__neg__", ops.negative)  # noqa: B010 - as the others


class Node:
    """One call of a layer or a model: the tensors that it was given, one or a list of such, and those that it gave."""

    def __init__(self, operation: Operation, given: Any, shapes: list[BatchShape], dtype: str) -> None:
        self.operation, self.given = operation, given
        self.outputs = [SymbolicTensor(shape, dtype, operation.name, self, place) for place, shape in enumerate(shapes)]

    @property
    def taken(self) -> list[SymbolicTensor]:
        """The tensors that it was given."""
        return [*tensors(self.given)]


def tensors(structure: Any) -> Iterator[SymbolicTensor]:
    """The symbolic tensors of a list, tuple or dict of such, in their order."""
    if isinstance(structure, SymbolicTensor):
        yield structure
    elif isinstance(structure, (list, tuple)):
        for each in structure:
            yield from tensors(each)
    elif isinstance(structure, Mapping):
        for each in structure.values():
            yield from tensors(each)


def is_symbolic(structure: Any) -> bool:
    """Whether there are symbolic tensors among what is given."""
    return next(tensors(structure), None) is not None
