"""Vector functions: the polynomials they rest on. Their errors are measured in tests/ci/test_ulp.py."""

from __future__ import annotations

import numpy as np
import pytest
from numba import types

from fastnn.kernels.cpu import simd


@pytest.mark.parametrize(("dtype", "bits"), [(types.float32, 31), (types.float64, 61)])
def test_exponential_polynomial(dtype, bits):
    """1 + r + r^2 q(r) is e^r on [-ln2/2, ln2/2] to well below the rounding of its format."""
    r = np.linspace(-np.log(2) / 2, np.log(2) / 2, 20_001).astype(np.longdouble)
    q = np.polyval(np.array(simd._EXP[dtype]["q"], np.longdouble), r)
    assert (abs((1 + r + r * r * q) / np.exp(r) - 1)).max() < 2.0**-bits


@pytest.mark.parametrize(("dtype", "bits"), [(types.float32, 24), (types.float64, 53)])
def test_ln2_is_split_exactly(dtype, bits):
    """high has room for n's bits, so n * high is exact; high + low is ln 2 to twice the format's precision."""
    high, low = simd._EXP[dtype]["ln2"]
    mantissa = int(high * 2**52)
    used = 52 - ((mantissa & -mantissa).bit_length() - 1)
    assert used <= bits - (11 if bits == 53 else 8)
    ln2 = np.log(np.longdouble(2))
    assert abs(np.longdouble(high) + np.longdouble(low) - ln2) < np.longdouble(2.0) ** (-1.3 * bits)
