"""The register tile of a product, and what brings matrices into the form that it walks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product as product_of
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils

from fastnn.kernels.cpu.compiler.machine import ALIASED, LINE, tile
from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import INTO_L1, Nothing, Pointer, Size, Sizes, emit_prefetch, micro_kernel, opaque
from fastnn.kernels.cpu.simd.loops import Span, for_each
from fastnn.kernels.cpu.simd.vectors import I32, I64, ZERO

# Steps ahead of its use that a tile asks for a row of B, and for the lines of a column of A that is contiguous: where A
# is walked down its columns, or lies in tiles, each step comes to other lines (float64 tiles beyond L1: 15% faster with
# it). Only with AVX-512: the smaller tiles of other instruction sets have no room for it between their multiply-adds
# (AVX2: 5 to 10% slower with it).
_B_AHEAD, _A_AHEAD = 8, 16


class Runs(NamedTuple):
    """Parts of the depth of a product, one behind the other in B; in A each begins ``offsets`` behind its pointer."""

    count: Size
    offsets: Sizes


class Product(NamedTuple):
    """C = A @ B, ``kc`` deep, added to C where ``accumulate`` is not 0; rows of B and C are contiguous."""

    kc: Size
    a: Pointer
    row_stride_a: Size
    column_stride_a: Size
    b: Pointer
    row_stride_b: Size
    c: Pointer
    row_stride_c: Size
    accumulate: Size


def _ahead(v: Vectors, row_stride: Any) -> Any:
    """How far behind a row of B the one lies that a tile asks for at the same time; 0 for none.

    Rows that fight for one set of L1 are not asked for, since they would drive out each other.
    """
    builder = v.builder
    low = builder.and_(row_stride, I64(ALIASED // v.format.bytes - 1))
    aliased = builder.icmp_signed("==", low, ZERO)
    return builder.select(aliased, ZERO, builder.mul(row_stride, I64(_B_AHEAD)))


def _emit_tile(
    v: Vectors,
    rows: int,
    vectors: int,
    columns: Any,
    product: Product,
    multiply_add: Callable[..., Any],
    runs: Runs | None = None,
    narrow: bool = False,
) -> None:
    """One tile of ``rows`` rows of ``vectors`` vectors: its sums stay in registers from the first k to the last.

    With ``runs``, ``kc`` is the depth of each. Where it is ``narrow`` the last vector is half as wide.
    """
    last_kind = Vectors(v.builder, v.dtype, v.lanes // 2) if narrow else v
    kinds = [*[v] * (vectors - 1), last_kind]
    kc, a, row_stride_a, column_stride_a, b, row_stride_b, c, row_stride_c, accumulate = product
    builder, lanes = v.builder, v.lanes
    loop = builder.append_basic_block("tile.k")
    # One pointer for every four rows of A; rows 1 to 3 of a group are one addressing mode away.
    offsets = [opaque(builder, builder.mul(row_stride_a, I64(i))) if i else I64(0) for i in range(min(4, rows))]
    groups = [builder.gep(a, [builder.mul(row_stride_a, I64(i))]) for i in range(0, rows, 4)]
    tile = [(i, j) for i in range(rows) for j in range(vectors)]
    ahead = _ahead(v, row_stride_b)
    ahead_a = builder.mul(column_stride_a, I64(_A_AHEAD))
    began: dict[Any, Any] = {(i, j): kinds[j].constant(0.0) for i, j in tile}
    first_b, before = b, builder.block
    if runs is not None:
        run_loop = builder.append_basic_block("tile.run")
        builder.branch(run_loop)
        builder.position_at_end(run_loop)
        run = builder.phi(I64)
        first_b = builder.phi(b.type)
        began = {(i, j): builder.phi(kinds[j].type) for i, j in tile}
        offset = builder.load(builder.gep(runs.offsets, [run]))
        groups = [builder.gep(group, [offset]) for group in groups]
    entry = builder.block
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(I64)
    sums = {(i, j): builder.phi(kinds[j].type) for i, j in tile}
    starts = [builder.phi(a.type) for _ in groups]
    b_k = builder.phi(b.type)
    b_row = [kind.load(b_k, I64(j * lanes)) for j, kind in enumerate(kinds)]
    if v.avx512:
        later = [(b_k, builder.add(ahead, I64(j * lanes))) for j in range(vectors)]
        later += [(starts[0], builder.add(ahead_a, I64(i))) for i in range(0, rows, LINE // v.format.bytes)]
        for pointer, offset in later:
            emit_prefetch(builder, builder.gep(pointer, [offset]), INTO_L1)
    grown = {}
    for i in range(rows):
        a_i = builder.load(builder.gep(starts[i // 4], [offsets[i % 4]]))
        for j, kind in enumerate(kinds):
            grown[i, j] = multiply_add(kind, kind.splat(a_i), b_row[j], sums[i, j])
    following = builder.add(k, I64(1))
    next_b = opaque(builder, builder.gep(b_k, [row_stride_b]))
    recurrences = [(k, I64(0), following), (b_k, first_b, next_b)]
    recurrences += [(sums[at], began[at], grown[at]) for at in tile]
    recurrences += [
        (pointer, first, opaque(builder, builder.gep(pointer, [column_stride_a])))
        for pointer, first in zip(starts, groups, strict=True)
    ]
    for phi, first, later in recurrences:
        phi.add_incoming(first, entry)
        phi.add_incoming(later, loop)
    end = builder.append_basic_block("tile.end")
    builder.cbranch(builder.icmp_signed("<", following, kc), loop, end)

    builder.position_at_end(end)
    if runs is not None:
        next_run, end = builder.add(run, I64(1)), builder.append_basic_block("tile.runs")
        each = [
            (run, I64(0), next_run),
            (first_b, b, next_b),
            *((began[i, j], kinds[j].constant(0.0), grown[i, j]) for i, j in tile),
        ]
        for phi, first, later in each:
            phi.add_incoming(first, before)
            phi.add_incoming(later, builder.block)
        builder.cbranch(builder.icmp_signed("<", next_run, runs.count), run_loop, end)
        builder.position_at_end(end)
    left = builder.sub(columns, I64((vectors - 1) * lanes))
    mask = last_kind.mask(left)
    whole = builder.icmp_signed("==", left, I64(last_kind.lanes))
    fresh = builder.icmp_signed("==", accumulate, I64(0))

    def write(add: bool, masked: bool) -> None:
        for i, j in tile:
            kind, last = kinds[j], masked and j == vectors - 1
            row, offset, value = builder.gep(c, [builder.mul(row_stride_c, I64(i))]), I64(j * lanes), grown[i, j]
            if add:
                value = kind.add(value, kind.load_masked(row, offset, mask) if last else kind.load(row, offset))
            if last:
                kind.store_masked(value, row, offset, mask)
            else:
                kind.store(value, row, offset)

    for add, condition in ((False, fresh), (True, builder.not_(fresh))):
        with builder.if_then(condition), builder.if_else(whole) as (full, partial):
            with full:
                write(add, masked=False)
            with partial:
                write(add, masked=True)


@micro_kernel
def gemm_tile(v: Vectors, rows: Size, columns: Size, product: Product) -> Nothing:
    """C[rows, columns] = A[rows, kc] @ B[kc, columns], added to C where ``accumulate`` is not 0.

    1 <= rows <= MR, 1 <= columns <= NR, kc >= 1. B's rows are contiguous and readable up to the next
    multiple of VL columns; C's rows are contiguous, and nothing beyond ``columns`` is touched. Without ``accumulate`` C
    is written, never read. Each (rows, vectors) pair is its own code, so an edge costs what it holds.
    """
    _emit_tiles(v, rows, columns, product, Vectors.fma)


@micro_kernel
def window_tile(v: Vectors, rows: Size, columns: Size, runs: Runs, product: Product) -> Nothing:
    """``gemm_tile`` of windows: A's columns are ``runs``, at least one, of ``kc`` columns each.

    So A may be patches of images where they lie.
    """
    _emit_tiles(v, rows, columns, product, Vectors.fma, runs)


@micro_kernel
def gemm_tile_pairs(v: Vectors, rows: Size, columns: Size, product: Product) -> Nothing:
    """``gemm_tile`` of bfloat16 numbers, sums in float32: each number of A and B is a pair of neighbours in depth.

    Depth and strides count pairs. Only for a CPU with such products (``machine.bfloat16_pairs``).
    """
    if v.has_pairs:
        _emit_tiles(v, rows, columns, product, Vectors.dot_pairs)


def _emit_tiles(
    v: Vectors,
    rows: Any,
    columns: Any,
    product: Product,
    multiply_add: Callable[..., Any],
    runs: Runs | None = None,
) -> None:
    """The tile of so many rows and vectors, told at run time.

    Windows' tiles are ``narrow`` where half of the last vector suffices: a CPU that does vectors of 512 bits in two
    halves needs half the time for it. Other tiles are too much code for that.
    """
    builder, shape = v.builder, tile(v.format.bytes)
    vectors = builder.sdiv(builder.add(columns, I64(v.lanes - 1)), I64(v.lanes))
    halved = (False, True) if v.avx512 and runs is not None else (False,)
    key = builder.add(builder.mul(rows, I64(shape.NV + 1)), vectors)
    if True in halved:
        left = builder.sub(columns, builder.mul(builder.sub(vectors, I64(1)), I64(v.lanes)))
        in_half = builder.zext(builder.icmp_signed("<=", left, I64(v.lanes // 2)), I64)
        key = builder.add(key, builder.mul(in_half, I64((shape.MR + 1) * (shape.NV + 1))))
    done = builder.append_basic_block("tile.done")
    switch = builder.switch(key, done)
    for narrow, i, j in product_of(halved, range(1, shape.MR + 1), range(1, shape.NV + 1)):
        block = builder.append_basic_block(f"tile.{i}x{j}")
        switch.add_case(I64((narrow * (shape.MR + 1) + i) * (shape.NV + 1) + j), block)
        builder.position_at_end(block)
        _emit_tile(v, i, j, columns, product, multiply_add, runs, narrow)
        builder.branch(done)
    builder.position_at_end(done)


@micro_kernel
def ask_for_tile(v: Vectors, rows: Size, columns: Size, x: Pointer, row_stride: Size) -> Nothing:
    """Ask for x[i, j], i < rows, j < columns, ahead of its use: of each row for two lines, or every other of more.

    A line's neighbour the CPU fetches by itself.
    """
    builder, step = v.builder, 2 * LINE // v.format.bytes
    last = builder.sub(columns, I64(1))
    with cgutils.for_range(builder, rows, intp=I64) as down:
        row = builder.gep(x, [builder.mul(down.index, row_stride)])
        with cgutils.for_range_slice(builder, ZERO, columns, I64(step), intp=I64) as (j, _):
            emit_prefetch(builder, builder.gep(row, [j]), INTO_L1)
        emit_prefetch(builder, builder.gep(row, [last]), INTO_L1)


# Rows ahead of its use that a row of B is asked for: rows lie so far apart that the CPU does not foresee the next one.
_ROWS_AHEAD = 16


@micro_kernel
def copy_rows(
    v: Vectors, rows: Size, columns: Size, width: Size, x: Pointer, row_stride: Size, panel: Pointer, panel_stride: Size
) -> Nothing:
    """panel[i, j] = x[i, j] for i < rows, j < columns, zeros for columns <= j < width, a multiple of VL.

    Row after row, so that a row may write over the zeros behind the one before it: ``panel_stride`` < ``width``.
    """
    builder = v.builder
    vectors = builder.sdiv(width, I64(v.lanes))

    def copy(masked: bool) -> None:
        with cgutils.for_range(builder, rows, intp=I64) as down:
            source, target = (builder.mul(down.index, stride) for stride in (row_stride, panel_stride))
            later = builder.add(source, builder.mul(row_stride, I64(_ROWS_AHEAD)))
            with cgutils.for_range(builder, vectors, intp=I64) as across:
                j = builder.mul(across.index, I64(v.lanes))
                emit_prefetch(builder, builder.gep(x, [builder.add(later, j)]), INTO_L1)
                at = builder.add(source, j)
                row = v.load_masked(x, at, v.mask(builder.sub(columns, j))) if masked else v.load(x, at)
                v.store(row, panel, builder.add(target, j))

    with builder.if_else(builder.icmp_signed(">=", columns, width)) as (whole, partial):
        with whole:
            copy(masked=False)
        with partial:
            copy(masked=True)


@micro_kernel
def transpose_block(
    v: Vectors, rows: Size, columns: Size, x: Pointer, stride_x: Size, y: Pointer, stride_y: Size
) -> Nothing:
    """y[j, i] = x[i, j] for i < rows, j < columns, both at most VL; x readable and y writable in whole vectors."""
    builder, n = v.builder, v.lanes
    last = builder.sub(rows, I64(1))

    def source(i: int) -> Any:  # rows beyond the last are read from the last: what they give lands beyond y's rows
        return builder.mul(builder.select(builder.icmp_signed("<", I64(i), rows), I64(i), last), stride_x)

    block = [v.load(x, source(i)) for i in range(n)]
    span = 1
    while span < n:  # exchange the off-diagonal squares of span x span, of twice that size next time
        low = [j if j & span == 0 else n + j - span for j in range(n)]
        high = [j + span if j & span == 0 else n + j for j in range(n)]
        masks = [ir.Constant(ir.VectorType(I32, n), mask) for mask in (low, high)]
        for i in (i for i in range(n) if i & span == 0):
            pair = block[i], block[i + span]
            block[i], block[i + span] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        span *= 2
    for j in range(n):
        with builder.if_then(builder.icmp_signed("<", I64(j), columns)):
            v.store(block[j], y, builder.mul(I64(j), stride_y))


@micro_kernel
def pair_columns(v: Vectors, count: Size, x: Pointer, y: Pointer) -> Nothing:
    """y[j] = (x[2 j], x[2 j + 1]) as a pair of bfloat16 numbers, for ``count`` numbers of x; 0 beside an odd last one.

    Pairs are the form of ``gemm_tile_pairs``: of a row here, and of two rows in ``pair_rows``.
    """
    if not v.has_pairs:
        return
    builder, step = v.builder, I64(2 * v.lanes)
    whole = builder.sdiv(count, step)

    def convert(at: Any, low: Any, high: Any, mask: Any = None) -> None:
        pairs = builder.bitcast(v.narrow(low, high), v.type)
        offset = builder.sdiv(at, I64(2))
        v.store(pairs, y, offset) if mask is None else v.store_masked(pairs, y, offset, mask)

    with cgutils.for_range(builder, whole, intp=I64) as loop:
        at = builder.mul(loop.index, step)
        convert(at, v.load(x, at), v.load(x, builder.add(at, I64(v.lanes))))
    at = builder.mul(whole, step)
    rest = builder.sub(count, at)
    with builder.if_then(builder.icmp_signed(">", rest, I64(0)), likely=False):
        second = builder.add(at, I64(v.lanes))
        low = v.load_masked(x, at, v.mask(rest))
        high = v.load_masked(x, second, v.mask(builder.sub(rest, I64(v.lanes))))
        convert(at, low, high, v.mask(builder.sdiv(builder.add(rest, I64(1)), I64(2))))


@micro_kernel
def pair_rows(v: Vectors, pairs: Size, count: Size, x: Pointer, stride_x: Size, y: Pointer, stride_y: Size) -> Nothing:
    """y[i, j] = (x[2 i, j], x[2 i + 1, j]) as pairs of bfloat16 numbers, ``count`` in a row."""
    if not v.has_pairs:
        return
    builder = v.builder
    with cgutils.for_range(builder, pairs, intp=I64) as loop:
        even = builder.gep(x, [builder.mul(builder.mul(loop.index, I64(2)), stride_x)])
        odd, target = builder.gep(even, [stride_x]), builder.gep(y, [builder.mul(loop.index, stride_y)])

        def body(at: Span, even: Any = even, odd: Any = odd, target: Any = target) -> None:
            halves = v.narrow(at.load(even), at.load(odd))
            at.store(builder.bitcast(v.interleave(halves), v.type), target)

        for_each(v, count, body)
