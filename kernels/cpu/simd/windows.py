"""Windows whose channels do not meet: each channel of the results is a sum of one of x, as depthwise convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import cgutils

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Nothing, Pointer, Size, Sizes, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span, Total, for_each
from fastnn.kernels.cpu.simd.vectors import I64, ZERO

# Sums side by side: as many as a multiply-add takes cycles.
_SIDE_BY_SIDE = 4


def _in_fours(builder: Any, count: Any, body: Callable[[Any, int], None]) -> None:
    """``body(first, how many)`` for ``count`` things, four at a time and then one by one."""
    whole = builder.mul(builder.sdiv(count, I64(_SIDE_BY_SIDE)), I64(_SIDE_BY_SIDE))
    with cgutils.for_range_slice(builder, ZERO, whole, I64(_SIDE_BY_SIDE), intp=I64) as (first, _):
        body(first, _SIDE_BY_SIDE)
    with cgutils.for_range_slice(builder, whole, count, I64(1), intp=I64) as (first, _):
        body(first, 1)


@micro_kernel
def window_rows(
    v: Vectors, pixels: Size, count: Size, taps: Size, x: Pointer, step_x: Size, offsets: Sizes, w: Pointer,
    places: Sizes, y: Pointer, step_y: Size,
) -> Nothing:  # fmt: skip
    """y[i, j] = sum over t of x[offsets[t] + i * step_x + j] w[places[t] + j], i < pixels, j < count."""
    builder = v.builder

    def some(first: Any, many: int) -> None:
        sources = [builder.gep(x, [builder.mul(builder.add(first, I64(i)), step_x)]) for i in range(many)]

        def body(at: Span) -> None:
            totals = [Total(v) for _ in sources]
            with cgutils.for_range(builder, taps, intp=I64) as tap:
                offset, place = (builder.load(builder.gep(each, [tap.index])) for each in (offsets, places))
                weight = at.load(builder.gep(w, [place]))
                for total, source in zip(totals, sources, strict=True):
                    total.fma(weight, at.load(builder.gep(source, [offset])))
            for i, total in enumerate(totals):
                at.store(total.vector(), builder.gep(y, [builder.mul(builder.add(first, I64(i)), step_y)]))

        for_each(v, count, body)

    _in_fours(builder, pixels, some)


@micro_kernel
def window_products(
    v: Vectors, pixels: Size, count: Size, taps: Size, x: Pointer, step_x: Size, offsets: Sizes, dz: Pointer,
    step_dz: Size, dw: Pointer, step_dw: Size,
) -> Nothing:  # fmt: skip
    """dw[t, j] += sum over i of x[offsets[t] + i * step_x + j] dz[i, j], t < taps, i < pixels, j < count."""
    builder = v.builder

    def some(first: Any, many: int) -> None:
        numbers = [builder.add(first, I64(t)) for t in range(many)]
        sources = [builder.gep(x, [builder.load(builder.gep(offsets, [number]))]) for number in numbers]
        targets = [builder.gep(dw, [builder.mul(number, step_dw)]) for number in numbers]

        def body(at: Span) -> None:
            totals = [Total(v, at.load(target)) for target in targets]
            with cgutils.for_range(builder, pixels, intp=I64) as pixel:
                slope = at.load(builder.gep(dz, [builder.mul(pixel.index, step_dz)]))
                ahead = builder.mul(pixel.index, step_x)
                for total, source in zip(totals, sources, strict=True):
                    total.fma(slope, at.load(builder.gep(source, [ahead])))
            for total, target in zip(totals, targets, strict=True):
                at.store(total.vector(), target)

        for_each(v, count, body)

    _in_fours(builder, taps, some)
