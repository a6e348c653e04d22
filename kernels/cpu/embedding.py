"""Vectors of words: rows of a table by their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu import gather
from fastnn.kernels.cpu._arrays import finish, in_order, placing
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.planned import Planned

# One core's nanoseconds for a word that is looked at, roughly.
_NS_PER_WORD = 0.5


def _in_rows(out: Any, rows: tuple[int, ...]) -> Any:
    """``out`` as so many rows, where that is the same memory; else None."""
    return out.reshape(rows) if out is not None and out.flags.c_contiguous else None


@Planned
def embedding(indices: Any, table: Any, *, out: Any = None) -> Callable[..., Any]:
    """Words one behind the other. None where a number is none of a row."""
    shape = (*indices.shape, table.shape[1])
    places = indices.size, table.shape[1]
    take = gather.gather.plan(table, in_order(indices).reshape(-1), out=_in_rows(out, places))

    def run(indices: Any, table: Any, *, out: Any = None) -> Any:
        rows = take(table, in_order(indices).reshape(-1), out=_in_rows(out, places))
        return rows if rows is None else finish(rows.reshape(shape), out)

    return run


@Planned
def embedding_backward(dy: Any, indices: Any, table: Any, *, out: Any = None) -> Callable[..., Any]:
    """Words one behind the other. None where a number is none of a row."""
    places = indices.size, table.shape[1]
    add = gather.gather_backward.plan(in_order(dy).reshape(places), table, in_order(indices).reshape(-1), out=out)

    def run(dy: Any, indices: Any, table: Any, *, out: Any = None) -> Any:
        return add(in_order(dy).reshape(places), table, in_order(indices).reshape(-1), out=out)

    return run


@kernel(lambda dtype: types.void(flat(types.int64), flat(dtype)))
def _mask(MR: int, NR: int) -> Any:
    def mask(index, y, words, t, tasks):
        for i in range(t * y.size // tasks, (t + 1) * y.size // tasks):
            y[i] = 1 if index[i] != 0 else 0

    return mask


@Planned
def embedding_mask(indices: Any, table: Any, *, out: Any = None) -> Callable[..., Any]:
    """A number for each word."""
    shape, dtype = indices.shape, table.dtype
    place = placing(out if out is None or out.flags.c_contiguous else None, shape, dtype, indices, table)
    compute = _mask.planned(dtype, indices.size * _NS_PER_WORD)

    def run(indices: Any, table: Any, *, out: Any = None) -> Any:
        y = place(out, indices, table)
        compute(in_order(indices, np.int64).reshape(-1), y.reshape(-1))
        return finish(y, out)

    return run
