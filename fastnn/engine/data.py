"""Inputs and targets: checked once before training, never written to, handed out in the model's dtype by batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastnn import backends, checks
from fastnn.adoption import adopted
from fastnn.engine.protocols import Array, Shape
from fastnn.engine.wiring import mapped

# Elements that the finite check looks at in one go: small enough to stay in a core's L2 cache.
_CHUNK = 1 << 16

# Bytes from which the compiled scan is worth loading the kernels.
_SCAN_FROM = 1 << 22


class Source(Protocol):
    """A table of samples that hands out batches in the model's dtype."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The model's dtype."""
        ...

    @property
    def rows(self) -> int:
        """Number of samples."""
        ...

    @property
    def sample_shape(self) -> Shape:
        """Shape of one sample."""
        ...

    @property
    def description(self) -> str:
        """What the input is and what happens to it."""
        ...

    @property
    def density(self) -> float | None:
        """Share of stored numbers, where that is known for free."""
        ...

    def batch(self, rows: Array | slice) -> Array:
        """The samples of ``rows`` as a dense array of the model's dtype."""
        ...

    def part(self, rows: slice) -> Source:
        """A source of a range of the samples, without a copy where that is possible."""
        ...


@dataclass(frozen=True)
class DenseSource:
    """An array of any numeric dtype, samples along the first axis; ``counts`` are its rows' non-zeros, if known."""

    array: Array
    dtype: np.dtype[Any]
    counts: Array | None = None

    @property
    def density(self) -> float | None:
        """Share of non-zeros, where they were counted."""
        return None if self.counts is None else float(self.counts.sum() / max(1, self.array.size))

    @property
    def rows(self) -> int:
        """Number of samples."""
        return int(self.array.shape[0])

    @property
    def sample_shape(self) -> Shape:
        """Shape of one sample."""
        return tuple(self.array.shape[1:])

    @property
    def description(self) -> str:
        """What the input is and what happens to it."""
        kind = f"{self.array.dtype} array"
        return kind if self.array.dtype == self.dtype else f"{kind}, converted to {self.dtype}"

    def batch(self, rows: Array | slice) -> Array:
        """The samples of ``rows`` as a dense array of the model's dtype."""
        return np.ascontiguousarray(self.array[rows], dtype=self.dtype)

    def part(self, rows: slice) -> DenseSource:
        """A view of a range of the samples."""
        return DenseSource(self.array[rows], self.dtype, None if self.counts is None else self.counts[rows])


@dataclass(frozen=True)
class SparseSource:
    """A scipy.sparse CSR matrix or array; each batch is made dense, the whole never is."""

    matrix: Any
    dtype: np.dtype[Any]

    @property
    def rows(self) -> int:
        """Number of samples."""
        return int(self.matrix.shape[0])

    @property
    def sample_shape(self) -> Shape:
        """Shape of one sample."""
        return (int(self.matrix.shape[1]),)

    @property
    def density(self) -> float:
        """Stored numbers over all numbers."""
        return float(self.matrix.nnz / max(math.prod(self.matrix.shape), 1))

    @property
    def description(self) -> str:
        """What the input is and what happens to it."""
        return f"CSR of {self.matrix.dtype}, made dense {self.dtype} a batch at a time where it is not used as it is"

    def batch(self, rows: Array | slice) -> Array:
        """The samples of ``rows`` as a dense array of the model's dtype."""
        return np.ascontiguousarray(self.matrix[rows].toarray(), dtype=self.dtype)

    def part(self, rows: slice) -> SparseSource:
        """A source of a range of the samples: views, since CSR rows are stored end to end, unless SciPy trims them."""
        indptr = self.matrix.indptr[rows.start : rows.stop + 1]
        stored = slice(indptr[0], indptr[-1])
        parts = self.matrix.data[stored], self.matrix.indices[stored], indptr - indptr[0]
        shape = indptr.size - 1, self.matrix.shape[1]
        return SparseSource(type(self.matrix)(parts, shape=shape, copy=False), self.dtype)


@dataclass(frozen=True)
class Sources:
    """Several inputs of equal length, by name: what is handed out of them are tuples."""

    named: Mapping[str, Source]

    @property
    def all(self) -> tuple[Source, ...]:
        """One source an input."""
        return tuple(self.named.values())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The model's dtype."""
        return self.all[0].dtype

    @property
    def rows(self) -> int:
        """Number of samples."""
        return self.all[0].rows

    @property
    def sample_shape(self) -> Any:
        """Shapes of one sample."""
        return tuple(source.sample_shape for source in self.all)

    @property
    def description(self) -> str:
        """What the inputs are and what happens to them."""
        return "; ".join(f"{name}: {source.description}" for name, source in self.named.items())

    @property
    def density(self) -> float | None:
        """It differs from input to input."""
        return None

    def batch(self, rows: Array | slice) -> Any:
        """The samples of ``rows``, a dense array an input."""
        return tuple(source.batch(rows) for source in self.all)

    def part(self, rows: slice) -> Sources:
        """A range of the samples."""
        return Sources({name: source.part(rows) for name, source in self.named.items()})


