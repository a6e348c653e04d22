"""Batches of data by their row numbers, turn after turn, and what is kept of each turn; all of it on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order

ADVANCED = Structure(
    "Advanced",
    *(Field(name, "int64*") for name in ("control", "rows", "numbers")),
    *(Field(name, "int64") for name in ("batch", "words")),
)
TAKEN = Structure(
    "Taken",
    Field("data", "const unsigned char*"),
    Field("index", "const int64*"),
    Field("y", "unsigned char*"),
    *(Field(name, "int64") for name in ("n", "words", "count")),
)
KEPT = Structure(
    "Kept",
    Field("x", "const unsigned char*"),
    Field("into", "unsigned char*"),
    Field("control", "const int64*"),
    Field("words", "int64"),
)
_STRUCTURES = ADVANCED, TAKEN, KEPT

# Bytes that a thread moves at a time, if sizes and addresses are multiples of that.
_WORDS = (16, 4, 1)

# Numbers of what a turn is told, see batches.cu.
_CONTROL = 5


def _before(word: int) -> str:
    return f"#define WORD {word}\n"


def modules() -> Iterator[launch.Module]:
    """Of words of every size."""
    for word in _WORDS:
        yield launch.Module(f"{word} bytes", launch.text("batches.cu", "float32", _STRUCTURES, _before(word)))


def _launch(entry: str, structure: Structure, given: dict[str, int], threads: int, word: int = 1) -> None:
    record = structure.record("float32")
    for name, value in given.items():
        record[name] = value
    kernel = launch.kernel("batches.cu", entry, "float32", _STRUCTURES, _before(word))
    kernel((launch.blocks(threads),), (launch.THREADS,), (record,))


def _word(*sizes: int) -> int:
    """The largest word that sizes and addresses are multiples of."""
    return next(word for word in _WORDS if not any(size % word for size in sizes))


def rows(data: Any, index: Any) -> Any:
    """data[index] of any dtype, index (n,) of int64, in a new array; rows that data do not have are NaN, or -1."""
    whole, y = in_order(data), cupy.empty((*index.shape, *data.shape[1:]), data.dtype)
    if y.size:
        size = math.prod(data.shape[1:]) * data.itemsize
        given = {"data": address(whole), "index": address(index), "y": address(y)}
        word = _word(size, given["data"], given["y"])
        counts = {"n": index.shape[0], "words": size // word, "count": data.shape[0]}
        _launch("rows", TAKEN, given | counts, y.nbytes // word, word)
    return y


class Turns:
    """Which turn it is, for kernels to read: ``begin``, then ``advance`` at the beginning of each.

    ``rows`` (batch,) are the row numbers of the turn, ``numbers`` are what it finds in the bytes that it is given.
    """

    def __init__(self, batch: int) -> None:
        self.rows = cupy.empty((batch,), np.int64)
        self._control = cupy.empty((_CONTROL,), np.int64)
        self._kept: Any = None

    def begin(self, turn: int, order: Any, numbers: Any) -> None:
        """The next turn is this one of those in an order; it and those behind it have ``numbers`` (turns, bytes)."""
        self._kept = order, numbers
        self._control[...] = cupy.asarray(np.array([address(order), address(numbers), turn, turn, turn], np.int64))

    def advance(self, numbers: Any) -> None:
        """The next turn is now, its numbers go to these bytes."""
        places = {"control": address(self._control), "rows": address(self.rows), "numbers": address(numbers)}
        sizes = {"batch": self.rows.size, "words": numbers.nbytes // 8}
        _launch("advance", ADVANCED, places | sizes, 1)

    def put(self, x: Any, into: Any) -> None:
        """Put x where ``into``, which has one of each turn, has this turn's."""
        whole = in_order(x)
        if whole.size:
            given = {"x": address(whole), "into": address(into)}
            word = _word(x.nbytes, *given.values())
            words = x.nbytes // word
            _launch("put", KEPT, {**given, "control": address(self._control), "words": words}, words, word)
