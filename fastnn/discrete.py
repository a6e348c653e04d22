"""Comparisons, places and whole numbers, under Keras's names: what has no slope, so that no gradient goes through.

They are part of ``fastnn.ops``. Of what gradients are wanted of they take the value; a program, which would have to
compute them again, refuses them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.numerics import operand
from fastnn.tape import Followed, Traced

Array = Any


def _value(name: str, x: Any) -> Any:
    """What x stands for, lists as arrays; what a program records stays what it is, and refuses NumPy by name."""
    given = operand(name, x)
    while isinstance(given, Traced):
        given = given.value
    return given if hasattr(given, "dtype") or isinstance(given, Followed) else np.asarray(given)


def _of_two(name: str, sign: str, what: str = "") -> Callable[[Any, Any], Any]:
    function = getattr(np, name)

    def compared(x1: Any, x2: Any) -> Array:
        return function(_value("x1", x1), _value("x2", x2))

    compared.__name__ = name
    compared.__doc__ = f"{what}, by element." if what else f"Where x1 {sign} x2, by element: an array of truth."
    return compared


def _of_one(name: str, what: str) -> Callable[[Any], Any]:
    function = getattr(np, name)

    def made(x: Any) -> Array:
        return function(_value("x", x))

    made.__name__, made.__doc__ = name, f"{what}, by element."
    return made


def _over_axes(name: str, what: str) -> Callable[..., Any]:
    function = getattr(np, name)

    def found(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
        axes = tuple(axis) if isinstance(axis, (list, tuple)) else axis
        return function(_value("x", x), axis=axes, keepdims=keepdims)

    found.__name__, found.__doc__ = name, f"{what} along an axis, or of all."
    return found


equal, not_equal = _of_two("equal", "="), _of_two("not_equal", "≠")
less, less_equal = _of_two("less", "<"), _of_two("less_equal", "≤")
greater, greater_equal = _of_two("greater", ">"), _of_two("greater_equal", "≥")
logical_and, logical_or = _of_two("logical_and", "and"), _of_two("logical_or", "or")
logical_xor = _of_two("logical_xor", "or, but not both of,")
floor_divide, mod = _of_two("floor_divide", "", "x1 / x2, rounded down"), _of_two("mod", "", "x1 modulo x2")
logical_not = _of_one("logical_not", "Where x is not")
isnan, isinf = _of_one("isnan", "Where x is NaN"), _of_one("isinf", "Where x is infinite")
isfinite = _of_one("isfinite", "Where x is a finite number")
trunc = _of_one("trunc", "The whole number from x towards 0")
floor, ceil = _of_one("floor", "The whole number below x"), _of_one("ceil", "The whole number above x")
argmax, argmin = _over_axes("argmax", "Where the largest number is"), _over_axes("argmin", "Where the smallest is")
any, all = _over_axes("any", "Whether one holds"), _over_axes("all", "Whether all hold")  # noqa: A001 - Keras's names
count_nonzero = _over_axes("count_nonzero", "How many are not 0")


def round(x: Any, decimals: int = 0) -> Array:  # noqa: A001 - Keras's name
    """x to so many decimals, halves to the even one."""
    return np.round(_value("x", x), decimals)


def isclose(x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Array:
    """Where |x1 - x2| <= atol + rtol |x2|, by element: an array of truth."""
    return np.isclose(_value("x1", x1), _value("x2", x2), rtol, atol, equal_nan)


def allclose(x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether ``isclose`` holds everywhere."""
    return bool(np.allclose(_value("x1", x1), _value("x2", x2), rtol, atol, equal_nan))


def isin(x1: Any, x2: Any, assume_unique: bool = False, invert: bool = False) -> Array:
    """Where a number of x1 is one of x2's, or is none of them: an array of truth."""
    return np.isin(_value("x1", x1), _value("x2", x2), assume_unique, invert)


def nonzero(x: Any) -> tuple[Array, ...]:
    """The places of what is not 0, along each axis."""
    return np.nonzero(_value("x", x))


def unravel_index(indices: Any, shape: Sequence[int]) -> tuple[Array, ...]:
    """The places along each axis of a shape that numbers of its elements, row by row, stand for."""
    return np.unravel_index(_value("indices", indices), tuple(shape))


def meshgrid(*x: Any, indexing: str = "xy") -> list[Array]:
    """Coordinates of all points of a grid, an array for each axis; the first two axes change places for "xy"."""
    order: Any = checks.one_of("indexing", indexing, ("xy", "ij"))
    return [*np.meshgrid(*(_value(f"x[{place}]", each) for place, each in enumerate(x)), indexing=order)]


def digitize(x: Any, bins: Any) -> Array:
    """How many of the bins' bounds, in rising order, lie at or below each number of x."""
    return np.digitize(_value("x", x), _value("bins", bins)).astype("int32")


def searchsorted(sorted_sequence: Any, values: Any, side: str = "left") -> Array:
    """The places in a sorted sequence before which values keep it sorted: before equal numbers, or on their "right"."""
    end: Any = checks.one_of("side", side, ("left", "right"))
    return np.searchsorted(_value("sorted_sequence", sorted_sequence), _value("values", values), side=end)


def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Array:
    """How often each of the numbers 0, 1, ... is in x (n,), or the sum of the weights (n,) there."""
    least = checks.integer("minlength", minlength, 0)
    return np.bincount(_value("x", x), None if weights is None else _value("weights", weights), least)


def argsort(x: Any, axis: int = -1) -> Array:
    """The places of x along an axis from its smallest number to its largest, equal ones in their order."""
    return np.argsort(_value("x", x), axis=axis, kind="stable")


NAMES = (
    "all", "allclose", "any", "argmax", "argmin", "argsort", "bincount", "ceil", "count_nonzero", "digitize", "equal",
    "floor", "floor_divide", "greater", "greater_equal", "isclose", "isfinite", "isin", "isinf", "isnan", "less",
    "less_equal", "logical_and", "logical_not", "logical_or", "logical_xor", "meshgrid", "mod", "nonzero", "not_equal",
    "round", "searchsorted", "trunc", "unravel_index",
)  # fmt: skip
