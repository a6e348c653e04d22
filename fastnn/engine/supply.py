"""The samples of a device: there as a whole, or where they take too much of its memory piece by piece.

What is there stays there from epoch to epoch: bytes as bytes, which steps convert, CSR matrices as they are, which the
first layer multiplies by. Pieces of some batches come in turns to two places, each by pinned memory and on a stream of
their own, while the steps of the other are at work: a copy waits until no step reads its place any more, steps wait for
the copy, and the host for it too before it writes to the pinned memory again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastnn import backends
from fastnn.engine.data import Batch, DataSet, DenseSource, Source, SparseSource
from fastnn.engine.inputs import AT_A_TIME, csr_of
from fastnn.engine.placement import Batches, Together, nothing
from fastnn.engine.protocols import Array
from fastnn.engine.wiring import mapped

# Of the memory that is free on a device samples take this share at most, where nothing else is asked for: the rest is
# for what steps make of them.
SHARE_OF_FREE = 0.5

# Bytes of a piece at most: a copy of so much is as fast as any. Unmeasured.
PIECE = 1 << 26

_MOST_NON_ZEROS = np.iinfo(np.int32).max


@dataclass(frozen=True)
class _Table:
    """An array of the host's whose rows are samples, and the dtype that it has on the device."""

    array: Array
    dtype: np.dtype[Any]

    @property
    def row(self) -> int:
        """Bytes of a sample."""
        return int(math.prod(self.array.shape[1:]) * self.dtype.itemsize)


def _inputs(source: DenseSource) -> _Table:
    """Dense inputs: bytes stay bytes where the model's dtype is the one that the device converts them to."""
    array = source.array.view(np.uint8) if source.array.dtype == np.bool_ else source.array
    stay = array.dtype == np.uint8 and source.dtype == np.float32
    return _Table(array, array.dtype if stay else source.dtype)


def _labels(data: DataSet) -> list[_Table]:
    """Targets and weights, what there is of them."""
    wanted = (data.y, data.y_dtype), (data.sample_weight, data.x.dtype)
    return [
        _Table(array, np.dtype(array.dtype if dtype is None else dtype)) for array, dtype in wanted if array is not None
    ]


def bytes_there(source: Source) -> int:
    """What the inputs take on a device as a whole."""
    if isinstance(source, SparseSource):
        return int(source.matrix.nnz) * (4 + source.dtype.itemsize) + 4 * (source.rows + 1)
    return source.rows * _inputs(source).row if isinstance(source, DenseSource) else 0


def most_bytes(limit: int | None) -> int:
    """What samples may take: the limit, or where there is none a share of what is free."""
    if limit is not None:
        return limit
    import cupy

    free: int = cupy.cuda.runtime.memGetInfo()[0]
    return int(free * SHARE_OF_FREE)


