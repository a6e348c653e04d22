"""The second part of a batch: gradients of weights, tile by tile, and the optimizer's steps; weights in and out.

These functions are compiled into the epoch's kernels; offsets name places in ``net.params`` and ``memory.work``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.cpu.compiler.parts import inlined
from fastnn.kernels.cpu.epochs.stages import ask_for_sample
from fastnn.kernels.cpu.panels import pack_share, unpack_share
from fastnn.kernels.cpu.records import (
    BIAS,
    CLIP_GLOBAL_NORM,
    CLIP_VALUE,
    GRADIENTS,
    KERNEL,
    SPARSE,
    STEPS,
    UNIT_ROWS,
    WHOLE,
    inputs_of,
    panel_count,
    state_pointer,
)
from fastnn.kernels.cpu.simd.elementwise import (
    clip_row,
    copy_row,
    prelu_backward_row,
    scale_row,
    squares_row,
)
from fastnn.kernels.cpu.simd.kernel import address, pointer
from fastnn.kernels.cpu.simd.losses import add_penalty_row
from fastnn.kernels.cpu.simd.optim import average_row, update_row
from fastnn.kernels.cpu.simd.sparse import sparse_row, sparse_update
from fastnn.kernels.cpu.simd.tile import gemm_tile, gemm_tile_pairs, pair_rows, transpose_block


class _Pass(NamedTuple):
    """What is done to units: ``phase``, of step ``turn`` of a call, whose batch has ``rows``.

    ``buffer`` is where the task's own part of scratch memory begins.
    """

    phase: Any
    turn: Any
    rows: Any
    buffer: Any


class _Unit(NamedTuple):
    """Rows ``low`` to ``high`` and ``width`` columns from ``j`` on of the weights of stage s, and the first rows' bias.

    They are in the panel at ``panel``. ``index`` is the unit's place among all. Of a PReLU it is the slopes alone.
    """

    index: Any
    s: Any
    low: Any
    high: Any
    j: Any
    width: Any
    panel: Any


class _Run(NamedTuple):
    """``count`` numbers of a stage's weights (``part`` KERNEL) or bias (BIAS), at ``w``; pointers to them, to ``g``."""

    part: Any
    w: Any
    count: Any
    weights: Any
    g: Any


@inlined
def _unit(index, s, p, block, stages):
    """The unit of a block of rows of panel p of stage s."""
    stage = stages[s]
    low, high, j = block * UNIT_ROWS, min(stage.inputs, (block + 1) * UNIT_ROWS), p * stage.panel
    return _Unit(index, s, low, high, j, min(stage.panel, stage.outputs - j), stage.w + j * stage.inputs)


@inlined
def _run(doing, part, w, count, net, memory):
    """A run of parameters, its gradient in the task's buffer, or where all are kept."""
    g = address(memory.work, doing.buffer) if doing.phase == WHOLE else address(memory.gradients, w)
    return _Run(part, w, count, address(net.params, w), g)


@inlined
def _hyper(turn, rules):
    """Where the hyper-parameters of step ``turn`` of a call are."""
    return address(rules.hyper, min(turn, rules.hyper.shape[0] - 1) * rules.hyper.shape[1])


@inlined
def _update(doing, unit, run, net, rules, memory):
    """What a pass does to a run of a unit's parameters, their gradient being there: penalty, norm, step, average."""
    phase, turn, s = doing.phase, doing.turn, unit.s
    part, w, count, weights, g = run
    if phase != STEPS:
        penalty = net.penalties[s, part]
        if penalty.l1 != 0.0 or penalty.l2 != 0.0:
            share = rules.penalty[min(turn, rules.penalty.size - 1)]
            memory.penalties[unit.index] += add_penalty_row(count, weights, share * penalty.l1, share * penalty.l2, g)
    if phase == GRADIENTS:
        memory.squares[unit.index, part] += squares_row(count, g)
        return
    if phase == STEPS:
        scale_row(count, g, memory.work.dtype.type(memory.factors[s, part]))
    shrink = rules.shrink[min(turn, rules.shrink.shape[0] - 1), s, part]
    if shrink != 1.0:
        scale_row(count, weights, shrink)
    if rules.clip == CLIP_VALUE:
        clip_row(count, g, rules.limit)
    update_row(rules.step, count, weights, g, address(net.slots, 0), w, _hyper(turn, rules))
    if rules.averages.size > 0:
        average, now = state_pointer(net, net.slots.size - 1, w), rules.averages[turn]
        average_row(count, average, now.stays, weights)
        if now.due:
            copy_row(count, average, weights)


