"""Functions of numbers, running sums, products, norms and quantiles, made of ops, under Keras's names.

They are part of ``fastnn.ops``. Arrays may be followed for gradients, or a program's.
"""

from __future__ import annotations

import builtins  # sum and the like of Keras's are in numerics
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.numerics import (
    OPS,
    axis_of,
    concatenate,
    expand_dims,
    mean,
    operand,
    permute,
    rows_of_axes,
    stack,
    sum,  # noqa: A004 - Keras's name
    var,
)
from fastnn.numerics import abs as magnitudes
from fastnn.numerics import max as largest_of
from fastnn.numerics import min as smallest_of
from fastnn.places import sort
from fastnn.tape import constant

Array = Any

# Sums of how many numbers a norm takes, by its order.
_NORMS = (None, 1, 2, math.inf, -math.inf)


def reciprocal(x: Any) -> Array:
    """1 / x."""
    return OPS["divide"](1.0, operand("x", x))


def log2(x: Any) -> Array:
    """Logarithm to the base 2: log(x) / log(2)."""
    return OPS["log"](operand("x", x)) / math.log(2.0)


def log10(x: Any) -> Array:
    """Logarithm to the base 10: log(x) / log(10)."""
    return OPS["log"](operand("x", x)) / math.log(10.0)


def tan(x: Any) -> Array:
    """Tangent of x in radians, sin(x) / cos(x)."""
    given = operand("x", x)
    return OPS["divide"](OPS["sin"](given), OPS["cos"](given))


def sinh(x: Any) -> Array:
    """Hyperbolic sine (exp(x) - exp(-x)) / 2, small results accurate."""
    given = operand("x", x)
    return OPS["average"](OPS["expm1"](given), -OPS["expm1"](-given))


def cosh(x: Any) -> Array:
    """Hyperbolic cosine (exp(x) + exp(-x)) / 2."""
    given = operand("x", x)
    return OPS["average"](OPS["exponential"](given), OPS["exponential"](-given))


def logaddexp(x1: Any, x2: Any) -> Array:
    """log(exp(x1) + exp(x2)) without overflow; NaN where both are the same infinity."""
    a, b = operand("x1", x1), operand("x2", x2)
    # of equal numbers one is the larger, the other the smaller: each has half of the gradient
    larger, smaller = OPS["maximum"](a, b), OPS["minimum"](b, a)
    return OPS["add"](larger, OPS["softplus"](OPS["subtract"](smaller, larger)))


def exp2(x: Any) -> Array:
    """2 to the power x."""
    return OPS["exponential"](OPS["multiply"](operand("x", x), math.log(2.0)))


def hypot(x1: Any, x2: Any) -> Array:
    """sqrt(x1^2 + x2^2); its gradient at 0 is 0."""
    return _root(OPS["add"](OPS["square"](operand("x1", x1)), OPS["square"](operand("x2", x2))))


def true_divide(x1: Any, x2: Any) -> Array:
    """x1 / x2: Keras's other name of ``divide``."""
    return OPS["divide"](operand("x1", x1), operand("x2", x2))


def divide_no_nan(x1: Any, x2: Any) -> Array:
    """x1 / x2, and 0 where x2 is, with a gradient of 0; x1 is finite there."""
    a, b = operand("x1", x1), operand("x2", x2)
    some = OPS["square"](OPS["sign"](b))  # 0 where b is, else 1
    return OPS["multiply"](OPS["divide"](a, OPS["add"](b, OPS["subtract"](1.0, some))), some)


def _root(x: Any) -> Any:
    """The square root of what is not negative, whose gradient at 0 is 0."""
    some = OPS["sign"](x)
    return OPS["multiply"](OPS["sqrt"](OPS["add"](x, OPS["subtract"](1.0, some))), some)


