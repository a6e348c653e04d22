"""Vectors of words on the device: rows of a table by their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.kernels.cuda import gather, sequences
from fastnn.kernels.cuda.arrays import finish, in_order
from fastnn.kernels.planned import Planned
from fastnn.kernels.table.row import implements


def _in_rows(out: Any, rows: tuple[int, ...]) -> Any:
    """``out`` as so many rows, where that is the same memory; else None."""
    return out.reshape(rows) if out is not None and out.flags.c_contiguous else None


def _embedding(indices: Any, table: Any, *, out: Any = None) -> Callable[..., Any]:
    """Words one behind the other; NaN for a row that there is not."""
    shape = (*indices.shape, table.shape[1])
    places = indices.size, table.shape[1]
    take = gather.gather.plan(table, in_order(indices).reshape(indices.size), out=_in_rows(out, places))

    def run(indices: Any, table: Any, *, out: Any = None) -> Any:
        rows = take(table, in_order(indices).reshape(places[0]), out=_in_rows(out, places))
        return finish(rows.reshape(shape), out)

    return run


def _embedding_backward(dy: Any, indices: Any, table: Any, *, out: Any = None) -> Callable[..., Any]:
    """Words one behind the other, a row's gradients in one order."""
    places = indices.size, table.shape[1]
    add = gather.gather_backward.plan(
        in_order(dy).reshape(places), table, in_order(indices).reshape(indices.size), out=out
    )

    def run(dy: Any, indices: Any, table: Any, *, out: Any = None) -> Any:
        return add(in_order(dy).reshape(places), table, in_order(indices).reshape(places[0]), out=out)

    return run


embedding = Planned(implements("embedding", _embedding))
embedding_backward = Planned(implements("embedding_backward", _embedding_backward))
embedding_mask = Planned(implements("embedding_mask", sequences.index_mask))
