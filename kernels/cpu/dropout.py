"""Dropout: masks come from counters, so a row needs nothing but its own number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from fastnn.kernels.cpu._arrays import finish, in_order, placing
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import kernel, matrix
from fastnn.kernels.cpu.simd.dropout import dropout_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.planned import Planned
from fastnn.kernels.table.dropout import scale, threshold
from fastnn.kernels.table.row import implements

# Nanoseconds an element on one core, roughly.
_NS_PER_ELEMENT = 0.4


def nanoseconds(size: int) -> float:
    """One core's work for so many numbers."""
    return size * _NS_PER_ELEMENT


@compiled_in
def dropout_share(t, tasks, n, c, threshold, seed, stream, step, x, scale, y):
    """What task t has of n rows of c numbers: rows."""
    for i in range(t * n // tasks, (t + 1) * n // tasks):
        dropout_row(threshold, seed, stream, step, i, c, address(x, i * c), scale, address(y, i * c))


def _signature(dtype: Any) -> Any:
    size = types.int64
    return types.void(size, dtype, size, size, size, matrix(dtype), matrix(dtype))


@kernel(_signature)
def _dropout(MR: int, NR: int) -> Any:
    def dropout(threshold, scale, seed, step, stream, x, y, words, t, tasks):
        n, c = x.shape
        dropout_share(t, tasks, n, c, threshold, seed, stream, step, address(x, 0), scale, address(y, 0))

    return dropout


def _op(name: str) -> Planned:
    """One row after the other. The derivative is the function: it is linear in x."""

    def plan(x: Any, rate: float, seed: int, step: int = 0, stream: int = 0, *, out: Any = None) -> Callable[..., Any]:
        place = placing(out, x.shape, x.dtype, x, elementwise=True)
        leading = threshold(rate), x.dtype.type(scale(rate))
        compute = _dropout.planned(x.dtype, nanoseconds(x.size), *leading)

        def run(x: Any, rate: float, seed: int, step: int = 0, stream: int = 0, *, out: Any = None) -> Any:
            y = place(out, x)
            compute(seed, step, stream, in_order(x), y)
            return finish(y, out)

        return run

    return Planned(implements(name, plan))


dropout, dropout_backward = _op("dropout"), _op("dropout_backward")
