"""SIMD primitives and micro-kernels: every line of LLVM IR that fastnn emits is emitted here.

Numba's own vectoriser stops at 256 bits and cannot keep a tile of C in registers, so the inner loops are written as
LLVM vectors. ``Vectors`` holds the primitives (load, store, splat, fma, min, max, select, exp, ...); the vector
functions and the loops are built on them, once for float32 and float64 and for every vector length. The intrinsics at
the end of each section call micro-kernels, which ``micro`` compiles once for a dtype: a Numba kernel holds calls, not
copies. They are module globals, so that compiled kernels stay cacheable on disk; dtype, vector length and tile follow
from the pointers' type and the targeted CPU.

Grammar of the micro-kernels: ``<what>_<extent>(codes, sizes, sources, destinations)``; pointers are made by
``address``; sizes and strides count elements, not bytes.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.cpu.machine import ALIASED, LINE, bfloat16_pairs, isa, tile

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_ZERO = _I64(0)

# ---------------------------------------------------------------------------------------------------------- primitives


class _Format:
    """Constants of one IEEE format: LLVM type, integer of equal width, mantissa bits, exponent bias."""

    def __init__(self, scalar: Any, bits: int, mantissa: int, bias: int) -> None:
        self.scalar, self.bits, self.mantissa, self.bias = scalar, bits, mantissa, bias
        self.integer = ir.IntType(bits)
        self.bytes = bits // 8


_FORMATS = {
    types.float32: _Format(ir.FloatType(), 32, 23, 127),
    types.float64: _Format(ir.DoubleType(), 64, 52, 1023),
}


class Vectors:
    """Vectors of ``lanes`` numbers of one dtype: the primitives on which every kernel is built."""

    def __init__(self, builder: Any, dtype: Any, lanes: int) -> None:
        self.builder, self.dtype, self.lanes = builder, dtype, lanes
        self.format = _FORMATS[dtype]
        self.type = ir.VectorType(self.format.scalar, lanes)
        self.itype = ir.VectorType(self.format.integer, lanes)

    def _intrinsic(self, name: str, result: Any, *arguments: Any) -> Any:
        kind = ir.FunctionType(result, [a.type for a in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}")
        return self.builder.call(function, arguments)

    @cached_property
    def _suffix(self) -> str:
        return f"v{self.lanes}f{self.format.bits}"

    def constant(self, value: float) -> Any:
        """The same number in every lane."""
        return ir.Constant(self.type, [value] * self.lanes)

    def iconstant(self, value: int) -> Any:
        """The same integer in every lane."""
        return ir.Constant(self.itype, [value] * self.lanes)

    @cached_property
    def lane_numbers(self) -> Any:
        """0, 1, 2, ... as integers of the lanes' width."""
        return ir.Constant(self.itype, list(range(self.lanes)))

    def isplat(self, size: Any) -> Any:
        """A size in every lane, as an integer of the lanes' width."""
        scalar = size if self.format.bits == 64 else self.builder.trunc(size, self.format.integer)
        first = self.builder.insert_element(ir.Constant(self.itype, ir.Undefined), scalar, _I32(0))
        return self.builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes))

    def splat(self, scalar: Any) -> Any:
        """A scalar in every lane."""
        empty = ir.Constant(ir.VectorType(scalar.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(empty, scalar, _I32(0))
        zeros = ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, empty, zeros)

    def spread(self, vector: Any, lane: int) -> Any:
        """One lane of another vector in every lane."""
        return self.builder.shuffle_vector(
            vector, vector, ir.Constant(ir.VectorType(_I32, self.lanes), [lane] * self.lanes)
        )

    def _pointer(self, pointer: Any, offset: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), self.type.as_pointer())

    def load(self, pointer: Any, offset: Any = _ZERO) -> Any:
        """Lanes at ``pointer + offset``, aligned as single numbers are."""
        vector = self.builder.load(self._pointer(pointer, offset))
        vector.align = self.format.bytes
        return vector

    def store(self, vector: Any, pointer: Any, offset: Any = _ZERO) -> None:
        """Write the lanes to ``pointer + offset``."""
        self.builder.store(vector, self._pointer(pointer, offset)).align = self.format.bytes

    def stream(self, vector: Any, pointer: Any, offset: Any) -> None:
        """Write the lanes to memory past the caches, from a multiple of the vector's size on."""
        written = self.builder.store(vector, self._pointer(pointer, offset))
        written.align = self.lanes * self.format.bytes
        written.set_metadata("nontemporal", self.builder.module.add_metadata([_I32(1)]))

    def mask(self, count: Any) -> Any:
        """True in the first ``count`` lanes."""
        index = ir.Constant(ir.VectorType(_I32, self.lanes), list(range(self.lanes)))
        empty = ir.Constant(index.type, ir.Undefined)
        first = self.builder.insert_element(empty, self.builder.trunc(count, _I32), _I32(0))
        zeros = ir.Constant(index.type, [0] * self.lanes)
        return self.builder.icmp_signed("<", index, self.builder.shuffle_vector(first, empty, zeros))

    def bits(self, mask: Any) -> Any:
        """The mask as the bits of a 64-bit integer, lane 0 the lowest."""
        return self.builder.zext(self.builder.bitcast(mask, ir.IntType(self.lanes)), _I64)

    def ones(self, bits: Any) -> Any:
        """Number of ones among the bits of a 64-bit integer."""
        return self._intrinsic("ctpop.i64", _I64, bits)

    def first_one(self, bits: Any) -> Any:
        """Place of the lowest one among the bits of a 64-bit integer; 64 without one."""
        return self._intrinsic("cttz.i64", _I64, bits, ir.IntType(1)(0))

    def but_first_one(self, bits: Any) -> Any:
        """The bits without their lowest one."""
        return self.builder.and_(bits, self.builder.sub(bits, _I64(1)))

    def load_masked(self, pointer: Any, offset: Any, mask: Any, fill: float = 0.0) -> Any:
        """Lanes where the mask is true, ``fill`` elsewhere; memory behind the other lanes is not touched."""
        where = self._pointer(pointer, offset)
        align = ir.Constant(_I32, self.format.bytes)
        return self._intrinsic(f"masked.load.{self._suffix}.p0", self.type, where, align, mask, self.constant(fill))

    def store_masked(self, vector: Any, pointer: Any, offset: Any, mask: Any) -> None:
        """Write the lanes where the mask is true."""
        where = self._pointer(pointer, offset)
        align = ir.Constant(_I32, self.format.bytes)
        self._intrinsic(f"masked.store.{self._suffix}.p0", ir.VoidType(), vector, where, align, mask)

    @property
    def avx512(self) -> bool:
        """Whether these fill AVX-512's registers: it packs chosen lanes together, scales by powers of 2, estimates."""
        return self.lanes * self.format.bytes == 64

    def compress(self, x: Any, mask: Any) -> Any:
        """The lanes where the mask is true, moved to the front; zeros behind them."""
        kind = f"v{self.lanes}{'i' if x.type == self.itype else 'f'}{self.format.bits}"
        zeros = ir.Constant(x.type, None)
        return self._intrinsic(f"x86.avx512.mask.compress.{kind}", x.type, x, zeros, mask)

    def compressed_places(self, offset: Any, mask: Any) -> Any:
        """offset + lane as int32 for the lanes where the mask is true, moved to the front."""
        return self.indices(self.builder.add(self.compress(self.lane_numbers, mask), self.isplat(offset)))

    def indices(self, integers: Any) -> Any:
        """Integers of the lanes' width as int32."""
        return integers if self.format.bits == 32 else self.builder.trunc(integers, ir.VectorType(_I32, self.lanes))

    def load_indices(self, pointer: Any, offset: Any, mask: Any) -> Any:
        """int32 numbers, not negative, as integers of the lanes' width; 0 in lanes where the mask is false."""
        kind = ir.VectorType(_I32, self.lanes)
        where = self.builder.bitcast(self.builder.gep(pointer, [offset]), kind.as_pointer())
        zeros = ir.Constant(kind, None)
        loaded = self._intrinsic(f"masked.load.v{self.lanes}i32.p0", kind, where, _I32(4), mask, zeros)
        return loaded if self.format.bits == 32 else self.builder.zext(loaded, self.itype)

    def store_indices(self, places: Any, pointer: Any, offset: Any, mask: Any) -> None:
        """Write int32 lanes where the mask is true."""
        where = self.builder.bitcast(self.builder.gep(pointer, [offset]), places.type.as_pointer())
        self._intrinsic(f"masked.store.v{self.lanes}i32.p0", ir.VoidType(), places, where, _I32(4), mask)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, fused where the target fuses (fmuladd, not fma: a CPU without FMA is not sent to libm)."""
        return self._intrinsic(f"fmuladd.{self._suffix}", self.type, a, b, c)

    @property
    def has_pairs(self) -> bool:
        """Whether the CPU multiplies pairs of bfloat16 numbers, and these are vectors for it."""
        return self.dtype == types.float32 and self.lanes == 16 and bfloat16_pairs()

    def dot_pairs(self, a: Any, b: Any, c: Any) -> Any:
        """a[0] * b[0] + a[1] * b[1] + c: each lane of a and b holds two bfloat16 numbers (not a float32).

        Written as an instruction, since LLVM's intrinsic for it has changed its types between versions.
        """
        kind = ir.FunctionType(self.type, [self.type] * 3)
        return self.builder.call(ir.InlineAsm(kind, "vdpbf16ps $2, $3, $0", "=v,0,v,v", False), [c, a, b])

    def narrow(self, low: Any, high: Any) -> Any:
        """Two vectors rounded to bfloat16, as one vector of 16-bit integers, ``low`` in its first half."""
        halves = ir.VectorType(ir.IntType(16), 2 * self.lanes)
        kind = ir.FunctionType(halves, [self.type] * 2)
        return self.builder.call(ir.InlineAsm(kind, "vcvtne2ps2bf16 $1, $2, $0", "=v,v,v", False), [low, high])

    @property
    def _alternating(self) -> list[int]:
        """Elements of the first and of the second half of 2 * lanes by turns."""
        return [i // 2 + (i % 2) * self.lanes for i in range(2 * self.lanes)]

    def interleave(self, halves: Any) -> Any:
        """Element i of the first half beside element i of the second, for 16-bit integers, as pairs."""
        mask = ir.Constant(ir.VectorType(_I32, 2 * self.lanes), self._alternating)
        return self.builder.shuffle_vector(halves, halves, mask)

    def zip(self, a: Any, b: Any) -> Sequence[Any]:
        """a[0], b[0], a[1], b[1], ... as two vectors."""
        halves = self._alternating[: self.lanes], self._alternating[self.lanes :]
        kind = ir.VectorType(_I32, self.lanes)
        return [self.builder.shuffle_vector(a, b, ir.Constant(kind, half)) for half in halves]

    def follow(self, before: Any, vector: Any) -> Any:
        """Each lane's predecessor: the last lane of ``before``, then all lanes of the vector but its last."""
        places = ir.Constant(ir.VectorType(_I32, self.lanes), list(range(self.lanes - 1, 2 * self.lanes - 1)))
        return self.builder.shuffle_vector(before, vector, places)

    def sqrt(self, x: Any) -> Any:
        """Square root, correctly rounded."""
        return self._intrinsic(f"sqrt.{self._suffix}", self.type, x)

    def _estimate(self, name: str, x: Any) -> Any:
        """AVX-512's estimate to 14 bits, for float32; None elsewhere."""
        if not (self.avx512 and self.format.bits == 32):
            return None
        every = ir.Constant(ir.IntType(self.lanes), -1)
        return self._intrinsic(f"x86.avx512.{name}14.ps.512", self.type, x, self.constant(0.0), every)

    def rsqrt(self, x: Any) -> Any:
        """1 / sqrt(x) of positive normal numbers: an estimate and a Newton step where the CPU has one to 14 bits."""
        y = self._estimate("rsqrt", x)
        if y is None:
            return self.div(self.constant(1.0), self.sqrt(x))
        minus_half = self.mul(self.mul(self.constant(-0.5), x), y)  # y (3/2 - x y^2 / 2)
        return self.mul(y, self.fma(minus_half, y, self.constant(1.5)))

    def reciprocal(self, x: Any) -> Any:
        """1 / x of normal numbers, within an ULP: an estimate and a Newton step where the CPU has one to 14 bits."""
        y = self._estimate("rcp", x)
        if y is None:
            return self.div(self.constant(1.0), x)
        return self.fma(y, self.fma(self.sub(self.constant(-0.0), x), y, self.constant(1.0)), y)

    def look_up(self, table: Sequence[float], index: Any) -> Any:
        """table[index], of 32 float32 numbers, for the lowest five bits of each lane's index; only with AVX-512."""
        low, high = (ir.Constant(self.type, list(half)) for half in (table[:16], table[16:]))
        return self._intrinsic("x86.avx512.vpermi2var.ps.512", self.type, low, index, high)

    def scale(self, x: Any, n: Any) -> Any:
        """X times 2^n for whole numbers n, rounded once."""
        kind, every = "ps" if self.format.bits == 32 else "pd", ir.Constant(ir.IntType(self.lanes), -1)
        current_rounding = _I32(4)
        return self._intrinsic(f"x86.avx512.mask.scalef.{kind}.512", self.type, x, n, x, every, current_rounding)

    def abs(self, x: Any) -> Any:
        """The number without its sign."""
        return self._intrinsic(f"fabs.{self._suffix}", self.type, x)

    def copysign(self, x: Any, sign: Any) -> Any:
        """The magnitude of x with the sign of ``sign``."""
        return self._intrinsic(f"copysign.{self._suffix}", self.type, x, sign)

    def add(self, a: Any, b: Any) -> Any:
        """a + b."""
        return self.builder.fadd(a, b)

    def sub(self, a: Any, b: Any) -> Any:
        """a - b."""
        return self.builder.fsub(a, b)

    def mul(self, a: Any, b: Any) -> Any:
        """a * b."""
        return self.builder.fmul(a, b)

    def div(self, a: Any, b: Any) -> Any:
        """a / b."""
        return self.builder.fdiv(a, b)

    def where(self, op: str, a: Any, b: Any, yes: Any, no: Any) -> Any:
        """``yes`` in lanes where a ``op`` b holds, ``no`` in the others and where a or b is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(op, a, b), yes, no)

    def max(self, a: Any, b: Any) -> Any:
        """The larger; NaN in a stays."""
        return self.where("<", a, b, b, a)

    def min(self, a: Any, b: Any) -> Any:
        """The smaller; NaN in a stays."""
        return self.where(">", a, b, b, a)

    def sign(self, x: Any) -> Any:
        """1, -1, or x itself where x is 0 or NaN."""
        zero = self.constant(0.0)
        return self.where(">", x, zero, self.constant(1.0), self.where("<", x, zero, self.constant(-1.0), x))

    def sum(self, x: Any) -> Any:
        """Sum of the lanes, halving: lane i plus lane i + lanes / 2, and so on."""
        return self._fold(x, self.builder.fadd)

    def largest(self, x: Any) -> Any:
        """The largest lane; NaN wherever it stands is the result."""

        def larger(a: Any, b: Any) -> Any:
            keep_a = self.builder.fcmp_unordered("uno", a, a)
            keep_a = self.builder.or_(keep_a, self.builder.fcmp_ordered(">", a, b))
            return self.builder.select(keep_a, a, b)

        return self._fold(x, larger)

    def _fold(self, x: Any, combine: Callable[[Any, Any], Any]) -> Any:
        width = self.lanes
        while width > 1:
            width //= 2
            halves = [
                self.builder.shuffle_vector(
                    x, x, ir.Constant(ir.VectorType(_I32, width), list(range(start, start + width)))
                )
                for start in (0, width)
            ]
            x = combine(*halves)
        return self.builder.extract_element(x, _I32(0))

    def exp2_of_integer(self, n: Any) -> Any:
        """2^n for integers within the exponent range, by writing the exponent's bits."""
        bits = self.builder.shl(
            self.builder.add(n, self.iconstant(self.format.bias)), self.iconstant(self.format.mantissa)
        )
        return self.builder.bitcast(bits, self.type)


