"""Data as the CPU kernel of an epoch takes them, and what their zeros make worth doing."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.engine.data import DataSet, DenseSource, Source, SparseSource
from fastnn.engine.form import Preparation, form_of
from fastnn.engine.protocols import Array, Loss, Network

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


def _dense(source: Source) -> Array:
    """The samples of a dense source as rows."""
    if not isinstance(source, DenseSource):
        raise TypeError(f"x: got {type(source).__name__}, wants a dense or CSR source")
    rows: Array = source.array.reshape(source.rows, -1)
    return rows


def density(source: Source) -> float:
    """Share of non-zeros; of a dense array from evenly spaced samples."""
    if source.density is not None:
        return source.density
    array = _dense(source)
    sample = array[:: max(1, len(array) // _SAMPLE)]
    return float(np.count_nonzero(sample) / max(1, sample.size))


def is_sparse(source: Source, network: Network) -> bool:
    """Whether the first layer skips the zeros of this input; it does not where some of the inputs are dropped."""
    below = SPARSE_BELOW_BFLOAT16 if network.products == "bfloat16" else SPARSE_BELOW
    return form_of(network).skips_zeros and density(source) < below


def inputs_of(source: Source, dtype: Any, preparation: Preparation, sparse: bool) -> Any:
    """The samples as the kernel's ``Inputs``, of the kind whose zeros are skipped if ``sparse``."""
    from fastnn.kernels.cpu import records

    empty = records.Inputs(
        kind=records.DENSE,
        dense=np.empty((0, 0), dtype),
        bytes=np.empty((0, 0), np.uint8),
        scale=dtype.type(preparation.scale),
        offset=dtype.type(preparation.offset),
        indptr=np.empty(0, np.int64),
        indices=np.empty(0, np.int32),
        values=np.empty(0, dtype),
    )
    if sparse or isinstance(source, SparseSource):
        indptr, indices, values = _csr(source, dtype)
        if sparse and preparation.scale != 1:
            values *= dtype.type(preparation.scale)
        kind = records.SPARSE if sparse else records.EXPANDED
        return empty._replace(kind=kind, indptr=indptr, indices=indices, values=values)
    array = _dense(source)
    if array.dtype == np.uint8:
        return empty._replace(kind=records.BYTES, bytes=own(array))
    return empty._replace(dense=own(np.ascontiguousarray(array, dtype)))


def _csr(source: Source, dtype: Any) -> tuple[Array, Array, Array]:
    """(indptr, indices, values), indices rising in every row."""
    from fastnn.kernels.cpu import sparse

    if not isinstance(source, SparseSource):
        counts = source.counts if isinstance(source, DenseSource) else None
        indptr, indices, values = sparse.to_csr(_dense(source), dtype, counts)
        return indptr, indices, values
    matrix = source.matrix.sorted_indices()  # a copy: the user's matrix stays as it is
    matrix.sum_duplicates()
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(dtype)


def own(array: Array) -> Array:
    """The array, contiguous and of a writable type, as the kernel's signature has it (nothing writes to it)."""
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else array.copy()


def targets_of(data: DataSet, loss: Loss, dtype: Any) -> Any:
    """Targets and weights as the kernel's ``Targets``."""
    from fastnn.kernels.cpu import records

    labels, goals = np.empty(0, np.int64), np.empty((0, 0), dtype)
    rows = goals
    if data.y_dtype == np.int64:
        labels = own(np.asarray(data.y, np.int64).reshape(-1))
    else:
        rows = own(np.asarray(data.y, dtype).reshape(data.rows, -1))
        goals = loss.smoothed(rows)
    weights = np.empty(0, dtype) if data.sample_weight is None else own(np.asarray(data.sample_weight, dtype))
    return records.Targets(labels, rows, goals, weights)


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