def how(source: Source, limit: int | None, takes_csr: bool) -> str:
    """How such inputs come to the device, for people to read."""
    size, most = bytes_there(source), most_bytes(limit)
    fits = f"{size:,} bytes, of {most:,} that samples may take"
    if isinstance(source, SparseSource) and not (takes_csr and size <= most):
        return "made dense on the host, a batch at a time"
    if isinstance(source, SparseSource):
        return f"on the device as CSR, {fits}"
    return f"on the device, {fits}" if size <= most else f"streamed through two pinned buffers: {fits}"


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
        """What makes batches of these samples; those of several inputs or targets the host makes."""
        if isinstance(data.y, tuple) or not isinstance(data.x, (DenseSource, SparseSource)):
            return partial(_FromHost, data)
        labels, most = _labels(data), most_bytes(self._limit)
        fits = bytes_there(data.x) + data.rows * sum(table.row for table in labels) <= most
        has_y = data.y is not None
        if isinstance(data.x, SparseSource):
            if not (fits and self._takes_csr and data.x.matrix.nnz <= _MOST_NON_ZEROS):
                return partial(_FromHost, data)
            return partial(_Resident, [_matrix(data.x), *map(_uploaded, labels)], has_y)
        tables = [_inputs(data.x), *labels]
        if fits:
            return partial(_Resident, [_uploaded(table) for table in tables], has_y)
        return _Streams(tables, has_y, most // 2).batches


def put(array: Any) -> Any:
    """An array, or a CSR matrix, on the device; one that is there, or None, as it is."""
    if array is None or hasattr(array, "indptr"):
        return array
    import cupy

    return cupy.asarray(array)


def joined(arrays: Sequence[Any]) -> Any:
    """Arrays on the device one behind the other; one, or None, as it is."""
    if len(arrays) == 1 or arrays[0] is None:
        return arrays[0]
    import cupy

    return cupy.concatenate(arrays)


def _matrix(source: SparseSource) -> Any:
    """CSR inputs on the device."""
    indptr, indices, values = csr_of(source, np.int32)
    longest = int(np.diff(indptr).max(initial=0))
    bounded = backends.implementation("cuda", "csr", "bounded")
    return bounded(put(values), put(indices), put(indptr), source.matrix.shape, longest)


def _uploaded(table: _Table) -> Any:
    """An array on the device, converted a few rows at a time: it may be mapped from a file."""
    import cupy

    there = cupy.empty(table.array.shape, table.dtype)
    at_a_time = max(1, AT_A_TIME // max(1, table.row))
    for first in range(0, len(table.array) if there.size else 0, at_a_time):
        rows = slice(first, first + at_a_time)
        there[rows].set(np.ascontiguousarray(table.array[rows], table.dtype))
    return there


def _batch(parts: Sequence[Any], has_y: bool, rows: int) -> Batch:
    """A batch of inputs, targets and weights, what there is of them."""
    x, *labels = parts
    y = labels.pop(0) if has_y else None
    return Batch(x, y, labels[0] if labels else None, rows)


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


class _FromHost:
    """Batches that the host makes, one by one."""

    def __init__(self, data: DataSet, order: Array, batch_size: int) -> None:
        self._data, self._steps = data, _Steps(order, batch_size)

    def at_hand(self, step: int) -> int:
        return 0

    def together(self, step: int, steps: int) -> Together:
        raise ValueError(f"steps: got {steps}, wants 0, which are at hand")

    def alone(self, step: int) -> Batch:
        rows = self._steps.rows(step)
        batch = self._data.batch(rows, rows.size)
        x, y, weight = (mapped(put, part) for part in batch[:3])
        return Batch(x, y, weight, batch.rows)


class _Resident:
    """Batches of samples that are there."""

    def __init__(self, arrays: Sequence[Any], has_y: bool, order: Array, batch_size: int) -> None:
        self._arrays, self._has_y, self._steps = arrays, has_y, _Steps(order, batch_size)

    def at_hand(self, step: int) -> int:
        return self._steps.count - step

    def together(self, step: int, steps: int) -> Together:
        return Together(self._arrays, self._steps.rows(step, steps), nothing)

    def alone(self, step: int) -> Batch:
        rows = self._steps.rows(step)
        index = put(np.ascontiguousarray(rows, np.int64))
        taken = [_rows(array, index) for array in self._arrays]
        return _batch(taken, self._has_y, rows.size)


def _rows(array: Any, index: Any) -> Any:
    """array[index] on the device."""
    module, name = ("csr", "gather") if hasattr(array, "indptr") else ("batches", "rows")
    return backends.implementation("cuda", module, name)(array, index)


class _Place:
    """Room for a piece, on the device and in pinned memory; ``holds`` says which piece of which epoch it has."""

    def __init__(self, tables: Sequence[_Table], rows: int) -> None:
        import cupy

        self.holds: Any = None
        # copied: behind the last copy; read: behind the steps that have read what was here
        self.copied, self.read = (cupy.cuda.Event(disable_timing=True) for _ in range(2))
        self.there = [cupy.empty((rows, *table.array.shape[1:]), table.dtype) for table in tables]
        self.pinned = [_pinned(array.shape, array.dtype) for array in self.there]

    def __del__(self) -> None:
        """Memory goes back when no copy is under way: those who get it do not wait for the stream that copies."""
        with suppress(Exception):  # of a device, or an interpreter, that is at its end
            self.copied.synchronize()


def _pinned(shape: tuple[int, ...], dtype: Any) -> Array:
    import cupy

    count = math.prod(shape)
    memory = cupy.cuda.alloc_pinned_memory(max(1, count * dtype.itemsize))
    return np.frombuffer(memory, dtype, count).reshape(shape)


def _take(array: Array, rows: Array, out: Array) -> None:
    if array.dtype == out.dtype:
        np.take(array, rows, axis=0, out=out, mode="clip")  # else by a copy in between
    else:
        out[...] = array[rows]


class _Streams:
    """Two places for pieces of samples, and the stream that copies to them."""

    def __init__(self, tables: Sequence[_Table], has_y: bool, most: int) -> None:
        import cupy

        self._tables, self._has_y, self._most = tables, has_y, most
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
        rows = min(steps * batch_size, len(self._tables[0].array))
        if not self._places or len(self._places[0].there[0]) != rows:
            self._places, self._read = [], None
            self._places = [_Place(self._tables, rows) for _ in range(2)]
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
            for table, pinned, there in zip(self._tables, place.pinned, place.there, strict=True):
                _take(table.array, rows, pinned[: rows.size])
                there.data.copy_from_host_async(pinned.ctypes.data, rows.size * table.row, self._stream)
            place.copied.record(self._stream)
            place.holds = name
        return place

    def batch(self, place: _Place, first: int, rows: int) -> Batch:
        """So many samples of a place as a batch."""
        return _batch([array[first : first + rows] for array in place.there], self._has_y, rows)


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
        return Together(place.there, rows, partial(self._ahead, step // self._of_piece + 1))

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
