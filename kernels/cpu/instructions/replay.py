"""Instructions: what a program's replay walks, in one compiled call on a team of threads.

An instruction is one kernel on operands in memory, whose addresses stand in a table: those of arguments change from
call to call. It runs on one task of the team or on several, each with its share; where a later one needs what it made
on another task, all wait behind it. Numbers in the kernels' dtype (an optimizer's hyper-parameters) and figures in
float64 (losses, factors) have a row for every turn: an epoch is as many turns as it has batches.

``lowering`` makes instructions of calls of ops; the functions that compute a task's share are those that ops call.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types

from fastnn.kernels.cpu.compiler.machine import NV
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.dropout import dropout_share
from fastnn.kernels.cpu.elementwise import add_share, backward_share, backward_sums_share, forward_share
from fastnn.kernels.cpu.gather import are_rows, gather_share, scatter_share
from fastnn.kernels.cpu.gemm import (
    Epilogue,
    Matrix,
    Operands,
    Plan,
    Scratch,
    Stepping,
    block_at,
    column_sums_share,
    copy_share,
    product_share,
    step_share,
)
from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.losses import Rule, Scored, penalty_share, total_of, units_share, wrong_units
from fastnn.kernels.cpu.optim import update_share
from fastnn.kernels.cpu.panels import pack_share, unpack_share
from fastnn.kernels.cpu.prelu import prelu_backward_share, prelu_share
from fastnn.kernels.cpu.random import random_share
from fastnn.kernels.cpu.records import record
from fastnn.kernels.cpu.simd.elementwise import copy_row, scale_row
from fastnn.kernels.cpu.simd.kernel import address, copy_bytes, pointer
from fastnn.kernels.cpu.simd.optim import update_row
from fastnn.kernels.cpu.simd.sparse import SPARSE_TILES, decay_row
from fastnn.kernels.cpu.softmax import backward_rows_share, forward_rows_share
from fastnn.kernels.cpu.sparse_shares import (
    Batch,
    Columns,
    Copies,
    SparseStepping,
    Strips,
    allot_share,
    count_share,
    gradient_share,
    note_share,
    settle_share,
    sort_share,
    sparse_product_share,
)
from fastnn.kernels.cpu.teams.barrier import STOPPED, wait
from fastnn.kernels.cpu.teams.team import run_noted


class Kind(IntEnum):
    """Kinds of instructions, with the operands ``a`` to ``h`` and the sizes of each.

    Optional operands have the slot ``NONE``. Their order counts: ``_run`` tells families of them by where these end.
    """

    FORWARD = 0  # b = activation(a), n numbers
    BACKWARD = 1  # c = a * activation'(b), n numbers
    BACKWARD_SUMS = 2  # c = a * activation'(b), n rows of m; d = sums of these
    ADD = 3  # c = a + b, n numbers, of which b has m, again and again
    SCALE = 4  # b = a times the figure, or divided by it, by ``code``; n numbers
    LAY_OUT = 5  # c = a (outer, n, k, m) in C order, whose strides are column_b, row_a, column_a and row_b
    FORWARD_ROWS = 6  # b = f(a), n rows of m
    BACKWARD_ROWS = 7  # c = derivative of a, by b, n rows of m
    DROPOUT = 8  # b = a where the mask keeps, n rows of m
    RANDOM = 9  # b = n rows of m random numbers, of the distribution ``code``
    PRELU = 10  # c = prelu(a) with the slopes b, n rows of m
    PRELU_BACKWARD = 11  # c = derivative of a, by x = b and the slopes e, n rows of m; d = the slopes' derivative
    PENALTY = 12  # of n weights a: derivative e, sums of units f
    INDEXED_ROWS = 13  # c = rows of a by their numbers b, n of them; a has k of m numbers
    SCATTER = 14  # c = k rows of m numbers, sums of the n rows of a by their numbers b
    LOSS = 15  # of predictions a: targets b or labels c, weights d; derivative e, sums f; n numbers, units of m
    TOTAL = 16  # figure = sum of a / divisor, n float64 numbers
    UPDATE = 17  # a step of weights a with the gradient b; the state's parts are the slots from c on; n numbers
    CALCULATION = 18  # figure = the figures m and k calculated with, by ``code``
    GATHER = 19  # b = rows of a, n of them, m bytes each, by the turn's part of the order
    UNPACK = 20  # b = the matrix (k, m) whose panels are a
    PUT = 21  # the part of b that the figure numbers, n bytes = a
    COPY_TILES = 22  # e = tiles of a, of one block
    PRODUCT = 23  # c = epilogue(a @ b), the epilogue's bias d; scratch e for tiles of a, f for panels; (n, k) @ (k, m)
    STEPPED_PRODUCT = 24  # a step of weights c by a @ b; d: the first part of its state, g: a tile's scratch memory
    COLUMN_SUMS = 25  # b = sums of the n rows of a, of m columns
    # of a batch of CSR rows (n, k): values a, indices e, indptr f
    SPARSE_PRODUCT = 26  # c = epilogue(batch @ b), m columns; the bias d; scratch g for copies of strips of b
    COUNT_COLUMNS = 27  # c = how many non-zeros of each column its parts have
    # c = where those of each part belong; d = where each column's begin, and where they end; if there is h: at which
    # turn each had some last, and what those missed that have some now
    ALLOT_COLUMNS = 28
    SORT_COLUMNS = 29  # to where c says: b = the rows of the batch that non-zeros are of, g = their values
    SPARSE_GRADIENT = 30  # c = batch.T @ a, m columns, non-zeros by d, rows e and values f; scratch g
    SPARSE_STEP = 31  # a step of weights c by that; b: the first part of its state, which catches up first by h
    PACK_STRIPS = 32  # c = a (k, m) in panels, its strips of columns one behind the other; k is no 0
    UNPACK_STRIPS = 33  # a = c
    SETTLE = 34  # the state b (k, m) catches up by h with what it missed of n turns
    NOTED = 35  # a kernel's call that was noted; a: its function, and behind it its arguments
    # a step of those rows of weights a (k, m) that the n numbers b are of, by gradients d that it clears; c: the first
    # part of its state; h: at which turn each was stepped last
    STEP_ROWS = 36

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


NONE = 0

# Those that stop a step where they find what they must not take.
STOPPING = (Kind.LOSS, Kind.INDEXED_ROWS, Kind.SCATTER)

# Calculations with two figures.
PLUS, MINUS, TIMES, OVER = range(4)

INSTRUCTION = record(
    ("kind", np.int64),
    ("code", np.int64),  # of an activation, a loss, an optimizer's step, a calculation
    ("first", np.int64),  # the tasks that run it, and whether all wait behind it
    ("tasks", np.int64),
    ("waits", np.bool_),
    *((slot, np.int64) for slot in "abcdefgh"),  # operands, by their slots in the table of addresses
    ("outer", np.int64),
    ("n", np.int64),
    ("k", np.int64),
    ("m", np.int64),
    *((stride, np.int64) for stride in ("row_a", "column_a", "row_b", "column_b", "row_c", "column_c")),  # in numbers
    *((field, np.int64) for field in Plan._fields),  # of a product
    *((end, np.int64) for end in ("i0", "i1", "k0", "k1")),  # its blocks: rows of c, and numbers of the sums
    ("states", np.int64),  # of a stepped product, how many parts its state has, and whether they are asked for ahead
    ("ahead", np.bool_),
    ("added", np.bool_),  # whether sums of rows begin with what is there
    ("ordered", np.bool_),  # of a sparse batch: whether its rows are those that the order tells, and parts of them
    ("parts", np.int64),
    ("strip", np.int64),  # the distance of strips of columns; whether the sparse kernel makes the step
    ("direct", np.bool_),
    ("all_rows", np.bool_),  # whether rows of weights without non-zeros are stepped
    ("rho", np.int64),  # where rho is among its numbers; of rows' steps -1 where none is
    ("numbers", np.int64),  # where its numbers begin in a turn's row
    ("figure", np.int64),  # the figure that it makes or takes
    ("divisor", np.float64),
    ("threshold", np.int64),  # of dropout; what words follow from is, where negative, ~ the place of a figure
    ("seed", np.int64),
    ("step", np.int64),
    ("stream", np.int64),
    ("wanted", np.int64),  # what a loss's targets must be
)

# Where a step stopped because an instruction found what it must not take: its number, counted from 1.
STATUS = record(("turn", np.int64), ("instruction", np.int64))

# Numbers that are scaled while they are in L1.
_AT_ONCE = 2048


class Memory(NamedTuple):
    """What instructions work on: addresses by slot, numbers and figures of a turn, and the order of an epoch's rows.

    ``words`` are the team's, of int32 as columns' numbers are.
    """

    addresses: Any
    numbers: Any
    figures: Any
    order: Any
    words: Any


@compiled_in
def _place(memory, slot):
    """Pointer to an operand in the kernels' dtype."""
    return pointer(memory.numbers, memory.addresses[slot])


