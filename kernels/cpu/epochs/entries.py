"""Sparse samples: the first stage from their non-zeros, and these feature by feature, as the update wants them.

These functions are compiled into the epoch's kernels. An entry is a non-zero of a sample, or those of two neighbouring
features.
"""

from __future__ import annotations

import numpy as np

from fastnn.kernels.cpu.compiler.parts import inlined
from fastnn.kernels.cpu.records import POWERS, panel_count, state_pointer
from fastnn.kernels.cpu.simd.elementwise import scale_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.sparse import couple_row, prefetch_row, sparse_rows
from fastnn.kernels.cpu.teams.barrier import wait

# Samples ahead of its use that a sample's non-zeros are asked for: from memory that no cache of this core holds, they
# take as long to come as a few samples to sort.
_AHEAD = 16


@inlined
def ask_for_entries(inputs, row):
    """Prefetch a sample's non-zeros: they lie anywhere in memory."""
    begin = inputs.indptr[row]
    count = inputs.indptr[row + 1] - begin
    prefetch_row(count, address(inputs.indices, begin), address(inputs.values, begin))


@inlined
def _first_from(indices, begin, end, feature):
    """First place in [begin, end) whose index is not below ``feature``; the indices rise.

    Halves without branches, which would go either way half of the time.
    """
    left = end - begin
    while left > 0:
        half = (left + 1) // 2
        begin += half if indices[np.uint64(begin + half - 1)] < feature else 0
        left -= half
    return begin


