"""Vector functions: the error in ULP over the whole range, and the polynomials they rest on."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit, types

from fastnn import ops
from fastnn.kernels.cpu import micro, simd
from fastnn.kernels.cpu.jit import source_hash
from fastnn.kernels.cpu.simd import address

# The stated bounds of the activations; log1p serves losses only.
BOUND = {"float32": 2.0, "float64": 4.0}
LOOSER = {"log1p": 1.5}


def every(dtype, count):
    """Numbers of every sign, exponent and a spread of mantissas: ``count`` bit patterns, evenly spaced."""
    bits = np.dtype(dtype).itemsize * 8
    step = (1 << bits) // count | 1
    patterns = (np.arange(count, dtype=object) * step % (1 << bits)).astype(f"u{bits // 8}")
    return patterns.view(dtype)


def ulp_error(got, exact):
    """|got - exact| in units of the last place of ``exact`` rounded to the dtype."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = exact.astype(got.dtype)
        unit = np.spacing(np.minimum(abs(rounded), np.finfo(got.dtype).max))
        error = abs(got.astype(exact.dtype) - exact) / unit.astype(exact.dtype)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    return np.where(same, 0, error)


def vector_function(name):
    """``simd.<name>`` as a compiled function of arrays."""
    function = getattr(simd, name)

    def row(v, count, x, y):
        simd._for_each(v, count, lambda at: at.store(function(v, at.load(x)), y))

    row.__name__ = name
    kernel = simd.MicroKernel(row, simd._NOTHING, (simd._SIZE, simd._POINTER, simd._POINTER))
    apply_row = kernel.intrinsic()
    for dtype in (types.float32, types.float64):
        micro.build([kernel], dtype)

    @njit
    def apply(x, y):
        apply_row(x.size, address(x, 0), address(y, 0))

    def call(x):
        y = np.empty_like(x)
        apply(x, y)
        return y

    return call


CASES = [
    ("exp", vector_function("exp"), np.exp, (-np.inf, np.inf)),
    ("log", vector_function("log"), np.log, (1e-30, 1e30)),
    ("log1p", vector_function("log1p"), np.log1p, (0.0, 1e30)),
    ("tanh", ops.tanh, np.tanh, (-np.inf, np.inf)),
    ("sigmoid", ops.sigmoid, lambda x: np.where(x >= 0, 1, np.exp(-abs(x))) / (1 + np.exp(-abs(x))), (-np.inf, np.inf)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "function", "reference", "span"), CASES, ids=[case[0] for case in CASES])
def test_error_in_ulp(name, function, reference, span, dtype):
    x = every(dtype, 1 << 18)
    dense = np.random.default_rng(0).uniform(-20, 20, 1 << 16).astype(dtype)
    x = np.concatenate([x, dense, np.array([0.0, -0.0, 1.0, -1.0], dtype)])
    low, high = span
    x = x[((x >= low) & (x <= high)) | (np.isnan(x) & np.isinf(low))]
    wider = np.longdouble if dtype == "float64" else np.float64
    with np.errstate(all="ignore"):
        exact = reference(x.astype(wider))
    error = ulp_error(function(x), exact)
    worst = error.argmax()
    print(name, dtype, "worst", float(error[worst]), "ULP at", x[worst])
    assert error[worst] <= BOUND[dtype] * LOOSER.get(name, 1.0), (name, x[worst], float(error[worst]))
    assert error.max() > 0, "a comparison that finds no rounding at all compares a function with itself"


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


@njit
def _argmax(x):
    return simd.argmax_row(x.size, address(x, 0))


@njit
def _label(x, label, scale, dx):
    return simd.label_row(x.size, address(x, 0), label, scale, address(dx, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 17, 33, 100])
def test_argmax_is_the_first_of_the_largest(dtype, count):
    micro.load({"float32": types.float32, "float64": types.float64}[dtype], source_hash(), lambda error: None)
    rng = np.random.default_rng(count)
    for _ in range(20):
        x = rng.integers(-3, 3, count).astype(dtype)
        assert _argmax(x) == np.argmax(x)
    assert _argmax(np.full(count, -np.inf, dtype)) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 10, 16, 17, 33, 100])
def test_cross_entropy_of_a_label(dtype, count):
    micro.load({"float32": types.float32, "float64": types.float64}[dtype], source_hash(), lambda error: None)
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
