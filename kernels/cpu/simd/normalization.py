"""Normalisation: figures of the columns of some rows that lie in L1, and of a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import cgutils

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Nothing, Number, Pointer, Size, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span, Total, for_each
from fastnn.kernels.cpu.simd.vectors import I64

# Rows whose numbers are added up side by side: a sum waits some cycles for the one before.
_ABREAST = 4


def _each_row(v: Vectors, rows: Any, stride: Any, body: Callable[[Any], None]) -> None:
    """``body`` with the offset of every row."""
    with cgutils.for_range(v.builder, rows, intp=I64) as loop:
        body(v.builder.mul(loop.index, stride))


def _sums(v: Vectors, rows: Any, stride: Any, terms: Callable[[Any], Sequence[Any]], count: int) -> list[Any]:
    """Of ``count`` terms of every row the sums, of the vectors that ``terms`` gives for a row's offset."""
    builder = v.builder
    totals = [[Total(v) for _ in range(_ABREAST)] for _ in range(count)]

    def add(place: int, offset: Any) -> None:
        for total, term in zip(totals, terms(offset), strict=True):
            builder.store(v.add(total[place].vector(), term), total[place].slot)

    whole = builder.sdiv(rows, I64(_ABREAST))
    with cgutils.for_range(builder, whole, intp=I64) as loop:
        first = builder.mul(loop.index, I64(_ABREAST))
        for place in range(_ABREAST):
            add(place, builder.mul(builder.add(first, I64(place)), stride))
    with cgutils.for_range_slice(builder, builder.mul(whole, I64(_ABREAST)), rows, I64(1), intp=I64) as (row, _):
        add(0, builder.mul(row, stride))
    return [v.add(v.add(a.vector(), b.vector()), v.add(c.vector(), d.vector())) for a, b, c, d in totals]


def _reals(v: Vectors, count: Any) -> Any:
    """A size as a number in every lane."""
    return v.splat(v.builder.sitofp(count, v.format.scalar))


@micro_kernel
def moments_panel(v: Vectors, rows: Size, count: Size, x: Pointer, mean: Pointer, squares: Pointer) -> Nothing:
    """Of each column of x (rows, count), rows > 0: its mean, and the sum of the squares of what it is off that."""
    n = _reals(v, rows)

    def column(at: Span) -> None:
        (total,) = _sums(v, rows, count, lambda row: [at.load(v.builder.gep(x, [row]))], 1)
        middle = v.div(total, n)

        def off(row: Any) -> Sequence[Any]:
            distance = v.sub(at.load(v.builder.gep(x, [row])), middle)
            return [v.mul(distance, distance)]

        at.store(middle, mean)
        at.store(_sums(v, rows, count, off, 1)[0], squares)

    for_each(v, count, column)


@micro_kernel
def normalize_panel(
    v: Vectors,
    rows: Size,
    count: Size,
    x: Pointer,
    mean: Pointer,
    rstd: Pointer,
    gamma: Pointer,
    beta: Pointer,
    y: Pointer,
) -> Nothing:
    """y = gamma * rstd * (x - mean) + beta of each column of x (rows, count); y may be x."""

    def column(at: Span) -> None:
        middle, scale, shift = at.load(mean), v.mul(at.load(gamma), at.load(rstd)), at.load(beta)

        def row(offset: Any) -> None:
            z = v.sub(at.load(v.builder.gep(x, [offset])), middle)
            at.store(v.fma(z, scale, shift), v.builder.gep(y, [offset]))

        _each_row(v, rows, count, row)

    for_each(v, count, column)


@micro_kernel
def slopes_panel(
    v: Vectors, rows: Size, count: Size, dy: Pointer, x: Pointer, mean: Pointer, sums: Pointer, dots: Pointer
) -> Nothing:
    """Of each column: the sum of dy, and that of dy * (x - mean)."""

    def column(at: Span) -> None:
        middle = at.load(mean)

        def terms(row: Any) -> Sequence[Any]:
            slope, number = (at.load(v.builder.gep(each, [row])) for each in (dy, x))
            return [slope, v.mul(slope, v.sub(number, middle))]

        total, dot = _sums(v, rows, count, terms, 2)
        at.store(total, sums)
        at.store(dot, dots)

    for_each(v, count, column)


