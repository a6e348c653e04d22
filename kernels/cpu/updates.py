"""The second part of a batch: gradients of weights, tile by tile, and the optimizer's steps; weights in and out.

These functions are compiled into the epoch's kernels; offsets name places in ``net.params`` and ``memory.work``.
"""

from __future__ import annotations

import numpy as np

from fastnn.kernels.cpu.jit import inlined
from fastnn.kernels.cpu.machine import NV
from fastnn.kernels.cpu.records import (
    ADDRESS,
    BIAS,
    CLIP_GLOBAL_NORM,
    CLIP_VALUE,
    COLUMNS,
    DZ,
    FIRST,
    GC,
    GRADIENTS,
    INPUTS,
    KERNEL,
    LAST,
    LD,
    NEEDS,
    OUTPUTS,
    PAIRS,
    PANEL,
    PANELS,
    ROWS,
    SPARSE,
    STEPS,
    UNIT_FIGURES,
    UNIT_ROWS,
    UNITS,
    WHOLE,
    WIDTH,
    WP,
    WT,
    XC,
    B,
    W,
    Y,
    panel_count,
    state_pointer,
)
from fastnn.kernels.cpu.simd.elementwise import clip_row, copy_row, scale_row, squares_row
from fastnn.kernels.cpu.simd.kernel import address, pointer
from fastnn.kernels.cpu.simd.losses import add_penalty_row
from fastnn.kernels.cpu.simd.optim import update_row
from fastnn.kernels.cpu.simd.sparse import sparse_row, sparse_update
from fastnn.kernels.cpu.simd.tile import copy_rows, gemm_tile, gemm_tile_pairs, pair_rows, transpose_block
from fastnn.kernels.cpu.stages import ask_for_sample


@inlined
def _gradient(phase, memory, buffer, w):
    """Where the gradient of the weights from ``w`` on belongs."""
    return address(memory.work, buffer) if phase == WHOLE else address(memory.gradients, w)


@inlined
def _hyper(turn, rules):
    """Where the hyper-parameters of step ``turn`` of a call are."""
    return address(rules.hyper, min(turn, rules.hyper.shape[0] - 1) * rules.hyper.shape[1])


@inlined
def _update(phase, turn, s, q, net, rules, memory, w, g, count, at):
    """What a phase does to ``count`` weights from ``w`` on, their gradient at ``g``: penalty, norm, step.

    They are weights (q = 0) or biases (q = 1) of stage s; ``at`` is the place of the unit's figures, ``turn`` the
    number of the step in the call.
    """
    weights, figures = address(net.params, w), memory.figures
    if phase != STEPS:
        l1, l2 = net.penalties[s, 2 * q], net.penalties[s, 2 * q + 1]
        if l1 != 0.0 or l2 != 0.0:
            figures[at] += add_penalty_row(count, weights, l1, l2, g)
    if phase == GRADIENTS:
        figures[at + 1 + q] += squares_row(count, g)
        return
    if phase == STEPS:
        scale_row(count, g, memory.work.dtype.type(figures[figures.size - 2 * net.stages.shape[0] + 2 * s + q]))
    shrink = rules.shrink[min(turn, rules.shrink.shape[0] - 1), 2 * s + q]
    if shrink != 1.0:
        scale_row(count, weights, shrink)
    if rules.clip == CLIP_VALUE:
        clip_row(count, g, rules.limit)
    update_row(rules.step, count, weights, g, address(net.slots, 0), w, _hyper(turn, rules))


@inlined
def _update_sparse(phase, turn, low, high, width, panel, dz, ld, net, rules, memory, buffer, at):
    """Rows ``low`` to ``high`` of a panel of the first stage, from the batch's non-zeros by feature."""
    work, runs = memory.work, memory.runs
    if rules.direct:
        sparse_update(
            rules.step, rules.coupled, low, high, 0 if rules.lazy else 1,
            address(runs[FIRST], 0), address(runs[LAST], 0), address(memory.rows, 0), address(memory.values, 0),
            address(work, dz), ld, address(memory.decay, 0),
            address(net.params, panel), address(net.slots, 0), panel, _hyper(turn, rules),
        )  # fmt: skip
        return
    for f in range(low, high):
        begin, end = runs[FIRST, f], runs[LAST, f]
        if begin < end or not rules.lazy:
            w = panel + f * net.stages[0, PANEL]
            if phase != GRADIENTS and rules.lazy and memory.decay[f] != 1.0:
                scale_row(width, state_pointer(net, w), memory.decay[f])
            g = _gradient(phase, memory, buffer, w)
            if phase != STEPS:
                indices, values = address(memory.rows, begin), address(memory.values, begin)
                sparse_row(end - begin, indices, values, address(work, dz), ld, g)
            _update(phase, turn, 0, 0, net, rules, memory, w, g, width, at)


