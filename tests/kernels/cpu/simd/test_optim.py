"""Steps of tiles of weights: those of their rows, one after the other, and nothing beside them."""

from __future__ import annotations

import numpy as np
import pytest
from numba import from_dtype, njit

from fastnn.kernels.cpu.simd import library, optim
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS


@njit
def update_tile(code, rows, columns, w, stride, dw, slots, start, hyper):
    optim.update_tile(
        code, rows, columns, address(w, start), stride, address(dw, 0), dw.shape[1], address(slots, 0), start,
        address(hyper, 0),
    )  # fmt: skip


@njit
def update_row(code, count, w, dw, slots, start, hyper):
    optim.update_row(code, count, address(w, start), address(dw, 0), address(slots, 0), start, address(hyper, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [1, 15, 16, 33])
@pytest.mark.parametrize("name", STEPS)
def test_a_tile_is_stepped_row_by_row(name, columns, dtype):
    library.load(from_dtype(np.dtype(dtype)))
    rng, code, rows, stride, start = np.random.default_rng(0), STEP_CODES[name], 5, 40, 83
    held = [rng.uniform(1.0, 2.0, 400).astype(dtype) for _ in range(1 + len(STEPS[name].states))]
    gradient, hyper = rng.standard_normal((rows, 34)).astype(dtype), rng.uniform(0.01, 0.1, 8).astype(dtype)
    expected, before = [array.copy() for array in held], [array.copy() for array in held]
    for r in range(rows):
        slots = np.array([array.ctypes.data for array in expected[1:]] or [0], np.int64)
        update_row(code, columns, expected[0], gradient[r], slots, start + r * stride, hyper)
    slots = np.array([array.ctypes.data for array in held[1:]] or [0], np.int64)
    update_tile(code, rows, columns, held[0], stride, gradient, slots, start, hyper)
    inside = np.zeros(400, bool)
    inside[start : start + rows * stride].reshape(rows, stride)[:, :columns] = True
    for one, other, old in zip(held, expected, before, strict=True):
        assert np.array_equal(one, other, equal_nan=True)
        assert np.array_equal(one[~inside], old[~inside])
    assert not np.array_equal(held[0], before[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STEPS)
def test_what_shrinks_becomes_zero_and_never_denormal(name, dtype):
    """States just above the smallest normal number, of both signs, and no gradient."""
    library.load(from_dtype(np.dtype(dtype)))
    smallest = np.finfo(dtype).smallest_normal
    above, signs = np.nextafter(smallest, np.inf, dtype=dtype), np.where(np.arange(34) % 2, -1, 1).astype(dtype)
    w, zeros, states = np.zeros(34, dtype), np.zeros(34, dtype), [above * signs for _ in STEPS[name].states]
    slots, hyper = np.array([array.ctypes.data for array in states] or [0], np.int64), np.full(8, 0.5, dtype)
    update_row(STEP_CODES[name], 34, w, zeros, slots, 0, hyper)
    assert all(((state == 0) | (np.abs(state) >= smallest)).all() for state in states)
