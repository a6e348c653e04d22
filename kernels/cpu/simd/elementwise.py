"""Element by element: activations and their derivatives, sums, scaling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import (
    INTO_L2,
    Bytes,
    MicroKernel,
    Nothing,
    Number,
    Pointer,
    Size,
    Sizes,
    call,
    emit_prefetch,
    micro_kernel,
)
from fastnn.kernels.cpu.simd.loops import Span, Total, for_each, mapped, switch_on
from fastnn.kernels.cpu.simd.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from fastnn.kernels.cpu.simd.vectors import I64
from fastnn.kernels.formulas.activations import ACTIVATIONS, CODES, Activation, prelu, prelu_backward
from fastnn.kernels.formulas.pairs import CHOICES, PAIRS, slopes

# What the micro-kernels of rows know beside the activations of one number: these take a row as a whole.
ROW_CODES = {**CODES, "softmax": len(CODES), "log_softmax": len(CODES) + 1}


def row_of(f: Callable[[Vectors, Any], Any]) -> MicroKernel:
    """y = f(x) on ``count`` numbers for a vector function alone, outside the library."""

    def row(v: Vectors, count: Size, x: Pointer, y: Pointer) -> Nothing:
        mapped(v, f, count, [x], y)()

    row.__name__ = f"{f.__name__}_row"
    return MicroKernel(row)


def _numbers(v: Vectors, activation: Activation, numbers: Any) -> list[Any]:
    """An activation's numbers, each in every lane."""
    pointers = (v.builder.gep(numbers, [I64(i)]) for i in range(len(activation.numbers)))
    return [v.splat(v.builder.load(pointer)) for pointer in pointers]


def _condition(v: Vectors, flag: Any) -> Any:
    """Whether a run-time flag is set."""
    return v.builder.icmp_signed("!=", flag, I64(0))


@micro_kernel
def forward_row(v: Vectors, code: Size, count: Size, x: Pointer, numbers: Pointer, y: Pointer, past: Size) -> Nothing:
    """y = f(x), f by its code in ``ROW_CODES`` with the ``numbers`` that it takes; y may be x.

    With ``past`` that of numbers goes past the caches, which ``drain`` ends: what is not read soon need not be fetched
    before it is written.
    """
    past_caches = _condition(v, past)

    def case(activation: Activation) -> Callable[[], None]:
        def run() -> None:
            taken = _numbers(v, activation, numbers)
            mapped(v, lambda v, x: activation.forward(v, x, *taken), count, [x], y, past_caches)()

        return run

    rows = [lambda: softmax(v, count, x, y), lambda: log_softmax(v, count, x, y)]
    switch_on(v.builder, code, [*map(case, ACTIVATIONS.values()), *rows])


# Activations of one instruction, on which a second pass over a row for its bias would tell.
_BRIEF = ("identity", "relu")


@micro_kernel
def forward_bias_row(
    v: Vectors, code: Size, count: Size, x: Pointer, bias: Pointer, numbers: Pointer, y: Pointer
) -> Nothing:
    """y = f(x + bias), f by its code in ``ROW_CODES`` with the ``numbers`` that it takes; y may be x."""

    def biased(name: str) -> None:
        forward = ACTIVATIONS[name].forward
        for_each(v, count, lambda at: at.store(forward(v, v.add(at.load(x), at.load(bias))), y))

    def case(name: str) -> Callable[[], None]:
        def run() -> None:
            if name in _BRIEF:
                biased(name)
            else:
                biased("identity")
                call(v, "forward_row", code, count, y, numbers, y, I64(0))

        return run

    switch_on(v.builder, code, [case(name) for name in ROW_CODES])


@micro_kernel
def backward_row(
    v: Vectors,
    code: Size,
    count: Size,
    dy: Pointer,
    scale: Number,
    s: Pointer,
    kept: Number,
    numbers: Pointer,
    dx: Pointer,
    past: Size,
) -> Nothing:
    """dx = f'(x) * scale * dy, f by its code in ``ROW_CODES``; dx may be dy or s. ``past`` as in ``forward_row``.

    ``kept`` * s is what the derivative needs, x or y. Both factors are 1 but where dropout has scaled what it kept.
    """
    past_caches = _condition(v, past)
    by, of = v.splat(scale), v.splat(kept)

    def case(activation: Activation) -> Callable[[], None]:
        def run() -> None:
            taken = _numbers(v, activation, numbers)

            def body(at: Span) -> None:
                grown, seen = v.mul(at.load(dy), by), v.mul(at.load(s), of)
                at.store(activation.backward(v, grown, seen, *taken), dx)

            for_each(v, count, body, dx, past_caches)

        return run

    rows = [lambda: softmax_backward(v, count, dy, s, dx), lambda: log_softmax_backward(v, count, dy, s, dx)]
    switch_on(v.builder, code, [*map(case, ACTIVATIONS.values()), *rows])


