"""Vectors of words, by the words' numbers."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.table.row import grid, op

_WORDS: dict[str, Any] = {
    "cases": grid(
        n=(0, 1, 2, 3, 5, 4, 17, 9, 33),
        t=(3, 0, 1, 4, 1, 3, 5, 11, 20),
        rows=(2, 3, 1, 5, 7, 6, 9, 40, 300),
        d=(3, 2, 4, 0, 1, 3, 16, 17, 33),
    ),
    "bench": ({"n": 128, "t": 100, "rows": 10_000, "d": 16}, {"n": 32, "t": 500, "rows": 10_000, "d": 128}),
    "draw": {"indices": "row_numbers"},
}


@op("embedding", indices="n t", table="rows d", returns=("n t d",), sampled=("table",), **_WORDS)
def embedding(indices, table, *, out=None):
    """Rows of table (rows, d) by their numbers, integers (n, t): y[i, s] = table[indices[i, s]], (n, t, d).

    A row that there is not is an IndexError, a negative number too, or on a device NaN.
    """


@op("embedding", dy="n t d", indices="n t", table="rows d", returns=("rows d",), unread=("table",), **_WORDS)
def embedding_backward(dy, indices, table, *, out=None):
    """Gradient of ``embedding`` by table: zeros of its shape, and each dy[i, s] added to row indices[i, s], in order.

    Of table only the shape counts. A row that there is not is an IndexError; on a device its dy[i, s] is left out.
    """


@op("embedding", indices="n t", table="rows d", returns=("n t",), unread=("table",), **_WORDS)
def embedding_mask(indices, table, *, out=None):
    """Which steps of a batch are words: 1 where a number of indices (n, t) is not 0, else 0, in table's dtype.

    Of table nothing but its dtype counts, and how many rows there are.
    """
