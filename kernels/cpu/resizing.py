"""Images made larger or smaller: rows of channels copied, rows of places shared out among tasks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import types

from fastnn.kernels.cpu._arrays import finish, in_order, placing
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.pooling import Windows, pooling
from fastnn.kernels.cpu.simd.elementwise import copy_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.pooling import MEAN
from fastnn.kernels.planned import Planned

# Nanoseconds a number of the result on one core, roughly.
_NS_PER_NUMBER = 0.2


@compiled_in
def shift_share(t, tasks, n, h, w, c, p, q, above, left, x, y):
    """Task t's rows of images y (n, p, q, c), in which x (n, h, w, c) begins ``above``, ``left``; zeros beside it.

    Negative ones are rows and columns of x that are cut off.
    """
    first, last = max(0, left), min(q, left + w)
    for line in range(t * n * p // tasks, (t + 1) * n * p // tasks):
        image, row = line // p, line % p - above
        at = line * q * c
        if row < 0 or row >= h:
            for k in range(at, at + q * c):
                y[k] = 0.0
        else:
            for k in range(at, at + first * c):
                y[k] = 0.0
            source = address(x, ((image * h + row) * w + first - left) * c)
            copy_row((last - first) * c, source, address(y, at + first * c))
            for k in range(at + last * c, at + q * c):
                y[k] = 0.0


@kernel(lambda dtype: types.void(types.UniTuple(types.int64, 8), flat(dtype), flat(dtype)))
def _shift(MR: int, NR: int) -> Any:
    def shift(given, x, y, words, t, tasks):
        shift_share(t, tasks, *given, address(x, 0), address(y, 0))

    return shift


@compiled_in
def repeat_share(t, tasks, n, h, w, c, down, across, x, y):
    """Task t's rows of images x (n, h, w, c), each ``down`` times in y, and its places ``across`` times."""
    wide = w * across * c
    for line in range(t * n * h // tasks, (t + 1) * n * h // tasks):
        made = line * down * wide
        for place in range(w * across):
            copy_row(c, address(x, (line * w + place // across) * c), address(y, made + place * c))
        for again in range(1, down):
            copy_row(wide, address(y, made), address(y, made + again * wide))


@kernel(lambda dtype: types.void(types.UniTuple(types.int64, 6), flat(dtype), flat(dtype)))
def _repeat(MR: int, NR: int) -> Any:
    def repeat(given, x, y, words, t, tasks):
        repeat_share(t, tasks, *given, address(x, 0), address(y, 0))

    return repeat


def _planned(kernel_: Any, given: tuple[int, ...], x: Any, shape: tuple[int, ...], out: Any) -> Callable[..., Any]:
    """What runs a kernel on images like x, for a result of ``shape``: ``run(x, out)``."""
    dtype, size = x.dtype, math.prod(shape)
    place = placing(out if out is None or out.flags.c_contiguous else None, shape, dtype, x)
    compute = kernel_.planned(dtype, size * _NS_PER_NUMBER, given)

    def run(x: Any, out: Any) -> Any:
        y = place(out, x)
        if size:
            compute(in_order(x).reshape(-1), y.reshape(-1))
        return finish(y, out)

    return run


@Planned
def zero_pad2d(x: Any, padding: Any = ((1, 1), (1, 1)), *, out: Any = None) -> Callable[..., Any]:
    """Zeros beside copies of rows."""
    (n, h, w, c), ((top, bottom), (left, right)) = x.shape, padding
    p, q = top + h + bottom, left + w + right
    run = _planned(_shift, (n, h, w, c, p, q, top, left), x, (n, p, q, c), out)
    return lambda x, *_, out=None, **__: run(x, out)


@Planned
def crop2d(x: Any, cropping: Any = ((1, 1), (1, 1)), *, out: Any = None) -> Callable[..., Any]:
    """Copies of parts of rows."""
    (n, h, w, c), ((top, bottom), (left, right)) = x.shape, cropping
    p, q = h - top - bottom, w - left - right
    run = _planned(_shift, (n, h, w, c, p, q, -top, -left), x, (n, p, q, c), out)
    return lambda x, *_, out=None, **__: run(x, out)


@Planned
def upsample2d(x: Any, size: Any = (2, 2), *, out: Any = None) -> Callable[..., Any]:
    """Copies of places, then of rows."""
    (n, h, w, c), (down, across) = x.shape, size
    run = _planned(_repeat, (n, h, w, c, down, across), x, (n, h * down, w * across, c), out)
    return lambda x, *_, out=None, **__: run(x, out)


@Planned
def upsample2d_backward(dy: Any, x: Any, size: Any = (2, 2), *, out: Any = None) -> Callable[..., Any]:
    """Sums of windows that lie side by side."""
    (n, h, w, c), (down, across) = x.shape, size
    given = Windows(n, h * down, w * across, c, h, w, down, across, down, across, 0, 0)
    run = pooling(MEAN, given, dy, x.shape, out, scaled=False)
    return lambda dy, *_, out=None, **__: run(dy, out)
