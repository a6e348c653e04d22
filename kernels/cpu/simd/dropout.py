"""Dropout: masks drawn from a counter, and what they keep.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): ten rounds of two 32 x 32 -> 64 bit products turn a counter of four
words, under a key of two, into four random words. Each word stands in the low half of a 64-bit lane, what is above it
is not looked at: so a product's low half is the product itself, and its high half one shift away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Nothing, Number, Pointer, Size, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span
from fastnn.kernels.cpu.simd.vectors import I64

_PHILOX_FACTORS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_PHILOX_ROUNDS = 10

# Counters in a vector, whatever the vectors' length: the words of 16 counters are the masks of 64 columns, in order.
_COUNTERS = 16
_WORDS = ir.VectorType(I64, _COUNTERS)
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


class MaskName(NamedTuple):
    """What a row's mask follows from, see the table's ``dropout``."""

    threshold: Size
    seed: Size
    stream: Size
    step: Size
    row: Size


class _Mask:
    """One row's mask: a column is kept where its word is not below the threshold."""

    def __init__(self, v: Vectors, name: MaskName) -> None:
        self.v = Vectors(v.builder, v.dtype, _COUNTERS)
        threshold, seed, stream, step, row = name
        self._threshold = self.v.splat(threshold)
        self._key = [self.v.splat(word) for word in (seed, v.builder.lshr(seed, I64(32)))]
        self._counter = [self.v.splat(word) for word in (row, step, stream)]

    def _keep(self, group: Any) -> Iterator[tuple[int, Any]]:
        """(offset, lanes kept) of the vectors of a group of ``_COLUMNS`` columns."""
        builder = self.v.builder
        first = self.v.splat(builder.mul(group, I64(_COUNTERS)))
        counter = builder.add(first, ir.Constant(_WORDS, list(range(_COUNTERS))))
        for i, word in enumerate(_philox(builder, [counter, *self._counter], self._key)):
            yield i * _COUNTERS, builder.icmp_signed(">=", word, self._threshold)

    def for_each(self, count: Any, body: Callable[[Span, Any], None]) -> None:
        """Run ``body(at, keep)`` over a row of ``count`` elements, ``keep`` being true in the lanes that are kept."""
        builder = self.v.builder
        whole = builder.sdiv(count, I64(_COLUMNS))
        with cgutils.for_range(builder, whole, intp=I64) as loop:
            start = builder.mul(loop.index, I64(_COLUMNS))
            for offset, keep in self._keep(loop.index):
                body(Span(self.v, builder.add(start, I64(offset))), keep)
        start = builder.mul(whole, I64(_COLUMNS))
        rest = builder.sub(count, start)
        with builder.if_then(builder.icmp_signed(">", rest, I64(0))):
            for offset, keep in self._keep(whole):
                left = self.v.mask(builder.sub(rest, I64(offset)))
                body(Span(self.v, builder.add(start, I64(offset)), left), keep)


@micro_kernel
def dropout_row(
    v: Vectors,
    which: MaskName,
    count: Size,
    x: Pointer,
    scale: Number,
    y: Pointer,
) -> Nothing:
    """y = scale * x where the row's mask keeps, 0 where it drops; y may be x."""
    mask = _Mask(v, which)
    factor, zero = mask.v.splat(scale), mask.v.constant(0.0)

    def body(at: Span, keep: Any) -> None:
        at.store(v.builder.select(keep, at.v.mul(at.load(x), factor), zero), y)

    mask.for_each(count, body)
