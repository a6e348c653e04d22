"""Products with rows of non-zeros, the step on what they touch, and how non-zeros are found and coupled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastnn.kernels.cpu.compiler.machine import LINE, tile
from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import (
    INTO_L1,
    INTO_L2,
    Indices,
    Nothing,
    Number,
    Pointer,
    Size,
    Sizes,
    emit_prefetch,
    micro_kernel,
    opaque,
)
from fastnn.kernels.cpu.simd.loops import Span, Total, for_each, switch_on
from fastnn.kernels.cpu.simd.optim import hyper_parameters, state_pointers
from fastnn.kernels.cpu.simd.vectors import I32, I64, ZERO
from fastnn.kernels.formulas.steps import STEPS, Step

# Width of a row of non-zeros' products, in tiles: wider shares the index and the broadcast among more columns, but the
# rows of dZ that an update reads over and over must stay in L1.
SPARSE_TILES = 2


def _sparse_sums(
    v: Vectors,
    features: int,
    count: Any,
    indices: Any,
    values: Any,
    table: Any,
    row_stride: Any,
    masks: Sequence[Any] | None = None,
) -> Sequence[Sequence[Total]]:
    """Sums over j < count of values[j, i] * table[indices[j] * row_stride :], for each of i < ``features``.

    They are SPARSE_TILES * NR numbers wide, as vectors, of which ``masks`` say which lanes there are. Two entries at a
    time: 2 * SPARSE_TILES * NV chains of multiply-adds hide the latency of one. Loads are what the loop is short of:
    one brings two indices, one all values, which are spread from their register, and a row of the table serves all
    features.
    """
    builder, vectors = v.builder, SPARSE_TILES * tile(v.format.bytes).NV
    even, odd = ([[Total(v) for _ in range(vectors)] for _ in range(features)] for _ in range(2))

    def step(index: Any, factors: Sequence[Any], totals: Sequence[Sequence[Total]]) -> None:
        row = builder.gep(table, [builder.mul(index, row_stride)])
        for i in range(vectors):
            place = I64(i * v.lanes)
            shared = v.load(row, place) if masks is None else v.load_masked(row, place, masks[i])
            for factor, feature in zip(factors, totals, strict=True):
                feature[i].fma(factor, shared)

    def factors(j: Any, entries: int) -> list[Any]:
        some = Vectors(builder, v.dtype, entries * features)
        numbers = some.load(values, builder.mul(j, I64(features)))
        return [v.spread(numbers, i) for i in range(entries * features)]

    with cgutils.for_range(builder, builder.sdiv(count, I64(2)), intp=I64) as loop:
        j = builder.mul(loop.index, I64(2))
        x = factors(j, 2)
        both = builder.load(builder.bitcast(builder.gep(indices, [j]), I64.as_pointer()))
        both.align = I32.width // 8
        both = opaque(builder, both)
        step(builder.and_(both, I64(0xFFFFFFFF)), x[:features], even)
        step(builder.lshr(both, I64(32)), x[features:], odd)
    with builder.if_then(builder.trunc(count, ir.IntType(1))):
        j = builder.sub(count, I64(1))
        step(builder.zext(builder.load(builder.gep(indices, [j])), I64), factors(j, 1), even)
    for feature, other in zip(even, odd, strict=True):
        for total, more in zip(feature, other, strict=True):
            total.join(more)
    return even


@micro_kernel
def sparse_row(
    v: Vectors, count: Size, indices: Indices, values: Pointer, table: Pointer, row_stride: Size, y: Pointer
) -> Nothing:
    """y = sum over j < count of values[j] * table[indices[j] * row_stride :], both SPARSE_TILES * NR numbers wide."""
    (sums,) = _sparse_sums(v, 1, count, indices, values, table, row_stride)
    for i, total in enumerate(sums):
        v.store(total.vector(), y, I64(i * v.lanes))


@micro_kernel
def sparse_row_part(
    v: Vectors,
    width: Size,
    count: Size,
    indices: Indices,
    values: Pointer,
    table: Pointer,
    row_stride: Size,
    y: Pointer,
) -> Nothing:
    """``sparse_row`` of the first ``width`` of its numbers: nothing behind them is read or written."""
    starts = [I64(i * v.lanes) for i in range(SPARSE_TILES * tile(v.format.bytes).NV)]
    masks = [v.mask(v.builder.sub(width, start)) for start in starts]
    (sums,) = _sparse_sums(v, 1, count, indices, values, table, row_stride, masks)
    for total, start, mask in zip(sums, starts, masks, strict=True):
        v.store_masked(total.vector(), y, start, mask)


@micro_kernel
def sparse_rows(
    v: Vectors,
    n: Size,
    bounds: Sizes,
    stride: Size,
    indices: Indices,
    values: Pointer,
    panel: Pointer,
    y: Pointer,
    row_stride_y: Size,
    accumulate: Size,
) -> Nothing:
    """``sparse_row`` of one panel for n rows.

    The non-zeros of row r are those from bounds[r * stride] up to bounds[r * stride + 1]; the panel's rows are as long
    as it is wide. Where ``accumulate`` is not 0 they are added to y.
    """
    builder = v.builder
    width = I64(SPARSE_TILES * tile(v.format.bytes).NR)
    held = v.mask(builder.select(builder.icmp_signed("==", accumulate, ZERO), ZERO, I64(v.lanes)))
    with cgutils.for_range(builder, n, intp=I64) as loop:
        at = builder.gep(bounds, [builder.mul(loop.index, stride)])
        begin, end = builder.load(at), builder.load(builder.gep(at, [I64(1)]))
        places, numbers = (builder.gep(pointer, [begin]) for pointer in (indices, values))
        (sums,) = _sparse_sums(v, 1, builder.sub(end, begin), places, numbers, panel, width)
        row = builder.gep(y, [builder.mul(loop.index, row_stride_y)])
        for i, total in enumerate(sums):
            offset = I64(i * v.lanes)
            v.store(v.add(v.load_masked(row, offset, held), total.vector()), row, offset)


@micro_kernel
def sparse_update(
    v: Vectors,
    code: Size,
    coupled: Size,
    low: Size,
    high: Size,
    all_rows: Size,
    begins: Indices,
    ends: Indices,
    samples: Indices,
    values: Pointer,
    dz: Pointer,
    row_stride_dz: Size,
    decay: Pointer,
    w: Pointer,
    slots: Sizes,
    start: Size,
    hyper: Pointer,
    l2: Number,
) -> Number:
    """The optimizer's step, by code, on rows ``low`` to ``high`` of a panel, their gradient never leaving registers.

    The penalty l2 * sum w^2 of these rows, which is returned, has its part in the gradient. The panel is at ``w``; that
    of each state begins at number ``start`` of its slot, see ``update_row``. The gradient of row f is the sum of
    values[j] * dZ[samples[j]] for j from begins[f] up to ends[f]; the step's first state is multiplied by decay[f]
    beforehand. Rows without entries are left alone unless ``all_rows`` is not 0. Where ``coupled`` is not 0, rows f and
    f + 1 share the entries of f, f even, each of which has two values.
    """
    entries = begins, ends, samples, values, dz, row_stride_dz
    width, squares = I64(SPARSE_TILES * tile(v.format.bytes).NR), Total(v)
    penalty = v.splat(v.builder.fadd(l2, l2)), squares
    with v.builder.if_else(v.builder.icmp_signed("==", coupled, ZERO)) as branches:
        for features, branch in enumerate(branches, 1):
            with branch:
                _update_rows(
                    v, features, code, low, high, all_rows, entries, decay, w, width, (slots, start), hyper, penalty
                )
    return v.builder.fmul(l2, squares.value())


@micro_kernel
def sparse_step(
    v: Vectors,
    code: Size,
    low: Size,
    high: Size,
    all_rows: Size,
    begins: Indices,
    ends: Indices,
    samples: Indices,
    values: Pointer,
    dz: Pointer,
    row_stride_dz: Size,
    w: Pointer,
    row_stride: Size,
    slots: Sizes,
    start: Size,
    hyper: Pointer,
) -> Nothing:
    """``sparse_update`` of rows ``row_stride`` apart that share no entries, their states as they are.

    Rows to come are asked for ahead: where they are parts of longer ones, no core guesses where the next one lies.
    """
    entries = begins, ends, samples, values, dz, row_stride_dz
    _update_rows(
        v, 1, code, low, high, all_rows, entries, None, w, row_stride, (slots, start), hyper, ahead=_ROWS_AHEAD
    )


@micro_kernel
def decay_row(v: Vectors, count: Size, times: Size, factor: Number, x: Pointer) -> Nothing:
    """x times ``factor``, so many times, rounded each time; never denormal, as optimizers' steps leave their state."""
    builder, held = v.builder, v.splat(factor)

    def body(at: Span) -> None:
        number = cgutils.alloca_once_value(builder, at.load(x))
        with cgutils.for_range(builder, times, intp=I64):
            builder.store(v.mul(builder.load(number), held), number)
        at.store(v.flush(builder.load(number)), x)

    for_each(v, count, body)


