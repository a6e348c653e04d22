"""The parametric rectified linear unit: tasks share the columns, so that the slopes' sums are of one order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu._arrays import contiguous, finish, in_order, placing
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.simd.elementwise import prelu_backward_row, prelu_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.planned import Planned

# Nanoseconds an element on one core, roughly.
_NS_PER_ELEMENT = 0.25


def nanoseconds(size: int) -> float:
    """One core's work for so many numbers."""
    return size * _NS_PER_ELEMENT


@compiled_in
def prelu_share(t, tasks, n, c, x, alpha, y):
    """What task t has of y = prelu(x) of n rows of c numbers: rows."""
    for i in range(t * n // tasks, (t + 1) * n // tasks):
        prelu_row(c, address(x, i * c), alpha, address(y, i * c))


@kernel(lambda dtype: types.void(matrix(dtype), flat(dtype), matrix(dtype)))
def _prelu(MR: int, NR: int) -> Any:
    def forward(x, alpha, y, words, t, tasks):
        n, c = x.shape
        prelu_share(t, tasks, n, c, address(x, 0), address(alpha, 0), address(y, 0))

    return forward


@compiled_in
def prelu_backward_share(t, tasks, n, c, dy, x, alpha, dx, dalpha):
    """What task t has of the gradients of n rows of c numbers: columns."""
    low, high = t * c // tasks, (t + 1) * c // tasks
    for j in range(low, high):
        dalpha[j] = 0
    for i in range(n):
        at = i * c + low
        prelu_backward_row(
            high - low, address(dy, at), address(x, at), address(alpha, low), address(dx, at), address(dalpha, low)
        )


def _backward_signature(dtype: Any) -> Any:
    rows, run = matrix(dtype), flat(dtype)
    return types.void(rows, rows, run, rows, run)


@kernel(_backward_signature)
def _prelu_backward(MR: int, NR: int) -> Any:
    def backward(dy, x, alpha, dx, dalpha, words, t, tasks):
        n, c = x.shape
        prelu_backward_share(
            t, tasks, n, c, address(dy, 0), address(x, 0), address(alpha, 0), address(dx, 0), address(dalpha, 0)
        )

    return backward


def rows_of(x: Any) -> tuple[int, int]:
    """The samples of x, and the numbers of one."""
    return x.shape[0], math.prod(x.shape[1:])


@Planned
def prelu(x: Any, alpha: Any, *, out: Any = None) -> Callable[..., Any]:
    """One sample after the other."""
    shape, dtype, rows = x.shape, x.dtype, rows_of(x)
    place = placing(out, shape, dtype, x, alpha, elementwise=True)
    compute = _prelu.planned(dtype, nanoseconds(x.size))

    def run(x: Any, alpha: Any, *, out: Any = None) -> Any:
        y = place(out, x, alpha)
        compute(in_order(x).reshape(rows), contiguous(alpha), y.reshape(rows))
        return finish(y, out)

    return run


@Planned
def prelu_backward(dy: Any, x: Any, alpha: Any) -> Callable[..., tuple[Any, Any]]:
    """One column after the other."""
    shape, dtype, rows, slopes = x.shape, x.dtype, rows_of(x), alpha.shape
    compute = _prelu_backward.planned(dtype, nanoseconds(x.size))

    def run(dy: Any, x: Any, alpha: Any) -> tuple[Any, Any]:
        dx, dalpha = np.empty(shape, dtype), np.empty(slopes, dtype)
        numbers = in_order(dy).reshape(rows), in_order(x).reshape(rows), contiguous(alpha)
        compute(*numbers, dx.reshape(rows), dalpha.reshape(-1))
        return dx, dalpha

    return run
