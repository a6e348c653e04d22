"""Vectors of numbers as LLVM knows them: the primitives on which every kernel is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastnn.kernels.cpu.compiler.machine import bfloat16_pairs

I32, I64 = ir.IntType(32), ir.IntType(64)
ZERO = I64(0)


class Format:
    """Constants of one IEEE format: LLVM type, integer of equal width, mantissa bits, exponent bias."""

    def __init__(self, scalar: Any, bits: int, mantissa: int, bias: int) -> None:
        self.scalar, self.bits, self.mantissa, self.bias = scalar, bits, mantissa, bias
        self.integer = ir.IntType(bits)
        self.bytes = bits // 8


FORMATS = {
    types.float32: Format(ir.FloatType(), 32, 23, 127),
    types.float64: Format(ir.DoubleType(), 64, 52, 1023),
}


class Primitives:
    """Vectors of ``lanes`` numbers of one dtype: the primitives on which every kernel is built."""

    def __init__(self, builder: Any, dtype: Any, lanes: int) -> None:
        self.builder, self.dtype, self.lanes = builder, dtype, lanes
        self.format = FORMATS[dtype]
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
        first = self.builder.insert_element(ir.Constant(self.itype, ir.Undefined), scalar, I32(0))
        return self.builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))

    def splat(self, scalar: Any) -> Any:
        """A scalar in every lane."""
        empty = ir.Constant(ir.VectorType(scalar.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(empty, scalar, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, empty, zeros)

    def spread(self, vector: Any, lane: int) -> Any:
        """One lane of another vector in every lane."""
        return self.builder.shuffle_vector(
            vector, vector, ir.Constant(ir.VectorType(I32, self.lanes), [lane] * self.lanes)
        )

    def _pointer(self, pointer: Any, offset: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), self.type.as_pointer())

    def load(self, pointer: Any, offset: Any = ZERO) -> Any:
        """Lanes at ``pointer + offset``, aligned as single numbers are."""
        vector = self.builder.load(self._pointer(pointer, offset))
        vector.align = self.format.bytes
        return vector

    def store(self, vector: Any, pointer: Any, offset: Any = ZERO) -> None:
        """Write the lanes to ``pointer + offset``."""
        self.builder.store(vector, self._pointer(pointer, offset)).align = self.format.bytes

    def stream(self, vector: Any, pointer: Any, offset: Any) -> None:
        """Write the lanes to memory past the caches, from a multiple of the vector's size on."""
        written = self.builder.store(vector, self._pointer(pointer, offset))
        written.align = self.lanes * self.format.bytes
        written.set_metadata("nontemporal", self.builder.module.add_metadata([I32(1)]))

    def mask(self, count: Any) -> Any:
        """True in the first ``count`` lanes."""
        index = ir.Constant(ir.VectorType(I32, self.lanes), list(range(self.lanes)))
        empty = ir.Constant(index.type, ir.Undefined)
        first = self.builder.insert_element(empty, self.builder.trunc(count, I32), I32(0))
        zeros = ir.Constant(index.type, [0] * self.lanes)
        return self.builder.icmp_signed("<", index, self.builder.shuffle_vector(first, empty, zeros))

    def bits(self, mask: Any) -> Any:
        """The mask as the bits of a 64-bit integer, lane 0 the lowest."""
        return self.builder.zext(self.builder.bitcast(mask, ir.IntType(self.lanes)), I64)

    def ones(self, bits: Any) -> Any:
        """Number of ones among the bits of a 64-bit integer."""
        return self._intrinsic("ctpop.i64", I64, bits)

    def first_one(self, bits: Any) -> Any:
        """Place of the lowest one among the bits of a 64-bit integer; 64 without one."""
        return self._intrinsic("cttz.i64", I64, bits, ir.IntType(1)(0))

    def but_first_one(self, bits: Any) -> Any:
        """The bits without their lowest one."""
        return self.builder.and_(bits, self.builder.sub(bits, I64(1)))

    def load_masked(self, pointer: Any, offset: Any, mask: Any, fill: float = 0.0) -> Any:
        """Lanes where the mask is true, ``fill`` elsewhere; memory behind the other lanes is not touched."""
        where = self._pointer(pointer, offset)
        align = ir.Constant(I32, self.format.bytes)
        return self._intrinsic(f"masked.load.{self._suffix}.p0", self.type, where, align, mask, self.constant(fill))

    def store_masked(self, vector: Any, pointer: Any, offset: Any, mask: Any) -> None:
        """Write the lanes where the mask is true."""
        where = self._pointer(pointer, offset)
        align = ir.Constant(I32, self.format.bytes)
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
        return integers if self.format.bits == 32 else self.builder.trunc(integers, ir.VectorType(I32, self.lanes))

    def load_indices(self, pointer: Any, offset: Any, mask: Any) -> Any:
        """int32 numbers, not negative, as integers of the lanes' width; 0 in lanes where the mask is false."""
        kind = ir.VectorType(I32, self.lanes)
        where = self.builder.bitcast(self.builder.gep(pointer, [offset]), kind.as_pointer())
        zeros = ir.Constant(kind, None)
        loaded = self._intrinsic(f"masked.load.v{self.lanes}i32.p0", kind, where, I32(4), mask, zeros)
        return loaded if self.format.bits == 32 else self.builder.zext(loaded, self.itype)

    def store_indices(self, places: Any, pointer: Any, offset: Any, mask: Any) -> None:
        """Write int32 lanes where the mask is true."""
        where = self.builder.bitcast(self.builder.gep(pointer, [offset]), places.type.as_pointer())
        self._intrinsic(f"masked.store.v{self.lanes}i32.p0", ir.VoidType(), places, where, I32(4), mask)

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
        mask = ir.Constant(ir.VectorType(I32, 2 * self.lanes), self._alternating)
        return self.builder.shuffle_vector(halves, halves, mask)

    def zip(self, a: Any, b: Any) -> Sequence[Any]:
        """a[0], b[0], a[1], b[1], ... as two vectors."""
        halves = self._alternating[: self.lanes], self._alternating[self.lanes :]
        kind = ir.VectorType(I32, self.lanes)
        return [self.builder.shuffle_vector(a, b, ir.Constant(kind, half)) for half in halves]

    def follow(self, before: Any, vector: Any) -> Any:
        """Each lane's predecessor: the last lane of ``before``, then all lanes of the vector but its last."""
        places = ir.Constant(ir.VectorType(I32, self.lanes), list(range(self.lanes - 1, 2 * self.lanes - 1)))
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
        current_rounding = I32(4)
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

    def flush(self, x: Any) -> Any:
        """x, or 0 where its exponent's bits are all zeros: in lanes with a denormal number."""
        exponent = self.iconstant((2 * self.format.bias + 1) << self.format.mantissa)
        bits = self.builder.and_(self.builder.bitcast(x, self.itype), exponent)
        small = self.builder.icmp_signed("==", bits, self.iconstant(0))
        return self.builder.select(small, self.constant(0.0), x)

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
                    x, x, ir.Constant(ir.VectorType(I32, width), list(range(start, start + width)))
                )
                for start in (0, width)
            ]
            x = combine(*halves)
        return self.builder.extract_element(x, I32(0))

    def exp2_of_integer(self, n: Any) -> Any:
        """2^n for integers within the exponent range, by writing the exponent's bits."""
        bits = self.builder.shl(
            self.builder.add(n, self.iconstant(self.format.bias)), self.iconstant(self.format.mantissa)
        )
        return self.builder.bitcast(bits, self.type)
