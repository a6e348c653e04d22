"""Vector functions: the polynomials they rest on. Their errors are measured in tests/ci/test_ulp.py."""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import reduce

import numpy as np
import pytest
from numba import types

from fastnn.kernels.cpu.simd import functions


@pytest.fixture
def digits():
    """Arithmetic of so many decimal digits; a long double has no more bits than a double on some systems."""
    with localcontext(prec=40):
        yield


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize(("dtype", "bits"), [(types.float32, 31), (types.float64, 61)])
def test_exponential_polynomial(dtype, bits):
    """1 + r + r^2 q(r) is e^r on [-ln2/2, ln2/2] to well below the rounding of its format."""
    coefficients = [Decimal(float(c)) for c in functions._EXP[dtype]["q"]]
    for r in map(Decimal, np.linspace(-np.log(2) / 2, np.log(2) / 2, 2001).tolist()):
        q = reduce(lambda q, c: q * r + c, coefficients)
        assert abs((1 + r + r * r * q) / r.exp() - 1) < Decimal(2) ** -bits


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize(("dtype", "bits"), [(types.float32, 24), (types.float64, 53)])
def test_ln2_is_split_exactly(dtype, bits):
    """high has room for n's bits, so n * high is exact; high + low is ln 2 to twice the format's precision."""
    high, low = functions._EXP[dtype]["ln2"]
    mantissa = int(high * 2**52)
    used = 52 - ((mantissa & -mantissa).bit_length() - 1)
    assert used <= bits - (11 if bits == 53 else 8)
    assert abs(Decimal(float(high)) + Decimal(float(low)) - Decimal(2).ln()) < Decimal(2) ** round(-1.3 * bits)
