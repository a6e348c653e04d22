"""Normalisation of columns and of rows.

Columns' sums are those of chunks of rows, which stay in L1 for both passes over them, joined in their order: chunks
follow from sizes alone, so results have the same bits for any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu._arrays import between, contiguous, finish, in_order, placing, workspace
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.normalization import (
    layer_norm_backward_row,
    layer_norm_row,
    moments_panel,
    normalize_panel,
    slope_panel,
    slopes_panel,
)
from fastnn.kernels.cpu.teams.barrier import wait
from fastnn.kernels.planned import Planned

# Nanoseconds an element on one core, roughly.
_NS_PER_ELEMENT = 0.4

# Numbers of a chunk: x, dy and what is made of them, in float64, are in an L1 of 48 KiB.
_CHUNK = 2048

# Chunks of rows at most whose shares of layer_norm's gradients are kept, and rows of one at least.
_MOST_SHARES, _LEAST_ROWS = 64, 16

_GRADIENTS = ("dx", "dgamma", "dbeta")


def nanoseconds(size: int) -> float:
    """One core's work for so many numbers."""
    return size * _NS_PER_ELEMENT


def _height(c: int) -> int:
    """Rows of a chunk."""
    return max(1, _CHUNK // max(1, c))


@compiled_in
def moments_share(t, tasks, n, c, height, x, parts):
    """Task t's chunks of x (n, c): their columns' means and squares, 2 c numbers each in ``parts``."""
    chunks = -(-n // height)
    for i in range(t * chunks // tasks, (t + 1) * chunks // tasks):
        first, part = i * height, 2 * c * i
        moments_panel(min(height, n - first), c, address(x, first * c), address(parts, part), address(parts, part + c))


@compiled_in
def join_moments(low, high, n, c, height, parts, means, squares):
    """Columns ``low`` to ``high``: the means of all rows, and the squares of what these are off (Chan et al. 1979)."""
    for j in range(low, high):
        means[j], squares[j] = 0.0, 0.0
    for first in range(0, n, height):
        part, count = 2 * c * (first // height), min(height, n - first)
        share = count / (first + count)
        for j in range(low, high):
            off = parts[part + j] - means[j]
            means[j] += off * share
            squares[j] += parts[part + c + j] + off * off * first * share


@compiled_in
def normalize_share(t, tasks, n, c, height, x, mean, rstd, gamma, beta, y):
    """Task t's rows of y = gamma * rstd * (x - mean) + beta."""
    last = (t + 1) * n // tasks
    for i in range(t * n // tasks, last, height):
        rows, at = min(height, last - i), i * c
        normalize_panel(rows, c, address(x, at), mean, rstd, gamma, beta, address(y, at))


@compiled_in
def slopes_share(t, tasks, n, c, height, dy, x, mean, parts):
    """Task t's chunks: their columns' sums of dy and of dy * (x - mean), 2 c numbers each in ``parts``."""
    chunks = -(-n // height)
    for i in range(t * chunks // tasks, (t + 1) * chunks // tasks):
        first, part = i * height, 2 * c * i
        at, rows = first * c, min(height, n - first)
        sums, dots = address(parts, part), address(parts, part + c)
        slopes_panel(rows, c, address(dy, at), address(x, at), mean, sums, dots)


@compiled_in
def join_sums(low, high, chunks, c, parts, first, second):
    """Columns ``low`` to ``high``: both sums of all chunks, in their order."""
    for j in range(low, high):
        first[j], second[j] = 0.0, 0.0
    for i in range(chunks):
        for j in range(low, high):
            first[j] += parts[2 * c * i + j]
            second[j] += parts[2 * c * i + c + j]


@compiled_in
def slope_share(t, tasks, n, c, height, dy, x, mean, rstd, gamma, shift, slant, dx):
    """Task t's rows of dx = gamma * rstd * (dy - shift - slant * (x - mean))."""
    last = (t + 1) * n // tasks
    for i in range(t * n // tasks, last, height):
        rows, at = min(height, last - i), i * c
        operands = address(dy, at), address(x, at), mean, rstd, gamma, shift, slant, address(dx, at)
        slope_panel(rows, c, *operands)


def _batch_norm_signature(dtype: Any) -> Any:
    number, run, rows, sums = types.float64, flat(dtype), matrix(dtype), flat(types.float64)
    return types.void(types.int64, number, number, rows, run, run, run, run, run, sums, run, run, rows)


@kernel(_batch_norm_signature)
def _batch_norm(MR: int, NR: int) -> Any:
    def batch_norm(
        height, momentum, epsilon, x, gamma, beta, moving_mean, moving_variance, parts, joined, mean, rstd, y,
        words, t, tasks,
    ):  # fmt: skip
        n, c = x.shape
        moments_share(t, tasks, n, c, height, address(x, 0), address(parts, 0))
        wait(tasks, words)
        low, high = t * c // tasks, (t + 1) * c // tasks
        means, squares = address(joined, 0), address(joined, c)
        join_moments(low, high, n, c, height, address(parts, 0), means, squares)
        for j in range(low, high):
            variance = squares[j] / n
            mean[j], rstd[j] = means[j], 1.0 / math.sqrt(variance + epsilon)
            if moving_mean.size > 0:
                moving_mean[j] = momentum * moving_mean[j] + (1.0 - momentum) * means[j]
            if moving_variance.size > 0:
                moving_variance[j] = momentum * moving_variance[j] + (1.0 - momentum) * variance
        wait(tasks, words)
        weights = address(mean, 0), address(rstd, 0), address(gamma, 0), address(beta, 0)
        normalize_share(t, tasks, n, c, height, address(x, 0), *weights, address(y, 0))

    return batch_norm


def _normalize_signature(dtype: Any) -> Any:
    run, rows = flat(dtype), matrix(dtype)
    return types.void(types.int64, rows, run, run, run, run, rows)


@kernel(_normalize_signature)
def _normalize(MR: int, NR: int) -> Any:
    def normalize(height, x, mean, rstd, gamma, beta, y, words, t, tasks):
        n, c = x.shape
        weights = address(mean, 0), address(rstd, 0), address(gamma, 0), address(beta, 0)
        normalize_share(t, tasks, n, c, height, address(x, 0), *weights, address(y, 0))

    return normalize


def _backward_signature(dtype: Any) -> Any:
    run, rows, sums = flat(dtype), matrix(dtype), flat(types.float64)
    flag = types.boolean
    return types.void(types.int64, flag, flag, rows, rows, run, run, run, run, sums, run, run, run, run, rows)


@kernel(_backward_signature)
def _backward(MR: int, NR: int) -> Any:
    def backward(
        height, moved, wanted, dy, x, mean, rstd, gamma, parts, joined, dgamma, dbeta, shift, slant, dx,
        words, t, tasks,
    ):  # fmt: skip
        n, c = x.shape
        slopes_share(t, tasks, n, c, height, address(dy, 0), address(x, 0), address(mean, 0), address(parts, 0))
        wait(tasks, words)
        low, high = t * c // tasks, (t + 1) * c // tasks
        sums, dots = address(joined, 0), address(joined, c)
        join_sums(low, high, -(-n // height), c, address(parts, 0), sums, dots)
        for j in range(low, high):
            dbeta[j], dgamma[j] = sums[j], dots[j] * rstd[j]
            shift[j] = sums[j] / n if moved else 0.0
            slant[j] = dots[j] * rstd[j] * rstd[j] / n if moved else 0.0
        wait(tasks, words)
        if wanted:
            weights = address(mean, 0), address(rstd, 0), address(gamma, 0), address(shift, 0), address(slant, 0)
            slope_share(t, tasks, n, c, height, address(dy, 0), address(x, 0), *weights, address(dx, 0))

    return backward


class _Weights:
    """What stands for weights that may be left out: the arrays, or numbers that change nothing."""

    def __init__(self, count: int, dtype: Any) -> None:
        self.ones, self.zeros = np.ones(count, dtype), np.zeros(count, dtype)

    def scale(self, gamma: Any) -> Any:
        """The factors."""
        return self.ones if gamma is None else contiguous(gamma)

    def shift(self, beta: Any) -> Any:
        """What is added."""
        return self.zeros if beta is None else contiguous(beta)


@Planned
def batch_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    moving_mean: Any = None,
    moving_variance: Any = None,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
) -> Callable[..., tuple[Any, Any, Any]]:
    """Chunks of rows, then columns, then rows. Moving figures that are not in one piece are copied there and back."""
    (n, c), dtype, height = x.shape, x.dtype, _height(x.shape[1])
    if n * c == 0:
        rstd = 1 / math.sqrt(epsilon)
        return lambda x, *_: (np.empty((n, c), dtype), np.zeros(c, dtype), np.full(c, rstd, dtype))
    weights, none, shares = _Weights(c, dtype), np.empty(0, dtype), -(-n // height) * 2 * c
    compute = _batch_norm.planned(dtype, nanoseconds(x.size), height, momentum, epsilon)

    def run(
        x: Any, gamma: Any = None, beta: Any = None, moving_mean: Any = None, moving_variance: Any = None, *_: Any
    ) -> tuple[Any, Any, Any]:
        y, mean, rstd = np.empty((n, c), dtype), np.empty(c, dtype), np.empty(c, dtype)
        given = moving_mean, moving_variance
        moving = [none if each is None else contiguous(each) for each in given]
        compute(
            in_order(x), weights.scale(gamma), weights.shift(beta), *moving, workspace(shares, dtype), np.empty(2 * c),
            mean, rstd, y,
        )  # fmt: skip
        for each, new in zip(given, moving, strict=True):
            if each is not None and not np.may_share_memory(each, new):
                each[...] = new
        return y, mean, rstd

    return run


@kernel(lambda dtype: types.void(types.float64, flat(dtype), flat(dtype)))
def _root(MR: int, NR: int) -> Any:
    def root(epsilon, variance, rstd, words, t, tasks):
        for j in range(t * rstd.size // tasks, (t + 1) * rstd.size // tasks):
            rstd[j] = 1.0 / math.sqrt(np.float64(variance[j]) + epsilon)

    return root


def _plan_rstd(variance: Any, epsilon: float) -> Callable[..., Any]:
    """What gives 1 / sqrt(variance + epsilon), in doubles on the way."""
    shape, dtype = variance.shape, variance.dtype
    compute = _root.planned(dtype, nanoseconds(variance.size), epsilon)

    def run(variance: Any) -> Any:
        rstd = between(shape, dtype)
        compute(contiguous(variance), rstd)
        return rstd

    return run


@Planned
def batch_norm_inference(
    x: Any, moving_mean: Any, moving_variance: Any, gamma: Any = None, beta: Any = None, epsilon: float = 1e-3, *,
    out: Any = None,
) -> Callable[..., Any]:  # fmt: skip
    """Rows of one formula."""
    shape, dtype, height = x.shape, x.dtype, _height(x.shape[1])
    weights, others = _Weights(shape[1], dtype), [each for each in (gamma, beta) if each is not None]
    place = placing(out, shape, dtype, x, moving_mean, moving_variance, *others, elementwise=True)
    compute, rstd = _normalize.planned(dtype, nanoseconds(x.size), height), _plan_rstd(moving_variance, epsilon)

    def run(
        x: Any, moving_mean: Any, moving_variance: Any, gamma: Any = None, beta: Any = None, *_: Any, out: Any = None
    ) -> Any:
        y = place(out, x, moving_mean, moving_variance, *(each for each in (gamma, beta) if each is not None))
        figures = contiguous(moving_mean), rstd(moving_variance)
        compute(in_order(x), *figures, weights.scale(gamma), weights.shift(beta), y)
        return finish(y, out)

    return run


def _plan_backward(x: Any, need: Sequence[str], moved: bool) -> Callable[..., tuple[Any, ...]]:
    """What gives the gradients of columns like x: of (dy, x, mean, rstd, gamma)."""
    (n, c), dtype, height = x.shape, x.dtype, _height(x.shape[1])
    weights, shares, wanted = _Weights(c, dtype), -(-n // height) * 2 * c, "dx" in need and n * c > 0
    compute = _backward.planned(dtype, nanoseconds(2 * x.size), height, moved and n > 0, wanted)

    def run(dy: Any, x: Any, mean: Any, rstd: Any, gamma: Any) -> tuple[Any, ...]:
        slopes, numbers = in_order(dy), in_order(x)
        dx = np.empty((n, c), dtype) if "dx" in need else numbers
        dgamma, dbeta, shift, slant = np.empty((4, c), dtype)
        figures = contiguous(mean), contiguous(rstd), weights.scale(gamma)
        kept = workspace(shares, dtype), np.empty(2 * c), dgamma, dbeta, shift, slant
        compute(slopes, numbers, *figures, *kept, dx)
        found = dict(zip(_GRADIENTS, (dx, dgamma, dbeta), strict=True))
        return tuple(each if name in need else None for name, each in found.items())

    return run


@Planned
def batch_norm_backward(
    dy: Any, x: Any, mean: Any, rstd: Any, gamma: Any = None, need: Sequence[str] = _GRADIENTS
) -> Callable[..., tuple[Any, ...]]:
    """Chunks of rows, then columns, then rows."""
    compute = _plan_backward(x, need, moved=True)
    return lambda dy, x, mean, rstd, gamma=None, *_, **__: compute(dy, x, mean, rstd, gamma)


@Planned
def batch_norm_inference_backward(
    dy: Any,
    x: Any,
    moving_mean: Any,
    moving_variance: Any,
    gamma: Any = None,
    epsilon: float = 1e-3,
    need: Sequence[str] = _GRADIENTS,
) -> Callable[..., tuple[Any, ...]]:
    """The same where the figures do not depend on x."""
    compute, rstd = _plan_backward(x, need, moved=False), _plan_rstd(moving_variance, epsilon)

    def run(
        dy: Any, x: Any, moving_mean: Any, moving_variance: Any, gamma: Any = None, *_: Any, **__: Any
    ) -> tuple[Any, ...]:
        return compute(dy, x, moving_mean, rstd(moving_variance), gamma)

    return run


@compiled_in
def layer_norm_share(t, tasks, n, c, epsilon, x, gamma, beta, y):
    """Task t's rows."""
    for i in range(t * n // tasks, (t + 1) * n // tasks):
        layer_norm_row(c, address(x, i * c), gamma, beta, epsilon, address(y, i * c))


@kernel(lambda dtype: types.void(dtype, matrix(dtype), flat(dtype), flat(dtype), matrix(dtype)))
def _layer_norm(MR: int, NR: int) -> Any:
    def layer_norm(epsilon, x, gamma, beta, y, words, t, tasks):
        n, c = x.shape
        operands = address(x, 0), address(gamma, 0), address(beta, 0), address(y, 0)
        layer_norm_share(t, tasks, n, c, epsilon, *operands)

    return layer_norm


@compiled_in
def layer_norm_backward_share(t, tasks, n, c, height, epsilon, wanted, dy, x, gamma, dx, parts):
    """Task t's chunks of rows: their dx, and their shares of dbeta and dgamma, 2 c numbers each in ``parts``."""
    chunks = -(-n // height)
    for i in range(t * chunks // tasks, (t + 1) * chunks // tasks):
        part = 2 * c * i
        for j in range(part, part + 2 * c):
            parts[j] = 0.0
        dbeta, dgamma = address(parts, part), address(parts, part + c)
        for row in range(i * height, min(n, (i + 1) * height)):
            at = row * c
            operands = address(dy, at), address(x, at), gamma, epsilon, wanted, address(dx, at)
            layer_norm_backward_row(c, *operands, dgamma, dbeta)


def _layer_norm_backward_signature(dtype: Any) -> Any:
    run, rows = flat(dtype), matrix(dtype)
    sums = flat(types.float64)
    return types.void(types.int64, dtype, types.int64, rows, rows, run, rows, run, sums, run, run)


@kernel(_layer_norm_backward_signature)
def _layer_norm_backward(MR: int, NR: int) -> Any:
    def backward(height, epsilon, wanted, dy, x, gamma, dx, parts, joined, dgamma, dbeta, words, t, tasks):
        n, c = x.shape
        operands = address(dy, 0), address(x, 0), address(gamma, 0), address(dx, 0), address(parts, 0)
        layer_norm_backward_share(t, tasks, n, c, height, epsilon, wanted, *operands)
        wait(tasks, words)
        low, high = t * c // tasks, (t + 1) * c // tasks
        sums, dots = address(joined, 0), address(joined, c)
        join_sums(low, high, -(-n // height), c, address(parts, 0), sums, dots)
        for j in range(low, high):
            dbeta[j], dgamma[j] = sums[j], dots[j]

    return backward


@Planned
def layer_norm(
    x: Any, gamma: Any = None, beta: Any = None, epsilon: float = 1e-3, *, out: Any = None
) -> Callable[..., Any]:
    """One row after the other."""
    shape, dtype = x.shape, x.dtype
    weights, others = _Weights(shape[1], dtype), [each for each in (gamma, beta) if each is not None]
    place = placing(out, shape, dtype, x, *others, elementwise=True)
    compute = _layer_norm.planned(dtype, nanoseconds(x.size), dtype.type(epsilon))

    def run(x: Any, gamma: Any = None, beta: Any = None, *_: Any, out: Any = None) -> Any:
        y = place(out, x, *(each for each in (gamma, beta) if each is not None))
        compute(in_order(x), weights.scale(gamma), weights.shift(beta), y)
        return finish(y, out)

    return run


@Planned
def layer_norm_backward(
    dy: Any, x: Any, gamma: Any = None, epsilon: float = 1e-3, need: Sequence[str] = _GRADIENTS
) -> Callable[..., tuple[Any, ...]]:
    """One row after the other, chunks of rows with sums of their own."""
    (n, c), dtype = x.shape, x.dtype
    height, weights = max(_LEAST_ROWS, -(-n // _MOST_SHARES)), _Weights(c, dtype)
    shares, wanted = -(-n // height) * 2 * c, int("dx" in need)
    compute = _layer_norm_backward.planned(dtype, nanoseconds(2 * x.size), height, dtype.type(epsilon), wanted)

    def run(dy: Any, x: Any, gamma: Any = None, *_: Any, **__: Any) -> tuple[Any, ...]:
        numbers = in_order(x)
        dx = np.empty((n, c), dtype) if wanted else numbers
        dgamma, dbeta = np.empty((2, c), dtype)
        kept = workspace(shares, dtype), np.empty(2 * c), dgamma, dbeta
        compute(in_order(dy), numbers, weights.scale(gamma), dx, *kept)
        found = dict(zip(_GRADIENTS, (dx, dgamma, dbeta), strict=True))
        return tuple(each if name in need else None for name, each in found.items())

    return run
