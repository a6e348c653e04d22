"""Sine and cosine: the parts of pi / 2 and the bits of 2 / pi. Their errors are measured in tests/ci/test_ulp.py."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numba import types

from fastnn import ops
from fastnn.kernels.cpu.simd import trigonometry

# The first 50 digits after the point.
DIGITS = "14159265358979323846264338327950288419716939937510"


def test_pi():
    for bits in (64, 166):
        wanted = Fraction(int("3" + DIGITS), 10**50)
        assert abs(Fraction(trigonometry._pi(bits), 1 << bits) - wanted) < Fraction(2, 1 << bits) + Fraction(1, 10**50)


@pytest.mark.parametrize("dtype", [types.float32, types.float64])
def test_products_with_parts_are_exact_and_their_sum_is_half_pi(dtype):
    widths = trigonometry._PARTS[dtype]
    parts = [Fraction(part) for part in trigonometry.parts_of_half_pi(widths)]
    most = int(trigonometry._MOST)  # of x, and so more than n
    for part in parts[:-1]:
        assert float(part * (most - 1)) == part * (most - 1)
    half_pi = Fraction(trigonometry._pi(400), 1 << 401)
    assert abs(sum(parts) - half_pi) < Fraction(1, 1 << sum(widths))


# Numbers of both sides of the bound between the two ways, and far beyond; those next to multiples of pi / 2 among them.
FAR = [2.0**20, np.nextafter(2.0**20, np.inf), 1e22, 2.0**1023, 6381956970095103.0 * 2.0**797, -1e300]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("place", [0, 3, 16])
def test_one_large_number_among_small_ones(dtype, place):
    """In any lane, of a whole vector and of the last one; the others stay as they are."""
    x = np.linspace(-2.0, 2.0, 17).astype(dtype)
    apart = [ops.sin(x), ops.cos(x)]
    for far in FAR if dtype == "float64" else [1.5e6, 16367173.0 * 2.0**72, -1e38]:
        x[place] = far
        for function, small in zip(("sin", "cos"), apart, strict=True):
            y = getattr(ops, function)(x)
            assert np.array_equal(np.delete(y, place), np.delete(small, place))
            exact = getattr(np, function)(x[place].astype("longdouble" if dtype == "float64" else "float64"))
            assert y[place] == pytest.approx(float(exact), rel=float(4 * np.finfo(dtype).eps), abs=0)