@micro_kernel
def prelu_row(v: Vectors, count: Size, x: Pointer, alpha: Pointer, y: Pointer) -> Nothing:
    """y = x where x > 0, else alpha * x; y may be x."""
    mapped(v, prelu, count, [x, alpha], y)()


@micro_kernel
def prelu_slope_row(v: Vectors, count: Size, dy: Pointer, x: Pointer, alpha: Pointer, dx: Pointer) -> Nothing:
    """dx = dy where x > 0, else alpha * dy; dx may be dy."""
    mapped(v, lambda v, *operands: prelu_backward(v, *operands)[0], count, [dy, x, alpha], dx)()


@micro_kernel
def prelu_backward_row(
    v: Vectors, count: Size, dy: Pointer, x: Pointer, alpha: Pointer, dx: Pointer, dalpha: Pointer
) -> Nothing:
    """dx = dy where x > 0, else alpha * dy; dalpha += dy * x where x <= 0. dx may be dy."""

    def body(at: Span) -> None:
        slope, share = prelu_backward(v, at.load(dy), at.load(x), at.load(alpha))
        at.store(slope, dx)
        at.store(v.add(at.load(dalpha), share), dalpha)

    for_each(v, count, body)


@micro_kernel
def copy_row(v: Vectors, count: Size, x: Pointer, y: Pointer) -> Nothing:
    """y = x."""
    mapped(v, lambda _, x: x, count, [x], y)()


@micro_kernel
def copy_row_ahead(v: Vectors, count: Size, x: Pointer, y: Pointer, after: Pointer) -> Nothing:
    """y = x, while as many numbers are asked for of what is copied ``after`` it, anywhere."""

    def body(at: Span) -> None:
        emit_prefetch(v.builder, v.builder.gep(after, [at.offset]), INTO_L2)
        at.store(at.load(x), y)

    for_each(v, count, body)


# Vectors of columns that are summed side by side.
_SIDE_BY_SIDE = 4


@micro_kernel
def sum_columns(v: Vectors, count: Size, rows: Size, x: Pointer, row: Size, y: Pointer) -> Nothing:
    """y = the sums of ``count`` columns of x, row by row; rows are ``row`` apart."""
    builder, step = v.builder, I64(_SIDE_BY_SIDE * v.lanes)
    whole = builder.sdiv(count, step)

    def added(columns: Sequence[Span]) -> None:
        totals = [Total(v) for _ in columns]
        with cgutils.for_range(builder, rows, intp=I64) as loop:
            at = builder.gep(x, [builder.mul(loop.index, row)])
            for total, column in zip(totals, columns, strict=True):
                total.add(column, column.load(at))
        for total, column in zip(totals, columns, strict=True):
            column.store(total.vector(), y)

    with cgutils.for_range(builder, whole, intp=I64) as loop:
        first = builder.mul(loop.index, step)
        added([Span(v, builder.add(first, I64(j * v.lanes))) for j in range(_SIDE_BY_SIDE)])
    done = builder.mul(whole, step)
    rest = builder.sub(count, done)

    def some(vectors: int) -> None:
        """So many vectors, the last with what is left."""
        firsts = [builder.add(done, I64(j * v.lanes)) for j in range(vectors)]
        added([*(Span(v, at) for at in firsts[:-1]), Span(v, firsts[-1], v.mask(builder.sub(count, firsts[-1])))])

    vectors = builder.sdiv(builder.add(rest, I64(v.lanes - 1)), I64(v.lanes))
    switch_on(builder, vectors, [lambda: None, *(partial(some, j + 1) for j in range(_SIDE_BY_SIDE))])


