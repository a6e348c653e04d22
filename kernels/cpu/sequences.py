"""Sequences of steps: tasks share the samples, steps come one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu._arrays import contiguous, finish, in_order, placing
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.pooling import over_all, pooling, spreading
from fastnn.kernels.cpu.simd.elementwise import add_row, copy_row, pair_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.pooling import MAX
from fastnn.kernels.formulas.pairs import CODES
from fastnn.kernels.planned import Planned

# Nanoseconds a number on one core, roughly.
_NS_PER_NUMBER = 0.25

_MAXIMUM = CODES["maximum"]


@compiled_in
def _counts(mask, at):
    """Whether the step at that place does; all do without a mask."""
    return mask.size == 0 or mask[at] != 0


def _steps_signature(dtype: Any) -> Any:
    """Of n steps (n, f), something of each step (n,), and steps to be written."""
    return types.void(matrix(dtype), flat(dtype), matrix(dtype))


@kernel(lambda dtype: types.void(dtype, matrix(dtype), flat(dtype)))
def _step_mask(MR: int, NR: int) -> Any:
    def step_mask(value, x, y, words, t, tasks):
        n, f = x.shape
        for i in range(t * n // tasks, (t + 1) * n // tasks):
            others = 0
            for j in range(f):
                others += x[i, j] != value
            y[i] = 1 if others > 0 else 0

    return step_mask


@kernel(_steps_signature)
def _mask_steps(MR: int, NR: int) -> Any:
    def mask_steps(x, mask, y, words, t, tasks):
        n, f = x.shape
        for i in range(t * n // tasks, (t + 1) * n // tasks):
            if mask[i] != 0:
                copy_row(f, address(x, i * f), address(y, i * f))
            else:
                y[i] = 0

    return mask_steps


def _pool_signature(dtype: Any) -> Any:
    return types.void(types.int64, matrix(dtype), flat(dtype), matrix(dtype))


@kernel(_pool_signature)
def _mean(MR: int, NR: int) -> Any:
    def mean(steps, x, mask, y, words, t, tasks):
        n, f = y.shape
        for i in range(t * n // tasks, (t + 1) * n // tasks):
            to, count = address(y, i * f), 0
            y[i] = 0
            for s in range(i * steps, (i + 1) * steps):
                if _counts(mask, s):
                    add_row(f, to, address(x, s * f), to, 0)
                    count += 1
            for j in range(f):
                y[i, j] /= max(count, 1)

    return mean


@kernel(_pool_signature)
def _mean_backward(MR: int, NR: int) -> Any:
    def mean_backward(steps, dy, mask, dx, words, t, tasks):
        n, f = dy.shape
        for i in range(t * n // tasks, (t + 1) * n // tasks):
            count = 0
            for s in range(i * steps, (i + 1) * steps):
                count += _counts(mask, s)
            for s in range(i * steps, (i + 1) * steps):
                if _counts(mask, s):
                    for j in range(f):
                        dx[s, j] = dy[i, j] / count
                else:
                    dx[s] = 0

    return mean_backward


@kernel(_pool_signature)
def _max(MR: int, NR: int) -> Any:
    def largest(steps, x, mask, y, words, t, tasks):
        n, f = y.shape
        for i in range(t * n // tasks, (t + 1) * n // tasks):
            to, found = address(y, i * f), False
            y[i] = 0
            for s in range(i * steps, (i + 1) * steps):
                if _counts(mask, s):
                    row = address(x, s * f)
                    if found:
                        pair_row(_MAXIMUM, 0, f, to, row, to, 0)
                    else:
                        copy_row(f, row, to)
                    found = True

    return largest


def _max_backward_signature(dtype: Any) -> Any:
    rows = matrix(dtype)
    return types.void(types.int64, rows, rows, rows, flat(dtype), rows)


@kernel(_max_backward_signature)
def _max_backward(MR: int, NR: int) -> Any:
    def largest_backward(steps, dy, x, y, mask, dx, words, t, tasks):
        n, f = y.shape
        for i in range(t * n // tasks, (t + 1) * n // tasks):
            for j in range(f):
                found = False
                for s in range(i * steps, (i + 1) * steps):
                    first = not found and _counts(mask, s) and x[s, j] == y[i, j]
                    dx[s, j] = dy[i, j] if first else 0
                    found = found or first

    return largest_backward


def _nanoseconds(array: Any) -> float:
    return float(array.size * _NS_PER_NUMBER)


def _flags(mask: Any, dtype: Any) -> Any:
    """A mask as kernels take it: nothing where there is none."""
    return np.empty(0, dtype) if mask is None else contiguous(mask)


def _in_steps(x: Any) -> Any:
    """A sequence's steps as rows."""
    n, t, f = x.shape
    return in_order(x).reshape(n * t, f)