@micro_kernel
def slope_panel(
    v: Vectors,
    rows: Size,
    count: Size,
    dy: Pointer,
    x: Pointer,
    mean: Pointer,
    rstd: Pointer,
    gamma: Pointer,
    shift: Pointer,
    slant: Pointer,
    dx: Pointer,
) -> Nothing:
    """dx = gamma * rstd * (dy - shift - slant * (x - mean)) of each column; dx may be dy or x."""

    def column(at: Span) -> None:
        middle, scale = at.load(mean), v.mul(at.load(gamma), at.load(rstd))
        constant, linear = at.load(shift), at.load(slant)

        def row(offset: Any) -> None:
            slope, number = (at.load(v.builder.gep(each, [offset])) for each in (dy, x))
            moved = v.fma(linear, v.sub(number, middle), constant)
            at.store(v.mul(scale, v.sub(slope, moved)), v.builder.gep(dx, [offset]))

        _each_row(v, rows, count, row)

    for_each(v, count, column)


def _row_figures(v: Vectors, count: Any, x: Any, epsilon: Any) -> tuple[Any, Any]:
    """A row's mean and 1 / sqrt(variance + epsilon), each in every lane."""
    builder, n = v.builder, v.builder.sitofp(count, v.format.scalar)
    total, squares = Total(v), Total(v)
    for_each(v, count, lambda at: total.add(at, at.load(x)))
    mean = v.splat(builder.fdiv(total.value(), n))

    def off(at: Span) -> None:
        distance = v.sub(at.load(x), mean)
        squares.add(at, v.mul(distance, distance))

    for_each(v, count, off)
    variance = v.splat(builder.fadd(builder.fdiv(squares.value(), n), epsilon))
    return mean, v.div(v.constant(1.0), v.sqrt(variance))


@micro_kernel
def layer_norm_row(
    v: Vectors, count: Size, x: Pointer, gamma: Pointer, beta: Pointer, epsilon: Number, y: Pointer
) -> Nothing:
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta of a row; y may be x."""
    mean, rstd = _row_figures(v, count, x, epsilon)

    def body(at: Span) -> None:
        z = v.mul(v.sub(at.load(x), mean), rstd)
        at.store(v.fma(z, at.load(gamma), at.load(beta)), y)

    for_each(v, count, body)


@micro_kernel
def layer_norm_backward_row(
    v: Vectors,
    count: Size,
    dy: Pointer,
    x: Pointer,
    gamma: Pointer,
    epsilon: Number,
    wanted: Size,
    dx: Pointer,
    dgamma: Pointer,
    dbeta: Pointer,
) -> Nothing:
    """dgamma += dy * z, dbeta += dy, and where it is wanted dx = rstd * (g - mean of g - z * mean of g * z).

    z = (x - mean) * rstd, g = gamma * dy; dx may be dy or x.
    """
    builder, n = v.builder, v.builder.sitofp(count, v.format.scalar)
    mean, rstd = _row_figures(v, count, x, epsilon)
    total, dot = Total(v), Total(v)

    def sums(at: Span) -> None:
        z, slope = v.mul(v.sub(at.load(x), mean), rstd), at.load(dy)
        g = v.mul(slope, at.load(gamma))
        total.add(at, g)
        dot.add(at, v.mul(g, z))
        at.store(v.fma(slope, z, at.load(dgamma)), dgamma)
        at.store(v.add(at.load(dbeta), slope), dbeta)

    for_each(v, count, sums)
    shift, slant = (v.splat(builder.fdiv(each.value(), n)) for each in (total, dot))

    def slopes(at: Span) -> None:
        z = v.mul(v.sub(at.load(x), mean), rstd)
        g = v.mul(at.load(dy), at.load(gamma))
        at.store(v.mul(rstd, v.sub(v.sub(g, shift), v.mul(z, slant))), dx)

    with builder.if_then(builder.icmp_signed("!=", wanted, I64(0))):
        for_each(v, count, slopes)
