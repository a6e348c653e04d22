"""Sine and cosine of vectors: x without whole quarter turns, and the series of what is left.

x = n pi / 2 + r, n = round(2 x / pi), |r| <= pi / 4. Up to ``_MOST`` n has 20 bits, and pi / 2 is a sum of parts of 33
bits and a last one, so that every product but the last is exact, in float64, which vectors of float32 are widened to:
no number of that range is so near to a multiple of pi / 2 that what the last part leaves out is seen. Beyond it the
lanes are taken one by one, in integers, as Payne and Hanek (1983) have it: of 2 / pi only those bits count whose
product with x is neither whole turns nor lost in the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastnn.kernels.cpu.simd.vectors import FORMATS, I64, Primitives

_I128 = ir.IntType(128)
_DOUBLE = FORMATS[types.float64]

_MOST = 2.0**20
# Bits of the parts of pi / 2, by the format of what is asked for.
_PARTS = {types.float32: (33, 53), types.float64: (33, 33, 33, 53)}
# Of the series of sin r / r and cos r in r^2: the terms left out are below 2^-28 and 2^-58 of the result.
_TERMS = {types.float32: (5, 6), types.float64: (9, 9)}
# Bits of 2 / pi that any float64 needs, and bytes that they and the zeros before them take.
_BITS, _BYTES = 1168, 152
# The exponent's bits of 1.
_BIAS = _DOUBLE.bias


@cache
def _pi(bits: int) -> int:
    """Pi times 2^bits, rounded down: 16 arctan(1/5) - 4 arctan(1/239) (Machin 1706), with bits to spare."""

    def arctan(n: int) -> int:
        total, term, k = 0, one // n, 1
        while term:
            total += term // k if k % 4 == 1 else -(term // k)
            term, k = term // (n * n), k + 2
        return total

    one = 1 << (bits + 32)
    return (16 * arctan(5) - 4 * arctan(239)) >> 32


@cache
def parts_of_half_pi(widths: Sequence[int]) -> Sequence[float]:
    """Numbers of so many bits each whose sum is pi / 2, but for what the last one leaves out."""
    bits = 256
    rest, parts = _pi(bits), []
    for width in widths:
        below = rest.bit_length() - width
        parts.append(math.ldexp(rest >> below, below - bits - 1))
        rest &= (1 << below) - 1
    return parts


def _near(v: Primitives, x: Any, parts: Sequence[float]) -> Sequence[Any]:
    """(n as integers, r, what r's rounding lost) in float64, for numbers up to ``_MOST``; r is NaN for infinity."""
    magic = v.constant(1.5 * 2.0**v.format.mantissa)
    shifted = v.fma(x, v.constant(2.0 / math.pi), magic)
    n = v.sub(shifted, magic)
    r, lost = v.fma(n, v.constant(-parts[0]), x), None
    for part in parts[1:-1]:
        whole, minus = r, v.mul(n, v.constant(-part))
        r = v.add(whole, minus)
        rest = v.sub(minus, v.sub(r, whole))
        lost = rest if lost is None else v.add(lost, rest)
    minus = v.mul(n, v.constant(-parts[-1])) if lost is None else v.fma(n, v.constant(-parts[-1]), lost)
    whole, r = r, v.add(r, minus)
    integers = v.builder.sub(v.builder.bitcast(shifted, v.itype), v.builder.bitcast(magic, v.itype))
    return integers, r, v.sub(minus, v.sub(r, whole))


def _table(builder: Any) -> Any:
    """The bits of 2 / pi as one integer, the lowest byte first, zeros above."""
    kind = ir.ArrayType(ir.IntType(8), _BYTES)
    whole = (1 << (2 * _BITS + 1)) // _pi(_BITS)
    return cgutils.global_constant(builder, "fastnn.two_by_pi", kind(bytearray(whole.to_bytes(_BYTES, "little"))))


def _fraction(builder: Any, x: Any) -> tuple[Any, Any]:
    """(n % 4, (2 x / pi - n) 2^126) of a finite number |x| > ``_MOST``.

    |x| = m 2^(e - 1075). The 192 bits of 2 / pi whose first has the weight 2 after that, or 2^8 since they begin with
    a byte, times m: of these products all that is above 2^128 are whole turns.
    """
    bits = builder.bitcast(x, I64)
    exponent = builder.and_(builder.lshr(bits, I64(_DOUBLE.mantissa)), I64(2 * _BIAS + 1))
    mantissa = builder.or_(builder.and_(bits, I64((1 << _DOUBLE.mantissa) - 1)), I64(1 << _DOUBLE.mantissa))
    above = builder.sub(I64(2060), exponent)
    first = builder.gep(_table(builder), [I64(0), builder.lshr(above, I64(3))])
    shift = builder.sub(I64(7), builder.and_(above, I64(7)))
    m = builder.shl(mantissa, shift)

    def word(place: int) -> Any:
        loaded = builder.load(builder.bitcast(builder.gep(first, [I64(8 * place)]), I64.as_pointer()))
        loaded.align = 1
        return loaded

    def product(place: int) -> Any:
        return builder.mul(builder.zext(m, _I128), builder.zext(word(place), _I128))

    whole = builder.shl(builder.zext(builder.mul(m, word(2)), _I128), _I128(64))
    whole = builder.add(whole, builder.add(product(1), builder.lshr(product(0), _I128(64))))
    quarter = builder.lshr(builder.add(whole, _I128(1 << 125)), _I128(126))
    return builder.trunc(quarter, I64), builder.sub(whole, builder.shl(quarter, _I128(126)))


def _far(builder: Any, x: Any) -> Sequence[Any]:
    """As ``_near``, of one finite number beyond ``_MOST``."""
    quarter, fraction = _fraction(builder, x)
    low = builder.icmp_signed("<", fraction, _I128(0))
    size = builder.select(low, builder.neg(fraction), fraction)
    zeros = builder.ctlz(size, ir.IntType(1)(0))
    digits = builder.shl(size, zeros)
    # 53 bits and the next 64: size = (high + more) 2^(75 - zeros)
    scalar = _DOUBLE.scalar
    high = builder.uitofp(builder.trunc(builder.lshr(digits, _I128(75)), I64), scalar)
    more = builder.uitofp(builder.trunc(builder.lshr(digits, _I128(11)), I64), scalar)
    more = builder.fmul(more, scalar(2.0**-64))
    half, rest = parts_of_half_pi((53, 53))
    r = builder.fmul(high, scalar(half))
    lost = builder.fadd(builder.fmul(high, scalar(rest)), builder.fmul(more, scalar(half)))
    power = builder.sub(I64(_BIAS - 51), builder.trunc(zeros, I64))
    factor = builder.bitcast(builder.shl(power, I64(_DOUBLE.mantissa)), scalar)
    negative = builder.fcmp_ordered("<", x, scalar(0.0))
    factor = builder.select(builder.xor(low, negative), builder.fneg(factor), factor)
    quarter = builder.select(negative, builder.neg(quarter), quarter)
    return quarter, builder.fmul(r, factor), builder.fmul(lost, factor)


def _far_lanes(v: Primitives, x: Any, wanted: Any, near: Sequence[Any]) -> Sequence[Any]:
    """``near`` with what ``_far`` gives in those lanes that are ``wanted``."""
    builder = v.builder
    slots = [cgutils.alloca_once(builder, each.type) for each in near]
    for slot, each in zip(slots, near, strict=True):
        builder.store(each, slot)

    def take(lane: Any) -> None:
        for slot, each in zip(slots, _far(builder, builder.extract_element(x, lane)), strict=True):
            builder.store(builder.insert_element(builder.load(slot), each, lane), slot)

    with cgutils.for_range(builder, I64(v.lanes), intp=I64) as loop:
        lane = loop.index
        with builder.if_then(builder.extract_element(wanted, lane)):
            take(lane)
    return [builder.load(slot) for slot in slots]


def _reduced(v: Primitives, x: Any) -> Sequence[Any]:
    """(n as integers of the lanes' width, r, what r's rounding lost)."""
    builder, narrow = v.builder, v.dtype == types.float32
    wide = Primitives(builder, types.float64, v.lanes) if narrow else v
    given = builder.fpext(x, wide.type) if narrow else x
    near, size = _near(wide, given, parts_of_half_pi(_PARTS[v.dtype])), wide.abs(given)
    beyond = builder.and_(
        builder.fcmp_ordered(">", size, wide.constant(_MOST)), builder.fcmp_ordered("<", size, wide.constant(math.inf))
    )
    before, found = builder.block, []
    with builder.if_then(builder.icmp_signed("!=", v.bits(beyond), I64(0)), likely=False):
        far = _far_lanes(wide, given, beyond, near)
        after = builder.block
    for close, distant in zip(near, far, strict=True):
        found.append(builder.phi(close.type))
        found[-1].add_incoming(close, before)
        found[-1].add_incoming(distant, after)
    n, r, lost = found
    return (builder.trunc(n, v.itype), builder.fptrunc(r, v.type), None) if narrow else (n, r, lost)


def _series(v: Primitives, square: Any, first: int, count: int) -> Any:
    """So many terms of the sine's or the cosine's series, from that of r^first on, over r^first: of r^2."""
    terms = [(-1) ** (power // 2) / math.factorial(power) for power in range(first, first + 2 * count, 2)]
    y = v.constant(terms.pop())
    while terms:
        y = v.fma(y, square, v.constant(terms.pop()))
    return y


def _turned(v: Primitives, x: Any, quarters: int) -> Any:
    """The sine of x and so many quarter turns."""
    builder = v.builder
    sines, cosines = _TERMS[v.dtype]
    n, r, lost = _reduced(v, x)
    square = v.mul(r, r)
    half = v.mul(square, v.constant(0.5))
    above = v.sub(v.constant(1.0), half)
    rounded = v.sub(v.sub(v.constant(1.0), above), half)
    cubic = v.mul(v.mul(square, r), _series(v, square, 3, sines - 1))
    if lost is not None:  # sin(r + lost) = sin r + lost cos r, cos(r + lost) = cos r - lost sin r
        cubic, rounded = v.fma(lost, above, cubic), v.sub(rounded, v.mul(lost, r))
    sine = v.add(r, cubic)
    cosine = v.add(above, v.fma(v.mul(square, square), _series(v, square, 4, cosines - 2), rounded))
    n = builder.add(n, v.iconstant(quarters))
    odd = builder.icmp_signed("!=", builder.and_(n, v.iconstant(1)), v.iconstant(0))
    sign = builder.shl(builder.and_(n, v.iconstant(2)), v.iconstant(v.format.bits - 2))
    y = builder.bitcast(builder.select(odd, cosine, sine), v.itype)
    return builder.bitcast(builder.xor(y, sign), v.type)


def sin(v: Primitives, x: Any) -> Any:
    """The sine of any number; a zero keeps its sign."""
    return v.where("==", x, v.constant(0.0), x, _turned(v, x, 0))


def cos(v: Primitives, x: Any) -> Any:
    """The cosine of any number."""
    return _turned(v, x, 1)
