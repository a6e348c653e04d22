"""Sparse rows: what a dense array holds beside zeros, and its rows in compressed form (CSR)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange, types

from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.simd import address, compress_row, scan_row

# What reading one number costs on one core, roughly: memory bandwidth.
_NS_PER_BYTE = 0.05


def _scan_signature(dtype: Any) -> Any:
    return types.void(matrix(dtype, readonly=True), dtype, flat(types.int64), types.int64)


@kernel(_scan_signature)
def _scan(MR: int, NR: int, parallel: bool, SOURCE: int) -> Any:
    def scan(x, limit, counts, tasks):
        _ = (SOURCE, parallel)
        n, k = x.shape
        for t in prange(tasks):
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
    return types.void(matrix(dtype, readonly=True), flat(types.int64), flat(types.int32), flat(dtype), types.int64)


@kernel(_compress_signature)
def _compress(MR: int, NR: int, parallel: bool, SOURCE: int) -> Any:
    def compress(x, indptr, indices, values, tasks):
        _ = (SOURCE, parallel)
        n, k = x.shape
        for t in prange(tasks):
            for i in range(t * n // tasks, (t + 1) * n // tasks):
                at = indptr[i]
                compress_row(k, address(x, i * k), address(indices, at), address(values, at))

    return compress


def to_csr(x: Any, counts: Any = None) -> tuple[Any, Any, Any]:
    """(indptr, indices, values) of the non-zeros of a contiguous array (n, k) of float32 or float64.

    ``counts`` are the rows' numbers of non-zeros, where they are known.
    """
    indptr = np.zeros(x.shape[0] + 1, np.int64)
    np.cumsum(scan(x, np.inf) if counts is None else counts, out=indptr[1:])
    indices, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], x.dtype)
    _compress(x.dtype, _NS_PER_BYTE * x.nbytes, x, indptr, indices, values)
    return indptr, indices, values