@compiled_in
def _numbers(memory, turn, first):
    """Pointer to the numbers from ``first`` on of a turn, which has a row of its own or the one row of all turns."""
    rows, columns = memory.numbers.shape
    return address(memory.numbers, min(turn, rows - 1) * columns + first)


@compiled_in
def _divide(t, tasks, size, divisor, x, y):
    for i in range(t * size // tasks, (t + 1) * size // tasks):
        y[i] = x[i] / divisor


@compiled_in
def _lay_out(t, tasks, each, a, c):
    """Task t's rows of a copy in C order."""
    rows = each.outer * each.n * each.k
    for row in range(t * rows // tasks, (t + 1) * rows // tasks):
        above, k = row // each.k, row % each.k
        begins = above // each.n * each.column_b + above % each.n * each.row_a + k * each.column_a
        source, target = address(a, begins), address(c, row * each.m)
        if each.row_b == 1:
            copy_row(each.m, source, target)
        else:
            for j in range(each.m):
                target[j] = source[j * each.row_b]


@compiled_in
def _scale(t, tasks, size, factor, x, y):
    low, high = t * size // tasks, (t + 1) * size // tasks
    for i in range(low, high, _AT_ONCE):
        count = min(_AT_ONCE, high - i)
        copy_row(count, address(x, i), address(y, i))
        scale_row(count, address(y, i), factor)


@compiled_in
def _elementwise(each, memory, turn, t):
    numbers = _numbers(memory, turn, each.numbers)
    one = memory.numbers.dtype.type(1)
    a, b, c = _place(memory, each.a), _place(memory, each.b), _place(memory, each.c)
    if each.kind == Kind.FORWARD:
        forward_share(t, each.tasks, each.n, each.code, numbers, 0, a, b)
    elif each.kind == Kind.BACKWARD:
        backward_share(t, each.tasks, each.n, each.code, numbers, 0, one, a, b, c)
    elif each.kind == Kind.BACKWARD_SUMS:
        sums = _place(memory, each.d)
        backward_sums_share(t, each.tasks, each.n, each.m, each.code, numbers, one, a, b, c, sums)
    elif each.kind == Kind.ADD:
        add_share(t, each.tasks, each.n, each.m, 0, a, b, c)
    elif each.kind == Kind.SCALE:
        factor = memory.numbers.dtype.type(memory.figures[turn, each.figure])
        if each.code == OVER:
            _divide(t, each.tasks, each.n, factor, a, b)
        else:
            _scale(t, each.tasks, each.n, factor, a, b)
    elif each.kind == Kind.LAY_OUT:
        _lay_out(t, each.tasks, each, a, c)
    elif each.kind == Kind.FORWARD_ROWS:
        forward_rows_share(t, each.tasks, each.n, each.m, each.code, a, b)
    else:
        backward_rows_share(t, each.tasks, each.n, each.m, each.code, one, a, b, c)


@compiled_in
def _integer(memory, turn, given):
    """An instruction's integer, or that of a figure."""
    return given if given >= 0 else np.int64(memory.figures[turn, ~given])


@compiled_in
def _of_rows(each, memory, turn, t):
    numbers = _numbers(memory, turn, each.numbers)
    a, b, c = _place(memory, each.a), _place(memory, each.b), _place(memory, each.c)
    if each.kind <= Kind.RANDOM:
        seed, step = _integer(memory, turn, each.seed), _integer(memory, turn, each.step)
        stream = _integer(memory, turn, each.stream)
        if each.kind == Kind.DROPOUT:
            dropout_share(t, each.tasks, each.n, each.m, each.threshold, seed, stream, step, a, numbers[0], b)
        else:
            random_share(t, each.tasks, each.n, each.m, each.code, seed, stream, step, numbers[0], numbers[1], b)
    elif each.kind == Kind.PRELU:
        prelu_share(t, each.tasks, each.n, each.m, a, b, c)
    elif each.kind == Kind.PRELU_BACKWARD:
        slopes, sums = _place(memory, each.e), _place(memory, each.d)
        prelu_backward_share(t, each.tasks, each.n, each.m, a, b, slopes, c, sums)
    else:
        sums_of_units = pointer(memory.figures, memory.addresses[each.f])
        penalty_share(t, each.tasks, each.n, numbers[0], numbers[1], a, _place(memory, each.e), sums_of_units)


@compiled_in
def _by_index(each, memory, t):
    """Whether a row is wanted that is not there; if not, task t's share of rows that are read or added to."""
    a, c, index = _place(memory, each.a), _place(memory, each.c), pointer(memory.addresses, memory.addresses[each.b])
    if not are_rows(each.n, index, each.k):
        return True
    if each.kind == Kind.INDEXED_ROWS:
        gather_share(t, each.tasks, each.n, each.m, a, index, c)
    else:
        scatter_share(t, each.tasks, each.n, each.k, each.m, a, index, c, each.added)
    return False


@compiled_in
def _step_rows(each, memory, turn, t):
    """Every so many-th row is task t's: the first ones, of frequent words, are spread evenly."""
    index, touched = pointer(memory.addresses, memory.addresses[each.b]), _indices(memory, each.h)
    hyper, slots = _numbers(memory, turn, each.numbers), address(memory.addresses, each.c)
    weights, slopes, state = _place(memory, each.a), _place(memory, each.d), _place(memory, each.c)
    for i in range(each.n):
        row = index[i]
        if row % each.tasks != t or touched[row] == turn:
            continue
        at, missed = row * each.m, turn - 1 - touched[row]
        if each.rho >= 0 and missed > 0:
            decay_row(each.m, missed, hyper[each.rho], address(state, at))
        touched[row] = turn
        slope = address(slopes, at)
        update_row(each.code, each.m, address(weights, at), slope, slots, at, hyper)
        for j in range(each.m):
            slope[j] = 0.0


@compiled_in
def _loss(each, memory, turn, t):
    """Whether a task's share of the labels or targets is wrong; if not, its sums and derivatives."""
    like = memory.numbers.dtype.type
    numbers = _numbers(memory, turn, each.numbers)
    rule = Rule(each.code, each.m, each.wanted, numbers, like(1))
    scored = Scored(
        each.n, _place(memory, each.a), _place(memory, each.b),
        pointer(memory.addresses, memory.addresses[each.c]), each.c != NONE,
        _place(memory, each.d), each.d != NONE, like(1.0 / each.divisor),
    )  # fmt: skip
    units = (each.n + each.m - 1) // each.m
    first, last = t * units // each.tasks, (t + 1) * units // each.tasks
    if wrong_units(first, last, rule, scored):
        return True
    units_share(first, last, rule, scored, _place(memory, each.e), pointer(memory.figures, memory.addresses[each.f]))
    return False


@compiled_in
def _operands(each, memory):
    a = Matrix(_place(memory, each.a), each.row_a, each.column_a)
    b = Matrix(_place(memory, each.b), each.row_b, each.column_b)
    return Operands(each.n, each.k, each.m, a, b, Matrix(_place(memory, each.c), each.row_c, each.column_c))


@compiled_in
def _product(each, memory, turn, t, MR, NR):
    """Blocks of a product, or the copy of one."""
    operands = _operands(each, memory)
    plan = Plan(each.height, each.copied, each.source, each.together, each.MC, each.KC)
    numbers = _numbers(memory, turn, each.numbers)
    epilogue = Epilogue(each.code, _place(memory, each.d), numbers)
    slots = address(memory.addresses, each.d)
    stepping = Stepping(each.code, each.states, each.ahead, numbers, slots, _place(memory, each.g))
    scratch = Scratch(_place(memory, each.e), _place(memory, each.f))
    for k0 in range(each.k0, each.k1, each.KC):
        for i0 in range(each.i0, each.i1, each.MC):
            block = block_at(i0, k0, each.tasks, operands, plan, MR)
            if each.kind == Kind.COPY_TILES:
                copy_share(t, each.tasks, operands.a, block, scratch.copies, MR, NR // NV)
            elif each.kind == Kind.STEPPED_PRODUCT:
                step_share(t, each.tasks, operands, plan, block, stepping, scratch, MR, NR)
            else:
                product_share(t, each.tasks, operands, plan, block, epilogue, scratch, MR, NR)


@compiled_in
def _sum_columns(each, memory, t):
    z = Matrix(_place(memory, each.a), each.row_a, each.column_a)
    column_sums_share(t, each.tasks, each.n, each.m, z, _place(memory, each.b))


@compiled_in
def _calculate(each, figures, turn):
    a, b = figures[turn, each.k], figures[turn, each.m]
    if each.code == PLUS:
        figures[turn, each.figure] = a + b
    elif each.code == MINUS:
        figures[turn, each.figure] = a - b
    elif each.code == TIMES:
        figures[turn, each.figure] = a * b
    else:
        figures[turn, each.figure] = a / b


@compiled_in
def _gather(each, memory, turn, t):
    a, b = memory.addresses[each.a], memory.addresses[each.b]
    for r in range(t * each.n // each.tasks, (t + 1) * each.n // each.tasks):
        copy_bytes(b + r * each.m, a + memory.order[turn * each.n + r] * each.m, each.m)


@compiled_in
def _put(each, memory, turn, t):
    low, high = t * each.n // each.tasks, (t + 1) * each.n // each.tasks
    a, b = memory.addresses[each.a], memory.addresses[each.b] + int(memory.figures[turn, each.figure]) * each.n
    copy_bytes(b + low, a + low, high - low)


@compiled_in
def _indices(memory, slot):
    """Pointer to an operand of int32."""
    return pointer(memory.words, memory.addresses[slot])


@compiled_in
def _sparse(each, memory, turn, t, NR):
    """A task's share of what is done with a sparse batch."""
    kind, n, k, m, tasks, width = each.kind, each.n, each.k, each.m, each.tasks, SPARSE_TILES * NR
    indptr = pointer(memory.addresses, memory.addresses[each.f])
    batch = Batch(n, k, each.ordered, memory.order, turn * n, indptr, _indices(memory, each.e), _place(memory, each.a))
    numbers, own, touched = _numbers(memory, turn, each.numbers), _place(memory, each.g), _indices(memory, each.h)
    if kind == Kind.SPARSE_PRODUCT:
        b = Strips(_place(memory, each.b), each.row_b, each.strip)
        copies = Copies(each.copied, address(own, t * k * width))
        epilogue = Epilogue(each.code, _place(memory, each.d), numbers)
        sparse_product_share(t, tasks, m, width, batch, b, copies, epilogue, _place(memory, each.c))
    elif kind == Kind.COUNT_COLUMNS:
        count_share(t, tasks, batch, each.parts, _indices(memory, each.c))
    elif kind == Kind.ALLOT_COLUMNS:
        allot_share(t, tasks, k, each.parts, _indices(memory, each.c), _indices(memory, each.d))
        if each.h != NONE:
            note_share(t, tasks, k, each.parts, turn, _indices(memory, each.d), _indices(memory, each.h))
    elif kind == Kind.SORT_COLUMNS:
        sort_share(t, tasks, batch, each.parts, _indices(memory, each.c), _indices(memory, each.b), own)
    elif kind == Kind.PACK_STRIPS:
        pack_share(t, tasks, k, m, each.strip // k, _place(memory, each.a), _place(memory, each.c))
    elif kind == Kind.UNPACK_STRIPS:
        unpack_share(t, tasks, k, m, each.strip // k, _place(memory, each.c), _place(memory, each.a))
    elif kind == Kind.SETTLE:
        settle_share(t, tasks, k, m, n, touched, numbers[each.rho], _place(memory, each.b))
    else:
        bounds = _indices(memory, each.d)
        by_column = Columns(bounds, address(bounds, k), _indices(memory, each.e), _place(memory, each.f))
        gradient = address(own, t * width * (1 + n * each.copied))
        weights = Strips(_place(memory, each.c), each.row_c, each.strip)
        stepping = SparseStepping(
            each.code, each.direct, each.all_rows, numbers, address(memory.addresses, each.b), each.h != NONE,
            address(touched, k), numbers[each.rho], _place(memory, each.b),
        )  # fmt: skip
        copies = Copies(each.copied, address(gradient, width))
        dz = _place(memory, each.a)
        gradient_share(t, tasks, n, k, m, width, by_column, dz, copies, gradient, weights, stepping)


@compiled_in
def _run(each, memory, turn, t, MR, NR):
    """Task t's share of an instruction; True where it found what it must not take."""
    if each.kind <= Kind.BACKWARD_ROWS:
        _elementwise(each, memory, turn, t)
    elif each.kind <= Kind.PENALTY:
        _of_rows(each, memory, turn, t)
    elif each.kind <= Kind.SCATTER:
        return _by_index(each, memory, t)
    elif each.kind == Kind.LOSS:
        return _loss(each, memory, turn, t)
    elif each.kind == Kind.TOTAL:
        sums = pointer(memory.figures, memory.addresses[each.a])
        memory.figures[turn, each.figure] = total_of(sums, each.n) / each.divisor
    elif each.kind == Kind.UPDATE:
        slots = address(memory.addresses, each.c)
        hyper = _numbers(memory, turn, each.numbers)
        update_share(t, each.tasks, each.n, each.code, _place(memory, each.a), _place(memory, each.b), slots, hyper)
    elif each.kind == Kind.CALCULATION:
        _calculate(each, memory.figures, turn)
    elif each.kind == Kind.GATHER:
        _gather(each, memory, turn, t)
    elif each.kind == Kind.PUT:
        _put(each, memory, turn, t)
    elif each.kind == Kind.COLUMN_SUMS:
        _sum_columns(each, memory, t)
    elif each.kind == Kind.UNPACK:
        unpack_share(t, each.tasks, each.k, each.m, NR, _place(memory, each.a), _place(memory, each.b))
    elif each.kind == Kind.NOTED:
        return run_noted(memory.addresses, each.a, memory.words, t, each.tasks)
    elif each.kind == Kind.STEP_ROWS:
        _step_rows(each, memory, turn, t)
    elif each.kind >= Kind.SPARSE_PRODUCT:
        _sparse(each, memory, turn, t, NR)
    else:
        _product(each, memory, turn, t, MR, NR)
    return False


def _signature(dtype: Any) -> Any:
    tables = flat(from_dtype(INSTRUCTION)), flat(types.int64)
    return types.void(*tables, matrix(dtype), matrix(types.float64), flat(types.int64), flat(from_dtype(STATUS)))


@kernel(_signature)
def replay(MR: int, NR: int) -> Any:
    """replay(instructions, addresses, numbers, figures, order, status): a turn for each row of ``figures``."""

    def replay(instructions, addresses, numbers, figures, order, status, words, t, tasks):
        memory = Memory(addresses, numbers, figures, order, words)
        for turn in range(figures.shape[0]):
            for i in range(instructions.size):
                each = instructions[i]
                if each.first <= t < each.first + each.tasks and _run(each, memory, turn, t - each.first, MR, NR):
                    status[0].turn, status[0].instruction = turn, i + 1
                    words[STOPPED] = 1  # for the others, which wait behind it
                    return
                if each.waits and wait(tasks, words):
                    return

    return replay
