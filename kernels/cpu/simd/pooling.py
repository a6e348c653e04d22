"""Pooling: windows of rows of channels, one behind the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import cgutils

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Indices, Nothing, Number, Pointer, Size, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span, for_each, switch_on
from fastnn.kernels.cpu.simd.vectors import I64
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.formulas.pairs import PAIRS

# What is made of the numbers of a window, by run-time code.
MAX, MEAN = range(2)

# What becomes of numbers before the largest is found, by run-time code: a bias and an activation, or nothing.
BRIEF = ("identity", "relu")
AS_THEY_ARE = len(BRIEF)


def _each(v: Vectors, count: Any, step: Any, body: Callable[[Any], None]) -> None:
    """``body`` with the offsets 0, step, 2 * step, ..."""
    with cgutils.for_range(v.builder, count, intp=I64) as loop:
        body(v.builder.mul(loop.index, step))


def _each_cell(v: Vectors, rows: Any, columns: Any, row: Any, column: Any, body: Callable[[Any], None]) -> None:
    """``body`` with the offset of every number of a window, row by row."""

    def along(begin: Any) -> None:
        _each(v, columns, column, lambda offset: body(v.builder.add(begin, offset)))

    _each(v, rows, row, along)


@micro_kernel
def pool_row(
    v: Vectors,
    code: Size,
    places: Size,
    step: Size,
    rows: Size,
    columns: Size,
    row: Size,
    count: Size,
    wide: Size,
    scale: Number,
    x: Pointer,
    y: Pointer,
) -> Nothing:
    """Windows of ``rows`` x ``columns`` cells at ``places`` of x, ``step`` apart: the largest numbers, or scale * sums.

    Cells are ``count`` channels of the ``wide`` ones that lie side by side, rows are ``row`` apart; so it is with y.
    """
    builder = v.builder

    def pooled(join: Callable[[Any, Any], Any], first: float, last: Callable[[Any], Any]) -> None:
        slot = cgutils.alloca_once(builder, v.type)
        with cgutils.for_range(builder, places, intp=I64) as loop:
            window = builder.gep(x, [builder.mul(loop.index, step)])
            made = builder.gep(y, [builder.mul(loop.index, wide)])

            def channels(at: Span) -> None:
                def cell(offset: Any) -> None:
                    number = at.load(builder.gep(window, [offset]))
                    builder.store(join(builder.load(slot), number), slot)

                builder.store(v.constant(first), slot)
                _each_cell(v, rows, columns, row, wide, cell)
                at.store(last(builder.load(slot)), made)

            for_each(v, count, channels)

    by = v.splat(scale)
    switch_on(
        builder,
        code,
        [
            lambda: pooled(lambda a, b: PAIRS["maximum"](v, a, b), float("-inf"), lambda top: top),
            lambda: pooled(v.add, 0.0, lambda total: v.mul(total, by)),
        ],
    )


def _each_way(v: Vectors, adds: Any, emit: Callable[[Callable[[Span, Any, Any], None]], None]) -> None:
    """Emit what writes its numbers over those that are there, and what adds them: which of both is told at run time.

    Windows that do not meet need no addition, whose loads would wait for masked stores beside them.
    """

    def added(at: Span, number: Any, where: Any) -> None:
        at.store(v.add(at.load(where), number), where)

    with v.builder.if_else(v.builder.icmp_signed("!=", adds, I64(0))) as (meeting, apart):
        with meeting:
            emit(added)
        with apart:
            emit(lambda at, number, where: at.store(number, where))


@micro_kernel
def spread_row(
    v: Vectors,
    adds: Size,
    places: Size,
    step: Size,
    rows: Size,
    columns: Size,
    row: Size,
    count: Size,
    wide: Size,
    scale: Number,
    dy: Pointer,
    dx: Pointer,
) -> Nothing:
    """dx += scale * dy for all cells of a place's window; cells and windows as in ``pool_row``.

    Where it is not to be added, dx = scale * dy.
    """
    builder, by = v.builder, v.splat(scale)

    def spread(put: Callable[[Span, Any, Any], None]) -> None:
        with cgutils.for_range(builder, places, intp=I64) as loop:
            window = builder.gep(dx, [builder.mul(loop.index, step)])
            slopes = builder.gep(dy, [builder.mul(loop.index, wide)])

            def channels(at: Span) -> None:
                share = v.mul(at.load(slopes), by)

                def cell(offset: Any) -> None:
                    put(at, share, builder.gep(window, [offset]))

                _each_cell(v, rows, columns, row, wide, cell)

            for_each(v, count, channels)

    _each_way(v, adds, spread)


@micro_kernel
def spread_max_row(
    v: Vectors,
    adds: Size,
    places: Size,
    step: Size,
    rows: Size,
    columns: Size,
    row: Size,
    count: Size,
    wide: Size,
    rectified: Size,
    dy: Pointer,
    x: Pointer,
    y: Pointer,
    dx: Pointer,
) -> Nothing:
    """dx += dy for the first cell of a place's window that holds y; cells and windows as in ``pool_row``.

    Where y is NaN that is the first NaN. Where it is not to be added, dx = dy there and 0 in the window's other cells.
    Where x is ``rectified`` dx is the derivative by what it is the relu of: 0 where y is not positive.
    """
    builder, zero = v.builder, v.constant(0.0)
    as_it_is = builder.icmp_signed("==", rectified, I64(0))
    slot = cgutils.alloca_once(builder, v.type)

    def spread(put: Callable[[Span, Any, Any], None]) -> None:
        with cgutils.for_range(builder, places, intp=I64) as loop:
            begin = builder.mul(loop.index, step)
            place = builder.mul(loop.index, wide)
            numbers, target = builder.gep(x, [begin]), builder.gep(dx, [begin])

            def channels(at: Span) -> None:
                top = at.load(builder.gep(y, [place]))

                def cell(offset: Any) -> None:
                    number, left = at.load(builder.gep(numbers, [offset])), builder.load(slot)
                    found = builder.or_(
                        builder.fcmp_ordered("==", number, top), builder.fcmp_unordered("uno", number, number)
                    )
                    put(at, builder.select(found, left, zero), builder.gep(target, [offset]))
                    builder.store(builder.select(found, zero, left), slot)

                slope = at.load(builder.gep(dy, [place]))
                builder.store(builder.select(as_it_is, slope, v.where(">", top, zero, slope, zero)), slot)
                _each_cell(v, rows, columns, row, wide, cell)

            for_each(v, count, channels)

    _each_way(v, adds, spread)


@micro_kernel
def pool_cells_row(
    v: Vectors,
    code: Size,
    places: Size,
    step: Size,
    rows: Size,
    columns: Size,
    row: Size,
    count: Size,
    x: Pointer,
    bias: Pointer,
    y: Pointer,
    cells: Indices,
) -> Nothing:
    """The largest of f(x + bias) of each place's window, and which cell of it that is; windows as in ``pool_row``.

    Cells are counted row by row, of the largest the first, or the first NaN. f by its code in ``BRIEF``, or neither f
    nor bias. All ``count`` channels lie side by side.
    """
    builder = v.builder

    def pooled(last: Callable[[Span, Any], Any]) -> None:
        top, best, now = (cgutils.alloca_once(builder, kind) for kind in (v.type, v.itype, I64))
        with cgutils.for_range(builder, places, intp=I64) as loop:
            window = builder.gep(x, [builder.mul(loop.index, step)])
            made = builder.mul(loop.index, count)

            def channels(at: Span) -> None:
                def cell(offset: Any) -> None:
                    number, before = last(at, at.load(builder.gep(window, [offset]))), builder.load(top)
                    above = builder.fcmp_unordered(">", number, before)
                    larger = builder.and_(above, builder.fcmp_ordered("ord", before, before))
                    number = builder.select(larger, number, before)
                    builder.store(number, top)
                    at_cell = v.isplat(builder.load(now))
                    builder.store(builder.select(larger, at_cell, builder.load(best)), best)
                    builder.store(builder.add(builder.load(now), I64(1)), now)

                builder.store(last(at, at.load(window)), top)
                builder.store(v.iconstant(0), best)
                builder.store(I64(0), now)
                _each_cell(v, rows, columns, row, count, cell)
                at.store(builder.load(top), builder.gep(y, [made]))
                _store_cells(v, at, builder.load(best), builder.gep(cells, [made]))

            for_each(v, count, channels)

    def case(name: str) -> Callable[[], None]:
        forward = ACTIVATIONS[name].forward
        return lambda: pooled(lambda at, number: forward(v, v.add(number, at.load(bias))))

    switch_on(builder, code, [*map(case, BRIEF), lambda: pooled(lambda at, number: number)])


def _store_cells(v: Vectors, at: Span, cells: Any, pointer: Any) -> None:
    whole = v.builder.icmp_signed("==", v.lane_numbers, v.lane_numbers)
    v.store_indices(v.indices(cells), pointer, at.offset, whole if at.mask is None else at.mask)


def _load_cells(v: Vectors, at: Span, pointer: Any) -> Any:
    whole = v.builder.icmp_signed("==", v.lane_numbers, v.lane_numbers)
    return v.load_indices(pointer, at.offset, whole if at.mask is None else at.mask)


@micro_kernel
def spread_cells_row(
    v: Vectors,
    places: Size,
    step: Size,
    rows: Size,
    columns: Size,
    row: Size,
    count: Size,
    dy: Pointer,
    cells: Indices,
    dx: Pointer,
) -> Nothing:
    """dx = dy in the cell of each place's window that ``cells`` numbers, 0 in its others; as in ``pool_cells_row``."""
    builder, zero = v.builder, v.constant(0.0)
    now = cgutils.alloca_once(builder, I64)
    with cgutils.for_range(builder, places, intp=I64) as loop:
        window = builder.gep(dx, [builder.mul(loop.index, step)])
        place = builder.mul(loop.index, count)

        def channels(at: Span) -> None:
            slope, best = at.load(builder.gep(dy, [place])), _load_cells(v, at, builder.gep(cells, [place]))
            builder.store(I64(0), now)

            def cell(offset: Any) -> None:
                here = builder.icmp_signed("==", best, v.isplat(builder.load(now)))
                at.store(builder.select(here, slope, zero), builder.gep(window, [offset]))
                builder.store(builder.add(builder.load(now), I64(1)), now)

            _each_cell(v, rows, columns, row, count, cell)

        for_each(v, count, channels)
