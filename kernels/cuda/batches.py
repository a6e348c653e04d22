"""Batches of data by their row numbers, turn after turn, and what is kept of each turn; all of it on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order

# Arrays that a launch takes rows of at most, and results that it puts.
_AT_ONCE = 16

BATCHES = Structure(
    "Batches",
    *(Field(name, "int64*") for name in ("control", "rows", "numbers")),
    Field("counters", "int*"),
    *(Field(name, "int64") for name in ("batch", "words")),
    *(Field(name, "int") for name in ("takes", "puts", "moves")),
    *(Field(name, "const unsigned char*", (_AT_ONCE,)) for name in ("data", "results")),
    *(Field(name, "unsigned char*", (_AT_ONCE,)) for name in ("into", "places")),
    *(Field(name, "int64", (_AT_ONCE,)) for name in ("row_bytes", "count", "bytes")),
    *(Field(name, "int", (_AT_ONCE,)) for name in ("take_word", "put_word")),
)
TAKEN = Structure(
    "Taken",
    Field("data", "const unsigned char*"),
    Field("index", "const int64*"),
    Field("y", "unsigned char*"),
    *(Field(name, "int64") for name in ("n", "row_bytes", "count")),
    Field("word", "int"),
)
_STRUCTURES = BATCHES, TAKEN

# Bytes that a thread moves at a time, if sizes and addresses are multiples of that.
_WORDS = (16, 4, 1)


def modules() -> Iterator[launch.Module]:
    """The one."""
    yield launch.Module("batches", launch.text("batches.cu", "float32", _STRUCTURES))


def _launch(entry: str, record: Any, threads: int) -> None:
    kernel = launch.kernel("batches.cu", entry, "float32", _STRUCTURES)
    kernel((launch.blocks(threads),), launch.BLOCK, (record,))


def _word(*sizes: int) -> int:
    """The largest word that sizes and addresses are multiples of."""
    return next(word for word in _WORDS if not any(size % word for size in sizes))


def _row_bytes(data: Any) -> int:
    size: int = math.prod(data.shape[1:]) * data.itemsize
    return size


def rows(data: Any, index: Any) -> Any:
    """data[index] of any dtype, index (n,) of int64, in a new array; rows that data do not have are NaN, or -1."""
    whole, y = in_order(data), cupy.empty((*index.shape, *data.shape[1:]), data.dtype)
    if y.size:
        record, size = TAKEN.record("float32"), _row_bytes(data)
        given = record[0]
        given["data"], given["index"], given["y"] = map(address, (whole, index, y))
        given["n"], given["row_bytes"], given["count"] = index.shape[0], size, data.shape[0]
        given["word"] = word = _word(size, address(whole), address(y))
        _launch("rows", record, y.nbytes // word)
    return y


class Turns:
    """Which turn it is, for kernels to read: ``begin``, and ``next`` at the end of each.

    ``rows`` (batch,) are the row numbers of the turn.
    """

    def __init__(self, batch: int) -> None:
        self.rows = cupy.empty((batch,), np.int64)
        self._control, self._kept = cupy.empty((5,), np.int64), (None, None)

    def begin(self, turns: range, order: Any, numbers: Any) -> None:
        """Those behind the next ``next`` are these turns of an order, whose ``numbers`` (turns, bytes) are these."""
        self._kept = order, numbers
        control = [address(order), address(numbers), turns.start, turns.start - 1, turns.stop]
        self._control[...] = cupy.asarray(np.array(control, np.int64))

    def next(
        self, numbers: Any, data: Sequence[Any], into: Sequence[Any], x: Sequence[Any] = (), places: Sequence[Any] = ()
    ) -> None:
        """Put x where ``places``, which have one of each turn, have this turn's; then comes the next turn.

        Its numbers go to these bytes, and its rows of ``data`` go ``into`` arrays. All are in C order.
        """
        launches = max(1, -(-max(len(data), len(x)) // _AT_ONCE))
        for number in range(launches):
            some = slice(number * _AT_ONCE, (number + 1) * _AT_ONCE)
            taken, put = (data[some], into[some]), (x[some], places[some])
            self._next(numbers, taken, put, moves=number == launches - 1)

    def _next(self, numbers: Any, taken: Sequence[Any], put: Sequence[Any], moves: bool) -> None:
        """A launch of it; the last one of a turn ``moves`` on to the next."""
        record = BATCHES.record("float32")
        given = record[0]
        given["control"], given["rows"], given["numbers"] = map(address, (self._control, self.rows, numbers))
        given["counters"], given["batch"], given["words"] = launch.counters(), self.rows.size, numbers.nbytes // 8
        given["takes"], given["puts"], given["moves"] = len(taken[0]), len(put[0]), moves
        threads = [self.rows.size]
        for p, (source, target) in enumerate(zip(*taken, strict=True)):
            size = _row_bytes(source)
            word = _word(size, address(source), address(target))
            given["data"][p], given["into"][p] = address(source), address(target)
            given["row_bytes"][p], given["count"][p], given["take_word"][p] = size, source.shape[0], word
            threads.append(target.nbytes // word)
        for p, (result, place) in enumerate(zip(*put, strict=True)):
            word = _word(result.nbytes, address(result), address(place))
            given["results"][p], given["places"][p] = address(result), address(place)
            given["bytes"][p], given["put_word"][p] = result.nbytes, word
            threads.append(result.nbytes // word)
        _launch("next", record, max(threads))