# ---------------------------------------------------------------------------------------------------- vector functions
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


def _sum_and_rest(v: Vectors, a: Any, b: Any) -> tuple[Any, Any]:
    """(a + b rounded, what the rounding lost), for |a| >= |b| or a = 0 (Dekker 1971)."""
    total = v.add(a, b)
    return total, v.sub(b, v.sub(total, a))


def _reduce(v: Vectors, x: Any) -> tuple[Any, Any, Any]:
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


def _scaled(v: Vectors, y: Any, n: Any, integers: Any) -> Any:
    """Y times 2^n; n itself may lie outside the exponent range where the result is denormal or inf."""
    if v.avx512:
        return v.scale(y, n)
    half = v.builder.ashr(integers, v.iconstant(1))
    factors = v.exp2_of_integer(half), v.exp2_of_integer(v.builder.sub(integers, half))
    return v.mul(v.mul(y, factors[0]), factors[1])


def exp(v: Vectors, x: Any) -> Any:
    """e^x; overflow gives inf, underflow a denormal or 0."""
    low, high = _EXP[v.dtype]["span"]
    n, integers, s = _reduce(v, v.min(v.max(x, v.constant(low)), v.constant(high)))
    return _scaled(v, v.add(v.constant(1.0), s), n, integers)


def _quotient(v: Vectors, a: Any, c: float, e: Any) -> tuple[Any, Any, Any]:
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


def sigmoid(v: Vectors, x: Any) -> Any:
    """1 / (1 + e^-x) as e / (1 + e) for negative x, e = exp(-|x|): no overflow, and small results keep their digits."""
    one, zero = v.constant(1.0), v.constant(0.0)
    low, _ = _EXP[v.dtype]["span"]
    n, integers, s = _reduce(v, v.max(v.sub(v.constant(-0.0), v.abs(x)), v.constant(low)))
    e = _scaled(v, v.add(one, s), n, integers)
    y, inverse, remainder = _quotient(v, v.where("<", x, zero, e, one), 1.0, e)
    return v.fma(remainder, inverse, y)


# Beyond these tanh rounds to 1.
_TANH_ONE = {types.float32: 9.02, types.float64: 19.07}


def tanh(v: Vectors, x: Any) -> Any:
    """By a table of polynomials where the CPU looks up 16 numbers at once, else by e^2|x|."""
    size = v.min(v.abs(x), v.constant(_TANH_ONE[v.dtype]))
    by_table = v.avx512 and v.dtype == types.float32
    return v.copysign(_tanh_by_table(v, size) if by_table else _tanh_by_exp(v, size), x)


def _tanh_by_exp(v: Vectors, size: Any) -> Any:
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


def _tanh_by_table(v: Vectors, size: Any) -> Any:
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


def relu(v: Vectors, x: Any) -> Any:
    """max(x, 0); NaN stays."""
    return v.max(x, v.constant(0.0))


# log(x) = k ln 2 + log(m), x = 2^k m with m in [sqrt(1/2), sqrt(2)); log(m) = 2 artanh(s), s = (m - 1) / (m + 1), by
# the series 2 s (1 + z/3 + z^2/5 + ...), z = s^2 <= 0.0295: the terms left out are below 2^-29 and 2^-59 of the
# result.
_LOG_TERMS = {types.float32: 5, types.float64: 11}


def log(v: Vectors, x: Any) -> Any:
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


def log1p(v: Vectors, x: Any) -> Any:
    """log(1 + x) for x >= 0: what 1 + x loses to rounding comes back as (x - (u - 1)) / u, u = 1 + x."""
    one = v.constant(1.0)
    u = v.add(one, x)
    return v.add(log(v, u), v.div(v.sub(x, v.sub(u, one)), u))


# The activations and their derivatives dx = f(dy, y), in the order of their run-time codes.
FORWARD: dict[str, Callable[[Vectors, Any], Any]] = {
    "identity": lambda v, x: x,
    "relu": relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
}
BACKWARD: dict[str, Callable[[Vectors, Any, Any], Any]] = {
    "identity": lambda v, dy, y: dy,
    "relu": lambda v, dy, y: v.where(">", y, v.constant(0.0), dy, v.constant(0.0)),
    "sigmoid": lambda v, dy, y: v.mul(dy, v.mul(y, v.sub(v.constant(1.0), y))),
    "tanh": lambda v, dy, y: v.mul(dy, v.mul(v.sub(v.constant(1.0), y), v.add(v.constant(1.0), y))),
}
CODES = {name: code for code, name in enumerate(FORWARD)}
# What the micro-kernels of rows know beside these: softmax takes a row as a whole.
ROW_CODES = {**CODES, "softmax": len(CODES)}

# Keras's fuzz factor: probabilities are kept this far from 0 and 1 before the logarithm.
CLIP = 1e-7


def _squared(v: Vectors, p: Any, t: Any) -> tuple[Any, Any]:
    d = v.sub(p, t)
    return v.mul(d, d), v.add(d, d)


def _half_squared(v: Vectors, p: Any, t: Any) -> tuple[Any, Any]:
    d = v.sub(p, t)
    return v.mul(v.mul(d, d), v.constant(0.5)), d


def _absolute(v: Vectors, p: Any, t: Any) -> tuple[Any, Any]:
    d = v.sub(p, t)
    return v.abs(d), v.sign(d)


def _bernoulli(v: Vectors, p: Any, t: Any) -> tuple[Any, Any]:
    one = v.constant(1.0)
    q = v.min(v.max(p, v.constant(CLIP)), v.constant(1.0 - CLIP))
    other = v.sub(one, q)
    loss = v.fma(t, log(v, q), v.mul(v.sub(one, t), log(v, other)))
    slope = v.div(v.sub(q, t), v.mul(q, other))
    return v.sub(v.constant(0.0), loss), v.where("==", p, q, slope, v.constant(0.0))


def _bernoulli_logit(v: Vectors, z: Any, t: Any) -> tuple[Any, Any]:
    e = exp(v, v.sub(v.constant(-0.0), v.abs(z)))
    loss = v.add(v.sub(v.max(z, v.constant(0.0)), v.mul(z, t)), log1p(v, e))
    return loss, v.sub(sigmoid(v, z), t)


# (loss, derivative) of one prediction and target, in the order of their run-time codes.
LOSSES: dict[str, Callable[[Vectors, Any, Any], tuple[Any, Any]]] = {
    "squared": _squared,
    "half_squared": _half_squared,
    "absolute": _absolute,
    "bernoulli": _bernoulli,
    "bernoulli_logit": _bernoulli_logit,
}
LOSS_CODES = {name: code for code, name in enumerate(LOSSES)}


@dataclass(frozen=True)
class Step:
    """An optimizer's update of one weight: (w, *state) from (h, w, g, *state), h its hyper-parameters in order."""

    states: tuple[str, ...]
    hyper: tuple[str, ...]
    update: Callable[..., Sequence[Any]]


