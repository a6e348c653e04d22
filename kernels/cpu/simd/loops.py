"""Loops over memory that micro-kernels are made of: spans, running totals, the choice by a run-time code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import cgutils

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.vectors import I64, ZERO


class Span:
    """One step of a loop over memory: loads and stores at the loop's offset, masked in a partial step.

    ``past_caches`` is the condition on which stores of whole vectors go there; without one they do not.
    """

    def __init__(self, v: Vectors, offset: Any, mask: Any = None, past_caches: Any = None) -> None:
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
        elif self.past_caches is None:
            self.v.store(vector, pointer, self.offset)
        else:
            with self.v.builder.if_else(self.past_caches) as (past, into):
                with past:
                    self.v.stream(vector, pointer, self.offset)
                with into:
                    self.v.store(vector, pointer, self.offset)

    def keep(self, vector: Any, fill: Any) -> Any:
        """``vector`` in the lanes that exist, ``fill`` beyond the end."""
        return vector if self.mask is None else self.v.builder.select(self.mask, vector, fill)


def for_each(v: Vectors, count: Any, body: Callable[[Span], None], y: Any = None, past_caches: Any = None) -> None:
    """Run ``body`` over ``count`` elements: whole vectors, then one masked step for the rest.

    On the condition ``past_caches``, whole vectors that are stored to ``y`` are those that begin at a multiple of their
    size there, and go past the caches; a masked step comes before them. What is computed meanwhile hides the stores.
    """
    builder, lanes = v.builder, v.lanes
    begin: Any = ZERO
    if past_caches is not None:
        begin = builder.select(past_caches, _until_aligned(v, count, y), ZERO)
        with builder.if_then(builder.icmp_signed(">", begin, ZERO), likely=False):
            body(Span(v, ZERO, v.mask(begin)))
    whole = builder.sdiv(builder.sub(count, begin), I64(lanes))
    with cgutils.for_range(builder, whole, intp=I64) as loop:
        offset = builder.add(begin, builder.mul(loop.index, I64(lanes)))
        body(Span(v, offset, past_caches=past_caches))
    start = builder.add(begin, builder.mul(whole, I64(lanes)))
    rest = builder.sub(count, start)
    with builder.if_then(builder.icmp_signed(">", rest, ZERO), likely=False):
        body(Span(v, start, v.mask(rest)))


def mapped(
    v: Vectors, f: Callable[..., Any], count: Any, sources: Sequence[Any], y: Any, past_caches: Any = None
) -> Callable[[], None]:
    """What emits y = f(sources), number by number; y may be a source unless it goes past the caches."""

    def body(at: Span) -> None:
        at.store(f(v, *(at.load(source) for source in sources)), y)

    return lambda: for_each(v, count, body, y, past_caches)


def _until_aligned(v: Vectors, count: Any, pointer: Any) -> Any:
    """Numbers up to the first multiple of a vector's size in memory, ``count`` at most."""
    builder = v.builder
    size = v.lanes * v.format.bytes
    missing = builder.and_(builder.neg(builder.ptrtoint(pointer, I64)), I64(size - 1))
    numbers = builder.udiv(missing, I64(v.format.bytes))
    return builder.select(builder.icmp_signed("<", numbers, count), numbers, count)


def switch_on(builder: Any, code: Any, cases: Sequence[Callable[[], Any]]) -> None:
    """Run the case of a run-time code: the choice is made once, outside the loops."""
    done = builder.append_basic_block("code.done")
    switch = builder.switch(code, done)
    for number, case in enumerate(cases):
        block = builder.append_basic_block(f"code.{number}")
        switch.add_case(I64(number), block)
        builder.position_at_end(block)
        case()
        builder.branch(done)
    builder.position_at_end(done)


class Total:
    """A running sum of vectors across the steps of a loop; ``value`` adds up its lanes."""

    def __init__(self, v: Vectors, start: Any = None) -> None:
        self.v = v
        self.slot = cgutils.alloca_once(v.builder, v.type)
        v.builder.store(v.constant(0.0) if start is None else start, self.slot)

    def add(self, at: Span, vector: Any) -> None:
        """Add the lanes that exist."""
        kept = at.keep(vector, self.v.constant(0.0))
        self.v.builder.store(self.v.add(self.v.builder.load(self.slot), kept), self.slot)

    def fma(self, a: Any, b: Any) -> None:
        """Add a * b."""
        self.v.builder.store(self.v.fma(a, b, self.v.builder.load(self.slot)), self.slot)

    def join(self, other: Total) -> None:
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
