"""Arrays side by side: tasks share the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu._arrays import finish, in_order, placing
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import kernel, matrix
from fastnn.kernels.cpu.simd.elementwise import copy_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.planned import Planned

# Nanoseconds a number on one core, roughly.
_NS_PER_NUMBER = 0.2


@compiled_in
def copy_share(t, tasks, n, count, x, x_row, y, y_row):
    """Task t's rows of ``count`` numbers, so far apart."""
    for i in range(t * n // tasks, (t + 1) * n // tasks):
        copy_row(count, address(x, i * x_row), address(y, i * y_row))


@kernel(lambda dtype: types.void(*[matrix(dtype)] * 3))
def _join(MR: int, NR: int) -> Any:
    def join(a, b, y, words, t, tasks):
        (n, first), (_, wide) = a.shape, y.shape
        copy_share(t, tasks, n, first, address(a, 0), first, address(y, 0), wide)
        copy_share(t, tasks, n, wide - first, address(b, 0), wide - first, address(y, first), wide)

    return join


@kernel(lambda dtype: types.void(*[matrix(dtype)] * 3))
def _part(MR: int, NR: int) -> Any:
    def part(y, a, b, words, t, tasks):
        (n, first), (_, wide) = a.shape, y.shape
        copy_share(t, tasks, n, first, address(y, 0), wide, address(a, 0), first)
        copy_share(t, tasks, n, wide - first, address(y, first), wide, address(b, 0), wide - first)

    return part


@Planned
def join(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
    """Copies of rows."""
    shape, dtype = (a.shape[0], a.shape[1] + b.shape[1]), a.dtype
    place = placing(out if out is None or out.flags.c_contiguous else None, shape, dtype, a, b)
    compute = _join.planned(dtype, shape[0] * shape[1] * _NS_PER_NUMBER)

    def run(a: Any, b: Any, *, out: Any = None) -> Any:
        y = place(out, a, b)
        compute(in_order(a), in_order(b), y)
        return finish(y, out)

    return run


@Planned
def join_backward(dy: Any, a: Any, b: Any) -> Callable[..., tuple[Any, Any]]:
    """Copies of parts of rows."""
    shapes, dtype = (a.shape, b.shape), dy.dtype
    compute = _part.planned(dtype, dy.size * _NS_PER_NUMBER)

    def run(dy: Any, *_: Any) -> tuple[Any, Any]:
        da, db = (np.empty(shape, dtype) for shape in shapes)
        compute(in_order(dy), da, db)
        return da, db

    return run
