"""Matrix product and linear layer: a register-tiled product with a fused epilogue.

C[n, m] = f(A[n, k] @ B[k, m] + bias). The loops, outermost first (the names are those of Goto and van de Geijn 2008):

1. depth blocks of KC; partial sums of C stay in C;
2. row blocks of MC rows of A, whose part [MC, KC] stays in L3: read where it lies or, where its numbers lie badly,
   copied by all tasks into tiles [KC, MR];
3. tasks, one a thread: contiguous ranges of the block's tiles, panel after panel of NR columns of B; or the same
   number of rows and all panels, where that is fewer numbers to read: more rows of A than columns of B;
4. groups of panels of B, [KC, NR] each, that stay in L2 together: packed by the task that is about to use them where
   that pays, or beforehand (``Panels``), else read where they lie;
5. tiles of at most MR x NR (``simd.tile.gemm_tile``), heights balanced so that no sliver is left over.

Each element of C is the sum over depth blocks of one chain of multiply-adds in the order of k, however the work is
split over threads and whatever is copied.

No address is special. A tile reads a number of each of its rows, again and again, and a line of B between them. Rows
whose distance is a multiple of 4096 bytes fall into one set of an L1 of 64 sets, and where rows + 1 exceed its ways,
each drives out the next before its line is used up. Such rows are copied, or taken fewer at a time
(``tile_rows``). Copies lie in order, and none of their vectors straddles a line, wherever the operands lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastnn.kernels.cpu import elementwise, softmax
from fastnn.kernels.cpu._arrays import aligned, finish, in_order, placing, readable, reader, workspace
from fastnn.kernels.cpu.compiler.machine import ALIASED, LINE, NV, caches, tile
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel, reads, writes
from fastnn.kernels.cpu.panels import unpack_share
from fastnn.kernels.cpu.simd.elementwise import add_row, forward_bias_row, sum_columns
from fastnn.kernels.cpu.simd.kernel import address, pointer
from fastnn.kernels.cpu.simd.optim import update_tile
from fastnn.kernels.cpu.simd.tile import ask_for_tile, copy_rows, gemm_tile, transpose_block
from fastnn.kernels.cpu.teams import threads
from fastnn.kernels.cpu.teams.barrier import wait
from fastnn.kernels.formulas.activations import CODES
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS

# What one core does per nanosecond, roughly: only to tell work that is worth a second thread from work that is not.
FLOPS_PER_NS = 100.0

# Rows of A from which packing B's panels costs less than it saves where B could also be read in place: for B that L2
# holds, and for B beyond it.
_PACK_FROM_ROWS, _PACK_FROM_ROWS_BEYOND = 128, 32

# The same for B whose rows are 4096 bytes apart and fight for the same sets of L1: rows of A times rows of B, half as
# many where they are 8192 apart. Measured for A of 12 to 1024 rows, B of 256 to 4096.
_PACK_ALIASED_FROM = 96 << 10

# Panels of B from which a copy of A costs less than it saves.
_COPY_FROM_PANELS = 8

# Times as many rows of A as columns of B from which each task packs all of B for itself, not to read all of A.
_BY_ROWS = 4

# Where the panels of B come from.
_IN_PLACE, _PACKED_HERE, _PACKED_BEFORE = range(3)

# In place of an activation's code: nothing is done to the product.
NO_EPILOGUE = -1

# Rows that are copied into all of a group's panels, or all of a task's tiles, in turn: each takes so little of a row
# that the next takes its share while the row is at hand.
_ROWS_IN_TURN = 8

# Products whose plan is remembered.
PLANS = 1024

# Bounds of a block where caches are larger than a block needs: the depth, and the bytes of A.
_MOST_KC, _MOST_COPIED = 2048, 16 << 20

# Depth of a block where A is walked down its columns in place (A = X.T): each step is on another page, and the TLB must
# hold them.
_KC_TRANSPOSED = 256


def _gemm_signature(dtype: Any) -> Any:
    size = types.int64
    operand, bias, scratch = reads(dtype, 2), flat(dtype, readonly=True), flat(dtype)
    return types.void(*[size] * 6, bias, bias, operand, operand, writes(dtype, 2), scratch, scratch)


class Matrix(NamedTuple):
    """A pointer to a matrix's first number, and the distances of its rows and of its columns, in numbers."""

    at: Any
    row: Any
    column: Any


