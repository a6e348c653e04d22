"""Data as the CPU kernel of an epoch takes them, and what their zeros make worth doing.

The kernel reads arrays of the model's dtype and bytes where they lie, whoever may write to them. Others are converted
at once; but what is mapped from a file may be larger than memory: that is converted for a few batches at a time.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.engine.data import DataSet, DenseSource, Source, SparseSource, sources_of
from fastnn.engine.form import Preparation, form_of
from fastnn.engine.protocols import Array, Loss, Network
from fastnn.engine.wiring import each

# Share of non-zero inputs below which the sparse first layer is used. For 784-512-10, RMSprop, batch 128, two threads
# of a Zen 5, made data, 100 batches took, sparse against dense: 41 and 48 ms at 36%, 45 and 47 at 40%, 49 and 47 at
# 44%, 54 and 46 at 48%. In bfloat16 an epoch of MNIST (19%) took 117 ms sparse and 169 dense.
SPARSE_BELOW = 0.4
SPARSE_BELOW_BFLOAT16 = 0.25

# Non-zeros of a sample by pairs of neighbouring features that have any: from here on the two share their entries. For
# 784-512-10, RMSprop, batch 128, two threads of a Zen 5, made data with 150 non-zeros a sample, an epoch took 0.95 of
# the time of one without at 1.71, 0.97 at 1.6, 0.99 at 1.45, 1.02 at 1.3, 1.07 at 1.15. MNIST has 1.71.
COUPLED_FROM = 1.5

# Rows from which the density of a dense array is estimated before it is counted, and those of a piece of sparse data
# whose features are counted; such pieces.
_SAMPLE = 256
_PIECES = 16

# Bytes up to which data that are mapped from a file are copied all the same, converted or as their non-zeros, and any
# data for steps that are recorded; and those of the samples and targets that are converted at a time beyond that, in
# the model's dtype.
COPIED_UP_TO = 1 << 28
AT_A_TIME = 1 << 24


def _dense(source: Source) -> Array:
    """The array of a dense source."""
    if not isinstance(source, DenseSource):
        raise TypeError(f"x: got {type(source).__name__}, wants a dense or CSR source")
    array = source.array
    return array.view(np.uint8) if array.dtype == np.bool_ else array


def density(source: Source) -> float:
    """Share of non-zeros; of a dense array from evenly spaced samples."""
    if source.density is not None:
        return source.density
    array = _dense(source)
    sample = array[:: max(1, len(array) // _SAMPLE)]
    return float(np.count_nonzero(sample) / max(1, sample.size))


def is_worth_skipping(source: Source, network: Network) -> bool:
    """Whether skipping the zeros of this input saves time; it cannot be where some of the inputs are dropped."""
    below = SPARSE_BELOW_BFLOAT16 if network.products == "bfloat16" else SPARSE_BELOW
    return form_of(network).skips_zeros and density(source) < below


def is_sparse(source: Source, network: Network) -> bool:
    """Whether the first layer skips the zeros of this input: its non-zeros, with their indices, may take the memory."""
    if isinstance(source, SparseSource) or not is_worth_skipping(source, network):
        return is_worth_skipping(source, network)
    array = _dense(source)
    return not is_too_large(array, density(source) * array.size * (source.dtype.itemsize + 4))


def is_too_large(array: Array, size: float) -> bool:
    """Whether a copy of so many bytes would take the memory that a mapped file spares."""
    return size > COPIED_UP_TO and _is_mapped(array)


def _is_mapped(array: Any) -> bool:
    """Whether an array's numbers lie in a file."""
    while isinstance(array, (np.ndarray, memoryview)):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return isinstance(array, mmap.mmap)


def _in_place(array: Array, *dtypes: Any) -> bool:
    """Whether the kernel reads these rows where they lie."""
    return array.dtype in dtypes and array.flags.c_contiguous and array.flags.aligned


def _rows(array: Array, dtype: Any) -> Array:
    """The array as contiguous rows of ``dtype``, itself where it is so."""
    return np.require(array, dtype, ["C", "A"]).reshape(len(array), math.prod(array.shape[1:]))


