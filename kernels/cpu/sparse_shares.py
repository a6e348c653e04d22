"""What instructions of a replay do with CSR matrices: products, gradients of weights, steps of weights by them.

The sums are those of the ops of ``csr``, number by number in the same order; what differs is where they go. A batch is
rows of a matrix, as they are or by the turn's part of the order: no row is ever copied. Dense matrices are walked in
strips of columns, as wide as ``sparse_row`` is.

For gradients a batch's non-zeros are sorted by column, by a count of these. Tasks share that by parts of the rows and
by ranges of the columns; then whoever forms the gradient of a row of weights has all that it takes side by side, and
the row is stepped while its gradient is in L1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.simd.elementwise import copy_row_ahead, forward_bias_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.optim import update_row
from fastnn.kernels.cpu.simd.sparse import decay_row, prefetch_row, sparse_row, sparse_row_part, sparse_step

# Rows ahead of its use that a row's non-zeros are asked for: they lie anywhere in memory.
_AHEAD = 4

# Rows ahead of its copy that a part of a row is asked for.
_COPY_AHEAD = 16

# Rows of weights whose state catches up before they are stepped: they stay in L1 in between.
_AT_ONCE = 32


class Batch(NamedTuple):
    """``n`` rows of a CSR matrix of k columns: where ``ordered`` those that ``order`` tells, else its first ones."""

    n: Any
    k: Any
    ordered: Any
    order: Any
    first: Any
    indptr: Any
    indices: Any
    values: Any


class Strips(NamedTuple):
    """A dense matrix: pointer to its first number, distances of its rows and of its strips of columns."""

    at: Any
    row: Any
    strip: Any


class Copies(NamedTuple):
    """Whether strips are copied, so that their rows lie end to end, and the task's own memory for one."""

    made: Any
    at: Any


class Columns(NamedTuple):
    """Non-zeros by column: where those of each begin and end, the rows of the batch that they are of, their values."""

    begins: Any
    ends: Any
    rows: Any
    values: Any


class SparseStepping(NamedTuple):
    """What becomes of a gradient: a step by its ``code``, nothing if that is negative.

    ``direct`` says whether the kernel of a whole strip makes it, in registers; ``all_rows`` whether rows without
    non-zeros are stepped, too. What those of a ``state`` missed since they were stepped last is counted in ``missed``,
    where they ``rest``: so many times it is to be multiplied by rho.
    """

    code: Any
    direct: Any
    all_rows: Any
    hyper: Any
    slots: Any
    rest: Any
    missed: Any
    rho: Any
    state: Any


@compiled_in
def _row(batch, r):
    """Where the non-zeros of row r of a batch begin, and how many they are."""
    row = batch.order[batch.first + r] if batch.ordered else r
    begin = batch.indptr[row]
    return begin, batch.indptr[row + 1] - begin