class Operands(NamedTuple):
    """A (n, k), B (k, m) and C (n, m), whose rows are contiguous. Of B packed beforehand only the size counts."""

    n: Any
    k: Any
    m: Any
    a: Matrix
    b: Matrix
    c: Matrix


class Plan(NamedTuple):
    """How a product is computed: the blocks, and what is copied."""

    height: Any  # most rows of a tile
    copied: Any  # whether A is copied into tiles
    source: Any  # where panels of B come from
    together: Any  # panels of B that are used together
    MC: Any
    KC: Any


class Epilogue(NamedTuple):
    """What is done to the product: the activation's code, none if negative, and numbers, and the bias before it."""

    code: Any
    bias: Any
    numbers: Any


class Stepping(NamedTuple):
    """In place of an epilogue: C is weights, and the product is the gradient by which an optimizer steps them.

    Weights in panels [m/NR, k, NR] are a matrix with rows NR numbers apart and columns k: tiles begin at panels' edges.

    ``code`` is that of the step in ``STEP_CODES``, ``states`` how many it has; ``ahead`` says whether a tile's weights
    and states are asked for before its product. The rest are pointers: to hyper-parameters, to the addresses of the
    states, which have the strides of the weights, and to MR x NR numbers for each task.
    """

    code: Any
    states: Any
    ahead: Any
    hyper: Any
    slots: Any
    tiles: Any


def asks_ahead(size: int) -> bool:
    """Whether to ask ahead for weights and states of so many bytes: what L2 holds comes soon enough."""
    return size > caches().l2 // 2


class Scratch(NamedTuple):
    """Pointers to the copied tiles of A, and to the panels: each task's own one behind the other, or B's as packed."""

    copies: Any
    panels: Any


class _Block(NamedTuple):
    """Rows ``i0`` to ``i0 + rows`` of C and numbers ``k0`` to ``k0 + depth`` of the sums, and how tasks share it."""

    i0: Any
    rows: Any
    k0: Any
    depth: Any
    tiles: Any
    by_rows: Any


class Part(NamedTuple):
    """Rows ``i`` to ``i + rows`` and columns ``j`` to ``j + columns`` of a matrix."""

    i: Any
    rows: Any
    j: Any
    columns: Any


class _Group(NamedTuple):
    """Panels that are used together: a pointer to the first, and the distances of panels and of their rows."""

    at: Any
    panel: Any
    row: Any


class _Tile(NamedTuple):
    """A part of C and what it takes: rows of A, a panel of B, ``depth`` numbers of the sums from ``k0`` on."""

    part: Any
    a: Any
    panel: Any
    k0: Any
    depth: Any
    last: Any


