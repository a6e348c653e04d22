"""Vectors of words: rows of a table by their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.kernels.cpu import gather
from fastnn.kernels.cpu._arrays import finish, in_order, placing
from fastnn.kernels.planned import Planned


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


@Planned
def embedding_mask(indices: Any, table: Any, *, out: Any = None) -> Callable[..., Any]:
    """By NumPy: a number for each word."""
    place = placing(out, indices.shape, table.dtype, indices, table)

    def run(indices: Any, table: Any, *, out: Any = None) -> Any:
        return finish(np.not_equal(indices, 0, out=place(out, indices, table), casting="unsafe"), out)

    return run