@inlined
def _update_dense(phase, turn, s, n, low, high, j, width, panel, x, ld_x, net, rules, memory, buffer, at, MR, NR):
    """Rows ``low`` to ``high`` of a panel: each tile of dW = X.T @ dZ goes straight into the update.

    A tile's rows lie end to end in the panel and in the buffer, so one call updates them all, padding included: its
    weights, gradients and states are 0 and stay so.
    """
    work, stage = memory.work, net.stages[s]
    ld = stage[LD]
    if width < NR:
        work[buffer : buffer + MR * NR] = 0
    tiles = (high - low + MR - 1) // MR
    for i in range(tiles):
        a, b = low + i * (high - low) // tiles, low + (i + 1) * (high - low) // tiles
        w = panel + a * NR
        g = _gradient(phase, memory, buffer, w)
        if phase != STEPS and stage[PAIRS]:
            x_pairs, dz_pairs = address(work, stage[XC] + a), address(work, stage[GC] + j)
            gemm_tile_pairs(b - a, width, (n + 1) // 2, x_pairs, 1, ld_x, dz_pairs, ld, g, NR, 0)
        elif phase != STEPS:
            gemm_tile(b - a, width, n, address(work, x + a), 1, ld_x, address(work, stage[DZ] + j), ld, g, NR, 0)
        _update(phase, turn, s, 0, net, rules, memory, w, g, (b - a) * NR, at)


@inlined
def _update_bias(phase, turn, s, n, j, width, dz, ld, net, rules, memory, buffer, at, MR, NR):
    """``width`` biases from column j on: db = ones.T @ dZ, the ones being one number with strides of 0."""
    work = memory.work
    one = buffer + MR * NR
    work[one] = work.dtype.type(1)
    w = net.stages[s, B] + j
    for c in range(0, width, NR):
        count = min(NR, width - c)
        g = _gradient(phase, memory, buffer, w + c)
        if phase != STEPS:
            gemm_tile(1, count, n, address(work, one), 0, 0, address(work, dz + c), ld, g, NR, 0)
        _update(phase, turn, s, 1, net, rules, memory, w + c, g, count, at)


@inlined
def clip_by_norm(net, rules, figures, at):
    """From the units' squares, from ``at`` on, to what the gradients of each parameter are multiplied with."""
    factors = figures.size - 2 * net.stages.shape[0]
    figures[factors:] = 0
    total = 0.0
    for s in range(net.stages.shape[0]):
        for _ in range(net.stages[s, UNITS]):
            for q in range(2):
                figures[factors + 2 * s + q] += figures[at + 1 + q]
                total += figures[at + 1 + q]
            at += UNIT_FIGURES
    for i in range(factors, figures.size):
        norm = np.sqrt(total if rules.clip == CLIP_GLOBAL_NORM else figures[i])
        figures[i] = rules.limit / norm if norm > rules.limit else 1.0


@inlined
def _transpose(stage, panel, low, high, j, width, params, work, buffer, NR, VL):
    """Rows ``low`` to ``high`` of a panel, columns j on, into the transposed panels, of numbers or of pairs."""
    at, m = stage[WT], stage[OUTPUTS]
    for k in range(low, high, VL):
        for c in range(0, width, VL):
            source, rows, columns = address(params, panel + k * NR + c), min(VL, high - k), min(VL, width - c)
            if stage[PAIRS]:
                count = (columns + 1) // 2
                target = at + (k // NR * ((m + 1) // 2) + (j + c) // 2) * NR + k % NR
                transpose_block(rows, 2 * count, source, NR, address(work, buffer), VL)
                pair_rows(count, rows, address(work, buffer), VL, address(work, target), NR)
            else:
                target = at + (k // NR * m + j + c) * NR + k % NR
                transpose_block(rows, columns, source, NR, address(work, target), NR)


@inlined
def _copy_unit(s, p, block, first, stages, params, work, buffer, NR, VL):
    """The copies of one unit's weights that scratch memory holds: transposed, as pairs."""
    stage = stages[s]
    k, m = stage[INPUTS], stage[OUTPUTS]
    j = p * stage[PANEL]
    low, high = block * UNIT_ROWS, min(k, (block + 1) * UNIT_ROWS)
    panel = stage[W] + j * k
    if s > first:
        _transpose(stage, panel, low, high, j, min(stage[PANEL], m - j), params, work, buffer, NR, VL)
    if stage[PAIRS]:
        target, whole = stage[WP] + (p * ((k + 1) // 2) + low // 2) * NR, (high - low) // 2
        pair_rows(whole, NR, address(params, panel + low * NR), NR, address(work, target), NR)
        if (high - low) % 2 == 1:  # the last row has no neighbour
            copy_row(NR, address(params, panel + (high - 1) * NR), address(work, buffer))
            work[buffer + NR : buffer + 2 * NR] = 0
            pair_rows(1, NR, address(work, buffer), NR, address(work, target + whole * NR), NR)


@inlined
def _update_unit(phase, turn, s, p, block, n, kind, net, rules, memory, ld_x, buffer, at, MR, NR, VL):
    """One unit of the update, with its share of the bias and of the transposed weights."""
    stage = net.stages[s]
    k, m, ld = stage[INPUTS], stage[OUTPUTS], stage[LD]
    j = p * stage[PANEL]
    width = min(stage[PANEL], m - j)
    low, high = block * UNIT_ROWS, min(k, (block + 1) * UNIT_ROWS)
    dz, panel = stage[DZ] + j, stage[W] + j * k
    if phase != STEPS:
        memory.figures[at : at + UNIT_FIGURES] = 0
    if stage[NEEDS] & KERNEL:
        if s == 0 and kind == SPARSE:
            _update_sparse(phase, turn, low, high, width, panel, dz, ld, net, rules, memory, buffer, at)
        else:
            x, ld_x = (0, ld_x) if s == 0 else (net.stages[s - 1, Y], net.stages[s - 1, LD])
            _update_dense(
                phase, turn, s, n, low, high, j, width, panel, x, ld_x, net, rules, memory, buffer, at, MR, NR
            )
        if phase != GRADIENTS:
            _copy_unit(s, p, block, net.first, net.stages, net.params, memory.work, buffer, NR, VL)
    if block == 0 and stage[NEEDS] & BIAS:
        _update_bias(phase, turn, s, n, j, width, dz, ld, net, rules, memory, buffer, at, MR, NR)


@inlined
def copy_panels(arrays, net, into, t, tasks):
    """Task t's share of the rows of all arrays [K, N] ``into`` panels [N/width, K, width], or back from them."""
    like = net.params
    for a in range(arrays.shape[0]):
        array = arrays[a]
        k, n, width = array[ROWS], array[COLUMNS], array[WIDTH]
        low, high = t * k // tasks, (t + 1) * k // tasks
        for j in range(0, n, width):
            columns = min(width, n - j)
            outside = array[ADDRESS] + (low * n + j) * like.itemsize
            panel = array[PANELS] + (j * k + low * width) * like.itemsize
            if into:
                copy_rows(high - low, columns, width, pointer(like, outside), n, pointer(like, panel), width)
            else:
                for i in range(high - low):
                    source = pointer(like, panel + i * width * like.itemsize)
                    copy_row(columns, source, pointer(like, outside + i * n * like.itemsize))


@inlined
def copy_weights(net, work, t, tasks, MR, NR):
    """Task t's share of the copies of all weights that scratch memory holds."""
    stages, buffer = net.stages, work.size - (t + 1) * (MR + 1) * NR
    for s in range(stages.shape[0]):
        blocks = (stages[s, INPUTS] + UNIT_ROWS - 1) // UNIT_ROWS
        units = panel_count(stages[s]) * blocks
        for u in range(t * units // tasks, (t + 1) * units // tasks):
            _copy_unit(s, u // blocks, u % blocks, net.first, stages, net.params, work, buffer, NR, NR // NV)


@inlined
def update_units(phase, turn, n, inputs, order, following, net, rules, memory, ld_x, by_unit, t, tasks, MR, NR):
    """Task t's share of the units; between them it prefetches its share of the samples order[following :] of a batch.

    These come from main memory while caches and multiply-adds are what the update waits for.
    """
    left = max(0, min(order.size - following, n))
    r, r1 = t * left // tasks, (t + 1) * left // tasks
    buffer = memory.work.size - (t + 1) * (MR + 1) * NR
    s, passed = 0, 0
    u0, u1 = t * net.units // tasks, (t + 1) * net.units // tasks
    if memory.cuts.size == tasks + 1:  # of equal work, for so many tasks
        u0, u1 = memory.cuts[t], memory.cuts[t + 1]
    for u in range(u0, u1):
        while u - passed >= net.stages[s, UNITS]:
            passed += net.stages[s, UNITS]
            s += 1
        blocks = (net.stages[s, INPUTS] + UNIT_ROWS - 1) // UNIT_ROWS
        p, block = (u - passed) // blocks, (u - passed) % blocks
        at = by_unit + UNIT_FIGURES * u
        end = r1 - (r1 - r) * (u1 - u - 1) // (u1 - u)
        for i in range(r, end):
            ask_for_sample(inputs, order[following + i], net.stages[0, INPUTS])
        r = end
        _update_unit(phase, turn, s, p, block, n, inputs.kind, net, rules, memory, ld_x, buffer, at, MR, NR, NR // NV)
