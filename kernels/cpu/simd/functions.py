"""Functions of vectors, and with them ``Vectors``: the arithmetic that formulas are written in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu.compiler.machine import isa
from fastnn.kernels.cpu.simd.trigonometry import cos, sin
from fastnn.kernels.cpu.simd.vectors import Primitives

#
# exp(x) = 2^n exp(r), n = round(x / ln 2), r = x - n ln 2 in [-ln2/2, ln2/2]; exp(r) = 1 + r + r^2 q(r).
# ln 2 is split so that n * high is exact (high has as many trailing zero bits as n has bits). q interpolates
# (exp(r) - 1 - r) / r^2 at Chebyshev nodes on that interval. Coefficients stand highest degree first. `span` is the
# range outside which exp is 0 or inf.
#
# Worst errors in ULP, as `python -m ci.ulp` found them: over all float32 numbers of the domain, with fused multiply-add
# (AVX-512 and AVX2 alike) and without (SSE2), and over a stratified sample of float64. The bounds are what is promised.
#
#              float32   and where      SSE2      bound    float64   bound
#   exp         0.988    -59.94443      0.957       2       0.901      4
#   sigmoid     1.480    -4.846455      1.967       2       1.227      4
#   tanh        1.498    4.505701       1.952       2       1.296      4     (by its table, AVX-512: 1.410, 0.5001785)
#   log         1.969    1.003862       1.969       2       1.000      4     (normal positive numbers)
#   log1p       2.469    0.003861815    2.469       3       2.202      6     (positive numbers)
#   expm1       1.439    17.00197       1.284       2       1.537      4     (SSE2: a sample)
#   normal_cdf  5.238    -10.15306                  6       3.650      5
#   erf         1.217    1.021254       1.217       3       1.115      4     (a sample, as the next two)
#   sin         1.440    -2.288084e+09  1.440       2       1.432      4
#   cos         1.451    -1.051358e+17  1.451       2       1.433      4
#   the normal distribution's density: 2.760 at 1.925763, its bound 3; float64 2.516, bound 4

_LOG2E = 1.4426950408889634
_EXP: dict[Any, dict[str, Any]] = {
    types.float32: {
        "span": (-104.0, 89.0),
        "ln2": (0.693359375, -2.1219444005469057e-4),
        "q": (
            0.00019890980869750327,
            0.0013933641031986701,
            0.008333310934448869,
            0.04166646500604005,
            0.16666666681614256,
            0.5000000013457727,
        ),
    },
    types.float64: {
        "span": (-746.0, 710.0),
        "ln2": (0.6931471803691238, 1.9082149292705877e-10),
        "q": (
            2.0914679376583935e-09,
            2.510520637395701e-08,
            2.7557273661348637e-07,
            2.7557255425746435e-06,
            2.4801587325533363e-05,
            0.00019841269874800493,
            0.0013888888888883752,
            0.008333333333326141,
            0.04166666666666667,
            0.1666666666666667,
            0.5,
        ),
    },
}


def _sum_and_rest(v: Primitives, a: Any, b: Any) -> tuple[Any, Any]:
    """(a + b rounded, what the rounding lost), for |a| >= |b| or a = 0 (Dekker 1971)."""
    total = v.add(a, b)
    return total, v.sub(b, v.sub(total, a))


def _reduce(v: Primitives, x: Any) -> tuple[Any, Any, Any]:
    """(n, n as integers, s) with x = n ln 2 + r and s = exp(r) - 1 = r + r^2 q(r)."""
    constants = _EXP[v.dtype]
    # Adding 1.5 * 2^mantissa rounds to an integer and leaves it in the low bits: no conversion, and NaN stays harmless.
    magic = v.constant(1.5 * 2.0**v.format.mantissa)
    shifted = v.fma(x, v.constant(_LOG2E), magic)
    n = v.sub(shifted, magic)
    high, low = constants["ln2"]
    r = v.fma(n, v.constant(-low), v.fma(n, v.constant(-high), x))
    first, *others = constants["q"]
    q = v.constant(first)
    for coefficient in others:
        q = v.fma(q, r, v.constant(coefficient))
    integers = v.builder.sub(v.builder.bitcast(shifted, v.itype), v.builder.bitcast(magic, v.itype))
    return n, integers, v.fma(v.mul(r, r), q, r)


def _scaled(v: Primitives, y: Any, n: Any, integers: Any) -> Any:
    """Y times 2^n; n itself may lie outside the exponent range where the result is denormal or inf."""
    if v.avx512:
        return v.scale(y, n)
    half = v.builder.ashr(integers, v.iconstant(1))
    factors = v.exp2_of_integer(half), v.exp2_of_integer(v.builder.sub(integers, half))
    return v.mul(v.mul(y, factors[0]), factors[1])


def exp(v: Primitives, x: Any) -> Any:
    """e^x; overflow gives inf, underflow a denormal or 0."""
    low, high = _EXP[v.dtype]["span"]
    n, integers, s = _reduce(v, v.min(v.max(x, v.constant(low)), v.constant(high)))
    return _scaled(v, v.add(v.constant(1.0), s), n, integers)


# Below this e^x - 1 rounds to -1; above, e^x - 1 to e^x.
_EXPM1_SPAN = -60.0, 60.0


def expm1(v: Primitives, x: Any) -> Any:
    """e^x - 1 = (2^n - 1) + 2^n (e^r - 1): no cancellation near 0."""
    low, high = _EXPM1_SPAN
    n, integers, s = _reduce(v, v.min(v.max(x, v.constant(low)), v.constant(_EXP[v.dtype]["span"][1])))
    power = v.exp2_of_integer(integers)
    small = v.copysign(v.add(v.sub(power, v.constant(1.0)), v.mul(power, s)), x)
    return v.where(">", x, v.constant(high), _scaled(v, v.add(v.constant(1.0), s), n, integers), small)


def _quotient(v: Primitives, a: Any, c: float, e: Any) -> tuple[Any, Any, Any]:
    """(y, 1 / (c + e), a - y (c + e)) for y = a / (c + e) about; a - c y must be exact, as where c y / 2 <= a <= 2 c y.

    The remainder times the inverse makes good what was rounded in c + e, in its inverse and in y. Where y e would be
    rounded, y is the quotient itself, and the remainder what was rounded in c + e.
    """
    below = v.add(v.constant(c), e)
    inverse = v.reciprocal(below)
    y = v.mul(a, inverse) if isa().fused else v.div(a, below)
    minus_y = v.sub(v.constant(-0.0), y)
    if isa().fused:
        return y, inverse, v.fma(minus_y, e, v.fma(v.constant(-c), y, a))
    large, small = v.max(e, v.constant(c)), v.min(e, v.constant(c))
    return y, inverse, v.mul(minus_y, _sum_and_rest(v, large, small)[1])


def sigmoid(v: Primitives, x: Any) -> Any:
    """1 / (1 + e^-x) as e / (1 + e) for negative x, e = exp(-|x|): no overflow, and small results keep their digits."""
    one, zero = v.constant(1.0), v.constant(0.0)
    low, _ = _EXP[v.dtype]["span"]
    n, integers, s = _reduce(v, v.max(v.sub(v.constant(-0.0), v.abs(x)), v.constant(low)))
    e = _scaled(v, v.add(one, s), n, integers)
    y, inverse, remainder = _quotient(v, v.where("<", x, zero, e, one), 1.0, e)
    return v.fma(remainder, inverse, y)


# Beyond these tanh rounds to 1.
_TANH_ONE = {types.float32: 9.02, types.float64: 19.07}


def tanh(v: Primitives, x: Any) -> Any:
    """By a table of polynomials where the CPU looks up 16 numbers at once, else by e^2|x|."""
    size = v.min(v.abs(x), v.constant(_TANH_ONE[v.dtype]))
    by_table = v.avx512 and v.dtype == types.float32
    return v.copysign(_tanh_by_table(v, size) if by_table else _tanh_by_exp(v, size), x)


def _tanh_by_exp(v: Primitives, size: Any) -> Any:
    """E / (E + 2) with E = e^2|x| - 1 = (2^n - 1) + 2^n (e^r - 1): no cancellation near 0.

    Where E > 2, E - 2 y is rounded, but y is near 1 then. What was rounded in E changes y by (1 - y) / (E + 2) of it.
    """
    _, integers, s = _reduce(v, v.add(size, size))
    power = v.exp2_of_integer(integers)
    e, rounded = _sum_and_rest(v, v.sub(power, v.constant(1.0)), v.mul(power, s))
    y, inverse, remainder = _quotient(v, e, 2.0, e)
    remainder = v.fma(rounded, v.sub(v.constant(1.0), y), remainder)
    return v.fma(remainder, inverse, y)


# tanh in float32 by polynomials about the middle of 32 intervals: each power of two from 2^-4 on is four of them, told
# by the exponent and the first two bits of the mantissa. They interpolate tanh at Chebyshev nodes; but the first
# interval begins at 0, and has the series x - x^3/3 + 2 x^5/15, whose relative error stays small there.
_TANH_FROM, _TANH_SHIFT, _TANH_DEGREE = 0x3D800000, 21, 6


@cache
def _tanh_table() -> Sequence[Sequence[float]]:
    """The middles of the intervals, then the coefficients, highest degree first: 32 numbers each."""
    bounds = (_TANH_FROM + (np.arange(33) << _TANH_SHIFT)).astype(np.uint32).view(np.float32).astype(np.float64)
    rows = [[0.0, 0.0, 2 / 15, 0.0, -1 / 3, 0.0, 1.0, 0.0]]
    for low, high in pairwise(bounds[1:]):
        middle, half = (low + high) / 2, (high - low) / 2
        series = np.polynomial.Chebyshev.interpolate(np.tanh, _TANH_DEGREE, domain=(low, high))
        scaled = np.polynomial.chebyshev.cheb2poly(series.coef)
        rows.append([middle, *(scaled / half ** np.arange(_TANH_DEGREE + 1))[::-1]])
    return [[float(np.float32(row[i])) for row in rows] for i in range(_TANH_DEGREE + 2)]


def _tanh_by_table(v: Primitives, size: Any) -> Any:
    """The polynomial of the interval that holds |x|."""
    builder = v.builder
    above = builder.sub(builder.bitcast(size, v.itype), v.iconstant(_TANH_FROM))
    interval = builder.ashr(above, v.iconstant(_TANH_SHIFT))
    first = builder.icmp_signed("<", interval, v.iconstant(0))
    interval = builder.select(first, v.iconstant(0), interval)
    middle, coefficient, *others = _tanh_table()
    distance = v.sub(size, v.look_up(middle, interval))
    y = v.look_up(coefficient, interval)
    for coefficient in others:
        y = v.fma(y, distance, v.look_up(coefficient, interval))
    return y


# log(x) = k ln 2 + log(m), x = 2^k m with m in [sqrt(1/2), sqrt(2)); log(m) = 2 artanh(s), s = (m - 1) / (m + 1), by
# the series 2 s (1 + z/3 + z^2/5 + ...), z = s^2 <= 0.0295: the terms left out are below 2^-29 and 2^-59 of the
# result.
_LOG_TERMS = {types.float32: 5, types.float64: 11}


def log(v: Primitives, x: Any) -> Any:
    """Natural logarithm of normal positive numbers."""
    builder, form = v.builder, v.format
    bits = builder.bitcast(x, v.itype)
    half = builder.bitcast(v.constant(0.7071067811865476), v.itype)
    k = builder.ashr(builder.sub(bits, half), v.iconstant(form.mantissa))
    m = builder.bitcast(builder.sub(bits, builder.shl(k, v.iconstant(form.mantissa))), v.type)
    s = v.div(v.sub(m, v.constant(1.0)), v.add(m, v.constant(1.0)))
    z = v.mul(s, s)
    terms = [1.0 / (2 * i + 1) for i in range(_LOG_TERMS[v.dtype], 0, -1)]
    tail = v.constant(terms[0])
    for term in terms[1:]:
        tail = v.fma(tail, z, v.constant(term))
    twice = v.add(s, s)
    high, low = _EXP[v.dtype]["ln2"]
    whole = builder.sitofp(k, v.type)
    rest = v.fma(v.mul(twice, z), tail, v.mul(whole, v.constant(low)))
    return v.fma(whole, v.constant(high), v.add(twice, rest))


def log1p(v: Primitives, x: Any) -> Any:
    """log(1 + x) for x > -1: what 1 + x loses to rounding comes back as (x - (u - 1)) / u, u = 1 + x."""
    one = v.constant(1.0)
    u = v.add(one, x)
    return v.add(log(v, u), v.div(v.sub(x, v.sub(u, one)), u))


# The normal distribution's tail: for t >= 0 its share beyond t is exp(-t^2 / 2) (1/2 + w q(z)) / (1 + sqrt(2) t), where
# w = t / (t + c) and q is a polynomial in z = 2 w - 1, from -1 to 1 (as Shepherd and Laframboise 1981 have it for erfc,
# but that the value at 0 is exact). It interpolates at Chebyshev nodes; coefficients stand highest degree first. Beyond
# ``most`` the tail is 0.
_TAIL: dict[Any, dict[str, Any]] = {
    types.float32: {
        "c": 4.4,
        "most": 14.6,
        "q": (
            9.261976338314804e-05,
            -7.460294476426093e-05,
            -0.0009148336929211198,
            0.0021833310181413527,
            0.003493444177661243,
            -0.03325297019753961,
            0.10734587782449251,
            -0.22701758665739932,
            0.34951583224423577,
            -0.38770527946700867,
            0.2505237639147234,
        ),
    },
    types.float64: {
        "c": 4.5,
        "most": 38.9,
        "q": (
            1.4125940104697324e-09,
            6.932849904416358e-10,
            -1.4617110040469762e-08,
            -1.159066666167971e-08,
            8.796809586473658e-08,
            1.0734609180495649e-07,
            -4.5455386739572924e-07,
            -7.679430939308605e-07,
            2.500449490878239e-06,
            4.81198118260892e-06,
            -1.65588010564778e-05,
            -2.5730519905326214e-05,
            0.00013321039356301156,
            5.774680183953828e-05,
            -0.0011412502109035417,
            0.0017240078568324906,
            0.006172351621600947,
            -0.03963500702652722,
            0.11697384735504154,
            -0.2364462139182357,
            0.3543634480204844,
            -0.38695427867343285,
            0.24897774950245338,
        ),
    },
}


def _square(v: Primitives, x: Any) -> tuple[Any, Any]:
    """(x^2 rounded, what the rounding lost), by halves of the digits where the target does not fuse (Dekker 1971)."""
    square = v.mul(x, x)
    if isa().fused:
        return square, v.fma(x, x, v.sub(v.constant(-0.0), square))
    wide = v.mul(x, v.constant(2.0 ** (v.format.mantissa // 2 + 1) + 1.0))
    high = v.sub(wide, v.sub(wide, x))
    low = v.sub(x, high)
    rest = v.add(v.sub(v.mul(high, high), square), v.mul(v.add(high, high), low))
    return square, v.add(rest, v.mul(low, low))


def _bell(v: Primitives, t: Any) -> Any:
    """exp(-t^2 / 2); what t^2 loses to rounding comes back as a factor."""
    half = v.constant(-0.5)
    square, lost = _square(v, t)
    bell = exp(v, v.mul(half, square))
    return v.fma(v.mul(half, lost), bell, bell)


def _normal_argument(v: Primitives, x: Any) -> Any:
    return v.min(v.abs(x), v.constant(_TAIL[v.dtype]["most"]))


def normal_density(v: Primitives, x: Any) -> Any:
    """The density of the standard normal distribution at x."""
    return v.mul(v.constant(1.0 / math.sqrt(2.0 * math.pi)), _bell(v, _normal_argument(v, x)))


def _tail(v: Primitives, t: Any) -> Any:
    """The share of the standard normal distribution beyond t, from 0 to the ``most`` of ``_TAIL``.

    Of the two divisions, by t + c for w and by 1 + sqrt(2) t, one is left: by the product.
    """
    constants, one = _TAIL[v.dtype], v.constant(1.0)
    shifted, scaled = v.add(t, v.constant(constants["c"])), v.fma(v.constant(math.sqrt(2.0)), t, one)
    inverse = v.div(one, v.mul(shifted, scaled))
    w = v.mul(v.mul(t, scaled), inverse)
    z = v.sub(v.add(w, w), one)
    first, *others = constants["q"]
    q = v.constant(first)
    for coefficient in others:
        q = v.fma(q, z, v.constant(coefficient))
    share = v.mul(v.fma(t, q, v.mul(v.constant(0.5), shifted)), inverse)
    return v.mul(_bell(v, t), share)


def normal_cdf(v: Primitives, x: Any) -> Any:
    """The share of the standard normal distribution below x, from the tail beyond |x|: small results keep digits."""
    tail = _tail(v, _normal_argument(v, x))
    return v.where(">", x, v.constant(0.0), v.sub(v.constant(1.0), tail), tail)


# erf(x) = x + x q(x^2) up to 1, where q interpolates erf(x) / x - 1 at Chebyshev nodes (highest degree first); beyond
# it 1 - 2 t, where t is the tail beyond sqrt(2) x, at most 0.08.
_ERF = {
    types.float32: (
        7.875875062685488e-05,
        -0.000801686428716587,
        0.005189087423433974,
        -0.026854212010626412,
        0.11283594715160218,
        -0.37612626666720334,
        0.12837916584835093,
    ),
    types.float64: (
        5.957176147748911e-11,
        -1.1372848856791674e-09,
        1.4659775274047436e-08,
        -1.6350312701054695e-07,
        1.6461000484121368e-06,
        -1.4925595266831182e-05,
        0.0001205533111164271,
        -0.000854832698083379,
        0.0052239776248180145,
        -0.026866170645076792,
        0.11283791670954879,
        -0.3761263890318375,
        0.1283791670955126,
    ),
}


def erf(v: Primitives, x: Any) -> Any:
    """The error function: small results keep their digits."""
    size = v.abs(x)
    square = v.mul(size, size)
    first, *others = _ERF[v.dtype]
    q = v.constant(first)
    for coefficient in others:
        q = v.fma(q, square, v.constant(coefficient))
    tail = _tail(v, _normal_argument(v, v.mul(v.constant(math.sqrt(2.0)), size)))
    beyond = v.fma(v.constant(-2.0), tail, v.constant(1.0))
    return v.copysign(v.where("<", size, v.constant(1.0), v.fma(size, q, size), beyond), x)


class Vectors(Primitives):
    """Vectors of ``lanes`` numbers of one dtype: the primitives, and the functions made of them."""

    def exp(self, x: Any) -> Any:
        """e^x; overflow gives inf, underflow a denormal or 0."""
        return exp(self, x)

    def expm1(self, x: Any) -> Any:
        """e^x - 1, of full accuracy near 0; overflow gives inf."""
        return expm1(self, x)

    def log(self, x: Any) -> Any:
        """Natural logarithm of normal positive numbers."""
        return log(self, x)

    def log1p(self, x: Any) -> Any:
        """log(1 + x) for x > -1."""
        return log1p(self, x)

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + e^-x)."""
        return sigmoid(self, x)

    def tanh(self, x: Any) -> Any:
        """Hyperbolic tangent."""
        return tanh(self, x)

    def normal_density(self, x: Any) -> Any:
        """The density of the standard normal distribution at x."""
        return normal_density(self, x)

    def normal_cdf(self, x: Any) -> Any:
        """The share of the standard normal distribution below x."""
        return normal_cdf(self, x)

    def erf(self, x: Any) -> Any:
        """The error function."""
        return erf(self, x)

    def sin(self, x: Any) -> Any:
        """The sine of x in radians."""
        return sin(self, x)

    def cos(self, x: Any) -> Any:
        """The cosine of x in radians."""
        return cos(self, x)
