"""A range of a batch's rows through the stages of a network: gather, forward pass, loss and metrics, backward pass.

These functions are compiled into the epoch's kernels; offsets name places in ``net.params`` and ``memory.work``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.cpu.compiler.machine import LINE
from fastnn.kernels.cpu.compiler.parts import inlined
from fastnn.kernels.cpu.epochs.entries import ask_for_entries, sparse_forward
from fastnn.kernels.cpu.records import (
    ACCURACY,
    BINARY_ACCURACY,
    BYTES,
    CROSS_ENTROPY,
    DENSE,
    IDENTITY,
    OUTPUTS,
    SOFTMAX_CROSS_ENTROPY,
    SPARSE,
    TOP_K,
    Block,
    Rows,
    inputs_of,
    panel_count,
)
from fastnn.kernels.cpu.simd.dropout import dropout_row
from fastnn.kernels.cpu.simd.elementwise import (
    backward_row,
    copy_row,
    forward_bias_row,
    forward_row,
    prelu_row,
    prelu_slope_row,
    widen_row,
)
from fastnn.kernels.cpu.simd.kernel import address, prefetch
from fastnn.kernels.cpu.simd.losses import add_penalty_row, loss_row
from fastnn.kernels.cpu.simd.softmax import argmax_row, cross_entropy_row, label_row, probability_loss_row, softmax_row
from fastnn.kernels.cpu.simd.tile import gemm_tile, gemm_tile_pairs, pair_columns, pair_rows

# Depth of a block: KC * NR numbers of a panel stay in L2.
_KC = 2048

# Samples ahead of its use that a sample to gather is asked for: a batch of Fashion-MNIST's took 50 us without, 13 with.
_GATHER_AHEAD = 2


class _Product(NamedTuple):
    """work[y: rows x columns] = work[x: rows x depth] @ panels[at: depth x columns].

    The depth counts pairs where the numbers are ``pairs``.
    """

    pairs: Any
    rows: Any
    depth: Any
    columns: Any
    x: Rows
    panels: Any
    at: Any
    y: Rows


class _Outputs(NamedTuple):
    """One row of outputs and the place of its derivative; ``source`` is the sample."""

    classes: Any
    at: Any
    slope: Any
    source: Any


@inlined
def _times_panels(product, p0, p1, work, tile):
    """Panels ``p0`` to ``p1`` of a product, the last one first."""
    pairs, n, k, m, x, panels, at, y = product
    tiles = (n + tile.MR - 1) // tile.MR
    for p in range(p1 - 1, p0 - 1, -1):
        j = p * tile.NR
        width = min(tile.NR, m - j)
        for k0 in range(0, k, _KC):
            depth = min(_KC, k - k0)
            for i in range(tiles):
                low, high = i * n // tiles, (i + 1) * n // tiles
                a = address(work, x.at + low * x.ld + k0)
                b = address(panels, at + (p * k + k0) * tile.NR)
                c = address(work, y.at + low * y.ld + j)
                if pairs:
                    gemm_tile_pairs(high - low, width, depth, a, x.ld, 1, b, tile.NR, c, y.ld, k0)
                else:
                    gemm_tile(high - low, width, depth, a, x.ld, 1, b, tile.NR, c, y.ld, k0)


@inlined
def _pair(n, share, count, rows, by_row, by_column, work):
    """A task's rows of a batch of n, the first one even, as pairs of bfloat16 numbers, along rows and along columns."""
    low, high, x, ld = share.low, share.high, rows.at, rows.ld
    if high == n and n % 2 == 1:
        for j in range(count):
            work[x + n * ld + j] = 0  # the last row's neighbour
    for r in range(low, high):
        pair_columns(count, address(work, x + r * ld), address(work, by_row + r * (ld // 2)))
    if low < high:
        source, target = address(work, x + low * ld), address(work, by_column + low // 2 * ld)
        pair_rows((high - low + 1) // 2, count, source, ld, target, ld)


@inlined
def _drop(mask, step, row, count, x):
    """Dropout of ``count`` numbers at x, in place, if there is any."""
    if mask.threshold > 0:
        dropout_row(mask.threshold, mask.seed, mask.stream, step, row, count, x, mask.scale, x)


@inlined
def ask_for_sample(inputs, row, width):
    """Prefetch a sample of any kind."""
    if inputs.kind == BYTES:
        for j in range(0, width, LINE):
            prefetch(inputs.bytes, row * width + j)
    elif inputs.kind == DENSE:
        for j in range(0, width, LINE // inputs.dense.itemsize):
            prefetch(inputs.dense, row * width + j)
    else:
        ask_for_entries(inputs, row)


@inlined
def gather_rows(inputs, batch, share, net, work):
    """A task's rows of a batch into scratch memory, in the kernel's dtype, rescaled, dropped from.

    Where the first stage multiplies pairs of bfloat16 numbers, as such, too.
    """
    stage, ld, order, first = net.stages[0], net.ld, batch.order, batch.first
    width, scale, offset = stage.inputs, inputs.scale, inputs.offset
    for r in range(share.low, min(share.low + _GATHER_AHEAD, share.high)):
        ask_for_sample(inputs, order[first + r], width)
    for r in range(share.low, share.high):
        if r + _GATHER_AHEAD < share.high:
            ask_for_sample(inputs, order[first + r + _GATHER_AHEAD], width)
        source = order[first + r]
        if inputs.kind == BYTES:
            widen_row(width, address(inputs.bytes, source * width), scale, offset, address(work, r * ld))
        elif inputs.kind == DENSE:
            copy_row(width, address(inputs.dense, source * width), address(work, r * ld))
        else:
            for j in range(width):
                work[r * ld + j] = 0
            for e in range(inputs.indptr[source], inputs.indptr[source + 1]):
                work[r * ld + inputs.indices[e]] = inputs.values[e]
        if inputs.kind != BYTES and (scale != 1.0 or offset != 0.0):
            for j in range(width):
                work[r * ld + j] = work[r * ld + j] * scale + offset
        _drop(net.masks[0], batch.step, r, width, address(work, r * ld))
    if stage.pairs:
        _pair(batch.rows, share, width, Rows(0, ld), stage.x_by_row, stage.x_by_column, work)


@inlined
def _stage_product(s, block, net, work, tile):
    """A block of the product of a dense stage."""
    stage, x, rows = net.stages[s], inputs_of(s, net), block.high - block.low
    k, m, y = stage.inputs, stage.outputs, Rows(stage.y + block.low * stage.ld, stage.ld)
    if stage.pairs:
        half = x.ld // 2
        pairs = Rows(stage.x_by_row + block.low * half, half)
        product = _Product(True, rows, (k + 1) // 2, m, pairs, work, stage.w_pairs, y)
        _times_panels(product, block.p0, block.p1, work, tile)
    else:
        product = _Product(False, rows, k, m, Rows(x.at + block.low * x.ld, x.ld), net.params, stage.w, y)
        _times_panels(product, block.p0, block.p1, work, tile)


@inlined
def first_product(inputs, block, net, memory, tile):
    """A block of the first stage's product."""
    if inputs.kind == SPARSE:
        sparse_forward(inputs, block, net, memory)
    else:
        _stage_product(0, block, net, memory.work, tile)


@inlined
def forward_rows(inputs, batch, share, net, memory, made, tile):
    """All stages for a task's rows of a batch; the first one's product may have been ``made``."""
    work = memory.work
    for s in range(net.stages.size):
        stage, x = net.stages[s], inputs_of(s, net)
        m, y, ld = stage.outputs, stage.y, stage.ld
        numbers = address(net.numbers, s * net.numbers.shape[1])
        if not stage.product:
            for r in range(share.low, share.high):
                source, target = address(work, x.at + r * x.ld), address(work, y + r * ld)
                if stage.prelu:
                    prelu_row(m, source, address(net.params, stage.b), target)
                else:
                    forward_row(stage.activation, m, source, numbers, target, 0)
                _drop(net.masks[s + 1], batch.step, r, m, target)
            continue
        block = Block(share.low, share.high, 0, panel_count(stage))
        if s > 0:
            if stage.pairs:
                _pair(batch.rows, share, stage.inputs, x, stage.x_by_row, stage.x_by_column, work)
            _stage_product(s, block, net, work, tile)
        elif not made:
            first_product(inputs, block, net, memory, tile)
        for r in range(share.low, share.high):
            z = address(work, y + r * ld)
            forward_bias_row(stage.activation, m, z, address(net.params, stage.b), numbers, z)
            _drop(net.masks[s + 1], batch.step, r, m, z)


@inlined
def _row_loss(code, numbers, row, labels, rows, work, share):
    """The loss of one row of outputs; its derivative times ``share`` where it belongs."""
    classes, _, slope, source = row
    y, dy, target = address(work, row.at), address(work, slope), address(rows, source * classes)
    if labels.size > 0 and code == SOFTMAX_CROSS_ENTROPY:
        return label_row(classes, y, labels[source], share, dy)
    if labels.size > 0:  # a row with a 1 in it, where the derivative will be
        work[slope : slope + classes] = 0
        work[slope + labels[source]] = 1
        target = dy
    if code == CROSS_ENTROPY:
        return probability_loss_row(classes, y, target, share, dy)
    if code != SOFTMAX_CROSS_ENTROPY:
        return loss_row(code, classes, y, target, address(numbers, 0), share, dy)
    top, mass = softmax_row(classes, y, share, dy)
    log_sum = top + work.dtype.type(np.log(mass))
    return cross_entropy_row(classes, y, log_sum, target, share, dy)[0]


@inlined
def _target(targets, row):
    """The class index, or the place of the target row's largest number."""
    if targets.labels.size > 0:
        return targets.labels[row.source]
    return argmax_row(row.classes, address(targets.rows, row.source * row.classes))


@inlined
def _metric(code, number, numbers, row, targets, work):
    """One metric of one row; the derivative's place may be overwritten."""
    classes, out = row.classes, row.at
    if code == ACCURACY:
        return 1.0 if argmax_row(classes, address(work, out)) == _target(targets, row) else 0.0
    if code == TOP_K:
        score, larger = work[out + _target(targets, row)], 0
        for j in range(classes):
            larger += work[out + j] > score
        return 1.0 if larger < number else 0.0
    if code == BINARY_ACCURACY:
        hits, threshold = 0.0, work.dtype.type(number)
        for j in range(classes):
            side = 1.0 if work[out + j] > threshold else 0.0
            hits += 1.0 if targets.rows[row.source, j] == side else 0.0
        return hits / classes
    one = work.dtype.type(1)
    return np.float64(_row_loss(code, numbers, row, targets.labels, targets.rows, work, one)) / number


@inlined
def score_row(r, scale, batch, net, objective, targets, memory):
    """Metrics, loss and the gradient by the last stage's outputs, for row r of a batch."""
    work, figures, source = memory.work, memory.figures, batch.order[batch.first + r]
    last, number = net.stages[net.stages.size - 1], work.dtype.type
    row = _Outputs(last.outputs, last.y + r * last.ld, last.dz + r * last.ld, source)
    seen = _Outputs(row.classes, objective.seen + r * last.ld, row.slope, source)
    weight = targets.weights[source] if targets.weights.size > 0 else number(1)
    if seen.at != row.at:
        outputs = address(work, seen.at)
        forward_row(objective.activation, row.classes, address(work, row.at), address(net.numbers, 0), outputs, 0)
    for q in range(objective.metrics.size):
        value = _metric(objective.metrics[q], objective.numbers[q], objective.goal, seen, targets, work)
        figures[q + 1, r] = value if q < objective.plain else value * weight
    share = weight * number(scale)
    loss = _row_loss(objective.loss, objective.goal, row, targets.labels, targets.goals, work, share)
    if loss > objective.most:  # noqa: PLR1730 - NaN stays NaN
        loss = objective.most
    figures[0, r] = np.float64(weight * loss) * scale * batch.rows


@inlined
def _backward_activation(s, step, share, net, work):
    """dZ of a task's rows of a stage from the gradient by its outputs, in place, through its dropout."""
    stage, mask, one = net.stages[s], net.masks[s + 1], work.dtype.type(1)
    m, scale, kept = stage.outputs, mask.scale, mask.kept
    if mask.threshold == 0:
        if stage.activation == IDENTITY:
            return
        scale, kept = one, one
    elif not stage.flat_at_zero:  # else what was dropped is 0 in y, and needs no mask
        for r in range(share.low, share.high):
            _drop(mask, step, r, m, address(work, stage.dz + r * stage.ld))
        if stage.activation == IDENTITY:
            return
        scale = one
    numbers = address(net.numbers, s * net.numbers.shape[1])
    for r in range(share.low, share.high):
        at, seen = address(work, stage.dz + r * stage.ld), address(work, stage.seen + r * stage.ld_seen)
        backward_row(stage.activation, m, at, scale, seen, kept, numbers, at, 0)


@inlined
def _backward_product(s, share, net, work, tile):
    """The gradient by the outputs of stage s from the one of the stage behind, for a task's rows."""
    stage, after = net.stages[s], net.stages[s + 1]
    m, low, rows = stage.outputs, share.low, share.high - share.low
    source, dx = Rows(after.dz, after.ld), Rows(stage.dz + low * stage.ld, stage.ld)
    depth = after.outputs
    if after.pairs:
        source, depth = Rows(after.dz_by_row, after.ld // 2), (depth + 1) // 2
    source = Rows(source.at + low * source.ld, source.ld)
    if after.prelu:
        for r in range(rows):
            dy, x = address(work, source.at + r * source.ld), address(work, after.seen + (low + r) * after.ld_seen)
            prelu_slope_row(m, dy, x, address(net.params, after.b), address(work, dx.at + r * dx.ld))
    elif not after.product:
        for r in range(rows):
            copy_row(m, address(work, source.at + r * source.ld), address(work, dx.at + r * dx.ld))
    else:
        product = _Product(after.pairs, rows, depth, m, source, work, after.wt, dx)
        _times_panels(product, 0, (m + tile.NR - 1) // tile.NR, work, tile)


@inlined
def backward_rows(batch, share, net, memory, tile):
    """dZ of every stage that needs it, the last one's holding the gradient by its outputs; penalties on outputs."""
    work, n = memory.work, batch.rows
    last = net.stages.size - 1
    for back in range(last + 1 - net.first):
        s = last - back
        stage = net.stages[s]
        m, y, dz, ld = stage.outputs, stage.y, stage.dz, stage.ld
        if s < last:
            _backward_product(s, share, net, work, tile)
        if stage.penalized:  # such a stage drops nothing: y is what the penalty is on
            number, factors = work.dtype.type, net.penalties[s, OUTPUTS]
            l1, l2 = factors.l1 / number(n), factors.l2 / number(n)
            for r in range(share.low, share.high):
                penalty = add_penalty_row(m, address(work, y + r * ld), l1, l2, address(work, dz + r * ld))
                memory.figures[0, r] += np.float64(penalty) * n
        _backward_activation(s, batch.step, share, net, work)
        if stage.pairs:
            _pair(n, share, m, Rows(dz, ld), stage.dz_by_row, stage.dz_by_column, work)