# Rows of weights ahead of their step that they are asked for.
_ROWS_AHEAD = 8

# Rows of which an update looks for those with entries at a time: a branch for each would go either way at random.
_LOOK = 32


def _rows_to_update(v: Vectors, features: int, begins: Any, ends: Any, start: Any, high: Any, every: Any) -> Any:
    """Which of the rows from ``start`` on, below ``high``, have entries, or ``every`` one: bits of a 64-bit integer."""
    builder = v.builder
    rows = Vectors(builder, types.float32, _LOOK)
    within = rows.mask(builder.sub(high, start))
    first, last = (rows.load_indices(pointer, start, within) for pointer in (begins, ends))
    some = builder.and_(rows.bits(within), builder.or_(rows.bits(builder.icmp_signed("<", first, last)), every))
    return builder.and_(some, I64(sum(1 << i for i in range(0, _LOOK, features))))


def _update_rows(
    v: Vectors,
    features: int,
    code: Any,
    low: Any,
    high: Any,
    all_rows: Any,
    entries: Sequence[Any],
    decay: Any,
    w: Any,
    row_stride: Any,
    states: tuple[Any, Any],
    hyper: Any,
    penalty: tuple[Any, Total] | None = None,
    ahead: int = 0,
) -> None:
    """``sparse_update`` for rows of which so many share their entries; states stay as they are without a ``decay``.

    With a ``penalty`` the gradient has its first part times the weights, and its second one their squares. The row that
    is so many rows ``ahead``, if any, is asked for.
    """
    begins, ends, samples, values, dz, row_stride_dz = entries
    builder = v.builder
    every = builder.sext(builder.icmp_signed("!=", all_rows, ZERO), I64)
    left = cgutils.alloca_once(builder, I64)
    with cgutils.for_range_slice(builder, low, high, I64(_LOOK), intp=I64) as (start, _):
        builder.store(_rows_to_update(v, features, begins, ends, start, high, every), left)
        with cgutils.for_range(builder, v.ones(builder.load(left)), intp=I64):
            f = builder.add(start, v.first_one(builder.load(left)))
            builder.store(v.but_first_one(builder.load(left)), left)
            begin, end = (builder.zext(builder.load(builder.gep(pointer, [f])), I64) for pointer in (begins, ends))
            places = builder.gep(samples, [begin])
            numbers = builder.gep(values, [builder.mul(begin, I64(features))])
            sums = _sparse_sums(v, features, builder.sub(end, begin), places, numbers, dz, row_stride_dz)
            factors = [
                None if decay is None else v.splat(builder.load(builder.gep(decay, [builder.add(f, I64(i))])))
                for i in range(features)
            ]
            gradient = [
                (builder.add(builder.mul(builder.add(f, I64(feature)), row_stride), I64(i * v.lanes)), total, factor)
                for feature, (totals, factor) in enumerate(zip(sums, factors, strict=True))
                for i, total in enumerate(totals)
            ]

            def case(step: Step, gradient: Any = gradient) -> Callable[[], None]:
                def run() -> None:
                    h = hyper_parameters(v, step, hyper)
                    held = [w, *state_pointers(v, step, *states)]
                    for offset, total, factor in gradient:
                        if ahead:
                            after = builder.add(offset, builder.mul(row_stride, I64(ahead)))
                            for pointer in held:
                                emit_prefetch(builder, builder.gep(pointer, [after]), INTO_L1)
                        weight, *state = [v.load(pointer, offset) for pointer in held]
                        if factor is not None:
                            state[:1] = [v.mul(first, factor) for first in state[:1]]
                        slope = total.vector()
                        if penalty is not None:
                            slope = v.fma(penalty[0], weight, slope)
                            penalty[1].fma(weight, weight)
                        after = step.update(v, h, weight, slope, *state)
                        for value, pointer in zip(after, held, strict=True):
                            v.store(value, pointer, offset)

                return run

            switch_on(builder, code, [case(step) if step.direct else _nothing for step in STEPS.values()])