def _sgd(v: Vectors, h: Sequence[Any], w: Any, g: Any) -> Sequence[Any]:
    (rate,) = h
    return (v.sub(w, v.mul(rate, g)),)


def _momentum(v: Vectors, h: Sequence[Any], w: Any, g: Any, velocity: Any) -> Sequence[Any]:
    rate, momentum = h
    velocity = v.sub(v.mul(momentum, velocity), v.mul(rate, g))
    return v.add(w, velocity), velocity


def _nesterov(v: Vectors, h: Sequence[Any], w: Any, g: Any, velocity: Any) -> Sequence[Any]:
    rate, momentum = h
    step = v.mul(rate, g)
    velocity = v.sub(v.mul(momentum, velocity), step)
    return v.add(w, v.sub(v.mul(momentum, velocity), step)), velocity


def _decay(v: Vectors, old: Any, rho: Any, new: Any) -> Any:
    """rho * old + (1 - rho) * new."""
    return v.fma(v.sub(v.constant(1.0), rho), new, v.mul(rho, old))


def _rmsprop(v: Vectors, h: Sequence[Any], w: Any, g: Any, square: Any) -> Sequence[Any]:
    rate, rho, epsilon = h
    square = _decay(v, square, rho, v.mul(g, g))
    minus_rate = v.sub(v.constant(-0.0), rate)
    return v.fma(v.mul(minus_rate, g), v.rsqrt(v.add(square, epsilon)), w), square


def _rmsprop_centered(v: Vectors, h: Sequence[Any], w: Any, g: Any, square: Any, mean: Any) -> Sequence[Any]:
    rate, rho, epsilon = h
    square, mean = _decay(v, square, rho, v.mul(g, g)), _decay(v, mean, rho, g)
    variance = v.sub(square, v.mul(mean, mean))
    return v.sub(w, v.div(v.mul(rate, g), v.sqrt(v.add(variance, epsilon)))), square, mean