@Planned
def step_mask(x: Any, value: float = 0.0, *, out: Any = None) -> Callable[..., Any]:
    """One step after the other."""
    place = placing(out if out is None or out.flags.c_contiguous else None, x.shape[:2], x.dtype, x)
    compute = _step_mask.planned(x.dtype, _nanoseconds(x), x.dtype.type(value))

    def run(x: Any, value: float = 0.0, *, out: Any = None) -> Any:
        y = place(out, x)
        compute(_in_steps(x), y.reshape(-1))
        return finish(y, out)

    return run


def _masking(x: Any, mask: Any, out: Any) -> Callable[..., Any]:
    place = placing(out, x.shape, x.dtype, x, mask, elementwise=True)
    compute = _mask_steps.planned(x.dtype, _nanoseconds(x))

    def run(x: Any, mask: Any, *, out: Any = None) -> Any:
        y = place(out, x, mask)
        compute(_in_steps(x), contiguous(mask), _in_steps(y))
        return finish(y, out)

    return run


@Planned
def mask_steps(x: Any, mask: Any, *, out: Any = None) -> Callable[..., Any]:
    """One step after the other."""
    return _masking(x, mask, out)


@Planned
def mask_steps_backward(dy: Any, mask: Any, *, out: Any = None) -> Callable[..., Any]:
    """One step after the other."""
    return _masking(dy, mask, out)


def _pooling(compute: Any, x: Any, mask: Any, out: Any) -> Callable[..., Any]:
    (n, t, f), dtype = x.shape, x.dtype
    place = placing(_whole(out), (n, f), dtype, x, mask)
    pool = compute.planned(dtype, _nanoseconds(x), t)

    def run(x: Any, mask: Any = None, *, out: Any = None) -> Any:
        y = place(out, x, mask)
        pool(_in_steps(x), _flags(mask, dtype), y)
        return finish(y, out)

    return run


def _whole(out: Any) -> Any:
    """``out`` where kernels can take it as it lies."""
    return out if out is not None and out.flags.c_contiguous else None


@Planned
def sequence_mean(x: Any, mask: Any = None, *, out: Any = None) -> Callable[..., Any]:
    """Sums in the order of the steps."""
    return _pooling(_mean, x, mask, out)


@Planned
def sequence_max(x: Any, mask: Any = None, *, out: Any = None) -> Callable[..., Any]:
    """In the order of the steps; without a mask as of places of an image."""
    if mask is not None or not x.shape[1]:
        return _pooling(_max, x, mask, out)
    pool = pooling(MAX, over_all(x.shape), x, (x.shape[0], x.shape[2]), out)
    return lambda x, mask=None, *, out=None: pool(x, out)


@Planned
def sequence_mean_backward(dy: Any, x: Any, mask: Any = None, *, out: Any = None) -> Callable[..., Any]:
    """One sample after the other."""
    shape, dtype = x.shape, dy.dtype
    place = placing(_whole(out), shape, dtype, dy, mask)
    share = _mean_backward.planned(dtype, _nanoseconds(x), shape[1])

    def run(dy: Any, x: Any, mask: Any = None, *, out: Any = None) -> Any:
        dx = place(out, dy, mask)
        share(in_order(dy), _flags(mask, dtype), _in_steps(dx))
        return finish(dx, out)

    return run


@Planned
def sequence_max_backward(dy: Any, x: Any, y: Any, mask: Any = None, *, out: Any = None) -> Callable[..., Any]:
    """One number of a sample after the other; without a mask as of places of an image."""
    if mask is None and x.shape[1]:
        spread = spreading(MAX, over_all(x.shape), (dy, x, y), x.shape, out)
        return lambda dy, x, y, mask=None, *, out=None: spread(out, dy, x, y)
    shape, dtype = x.shape, dy.dtype
    place = placing(_whole(out), shape, dtype, dy, x, y, mask)
    share = _max_backward.planned(dtype, _nanoseconds(x), shape[1])

    def run(dy: Any, x: Any, y: Any, mask: Any = None, *, out: Any = None) -> Any:
        dx = place(out, dy, x, y, mask)
        share(in_order(dy), _in_steps(x), in_order(y), _flags(mask, dtype), _in_steps(dx))
        return finish(dx, out)

    return run