def _nothing() -> None:
    """The case of a step that is not ``direct``."""


@micro_kernel
def couple_row(v: Vectors, count: Size, indices: Indices, values: Pointer, evens: Indices, couples: Pointer) -> Size:
    """Entries of two features, 2c and 2c + 1, from those of one, whose indices rise: how many.

    The even index goes to ``evens``, the values of both, 0 where there was none, to ``couples``.
    """
    builder = v.builder
    place = cgutils.alloca_once_value(builder, ZERO)
    if v.avx512:
        _couple_lanes(v, count, indices, values, evens, couples, place)
        return builder.load(place)
    number = v.format.scalar
    before = cgutils.alloca_once_value(builder, I32(-1))  # the index before, and its value
    held = cgutils.alloca_once_value(builder, number(0.0))
    with cgutils.for_range(builder, count, intp=I64) as loop:
        index, x = (builder.load(builder.gep(pointer, [loop.index])) for pointer in (indices, values))
        mine, odd = builder.and_(index, I32(-2)), builder.zext(builder.and_(index, I32(1)), I64)
        same = builder.icmp_signed("==", mine, builder.and_(builder.load(before), I32(-2)))
        to = builder.sub(builder.load(place), builder.zext(same, I64))
        first = builder.mul(to, I64(2))
        builder.store(mine, builder.gep(evens, [to]))
        builder.store(x, builder.gep(couples, [builder.add(first, odd)]))
        other = builder.select(same, builder.load(held), number(0.0))
        builder.store(other, builder.gep(couples, [builder.add(first, builder.sub(I64(1), odd))]))
        for value, slot in ((builder.add(to, I64(1)), place), (index, before), (x, held)):
            builder.store(value, slot)
    return builder.load(place)


