"""Softmax, its logarithm, and with cross-entropy: a row is read once from memory and stays in L1 for its passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from fastnn.kernels.cpu._arrays import finish, in_order, placing
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import kernel, matrix
from fastnn.kernels.cpu.losses import loss_op
from fastnn.kernels.cpu.simd.elementwise import ROW_CODES, backward_row, forward_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.planned import Planned
from fastnn.kernels.table.row import implements

# Nanoseconds an element on one core, roughly.
_NS_PER_ELEMENT = 0.4


@compiled_in
def forward_rows_share(t, tasks, n, c, code, x, y):
    """Task t's rows of y = f(x), (n, c)."""
    for i in range(t * n // tasks, (t + 1) * n // tasks):
        row = address(x, i * c)
        forward_row(code, c, row, row, address(y, i * c), 0)  # no numbers


@compiled_in
def backward_rows_share(t, tasks, n, c, code, one, dy, y, dx):
    """Task t's rows of dx, (n, c), from dy and y; ``one`` is 1 in the numbers' dtype."""
    for i in range(t * n // tasks, (t + 1) * n // tasks):
        row = address(y, i * c)
        backward_row(code, c, address(dy, i * c), one, row, one, row, address(dx, i * c), 0)  # no numbers


@kernel(lambda dtype: types.void(types.int64, matrix(dtype), matrix(dtype)))
def _forward(MR: int, NR: int) -> Any:
    def forward(code, x, y, words, t, tasks):
        n, c = x.shape
        forward_rows_share(t, tasks, n, c, code, address(x, 0), address(y, 0))

    return forward


def _backward_signature(dtype: Any) -> Any:
    return types.void(types.int64, *[matrix(dtype)] * 3)


@kernel(_backward_signature)
def _backward(MR: int, NR: int) -> Any:
    def backward(code, dy, y, dx, words, t, tasks):
        n, c = y.shape
        one = y.dtype.type(1)
        backward_rows_share(t, tasks, n, c, code, one, address(dy, 0), address(y, 0), address(dx, 0))

    return backward


def nanoseconds(size: int) -> float:
    """One core's work for so many numbers."""
    return size * _NS_PER_ELEMENT


def _forward_op(name: str) -> Planned:
    """One row after the other."""
    code = ROW_CODES[name]

    def op(x: Any, *, out: Any = None) -> Callable[..., Any]:
        dtype = x.dtype
        compute = _forward.planned(dtype, nanoseconds(x.size), code)
        place = placing(out, x.shape, dtype, x, elementwise=True)

        def run(x: Any, *, out: Any = None) -> Any:
            y = place(out, x)
            compute(in_order(x), y)
            return finish(y, out)

        return run

    return Planned(implements(name, op))


def _backward_op(name: str) -> Planned:
    """One row after the other."""
    code = ROW_CODES[name]

    def op(dy: Any, x: Any, y: Any, *, out: Any = None) -> Callable[..., Any]:
        compute = _backward.planned(y.dtype, nanoseconds(y.size), code)
        place = placing(out, y.shape, y.dtype, dy, y, elementwise=True)

        def run(dy: Any, x: Any, y: Any, *, out: Any = None) -> Any:
            dx = place(out, dy, y)
            compute(in_order(dy), in_order(y), dx)
            return finish(dx, out)

        return run

    return Planned(implements(f"{name}_backward", op))


softmax, softmax_backward = _forward_op("softmax"), _backward_op("softmax")
log_softmax, log_softmax_backward = _forward_op("log_softmax"), _backward_op("log_softmax")
softmax_cross_entropy = loss_op("softmax_cross_entropy")
