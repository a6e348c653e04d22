"""Comparisons, places and whole numbers, under Keras's names: what has no slope, so that no gradient goes through.

They are part of ``fastnn.ops``. Of what gradients are wanted of they take the value; a program, which would have to
compute them again, refuses them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.numerics import operand
from fastnn.tape import Followed, Traced

Array = Any


def _value(name: str, x: Any) -> Any:
    """What x stands for, lists as arrays; what a program records stays what it is, and refuses NumPy by name."""
    given = operand(name, x)
    while isinstance(given, Traced):
        given = given.value
    return given if hasattr(given, "dtype") or isinstance(given, Followed) else np.asarray(given)


def _of_two(name: str, sign: str) -> Callable[[Any, Any], Any]:
    function = getattr(np, name)

    def compared(x1: Any, x2: Any) -> Array:
        return function(_value("x1", x1), _value("x2", x2))

    compared.__name__, compared.__doc__ = name, f"Where x1 {sign} x2, by element: an array of truth."
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
logical_not = _of_one("logical_not", "Where x is not")
isnan, isinf = _of_one("isnan", "Where x is NaN"), _of_one("isinf", "Where x is infinite")
isfinite = _of_one("isfinite", "Where x is a finite number")
floor, ceil = _of_one("floor", "The whole number below x"), _of_one("ceil", "The whole number above x")
argmax, argmin = _over_axes("argmax", "Where the largest number is"), _over_axes("argmin", "Where the smallest is")
any, all = _over_axes("any", "Whether one holds"), _over_axes("all", "Whether all hold")  # noqa: A001 - Keras's names
count_nonzero = _over_axes("count_nonzero", "How many are not 0")


def round(x: Any, decimals: int = 0) -> Array:  # noqa: A001 - Keras's name
    """x to so many decimals, halves to the even one."""
    return np.round(_value("x", x), decimals)


def argsort(x: Any, axis: int = -1) -> Array:
    """The places of x along an axis from its smallest number to its largest, equal ones in their order."""
    return np.argsort(_value("x", x), axis=axis, kind="stable")


NAMES = (
    "all", "any", "argmax", "argmin", "argsort", "ceil", "count_nonzero", "equal", "floor", "greater", "greater_equal",
    "isfinite", "isinf", "isnan", "less", "less_equal", "logical_and", "logical_not", "logical_or", "not_equal",
    "round",
)  # fmt: skip