@inlined
def split_rows(inputs, batch, share, net, memory):
    """Where the non-zeros of a task's rows of a batch begin that belong to each block of features."""
    k, bounds = net.stages[0].inputs, memory.blocks
    blocks = bounds.shape[1] - 1
    for r in range(share.low, share.high):
        row = batch.order[batch.first + r]
        end = inputs.indptr[row + 1]
        bounds[r, 0], bounds[r, blocks] = inputs.indptr[row], end
        for q in range(1, blocks):
            bounds[r, q] = _first_from(inputs.indices, bounds[r, q - 1], end, q * k // blocks)


@inlined
def sparse_forward(inputs, block, net, memory):
    """A block of the first stage's product, from its rows' non-zeros.

    Panel by panel, and in a panel by blocks of features: a block's rows of W stay in L1 while all samples use them. The
    last panel comes first: the update left it in L2, and finds there what is used last here.
    """
    stage, bounds = net.stages[0], memory.blocks
    k, width, columns = stage.inputs, stage.panel, bounds.shape[1]
    for p in range(block.p1 - 1, block.p0 - 1, -1):
        panel = address(net.params, stage.w + p * k * width)
        for q in range(columns - 1):
            z = address(memory.work, stage.y + block.low * stage.ld + p * width)
            sparse_rows(
                block.high - block.low, address(bounds, block.low * columns + q), columns,
                address(inputs.indices, 0), address(inputs.values, 0), panel, z, stage.ld, q,
            )  # fmt: skip


@inlined
def _decayed(missed, rules, memory):
    """What is left of a state after ``missed`` steps without a gradient."""
    return memory.powers[missed] if missed < POWERS else rules.rho**missed


@inlined
def _count(inputs, batch, share, rules, memory, place):
    """How many entries a task's rows of a batch have of each feature; couples lie from ``place`` on."""
    counts, indptr = memory.places[share.t], inputs.indptr
    order, first, high = batch.order, batch.first, share.high
    features = memory.evens if rules.coupled else inputs.indices
    counts[:] = 0
    for r in range(share.low, min(share.low + _AHEAD, high)):
        ask_for_entries(inputs, order[first + r])
    for r in range(share.low, high):
        if r + _AHEAD < high:
            ask_for_entries(inputs, order[first + r + _AHEAD])
        row = order[first + r]
        begin, end = indptr[row], indptr[row + 1]
        if rules.coupled:
            entries, values = address(inputs.indices, begin), address(inputs.values, begin)
            evens, couples = address(memory.evens, place), address(memory.couples, 2 * place)
            begin, end = place, place + couple_row(end - begin, entries, values, evens, couples)
            place = end
        memory.entries[r].begin, memory.entries[r].end = begin, end
        for e in range(begin, end):
            counts[np.uint64(features[np.uint64(e)])] += 1  # unsigned: no check for an index from the end


# The loops over all features of a part are short and without branches, so that LLVM turns them into vectors, and go
# over contiguous slices: indices from 0 on are known not to count from the end. One loop took four times as long.


@inlined
def _allot(share, place, memory, coupled):
    """Where the entries of a task's features belong, from ``place`` on.

    A feature's entries of a task lie behind those of the tasks before. Those of an even feature are also the next one's
    where they are ``coupled``.
    """
    f0, f1, tasks = share.f0, share.f1, share.tasks
    begins, ends = memory.begins[f0:f1], memory.ends[f0:f1]
    ends[:] = 0
    for q in range(tasks):
        counts = memory.places[q][f0:f1]
        for f in range(ends.size):
            ends[f] += counts[f]
    for f in range(ends.size):
        count = ends[f]
        begins[f] = ends[f] = place
        place += count
    for q in range(tasks):
        places = memory.places[q][f0:f1]
        for f in range(ends.size):
            count = places[f]
            places[f] = ends[f]
            ends[f] += count
    if coupled:
        for f in range(0, ends.size, 2):
            begins[f + 1], ends[f + 1] = begins[f], ends[f]


@inlined
def _note_touched(share, step, rules, memory):
    """What the state of a task's features is to be multiplied with before ``step``, which touches some of them."""
    f0, f1 = share.f0, share.f1
    begins, ends = memory.begins[f0:f1], memory.ends[f0:f1]
    touched, decay, powers = memory.touched[f0:f1], memory.decay[f0:f1], memory.powers
    longest = 0
    for f in range(touched.size):
        missed = step - 1 - touched[f]
        decay[f] = powers[np.uint64(missed if missed < POWERS else POWERS - 1)]
    for f in range(touched.size):
        longest = max(longest, (step - 1 - touched[f]) * np.int64(begins[f] < ends[f]))
    if longest >= POWERS:
        for f in range(touched.size):
            if begins[f] < ends[f]:
                decay[f] = _decayed(step - 1 - touched[f], rules, memory)
    for f in range(touched.size):
        touched[f] += (step - touched[f]) * np.int64(begins[f] < ends[f])


@inlined
def _scatter(inputs, share, rules, memory):
    """The entries of a task's rows of the batch to where they belong."""
    places = memory.places[share.t]
    features = memory.evens if rules.coupled else inputs.indices
    for r in range(share.low, share.high):
        for e in range(memory.entries[r].begin, memory.entries[r].end):
            feature = np.uint64(features[np.uint64(e)])
            to = np.uint64(places[feature])
            places[feature] += 1
            memory.rows[to] = r
            if rules.coupled:
                memory.values[2 * to] = memory.couples[np.uint64(2 * e)]
                memory.values[2 * to + 1] = memory.couples[np.uint64(2 * e + 1)]
            else:
                memory.values[to] = inputs.values[np.uint64(e)]


@inlined
def sort_by_feature(inputs, batch, share, rules, memory, words):
    """The batch's non-zeros feature by feature: a counting sort. True if the team is to stop.

    Nothing waits at the end.
    """
    place = share.t * (memory.rows.size // share.tasks)
    _count(inputs, batch, share, rules, memory, place)
    if wait(share.tasks, words):
        return True
    _allot(share, place, memory, rules.coupled)
    if rules.lazy:
        _note_touched(share, batch.step + 1, rules, memory)
    if wait(share.tasks, words):
        return True
    _scatter(inputs, share, rules, memory)
    return False


@inlined
def catch_up(f0, f1, step, net, rules, memory):
    """Let the state of the features ``f0`` to ``f1`` decay to ``step``."""
    stage = net.stages[0]
    k, width = stage.inputs, stage.panel
    for f in range(f0, f1):
        missed = step - memory.touched[f]
        memory.touched[f] = step
        if missed > 0 and net.slots.size > 0:
            factor = _decayed(missed, rules, memory)
            for p in range(panel_count(stage)):
                scale_row(width, state_pointer(net, 0, stage.w + (p * k + f) * width), factor)
