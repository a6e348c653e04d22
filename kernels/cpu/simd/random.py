"""Random numbers drawn from a counter: the words of Philox, and what is made of them.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): ten rounds of two 32 x 32 -> 64 bit products turn a counter of four
words, under a key of two, into four random words. Each word stands in the low half of a 64-bit lane, what is above it
is not looked at: so a product's low half is the product itself, and its high half one shift away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Nothing, Number, Pointer, Size, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span, switch_on
from fastnn.kernels.cpu.simd.vectors import I32, I64
from fastnn.kernels.formulas.random import normal_pair

_PHILOX_FACTORS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_PHILOX_ROUNDS = 10

# Counters in a vector, whatever the vectors' length: the words of 16 counters are those of 64 columns, in order.
_COUNTERS = 16
_WORDS = ir.VectorType(I64, _COUNTERS)
_HALVES = ir.VectorType(I32, _COUNTERS)
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


class RowName(NamedTuple):
    """What a row's words follow from, see the table's ``random_uniform``."""

    seed: Size
    stream: Size
    step: Size
    row: Size


class RowWords:
    """One row's words, those of 64 columns at a time."""

    def __init__(self, v: Vectors, name: RowName) -> None:
        self.v = Vectors(v.builder, v.dtype, _COUNTERS)
        self._key = [self.v.splat(word) for word in (name.seed, v.builder.lshr(name.seed, I64(32)))]
        self._counter = [self.v.splat(word) for word in (name.row, name.step, name.stream)]

    def _group(self, number: Any) -> Sequence[Any]:
        """The four vectors of a group of ``_COLUMNS`` columns."""
        builder = self.v.builder
        first = self.v.splat(builder.mul(number, I64(_COUNTERS)))
        counter = builder.add(first, ir.Constant(_WORDS, list(range(_COUNTERS))))
        return _philox(builder, [counter, *self._counter], self._key)

    def for_each(self, count: Any, body: Callable[[Sequence[Span], Sequence[Any]], None]) -> None:
        """Run ``body(places, words)`` over a row of ``count`` numbers, four vectors of either at a time."""
        builder = self.v.builder
        whole = builder.sdiv(count, I64(_COLUMNS))
        with cgutils.for_range(builder, whole, intp=I64) as loop:
            start = builder.mul(loop.index, I64(_COLUMNS))
            body([Span(self.v, at) for at in self._offsets(start)], self._group(loop.index))
        start = builder.mul(whole, I64(_COLUMNS))
        rest = builder.sub(count, start)
        with builder.if_then(builder.icmp_signed(">", rest, I64(0))):
            left = [self.v.mask(builder.sub(rest, I64(offset))) for offset in range(0, _COLUMNS, _COUNTERS)]
            places = [Span(self.v, at, mask) for at, mask in zip(self._offsets(start), left, strict=True)]
            body(places, self._group(whole))

    def _offsets(self, start: Any) -> list[Any]:
        return [self.v.builder.add(start, I64(offset)) for offset in range(0, _COLUMNS, _COUNTERS)]


def _uniform(v: Vectors, words: Sequence[Any]) -> list[Any]:
    """The upper 24 bits of each, which every dtype has as they are."""
    builder = v.builder
    return [builder.sitofp(builder.trunc(builder.lshr(word, _each_word(8)), _HALVES), v.type) for word in words]


def _normal(v: Vectors, words: Sequence[Any]) -> list[Any]:
    """By two pairs: of the first word of each comes the radius, of the second one the angle."""
    builder, half = v.builder, v.constant(0.5)
    numbers = []
    for first, second in (words[:2], words[2:]):
        word = builder.trunc(first, _HALVES)
        below, above = (v.add(builder.uitofp(each, v.type), half) for each in (word, builder.not_(word)))
        turn = v.mul(builder.sitofp(builder.trunc(second, _HALVES), v.type), v.constant(2.0**-32))
        numbers += normal_pair(v, below, above, turn)
    return numbers


# What numbers are made of words, by the ops that draw them; the place is the run-time code.
DISTRIBUTIONS = {"random_uniform": _uniform, "random_normal": _normal}


@micro_kernel
def random_row(v: Vectors, code: Size, which: RowName, count: Size, low: Number, scale: Number, y: Pointer) -> Nothing:
    """y = low + scale times numbers of a distribution, by its code in ``DISTRIBUTIONS``."""
    words = RowWords(v, which)
    begin, by = words.v.splat(low), words.v.splat(scale)

    def case(numbers: Callable[..., Any]) -> Callable[[], None]:
        def body(places: Sequence[Span], drawn: Sequence[Any]) -> None:
            for at, number in zip(places, numbers(words.v, drawn), strict=True):
                at.store(words.v.fma(number, by, begin), y)

        return lambda: words.for_each(count, body)

    switch_on(v.builder, code, [*map(case, DISTRIBUTIONS.values())])