@micro_kernel
def sum_rows(v: Vectors, count: Size, rows: Size, index: Sizes, x: Pointer, y: Pointer) -> Nothing:
    """y = the sum of so many ``rows`` of x, of ``count`` numbers, by their numbers: from the first to the last."""
    builder = v.builder

    def body(at: Span) -> None:
        total = Total(v)
        with cgutils.for_range(builder, rows, intp=I64) as loop:
            row = builder.load(builder.gep(index, [loop.index]))
            total.add(at, at.load(builder.gep(x, [builder.mul(row, count)])))
        at.store(total.vector(), y)

    for_each(v, count, body)


@micro_kernel
def add_row(v: Vectors, count: Size, a: Pointer, b: Pointer, y: Pointer, past: Size) -> Nothing:
    """y = a + b; y may be a or b. ``past`` as in ``forward_row``."""
    mapped(v, Vectors.add, count, [a, b], y, _condition(v, past))()


@micro_kernel
def pair_row(
    v: Vectors, code: Size, swapped: Size, count: Size, a: Pointer, b: Pointer, y: Pointer, past: Size
) -> Nothing:
    """y = f(a, b), or where they are swapped f(b, a), f by its code in ``formulas.pairs``; y may be a or b.

    ``past`` as in ``forward_row``.
    """
    past_caches = _condition(v, past)

    def case(f: Callable[..., Any]) -> Callable[[], None]:
        def run() -> None:
            with v.builder.if_else(v.builder.icmp_signed("==", swapped, I64(0))) as (plain, exchanged):
                with plain:
                    mapped(v, f, count, [a, b], y, past_caches)()
                with exchanged:
                    mapped(v, f, count, [b, a], y, past_caches)()

        return run

    switch_on(v.builder, code, [case(f) for f in PAIRS.values()])


@micro_kernel
def choice_backward_row(
    v: Vectors, code: Size, count: Size, dy: Pointer, a: Pointer, b: Pointer, da: Pointer, db: Pointer
) -> Nothing:
    """(da, db) of a choice by its code in ``formulas.pairs``."""

    def case(name: str) -> Callable[[], None]:
        def body(at: Span) -> None:
            of_a, of_b = slopes(v, name, *(at.load(each) for each in (dy, a, b)))
            at.store(of_a, da)
            at.store(of_b, db)

        return lambda: for_each(v, count, body)

    switch_on(v.builder, code, [case(name) for name in CHOICES])


@micro_kernel
def drain(v: Vectors, y: Pointer) -> Nothing:
    """Wait until what went past the caches, to y or elsewhere, is written: it is not in the order of other stores."""
    v.builder.fence("seq_cst")


@micro_kernel
def clip_row(v: Vectors, count: Size, x: Pointer, limit: Number) -> Nothing:
    """x = x kept in [-limit, limit]; NaN stays."""
    high = v.splat(limit)
    low = v.sub(v.constant(0.0), high)
    for_each(v, count, lambda at: at.store(v.min(v.max(at.load(x), low), high), x))


@micro_kernel
def squares_row(v: Vectors, count: Size, x: Pointer) -> Number:
    """Sum of x^2."""
    total = Total(v)
    for_each(v, count, lambda at: total.add(at, v.mul(at.load(x), at.load(x))))
    return total.value()


@micro_kernel
def scale_row(v: Vectors, count: Size, x: Pointer, factor: Number) -> Nothing:
    """x *= factor."""
    by = v.splat(factor)
    for_each(v, count, lambda at: at.store(v.mul(at.load(x), by), x))


@micro_kernel
def widen_row(v: Vectors, count: Size, x: Bytes, factor: Number, offset: Number, y: Pointer) -> Nothing:
    """y = factor * x + offset for bytes x."""
    builder, by, shift = v.builder, v.splat(factor), v.splat(offset)
    whole = builder.sdiv(count, I64(v.lanes))
    with cgutils.for_range(builder, whole, intp=I64) as loop:
        j = builder.mul(loop.index, I64(v.lanes))
        kind = ir.VectorType(ir.IntType(8), v.lanes)
        raw = builder.load(builder.bitcast(builder.gep(x, [j]), kind.as_pointer()))
        raw.align = 1
        v.store(v.add(v.mul(builder.uitofp(raw, v.type), by), shift), y, j)
    with cgutils.for_range_slice(builder, builder.mul(whole, I64(v.lanes)), count, I64(1), intp=I64) as (j, _):
        number = builder.uitofp(builder.load(builder.gep(x, [j])), v.format.scalar)
        builder.store(builder.fadd(builder.fmul(number, factor), offset), builder.gep(y, [j]))
