"""Dropout: masks come from counters, so a row needs nothing but its own number."""

from __future__ import annotations

import math
from typing import Any

from numba import prange, types

from fastnn.kernels.cpu._arrays import destination, finish, in_order
from fastnn.kernels.cpu.jit import kernel, matrix
from fastnn.kernels.cpu.simd.dropout import dropout_row
from fastnn.kernels.cpu.simd.kernel import address

# Nanoseconds an element on one core, roughly.
_NS_PER_ELEMENT = 0.4


def threshold(rate: float) -> int:
    """What a kept element's word is not below: words w < rate * 2^32 drop, which for whole w is w < its ceiling."""
    return math.ceil(rate * 2.0**32)


def scale(rate: float) -> float:
    """What kept elements are multiplied with."""
    return 1.0 / (1.0 - rate)


def _signature(dtype: Any) -> Any:
    return types.void(*[types.int64] * 5, matrix(dtype), dtype, matrix(dtype))


@kernel(_signature)
def _dropout(MR: int, NR: int) -> Any:
    def dropout(tasks, threshold, seed, stream, step, x, scale, y):
        n, c = x.shape
        for t in prange(tasks):
            for i in range(t * n // tasks, (t + 1) * n // tasks):
                dropout_row(threshold, seed, stream, step, i, c, address(x, i * c), scale, address(y, i * c))

    return dropout


def dropout(x: Any, rate: Any, seed: Any, step: Any = 0, stream: Any = 0, *, out: Any = None) -> Any:
    """One row after the other."""
    y = destination(out, x.shape, x.dtype, x, elementwise=True)
    factor, work = x.dtype.type(scale(rate)), x.size * _NS_PER_ELEMENT
    _dropout(x.dtype, work, threshold(rate), seed, stream, step, in_order(x), factor, y)
    return finish(y, out)


def dropout_backward(dy: Any, rate: Any, seed: Any, step: Any = 0, stream: Any = 0, *, out: Any = None) -> Any:
    """The derivative is the function: it is linear in x."""
    return dropout(dy, rate, seed, step, stream, out=out)