def amax(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """Largest numbers: Keras's other name of ``max``."""
    return largest_of(x, axis, keepdims)


def amin(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """Smallest numbers: Keras's other name of ``min``."""
    return smallest_of(x, axis, keepdims)


def prod(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """Product of x over an axis, or several; over all where there is none: then a number, unless ``keepdims``.

    Halves are multiplied, then halves of these; the gradient is right where numbers are 0, too.
    """
    given = operand("x", x)
    rows, kept, squeezed = rows_of_axes("x", given, axis)
    if not rows.shape[1]:
        rows = constant(1.0, rows, (rows.shape[0], 1))
    while rows.shape[1] > 1:
        half, odd = divmod(rows.shape[1], 2)
        products = OPS["multiply"](rows[:, :half], rows[:, half : 2 * half])
        rows = concatenate([products, rows[:, 2 * half :]], 1) if odd else products
    if not (keepdims or squeezed):
        return OPS["total"](rows.reshape(1))[0]
    return rows.reshape(tuple(kept if keepdims else squeezed))


def cumsum(x: Any, axis: int | None = None) -> Array:
    """Running sums of x along an axis, or of all numbers in one dimension.

    Each number is added to the one behind it, then to that two places behind, four and so on: ceil(log2(size)) sums.
    """
    return _running("add", 0.0, x, axis)


def cumprod(x: Any, axis: int | None = None) -> Array:
    """Running products of x along an axis, or of all numbers in one dimension; multiplied as ``cumsum`` adds."""
    return _running("multiply", 1.0, x, axis)


def _running(op: str, neutral: float, x: Any, axis: int | None) -> Array:
    given = operand("x", x)
    if not hasattr(given, "shape"):
        raise TypeError(f"x: got {checks.describe(x)}, wants an array")
    y = given.reshape(-1) if axis is None else given
    at = axis_of("axis", axis or 0, y.ndim)
    before, size, distance = (builtins.slice(None),) * at, y.shape[at], 1
    while distance < size:
        filled = constant(neutral, y, (*y.shape[:at], distance, *y.shape[at + 1 :]))
        y = OPS[op](y, concatenate([filled, y[(*before, builtins.slice(size - distance))]], at))
        distance *= 2
    return y if size > 1 else OPS["identity"](y)


def norm(x: Any, ord: Any = None, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:  # noqa: A002
    """Norm of x over an axis, several or all: Euclidean, or of the order 1, inf or -inf.

    Where a Euclidean norm is 0, so is its gradient.
    """
    given = operand("x", x)
    if ord not in (*_NORMS, "fro"):
        raise ValueError(f"ord: got {checks.describe(ord)}, wants 1, 2, 'fro', inf or -inf, or None for 2")
    if ord in (None, 2, "fro"):
        return _root(sum(OPS["square"](given), axis, keepdims))
    if isinstance(axis, (list, tuple)) or (axis is None and given.ndim != 1):
        raise ValueError(f"ord: got {ord} over several axes, wants None or 'fro' there: other norms are of vectors")
    reduce = {1: sum, math.inf: largest_of, -math.inf: smallest_of}[ord]
    return reduce(magnitudes(given), axis, keepdims)


def moments(x: Any, axes: int | Sequence[int], keepdims: bool = False, synchronized: bool = False) -> tuple[Any, Any]:
    """(mean, variance) of x over axes."""
    if synchronized:
        raise ValueError("synchronized: got True, wants False: there is one replica")
    return mean(x, axes, keepdims), var(x, axes, keepdims)


def quantile(
    x: Any,
    q: float | Sequence[float],
    axis: int | Sequence[int] | None = None,
    method: str = "linear",
    keepdims: bool = False,
) -> Any:
    """The number below which a share q of x's numbers lie along an axis, several or of all, linear between two.

    Of several shares the results stand along a new first axis. NaN counts as the largest number. No program has it.
    """
    checks.one_of("method", method, ("linear",))
    rows, kept, squeezed = rows_of_axes("x", operand("x", x), axis)
    if not rows.shape[1]:
        raise ValueError(f"x: got shape {tuple(x.shape)}, wants numbers along axis {axis}")
    ordered, shape = sort(rows, -1), tuple(kept if keepdims else squeezed)
    if isinstance(q, (list, tuple, np.ndarray)):
        each = [_between(ordered, checks.real(f"q[{place}]", share, 0.0, 1.0)) for place, share in enumerate(q)]
        return stack([y.reshape(shape) for y in each])
    y = _between(ordered, checks.real("q", q, 0.0, 1.0))
    return y.reshape(shape) if shape else OPS["total"](y.reshape(1))[0]


def _between(rows: Any, share: float) -> Any:
    """Of sorted rows (n, c) the number at a share of the way from the first to the last, linear between two: (n, 1)."""
    way = share * (rows.shape[1] - 1)
    below = math.floor(way)
    low, high = (rows[:, place : place + 1] for place in (below, math.ceil(way)))
    return OPS["add"](OPS["multiply"](low, 1.0 - (way - below)), OPS["multiply"](high, way - below))


def median(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """The number in the middle of x's along an axis, several or of all, the mean of two; as ``quantile`` else."""
    return quantile(x, 0.5, axis, keepdims=keepdims)


def outer(x1: Any, x2: Any) -> Array:
    """Products of every number of x1 with every one of x2: (size of x1, size of x2)."""
    a, b = operand("x1", x1), operand("x2", x2)
    for name, each in (("x1", a), ("x2", b)):
        if not hasattr(each, "shape"):
            raise TypeError(f"{name}: got {checks.describe(each)}, wants an array")
    return OPS["multiply"](a.reshape(-1, 1), b.reshape(1, -1))


def diff(a: Any, n: int = 1, axis: int = -1) -> Array:
    """What each number along an axis has more than the one before it, n times."""
    y, times = operand("a", a), checks.integer("n", n, 0)
    if not hasattr(y, "shape"):
        raise TypeError(f"a: got {checks.describe(a)}, wants an array")
    at = axis_of("axis", axis, y.ndim)
    before = (builtins.slice(None),) * at
    for _ in range(builtins.min(times, y.shape[at])):
        y = OPS["subtract"](y[(*before, builtins.slice(1, None))], y[(*before, builtins.slice(None, y.shape[at] - 1))])
    return y


def tensordot(x1: Any, x2: Any, axes: Any = 2) -> Any:
    """Sums of products over axes of both: the last of x1 and first of x2, so many, or a pair of lists of them.

    The axes that are left stand in their order, x1's first; a number where there are none.
    """
    a, b = operand("x1", x1), operand("x2", x2)
    if isinstance(axes, int):
        count = checks.integer("axes", axes, 0, builtins.min(a.ndim, b.ndim))
        axes = [*range(a.ndim - count, a.ndim)], [*range(count)]
    pairs = [[each] if isinstance(each, int) else [*each] for each in axes]
    ours, theirs = (
        [axis_of(f"axes[{place}]", axis, array.ndim) for axis in pairs[place]] for place, array in enumerate((a, b))
    )
    if [a.shape[axis] for axis in ours] != [b.shape[axis] for axis in theirs]:
        raise ValueError(
            f"axes: got {axes} for shapes {tuple(a.shape)} and {tuple(b.shape)}, wants axes of equal sizes"
        )
    left = [axis for axis in range(a.ndim) if axis not in ours]
    right = [axis for axis in range(b.ndim) if axis not in theirs]
    shape = [a.shape[axis] for axis in left] + [b.shape[axis] for axis in right]
    count = math.prod(a.shape[axis] for axis in ours)
    rows = permute(a, [*left, *ours]).reshape(math.prod(a.shape[axis] for axis in left), count)
    columns = permute(b, [*theirs, *right]).reshape(count, math.prod(b.shape[axis] for axis in right))
    y = OPS["matmul"](rows, columns)
    return y.reshape(tuple(shape)) if shape else OPS["total"](y.reshape(1))[0]


def inner(x1: Any, x2: Any) -> Any:
    """Sums of products over the last axes of both."""
    return tensordot(x1, x2, ([-1], [-1]))


def vdot(x1: Any, x2: Any) -> Any:
    """The sum of the products of all numbers of both."""
    return sum(OPS["multiply"](operand("x1", x1).reshape(-1), operand("x2", x2).reshape(-1)))


def cdist(x: Any, y: Any) -> Array:
    """Euclidean distances of the rows of x (..., n, k) from those of y (..., m, k): (..., n, m).

    They are sums of squared differences, exact for rows that are near each other; the gradient of a distance 0 is 0.
    """
    a, b = operand("x", x), operand("y", y)
    for name, each in (("x", a), ("y", b)):
        if getattr(each, "ndim", 0) < 2:
            raise ValueError(f"{name}: got {checks.describe(each)}, wants rows (..., n, k)")
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"y: got shape {tuple(b.shape)}, wants rows of {a.shape[-1]} numbers, as x has")
    apart = OPS["subtract"](expand_dims(a, -2), expand_dims(b, -3))
    return _root(sum(OPS["square"](apart), axis=-1))


NAMES = (
    "amax", "amin", "cdist", "cosh", "cumprod", "cumsum", "diff", "divide_no_nan", "exp2", "hypot", "inner", "log10",
    "log2", "logaddexp", "median", "moments", "norm", "outer", "prod", "quantile", "reciprocal", "sinh", "tan",
    "tensordot", "true_divide", "vdot",
)  # fmt: skip