@compiled_in
def first_behind(work, count, begins):
    """The first of ``count`` rows behind so much ``work``: rows, and non-zeros, which begin where ``begins`` says."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if begins[middle] + middle < work:
            low = middle + 1
        else:
            high = middle
    return low


@compiled_in
def strip_of_row(columns, width, count, indices, values, table, row, y):
    """A strip of a row of a product, ``columns`` wide."""
    if columns == width:
        sparse_row(count, indices, values, table, row, y)
    else:
        sparse_row_part(columns, count, indices, values, table, row, y)


@compiled_in
def _strip(rows, columns, width, source, copies):
    """A strip, or its copy: where its rows begin, and how far they are apart."""
    if copies.made:
        for i in range(rows):
            after = address(source.at, min(i + _COPY_AHEAD, rows - 1) * source.row)
            copy_row_ahead(columns, address(source.at, i * source.row), address(copies.at, i * width), after)
        return copies.at, width
    return source.at, source.row


@compiled_in
def sparse_product_share(t, tasks, m, width, batch, b, copies, epilogue, c):
    """What task t has of C = f(S @ B + bias), S a batch, B and C of m columns; rows of C lie end to end.

    Tasks share the strips where that makes even shares: then the strips of B stay in the caches of whoever steps them.
    The last strip comes first: the step left it there.
    """
    strips = (m + width - 1) // width
    by_strips = strips % tasks == 0
    first, last = (t * strips // tasks, (t + 1) * strips // tasks) if by_strips else (0, strips)
    low, high = (0, batch.n) if by_strips else (t * batch.n // tasks, (t + 1) * batch.n // tasks)
    for s in range(last - 1, first - 1, -1):
        j, columns = s * width, min(width, m - s * width)
        table, row = _strip(batch.k, columns, width, Strips(address(b.at, s * b.strip), b.row, b.strip), copies)
        for r in range(low, high):
            if s == last - 1 and r + _AHEAD < high:
                begin, count = _row(batch, r + _AHEAD)
                prefetch_row(count, address(batch.indices, begin), address(batch.values, begin))
            begin, count = _row(batch, r)
            places, factors, y = address(batch.indices, begin), address(batch.values, begin), address(c, r * m + j)
            strip_of_row(columns, width, count, places, factors, table, row, y)
            if epilogue.code >= 0:
                forward_bias_row(epilogue.code, columns, y, address(epilogue.bias, j), epilogue.numbers, y)


# ------------------------------------------------------------------------------------------------ non-zeros by column


@compiled_in
def count_share(t, tasks, batch, parts, counts):
    """How many non-zeros of each column each of so many ``parts`` of the rows has, for those that are task t's.

    Behind these counts come those of as many ranges of the columns.
    """
    k = batch.k
    for part in range(t * parts // tasks, (t + 1) * parts // tasks):
        mine, totals = address(counts, part * k), address(counts, parts * (k + part))
        for j in range(k):
            mine[j] = 0
        for r in range(part * batch.n // parts, (part + 1) * batch.n // parts):
            begin, count = _row(batch, r)
            for e in range(begin, begin + count):
                mine[batch.indices[e]] += 1
        for q in range(parts):
            total = 0
            for j in range(q * k // parts, (q + 1) * k // parts):
                total += mine[j]
            totals[q] = total


@compiled_in
def allot_share(t, tasks, k, parts, counts, bounds):
    """For the ranges of columns that task t has: where their non-zeros begin and end, in ``counts`` those of a part.

    Most of its loops are such that LLVM makes vectors of them.
    """
    totals, first = address(counts, parts * k), t * parts // tasks
    place = 0
    for part in range(parts):
        for q in range(first):
            place += totals[part * parts + q]
    low, high = first * k // parts, ((t + 1) * parts // tasks) * k // parts
    ends = address(bounds, k)
    for j in range(low, high):
        ends[j] = counts[j]
    for part in range(1, parts):
        for j in range(low, high):
            ends[j] += counts[part * k + j]
    for j in range(low, high):
        count = ends[j]
        bounds[j] = ends[j] = place
        place += count
    for part in range(parts):
        for j in range(low, high):
            count = counts[part * k + j]
            counts[part * k + j] = ends[j]
            ends[j] += count


@compiled_in
def note_share(t, tasks, k, parts, turn, bounds, touched):
    """For the columns of the ranges that task t has: how many turns those missed that now have non-zeros.

    ``touched`` holds the turn at which each had some last, and behind these what they missed.
    """
    first, last = (t * parts // tasks) * k // parts, ((t + 1) * parts // tasks) * k // parts
    for j in range(first, last):
        some, before = np.int32(bounds[j] < bounds[k + j]), touched[j]
        touched[k + j] = (turn - 1 - before) * some
        touched[j] = before + (turn - before) * some


@compiled_in
def sort_share(t, tasks, batch, parts, places, rows, values):
    """The non-zeros of the parts that are task t's to their ``places``, in the order of the rows."""
    for part in range(t * parts // tasks, (t + 1) * parts // tasks):
        mine = address(places, part * batch.k)
        for r in range(part * batch.n // parts, (part + 1) * batch.n // parts):
            begin, count = _row(batch, r)
            for e in range(begin, begin + count):
                j = batch.indices[e]
                at = mine[j]
                mine[j] = at + 1
                rows[at] = r
                values[at] = batch.values[e]


# --------------------------------------------------------------------------------------------------- gradients, steps


@compiled_in
def _step_rows(low, high, columns, width, by_column, table, row, gradient, start, weights, stepping):
    """Rows of a strip of dW, or in place of them the step of those of W by them."""
    for f in range(low, high):
        begin, at = by_column.begins[f], start + f * weights.row
        count, w = by_column.ends[f] - begin, address(weights.at, at)
        rows, values = address(by_column.rows, begin), address(by_column.values, begin)
        if stepping.code < 0:
            strip_of_row(columns, width, count, rows, values, table, row, w)
        elif count > 0 or stepping.all_rows:
            strip_of_row(columns, width, count, rows, values, table, row, gradient)
            update_row(stepping.code, columns, w, gradient, stepping.slots, at, stepping.hyper)


@compiled_in
def gradient_share(t, tasks, n, k, m, width, by_column, dz, copies, gradient, weights, stepping):
    """What task t has of dW = S.T @ dZ (k, m), dZ (n, m), or in place of it of the step of the weights W by it.

    Where there is a step, ``gradient`` is a strip of one row that is the task's own.
    """
    begins, ends = by_column.begins, by_column.ends
    total = k + ends[k - 1]
    strips = (m + width - 1) // width
    low, high = t * strips * total // tasks, (t + 1) * strips * total // tasks
    for s in range(low // total, (high + total - 1) // total):
        j, columns = s * width, min(width, m - s * width)
        first, last = first_behind(low - s * total, k, begins), first_behind(high - s * total, k, begins)
        table, row = _strip(n, columns, width, Strips(address(dz, j), m, width), copies)
        start = s * weights.strip
        at_once = _AT_ONCE if stepping.rest else k
        for f0 in range(first, last, at_once):
            f1 = min(f0 + at_once, last)
            if stepping.rest:
                for f in range(f0, f1):
                    if stepping.missed[f] > 0:
                        state = address(stepping.state, start + f * weights.row)
                        decay_row(columns, stepping.missed[f], stepping.rho, state)
            if stepping.direct and columns == width:
                sparse_step(
                    stepping.code, f0, f1, stepping.all_rows, begins, ends, by_column.rows, by_column.values, table,
                    row, address(weights.at, start), weights.row, stepping.slots, start, stepping.hyper,
                )  # fmt: skip
            else:
                _step_rows(f0, f1, columns, width, by_column, table, row, gradient, start, weights, stepping)


@compiled_in
def settle_share(t, tasks, k, m, turns, touched, rho, state):
    """Let the rows of a state (k, m) that task t has catch up with what they missed of so many turns.

    Those that the turn behind these would have stepped have been noted as if it had.
    """
    for f in range(t * k // tasks, (t + 1) * k // tasks):
        missed = touched[k + f] if touched[f] >= turns else turns - 1 - touched[f]
        if missed > 0:
            decay_row(m, missed, rho, address(state, f * m))