def _with_velocity(plain: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
    """An update whose step goes through velocity = momentum * velocity + step; momentum is the last hyper-parameter."""

    def update(v: Vectors, h: Sequence[Any], w: Any, g: Any, *states: Any) -> Sequence[Any]:
        *held, velocity = states
        moved, *held = plain(v, h[:-1], v.constant(0.0), g, *held)
        velocity = v.sub(v.mul(h[-1], velocity), moved)
        return v.sub(w, velocity), *held, velocity

    return update


def _moments(v: Vectors, h: Sequence[Any], g: Any, m: Any, second: Any) -> tuple[Any, Any]:
    """m and v drawn towards g and g^2 by (1 - beta)."""
    gain_1, gain_2 = h
    return v.fma(gain_1, v.sub(g, m), m), v.fma(gain_2, v.sub(v.mul(g, g), second), second)


def _adam(v: Vectors, h: Sequence[Any], w: Any, g: Any, m: Any, second: Any) -> Sequence[Any]:
    alpha, epsilon, *gains = h
    m, second = _moments(v, gains, g, m, second)
    return v.sub(w, v.div(v.mul(alpha, m), v.add(v.sqrt(second), epsilon))), m, second


def _amsgrad(v: Vectors, h: Sequence[Any], w: Any, g: Any, m: Any, second: Any, top: Any) -> Sequence[Any]:
    alpha, epsilon, *gains = h
    m, second = _moments(v, gains, g, m, second)
    top = v.max(top, second)
    return v.sub(w, v.div(v.mul(alpha, m), v.add(v.sqrt(top), epsilon))), m, second, top


# The optimizers' updates, in the order of their run-time codes.
STEPS = {
    "sgd": Step((), ("learning_rate",), _sgd),
    "momentum": Step(("velocity",), ("learning_rate", "momentum"), _momentum),
    "nesterov": Step(("velocity",), ("learning_rate", "momentum"), _nesterov),
    "rmsprop": Step(("mean_square",), ("learning_rate", "rho", "epsilon"), _rmsprop),
    "rmsprop_centered": Step(("mean_square", "mean"), ("learning_rate", "rho", "epsilon"), _rmsprop_centered),
    "rmsprop_momentum": Step(
        ("mean_square", "velocity"), ("learning_rate", "rho", "epsilon", "momentum"), _with_velocity(_rmsprop)
    ),
    "rmsprop_centered_momentum": Step(
        ("mean_square", "mean", "velocity"),
        ("learning_rate", "rho", "epsilon", "momentum"),
        _with_velocity(_rmsprop_centered),
    ),
    "adam": Step(("m", "v"), ("alpha", "epsilon", "gain_1", "gain_2"), _adam),
    "amsgrad": Step(("m", "v", "v_max"), ("alpha", "epsilon", "gain_1", "gain_2"), _amsgrad),
}
STEP_CODES = {name: code for code, name in enumerate(STEPS)}
STEP_STATES = max(len(step.states) for step in STEPS.values())
STEP_HYPER = max(len(step.hyper) for step in STEPS.values())


# -------------------------------------------------------------------------------------------------------- micro-kernels

# Kinds of arguments and results: a size, stride or code; a number; a pointer to numbers; two numbers; nothing; a
# pointer to int32 indices; a pointer to sizes; a pointer to bytes.
_SIZE, _NUMBER, _POINTER, _PAIR, _NOTHING = "size", "number", "pointer", "pair", "nothing"
_INDICES, _SIZES, _BYTES = "indices", "sizes", "bytes"


@dataclass(frozen=True)
class MicroKernel:
    """A function that emits the IR of one micro-kernel, with the kinds of its result and arguments."""

    emit: Callable[..., Any]
    result: str
    arguments: tuple[str, ...]

    def symbol(self, dtype: Any) -> str:
        """The name of its machine code for a dtype."""
        return f"fastnn.{self.emit.__name__}.{dtype}"

    def declare(self, module: Any, dtype: Any) -> Any:
        """The function as LLVM knows it, without a body."""
        number = _FORMATS[dtype].scalar
        kinds = {
            _SIZE: _I64,
            _NUMBER: number,
            _POINTER: number.as_pointer(),
            _PAIR: ir.ArrayType(number, 2),
            _INDICES: _I32.as_pointer(),
            _SIZES: _I64.as_pointer(),
            _BYTES: ir.IntType(8).as_pointer(),
            _NOTHING: ir.VoidType(),
        }
        kind = ir.FunctionType(kinds[self.result], [kinds[argument] for argument in self.arguments])
        return cgutils.get_or_insert_function(module, kind, self.symbol(dtype))

    def define(self, module: Any, dtype: Any) -> Any:
        """The function with its body."""
        function = self.declare(module, dtype)
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        emitted = self.emit(Vectors(builder, dtype, tile(dtype.bitwidth // 8).VL), *function.args)
        if self.result == _NOTHING:
            builder.ret_void()
        elif self.result == _PAIR:
            pair = ir.Constant(function.function_type.return_type, ir.Undefined)
            for i, number in enumerate(emitted):
                pair = builder.insert_value(pair, number, i)
            builder.ret(pair)
        else:
            builder.ret(emitted)
        return function

    def prototype(self, dtype: Any) -> Any:
        """The function as ctypes calls it; pointers are addresses. Not for a result of two numbers."""
        number = ctypes.c_float if dtype.bitwidth == 32 else ctypes.c_double
        kinds: dict[str, Any] = {_SIZE: ctypes.c_int64, _NUMBER: number, _NOTHING: None}
        return ctypes.CFUNCTYPE(*(kinds.get(kind, ctypes.c_void_p) for kind in (self.result, *self.arguments)))

    def intrinsic(self) -> Any:
        """What Numba functions call: a call of the machine code, for the dtype of the first pointer to numbers."""

        def typer(typingctx: Any, *given: Any) -> Any:
            dtype = next(a.dtype for a in given if isinstance(a, types.CPointer) and a.dtype in _FORMATS)
            kinds = {
                _SIZE: types.int64,
                _NUMBER: dtype,
                _POINTER: types.CPointer(dtype),
                _PAIR: types.UniTuple(dtype, 2),
                _INDICES: types.CPointer(types.int32),
                _SIZES: types.CPointer(types.int64),
                _BYTES: types.CPointer(types.uint8),
                _NOTHING: types.void,
            }

            def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                returned = builder.call(self.declare(builder.module, dtype), values)
                return context.get_dummy_value() if self.result == _NOTHING else returned

            return kinds[self.result](*(kinds[kind] for kind in self.arguments)), codegen

        typer.__name__, typer.__doc__ = self.emit.__name__, self.emit.__doc__
        names = ("typingctx", *(f"{kind}_{i}" for i, kind in enumerate(self.arguments)))
        typer.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        )
        return intrinsic(typer)


# Every micro-kernel; ``micro.load`` turns them into machine code, once for a dtype.
MICRO_KERNELS: list[MicroKernel] = []


def _micro_kernel(result: str, *arguments: str) -> Callable[[Callable[..., Any]], Any]:
    """Enter ``emit(v, *values)`` as a micro-kernel and make of it the intrinsic that calls it."""

    def enter(emit: Callable[..., Any]) -> Any:
        MICRO_KERNELS.append(MicroKernel(emit, result, arguments))
        return MICRO_KERNELS[-1].intrinsic()

    return enter


def _address(typingctx: Any, array: Any, offset: Any) -> Any:
    """Pointer to the element ``offset`` places behind the first element of an array."""
    signature = types.CPointer(array.dtype)(array, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return signature, codegen


def _pointer(typingctx: Any, like: Any, address: Any) -> Any:
    """Pointer to numbers of an array's dtype, from their address in memory."""
    signature = types.CPointer(like.dtype)(like, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return signature, codegen


def _prefetch(typingctx: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of the element ``offset`` places behind the first one, ahead of its use."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        _emit_prefetch(builder, builder.gep(data, [arguments[1]]), _INTO_L1)
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


# How near to the core a prefetch brings a line.
_INTO_L1, _INTO_L2 = 3, 2


def _emit_prefetch(builder: Any, pointer: Any, level: int) -> None:
    """A prefetch, to read, of data."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.bitcast(pointer, byte), _I32(0), _I32(level), _I32(1)])


# Called in the kernels as address(array, offset), pointer(like, address) and prefetch(array, offset); Numba supplies
# the typing context.
address: Any = intrinsic(_address)
pointer: Any = intrinsic(_pointer)
prefetch: Any = intrinsic(_prefetch)


# ---------------------------------------------------------------------------------------------------------------- gemm


def _opaque(builder: Any, value: Any) -> Any:
    """The value, through an empty instruction that the optimiser cannot see through.

    Left to itself LLVM rewrites the rows' addresses as one chain of additions, each waiting for the one before.
    """
    same = ir.InlineAsm(ir.FunctionType(value.type, [value.type]), "", "=r,0", side_effect=False)
    return builder.call(same, [value])


# Steps ahead of its use that a tile asks for a row of B, and for the lines of a column of A that is contiguous: where A
# is walked down its columns, or lies in tiles, each step comes to other lines (float64 tiles beyond L1: 15% faster with
# it). Only with AVX-512: the smaller tiles of other instruction sets have no room for it between their multiply-adds
# (AVX2: 5 to 10% slower with it).
_B_AHEAD, _A_AHEAD = 8, 16


def _ahead(v: Vectors, row_stride: Any) -> Any:
    """How far behind a row of B the one lies that a tile asks for at the same time; 0 for none.

    Rows that fight for one set of L1 are not asked for, since they would drive out each other.
    """
    builder = v.builder
    low = builder.and_(row_stride, _I64(ALIASED // v.format.bytes - 1))
    aliased = builder.icmp_signed("==", low, _ZERO)
    return builder.select(aliased, _ZERO, builder.mul(row_stride, _I64(_B_AHEAD)))


def _emit_tile(
    v: Vectors, rows: int, vectors: int, columns: Any, arguments: Sequence[Any], multiply_add: Callable[..., Any]
) -> None:
    """One tile of ``rows`` rows of ``vectors`` vectors: its sums stay in registers from the first k to the last."""
    kc, a, row_stride_a, column_stride_a, b, row_stride_b, c, row_stride_c, accumulate = arguments
    builder, lanes = v.builder, v.lanes
    entry, loop = builder.block, builder.append_basic_block("tile.k")
    # One pointer for every four rows of A; rows 1 to 3 of a group are one addressing mode away.
    offsets = [_opaque(builder, builder.mul(row_stride_a, _I64(i))) if i else _I64(0) for i in range(min(4, rows))]
    groups = [builder.gep(a, [builder.mul(row_stride_a, _I64(i))]) for i in range(0, rows, 4)]
    tile = [(i, j) for i in range(rows) for j in range(vectors)]
    ahead = _ahead(v, row_stride_b)
    ahead_a = builder.mul(column_stride_a, _I64(_A_AHEAD))
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(_I64)
    sums = {at: builder.phi(v.type) for at in tile}
    starts = [builder.phi(a.type) for _ in groups]
    b_k = builder.phi(b.type)
    b_row = [v.load(b_k, _I64(j * lanes)) for j in range(vectors)]
    if v.avx512:
        later = [(b_k, builder.add(ahead, _I64(j * lanes))) for j in range(vectors)]
        later += [(starts[0], builder.add(ahead_a, _I64(i))) for i in range(0, rows, LINE // v.format.bytes)]
        for pointer, offset in later:
            _emit_prefetch(builder, builder.gep(pointer, [offset]), _INTO_L1)
    grown = {}
    for i in range(rows):
        a_i = v.splat(builder.load(builder.gep(starts[i // 4], [offsets[i % 4]])))
        for j in range(vectors):
            grown[i, j] = multiply_add(a_i, b_row[j], sums[i, j])
    following = builder.add(k, _I64(1))
    recurrences = [(k, _I64(0), following), (b_k, b, _opaque(builder, builder.gep(b_k, [row_stride_b])))]
    recurrences += [(sums[at], v.constant(0.0), grown[at]) for at in tile]
    recurrences += [
        (pointer, first, _opaque(builder, builder.gep(pointer, [column_stride_a])))
        for pointer, first in zip(starts, groups, strict=True)
    ]
    for phi, first, later in recurrences:
        phi.add_incoming(first, entry)
        phi.add_incoming(later, loop)
    end = builder.append_basic_block("tile.end")
    builder.cbranch(builder.icmp_signed("<", following, kc), loop, end)

    builder.position_at_end(end)
    left = builder.sub(columns, _I64((vectors - 1) * lanes))
    mask = v.mask(left)
    whole = builder.icmp_signed("==", left, _I64(lanes))
    fresh = builder.icmp_signed("==", accumulate, _I64(0))

    def write(add: bool, masked: bool) -> None:
        for i, j in tile:
            last = masked and j == vectors - 1
            row, offset, value = builder.gep(c, [builder.mul(row_stride_c, _I64(i))]), _I64(j * lanes), grown[i, j]
            if add:
                value = v.add(value, v.load_masked(row, offset, mask) if last else v.load(row, offset))
            if last:
                v.store_masked(value, row, offset, mask)
            else:
                v.store(value, row, offset)

    for add, condition in ((False, fresh), (True, builder.not_(fresh))):
        with builder.if_then(condition), builder.if_else(whole) as (full, partial):
            with full:
                write(add, masked=False)
            with partial:
                write(add, masked=True)


@_micro_kernel(
    _NOTHING, _SIZE, _SIZE, _SIZE, _POINTER, _SIZE, _SIZE, _POINTER, _SIZE, _POINTER, _SIZE, _SIZE
)  # fmt: skip
def gemm_tile(v: Vectors, rows: Any, columns: Any, *operands: Any) -> None:
    """C[rows, columns] = A[rows, kc] @ B[kc, columns], added to C where ``accumulate`` is not 0.

    Called as (rows, columns, kc, A, row stride and column stride of A, B, row stride of B, C, row stride of C,
    accumulate). 1 <= rows <= MR, 1 <= columns <= NR, kc >= 1. B's rows are contiguous and readable up to the next
    multiple of VL columns; C's rows are contiguous, and nothing beyond ``columns`` is touched. Without ``accumulate`` C
    is written, never read. Each (rows, vectors) pair is its own code, so an edge costs what it holds.
    """
    _emit_tiles(v, rows, columns, operands, v.fma)


@_micro_kernel(
    _NOTHING, _SIZE, _SIZE, _SIZE, _POINTER, _SIZE, _SIZE, _POINTER, _SIZE, _POINTER, _SIZE, _SIZE
)  # fmt: skip
def gemm_tile_pairs(v: Vectors, rows: Any, columns: Any, *operands: Any) -> None:
    """``gemm_tile`` of bfloat16 numbers, sums in float32: each number of A and B is a pair of neighbours in depth.

    Depth and strides count pairs. Only for a CPU with such products (``machine.bfloat16_pairs``).
    """
    if v.has_pairs:
        _emit_tiles(v, rows, columns, operands, v.dot_pairs)


def _emit_tiles(v: Vectors, rows: Any, columns: Any, operands: Sequence[Any], multiply_add: Callable[..., Any]) -> None:
    builder, shape = v.builder, tile(v.format.bytes)
    vectors = builder.sdiv(builder.add(columns, _I64(v.lanes - 1)), _I64(v.lanes))
    key = builder.add(builder.mul(rows, _I64(shape.NV + 1)), vectors)
    done = builder.append_basic_block("tile.done")
    switch = builder.switch(key, done)
    for i in range(1, shape.MR + 1):
        for j in range(1, shape.NV + 1):
            block = builder.append_basic_block(f"tile.{i}x{j}")
            switch.add_case(_I64(i * (shape.NV + 1) + j), block)
            builder.position_at_end(block)
            _emit_tile(v, i, j, columns, operands, multiply_add)
            builder.branch(done)
    builder.position_at_end(done)


# --------------------------------------------------------------------------------------------------------- elementwise


class _Span:
    """One step of a loop over memory: loads and stores at the loop's offset, masked in a partial step.

    ``past_caches`` says where stores of whole vectors go.
    """

    def __init__(self, v: Vectors, offset: Any, mask: Any = None, past_caches: bool = False) -> None:
        self.v, self.offset, self.mask, self.past_caches = v, offset, mask, past_caches

    def load(self, pointer: Any, fill: float = 0.0) -> Any:
        """The step's lanes; ``fill`` in lanes beyond the end."""
        if self.mask is None:
            return self.v.load(pointer, self.offset)
        return self.v.load_masked(pointer, self.offset, self.mask, fill)

    def store(self, vector: Any, pointer: Any) -> None:
        """Write the step's lanes."""
        if self.mask is not None:
            self.v.store_masked(vector, pointer, self.offset, self.mask)
        elif self.past_caches:
            self.v.stream(vector, pointer, self.offset)
        else:
            self.v.store(vector, pointer, self.offset)

    def keep(self, vector: Any, fill: Any) -> Any:
        """``vector`` in the lanes that exist, ``fill`` beyond the end."""
        return vector if self.mask is None else self.v.builder.select(self.mask, vector, fill)


def _for_each(v: Vectors, count: Any, body: Callable[[_Span], None], stream: Any = None) -> None:
    """Run ``body`` over ``count`` elements: whole vectors, then one masked step for the rest.

    With a pointer ``stream``, which ``body`` stores to, whole vectors are those that begin at a multiple of their size
    there, and go past the caches; a masked step comes before them.
    """
    builder, lanes = v.builder, v.lanes
    begin: Any = _ZERO
    if stream is not None:
        begin = _until_aligned(v, count, stream)
        body(_Span(v, _ZERO, v.mask(begin)))
    whole = builder.sdiv(builder.sub(count, begin), _I64(lanes))
    with cgutils.for_range(builder, whole, intp=_I64) as loop:
        offset = builder.add(begin, builder.mul(loop.index, _I64(lanes)))
        body(_Span(v, offset, past_caches=stream is not None))
    if stream is not None:
        builder.fence("seq_cst")  # what went past the caches is not in the order of other stores
    start = builder.add(begin, builder.mul(whole, _I64(lanes)))
    rest = builder.sub(count, start)
    with builder.if_then(builder.icmp_signed(">", rest, _I64(0)), likely=False):
        body(_Span(v, start, v.mask(rest)))


def _mapped(
    v: Vectors, f: Callable[..., Any], count: Any, sources: Sequence[Any], y: Any, past_caches: bool = False
) -> Callable[[], None]:
    """What emits y = f(sources), number by number; y may be a source unless it goes past the caches."""

    def body(at: _Span) -> None:
        at.store(f(v, *(at.load(source) for source in sources)), y)

    return lambda: _for_each(v, count, body, y if past_caches else None)


def _until_aligned(v: Vectors, count: Any, pointer: Any) -> Any:
    """Numbers up to the first multiple of a vector's size in memory, ``count`` at most."""
    builder = v.builder
    size = v.lanes * v.format.bytes
    missing = builder.and_(builder.neg(builder.ptrtoint(pointer, _I64)), _I64(size - 1))
    numbers = builder.udiv(missing, _I64(v.format.bytes))
    return builder.select(builder.icmp_signed("<", numbers, count), numbers, count)


def row_of(f: Callable[[Vectors, Any], Any]) -> MicroKernel:
    """y = f(x) on ``count`` numbers for a vector function alone, outside the library: (count, x, y)."""

    def row(v: Vectors, count: Any, x: Any, y: Any) -> None:
        _mapped(v, f, count, [x], y)()

    row.__name__ = f"{f.__name__}_row"
    return MicroKernel(row, _NOTHING, (_SIZE, _POINTER, _POINTER))


def _switch(builder: Any, code: Any, cases: Sequence[Callable[[], Any]]) -> None:
    """Run the case of a run-time code: the choice is made once, outside the loops."""
    done = builder.append_basic_block("code.done")
    switch = builder.switch(code, done)
    for number, case in enumerate(cases):
        block = builder.append_basic_block(f"code.{number}")
        switch.add_case(_I64(number), block)
        builder.position_at_end(block)
        case()
        builder.branch(done)
    builder.position_at_end(done)


@_micro_kernel(_NOTHING, _SIZE, _SIZE, _POINTER, _POINTER)
def forward_row(v: Vectors, code: Any, count: Any, x: Any, y: Any) -> None:
    """y = f(x), f by its code in ``ROW_CODES``; y may be x."""
    cases = [_mapped(v, f, count, [x], y) for f in FORWARD.values()]
    _switch(v.builder, code, [*cases, lambda: _softmax(v, count, x, y)])


@_micro_kernel(_NOTHING, _SIZE, _SIZE, _POINTER, _POINTER, _POINTER)
def forward_bias_row(v: Vectors, code: Any, count: Any, x: Any, bias: Any, y: Any) -> None:
    """y = f(x + bias), f by its code in ``ROW_CODES``; y may be x."""

    def case(f: Callable[..., Any]) -> Callable[[], None]:
        return lambda: _for_each(v, count, lambda at: at.store(f(v, v.add(at.load(x), at.load(bias))), y))

    def softmax() -> None:
        case(FORWARD["identity"])()
        _softmax(v, count, y, y)

    _switch(v.builder, code, [*(case(f) for f in FORWARD.values()), softmax])


@_micro_kernel(_NOTHING, _SIZE, _SIZE, _POINTER, _POINTER, _POINTER)
def backward_row(v: Vectors, code: Any, count: Any, dy: Any, y: Any, dx: Any) -> None:
    """From dL/dy and y = f(x) to dx = dL/dx, f by its code in ``ROW_CODES``; dx may be dy or y."""
    cases = [_mapped(v, f, count, [dy, y], dx) for f in BACKWARD.values()]
    _switch(v.builder, code, [*cases, lambda: _softmax_backward(v, count, dy, y, dx)])


@_micro_kernel(_NOTHING, _SIZE, _POINTER, _POINTER, _POINTER)
def add_row(v: Vectors, count: Any, a: Any, b: Any, y: Any) -> None:
    """y = a + b; y may be a or b."""
    _mapped(v, Vectors.add, count, [a, b], y)()


# The same past the caches, for results that are larger than these: they need not be read before they are written.


@_micro_kernel(_NOTHING, _SIZE, _SIZE, _POINTER, _POINTER)
def forward_stream(v: Vectors, code: Any, count: Any, x: Any, y: Any) -> None:
    """y = f(x), f by its code in ``CODES``."""
    _switch(v.builder, code, [_mapped(v, f, count, [x], y, past_caches=True) for f in FORWARD.values()])


@_micro_kernel(_NOTHING, _SIZE, _SIZE, _POINTER, _POINTER, _POINTER)
def backward_stream(v: Vectors, code: Any, count: Any, dy: Any, y: Any, dx: Any) -> None:
    """From dL/dy and y = f(x) to dx = dL/dx, f by its code in ``CODES``."""
    _switch(v.builder, code, [_mapped(v, f, count, [dy, y], dx, past_caches=True) for f in BACKWARD.values()])


@_micro_kernel(_NOTHING, _SIZE, _POINTER, _POINTER, _POINTER)
def add_stream(v: Vectors, count: Any, a: Any, b: Any, y: Any) -> None:
    """y = a + b."""
    _mapped(v, Vectors.add, count, [a, b], y, past_caches=True)()


# Rows ahead of its use that a row of B is asked for: rows lie so far apart that the CPU does not foresee the next one.
_ROWS_AHEAD = 16


@_micro_kernel(_NOTHING, _SIZE, _SIZE, _SIZE, _POINTER, _SIZE, _POINTER, _SIZE)
def copy_rows(
    v: Vectors, rows: Any, columns: Any, width: Any, x: Any, row_stride: Any, panel: Any, panel_stride: Any
) -> None:
    """panel[i, j] = x[i, j] for i < rows, j < columns, zeros for columns <= j < width, a multiple of VL.

    Row after row, so that a row may write over the zeros behind the one before it: ``panel_stride`` < ``width``.
    """
    builder = v.builder
    vectors = builder.sdiv(width, _I64(v.lanes))

    def copy(masked: bool) -> None:
        with cgutils.for_range(builder, rows, intp=_I64) as down:
            source, target = (builder.mul(down.index, stride) for stride in (row_stride, panel_stride))
            later = builder.add(source, builder.mul(row_stride, _I64(_ROWS_AHEAD)))
            with cgutils.for_range(builder, vectors, intp=_I64) as across:
                j = builder.mul(across.index, _I64(v.lanes))
                _emit_prefetch(builder, builder.gep(x, [builder.add(later, j)]), _INTO_L1)
                at = builder.add(source, j)
                row = v.load_masked(x, at, v.mask(builder.sub(columns, j))) if masked else v.load(x, at)
                v.store(row, panel, builder.add(target, j))

    with builder.if_else(builder.icmp_signed(">=", columns, width)) as (whole, partial):
        with whole:
            copy(masked=False)
        with partial:
            copy(masked=True)


class _Total:
    """A running sum of vectors across the steps of a loop; ``value`` adds up its lanes."""

    def __init__(self, v: Vectors, start: Any = None) -> None:
        self.v = v
        self.slot = cgutils.alloca_once(v.builder, v.type)
        v.builder.store(v.constant(0.0) if start is None else start, self.slot)

    def add(self, at: _Span, vector: Any) -> None:
        """Add the lanes that exist."""
        kept = at.keep(vector, self.v.constant(0.0))
        self.v.builder.store(self.v.add(self.v.builder.load(self.slot), kept), self.slot)

    def fma(self, a: Any, b: Any) -> None:
        """Add a * b."""
        self.v.builder.store(self.v.fma(a, b, self.v.builder.load(self.slot)), self.slot)

    def join(self, other: _Total) -> None:
        """Add another total's lanes."""
        self.v.builder.store(self.v.add(self.vector(), other.vector()), self.slot)

    def vector(self) -> Any:
        """The sum of every lane."""
        return self.v.builder.load(self.slot)

    def raise_to(self, vector: Any) -> None:
        """Keep the larger of each lane."""
        self.v.builder.store(self.v.max(self.v.builder.load(self.slot), vector), self.slot)

    def value(self) -> Any:
        """The sum."""
        return self.v.sum(self.v.builder.load(self.slot))

    def top(self) -> Any:
        """The largest lane."""
        return self.v.largest(self.v.builder.load(self.slot))


# ------------------------------------------------------------------------------------------------ losses and optimizers


@_micro_kernel(_NUMBER, _SIZE, _SIZE, _POINTER, _POINTER, _NUMBER, _POINTER)
def loss_row(v: Vectors, code: Any, count: Any, pred: Any, target: Any, scale: Any, dpred: Any) -> Any:
    """Sum of the losses of ``count`` elements, by code in ``LOSS_CODES``; dpred = derivative * scale."""
    total, factor = _Total(v), v.splat(scale)

    def case(f: Callable[..., Any]) -> Callable[[], None]:
        def body(at: _Span) -> None:
            loss, slope = f(v, at.load(pred), at.load(target))
            total.add(at, loss)
            at.store(v.mul(slope, factor), dpred)

        return lambda: _for_each(v, count, body)

    _switch(v.builder, code, [case(f) for f in LOSSES.values()])
    return total.value()


def _penalty(v: Vectors, count: Any, x: Any, l1: Any, l2: Any, dx: Any, add: bool) -> Any:
    """Sum of l1 |x| + l2 x^2; l1 sign(x) + 2 l2 x is written to dx, or added to it."""
    total, first, second = _Total(v), v.splat(l1), v.splat(l2)

    def body(at: _Span) -> None:
        number = at.load(x)
        total.add(at, v.fma(v.mul(second, number), number, v.mul(first, v.abs(number))))
        slope = v.fma(v.add(second, second), number, v.mul(first, v.sign(number)))
        at.store(v.add(at.load(dx), slope) if add else slope, dx)

    _for_each(v, count, body)
    return total.value()


@_micro_kernel(_NUMBER, _SIZE, _POINTER, _NUMBER, _NUMBER, _POINTER)
def penalty_row(v: Vectors, count: Any, x: Any, l1: Any, l2: Any, dx: Any) -> Any:
    """Sum of l1 |x| + l2 x^2; dx = l1 sign(x) + 2 l2 x."""
    return _penalty(v, count, x, l1, l2, dx, add=False)


@_micro_kernel(_NUMBER, _SIZE, _POINTER, _NUMBER, _NUMBER, _POINTER)
def add_penalty_row(v: Vectors, count: Any, x: Any, l1: Any, l2: Any, dx: Any) -> Any:
    """Sum of l1 |x| + l2 x^2; dx += l1 sign(x) + 2 l2 x."""
    return _penalty(v, count, x, l1, l2, dx, add=True)


def _hyper(v: Vectors, step: Step, hyper: Any) -> Sequence[Any]:
    """The hyper-parameters of a step, each in every lane."""
    return [v.splat(v.builder.load(v.builder.gep(hyper, [_I64(i)]))) for i in range(len(step.hyper))]


@_micro_kernel(_NOTHING, _SIZE, _SIZE, *[_POINTER] * (2 + STEP_STATES + 1))
def update_row(v: Vectors, code: Any, count: Any, w: Any, dw: Any, *states_and_hyper: Any) -> None:
    """One optimizer step on ``count`` weights in place, by code in ``STEP_CODES``.

    Behind w and dw come the states of ``STEPS`` in order (those that a step lacks are not touched) and its
    hyper-parameters.
    """
    *states, hyper = states_and_hyper

    def case(step: Step) -> Callable[[], None]:
        def run() -> None:
            h = _hyper(v, step, hyper)

            def body(at: _Span) -> None:
                held = [w, *states[: len(step.states)]]
                weight, *state = [at.load(pointer) for pointer in held]
                for value, pointer in zip(step.update(v, h, weight, at.load(dw), *state), held, strict=True):
                    at.store(value, pointer)

            _for_each(v, count, body)

        return run

    _switch(v.builder, code, [case(step) for step in STEPS.values()])


# ------------------------------------------------------------------------------------------------------------- softmax


_LOWEST = float("-inf")


def _largest(v: Vectors, count: Any, x: Any) -> Any:
    """The largest of ``count`` numbers; NaN wherever it stands is the result."""
    top = _Total(v, v.constant(_LOWEST))
    _for_each(v, count, lambda at: top.raise_to(at.load(x, _LOWEST)))
    return top.top()


@_micro_kernel(_SIZE, _SIZE, _POINTER)
def argmax_row(v: Vectors, count: Any, x: Any) -> Any:
    """Place of the first of the largest numbers; 0 where one is NaN."""
    builder = v.builder
    top = v.splat(_largest(v, count, x))
    place = cgutils.alloca_once_value(builder, _I64(-1))

    def body(at: _Span) -> None:
        equal = v.bits(builder.fcmp_ordered("==", at.load(x, _LOWEST), top))
        here = builder.add(at.offset, v.first_one(equal))
        first = builder.and_(
            builder.icmp_signed("<", builder.load(place), _ZERO), builder.icmp_signed("!=", equal, _ZERO)
        )
        builder.store(builder.select(first, here, builder.load(place)), place)

    _for_each(v, count, body)
    found = builder.load(place)
    return builder.select(builder.icmp_signed("<", found, _ZERO), _ZERO, found)


def _softmax(v: Vectors, count: Any, x: Any, y: Any, scale: Any = None) -> tuple[Any, Any]:
    """y = softmax(x), times ``scale`` where one is given; (max of x, sum of exp(x - max)). y may be x."""
    total = _Total(v)
    largest = _largest(v, count, x)
    shift = v.splat(largest)

    def exponential(at: _Span) -> None:
        e = exp(v, v.sub(at.load(x), shift))
        total.add(at, e)
        at.store(e, y)

    _for_each(v, count, exponential)
    mass = total.value()
    factor = v.splat(v.builder.fdiv(v.format.scalar(1.0) if scale is None else scale, mass))
    _for_each(v, count, lambda at: at.store(v.mul(at.load(y), factor), y))
    return largest, mass


@_micro_kernel(_PAIR, _SIZE, _POINTER, _NUMBER, _POINTER)
def softmax_row(v: Vectors, count: Any, x: Any, scale: Any, y: Any) -> Any:
    """y = scale * softmax(x); returns (max of x, sum of exp(x - max)). y may be x."""
    return _softmax(v, count, x, y, scale)


@_micro_kernel(_NUMBER, _SIZE, _POINTER, _SIZE, _NUMBER, _POINTER)
def label_row(v: Vectors, count: Any, x: Any, label: Any, scale: Any, dx: Any) -> Any:
    """Cross-entropy of softmax(x) with class ``label``: log(sum of exp(x)) - x[label]; dx = scale * its derivative.

    A row of at most VL classes stays in registers from its logits to their derivative.
    """
    builder = v.builder
    chosen = builder.load(builder.gep(x, [label]))
    result = cgutils.alloca_once(builder, v.format.scalar)

    def finish(top: Any, mass: Any) -> None:
        log_mass = builder.extract_element(log(v, v.splat(mass)), _I32(0))
        builder.store(builder.fadd(builder.fsub(top, chosen), log_mass), result)

    with builder.if_else(builder.icmp_signed("<=", count, _I64(v.lanes))) as (short, long):
        with short:
            at = _Span(v, _ZERO, v.mask(count))
            logits = at.load(x, _LOWEST)
            top = v.largest(logits)
            e = exp(v, v.sub(logits, v.splat(top)))
            mass = v.sum(at.keep(e, v.constant(0.0)))
            wanted = builder.icmp_signed("==", v.lane_numbers, v.isplat(label))
            there = builder.select(wanted, v.splat(scale), v.constant(0.0))
            at.store(v.sub(v.mul(e, v.splat(builder.fdiv(scale, mass))), there), dx)
            finish(top, mass)
        with long:
            finish(*_softmax(v, count, x, dx, scale))
            slope = builder.gep(dx, [label])
            builder.store(builder.fsub(builder.load(slope), scale), slope)
    return builder.load(result)


def _softmax_backward(v: Vectors, count: Any, dy: Any, y: Any, dx: Any) -> None:
    """dx = y (dy - sum of dy y); dx may be dy or y."""
    total = _Total(v)
    _for_each(v, count, lambda at: total.add(at, v.mul(at.load(dy), at.load(y))))
    dot = v.splat(total.value())
    _for_each(v, count, lambda at: at.store(v.mul(at.load(y), v.sub(at.load(dy), dot)), dx))


@_micro_kernel(_NOTHING, _SIZE, _POINTER, _POINTER, _POINTER)
def softmax_backward_row(v: Vectors, count: Any, dy: Any, y: Any, dx: Any) -> None:
    """dx = y (dy - sum of dy y); dx may be dy or y."""
    _softmax_backward(v, count, dy, y, dx)


@_micro_kernel(_PAIR, _SIZE, _POINTER, _NUMBER, _POINTER, _NUMBER, _POINTER)
def cross_entropy_row(v: Vectors, count: Any, x: Any, log_sum: Any, t: Any, scale: Any, y: Any) -> Any:
    """For y = scale * softmax(x): returns (sum t (log_sum - x), sum t) and leaves y = y * sum t - scale * t."""
    loss, mass = _Total(v), _Total(v)
    shift, factor = v.splat(log_sum), v.splat(scale)

    def sums(at: _Span) -> None:
        share = at.load(t)
        loss.add(at, v.mul(share, v.sub(shift, at.load(x))))
        mass.add(at, share)

    _for_each(v, count, sums)
    total = mass.value()
    weight = v.splat(total)
    _for_each(v, count, lambda at: at.store(v.sub(v.mul(at.load(y), weight), v.mul(at.load(t), factor)), y))
    return loss.value(), total


@_micro_kernel(_NUMBER, _SIZE, _POINTER, _POINTER, _NUMBER, _POINTER)
def probability_loss_row(v: Vectors, count: Any, p: Any, t: Any, scale: Any, dp: Any) -> Any:
    """Sum of -t log q, q = p / sum of p kept ``CLIP`` from 0 and 1; dp = derivative * scale. dp may be t.

    With s = dL/dq where q was not clipped: dp = (s - sum of s q) / sum of p. Classes without a share cost nothing,
    whatever their p.
    """
    mass, loss, dot = _Total(v), _Total(v), _Total(v)
    zero, factor = v.constant(0.0), v.splat(scale)
    _for_each(v, count, lambda at: mass.add(at, at.load(p)))
    total = v.splat(mass.value())

    def slopes(at: _Span) -> None:
        scaled, share = v.div(at.load(p), total), at.load(t)
        q = v.min(v.max(scaled, v.constant(CLIP)), v.constant(1.0 - CLIP))
        logarithm = v.where("==", q, q, log(v, q), q)  # NaN stays
        loss.add(at, v.where("!=", share, zero, v.mul(share, logarithm), zero))
        slope = v.where("==", q, scaled, v.div(v.mul(share, factor), q), zero)
        dot.add(at, v.mul(slope, scaled))
        at.store(slope, dp)

    _for_each(v, count, slopes)
    mean = v.splat(dot.value())
    _for_each(v, count, lambda at: at.store(v.div(v.sub(mean, at.load(dp)), total), dp))
    return v.builder.fneg(loss.value())


# ------------------------------------------------------------------------------------------------------------- dropout
#
# Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): ten rounds of two 32 x 32 -> 64 bit products turn a counter of four
# words, under a key of two, into four random words. Each word stands in the low half of a 64-bit lane, what is above it
# is not looked at: so a product's low half is the product itself, and its high half one shift away.

_PHILOX_FACTORS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_PHILOX_ROUNDS = 10

# Counters in a vector, whatever the vectors' length: the words of 16 counters are the masks of 64 columns, in order.
_COUNTERS = 16
_WORDS = ir.VectorType(_I64, _COUNTERS)
_COLUMNS = 4 * _COUNTERS


def _each_word(value: int) -> Any:
    return ir.Constant(_WORDS, [value] * _COUNTERS)


def _philox(builder: Any, counter: Sequence[Any], key: Sequence[Any]) -> Sequence[Any]:
    """Four vectors of words, clean of what is above them, for four of a counter and two of a key."""
    low, half = _each_word(0xFFFFFFFF), _each_word(32)
    a, b, c, d = counter
    for number in range(_PHILOX_ROUNDS):
        p, q = (
            builder.mul(builder.and_(word, low), _each_word(factor))
            for word, factor in zip((a, c), _PHILOX_FACTORS, strict=True)
        )
        left, right = (
            builder.add(word, _each_word(number * step)) for word, step in zip(key, _PHILOX_KEY_STEPS, strict=True)
        )
        a, b, c, d = (
            builder.xor(builder.xor(builder.lshr(q, half), left), b),
            q,
            builder.xor(builder.xor(builder.lshr(p, half), right), d),
            p,
        )
    return [builder.and_(word, low) for word in (a, b, c, d)]


class _Mask:
    """One row's mask of dropout, see the table's ``dropout``: a column is kept where its word is not below threshold.

    ``names`` are (threshold, seed, stream, step, row).
    """

    def __init__(self, v: Vectors, names: Sequence[Any]) -> None:
        self.v = Vectors(v.builder, v.dtype, _COUNTERS)
        threshold, seed, stream, step, row = names
        self._threshold = self.v.splat(threshold)
        self._key = [self.v.splat(word) for word in (seed, v.builder.lshr(seed, _I64(32)))]
        self._counter = [self.v.splat(word) for word in (row, step, stream)]

    def _keep(self, group: Any) -> Iterator[tuple[int, Any]]:
        """(offset, lanes kept) of the vectors of a group of ``_COLUMNS`` columns."""
        builder = self.v.builder
        first = self.v.splat(builder.mul(group, _I64(_COUNTERS)))
        counter = builder.add(first, ir.Constant(_WORDS, list(range(_COUNTERS))))
        for i, word in enumerate(_philox(builder, [counter, *self._counter], self._key)):
            yield i * _COUNTERS, builder.icmp_signed(">=", word, self._threshold)

    def for_each(self, count: Any, body: Callable[[_Span, Any], None]) -> None:
        """Run ``body(at, keep)`` over a row of ``count`` elements, ``keep`` being true in the lanes that are kept."""
        builder = self.v.builder
        whole = builder.sdiv(count, _I64(_COLUMNS))
        with cgutils.for_range(builder, whole, intp=_I64) as loop:
            start = builder.mul(loop.index, _I64(_COLUMNS))
            for offset, keep in self._keep(loop.index):
                body(_Span(self.v, builder.add(start, _I64(offset))), keep)
        start = builder.mul(whole, _I64(_COLUMNS))
        rest = builder.sub(count, start)
        with builder.if_then(builder.icmp_signed(">", rest, _I64(0))):
            for offset, keep in self._keep(whole):
                left = self.v.mask(builder.sub(rest, _I64(offset)))
                body(_Span(self.v, builder.add(start, _I64(offset)), left), keep)


@_micro_kernel(_NOTHING, *[_SIZE] * 6, _POINTER, _NUMBER, _POINTER)
def dropout_row(v: Vectors, *arguments: Any) -> None:
    """y = scale * x where the row's mask keeps, 0 where it drops; y may be x.

    Called as (threshold, seed, stream, step, row, count, x, scale, y).
    """
    *names, count, x, scale, y = arguments
    mask = _Mask(v, names)
    factor, zero = mask.v.splat(scale), mask.v.constant(0.0)

    def body(at: _Span, keep: Any) -> None:
        at.store(v.builder.select(keep, at.v.mul(at.load(x), factor), zero), y)

    mask.for_each(count, body)


# Activations whose derivative is 0 where their output is 0, as it is wherever dropout dropped: no mask is needed there.
_FLAT_AT_ZERO = ("relu", "sigmoid")


@_micro_kernel(_NOTHING, *[_SIZE] * 7, _POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER)
def dropout_backward_row(v: Vectors, code: Any, *arguments: Any) -> None:
    """dx = f'(x) * scale * dy where the row's mask keeps, 0 where it drops, from y = dropout(f(x)); dx may be dy.

    Called as (code, threshold, seed, stream, step, row, count, dy, y, scale, kept, dx), f by its code in ``CODES``;
    ``kept`` = 1 / scale makes f(x) of y.
    """
    *names, count, dy, y, scale, kept, dx = arguments
    mask = _Mask(v, names)

    def case(name: str) -> Callable[[], None]:
        def slope(at: _Span) -> Any:
            grown, whole = at.v.mul(at.load(dy), at.v.splat(scale)), at.v.mul(at.load(y), at.v.splat(kept))
            return BACKWARD[name](at.v, grown, whole)

        def masked(at: _Span, keep: Any) -> None:
            at.store(v.builder.select(keep, slope(at), at.v.constant(0.0)), dx)

        if name in _FLAT_AT_ZERO:
            return lambda: _for_each(v, count, lambda at: at.store(slope(at), dx))
        return lambda: mask.for_each(count, masked)

    _switch(v.builder, code, [case(name) for name in BACKWARD])


# --------------------------------------------------------------------------------------------------------------- epoch

# Width of a row of non-zeros' products, in tiles: wider shares the index and the broadcast among more columns, but the
# rows of dZ that an update reads over and over must stay in L1.
SPARSE_TILES = 2


def _sparse_sums(
    v: Vectors, features: int, count: Any, indices: Any, values: Any, table: Any, row_stride: Any
) -> Sequence[Sequence[_Total]]:
    """Sums over j < count of values[j, i] * table[indices[j] * row_stride :], for each of i < ``features``.

    They are SPARSE_TILES * NR numbers wide, as vectors. Two entries at a time: 2 * SPARSE_TILES * NV chains of
    multiply-adds hide the latency of one. Loads are what the loop is short of: one brings two indices, one all values,
    which are spread from their register, and a row of the table serves all features.
    """
    builder, vectors = v.builder, SPARSE_TILES * tile(v.format.bytes).NV
    even, odd = ([[_Total(v) for _ in range(vectors)] for _ in range(features)] for _ in range(2))

    def step(index: Any, factors: Sequence[Any], totals: Sequence[Sequence[_Total]]) -> None:
        row = builder.gep(table, [builder.mul(index, row_stride)])
        for i in range(vectors):
            shared = v.load(row, _I64(i * v.lanes))
            for factor, feature in zip(factors, totals, strict=True):
                feature[i].fma(factor, shared)

    def factors(j: Any, entries: int) -> list[Any]:
        some = Vectors(builder, v.dtype, entries * features)
        numbers = some.load(values, builder.mul(j, _I64(features)))
        return [v.spread(numbers, i) for i in range(entries * features)]

    with cgutils.for_range(builder, builder.sdiv(count, _I64(2)), intp=_I64) as loop:
        j = builder.mul(loop.index, _I64(2))
        x = factors(j, 2)
        both = builder.load(builder.bitcast(builder.gep(indices, [j]), _I64.as_pointer()))
        both.align = _I32.width // 8
        both = _opaque(builder, both)
        step(builder.and_(both, _I64(0xFFFFFFFF)), x[:features], even)
        step(builder.lshr(both, _I64(32)), x[features:], odd)
    with builder.if_then(builder.trunc(count, ir.IntType(1))):
        j = builder.sub(count, _I64(1))
        step(builder.zext(builder.load(builder.gep(indices, [j])), _I64), factors(j, 1), even)
    for feature, other in zip(even, odd, strict=True):
        for total, more in zip(feature, other, strict=True):
            total.join(more)
    return even


@_micro_kernel(_NOTHING, _SIZE, _INDICES, _POINTER, _POINTER, _SIZE, _POINTER)
def sparse_row(v: Vectors, count: Any, indices: Any, values: Any, table: Any, row_stride: Any, y: Any) -> None:
    """y = sum over j < count of values[j] * table[indices[j] * row_stride :], both SPARSE_TILES * NR numbers wide."""
    (sums,) = _sparse_sums(v, 1, count, indices, values, table, row_stride)
    for i, total in enumerate(sums):
        v.store(total.vector(), y, _I64(i * v.lanes))


@_micro_kernel(_NOTHING, _SIZE, _SIZES, _SIZE, _INDICES, _POINTER, _POINTER, _POINTER, _SIZE, _SIZE)
def sparse_rows(v: Vectors, n: Any, bounds: Any, stride: Any, indices: Any, values: Any, *rest: Any) -> None:
    """``sparse_row`` of one panel for n rows: rest is (panel, y, row stride of y, accumulate).

    The non-zeros of row r are those from bounds[r * stride] up to bounds[r * stride + 1]; the panel's rows are as long
    as it is wide. Where ``accumulate`` is not 0 they are added to y.
    """
    panel, y, row_stride_y, accumulate = rest
    builder = v.builder
    width = _I64(SPARSE_TILES * tile(v.format.bytes).NR)
    held = v.mask(builder.select(builder.icmp_signed("==", accumulate, _ZERO), _ZERO, _I64(v.lanes)))
    with cgutils.for_range(builder, n, intp=_I64) as loop:
        at = builder.gep(bounds, [builder.mul(loop.index, stride)])
        begin, end = builder.load(at), builder.load(builder.gep(at, [_I64(1)]))
        places, numbers = (builder.gep(pointer, [begin]) for pointer in (indices, values))
        (sums,) = _sparse_sums(v, 1, builder.sub(end, begin), places, numbers, panel, width)
        row = builder.gep(y, [builder.mul(loop.index, row_stride_y)])
        for i, total in enumerate(sums):
            offset = _I64(i * v.lanes)
            v.store(v.add(v.load_masked(row, offset, held), total.vector()), row, offset)


@_micro_kernel(
    _NOTHING, _SIZE, _SIZE, _SIZE, _SIZE, _SIZE, _INDICES, _INDICES, _INDICES, _POINTER, _POINTER, _SIZE, _POINTER,
    *[_POINTER] * (1 + STEP_STATES + 1),
)  # fmt: skip
def sparse_update(v: Vectors, code: Any, coupled: Any, *operands: Any) -> None:
    """The optimizer's step, by code, on rows ``low`` to ``high`` of a panel, their gradient never leaving registers.

    Called as (code, coupled, low, high, all_rows, begins, ends, samples, values, dZ, row stride of dZ, decay, W,
    states, hyper). The gradient of row f is the sum of values[j] * dZ[samples[j]] for j from begins[f] up to ends[f];
    the step's first state is multiplied by decay[f] beforehand. Rows without entries are left alone unless ``all_rows``
    is not 0. Where ``coupled`` is not 0, rows f and f + 1 share the entries of f, f even, each of which has two values.
    """
    with v.builder.if_else(v.builder.icmp_signed("==", coupled, _ZERO)) as branches:
        for features, branch in enumerate(branches, 1):
            with branch:
                _update_rows(v, features, code, *operands)


# Rows of which an update looks for those with entries at a time: a branch for each would go either way at random.
_LOOK = 32


def _rows_to_update(v: Vectors, features: int, begins: Any, ends: Any, start: Any, high: Any, every: Any) -> Any:
    """Which of the rows from ``start`` on, below ``high``, have entries, or ``every`` one: bits of a 64-bit integer."""
    builder = v.builder
    rows = Vectors(builder, types.float32, _LOOK)
    within = rows.mask(builder.sub(high, start))
    first, last = (rows.load_indices(pointer, start, within) for pointer in (begins, ends))
    some = builder.and_(rows.bits(within), builder.or_(rows.bits(builder.icmp_signed("<", first, last)), every))
    return builder.and_(some, _I64(sum(1 << i for i in range(0, _LOOK, features))))


def _update_rows(v: Vectors, features: int, code: Any, low: Any, high: Any, all_rows: Any, *operands: Any) -> None:
    """``sparse_update`` for rows of which so many share their entries."""
    begins, ends, samples, values, dz, row_stride_dz, decay, w, *states, hyper = operands
    builder = v.builder
    width = _I64(SPARSE_TILES * tile(v.format.bytes).NR)
    every = builder.sext(builder.icmp_signed("!=", all_rows, _ZERO), _I64)
    left = cgutils.alloca_once(builder, _I64)
    with cgutils.for_range_slice(builder, low, high, _I64(_LOOK), intp=_I64) as (start, _):
        builder.store(_rows_to_update(v, features, begins, ends, start, high, every), left)
        with cgutils.for_range(builder, v.ones(builder.load(left)), intp=_I64):
            f = builder.add(start, v.first_one(builder.load(left)))
            builder.store(v.but_first_one(builder.load(left)), left)
            begin, end = (builder.zext(builder.load(builder.gep(pointer, [f])), _I64) for pointer in (begins, ends))
            places = builder.gep(samples, [begin])
            numbers = builder.gep(values, [builder.mul(begin, _I64(features))])
            sums = _sparse_sums(v, features, builder.sub(end, begin), places, numbers, dz, row_stride_dz)
            row = builder.mul(f, width)
            factors = [v.splat(builder.load(builder.gep(decay, [builder.add(f, _I64(i))]))) for i in range(features)]
            gradient = [(total, factor) for totals, factor in zip(sums, factors, strict=True) for total in totals]

            def case(step: Step, row: Any = row, gradient: Any = gradient) -> Callable[[], None]:
                held = [w, *states[: len(step.states)]]

                def run() -> None:
                    h = _hyper(v, step, hyper)
                    for i, (total, factor) in enumerate(gradient):
                        offset = builder.add(row, _I64(i * v.lanes))
                        weight, *state = [v.load(pointer, offset) for pointer in held]
                        state[:1] = [v.mul(first, factor) for first in state[:1]]
                        after = step.update(v, h, weight, total.vector(), *state)
                        for value, pointer in zip(after, held, strict=True):
                            v.store(value, pointer, offset)

                return run

            _switch(builder, code, [case(step) for step in STEPS.values()])


@_micro_kernel(_SIZE, _SIZE, _INDICES, _POINTER, _INDICES, _POINTER)
def couple_row(v: Vectors, count: Any, indices: Any, values: Any, evens: Any, couples: Any) -> Any:
    """Entries of two features, 2c and 2c + 1, from those of one, whose indices rise: how many.

    The even index goes to ``evens``, the values of both, 0 where there was none, to ``couples``.
    """
    builder = v.builder
    place = cgutils.alloca_once_value(builder, _ZERO)
    if v.avx512:
        _couple_lanes(v, count, indices, values, evens, couples, place)
        return builder.load(place)
    number = v.format.scalar
    before = cgutils.alloca_once_value(builder, _I32(-1))  # the index before, and its value
    held = cgutils.alloca_once_value(builder, number(0.0))
    with cgutils.for_range(builder, count, intp=_I64) as loop:
        index, x = (builder.load(builder.gep(pointer, [loop.index])) for pointer in (indices, values))
        mine, odd = builder.and_(index, _I32(-2)), builder.zext(builder.and_(index, _I32(1)), _I64)
        same = builder.icmp_signed("==", mine, builder.and_(builder.load(before), _I32(-2)))
        to = builder.sub(builder.load(place), builder.zext(same, _I64))
        first = builder.mul(to, _I64(2))
        builder.store(mine, builder.gep(evens, [to]))
        builder.store(x, builder.gep(couples, [builder.add(first, odd)]))
        other = builder.select(same, builder.load(held), number(0.0))
        builder.store(other, builder.gep(couples, [builder.add(first, builder.sub(_I64(1), odd))]))
        for value, slot in ((builder.add(to, _I64(1)), place), (index, before), (x, held)):
            builder.store(value, slot)
    return builder.load(place)


def _couple_lanes(v: Vectors, count: Any, indices: Any, values: Any, evens: Any, couples: Any, place: Any) -> None:
    """``couple_row`` by lanes: the first of a couple looks at its neighbour, and the first ones are packed together."""
    builder, lanes = v.builder, _I64(v.lanes)
    before = cgutils.alloca_once_value(builder, v.iconstant(-1))
    zero, even = v.constant(0.0), v.iconstant(-2)
    steps = builder.sdiv(builder.add(count, _I64(v.lanes - 1)), lanes)
    with cgutils.for_range(builder, steps, intp=_I64) as loop:
        j = builder.mul(loop.index, lanes)
        after = builder.add(j, _I64(1))
        here, beyond = v.mask(builder.sub(count, j)), v.mask(builder.sub(count, after))
        index, neighbour = v.load_indices(indices, j, here), v.load_indices(indices, after, beyond)
        x, second = v.load_masked(values, j, here), v.load_masked(values, after, beyond)
        mine = builder.and_(index, even)
        last = builder.and_(v.follow(builder.load(before), index), even)
        builder.store(index, before)
        first = builder.and_(builder.icmp_unsigned("!=", mine, last), here)
        joined = builder.and_(builder.icmp_unsigned("==", mine, builder.and_(neighbour, even)), beyond)
        is_even = builder.icmp_unsigned("==", mine, index)
        left = builder.select(is_even, x, zero)
        right = builder.select(is_even, builder.select(joined, second, zero), x)
        kept, to = v.ones(v.bits(first)), builder.load(place)
        v.store_indices(v.indices(v.compress(mine, first)), evens, to, v.mask(kept))
        twice, start = builder.mul(kept, _I64(2)), builder.mul(to, _I64(2))
        low, high = v.zip(v.compress(left, first), v.compress(right, first))
        v.store_masked(low, couples, start, v.mask(twice))
        v.store_masked(high, couples, builder.add(start, lanes), v.mask(builder.sub(twice, lanes)))
        builder.store(builder.add(to, kept), place)


@_micro_kernel(_SIZE, _SIZE, _POINTER, _NUMBER)
def scan_row(v: Vectors, count: Any, x: Any, limit: Any) -> Any:
    """Number of non-zeros of x; -1 if one of its numbers is NaN or its magnitude exceeds ``limit``."""
    builder = v.builder
    found, beyond = (cgutils.alloca_once_value(builder, _ZERO) for _ in range(2))
    highest = v.splat(limit)

    def body(at: _Span) -> None:
        number = at.load(x)
        filled = v.bits(builder.fcmp_unordered("!=", number, v.constant(0.0)))
        builder.store(builder.add(builder.load(found), v.ones(filled)), found)
        outside = v.bits(builder.fcmp_unordered(">", v.abs(number), highest))
        builder.store(builder.or_(builder.load(beyond), outside), beyond)

    _for_each(v, count, body)
    return builder.select(builder.icmp_signed("==", builder.load(beyond), _ZERO), builder.load(found), _I64(-1))


@_micro_kernel(_NOTHING, _SIZE, _POINTER, _INDICES, _POINTER)
def compress_row(v: Vectors, count: Any, x: Any, indices: Any, values: Any) -> None:
    """The places and values of the non-zeros of x, in order; nothing is written behind the last of them."""
    builder = v.builder
    place = cgutils.alloca_once_value(builder, _ZERO)

    def body(at: _Span) -> None:
        number = at.load(x)
        mask = builder.fcmp_unordered("!=", number, v.constant(0.0))
        bits = v.bits(mask)
        with builder.if_then(builder.icmp_signed("!=", bits, _ZERO)):
            to = builder.load(place)
            if v.avx512:
                kept = v.ones(bits)
                v.store_masked(v.compress(number, mask), values, to, v.mask(kept))
                v.store_indices(v.compressed_places(at.offset, mask), indices, to, v.mask(kept))
                builder.store(builder.add(to, kept), place)
            else:
                for lane in range(v.lanes):
                    with builder.if_then(builder.extract_element(mask, _I32(lane))):
                        to = builder.load(place)
                        builder.store(builder.extract_element(number, _I32(lane)), builder.gep(values, [to]))
                        index = builder.trunc(builder.add(at.offset, _I64(lane)), _I32)
                        builder.store(index, builder.gep(indices, [to]))
                        builder.store(builder.add(to, _I64(1)), place)

    _for_each(v, count, body)


@_micro_kernel(_NOTHING, _SIZE, _INDICES, _POINTER)
def prefetch_row(v: Vectors, count: Any, indices: Any, values: Any) -> None:
    """Ask for ``count`` indices and values ahead of their use."""
    builder = v.builder
    for pointer, size in ((indices, 4), (values, v.format.bytes)):
        step = LINE // size
        lines = builder.sdiv(builder.add(count, _I64(step - 1)), _I64(step))
        with cgutils.for_range(builder, lines, intp=_I64) as loop:
            _emit_prefetch(builder, builder.gep(pointer, [builder.mul(loop.index, _I64(step))]), _INTO_L2)


@_micro_kernel(_NOTHING, _SIZE, _POINTER, _NUMBER)
def clip_row(v: Vectors, count: Any, x: Any, limit: Any) -> None:
    """x = x kept in [-limit, limit]; NaN stays."""
    high = v.splat(limit)
    low = v.sub(v.constant(0.0), high)
    _for_each(v, count, lambda at: at.store(v.min(v.max(at.load(x), low), high), x))


@_micro_kernel(_NUMBER, _SIZE, _POINTER)
def squares_row(v: Vectors, count: Any, x: Any) -> Any:
    """Sum of x^2."""
    total = _Total(v)
    _for_each(v, count, lambda at: total.add(at, v.mul(at.load(x), at.load(x))))
    return total.value()


@_micro_kernel(_NOTHING, _SIZE, _POINTER, _NUMBER)
def scale_row(v: Vectors, count: Any, x: Any, factor: Any) -> None:
    """x *= factor."""
    by = v.splat(factor)
    _for_each(v, count, lambda at: at.store(v.mul(at.load(x), by), x))


@_micro_kernel(_NOTHING, _SIZE, _BYTES, _NUMBER, _NUMBER, _POINTER)
def widen_row(v: Vectors, count: Any, x: Any, factor: Any, offset: Any, y: Any) -> None:
    """y = factor * x + offset for bytes x."""
    builder, by, shift = v.builder, v.splat(factor), v.splat(offset)
    whole = builder.sdiv(count, _I64(v.lanes))
    with cgutils.for_range(builder, whole, intp=_I64) as loop:
        j = builder.mul(loop.index, _I64(v.lanes))
        kind = ir.VectorType(ir.IntType(8), v.lanes)
        raw = builder.load(builder.bitcast(builder.gep(x, [j]), kind.as_pointer()))
        raw.align = 1
        v.store(v.add(v.mul(builder.uitofp(raw, v.type), by), shift), y, j)
    with cgutils.for_range_slice(builder, builder.mul(whole, _I64(v.lanes)), count, _I64(1), intp=_I64) as (j, _):
        number = builder.uitofp(builder.load(builder.gep(x, [j])), v.format.scalar)
        builder.store(builder.fadd(builder.fmul(number, factor), offset), builder.gep(y, [j]))


@_micro_kernel(_NOTHING, _SIZE, _POINTER, _POINTER)
def pair_columns(v: Vectors, count: Any, x: Any, y: Any) -> None:
    """y[j] = (x[2 j], x[2 j + 1]) as a pair of bfloat16 numbers, for ``count`` numbers of x; 0 beside an odd last one.

    Pairs are the form of ``gemm_tile_pairs``: of a row here, and of two rows in ``pair_rows``.
    """
    if not v.has_pairs:
        return
    builder, step = v.builder, _I64(2 * v.lanes)
    whole = builder.sdiv(count, step)

    def convert(at: Any, low: Any, high: Any, mask: Any = None) -> None:
        pairs = builder.bitcast(v.narrow(low, high), v.type)
        offset = builder.sdiv(at, _I64(2))
        v.store(pairs, y, offset) if mask is None else v.store_masked(pairs, y, offset, mask)

    with cgutils.for_range(builder, whole, intp=_I64) as loop:
        at = builder.mul(loop.index, step)
        convert(at, v.load(x, at), v.load(x, builder.add(at, _I64(v.lanes))))
    at = builder.mul(whole, step)
    rest = builder.sub(count, at)
    with builder.if_then(builder.icmp_signed(">", rest, _I64(0)), likely=False):
        second = builder.add(at, _I64(v.lanes))
        low = v.load_masked(x, at, v.mask(rest))
        high = v.load_masked(x, second, v.mask(builder.sub(rest, _I64(v.lanes))))
        convert(at, low, high, v.mask(builder.sdiv(builder.add(rest, _I64(1)), _I64(2))))


@_micro_kernel(_NOTHING, _SIZE, _SIZE, _POINTER, _SIZE, _POINTER, _SIZE)
def pair_rows(v: Vectors, pairs: Any, count: Any, x: Any, stride_x: Any, y: Any, stride_y: Any) -> None:
    """y[i, j] = (x[2 i, j], x[2 i + 1, j]) as pairs of bfloat16 numbers, ``count`` in a row."""
    if not v.has_pairs:
        return
    builder = v.builder
    with cgutils.for_range(builder, pairs, intp=_I64) as loop:
        even = builder.gep(x, [builder.mul(builder.mul(loop.index, _I64(2)), stride_x)])
        odd, target = builder.gep(even, [stride_x]), builder.gep(y, [builder.mul(loop.index, stride_y)])

        def body(at: _Span, even: Any = even, odd: Any = odd, target: Any = target) -> None:
            halves = v.narrow(at.load(even), at.load(odd))
            at.store(builder.bitcast(v.interleave(halves), v.type), target)

        _for_each(v, count, body)


@_micro_kernel(_NOTHING, _SIZE, _SIZE, _POINTER, _SIZE, _POINTER, _SIZE)
def transpose_block(v: Vectors, rows: Any, columns: Any, x: Any, stride_x: Any, y: Any, stride_y: Any) -> None:
    """y[j, i] = x[i, j] for i < rows, j < columns, both at most VL; x readable and y writable in whole vectors."""
    builder, n = v.builder, v.lanes
    last = builder.sub(rows, _I64(1))

    def source(i: int) -> Any:  # rows beyond the last are read from the last: what they give lands beyond y's rows
        return builder.mul(builder.select(builder.icmp_signed("<", _I64(i), rows), _I64(i), last), stride_x)

    block = [v.load(x, source(i)) for i in range(n)]
    span = 1
    while span < n:  # exchange the off-diagonal squares of span x span, of twice that size next time
        low = [j if j & span == 0 else n + j - span for j in range(n)]
        high = [j + span if j & span == 0 else n + j for j in range(n)]
        masks = [ir.Constant(ir.VectorType(_I32, n), mask) for mask in (low, high)]
        for i in (i for i in range(n) if i & span == 0):
            pair = block[i], block[i + span]
            block[i], block[i + span] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        span *= 2
    for j in range(n):
        with builder.if_then(builder.icmp_signed("<", _I64(j), columns)):
            v.store(block[j], y, builder.mul(_I64(j), stride_y))


# ---------------------------------------------------------------------------------------------------------------- peak
#
# What ``peak`` measures with, not among MICRO_KERNELS: no other process compiles them.


def chains(dtype: Any) -> int:
    """Sums that a peak's loop keeps in registers, as many as a tile: enough to hide one multiply-add's latency."""
    shape = tile(dtype.bitwidth // 8)
    return shape.MR * shape.NV


def _repeat(v: Vectors, count: Any, sums: Any, step: Callable[[Any], Any]) -> None:
    """x = step(x), ``count`` times, for the ``chains`` vectors at ``sums``: read and written, so none is left out."""
    held = [_Total(v, v.load(sums, _I64(i * v.lanes))) for i in range(chains(v.dtype))]
    with cgutils.for_range(v.builder, count, intp=_I64):
        for x in held:
            v.builder.store(step(v.builder.load(x.slot)), x.slot)
    for i, x in enumerate(held):
        v.store(v.builder.load(x.slot), sums, _I64(i * v.lanes))


def _multiply_add(v: Vectors, count: Any, a: Any, b: Any, sums: Any) -> None:
    """x = a x + b in every chain: x is a factor, because a product without it could be taken out of the loop."""
    left, right = v.load(a), v.load(b)
    _repeat(v, count, sums, lambda x: v.fma(left, x, right))


def _multiply_add_bfloat16(v: Vectors, count: Any, a: Any, b: Any, sums: Any) -> None:
    """x = x + a . b in every chain, of pairs of bfloat16."""
    left, right = v.load(a), v.load(b)
    _repeat(v, count, sums, lambda x: v.dot_pairs(left, right, x))


PEAK = MicroKernel(_multiply_add, _NOTHING, (_SIZE, _POINTER, _POINTER, _POINTER))
PEAK_BFLOAT16 = MicroKernel(_multiply_add_bfloat16, _NOTHING, (_SIZE, _POINTER, _POINTER, _POINTER))