def sources_of(source: Source) -> tuple[Source, ...]:
    """One source an input."""
    return source.all if isinstance(source, Sources) else (source,)


class Batch(NamedTuple):
    """One batch; targets and weights are None where there are none. Tuples where there are several of a kind."""

    x: Any
    y: Any
    sample_weight: Any
    rows: int


@dataclass(frozen=True)
class DataSet:
    """Samples, targets and weights of equal length; ``y`` keeps its dtype until it becomes part of a batch.

    Targets, their dtypes and weights are tuples where a model has several outputs. An epoch leaves ``left_out`` samples
    out; which ones is for its order to say. Weights become of ``weight_dtype``, or of the samples' dtype.
    """

    x: Source
    y: Any = None
    sample_weight: Any = None
    y_dtype: Any = None
    left_out: int = 0
    weight_dtype: Any = None

    @property
    def rows(self) -> int:
        """Number of samples."""
        return self.x.rows

    @property
    def weights_in(self) -> Any:
        """The dtype that weights have in batches."""
        return self.weight_dtype or self.x.dtype

    def steps(self, batch_size: int) -> int:
        """Number of an epoch's batches, a short last one included."""
        return -(-(self.rows - self.left_out) // batch_size)

    def batches(self, batch_size: int, order: Array | None = None) -> Iterator[Batch]:
        """All batches, in ``order`` if given, else as they come."""
        rows = self.rows - self.left_out
        for start in range(0, rows, batch_size):
            span = slice(start, min(start + batch_size, rows))
            yield self.batch(span if order is None else order[span], span.stop - span.start)

    def batch(self, rows: Array | slice, count: int) -> Batch:
        """The batch of ``count`` samples that ``rows`` selects."""
        return Batch(self.x.batch(rows), *self.labels(rows), count)

    def labels(self, rows: Array | slice) -> tuple[Any, Any]:
        """Targets and weights of the samples that ``rows`` selects; None where there are none."""

        def selected(array: Array | None, dtype: Any) -> Array | None:
            return None if array is None else np.ascontiguousarray(array[rows], dtype)

        weight = mapped(partial(selected, dtype=self.weights_in), self.sample_weight)
        return mapped(selected, self.y, self.y_dtype), weight

    def rest(self, done: int) -> DataSet:
        """The samples of an epoch of which so many are done."""
        return replace(self, left_out=done)

    def split(self, row: int) -> tuple[DataSet, DataSet]:
        """The samples before ``row``, and those from it on."""
        return self.part(slice(0, row)), self.part(slice(row, self.rows))

    def part(self, rows: slice) -> DataSet:
        """A range of the samples."""
        y, weight = (mapped(lambda a: None if a is None else a[rows], kind) for kind in (self.y, self.sample_weight))
        return DataSet(self.x.part(rows), y, weight, self.y_dtype, weight_dtype=self.weight_dtype)


def numeric_array(name: str, value: Any) -> Array:
    """``value`` as an array of numbers; TypeError for anything that is none, ValueError for ragged lists."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: got a masked array, wants a plain array (masked.filled(...) makes one)")
    if is_sparse(value):
        raise TypeError(f"{name}: got a sparse {type(value).__name__}, wants a dense array")
    try:
        array = np.asarray(adopted(name, value))
    except ValueError:
        raise ValueError(f"{name}: got rows of different lengths, wants a rectangular array of numbers") from None
    if array.dtype.kind not in "fiub":
        got = checks.describe(array if array.ndim else value)
        raise TypeError(f"{name}: got {got}, wants an array of numbers (float, int, uint or bool)")
    if array.ndim == 0:
        raise ValueError(f"{name}: got the single number {array}, wants an array with one row a sample")
    return array


def check_finite(name: str, array: Array, dtype: np.dtype[Any]) -> None:
    """Raise unless every number of ``array`` is finite as ``dtype``; the message names the first row that is not."""
    if array.dtype.kind != "f" or array.size == 0:
        return
    array = np.atleast_1d(array)
    limit = np.finfo(dtype).max
    step = max(1, _CHUNK // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        chunk = array[start : start + step]
        # NaN makes both comparisons false; two reductions read the cache, an isfinite mask would write memory
        if not (chunk.min(initial=0) >= -limit and chunk.max(initial=0) <= limit):
            flat = chunk.reshape(len(chunk), -1)
            good = (np.abs(flat) <= limit).all(axis=1)
            row = int(np.argmin(good))
            bad = flat[row][~(np.abs(flat[row]) <= limit)][0]
            raise ValueError(
                f"{name}: got {bad} in row {start + row}, wants finite numbers within the range of {dtype}"
            )


def along(weight: Array, shape: Shape) -> Array:
    """Weights of the first axes of ``shape`` with an axis of length 1 for each of the others."""
    return weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim))


def is_sparse(value: Any) -> bool:
    """Whether ``value`` is a scipy.sparse matrix or array, found out without importing SciPy."""
    return hasattr(value, "tocsr") and hasattr(value, "nnz")


def input_source(name: str, value: Any, dtype: np.dtype[Any]) -> Source:
    """The source for ``value``: a numeric array or nested list, or a scipy.sparse matrix; all numbers are checked."""
    if is_sparse(value):
        return _sparse_source(name, value, dtype)
    if callable(getattr(value, "__next__", None)) or isinstance(value, (dict, str, bytes, set)):
        raise TypeError(f"{name}: got {checks.describe(value)}, wants an array of numbers or a scipy.sparse matrix")
    array = numeric_array(name, value)
    counts = _counts(array, dtype)
    if counts is None or (counts < 0).any():
        check_finite(name, array, dtype)
    return DenseSource(array, dtype, counts)


def index_source(name: str, value: Any, count: int, layer: str) -> DenseSource:
    """The source for ``value``, integers in [0, count), as a layer of that name wants: they stay integers.

    Whole floating-point numbers are taken as well. ValueError for numbers that are not whole, or out of range.
    """
    if is_sparse(value) or callable(getattr(value, "__next__", None)) or isinstance(value, (dict, str, bytes, set)):
        raise TypeError(
            f"{name}: got {checks.describe(value)}, wants an array of integers, as the layer {layer!r} does"
        )
    array = numeric_array(name, value)
    wants = f"wants integers in [0, {count}), the input_dim of the layer {layer!r}"
    if array.dtype.kind == "f" and array.size:
        whole = array == np.floor(array)
        if not whole.all():
            raise ValueError(f"{name}: got {array[~whole][0]}, {wants}")
    if array.size and (array.min() < 0 or array.max() >= count):
        wrong = array[(array < 0) | (array >= count)][0]
        raise ValueError(f"{name}: got the index {wrong}, {wants}")
    # bytes and flags are what pixels are, which become floating-point numbers on the way
    kept = array.astype(np.int64) if array.dtype in (np.uint8, np.bool_) else array
    return DenseSource(kept, np.dtype(np.int64))


def _counts(array: Array, dtype: np.dtype[Any]) -> Array | None:
    """The non-zeros of every row of a large array in the model's dtype, -1 in rows that are not finite; else None."""
    if array.dtype != dtype or array.nbytes < _SCAN_FROM or not (array.flags.c_contiguous and array.flags.aligned):
        return None
    if not backends.state("cpu").available:
        return None
    from fastnn.kernels.cpu import sparse

    counts: Array = sparse.scan(array.reshape(len(array), -1), float(np.finfo(dtype).max))
    return counts


def _sparse_source(name: str, value: Any, dtype: np.dtype[Any]) -> SparseSource:
    try:
        matrix = _own_view(value.tocsr())
    except ValueError as error:
        raise ValueError(f"{name}: got a malformed CSR matrix ({error}), wants a valid one") from None
    if matrix.ndim != 2:
        raise ValueError(f"{name}: got a sparse array of shape {matrix.shape}, wants two dimensions")
    if matrix.dtype.kind not in "fiub":
        raise TypeError(f"{name}: got {checks.describe(matrix)}, wants an array of numbers (float, int, uint or bool)")
    try:
        matrix.check_format(full_check=True)
    except ValueError as error:
        raise ValueError(f"{name}: got a malformed CSR matrix ({error}), wants a valid one") from None
    stored = matrix.data
    limit = np.finfo(dtype).max
    if stored.dtype.kind == "f" and stored.size and not (stored.min() >= -limit and stored.max() <= limit):
        bad = int(np.argmin(np.abs(stored) <= limit))
        row = int(np.searchsorted(matrix.indptr, bad, side="right")) - 1
        raise ValueError(f"{name}: got {stored[bad]} in row {row}, wants finite numbers within the range of {dtype}")
    return SparseSource(matrix, dtype)


def _own_view(matrix: Any) -> Any:
    """A matrix of the same arrays: what SciPy notes of their order and trims of their ends stays off the user's."""
    if matrix.ndim != 2:
        return matrix
    parts = (np.asarray(matrix.data), np.asarray(matrix.indices), np.asarray(matrix.indptr))
    return type(matrix)(parts, shape=matrix.shape, copy=False)
