"""Panels: what goes into them and comes back, by tasks of any number, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numba import from_dtype, njit

from fastnn.kernels.cpu.compiler.machine import tile
from fastnn.kernels.cpu.panels import pack_share, unpack_share
from fastnn.kernels.cpu.simd import library
from fastnn.kernels.cpu.simd.kernel import address

_GUARD = -7.0


@njit
def pack(tasks, k, m, width, matrix, panels):
    for t in range(tasks):
        pack_share(t, tasks, k, m, width, address(matrix, 0), address(panels, 0))


@njit
def unpack(tasks, k, m, width, panels, matrix):
    for t in range(tasks):
        unpack_share(t, tasks, k, m, width, address(panels, 0), address(matrix, 0))


@pytest.mark.parametrize("tasks", [1, 2, 3])
@pytest.mark.parametrize(("k", "m"), [(1, 1), (2, 31), (5, 32), (7, 33), (13, 130), (0, 5)])
@pytest.mark.parametrize("tiles", [1, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_into_panels_and_back(dtype, tiles, k, m, tasks):
    library.load(from_dtype(np.dtype(dtype)))
    width = tiles * tile(np.dtype(dtype).itemsize).NR
    count = -(-m // width)
    matrix = np.random.default_rng(k + m).standard_normal((k, m)).astype(dtype)
    panels, back = np.full(count * k * width + 1, _GUARD, dtype), np.full(k * m + 1, _GUARD, dtype)
    pack(tasks, k, m, width, matrix.ravel(), panels)
    padded = np.pad(matrix, ((0, 0), (0, count * width - m)))
    assert np.array_equal(panels[:-1].reshape(count, k, width), padded.reshape(k, count, width).transpose(1, 0, 2))
    unpack(tasks, k, m, width, panels, back)
    assert np.array_equal(back[:-1].reshape(k, m), matrix)
    assert panels[-1] == back[-1] == _GUARD
