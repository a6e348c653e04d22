"""Softmax and softmax with cross-entropy: a row is read once from memory and stays in L1 for its passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange, types

from fastnn.kernels.cpu._arrays import Planned, destination, finish, in_order, placing
from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.simd.elementwise import ROW_CODES, backward_row, forward_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.softmax import cross_entropy_row, softmax_row
from fastnn.kernels.table.row import implements

# Nanoseconds an element on one core, roughly.
_NS_PER_ELEMENT = 0.4


@kernel(lambda dtype: types.void(types.int64, types.int64, matrix(dtype), matrix(dtype)))
def _forward(MR: int, NR: int) -> Any:
    def forward(tasks, code, x, y):
        n, c = x.shape
        for t in prange(tasks):
            for i in range(t * n // tasks, (t + 1) * n // tasks):
                row = address(x, i * c)
                forward_row(code, c, row, row, address(y, i * c))  # no numbers

    return forward


def _backward_signature(dtype: Any) -> Any:
    return types.void(types.int64, types.int64, *[matrix(dtype)] * 3)


@kernel(_backward_signature)
def _backward(MR: int, NR: int) -> Any:
    def backward(tasks, code, dy, y, dx):
        n, c = y.shape
        one = y.dtype.type(1)
        for t in prange(tasks):
            for i in range(t * n // tasks, (t + 1) * n // tasks):
                row = address(y, i * c)
                backward_row(code, c, address(dy, i * c), one, row, one, row, address(dx, i * c))  # no numbers

    return backward


def targets_signature(dtype: Any) -> Any:
    """Signature: tasks, outputs, labels, targets, weights, then the derivative and the rows' losses."""
    rows, labels, weights = matrix(dtype), flat(types.int64), flat(dtype)
    return types.void(types.int64, rows, labels, rows, weights, rows, flat(types.float64))


@kernel(targets_signature)
def _softmax_cross_entropy(MR: int, NR: int) -> Any:
    def softmax_cross_entropy(tasks, x, labels, targets, weights, dx, losses):
        n, c = x.shape
        one = x.dtype.type(1)
        for t in prange(tasks):
            for i in range(t * n // tasks, (t + 1) * n // tasks):
                weight = weights[i] if weights.size else one
                scale = weight / x.dtype.type(n)
                row, slope = address(x, i * c), address(dx, i * c)
                top, mass = softmax_row(c, row, scale, slope)
                log_sum = top + x.dtype.type(math.log(mass))
                if labels.size:
                    dx[i, labels[i]] -= scale
                    losses[i] = weight * (log_sum - x[i, labels[i]])
                else:
                    loss, _mass = cross_entropy_row(c, row, log_sum, address(targets, i * c), scale, slope)
                    losses[i] = weight * loss

    return softmax_cross_entropy


def _forward_op(name: str) -> Planned:
    """One row after the other."""
    code = ROW_CODES[name]

    def op(x: Any, *, out: Any = None) -> Callable[..., Any]:
        dtype, nanoseconds = x.dtype, x.size * _NS_PER_ELEMENT
        place = placing(out, x.shape, dtype, x, elementwise=True)

        def run(x: Any, *, out: Any = None) -> Any:
            y = place(out, x)
            _forward(dtype, nanoseconds, code, in_order(x), y)
            return finish(y, out)

        return run

    return Planned(implements(name, op))


def _backward_op(name: str) -> Callable[..., Any]:
    """One row after the other."""
    code = ROW_CODES[name]

    def op(dy: Any, x: Any, y: Any, *, out: Any = None) -> Any:
        dx = destination(out, y.shape, y.dtype, dy, y, elementwise=True)
        rows = in_order(dy), in_order(y)
        _backward(y.dtype, y.size * _NS_PER_ELEMENT, code, *rows, dx)
        return finish(dx, out)

    return implements(f"{name}_backward", op)


softmax, softmax_backward = _forward_op("softmax"), _backward_op("softmax")
log_softmax, log_softmax_backward = _forward_op("log_softmax"), _backward_op("log_softmax")


def targets_for_kernel(targets: Any, dtype: Any) -> tuple[Any, Any]:
    """(class indices as int64, rows of probabilities): one of the two, the other empty."""
    if targets.ndim == 1:
        return in_order(targets, np.int64), np.empty((0, 0), dtype)
    return np.empty(0, np.int64), in_order(targets)


def weights_for_kernel(sample_weight: Any, dtype: Any) -> Any:
    """Weights as a contiguous array, empty where there are none."""
    return np.empty(0, dtype) if sample_weight is None else in_order(sample_weight)


def softmax_cross_entropy(logits: Any, targets: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Softmax into dlogits, the loss from max and sum of the same pass, then minus the target."""
    n = logits.shape[0]
    dlogits = np.empty(logits.shape, logits.dtype)
    losses = np.empty(n)
    if logits.size:
        labels, rows = targets_for_kernel(targets, logits.dtype)
        weights = weights_for_kernel(sample_weight, logits.dtype)
        work = logits.size * _NS_PER_ELEMENT + 10.0 * n
        _softmax_cross_entropy(logits.dtype, work, in_order(logits), labels, rows, weights, dlogits, losses)
    return (float(losses.sum()) / n if n else 0.0), dlogits