@compiled_in
def matrix(array):
    """An array (rows, columns) as compiled code takes it."""
    return Matrix(address(array, 0), array.strides[0] // array.itemsize, array.strides[1] // array.itemsize)


@compiled_in
def _at(x, i, j):
    """Pointer to a number of a matrix."""
    return address(x.at, i * x.row + j * x.column)


@compiled_in
def _pack_strided(b, part, panel, NR):
    """The panel of B with any strides, zeros in the columns beyond."""
    for j in range(NR):
        if j < part.columns:
            column = _at(b, part.i, part.j + j)
            for i in range(part.rows):
                panel[i * NR + j] = column[i * b.row]
        else:
            for i in range(part.rows):
                panel[i * NR + j] = 0.0


@compiled_in
def _pack_transposed(b, part, panel, NR):
    """The same for B whose columns are contiguous (a transposed view): VL x VL numbers at a time.

    Columns beyond are not zeros but copies, and beyond the next multiple of VL not written: no result depends on them.
    """
    VL, rows = NR // NV, part.rows
    whole = rows // VL * VL
    for j in range(0, part.columns, VL):
        count = min(VL, part.columns - j)
        for i in range(0, whole, VL):
            transpose_block(count, VL, _at(b, part.i + i, part.j + j), b.column, address(panel, i * NR + j), NR)
        for i in range(whole, rows):
            row = _at(b, part.i + i, part.j)
            for c in range(j, j + count):
                panel[i * NR + c] = row[c * b.column]


@compiled_in
def pack_panel(b, part, panel, NR):
    """The ``rows`` * NR numbers at ``panel`` = a part of B of NR columns or fewer."""
    if b.column == 1:
        copy_rows(part.rows, part.columns, NR, _at(b, part.i, part.j), b.row, panel, NR)
    elif b.row == 1 and b.column > 0:
        _pack_transposed(b, part, panel, NR)
    else:
        _pack_strided(b, part, panel, NR)


@compiled_in
def _pack_together(b, part, panels, NR):
    """A part of B as panels [rows, NR], one behind the other."""
    depth, end = part.rows, part.j + part.columns
    in_turn = depth if b.row == 1 else _ROWS_IN_TURN  # a column that is contiguous is best read as a whole
    for i in range(0, depth, in_turn):
        rows = min(in_turn, depth - i)
        for j in range(part.j, end, NR):
            to = address(panels, (j - part.j) * depth + i * NR)
            pack_panel(b, Part(part.i + i, rows, j, min(NR, end - j)), to, NR)


@compiled_in
def _group(t, first, last, operands, plan, block, panels, NR):
    """Panels ``first`` to ``last`` of a block of B, packed by task t where none is there that tiles can walk."""
    k, m, b, k0, depth = operands.k, operands.m, operands.b, block.k0, block.depth
    j = first * NR
    if plan.source == _PACKED_BEFORE:
        return _Group(address(panels, (first * k + k0) * NR), k * NR, NR)
    if plan.source == _IN_PLACE and j + NR <= m:  # one panel alone
        return _Group(_at(b, k0, j), NR, b.row)
    own = address(panels, t * plan.together * min(k, plan.KC) * NR)
    _pack_together(b, Part(k0, depth, j, min(last * NR, m) - j), own, NR)
    return _Group(own, depth * NR, NR)


@compiled_in
def _share(t, tasks, count, tiles, by_rows):
    """(tiles of a panel, the first of them, first and last tile of all) that task t has of ``count`` panels.

    By rows it has the same tiles of every panel, else all of a panel's or, at the ends of its range, a part of them.
    """
    if by_rows:
        height = tiles // tasks
        return height, t * height, 0, count * height
    return tiles, 0, t * count * tiles // tasks, (t + 1) * count * tiles // tasks


@compiled_in
def _multiply(tile, c, row):
    """A tile of C at ``c``, or with partial sums added to what is there."""
    part, a, panel = tile.part, tile.a, tile.panel
    gemm_tile(part.rows, part.columns, tile.depth, a.at, a.row, a.column, panel.at, panel.row, c, row, tile.k0)


@compiled_in
def _write(t, tile, c, epilogue, MR, NR):
    """A tile of C, and once its sums are complete c = f(c + bias)."""
    part = tile.part
    _multiply(tile, _at(c, part.i, part.j), c.row)
    if tile.last and epilogue.code >= 0:
        for r in range(part.i, part.i + part.rows):
            z, bias = _at(c, r, part.j), address(epilogue.bias, part.j)
            forward_bias_row(epilogue.code, part.columns, z, bias, epilogue.numbers, z)


@compiled_in
def _step(t, tile, w, stepping, MR, NR):
    """A tile of weights, C, stepped by a product whose sums are one block deep: it goes no further than L1."""
    part, gradient = tile.part, address(stepping.tiles, t * MR * NR)
    start = part.i * w.row + part.j * w.column
    rows, columns, row = part.rows, part.columns, NR
    if columns == w.row:  # whole rows of weights lie end to end, and so do the gradient's: one run of numbers
        rows, columns, row = 1, rows * columns, columns
    if stepping.ahead:
        ask_for_tile(rows, columns, address(w.at, start), w.row)
        for state in range(stepping.states):
            ask_for_tile(rows, columns, address(pointer(w.at, stepping.slots[state]), start), w.row)
    _multiply(tile, gradient, row)
    update_tile(
        stepping.code, rows, columns, address(w.at, start), w.row, gradient, row,
        stepping.slots, start, stepping.hyper,
    )  # fmt: skip


@compiled_in
def _rows_of_tile(i, block):
    """The first row of tile i of a block, and the one behind its last: balanced."""
    return block.i0 + i * block.rows // block.tiles, block.i0 + (i + 1) * block.rows // block.tiles


@compiled_in
def _tile_size(depth, MR, VL):
    """Numbers from one copied tile of A to the next: the last row may be written as whole vectors."""
    return (depth * MR + 2 * VL - 1) // VL * VL


@compiled_in
def _copy_tile(a, part, target, MR, VL):
    """A part of A, whose columns are not contiguous, as [columns, MR]."""
    low, rows, k0, depth = part
    whole = depth // VL * VL if a.column == 1 else 0
    for k in range(0, whole, VL):
        for r in range((rows - 1) // VL * VL, -1, -VL):  # the last first: it writes beyond the tile's rows
            transpose_block(min(VL, rows - r), VL, _at(a, low + r, k0 + k), a.row, address(target, k * MR + r), MR)
    for k in range(whole, depth):
        column = _at(a, low, k0 + k)
        for r in range(rows):
            target[k * MR + r] = column[r * a.row]


@compiled_in
def copy_share(t, tasks, a, block, copies, MR, VL):
    """Task t's share of the tiles of a block of A (``block_at``), as [columns, MR].

    What lies behind a tile's last row, in every column, is of no account.
    """
    k0, depth, size = block.k0, block.depth, _tile_size(block.depth, MR, VL)
    in_turn = _ROWS_IN_TURN if a.row == 1 else depth
    for k in range(0, depth, in_turn):
        count = min(in_turn, depth - k)
        for i in range(t * block.tiles // tasks, (t + 1) * block.tiles // tasks):
            low, high = _rows_of_tile(i, block)
            target = address(copies, i * size + k * MR)
            if a.row == 1:
                copy_rows(count, high - low, (MR + VL - 1) // VL * VL, _at(a, low, k0 + k), a.column, target, MR)
            else:
                _copy_tile(a, Part(low, high - low, k0, depth), target, MR, VL)


@compiled_in
def _most_tiles(n, MC, height):
    """Tiles of a row block that no task rounds up."""
    return (min(n, MC) + height - 1) // height


@compiled_in
def block_at(i0, k0, tasks, operands, plan, MR):
    """The block that begins at row ``i0`` and at number ``k0`` of the sums, multiples of MC and KC.

    A task has the same tiles of C of all blocks of the same rows: where A is not copied, none waits between two blocks.
    """
    n, m = operands.n, operands.m
    rows = min(plan.MC, n - i0)
    tiles = (rows + plan.height - 1) // plan.height
    if plan.source == _PACKED_HERE:  # each task packs all panels
        by_rows = rows > _BY_ROWS * m and rows >= tasks * _PACK_FROM_ROWS
    else:
        by_rows = rows > m and rows >= tasks * MR
    if by_rows:  # the same number of tiles for every task
        tiles = (tiles + tasks - 1) // tasks * tasks
    return _Block(i0, rows, k0, min(plan.KC, operands.k - k0), tiles, by_rows)


@compiled_in
def _share_of_tiles(t, tasks, operands, plan, block, scratch, deliver, sink, MR, NR):
    """Task t's share of a block's tiles, each through ``deliver(t, tile, C, sink, MR, NR)``."""
    a, m, k0, depth = operands.a, operands.m, block.k0, block.depth
    size, ends = _tile_size(depth, MR, NR // NV), k0 + depth == operands.k
    tall, top, begin, end = _share(t, tasks, (m + NR - 1) // NR, block.tiles, block.by_rows)
    while begin < end:
        first = begin // tall
        last = min(first + plan.together, (end + tall - 1) // tall)
        group = _group(t, first, last, operands, plan, block, scratch.panels, NR)
        for s in range(tall):
            low, high = _rows_of_tile(top + s, block)
            left = Matrix(_at(a, low, k0), a.row, a.column)
            if plan.copied:
                left = Matrix(address(scratch.copies, (top + s) * size), 1, MR)
            for p in range(first, last):
                if p * tall + s < begin or p * tall + s >= end:
                    continue
                part = Part(low, high - low, p * NR, min(NR, m - p * NR))
                panel = Matrix(address(group.at, (p - first) * group.panel), group.row, 1)
                deliver(t, _Tile(part, left, panel, k0, depth, ends), operands.c, sink, MR, NR)
        begin = min(end, last * tall)


@compiled_in
def product_share(t, tasks, operands, plan, block, epilogue, scratch, MR, NR):
    """Task t's share of a block (``block_at``) of a product, its part of A copied by all where the plan says so.

    All tasks have to be done with it before the next block's part of A is copied.
    """
    _share_of_tiles(t, tasks, operands, plan, block, scratch, _write, epilogue, MR, NR)


@compiled_in
def step_share(t, tasks, operands, plan, block, stepping, scratch, MR, NR):
    """The same of a product by which the weights C, with these ``Stepping``, are stepped: k <= KC."""
    _share_of_tiles(t, tasks, operands, plan, block, scratch, _step, stepping, MR, NR)


@compiled_in
def tasks_with_memory(tasks, n, k, source, height, MC, KC, together, panels, copies, MR, NR):
    """``tasks``, or as many as there are so many numbers of memory for.

    Another Python thread may have asked for more since the memory for their copies and panels was taken.
    """
    if copies > 0:
        tasks = min(tasks, copies // _tile_size(min(k, KC), MR, NR // NV) - _most_tiles(n, MC, height))
    if source != _PACKED_BEFORE:
        tasks = min(tasks, panels // (together * min(k, KC) * NR))
    return tasks


@kernel(_gemm_signature)
def _gemm(MR: int, NR: int) -> Any:
    VL = NR // NV

    # numbers one by one, for a call that unpacks a named tuple takes longer
    def gemm(source, code, height, MC, KC, together, numbers, bias, a, b, c, panels, copies, words, t, team):
        n, k = a.shape
        m = b.shape[1]
        copied = copies.size > 0
        tasks = tasks_with_memory(team, n, k, source, height, MC, KC, together, panels.size, copies.size, MR, NR)
        plan = Plan(height, copied, source, together, MC, KC)
        operands = Operands(n, k, m, matrix(a), matrix(b), matrix(c))
        epilogue = Epilogue(code, address(bias, 0), address(numbers, 0))
        scratch = Scratch(address(copies, 0), address(panels, 0))
        for k0 in range(0, k, KC):
            for i0 in range(0, n, MC):
                block = block_at(i0, k0, tasks, operands, plan, MR)
                if copied:
                    if t < tasks:
                        copy_share(t, tasks, operands.a, block, scratch.copies, MR, VL)
                    wait(team, words)
                if t < tasks:
                    product_share(t, tasks, operands, plan, block, epilogue, scratch, MR, NR)
                wait(team, words)

    return gemm


@lru_cache(PLANS)
def _plan(n: int, k: int, m: int, itemsize: int, strides_a: tuple[int, int], strides_b: tuple[int, int] | None) -> Plan:
    """The plan of A (n, k) times B (k, m) with these strides in bytes; B has none where it was packed beforehand.

    KC x NR numbers of a panel fill an eighth of L2 at most, the panels that are used together half of it, MC x KC of A
    a quarter of L3. Blocks are balanced.
    """
    shape, memory = tile(itemsize), caches()
    transposed = strides_a[1] != itemsize
    rows = min(n, shape.MR)
    height = rows if transposed else tile_rows(rows, strides_a[0])
    copied = m >= _COPY_FROM_PANELS * shape.NR and (transposed or height < rows)
    most = min(max(256, memory.l2 // 8 // (shape.NR * itemsize)), _MOST_KC)
    KC = _block(k, _KC_TRANSPOSED if transposed and not copied else most, shape.VL)
    MC = _block(n, max(shape.NR, min(memory.l3 // 4, _MOST_COPIED) // (KC * itemsize)), shape.MR)
    source = _PACKED_BEFORE
    if strides_b is not None:
        source = _PACKED_HERE if _packs(n, k, m, strides_b, itemsize) else _IN_PLACE
    together = 1 if source == _IN_PLACE else max(1, memory.l2 // 2 // (KC * shape.NR * itemsize))
    return Plan(rows if copied else height, copied, source, together, MC, KC)


def plan_of_packed(n: int, k: int, m: int, a: Any) -> Plan:
    """The plan of a (n, k) times B (k, m) that was packed beforehand."""
    return _plan(n, k, m, a.dtype.itemsize, a.strides, None)


def _block(size: int, most: int, step: int) -> int:
    """The size of blocks of about ``most`` that divide ``size`` evenly, a multiple of ``step``."""
    blocks = -(-size // most)
    return -(-size // (blocks * step)) * step


def tile_rows(most: int, stride: int) -> int:
    """Rows of A in a tile, ``most`` or fewer, whose numbers of one column stay in L1 until their lines are used up.

    Rows lie ``stride`` bytes apart. As many as the ways of L1 may fall into one set, less one for the lines of B.
    """
    memory = caches()
    sets = memory.l1 // (memory.l1_ways * LINE)
    taken = [0] * sets
    for row in range(most):
        at = row * stride // LINE % sets
        taken[at] += 1
        if taken[at] >= memory.l1_ways:
            return row
    return most


def _packs(rows: int, k: int, m: int, strides: tuple[int, int], itemsize: int) -> bool:
    """Whether B (k, m) is copied into panels for a product with this many rows of A."""
    if strides[1] != itemsize or strides[0] < 0:
        return True
    if rows >= (_PACK_FROM_ROWS if k * m * itemsize <= caches().l2 else _PACK_FROM_ROWS_BEYOND):
        return True
    return rows * k * (math.gcd(strides[0], 2 * ALIASED) // ALIASED) >= _PACK_ALIASED_FROM


class Product(NamedTuple):
    """What a product c = f(a @ b + bias) takes beside its operands, for all whose shapes, strides and dtype are alike.

    ``code`` and ``numbers`` are those of the epilogue; ``copies`` the numbers of scratch memory for the tiles of A,
    ``copies_each`` as many more for each task, ``panels_each`` those for each task's panels of B.
    """

    nanoseconds: float  # of work, roughly
    plan: Plan
    code: int
    numbers: Any
    copies: int
    copies_each: int
    panels_each: int


def product_of(a: Any, b: Any, activation: str | None) -> Product:
    """The product of operands like these, (n, k) and (k, m), none of the sizes 0; ``b`` may be ``Panels``.

    Without an activation there is no epilogue, and no bias.
    """
    (n, k), m, dtype = a.shape, b.shape[1], a.dtype
    before = isinstance(b, Panels)
    plan = _plan(n, k, m, dtype.itemsize, a.strides, None if before else b.strides)
    shape, depth = tile(dtype.itemsize), min(k, plan.KC)
    size = _tile_size(depth, shape.MR, shape.VL) if plan.copied else 0
    code, numbers = NO_EPILOGUE, np.zeros(1, dtype)
    if activation is not None:
        code, numbers = CODES[activation], elementwise.numbers_of(activation, dtype)
    return Product(
        nanoseconds=2.0 * n * k * m / FLOPS_PER_NS,
        plan=plan,
        code=code,
        numbers=numbers,
        copies=_most_tiles(n, plan.MC, plan.height) * size,
        copies_each=size,
        panels_each=0 if before else plan.together * depth * shape.NR,
    )


def _planned_product(a: Any, b: Any, activation: str | None, dtype: Any) -> Callable[..., None]:
    """What computes c = f(a @ b + bias) for operands like these, f by its op, as a function of (a, b, bias, c).

    Without an activation there is no epilogue, and no bias is needed.
    """
    (n, k), m = a.shape, b.shape[1]
    if n == 0 or m == 0:
        return _nothing
    if k == 0:  # an empty sum is 0: one product of zeros, since a tile's k starts at 1
        zeros = np.zeros((n, 1), dtype), np.zeros((1, m), dtype)
        multiply = _planned_product(*zeros, activation, dtype)
        return lambda a, b, bias, c: multiply(*zeros, bias, c)
    before = isinstance(b, Panels)
    nanoseconds, plan, code, numbers, shared, copies_each, panels_each = product_of(a, b, activation)
    height, copied, source, together, MC, KC = plan
    compute = _gemm.planned(dtype, nanoseconds, source, code, height, MC, KC, together, numbers)
    none = np.empty(0, dtype)

    def run(a: Any, b: Any, bias: Any, c: Any) -> None:
        tasks = threads.count(nanoseconds)
        copies = shared + tasks * copies_each
        scratch = workspace(copies + tasks * panels_each, dtype)
        panels = b.panels if before else scratch[copies:] if copied else scratch
        compute(bias, a, b.like if before else b, c, panels, scratch[:copies] if copied else none)

    return run


def _nothing(*_: Any) -> None:
    """A product of no numbers."""


class Panels:
    """A matrix (k, m) as panels [m/NR, k, NR] on cache lines, zeros in the columns beyond: what tiles walk in order.

    ``like`` has its shape, strides and flags, and stands in for it where a kernel wants an array.
    """

    packed_for = "cpu"
    ndim = 2

    def __init__(self, w: Any) -> None:
        k, m = w.shape
        NR = tile(w.itemsize).NR
        self.shape, self.dtype = (k, m), w.dtype
        self.panels = aligned((max(1, -(-m // NR) * k * NR),), w.dtype)
        self.like = np.broadcast_to(self.panels[:1], (k, m))
        self.strides, self.flags = self.like.strides, self.like.flags
        self.fill(w)

    def fill(self, w: Any) -> None:
        """Take over the numbers of a matrix of this shape and dtype."""
        _pack_panels(self.dtype, nanoseconds_of_packing(w.nbytes), readable(w), self.panels)

    def array(self) -> Any:
        """The matrix in C order, a copy."""
        w = np.empty(self.shape, self.dtype)
        _unpack_panels(self.dtype, nanoseconds_of_packing(w.nbytes), self.panels, w)
        return w

    def __repr__(self) -> str:
        return f"<weights of shape {self.shape} and dtype {self.dtype}, packed for {self.packed_for!r}>"


@kernel(lambda dtype: types.void(reads(dtype, 2), flat(dtype)))
def _pack_panels(MR: int, NR: int) -> Any:
    def pack_panels(w, panels, words, t, tasks):
        k, m = w.shape
        count = (m + NR - 1) // NR
        for p in range(t * count // tasks, (t + 1) * count // tasks):
            pack_panel(matrix(w), Part(0, k, p * NR, min(NR, m - p * NR)), address(panels, p * k * NR), NR)

    return pack_panels


def nanoseconds_of_packing(size: int) -> float:
    """One core's work for so many bytes."""
    return size / 4.0


@kernel(lambda dtype: types.void(flat(dtype), writes(dtype, 2)))
def _unpack_panels(MR: int, NR: int) -> Any:
    def unpack_panels(panels, w, words, t, tasks):
        k, m = w.shape
        unpack_share(t, tasks, k, m, NR, address(panels, 0), address(w, 0))

    return unpack_panels


@Planned
def matmul(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
    """C = A @ B without epilogue."""
    multiply = product_into(out, a, b, a, b)
    return lambda a, b, *, out=None: finish(multiply(out, a, b, a, b), out)


@Planned
def linear(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Callable[..., Any]:
    """Bias and elementwise activation run on each tile while it is in L1; what needs whole rows follows."""
    dtype = x.dtype
    read_x, read_w = reader(x), reader(w)
    no_bias = np.zeros(w.shape[1], dtype) if b is None else None
    place = placing(out, (x.shape[0], w.shape[1]), dtype, x, w, b)
    fused = ELEMENTWISE_ACTIVATIONS.get(activation, "identity")
    multiply = _planned_product(x, w, None if b is None and fused == "identity" else fused, dtype)
    like = np.empty((x.shape[0], w.shape[1]), dtype) if out is None else out
    of_rows = None if activation in ELEMENTWISE_ACTIVATIONS else getattr(softmax, activation).plan(like, out=like)

    def run(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Any:
        y = place(out, x, w, b)
        multiply(read_x(x), read_w(w), in_order(b) if no_bias is None else no_bias, y)
        if of_rows is not None:
            of_rows(y, out=y)
        return finish(y, out)

    return run


@Planned
def linear_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any,
    activation: str = "linear",
    z: Any = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    *,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
) -> Callable[..., tuple[Any, Any, Any]]:
    """dz first, then two products that read x and w through transposed strides, and the column sums of dz.

    An array that shares memory with an operand is written last of all. Packed weights are laid out anew for dx.
    """
    derive, dz = derivative(dy, y, activation, z)
    sources = dy, x, w, y, z
    of_x = product_into(dx, dz, transposed(w), *sources) if "dx" in need else None
    of_w = product_into(dw, x.T, dz, *sources) if "dw" in need else None
    of_b = sums_into(db, dz, *sources) if "db" in need else None

    def run(
        dy: Any, x: Any, w: Any, y: Any, activation: str = "linear", z: Any = None, need: Any = (),
        *, dx: Any = None, dw: Any = None, db: Any = None,
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        dz, sources = derive(dy, y, z), (dy, x, w, y, z)
        slope_x = of_x and of_x(dx, dz, transposed(w), *sources)
        slope_w = of_w and of_w(dw, x.T, dz, *sources)
        slope_b = of_b and of_b(db, dz, *sources)
        return of_x and finish(slope_x, dx), of_w and finish(slope_w, dw), of_b and finish(slope_b, db)

    return run


def transposed(w: Any) -> Any:
    """The transpose of weights, or of packed ones' copy."""
    return w.array().T if isinstance(w, Panels) else w.T


def derivative(dy: Any, y: Any, activation: str, z: Any) -> tuple[Callable[..., Any], Any]:
    """What gives dz for operands like these, as a function of (dy, y, z), and an array that is like it."""
    if activation == "linear":
        return lambda dy, y, z: dy, dy
    kind = elementwise if activation in ELEMENTWISE_ACTIVATIONS else softmax
    op = getattr(kind, f"{ELEMENTWISE_ACTIVATIONS.get(activation, activation)}_backward")
    derive = op.plan(dy, y if z is None else z, y)
    return lambda dy, y, z: derive(dy, y if z is None else z, y), np.empty(dy.shape, dy.dtype)


def product_into(out: Any, a: Any, b: Any, *sources: Any) -> Callable[..., Any]:
    """What computes a @ b into ``out``, or into new memory where a source is there too: of (out, a, b, *sources)."""
    place = placing(out, (a.shape[0], b.shape[1]), a.dtype, *sources)
    read_a, read_b, no_bias = reader(a), reader(b), np.empty(0, a.dtype)
    multiply = _planned_product(a, b, None, a.dtype)

    def run(out: Any, a: Any, b: Any, *sources: Any) -> Any:
        c = place(out, *sources)
        multiply(read_a(a), read_b(b), no_bias, c)
        return c

    return run


def nanoseconds_of_sums(size: int) -> float:
    """One core's work for the sums of so many numbers."""
    return size / 4.0


def sums_into(out: Any, z: Any, *sources: Any) -> Callable[..., Any]:
    """What sums the rows of z (n, m), in order, into ``out`` (m,) likewise: of (out, z, *sources)."""
    place, read = placing(out, (z.shape[1],), z.dtype, *sources, elementwise=True), reader(z)
    compute = _column_sums.planned(z.dtype, nanoseconds_of_sums(z.size))

    def run(out: Any, z: Any, *sources: Any) -> Any:
        total = place(out, *sources)
        compute(read(z), total)
        return total

    return run


@Planned
def column_sums(x: Any, *, out: Any = None) -> Callable[..., Any]:
    """Row after row."""
    sums = sums_into(out, x, x)
    return lambda x, *, out=None: finish(sums(out, x, x), out)


# Columns up to which sums stay in registers, a few vectors' at a time, from the first row to the last.
_NARROW = 128


@compiled_in
def column_sums_share(t, tasks, n, m, z, total):
    """total = the sums of the n rows of z, in order, in task t's share of the m columns."""
    low, high = t * m // tasks, (t + 1) * m // tasks
    if z.column == 1 and high - low <= _NARROW:
        sum_columns(high - low, n, address(z.at, low), z.row, address(total, low))
        return
    for j in range(low, high):
        total[j] = 0.0
    for i in range(n):
        row = address(z.at, i * z.row)
        if z.column == 1:
            add_row(high - low, address(total, low), address(row, low), address(total, low), 0)
        else:
            for j in range(low, high):
                total[j] += row[j * z.column]


@kernel(lambda dtype: types.void(reads(dtype, 2), flat(dtype)))
def _column_sums(MR: int, NR: int) -> Any:
    def column_sums(z, total, words, t, tasks):
        n, m = z.shape
        column_sums_share(t, tasks, n, m, matrix(z), address(total, 0))

    return column_sums
