"""Vector functions: the polynomials they rest on. Their errors are measured in tests/ci/test_ulp.py."""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import reduce

import numpy as np
import pytest
from numba import njit, types

from fastnn.kernels.cpu import micro, simd
from fastnn.kernels.cpu.simd import address


@pytest.fixture
def digits():
    """Arithmetic of so many decimal digits; a long double has no more bits than a double on some systems."""
    with localcontext(prec=40):
        yield


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize(("dtype", "bits"), [(types.float32, 31), (types.float64, 61)])
def test_exponential_polynomial(dtype, bits):
    """1 + r + r^2 q(r) is e^r on [-ln2/2, ln2/2] to well below the rounding of its format."""
    coefficients = [Decimal(float(c)) for c in simd._EXP[dtype]["q"]]
    for r in map(Decimal, np.linspace(-np.log(2) / 2, np.log(2) / 2, 2001).tolist()):
        q = reduce(lambda q, c: q * r + c, coefficients)
        assert abs((1 + r + r * r * q) / r.exp() - 1) < Decimal(2) ** -bits


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize(("dtype", "bits"), [(types.float32, 24), (types.float64, 53)])
def test_ln2_is_split_exactly(dtype, bits):
    """high has room for n's bits, so n * high is exact; high + low is ln 2 to twice the format's precision."""
    high, low = simd._EXP[dtype]["ln2"]
    mantissa = int(high * 2**52)
    used = 52 - ((mantissa & -mantissa).bit_length() - 1)
    assert used <= bits - (11 if bits == 53 else 8)
    assert abs(Decimal(float(high)) + Decimal(float(low)) - Decimal(2).ln()) < Decimal(2) ** round(-1.3 * bits)


@njit
def _argmax(x):
    return simd.argmax_row(x.size, address(x, 0))


@njit
def _label(x, label, scale, dx):
    return simd.label_row(x.size, address(x, 0), label, scale, address(dx, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 17, 33, 100])
def test_argmax_is_the_first_of_the_largest(dtype, count):
    micro.load({"float32": types.float32, "float64": types.float64}[dtype])
    rng = np.random.default_rng(count)
    for _ in range(20):
        x = rng.integers(-3, 3, count).astype(dtype)
        assert _argmax(x) == np.argmax(x)
    assert _argmax(np.full(count, -np.inf, dtype)) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 10, 16, 17, 33, 100])
def test_cross_entropy_of_a_label(dtype, count):
    micro.load({"float32": types.float32, "float64": types.float64}[dtype])
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