def inputs_of(source: Source, dtype: Any, preparation: Preparation, sparse: bool) -> Any:
    """The samples as the kernel's ``Inputs``, of the kind whose zeros are skipped if ``sparse``."""
    from fastnn.kernels.cpu import records

    empty = records.blank(records.Inputs, dtype)._replace(
        kind=records.DENSE, scale=dtype.type(preparation.scale), offset=dtype.type(preparation.offset)
    )
    if sparse or isinstance(source, SparseSource):
        indptr, indices, values = _csr(source, dtype, preparation.scale if sparse else 1.0)
        kind = records.SPARSE if sparse else records.EXPANDED
        return records.frozen(empty._replace(kind=kind, indptr=indptr, indices=indices, values=values))
    array = _dense(source)
    if array.dtype == np.uint8:
        return records.frozen(empty._replace(kind=records.BYTES, bytes=_rows(array, np.uint8)))
    return records.frozen(empty._replace(dense=_rows(array, dtype)))


def parts(source: Source, dtype: Any, sparse: bool) -> Iterator[slice]:
    """The samples that are converted at a time where outputs are asked for; all of them where none are."""
    kept = isinstance(source, SparseSource) or (not sparse and _in_place(_dense(source), dtype, np.uint8))
    rows = source.rows if kept else max(1, AT_A_TIME // max(1, math.prod(source.sample_shape) * dtype.itemsize))
    for first in range(0, source.rows, rows):
        yield slice(first, min(first + rows, source.rows))


def _csr(source: Source, dtype: Any, scale: float) -> tuple[Array, Array, Array]:
    """(indptr, indices, values times ``scale``), indices rising in every row."""
    from fastnn.kernels.cpu import sparse

    factor = dtype.type(scale)
    if not isinstance(source, SparseSource):
        counts = source.counts if isinstance(source, DenseSource) else None
        indptr, indices, values = sparse.to_csr(_dense(source), dtype, counts)
        return indptr, indices, np.multiply(values, factor, out=values)
    indptr, indices, values = csr_of(source, np.int64)
    return indptr, indices, values if scale == 1 else values * factor


def csr_of(source: SparseSource, bounds: Any) -> tuple[Array, Array, Array]:
    """(indptr as integers ``bounds``, indices, values in the model's dtype), indices rising in every row."""
    matrix = source.matrix
    if not matrix.has_canonical_format:
        matrix = matrix.sorted_indices()  # a copy: the user's matrix stays as it is
        matrix.sum_duplicates()
    wanted = (matrix.indptr, bounds), (matrix.indices, np.int32), (matrix.data, source.dtype)
    indptr, indices, values = (np.require(array, kind, ["C", "A"]) for array, kind in wanted)
    return indptr, indices, values


def targets_of(data: DataSet, loss: Loss, dtype: Any) -> Any:
    """Targets and weights as the kernel's ``Targets``; 0 stands for a class to be ignored, whose weight is 0."""
    from fastnn.kernels.cpu import records

    labels, goals = np.empty(0, np.int64), np.empty((0, 0), dtype)
    rows, y = goals, np.asarray(data.y)
    if data.y_dtype == np.int64:
        labels = _rows(y, np.int64).reshape(-1)
        if loss.ignore_class is not None:
            labels = np.where(labels == loss.ignore_class, 0, labels)
    else:
        rows = _rows(y, dtype)
        goals = loss.smoothed(rows)
    weights = np.empty(0, dtype) if data.sample_weight is None else np.require(data.sample_weight, dtype, ["C", "A"])
    return records.frozen(records.Targets(labels, rows, goals, weights))


class Feed:
    """What the kernel reads of a fit's data: all of it at every call, or the samples of a few batches.

    ``inputs`` and ``targets`` are those of the whole data, or of no sample where these are converted piece by piece.
    """

    def __init__(self, data: DataSet, loss: Loss, dtype: Any, preparation: Preparation, sparse: bool) -> None:
        self._data, self._loss, self._dtype, self._preparation = data, loss, dtype, preparation
        self._pieces = not sparse and _exceeds(data, loss, dtype)
        held = data.part(slice(0, 0)) if self._pieces else data
        self._weights = np.zeros(held.rows, dtype)  # where a class is ignored, those of the batches of a call
        if loss.ignore_class is not None:
            held = replace(held, sample_weight=self._weights)
        self.inputs, self.targets = inputs_of(held.x, dtype, preparation, sparse), targets_of(held, loss, dtype)

    def steps(self, batch_size: int) -> int:
        """Batches that a call may have."""
        if not self._pieces:
            return self._data.steps(batch_size)
        numbers = math.prod(self._data.x.sample_shape) + math.prod(np.asarray(self._data.y).shape[1:])
        return max(1, AT_A_TIME // int(numbers * self._dtype.itemsize * batch_size))

    def take(self, order: Array, batch_size: int) -> tuple[Any, Any, Array]:
        """(inputs, targets, places of the samples ``order`` in them), to be trained on in batches of so many."""
        if not self._pieces:
            if self._loss.ignore_class is not None:
                self._weights[order] = self._counting(*self._data.labels(order), batch_size)
            return self.inputs, self.targets, order
        batch = self._data.batch(order, order.size)
        x = DenseSource(batch.x, self._dtype)
        weight = self._counting(batch.y, batch.sample_weight, batch_size)
        piece = replace(self._data, x=x, y=batch.y, sample_weight=weight)
        inputs = inputs_of(x, self._dtype, self._preparation, sparse=False)
        return inputs, targets_of(piece, self._loss, self._dtype), np.arange(order.size)

    def _counting(self, y: Array | None, weight: Array | None, batch_size: int) -> Array | None:
        """The weights of samples, with those at 0 that the loss ignores; None where all count alike."""
        share = None if y is None else self._loss.shares(y.reshape(-1), batch_size, self._dtype)
        return weight if share is None else share if weight is None else share * weight


def arrays_of(data: DataSet) -> list[Array] | None:
    """Inputs, targets and weights of all samples, what there is of them, in the dtypes that batches have.

    Where they lie, or copies; None for sparse inputs, and where copies would take too much memory.
    """
    sources = [source for source in sources_of(data.x) if isinstance(source, DenseSource)]
    if len(sources) < len(sources_of(data.x)):
        return None
    wanted = [(source.array, source.dtype) for source in sources]
    wanted += zip(each(data.y), each(data.y_dtype), strict=True)
    wanted += [(weight, data.weights_in) for weight in each(data.sample_weight)]
    held = [(a, a.dtype if kind is None else np.dtype(kind)) for a, kind in wanted if a is not None]
    copied = sum(array.size * kind.itemsize for array, kind in held if not _in_place(array, kind))
    return None if copied > COPIED_UP_TO else [np.require(array, kind, ["C", "A"]) for array, kind in held]


def _exceeds(data: DataSet, loss: Loss, dtype: Any) -> bool:
    """Whether samples or targets are mapped from a file, the kernel cannot read them there, and a copy is too large."""
    copies = []
    if isinstance(data.x, DenseSource) and not _in_place(_dense(data.x), dtype, np.uint8):
        copies.append(data.x.array)
    y = np.asarray(data.y)
    first = y[:1]
    if data.y_dtype != np.int64 and not (_in_place(y, dtype) and loss.smoothed(first) is first):
        copies.append(y)
    return any(is_too_large(array, array.size * dtype.itemsize) for array in copies)


def _pieces(inputs: Any) -> tuple[list[Array], int]:
    """The features of the non-zeros of evenly spaced pieces of sparse inputs, and the number of their rows."""
    rows = inputs.indptr.size - 1
    starts = np.linspace(0, max(0, rows - _SAMPLE), min(_PIECES, -(-rows // _SAMPLE))).astype(np.int64)
    spans = [(start, min(start + _SAMPLE, rows)) for start in starts]
    found = [inputs.indices[inputs.indptr[first] : inputs.indptr[last]] for first, last in spans]
    return found, sum(last - first for first, last in spans)


def most_entries(inputs: Any, batch_size: int) -> int:
    """Most non-zeros that a batch can have."""
    if not inputs.indptr.size:
        return 0
    per_row = int(np.diff(inputs.indptr).max(initial=0))
    return min(batch_size * per_row, int(inputs.values.size))


def mean_entries(inputs: Any) -> float:
    """Non-zeros of a sample, on average; 0 for dense inputs."""
    mean: float = inputs.values.size / max(1, inputs.indptr.size - 1)
    return mean


def frequencies(inputs: Any, features: int) -> Array:
    """Share of the samples in which each feature is not zero, from pieces of the data; ones for dense inputs."""
    if inputs.indptr.size < 2:
        return np.ones(features)
    found, rows = _pieces(inputs)
    shares: Array = np.bincount(np.concatenate(found), minlength=features) / rows
    return shares


def by_pairs(inputs: Any) -> float:
    """Non-zeros of a sample by pairs of neighbouring features, the first one even, that have any; from pieces."""
    found, _ = _pieces(inputs)
    pairs = sum(int(np.count_nonzero(np.diff(places >> 1, prepend=-1))) for places in found)
    return float(sum(places.size for places in found)) / max(1, pairs)
