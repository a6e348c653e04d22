"""Instructions of rows: random ones, those that numbers choose, a batch's."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cpu import dropout, gather, random
from fastnn.kernels.cpu.instructions.lowering.instructions import Lowering, UnfitError, apart, constant, integer
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.graph import Call, View
from fastnn.kernels.table import TABLE
from fastnn.kernels.table.dropout import scale, threshold
from fastnn.kernels.table.random import DRAWN
from fastnn.kernels.table.random import NUMBERS as DISTRIBUTED


def lower_dropout(to: Lowering, call: Call) -> None:
    """Numbers where a mask of random words keeps them."""
    x, (y,) = call.given[next(iter(TABLE[call.op].operands))], call.results
    to.plain(x, y)
    apart(y, x, same=True)
    rate, (n, m) = constant(call.given["rate"]), x.shape
    fields: dict[str, Any] = {"n": n, "m": m, "threshold": threshold(rate), **_drawn(call)}
    numbers = to.constants([scale(rate)])
    to.add(Kind.DROPOUT, dropout.nanoseconds(x.size), reads={"a": x}, writes={"b": y}, numbers=numbers, **fields)


def lower_random(to: Lowering, call: Call) -> None:
    """Random numbers of a distribution."""
    (y,) = call.results
    to.plain(y)
    own = (constant(call.given[name]) for name in TABLE[call.op].options if name not in DRAWN)
    (n, m), numbers = y.shape, to.constants(DISTRIBUTED[call.op](*own))
    fields: dict[str, Any] = {"n": n, "m": m, "code": random.CODES[call.op], **_drawn(call)}
    to.add(Kind.RANDOM, random.nanoseconds(call.op, y.size), writes={"b": y}, numbers=numbers, **fields)


def _drawn(call: Call) -> dict[str, int]:
    """What random words follow from."""
    return {name: integer(call.given[name]) for name in DRAWN}


def lower_indexed_rows(to: Lowering, call: Call) -> None:
    """Rows by their numbers."""
    data, index, (y,) = call.given["data"], call.given["index"], call.results
    _by_index(to, Kind.INDEXED_ROWS, data, index, y, data.shape[0])


def lower_scatter(to: Lowering, call: Call) -> None:
    """Sums of rows by their numbers."""
    dy, index, (y,) = call.given["dy"], call.given["index"], call.results
    _by_index(to, Kind.SCATTER, dy, index, y, y.shape[0])


def lower_embedding(to: Lowering, call: Call) -> None:
    """Words' rows by their numbers."""
    indices, table, (y,) = call.given["indices"], call.given["table"], call.results
    _by_index(to, Kind.INDEXED_ROWS, table, indices, y, table.shape[0])


def lower_embedding_backward(to: Lowering, call: Call) -> None:
    """Sums of words' gradients by their numbers."""
    dy, indices, (y,) = call.given["dy"], call.given["indices"], call.results
    _by_index(to, Kind.SCATTER, dy, indices, y, y.shape[0])


def _by_index(to: Lowering, kind: int, a: View, index: View, c: View, rows: int) -> None:
    """c from a, both rows of numbers; a number of the index is that of one of so many ``rows``, of a or of c."""
    to.plain(a, c)
    if not index.contiguous or index.dtype != np.int64 or index.size == 0:
        raise UnfitError
    apart(c, a, index)
    sizes: dict[str, Any] = {"n": index.size, "k": rows, "m": (a if kind == Kind.SCATTER else c).size // index.size}
    moved = c.size if kind == Kind.INDEXED_ROWS else a.size + c.size
    work = moved * to.dtype.itemsize * gather.NS_PER_BYTE
    to.add(kind, work, reads={"a": a, "b": index}, writes={"c": c}, **sizes)


def lower_gather(to: Lowering, call: Call) -> None:
    """A batch's rows by the turn's part of the order."""
    data, (rows,) = call.given["data"], call.results
    if not data.contiguous or not rows.contiguous or rows.size == 0:
        raise UnfitError
    n, m = rows.shape[0], rows.strides[0]
    to.add(Kind.GATHER, n * m * gather.NS_PER_BYTE, reads={"a": data}, writes={"b": rows}, n=n, m=m)


def lower_put(to: Lowering, call: Call) -> None:
    """A turn's result among those of all turns."""
    x, into, turn = (call.given[name] for name in ("x", "into", "turn"))
    if not x.contiguous or x.size == 0:
        raise UnfitError
    n, figure = x.size * x.dtype.itemsize, turn.place
    to.add(Kind.PUT, n * gather.NS_PER_BYTE, reads={"a": x}, writes={"b": into}, takes=[figure], n=n, figure=figure)
