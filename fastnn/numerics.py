"""Sums over axes, other shapes and the like: what formulas take beside ops, made of these, under Keras's names.

They are part of ``fastnn.ops``, which enters its functions here. Arrays may be followed for gradients, or a program's;
so may numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.tape import Followed, calculate, constant, is_number, operand_of

Array = Any

# The functions of the table's ops, by name.
OPS: dict[str, Callable[..., Any]] = {}


def array(x: Any, dtype: Any = None) -> Array:
    """x (a list, a number, an array) as an array of NumPy's or, if it is one, of CuPy's; numbers become float32."""
    if hasattr(x, "shape"):
        return operand_of(x) if dtype is None else cast(x, dtype)
    made: Array = np.asarray(x)
    if dtype is not None:
        return made.astype(dtype)
    return made.astype("float32") if made.dtype.kind == "f" else made


def cast(x: Any, dtype: Any) -> Array:
    """x in another dtype; what is followed keeps the one that it has."""
    given = operand_of(x)
    if not isinstance(given, Followed):
        return np.asarray(given).astype(dtype) if not hasattr(given, "astype") else given.astype(dtype, copy=False)
    if given.ndim and given.dtype != np.dtype(dtype):
        raise TypeError(f"dtype: got {np.dtype(dtype)} for {given!r}, wants {given.dtype}: gradients keep their dtype")
    return given


def shape(x: Any) -> tuple[int, ...]:
    """Sizes of x's axes."""
    return tuple(operand_of(x).shape)


def zeros_like(x: Any) -> Array:
    """Zeros in the shape and dtype of x."""
    return calculate("zeros", x=getattr(operand_of(x), "value", operand_of(x)))


def ones_like(x: Any) -> Array:
    """Ones in the shape and dtype of x."""
    return OPS["add"](zeros_like(x), constant(1.0, operand_of(x)))


def reshape(x: Any, newshape: Sequence[int] | int) -> Array:
    """x in another shape; one size may be -1."""
    sizes = newshape if isinstance(newshape, (list, tuple)) else [newshape]
    return operand_of(x).reshape(tuple(sizes))


def transpose(x: Any, axes: Sequence[int] | None = None) -> Array:
    """x with its axes in another order: the reverse one where none is given."""
    given = operand_of(x)
    return OPS["permute"](given, [*reversed(range(given.ndim))] if axes is None else axes)


def expand_dims(x: Any, axis: int) -> Array:
    """x with an axis of one place more, at ``axis``."""
    given = operand_of(x)
    at = checks.integer("axis", axis, -given.ndim - 1, given.ndim) % (given.ndim + 1)
    return given.reshape(*given.shape[:at], 1, *given.shape[at:])


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Array:
    """x without axes of one place: all of them, or those of ``axis``."""
    given = operand_of(x)
    ones = [place for place, size in enumerate(given.shape) if size == 1]
    places = ones if axis is None else _axes(axis, given.ndim)
    for place in places:
        if place not in ones:
            raise ValueError(f"axis: got {axis} for the shape {tuple(given.shape)}, wants axes of one place")
    return given.reshape(tuple(size for place, size in enumerate(given.shape) if place not in places))


def sum(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:  # noqa: A001 - Keras's name
    """Sum of x over an axis, or several; over all where there is none: then a number, unless ``keepdims``."""
    return _summed(x, axis, keepdims, mean=False)


def mean(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """Mean of x over an axis, or several; over all where there is none: then a number, unless ``keepdims``."""
    return _summed(x, axis, keepdims, mean=True)


def max(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:  # noqa: A001 - Keras's name
    """Largest numbers of x along an axis, or several, or of all; NaN where there is one.

    The gradient goes to the first of several that are the largest.
    """
    given = operand_of(x)
    rows, kept, squeezed = _rows("x", given, axis)
    if rows.shape[1] == 0:
        raise ValueError(f"x: got shape {tuple(given.shape)}, wants numbers along axis {axis}")
    largest = OPS["sequence_max"](rows.reshape(*rows.shape, 1))
    if not (keepdims or squeezed):
        return OPS["total"](largest)[0]
    return largest.reshape(tuple(kept if keepdims else squeezed))


def min(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:  # noqa: A001 - Keras's name
    """Smallest numbers of x along an axis, or several, or of all; as ``max`` else."""
    return -max(-operand_of(x), axis, keepdims)


def clip(x: Any, x_min: float, x_max: float) -> Any:
    """x kept in [x_min, x_max]; the gradient is 0 outside."""
    given = operand_of(x)
    low, high = (constant(checks.real(name, each), given) for name, each in (("x_min", x_min), ("x_max", x_max)))
    return OPS["minimum"](OPS["maximum"](given, low), high)


def _summed(x: Any, axis: Any, keepdims: bool, mean: bool) -> Any:
    given = operand_of(x)
    if is_number(given):
        return given
    if not keepdims and len(_axes(axis, given.ndim)) == given.ndim:
        if mean and not given.size:
            raise ValueError(f"x: got shape {tuple(given.shape)}, wants numbers to take the mean of")
        return OPS["total"](given, 1.0 / given.size if mean else 1.0)[0]
    places, kept, squeezed = _places(given, axis)
    sizes = kept if keepdims else squeezed
    count = math.prod(given.shape[place] for place in places)
    weight = 1.0 / count if mean and count else 1.0
    if places == [*range(len(places))]:
        whole = OPS["matmul"](constant(weight, given, (1, count)), given.reshape(count, math.prod(squeezed)))
    else:
        rows, *_ = _rows("x", given, axis)
        whole = OPS["matmul"](rows, constant(weight, given, (count, 1)))
    return whole.reshape(tuple(sizes))


def _axes(axis: Any, rank: int) -> list[int]:
    """``axis`` or axes counted from the first, in order, each once."""
    given = axis if isinstance(axis, (list, tuple)) else range(rank) if axis is None else [axis]
    places = sorted(checks.integer("axis", each, -rank, rank - 1) % rank for each in given)
    if len({*places}) < len(places):
        raise ValueError(f"axis: got {axis}, wants every axis once")
    return places


def _places(given: Any, axis: Any) -> tuple[list[int], list[int], list[int]]:
    """(the axes that go, the shape with 1 in their places, the shape without them)."""
    places = _axes(axis, given.ndim)
    kept = [1 if place in places else size for place, size in enumerate(given.shape)]
    return places, kept, [size for place, size in enumerate(given.shape) if place not in places]


def _rows(name: str, given: Any, axis: Any) -> tuple[Any, list[int], list[int]]:
    """(the numbers that become one each as the rows of a matrix, the shape with 1 in the axes' places, and without)."""
    if not hasattr(given, "shape"):
        raise TypeError(f"{name}: got {checks.describe(given)}, wants an array")
    places, kept, squeezed = _places(given, axis)
    order = [place for place in range(given.ndim) if place not in places] + places
    last = given if order == [*range(given.ndim)] else given.transpose(*order)
    count = math.prod(given.shape[place] for place in places)
    return last.reshape(math.prod(squeezed), count), kept, squeezed


NAMES = (
    "array", "cast", "clip", "expand_dims", "max", "mean", "min", "ones_like", "reshape", "shape", "squeeze", "sum",
    "transpose", "zeros_like",
)  # fmt: skip
