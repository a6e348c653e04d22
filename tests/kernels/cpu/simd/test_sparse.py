"""Products of sparse rows with a panel, couples of non-zeros, steps on touched rows, against NumPy in float64."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba import njit

from fastnn.kernels.cpu.compiler import machine
from fastnn.kernels.cpu.simd import library, optim, sparse
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.sparse import to_csr
from fastnn.kernels.formulas import steps

DTYPES = ["float32", "float64"]


def made(shape, dtype, density=0.3):
    rng = np.random.default_rng(sum(shape))
    return np.where(rng.random(shape) < density, rng.standard_normal(shape), 0).astype(dtype)


def loaded(dtype):
    numba_dtype = {"float32": numba.float32, "float64": numba.float64}[dtype]
    library.load(numba_dtype)
    return sparse.SPARSE_TILES * machine.tile(np.dtype(dtype).itemsize).NR


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_sparse_rows_against_dense(dtype, blocks):
    width = loaded(dtype)
    n, k = 23, 61
    x, panel = made((n, k), dtype), made((k, width), dtype, 1.0)
    indptr, indices, values = to_csr(x)
    cuts = np.array([q * k // blocks for q in range(blocks + 1)])
    bounds = np.array(
        [[indptr[r] + np.searchsorted(indices[indptr[r] : indptr[r + 1]], cut) for cut in cuts] for r in range(n)]
    )
    guard = np.dtype(dtype).type(7)
    y = np.full((n, width + 1), guard)

    @njit
    def run(bounds, indices, values, panel, y):
        for q in range(blocks):
            sparse.sparse_rows(
                n, address(bounds, q), blocks + 1, address(indices, 0), address(values, 0), address(panel, 0),
                address(y, 0), y.shape[1], q,
            )  # fmt: skip

    run(bounds, indices, values, panel, y)
    exact = x.astype(np.float64) @ panel.astype(np.float64)
    bound = 4 * np.finfo(dtype).eps * (abs(x).astype(np.float64) @ abs(panel).astype(np.float64))
    assert (abs(y[:, :width] - exact) <= bound).all()
    assert (y[:, width] == guard).all()


def coupled_csr(x):
    """What ``couple_row`` makes of the rows of x, by NumPy: (indptr, even indices, values of both)."""
    pairs = x.reshape(len(x), -1, 2)
    some = pairs.any(axis=2)
    row, place = np.nonzero(some)
    indptr = np.concatenate(([0], np.cumsum(some.sum(axis=1)))).astype(np.int64)
    return indptr, (2 * place).astype(np.int32), pairs[row, place]


@njit
def couple_row(indices, values, evens, couples):
    count = indices.size
    return sparse.couple_row(
        count, address(indices, 0), address(values, 0), address(evens, 0), address(couples, 0)
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [2, 14, 16, 32, 34, 150])
@pytest.mark.parametrize("density", [0.0, 0.3, 0.7, 1.0])
def test_couples_of_a_row(dtype, k, density):
    loaded(dtype)
    x = made((1, k), dtype, density)
    _, indices, values = to_csr(x)
    _, wanted_evens, wanted_couples = coupled_csr(x)
    guard = 7
    evens, couples = np.full(k + 1, guard, np.int32), np.full((k + 1, 2), guard, dtype)

    found = couple_row(indices, values, evens, couples)
    assert found == len(wanted_evens)
    assert (evens[:found] == wanted_evens).all()
    assert (couples[:found] == wanted_couples).all()
    assert (evens[found:] == guard).all()
    assert (couples[found:] == guard).all()


@njit
def sparse_update(code, coupled, low, high, every_row, begins, ends, samples, values, dz, decay, w, slots, hyper, l2):
    return sparse.sparse_update(
        code, coupled, low, high, every_row, address(begins, 0), address(ends, 0), address(samples, 0),
        address(values, 0), address(dz, 0), dz.shape[1], address(decay, 0), address(w, 0), address(slots, 0), 0,
        address(hyper, 0), l2,
    )  # fmt: skip


@njit
def update_row(code, w, g, slots, start, hyper):
    optim.update_row(code, w.size, address(w, 0), address(g, 0), address(slots, 0), start, address(hyper, 0))


def addresses(held):
    """Of the states, which lie behind the weights."""
    return np.array([array.__array_interface__["data"][0] for array in held[1:]], np.int64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("every_row", [0, 1])
@pytest.mark.parametrize("coupled", [0, 1])
@pytest.mark.parametrize("l2", [0, 0.25])
@pytest.mark.parametrize("name", [name for name, step in steps.STEPS.items() if step.direct])
def test_sparse_update_is_the_step_on_the_dense_gradient(dtype, every_row, coupled, l2, name):
    width = loaded(dtype)
    samples, k, step = 19, 32, steps.STEPS[name]
    x, dz = made((samples, k), dtype, 0.1), made((samples, width), dtype, 1.0)
    x[:, 4:6] = 0
    if coupled:
        pairs = np.ascontiguousarray(x.reshape(samples, -1, 2).swapaxes(0, 1).reshape(k // 2, -1))
        indptr, places, values = coupled_csr(pairs)
        by_feature = indptr, places // 2, values
        bounds = np.repeat(indptr[:-1], 2), np.repeat(indptr[1:], 2)
    else:
        by_feature = to_csr(np.ascontiguousarray(x.T))
        bounds = by_feature[0][:-1], by_feature[0][1:]
    begins, ends = (bound.astype(np.int32) for bound in bounds)
    rng = np.random.default_rng(3)
    held = [rng.random((k, width)).astype(dtype) for _ in range(1 + len(step.states))]
    if step.states:
        held[1] += 10  # a mean square stays above the squared mean
    after = [array.copy() for array in held]
    decay = (0.5 + rng.random(k) / 2).astype(dtype)
    hyper = np.array([0.01, 0.9, 1e-4, 0.5], dtype)
    low, high = 2, k - 2
    code = steps.STEP_CODES[name]

    entries = begins, ends, *by_feature[1:], dz, decay
    penalty = sparse_update(
        code, coupled, low, high, every_row, *entries, after[0], addresses(after), hyper, np.dtype(dtype).type(l2)
    )
    gradient = (x.T.astype(np.float64) @ dz.astype(np.float64) + 2 * l2 * held[0]).astype(dtype)
    expected = [array.copy() for array in held]
    touched = np.zeros(k, bool)
    touched[low:high] = True
    if not every_row:
        touched &= ends > begins
    squares = np.square(held[0][touched], dtype=np.float64).sum()
    np.testing.assert_allclose(penalty, l2 * squares, rtol=1e3 * np.finfo(dtype).eps)
    if step.states:
        expected[1][touched] *= decay[touched, None]
    for f in np.flatnonzero(touched):
        update_row(code, expected[0][f], gradient[f], addresses(expected), f * width, hyper)
    for got, wanted, before in zip(after, expected, held, strict=True):
        assert np.allclose(got, wanted, rtol=0, atol=200 * np.finfo(dtype).eps)
        assert (got[~touched] == before[~touched]).all()
