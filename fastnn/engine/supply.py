"""The samples of a device: there as a whole, or where they take too much of its memory piece by piece.

What is there stays there from epoch to epoch, in the form that its table has (``tables``). Pieces of some batches come
in turns to two places, each by pinned memory and on a stream of their own, while the steps of the other are at work: a
copy waits until no step reads its place any more, steps wait for the copy, and the host for it too before it writes to
the pinned memory again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from fastnn.engine.data import Batch, DataSet, Source, Sources, SparseSource, sources_of
from fastnn.engine.placement import Batches, Together, nothing
from fastnn.engine.protocols import Array
from fastnn.engine.tables import Table, inputs, is_csr, labels, rows_of, total
from fastnn.engine.wiring import mapped

# Of the memory that is free on a device samples take this share at most, where nothing else is asked for: the rest is
# for what steps make of them.
SHARE_OF_FREE = 0.5

# Bytes of a piece at most: a copy of so much is as fast as any. Unmeasured.
PIECE = 1 << 26


def most_bytes(limit: int | None) -> int:
    """What samples may take: the limit, or where there is none a share of what is free."""
    if limit is not None:
        return limit
    import cupy

    free: int = cupy.cuda.runtime.memGetInfo()[0]
    return int(free * SHARE_OF_FREE)


def how(source: Source, limit: int | None, takes_csr: bool) -> str:
    """How such inputs come to the device, for people to read."""
    size, most = total(inputs(source, takes_csr)), most_bytes(limit)
    there = "on the device" if size <= most else "streamed through two pinned buffers"
    for one in sources_of(source):
        if is_csr(one, takes_csr):
            there += " as CSR"
        elif isinstance(one, SparseSource):
            there += ", made dense on the host"
    return f"{there}{',' if size <= most else ':'} {size:,} bytes, of {most:,} that samples may take"


class Supply:
    """Samples of the data set that was asked for last; ``limit`` is what they may take there.

    Where it ``takes_csr`` the network's first layer multiplies by CSR matrices; else they are made dense on the host.
    """

    def __init__(self, limit: int | None, takes_csr: bool) -> None:
        self._limit, self._takes_csr = limit, takes_csr
        self._data: DataSet | None = None
        self._made: Callable[[Array, int], Batches] | None = None

    def batches(self, data: DataSet, order: Array, batch_size: int) -> Batches:
        """The batches of an epoch."""
        if self._data is not data or self._made is None:
            self._data = self._made = None  # before others take its memory
            self._made = self._of(data)
            self._data = data
        return self._made(order, batch_size)

    def _of(self, data: DataSet) -> Callable[[Array, int], Batches]:
        """What makes batches of these samples."""
        tables, most = [*inputs(data.x, self._takes_csr), *labels(data)], most_bytes(self._limit)
        if total(tables) <= most:
            return partial(_Resident, [table.uploaded() for table in tables], data)
        return _Streams(tables, data, most // 2).batches


def joined(arrays: Sequence[Any]) -> Any:
    """Arrays on the device one behind the other; one, or None, as it is."""
    if len(arrays) == 1 or arrays[0] is None:
        return arrays[0]
    import cupy

    return cupy.concatenate(arrays)


def _batch(data: DataSet, parts: Sequence[Any], rows: int) -> Batch:
    """A batch of inputs, targets and weights, what there is of them, each one or a tuple as in the data."""
    left = iter(parts)
    x = tuple(next(left) for _ in data.x.all) if isinstance(data.x, Sources) else next(left)
    kinds = data.y, data.sample_weight
    y, weight = (mapped(lambda array: None if array is None else next(left), kind) for kind in kinds)
    return Batch(x, y, weight, rows)


class _Steps:
    """An order of samples in batches of a size."""

    def __init__(self, order: Array, batch_size: int) -> None:
        self.order, self.size = order, batch_size

    @property
    def count(self) -> int:
        """How many batches."""
        return -(-self.order.size // self.size)

    def rows(self, step: int, steps: int = 1) -> Array:
        """The samples of so many batches."""
        return self.order[step * self.size : (step + steps) * self.size]


class _Resident:
    """Batches of samples that are there."""

    def __init__(self, arrays: Sequence[Any], data: DataSet, order: Array, batch_size: int) -> None:
        self._arrays, self._data, self._steps = arrays, data, _Steps(order, batch_size)

    def at_hand(self, step: int) -> int:
        return self._steps.count - step

    def together(self, step: int, steps: int) -> Together:
        return Together(self._arrays, self._steps.rows(step, steps), nothing)

    def alone(self, step: int) -> Batch:
        rows = self._steps.rows(step)
        return _batch(self._data, [rows_of(array, rows) for array in self._arrays], rows.size)


class _Place:
    """Room for a piece; ``holds`` says which piece of which epoch it has."""

    def __init__(self, tables: Sequence[Table], rows: int) -> None:
        import cupy

        self.holds: Any = None
        # copied: behind the last copy; read: behind the steps that have read what was here
        self.copied, self.read = (cupy.cuda.Event(disable_timing=True) for _ in range(2))
        self.rooms = [table.room(rows) for table in tables]

    def __del__(self) -> None:
        """Memory goes back when no copy is under way: those who get it do not wait for the stream that copies."""
        with suppress(Exception):  # of a device, or an interpreter, that is at its end
            self.copied.synchronize()


class _Streams:
    """Two places for pieces of samples, and the stream that copies to them."""

    def __init__(self, tables: Sequence[Table], data: DataSet, most: int) -> None:
        import cupy

        self._tables, self._data, self._most, self._rows = tables, data, most, 0
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._current = cupy.cuda.get_current_stream
        self._places: list[_Place] = []
        self._read: _Place | None = None  # by the steps that were asked for last

    def batches(self, order: Array, batch_size: int) -> Batches:
        """The batches of an epoch."""
        return _Streamed(self, _Steps(order, batch_size))

    def steps(self, batch_size: int) -> int:
        """Batches of a piece: as many as its place may have, one at least."""
        row = sum(table.row for table in self._tables)
        steps = max(1, min(self._most, PIECE) // max(1, row * batch_size))
        rows = min(steps * batch_size, self._data.rows)
        if rows != self._rows:
            self._places, self._read, self._rows = [], None, 0
            self._places, self._rows = [_Place(self._tables, rows) for _ in range(2)], rows
        return steps

    def having(self, rows: Array, name: Any, number: int) -> _Place:
        """The place of the piece of these samples, for the steps that are asked for next on the current stream."""
        place = self.bring(rows, name, number)
        if self._read is not None and self._read is not place:
            self._read.read.record(self._current())
        self._read = place
        self._current().wait_event(place.copied)
        return place

    def bring(self, rows: Array, name: Any, number: int) -> _Place:
        """Have a piece copied to its place, unless it is there or under way."""
        place = self._places[number % 2]
        if place.holds != name:
            place.holds = None
            if self._read is place:
                place.read.record(self._current())
            place.copied.synchronize()  # the pinned memory is read no more
            self._stream.wait_event(place.read)
            for room in place.rooms:
                for pinned, there, size in room.filled(rows):
                    there.data.copy_from_host_async(pinned.ctypes.data, size, self._stream)
            place.copied.record(self._stream)
            place.holds = name
        return place

    def batch(self, place: _Place, first: int, rows: int) -> Batch:
        """So many samples of a place as a batch."""
        return _batch(self._data, [room.batch(first, rows) for room in place.rooms], rows)


class _Streamed:
    """Batches of an epoch whose samples come piece by piece."""

    def __init__(self, streams: _Streams, steps: _Steps) -> None:
        self._streams, self._steps, self._epoch = streams, steps, object()
        self._of_piece = streams.steps(steps.size)

    def at_hand(self, step: int) -> int:
        return min(self._of_piece - step % self._of_piece, self._steps.count - step)

    def together(self, step: int, steps: int) -> Together:
        place, first = self._place(step)
        rows = np.arange(first, first + self._steps.rows(step, steps).size)
        return Together([room.there for room in place.rooms], rows, partial(self._ahead, step // self._of_piece + 1))

    def alone(self, step: int) -> Batch:
        place, first = self._place(step)
        return self._streams.batch(place, first, self._steps.rows(step).size)

    def _place(self, step: int) -> tuple[_Place, int]:
        """The place of the piece that a batch is of, and where in it the batch begins."""
        piece = step // self._of_piece
        place = self._streams.having(self._rows(piece), (self._epoch, piece), piece)
        return place, (step - piece * self._of_piece) * self._steps.size

    def _rows(self, piece: int) -> Array:
        return self._steps.rows(piece * self._of_piece, self._of_piece)

    def _ahead(self, piece: int) -> None:
        """Bring the piece behind the one that is computed on."""
        if piece * self._of_piece < self._steps.count:
            self._streams.bring(self._rows(piece), (self._epoch, piece), piece)
