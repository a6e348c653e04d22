"""The parametric rectified linear unit: tasks share the columns, so that the slopes' sums are of one order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange, types

from fastnn.kernels.cpu._arrays import contiguous, destination, finish, in_order
from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.simd.elementwise import prelu_backward_row, prelu_row
from fastnn.kernels.cpu.simd.kernel import address

# Nanoseconds an element on one core, roughly.
_NS_PER_ELEMENT = 0.25


def _signature(dtype: Any) -> Any:
    return types.void(types.int64, matrix(dtype), flat(dtype), matrix(dtype))


@kernel(_signature)
def _prelu(MR: int, NR: int) -> Any:
    def forward(tasks, x, alpha, y):
        n, c = x.shape
        for t in prange(tasks):
            for i in range(t * n // tasks, (t + 1) * n // tasks):
                prelu_row(c, address(x, i * c), address(alpha, 0), address(y, i * c))

    return forward


def _backward_signature(dtype: Any) -> Any:
    rows, run = matrix(dtype), flat(dtype)
    return types.void(types.int64, rows, rows, run, rows, run)


@kernel(_backward_signature)
def _prelu_backward(MR: int, NR: int) -> Any:
    def backward(tasks, dy, x, alpha, dx, dalpha):
        n, c = x.shape
        for t in prange(tasks):
            low, high = t * c // tasks, (t + 1) * c // tasks
            dalpha[low:high] = 0.0
            for i in range(n):
                at = i * c + low
                prelu_backward_row(
                    high - low, address(dy, at), address(x, at), address(alpha, low),
                    address(dx, at), address(dalpha, low),
                )  # fmt: skip

    return backward


def prelu(x: Any, alpha: Any, *, out: Any = None) -> Any:
    """One sample after the other."""
    y = destination(out, x.shape, x.dtype, x, alpha, elementwise=True)
    if x.size:
        slopes = contiguous(alpha)
        _prelu(x.dtype, x.size * _NS_PER_ELEMENT, _rows(x, slopes), slopes, y.reshape(-1, slopes.size))
    return finish(y, out)


def _rows(array: Any, slopes: Any) -> Any:
    return in_order(array).reshape(-1, slopes.size)


def prelu_backward(dy: Any, x: Any, alpha: Any) -> tuple[Any, Any]:
    """One column after the other."""
    dx, dalpha = np.empty(x.shape, x.dtype), np.zeros(alpha.shape, x.dtype)
    if x.size:
        slopes = contiguous(alpha)
        rows = [_rows(array, slopes) for array in (dy, x)]
        places = dx.reshape(-1, slopes.size), dalpha.reshape(-1)
        _prelu_backward(x.dtype, x.size * _NS_PER_ELEMENT, *rows, slopes, *places)
    return dx, dalpha
