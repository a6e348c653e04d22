"""Sparse rows: what a dense array holds beside zeros, and its rows in compressed form (CSR)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.sparse import compress_row, scan_row

# What reading one number costs on one core, roughly: memory bandwidth.
_NS_PER_BYTE = 0.05


def _scan_signature(dtype: Any) -> Any:
    return types.void(matrix(dtype, readonly=True), dtype, flat(types.int64))


@kernel(_scan_signature)
def _scan(MR: int, NR: int) -> Any:
    def scan(x, limit, counts, words, t, tasks):
        n, k = x.shape
        for i in range(t * n // tasks, (t + 1) * n // tasks):
            counts[i] = scan_row(k, address(x, i * k), limit)

    return scan


def scan(x: Any, limit: float) -> Any:
    """Number of non-zeros in each row of a contiguous array (n, k) of float32 or float64: (n,).

    -1 for a row that holds NaN or a number whose magnitude exceeds ``limit``.
    """
    counts = np.empty(x.shape[0], np.int64)
    _scan(x.dtype, _NS_PER_BYTE * x.nbytes, x, x.dtype.type(limit), counts)
    return counts


def _compress_signature(dtype: Any) -> Any:
    return types.void(matrix(dtype, readonly=True), flat(types.int64, readonly=True), flat(types.int32), flat(dtype))


@kernel(_compress_signature)
def _compress(MR: int, NR: int) -> Any:
    def compress(x, indptr, indices, values, words, t, tasks):
        n, k = x.shape
        for i in range(t * n // tasks, (t + 1) * n // tasks):
            at = indptr[i]
            compress_row(k, address(x, i * k), address(indices, at), address(values, at))

    return compress


# Numbers that are converted at a time on the way to CSR: they stay in L2.
_CHUNK = 1 << 17


def to_csr(x: Any, dtype: Any = None, counts: Any = None) -> tuple[Any, Any, Any]:
    """(indptr, indices, values) of the non-zeros of an array (n, ...) of finite numbers, values as ``dtype``.

    ``dtype`` is float32 or float64. Numbers of another one, or behind other strides, are converted a few rows at a
    time: the whole array is never held as ``dtype``. ``counts`` are the rows' numbers of non-zeros, where known.
    """
    kind, k = np.dtype(dtype or x.dtype), math.prod(x.shape[1:])
    as_is = x.dtype == kind and x.flags.c_contiguous and x.flags.aligned
    step = max(1, len(x) if as_is else _CHUNK // max(1, k))
    parts = [slice(i, min(i + step, len(x))) for i in range(0, len(x), step)]
    indptr = np.zeros(len(x) + 1, np.int64)
    for part in parts:
        known = None if counts is None else counts[part]
        indptr[1:][part] = scan(_rows(x[part], kind, k), np.inf) if known is None else known
    np.cumsum(indptr, out=indptr)
    indices, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], kind)
    for part in parts:
        numbers = _rows(x[part], kind, k)
        nanoseconds = _NS_PER_BYTE * numbers.nbytes
        _compress(kind, nanoseconds, numbers, indptr[part.start : part.stop + 1], indices, values)
    return indptr, indices, values


def _rows(x: Any, kind: Any, k: int) -> Any:
    return np.require(x, kind, ["C", "A"]).reshape(len(x), k)