@inlined
def _update_sparse(doing, unit, net, rules, memory):
    """A unit of the first stage, from the batch's non-zeros by feature."""
    stage, phase = net.stages[0], doing.phase
    dz = address(memory.work, stage.dz + unit.j)
    if rules.direct:
        share = rules.penalty[min(doing.turn, rules.penalty.size - 1)]
        memory.penalties[unit.index] += sparse_update(
            rules.step, rules.coupled, unit.low, unit.high, 0 if rules.lazy else 1,
            address(memory.begins, 0), address(memory.ends, 0), address(memory.rows, 0), address(memory.values, 0),
            dz, stage.ld, address(memory.decay, 0),
            address(net.params, unit.panel), address(net.slots, 0), unit.panel, _hyper(doing.turn, rules),
            share * net.penalties[0, KERNEL].l2,
        )  # fmt: skip
        return
    for f in range(unit.low, unit.high):
        begin, end = memory.begins[f], memory.ends[f]
        if begin < end or not rules.lazy:
            run = _run(doing, KERNEL, unit.panel + f * stage.panel, unit.width, net, memory)
            if phase != GRADIENTS and rules.lazy and memory.decay[f] != 1.0:
                scale_row(run.count, state_pointer(net, 0, run.w), memory.decay[f])
            if phase != STEPS:
                indices, values = address(memory.rows, begin), address(memory.values, begin)
                sparse_row(end - begin, indices, values, dz, stage.ld, run.g)
            _update(doing, unit, run, net, rules, memory)