def _couple_lanes(v: Vectors, count: Any, indices: Any, values: Any, evens: Any, couples: Any, place: Any) -> None:
    """``couple_row`` by lanes: the first of a couple looks at its neighbour, and the first ones are packed together."""
    builder, lanes = v.builder, I64(v.lanes)
    before = cgutils.alloca_once_value(builder, v.iconstant(-1))
    zero, even = v.constant(0.0), v.iconstant(-2)
    steps = builder.sdiv(builder.add(count, I64(v.lanes - 1)), lanes)
    with cgutils.for_range(builder, steps, intp=I64) as loop:
        j = builder.mul(loop.index, lanes)
        after = builder.add(j, I64(1))
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
        twice, start = builder.mul(kept, I64(2)), builder.mul(to, I64(2))
        low, high = v.zip(v.compress(left, first), v.compress(right, first))
        v.store_masked(low, couples, start, v.mask(twice))
        v.store_masked(high, couples, builder.add(start, lanes), v.mask(builder.sub(twice, lanes)))
        builder.store(builder.add(to, kept), place)


@micro_kernel
def scan_row(v: Vectors, count: Size, x: Pointer, limit: Number) -> Size:
    """Number of non-zeros of x; -1 if one of its numbers is NaN or its magnitude exceeds ``limit``."""
    builder = v.builder
    found, beyond = (cgutils.alloca_once_value(builder, ZERO) for _ in range(2))
    highest = v.splat(limit)

    def body(at: Span) -> None:
        number = at.load(x)
        filled = v.bits(builder.fcmp_unordered("!=", number, v.constant(0.0)))
        builder.store(builder.add(builder.load(found), v.ones(filled)), found)
        outside = v.bits(builder.fcmp_unordered(">", v.abs(number), highest))
        builder.store(builder.or_(builder.load(beyond), outside), beyond)

    for_each(v, count, body)
    return builder.select(builder.icmp_signed("==", builder.load(beyond), ZERO), builder.load(found), I64(-1))


@micro_kernel
def compress_row(v: Vectors, count: Size, x: Pointer, indices: Indices, values: Pointer) -> Nothing:
    """The places and values of the non-zeros of x, in order; nothing is written behind the last of them."""
    builder = v.builder
    place = cgutils.alloca_once_value(builder, ZERO)

    def body(at: Span) -> None:
        number = at.load(x)
        mask = builder.fcmp_unordered("!=", number, v.constant(0.0))
        bits = v.bits(mask)
        with builder.if_then(builder.icmp_signed("!=", bits, ZERO)):
            to = builder.load(place)
            if v.avx512:
                kept = v.ones(bits)
                v.store_masked(v.compress(number, mask), values, to, v.mask(kept))
                v.store_indices(v.compressed_places(at.offset, mask), indices, to, v.mask(kept))
                builder.store(builder.add(to, kept), place)
            else:
                for lane in range(v.lanes):
                    with builder.if_then(builder.extract_element(mask, I32(lane))):
                        to = builder.load(place)
                        builder.store(builder.extract_element(number, I32(lane)), builder.gep(values, [to]))
                        index = builder.trunc(builder.add(at.offset, I64(lane)), I32)
                        builder.store(index, builder.gep(indices, [to]))
                        builder.store(builder.add(to, I64(1)), place)

    for_each(v, count, body)


@micro_kernel
def prefetch_row(v: Vectors, count: Size, indices: Indices, values: Pointer) -> Nothing:
    """Ask for ``count`` indices and values ahead of their use."""
    builder = v.builder
    for pointer, size in ((indices, 4), (values, v.format.bytes)):
        step = LINE // size
        lines = builder.sdiv(builder.add(count, I64(step - 1)), I64(step))
        with cgutils.for_range(builder, lines, intp=I64) as loop:
            emit_prefetch(builder, builder.gep(pointer, [builder.mul(loop.index, I64(step))]), INTO_L2)
