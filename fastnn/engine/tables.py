"""Arrays and CSR matrices of the host whose rows are samples, on their way to a device: as a whole, or some at a time.

Bytes stay bytes, which steps convert, and CSR matrices are as they are where the first layer multiplies by them, else
made dense on the host. So are, the other way round, dense arrays that are next to nothing but zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastnn import backends
from fastnn.engine.data import DataSet, DenseSource, Source, SparseSource, sources_of
from fastnn.engine.inputs import AT_A_TIME, csr_of, density, is_too_large
from fastnn.engine.protocols import Array
from fastnn.engine.wiring import each

# Share of non-zeros of a dense array below which a device gets it as CSR: a product with it reads a fiftieth of the
# numbers, in an order of its own. Unmeasured.
CSR_BELOW = 0.02

_MOST_NON_ZEROS = np.iinfo(np.int32).max


class Copy(NamedTuple):
    """So many bytes that are to be copied from pinned memory to the device."""

    pinned: Array
    there: Any
    size: int


class Room(Protocol):
    """Memory for some rows, on the device and pinned; ``there`` is what batches are taken of."""

    there: Any

    def filled(self, rows: Array) -> Iterator[Copy]:
        """The copies that bring these samples, once they are in pinned memory."""
        ...

    def batch(self, first: int, rows: int) -> Any:
        """So many rows of what is there."""
        ...


class Table(Protocol):
    """Rows of the host."""

    @property
    def size(self) -> int:
        """Bytes that all of them take on the device."""
        ...

    @property
    def row(self) -> int:
        """Those of one of them, at most."""
        ...

    def uploaded(self) -> Any:
        """All of them on the device."""
        ...

    def room(self, rows: int) -> Room:
        """Room for so many."""
        ...


def put(array: Any) -> Any:
    """An array, or a CSR matrix, on the device; one that is there, or None, as it is."""
    if array is None or hasattr(array, "indptr"):
        return array
    import cupy

    return cupy.asarray(array)


def rows_of(array: Any, rows: Array) -> Any:
    """array[rows] of an array, or a CSR matrix, on the device."""
    module, name = ("csr", "gather") if hasattr(array, "indptr") else ("batches", "rows")
    return backends.implementation("cuda", module, name)(array, put(np.ascontiguousarray(rows, np.int64)))


def _pinned(shape: tuple[int, ...], dtype: Any) -> Array:
    import cupy

    count = math.prod(shape)
    memory = cupy.cuda.alloc_pinned_memory(max(1, count * dtype.itemsize))
    return np.frombuffer(memory, dtype, count).reshape(shape)


# --------------------------------------------------------------------------------------------------------------- dense


class Dense:
    """An array, of ``dtype`` on the device."""

    def __init__(self, array: Array, dtype: np.dtype[Any]) -> None:
        self._array, self.dtype, self.shape = array, dtype, array.shape

    @property
    def row(self) -> int:
        """Bytes of a sample."""
        return int(math.prod(self.shape[1:]) * self.dtype.itemsize)

    @property
    def size(self) -> int:
        """Bytes of all."""
        return int(self.shape[0]) * self.row

    def uploaded(self) -> Any:
        """On the device, converted a few rows at a time: it may be mapped from a file."""
        import cupy

        there = cupy.empty(self.shape, self.dtype)
        at_a_time = max(1, AT_A_TIME // max(1, self.row))
        for first in range(0, self.shape[0] if there.size else 0, at_a_time):
            rows = slice(first, first + at_a_time)
            there[rows].set(np.ascontiguousarray(self._part(rows), self.dtype))
        return there

    def room(self, rows: int) -> Room:
        """Room for so many."""
        return _DenseRoom(self, rows)

    def take(self, rows: Array, out: Array) -> None:
        """Write these rows."""
        if self._array.dtype == out.dtype:
            np.take(self._array, rows, axis=0, out=out, mode="clip")  # else by a copy in between
        else:
            out[...] = self._array[rows]

    def _part(self, rows: slice) -> Array:
        return self._array[rows]


class Expanded(Dense):
    """A CSR matrix that is made dense on the host, some rows at a time."""

    def __init__(self, source: SparseSource) -> None:
        self._source, self.dtype, self.shape = source, source.dtype, (source.rows, *source.sample_shape)

    def take(self, rows: Array, out: Array) -> None:
        """Write these rows."""
        out[...] = self._source.batch(rows)

    def _part(self, rows: slice) -> Array:
        return self._source.batch(rows)


class _DenseRoom:
    def __init__(self, table: Dense, rows: int) -> None:
        import cupy

        shape = rows, *table.shape[1:]
        self._table, self._pinned, self.there = table, _pinned(shape, table.dtype), cupy.empty(shape, table.dtype)

    def filled(self, rows: Array) -> Iterator[Copy]:
        self._table.take(rows, self._pinned[: rows.size])
        yield Copy(self._pinned, self.there, rows.size * self._table.row)

    def batch(self, first: int, rows: int) -> Any:
        return self.there[first : first + rows]


# -------------------------------------------------------------------------------------------------------------- sparse


class Csr:
    """The non-zeros of a source, as those of a CSR matrix."""

    def __init__(self, source: DenseSource | SparseSource) -> None:
        self._source, self.dtype = source, source.dtype
        self.shape = source.rows, source.sample_shape[0]

    @property
    def _entry(self) -> int:
        """Bytes of a non-zero with its column."""
        return 4 + self.dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of all: of a dense array they are counted in some of its rows."""
        return round(density(self._source) * math.prod(self.shape)) * self._entry + 4 * (self.shape[0] + 1)

    @property
    def row(self) -> int:
        """Bytes of the sample with most non-zeros."""
        return self.longest * self._entry + 4

    @property
    def longest(self) -> int:
        """Non-zeros of a row at most."""
        return int(np.diff(self.parts[0]).max(initial=0))

    @cached_property
    def parts(self) -> tuple[Array, Array, Array]:
        """(indptr, indices, values)."""
        if isinstance(self._source, SparseSource):
            return csr_of(self._source, np.int64)
        from fastnn.kernels.cpu import sparse

        found: tuple[Array, Array, Array] = sparse.to_csr(self._source.array, self.dtype, self._source.counts)
        return found

    def uploaded(self) -> Any:
        """The matrix on the device."""
        indptr, indices, values = self.parts
        return self.bounded(put(values), put(indices), put(indptr.astype(np.int32)), self.shape[0])

    def bounded(self, values: Any, indices: Any, indptr: Any, rows: int) -> Any:
        """A matrix of the device of these parts, with the bound of all rows."""
        make = backends.implementation("cuda", "csr", "bounded")
        return make(values, indices, indptr, (rows, self.shape[1]), self.longest)

    def room(self, rows: int) -> Room:
        """Room for so many."""
        return _CsrRoom(self, rows)


