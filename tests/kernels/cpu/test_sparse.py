"""Sparse rows: scanning and compression, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.kernels.cpu import sparse

DTYPES = ["float32", "float64"]
SHAPES = [(1, 1), (5, 3), (64, 129), (3, 0), (0, 4), (17, 16), (300, 1000)]


def made(shape, dtype, density=0.3):
    rng = np.random.default_rng(sum(shape))
    return np.where(rng.random(shape) < density, rng.standard_normal(shape), 0).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_conversion_to_csr(shape, dtype):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    x = made(shape, dtype)
    x[-1:] = 0
    x[:1] = 1
    expected = scipy_sparse.csr_array(x)
    for counts in (None, np.count_nonzero(x, axis=1)):
        indptr, indices, values = sparse.to_csr(x, counts=counts)
        assert (indptr == expected.indptr).all()
        assert (indices == expected.indices).all()
        assert (values == expected.data).all()
        assert (indices.dtype, values.dtype) == (np.int32, np.dtype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
@pytest.mark.parametrize("chunk", [1, 300, 1 << 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_conversion_of_another_dtype_goes_piece_by_piece(monkeypatch, shape, chunk, dtype):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    monkeypatch.setattr(sparse, "_CHUNK", chunk)
    rng = np.random.default_rng(1)
    x = np.where(rng.random(shape) < 0.3, 10 + rng.standard_normal(shape), 0).astype(dtype)
    for given in (x, x[::-1, ::-1]):
        indptr, indices, values = sparse.to_csr(given, np.dtype("float64"))
        assert values.dtype == "float64"
        assert np.array_equal(scipy_sparse.csr_matrix((values, indices, indptr), shape=shape).toarray(), given)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_scan_counts_and_finds_what_is_not_finite(dtype, bad):
    x = made((40, 37), dtype)
    limit = 1e38
    for row, column in ((0, 0), (7, 15), (20, 16), (39, 36)):
        spoilt = x.copy()
        spoilt[row, column] = bad
        counts = sparse.scan(spoilt, limit)
        assert counts[row] == -1
        assert (np.delete(counts, row) == np.delete(np.count_nonzero(x, axis=1), row)).all()
    negative_zero = np.where(x == 0, -0.0, x).astype(dtype)
    assert (sparse.scan(negative_zero, limit) == np.count_nonzero(x, axis=1)).all()
