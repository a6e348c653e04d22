"""bfloat16: rounding to pairs, and products of pairs against float64 on the rounded numbers."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit, types

from fastnn.kernels.cpu.compiler import machine
from fastnn.kernels.cpu.simd import library, tile
from fastnn.kernels.cpu.simd.kernel import address

pytestmark = pytest.mark.skipif(not machine.bfloat16_pairs(), reason="the targeted CPU lacks AVX512-BF16")


@pytest.fixture(scope="module", autouse=True)
def _loaded():
    library.load(types.float32)


def rounded(x):
    """x as the nearest bfloat16 numbers, ties to even: 16-bit integers."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widened(halves):
    """bfloat16 numbers as float64."""
    return (halves.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


@njit
def _columns(x, y):
    tile.pair_columns(x.size, address(x, 0), address(y, 0))


@njit
def _rows(x0, x1, y):
    both = np.stack((x0, x1))
    tile.pair_rows(1, x0.size, address(both, 0), x0.size, address(y, 0), x0.size)


@njit
def _product(rows, columns, depth, a, row_a, column_a, b, row_b, c, row_c, add):
    tile.gemm_tile_pairs(
        rows, columns, depth, address(a, 0), row_a, column_a, address(b, 0), row_b, address(c, 0), row_c, add
    )


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 32, 33, 64, 97])
def test_pairs_are_the_nearest_numbers(count):
    rng = np.random.default_rng(count)
    x, other = ((rng.standard_normal(count) * 10.0 ** rng.integers(-5, 5, count)).astype("float32") for _ in range(2))
    x[0] = np.float32(1) + np.float32(2.0**-8)  # halfway between two bfloat16 numbers
    guard = np.float32(3)
    y = np.full((count + 1) // 2 + 1, guard)
    _columns(x, y)
    padded = np.zeros(2 * ((count + 1) // 2), np.uint16)
    padded[:count] = rounded(x)
    assert (y[:-1].view(np.uint16) == padded).all()
    assert y[-1] == guard
    y = np.full(count + 1, guard)
    _rows(x, other, y)
    assert (y[:-1].view(np.uint16).reshape(count, 2) == np.stack([rounded(x), rounded(other)], 1)).all()
    assert y[-1] == guard


def test_products_of_pairs():
    shape = machine.tile(4)
    rng = np.random.default_rng(0)
    for n in range(1, shape.MR + 1):
        for m in (1, shape.VL - 1, shape.VL, shape.VL + 1, shape.NR):
            for k in (1, 2, 7, 40):
                a, b = (rng.standard_normal(size).astype("float32") for size in ((n, k), (k, m)))
                depth = (k + 1) // 2
                pairs_a, pairs_b = np.zeros((n, depth), "float32"), np.zeros((depth, shape.NR), "float32")
                for i in range(n):
                    _columns(a[i], pairs_a[i])
                for i in range(depth):
                    _rows(b[2 * i], b[2 * i + 1] if 2 * i + 1 < k else np.zeros(m, "float32"), pairs_b[i])
                c = np.full((n, m + 1), np.float32(9))
                exact_a, exact_b = widened(rounded(a)), widened(rounded(b))
                exact, scale = exact_a @ exact_b, abs(exact_a) @ abs(exact_b)
                _product(n, m, depth, pairs_a, depth, 1, pairs_b, shape.NR, c, m + 1, 0)
                assert (abs(c[:, :m] - exact) <= 2 * k * np.finfo("float32").eps * scale).all()
                _product(n, m, depth, pairs_a, depth, 1, pairs_b, shape.NR, c, m + 1, 1)
                assert (abs(c[:, :m] - 2 * exact) <= 4 * k * np.finfo("float32").eps * scale).all()
                assert (c[:, m] == 9).all()