class _CsrRoom:
    def __init__(self, table: Csr, rows: int) -> None:
        import cupy

        most = min(rows * table.longest, table.parts[1].size)
        self._table = table
        self._pinned = [
            _pinned((count,), np.dtype(kind))
            for count, kind in ((most, table.dtype), (most, np.int32), (rows + 1, np.int32))
        ]
        self._there = values, indices, indptr = [cupy.empty(each.shape, each.dtype) for each in self._pinned]
        self.there = table.bounded(values, indices, indptr, rows)

    def filled(self, rows: Array) -> Iterator[Copy]:
        starts, columns, numbers = self._table.parts
        values, indices, indptr = self._pinned
        lengths = starts[rows + 1] - starts[rows]
        ends = np.cumsum(lengths)
        count = int(ends[-1])
        indptr[0], indptr[1 : rows.size + 1], indptr[rows.size + 1 :] = 0, ends, count
        places = np.repeat(starts[rows] - (ends - lengths), lengths) + np.arange(count)
        np.take(numbers, places, out=values[:count], mode="clip")
        np.take(columns, places, out=indices[:count], mode="clip")
        sizes = count * values.itemsize, count * indices.itemsize, indptr.nbytes
        yield from map(Copy, self._pinned, self._there, sizes)

    def batch(self, first: int, rows: int) -> Any:
        return rows_of(self.there, np.arange(first, first + rows))


# ------------------------------------------------------------------------------------------------------------- samples


def is_csr(source: Source, takes_csr: bool) -> bool:
    """Whether inputs are CSR on the device, where the first layer ``takes_csr``."""
    if isinstance(source, SparseSource):
        return takes_csr and int(source.matrix.nnz) <= _MOST_NON_ZEROS
    if not (takes_csr and isinstance(source, DenseSource) and len(source.sample_shape) == 1):
        return False
    share = density(source)
    entries = share * source.array.size
    return (
        share < CSR_BELOW
        and 2 * entries <= _MOST_NON_ZEROS  # it is an estimate
        and backends.state("cpu").available
        and not is_too_large(source.array, entries * (source.dtype.itemsize + 4))
    )


def inputs(source: Source, takes_csr: bool) -> list[Table]:
    """Those of a source."""
    return [_input(one, takes_csr) for one in sources_of(source)]


def _input(source: Source, takes_csr: bool) -> Table:
    if isinstance(source, (DenseSource, SparseSource)) and is_csr(source, takes_csr):
        return Csr(source)
    if isinstance(source, SparseSource):
        return Expanded(source)
    if not isinstance(source, DenseSource):
        raise TypeError(f"x: got {type(source).__name__}, wants a dense or CSR source")
    array = source.array.view(np.uint8) if source.array.dtype == np.bool_ else source.array
    stay = array.dtype == np.uint8 and source.dtype == np.float32
    return Dense(array, array.dtype if stay else source.dtype)


def labels(data: DataSet) -> list[Table]:
    """Targets and weights, what there is of them."""
    wanted = [*zip(each(data.y), each(data.y_dtype), strict=True)]
    wanted += [(weight, data.weights_in) for weight in each(data.sample_weight)]
    return [
        Dense(array, np.dtype(array.dtype if kind is None else kind)) for array, kind in wanted if array is not None
    ]


def total(tables: Sequence[Table]) -> int:
    """Bytes of all."""
    return sum(table.size for table in tables)
