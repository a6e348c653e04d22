"""Rows of a table by their numbers: one after the other, a range of them each task's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu._arrays import direct, finish, in_order, placing
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.simd.elementwise import add_row, copy_row_ahead, widen_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.planned import Planned

# What it takes one core to bring one byte of a row from memory, roughly, and to write it.
NS_PER_BYTE = 0.1


@compiled_in
def are_rows(n, index, rows):
    """Whether n numbers are all those of one of so many rows."""
    others = 0
    for i in range(n):
        others += index[i] < 0 or index[i] >= rows
    return others == 0


@compiled_in
def gather_share(t, tasks, n, count, data, index, y):
    """What task t has of n rows of ``count`` numbers."""
    for i in range(t * n // tasks, (t + 1) * n // tasks):
        after = index[min(i + 1, n - 1)]
        copy_row_ahead(count, address(data, index[i] * count), address(y, i * count), address(data, after * count))


@kernel(lambda dtype: types.boolean(matrix(dtype), flat(types.int64), matrix(dtype)))
def _gather(MR: int, NR: int) -> Any:
    def gather(data, index, y, words, t, tasks):
        n, count = y.shape
        if not are_rows(n, address(index, 0), data.shape[0]):
            return False
        gather_share(t, tasks, n, count, address(data, 0), address(index, 0), address(y, 0))
        return True

    return gather


@compiled_in
def scatter_share(t, tasks, n, rows, count, dy, index, y, added):
    """What task t has of ``rows`` rows of ``count`` numbers, on each of which those n of dy are added that it was.

    They begin at 0, or where they are ``added`` at what is there.
    """
    low, high = t * rows // tasks, (t + 1) * rows // tasks
    if not added:
        for j in range(low * count, high * count):
            y[j] = 0.0
    for i in range(n):
        if low <= index[i] < high:
            row = address(y, index[i] * count)
            add_row(count, row, address(dy, i * count), row, 0)


@kernel(lambda dtype: types.boolean(matrix(dtype), flat(types.int64), matrix(dtype)))
def _scatter(MR: int, NR: int) -> Any:
    def scatter(dy, index, y, words, t, tasks):
        (rows, count), n = y.shape, index.size
        if not are_rows(n, address(index, 0), rows):
            return False
        scatter_share(t, tasks, n, rows, count, address(dy, 0), address(index, 0), address(y, 0), False)
        return True

    return scatter


@compiled_in
def widen_share(t, tasks, n, count, scale, offset, data, index, y):
    """What task t has of n rows of ``count`` bytes, which become scale * byte + offset."""
    for i in range(t * n // tasks, (t + 1) * n // tasks):
        widen_row(count, address(data, index[i] * count), scale, offset, address(y, i * count))


def _widen_signature(dtype: Any) -> Any:
    return types.boolean(dtype, dtype, matrix(types.uint8), flat(types.int64), matrix(dtype))


@kernel(_widen_signature)
def _widen(MR: int, NR: int) -> Any:
    def widen(scale, offset, data, index, y, words, t, tasks):
        n, count = y.shape
        if not are_rows(n, address(index, 0), data.shape[0]):
            return False
        widen_share(t, tasks, n, count, scale, offset, address(data, 0), address(index, 0), address(y, 0))
        return True

    return widen


@Planned
def gather(
    data: Any, index: Any, scale: float = 1 / 255, offset: float = 0.0, *, out: Any = None
) -> Callable[..., Any]:
    """None where a number is none of a row. Of data that are not in one piece, what is wanted is copied first."""
    dtype = np.dtype(np.float32) if data.dtype == np.uint8 else data.dtype
    shape, count = (len(index), *data.shape[1:]), math.prod(data.shape[1:])
    places = len(index), count
    place = placing(out if direct(out) else None, shape, dtype, data, index)
    nanoseconds = math.prod(places) * dtype.itemsize * NS_PER_BYTE
    if data.dtype == dtype:
        compute = _gather.planned(dtype, nanoseconds)
    else:
        compute = _widen.planned(dtype, nanoseconds, dtype.type(scale), dtype.type(offset))
    in_one_piece, plain = data.flags.c_contiguous, direct(None, data, index) and index.dtype == np.int64

    def run(data: Any, index: Any, *_: Any, out: Any = None) -> Any:
        y = place(out, data, index)
        if not plain:
            index = in_order(index, np.int64)
            if not (in_one_piece or all_are_rows(index, len(data))):
                return None
            data, index = (in_order(data), index) if in_one_piece else (data.take(index, 0), np.arange(len(index)))
        done = compute(data.reshape(len(data), count), index, y.reshape(places))
        return finish(y, out) if done else None

    return run


@Planned
def gather_backward(dy: Any, data: Any, index: Any, *, out: Any = None) -> Callable[..., Any]:
    """Tasks share the rows of the result, so that each is a sum in one order. None as ``gather``."""
    dtype, shape, count = dy.dtype, data.shape, math.prod(data.shape[1:])
    place = placing(out if direct(out) else None, shape, dtype, dy, index)
    compute = _scatter.planned(dtype, (dy.size + data.size) * dtype.itemsize * NS_PER_BYTE)

    def run(dy: Any, data: Any, index: Any, *, out: Any = None) -> Any:
        y = place(out, dy, index)
        done = compute(in_order(dy).reshape(len(index), count), in_order(index, np.int64), y.reshape(len(data), count))
        return finish(y, out) if done else None

    return run


def all_are_rows(index: Any, rows: int) -> bool:
    """``are_rows`` in Python."""
    return not index.size or bool(index.min() >= 0 and index.max() < rows)