@inlined
def _update_dense(doing, unit, net, rules, memory, tile):
    """A unit's weights: each tile of dW = X.T @ dZ goes straight into the update.

    A tile's rows lie end to end in the panel and in the buffer, so one call updates them all, padding included: its
    weights, gradients and states are 0 and stay so.
    """
    work, stage, x, n, width = memory.work, net.stages[unit.s], inputs_of(unit.s, net), doing.rows, unit.width
    NR, rows = tile.NR, unit.high - unit.low
    if width < NR:
        work[doing.buffer : doing.buffer + tile.MR * NR] = 0
    tiles = (rows + tile.MR - 1) // tile.MR
    for i in range(tiles):
        low, high = unit.low + i * rows // tiles, unit.low + (i + 1) * rows // tiles
        run = _run(doing, KERNEL, unit.panel + low * NR, (high - low) * NR, net, memory)
        if doing.phase != STEPS and stage.pairs:
            x_pairs, dz_pairs = address(work, stage.x_by_column + low), address(work, stage.dz_by_column + unit.j)
            gemm_tile_pairs(high - low, width, (n + 1) // 2, x_pairs, 1, x.ld, dz_pairs, stage.ld, run.g, NR, 0)
        elif doing.phase != STEPS:
            dz = address(work, stage.dz + unit.j)
            gemm_tile(high - low, width, n, address(work, x.at + low), 1, x.ld, dz, stage.ld, run.g, NR, 0)
        _update(doing, unit, run, net, rules, memory)


@inlined
def _update_bias(doing, unit, net, rules, memory, tile):
    """The biases of a unit's columns: db = ones.T @ dZ, the ones being one number with strides of 0."""
    work, stage = memory.work, net.stages[unit.s]
    one = doing.buffer + tile.MR * tile.NR
    work[one] = work.dtype.type(1)
    for c in range(0, unit.width, tile.NR):
        count = min(tile.NR, unit.width - c)
        run = _run(doing, BIAS, stage.b + unit.j + c, count, net, memory)
        if doing.phase != STEPS:
            dz = address(work, stage.dz + unit.j + c)
            gemm_tile(1, count, doing.rows, address(work, one), 0, 0, dz, stage.ld, run.g, tile.NR, 0)
        _update(doing, unit, run, net, rules, memory)


@inlined
def _update_slopes(doing, unit, net, rules, memory, tile):
    """The slopes of a unit's columns: the sums of their rows' parts. dX, made before, is made again in place of dY."""
    work, stage = memory.work, net.stages[unit.s]
    for c in range(unit.j, unit.j + unit.width, tile.NR):
        count = min(tile.NR, unit.j + unit.width - c)
        run = _run(doing, BIAS, stage.b + c, count, net, memory)
        if doing.phase != STEPS:
            work[doing.buffer : doing.buffer + count] = 0
            copy_row(count, address(work, doing.buffer), run.g)
            for r in range(doing.rows):
                dy, x = address(work, stage.dz + r * stage.ld + c), address(work, stage.seen + r * stage.ld_seen + c)
                prelu_backward_row(count, dy, x, run.weights, dy, run.g)
        _update(doing, unit, run, net, rules, memory)


@inlined
def clip_by_norm(net, rules, memory):
    """From the units' squares to what the gradients of each parameter are multiplied with."""
    factors, squares = memory.factors, memory.squares
    factors[:] = 0
    total, u = 0.0, 0
    for s in range(net.stages.size):
        for _ in range(net.stages[s].units):
            for part in range(factors.shape[1]):
                factors[s, part] += squares[u, part]
                total += squares[u, part]
            u += 1
    for s in range(factors.shape[0]):
        for part in range(factors.shape[1]):
            norm = np.sqrt(total if rules.clip == CLIP_GLOBAL_NORM else factors[s, part])
            factors[s, part] = rules.limit / norm if norm > rules.limit else 1.0


@inlined
def _transpose(unit, stage, params, work, buffer, tile):
    """A unit's weights into the transposed panels, of numbers or of pairs."""
    at, m, NR, VL = stage.wt, stage.outputs, tile.NR, tile.VL
    for k in range(unit.low, unit.high, VL):
        for c in range(0, unit.width, VL):
            source, j = address(params, unit.panel + k * NR + c), unit.j + c
            rows, columns = min(VL, unit.high - k), min(VL, unit.width - c)
            if stage.pairs:
                count = (columns + 1) // 2
                target = at + (k // NR * ((m + 1) // 2) + j // 2) * NR + k % NR
                transpose_block(rows, 2 * count, source, NR, address(work, buffer), VL)
                pair_rows(count, rows, address(work, buffer), VL, address(work, target), NR)
            else:
                target = at + (k // NR * m + j) * NR + k % NR
                transpose_block(rows, columns, source, NR, address(work, target), NR)


@inlined
def _copy_unit(unit, net, work, buffer, tile):
    """The copies of one unit's weights that scratch memory holds: transposed, as pairs."""
    stage, params, NR, low, high = net.stages[unit.s], net.params, tile.NR, unit.low, unit.high
    if unit.s > net.first:
        _transpose(unit, stage, params, work, buffer, tile)
    if stage.pairs:
        p, whole = unit.j // stage.panel, (high - low) // 2
        target = stage.w_pairs + (p * ((stage.inputs + 1) // 2) + low // 2) * NR
        pair_rows(whole, NR, address(params, unit.panel + low * NR), NR, address(work, target), NR)
        if (high - low) % 2 == 1:  # the last row has no neighbour
            copy_row(NR, address(params, unit.panel + (high - 1) * NR), address(work, buffer))
            work[buffer + NR : buffer + 2 * NR] = 0
            pair_rows(1, NR, address(work, buffer), NR, address(work, target + whole * NR), NR)


@inlined
def _update_unit(doing, unit, kind, net, rules, memory, tile):
    """One unit of the update, with its share of the bias and of the transposed weights; ``kind`` is the inputs'."""
    stage = net.stages[unit.s]
    if doing.phase != STEPS:
        memory.penalties[unit.index] = 0
        memory.squares[unit.index, KERNEL] = memory.squares[unit.index, BIAS] = 0
    if stage.trains_kernel:
        if unit.s == 0 and kind == SPARSE:
            _update_sparse(doing, unit, net, rules, memory)
        else:
            _update_dense(doing, unit, net, rules, memory, tile)
        if doing.phase != GRADIENTS:
            _copy_unit(unit, net, memory.work, doing.buffer, tile)
    if stage.prelu:
        _update_slopes(doing, unit, net, rules, memory, tile)
    elif unit.low == 0 and stage.trains_bias:
        _update_bias(doing, unit, net, rules, memory, tile)


@inlined
def copy_panels(places, net, into, t, tasks):
    """Task t's share of the rows of all arrays [K, N] ``into`` panels [N/width, K, width], or back from them."""
    for a in range(places.size):
        place = places[a]
        array, panels = pointer(net.params, place.address), pointer(net.params, place.panels)
        if into:
            pack_share(t, tasks, place.rows, place.columns, place.width, array, panels)
        else:
            unpack_share(t, tasks, place.rows, place.columns, place.width, panels, array)


@inlined
def _buffer(work, t, tile):
    """Where task t's own part of scratch memory begins."""
    return work.size - (t + 1) * (tile.MR + 1) * tile.NR


@inlined
def copy_weights(net, work, t, tasks, tile):
    """Task t's share of the copies of all weights that scratch memory holds."""
    for s in range(net.stages.size):
        blocks = net.stages[s].blocks
        units = panel_count(net.stages[s]) * blocks if net.stages[s].product else 0
        for u in range(t * units // tasks, (t + 1) * units // tasks):
            _copy_unit(_unit(u, s, u // blocks, u % blocks, net.stages), net, work, _buffer(work, t, tile), tile)


@inlined
def update_units(phase, batch, share, inputs, net, rules, memory, tile):
    """Task t's share of the units; between them it prefetches its share of the samples of the next batch.

    These come from main memory while caches and multiply-adds are what the update waits for.
    """
    t, tasks, following = share.t, share.tasks, batch.first + batch.rows
    left = 0 if phase == GRADIENTS else min(batch.order.size - following, batch.rows)
    r, r1 = t * left // tasks, (t + 1) * left // tasks
    doing = _Pass(phase, batch.turn, batch.rows, _buffer(memory.work, t, tile))
    s, passed = 0, 0
    u0, u1 = t * net.units // tasks, (t + 1) * net.units // tasks
    if memory.cuts.size == tasks + 1:  # of equal work, for so many tasks
        u0, u1 = memory.cuts[t], memory.cuts[t + 1]
    for u in range(u0, u1):
        while u - passed >= net.stages[s].units:
            passed += net.stages[s].units
            s += 1
        blocks = net.stages[s].blocks
        end = r1 - (r1 - r) * (u1 - u - 1) // (u1 - u)
        for i in range(r, end):
            ask_for_sample(inputs, batch.order[following + i], net.stages[0].inputs)
        r = end
        unit = _unit(u, s, (u - passed) // blocks, (u - passed) % blocks, net.stages)
        _update_unit(doing, unit, inputs.kind, net, rules, memory, tile)
