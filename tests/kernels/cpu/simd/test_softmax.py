"""Rows as wholes: the largest number's place, and the cross-entropy of a label."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit, types

from fastnn.kernels.cpu.simd import library, softmax
from fastnn.kernels.cpu.simd.kernel import address


@njit
def _argmax(x):
    return softmax.argmax_row(x.size, address(x, 0))


@njit
def _label(x, label, scale, dx):
    return softmax.label_row(x.size, address(x, 0), label, scale, address(dx, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 17, 33, 100])
def test_argmax_is_the_first_of_the_largest(dtype, count):
    library.load({"float32": types.float32, "float64": types.float64}[dtype])
    rng = np.random.default_rng(count)
    for _ in range(20):
        x = rng.integers(-3, 3, count).astype(dtype)
        assert _argmax(x) == np.argmax(x)
    assert _argmax(np.full(count, -np.inf, dtype)) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 10, 16, 17, 33, 100])
def test_cross_entropy_of_a_label(dtype, count):
    library.load({"float32": types.float32, "float64": types.float64}[dtype])
    rng = np.random.default_rng(count)
    for size in (0.0, 1.0, 50.0):
        x, label = (size * rng.standard_normal(count)).astype(dtype), int(rng.integers(count))
        dx = np.full(count, np.nan, dtype)
        loss = _label(x, label, np.dtype(dtype).type(0.25), dx)
        wide = x.astype(np.longdouble)
        wide -= wide.max()
        p = np.exp(wide) / np.exp(wide).sum()
        eps = np.finfo(dtype).eps
        assert abs(loss - (np.log(np.exp(wide).sum()) - wide[label])) <= 4 * eps * max(1, abs(x).max())
        p[label] -= 1
        assert (abs(dx - 0.25 * p) <= 8 * eps).all()
