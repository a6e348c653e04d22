"""A range of a batch's rows through the stages of a network: gather, forward pass, loss and metrics, backward pass.

These functions are compiled into the epoch's kernels; offsets name places in ``net.params`` and ``memory.work``.
"""

from __future__ import annotations

import numpy as np

from fastnn.kernels.cpu.entries import ask_for_entries, sparse_forward
from fastnn.kernels.cpu.jit import inlined
from fastnn.kernels.cpu.machine import LINE
from fastnn.kernels.cpu.records import (
    ACCURACY,
    BINARY_ACCURACY,
    BYTES,
    CODE,
    CROSS_ENTROPY,
    DENSE,
    DZ,
    FLAT,
    GC,
    GR,
    IDENTITY,
    INPUTS,
    KEPT,
    LD,
    LD_SEEN,
    NEEDS,
    OUTPUT_PENALTY,
    OUTPUTS,
    PAIRS,
    PANEL,
    SCALE,
    SEED,
    SEEN,
    SOFTMAX_CROSS_ENTROPY,
    SPARSE,
    STREAM,
    THRESHOLD,
    TOP_K,
    WP,
    WT,
    XC,
    XR,
    B,
    W,
    Y,
    panel_count,
)
from fastnn.kernels.cpu.simd.dropout import dropout_row
from fastnn.kernels.cpu.simd.elementwise import backward_row, copy_row, forward_bias_row, forward_row, widen_row
from fastnn.kernels.cpu.simd.kernel import address, prefetch
from fastnn.kernels.cpu.simd.losses import add_penalty_row, loss_row
from fastnn.kernels.cpu.simd.softmax import argmax_row, cross_entropy_row, label_row, probability_loss_row, softmax_row
from fastnn.kernels.cpu.simd.tile import gemm_tile, gemm_tile_pairs, pair_columns, pair_rows

# Depth of a block of a product: KC * NR numbers of a panel stay in L2.
_KC = 2048

# Samples ahead of its use that a sample to gather is asked for: a batch of Fashion-MNIST's took 50 us without, 13 with.
_GATHER_AHEAD = 2


@inlined
def _times_panels(pairs, n, k, m, work, x, ld_x, panels, at, p0, p1, y, ld_y, MR, NR):
    """work[y: n x m] = work[x: n x k] @ panels[at: k x m], panels ``p0`` to ``p1``, the last one first.

    k counts pairs where the numbers are ``pairs``.
    """
    tiles = (n + MR - 1) // MR
    for p in range(p1 - 1, p0 - 1, -1):
        j = p * NR
        for k0 in range(0, k, _KC):
            for i in range(tiles):
                low, high = i * n // tiles, (i + 1) * n // tiles
                a = address(work, x + low * ld_x + k0)
                b = address(panels, at + (p * k + k0) * NR)
                c = address(work, y + low * ld_y + j)
                if pairs:
                    gemm_tile_pairs(high - low, min(NR, m - j), min(_KC, k - k0), a, ld_x, 1, b, NR, c, ld_y, k0)
                else:
                    gemm_tile(high - low, min(NR, m - j), min(_KC, k - k0), a, ld_x, 1, b, NR, c, ld_y, k0)


@inlined
def _pair(n, low, high, count, x, ld, by_row, by_column, work):
    """Rows ``low`` (even) to ``high`` of a batch of n as pairs of bfloat16 numbers, along rows and along columns."""
    if high == n and n % 2 == 1:
        for j in range(count):
            work[x + n * ld + j] = 0  # the last row's neighbour
    for r in range(low, high):
        pair_columns(count, address(work, x + r * ld), address(work, by_row + r * (ld // 2)))
    if low < high:
        source, target = address(work, x + low * ld), address(work, by_column + low // 2 * ld)
        pair_rows((high - low + 1) // 2, count, source, ld, target, ld)


@inlined
def _drop(place, step, row, count, net, x):
    """Dropout of ``count`` numbers at x, in place, if there is any at this place of ``Network.masks``."""
    threshold, seed, stream = net.masks[place, THRESHOLD], net.masks[place, SEED], net.masks[place, STREAM]
    if threshold > 0:
        dropout_row(threshold, seed, stream, step, row, count, x, net.scales[place, SCALE], x)


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
def gather_rows(inputs, order, first, n, low, high, step, net, work, ld):
    """Rows ``low`` to ``high`` of the batch of n into scratch memory, in the kernel's dtype, rescaled, dropped from.

    Where the first stage multiplies pairs of bfloat16 numbers, as such, too.
    """
    stage = net.stages[0]
    width, scale, offset = stage[INPUTS], inputs.scale, inputs.offset
    for r in range(low, min(low + _GATHER_AHEAD, high)):
        ask_for_sample(inputs, order[first + r], width)
    for r in range(low, high):
        if r + _GATHER_AHEAD < high:
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
        _drop(0, step, r, width, net, address(work, r * ld))
    if stage[PAIRS]:
        _pair(n, low, high, width, 0, ld, stage[XR], stage[XC], work)


@inlined
def _product(stage, x, ld_x, low, high, p0, p1, net, work, MR, NR):
    """Rows ``low`` to ``high`` of a dense stage's inputs, at x, times its panels ``p0`` to ``p1``."""
    k, m, ld, rows = stage[INPUTS], stage[OUTPUTS], stage[LD], high - low
    z = stage[Y] + low * ld
    if stage[PAIRS]:
        half = ld_x // 2
        pairs = stage[XR] + low * half
        _times_panels(True, rows, (k + 1) // 2, m, work, pairs, half, work, stage[WP], p0, p1, z, ld, MR, NR)
    else:
        _times_panels(False, rows, k, m, work, x + low * ld_x, ld_x, net.params, stage[W], p0, p1, z, ld, MR, NR)


@inlined
def first_product(inputs, low, high, p0, p1, net, memory, ld_x, MR, NR):
    """Rows ``low`` to ``high`` of the inputs times panels ``p0`` to ``p1`` of the first stage."""
    if inputs.kind == SPARSE:
        sparse_forward(inputs, low, high, p0, p1, net, memory)
    else:
        _product(net.stages[0], 0, ld_x, low, high, p0, p1, net, memory.work, MR, NR)


@inlined
def forward_rows(inputs, n, low, high, step, net, memory, ld_x, made, MR, NR):
    """All stages for rows ``low`` to ``high`` of the batch of n; the first one's product may have been ``made``."""
    work = memory.work
    for s in range(net.stages.shape[0]):
        stage = net.stages[s]
        k, m, y, ld = stage[INPUTS], stage[OUTPUTS], stage[Y], stage[LD]
        x, ld_before = (0, ld_x) if s == 0 else (net.stages[s - 1, Y], net.stages[s - 1, LD])
        if stage[PANEL] == 0:
            for r in range(low, high):
                source, target = address(work, x + r * ld_before), address(work, y + r * ld)
                forward_row(stage[CODE], m, source, address(net.numbers, s * net.numbers.shape[1]), target)
                _drop(s + 1, step, r, m, net, address(work, y + r * ld))
            continue
        if s > 0:
            if stage[PAIRS]:
                _pair(n, low, high, k, x, ld_before, stage[XR], stage[XC], work)
            _product(stage, x, ld_before, low, high, 0, panel_count(stage), net, work, MR, NR)
        elif not made:
            first_product(inputs, low, high, 0, panel_count(stage), net, memory, ld_x, MR, NR)
        for r in range(low, high):
            z = address(work, y + r * ld)
            numbers = address(net.numbers, s * net.numbers.shape[1])
            forward_bias_row(stage[CODE], m, z, address(net.params, stage[B]), numbers, z)
            _drop(s + 1, step, r, m, net, z)


@inlined
def _row_loss(code, numbers, classes, work, out, slope, labels, rows, source, share):
    """The loss of one row of outputs; its derivative times ``share`` at ``slope``."""
    y, dy, target = address(work, out), address(work, slope), address(rows, source * classes)
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
def _target(targets, source, classes):
    """The class index, or the place of the target row's largest number."""
    if targets.labels.size > 0:
        return targets.labels[source]
    return argmax_row(classes, address(targets.rows, source * classes))


@inlined
def _metric(code, number, numbers, work, out, spare, classes, targets, source):
    """One metric of one row; ``spare`` may be overwritten."""
    if code == ACCURACY:
        return 1.0 if argmax_row(classes, address(work, out)) == _target(targets, source, classes) else 0.0
    if code == TOP_K:
        score, larger = work[out + _target(targets, source, classes)], 0
        for j in range(classes):
            larger += work[out + j] > score
        return 1.0 if larger < number else 0.0
    if code == BINARY_ACCURACY:
        hits, threshold = 0.0, work.dtype.type(number)
        for j in range(classes):
            side = 1.0 if work[out + j] > threshold else 0.0
            hits += 1.0 if targets.rows[source, j] == side else 0.0
        return hits / classes
    one = work.dtype.type(1)
    loss = _row_loss(code, numbers, classes, work, out, spare, targets.labels, targets.rows, source, one)
    return np.float64(loss) / number


@inlined
def score_row(n, scale, r, source, net, rules, targets, memory, batch):
    """Metrics, loss and the gradient by the last stage's outputs, for one row of n."""
    work, figures = memory.work, memory.figures
    last = net.stages[net.stages.shape[0] - 1]
    classes, out, slope = last[OUTPUTS], last[Y] + r * last[LD], last[DZ] + r * last[LD]
    number = work.dtype.type
    weight = targets.weights[source] if targets.weights.size > 0 else number(1)
    seen = rules.seen + r * last[LD]
    if seen != out:
        forward_row(rules.activation, classes, address(work, out), address(net.numbers, 0), address(work, seen))
    for q in range(rules.metrics.size):
        code, limit = rules.metrics[q], rules.numbers[q]
        value = _metric(code, limit, rules.goal, work, seen, slope, classes, targets, source)
        figures[(q + 1) * batch + r] = value if q < rules.plain else value * weight
    share = weight * number(scale)
    loss = _row_loss(rules.loss, rules.goal, classes, work, out, slope, targets.labels, targets.goals, source, share)
    figures[r] = np.float64(weight * loss) * scale * n


@inlined
def _backward_activation(s, low, high, step, net, work):
    """dZ of rows ``low`` to ``high`` of a stage from the gradient by its outputs, in place, through its dropout."""
    stage, one = net.stages[s], work.dtype.type(1)
    m, dz, ld, seen, ld_seen = stage[OUTPUTS], stage[DZ], stage[LD], stage[SEEN], stage[LD_SEEN]
    threshold, seed, stream = net.masks[s + 1, THRESHOLD], net.masks[s + 1, SEED], net.masks[s + 1, STREAM]
    scale, kept = net.scales[s + 1, SCALE], net.scales[s + 1, KEPT]
    if threshold == 0:
        if stage[CODE] == IDENTITY:
            return
        scale, kept = one, one
    elif not stage[FLAT]:  # else what was dropped is 0 in y, and needs no mask
        for r in range(low, high):
            at = address(work, dz + r * ld)
            dropout_row(threshold, seed, stream, step, r, m, at, scale, at)
        if stage[CODE] == IDENTITY:
            return
        scale = one
    numbers = address(net.numbers, s * net.numbers.shape[1])
    for r in range(low, high):
        at = address(work, dz + r * ld)
        backward_row(stage[CODE], m, at, scale, address(work, seen + r * ld_seen), kept, numbers, at)


@inlined
def backward_rows(n, low, high, step, net, memory, MR, NR):
    """dZ of every stage that needs it, the last one's holding the gradient by its outputs; penalties on outputs."""
    work = memory.work
    last = net.stages.shape[0] - 1
    for back in range(last + 1 - net.first):
        s = last - back
        stage = net.stages[s]
        m, y, dz, ld = stage[OUTPUTS], stage[Y], stage[DZ], stage[LD]
        if s < last:
            after = net.stages[s + 1]
            pairs = after[PAIRS] != 0
            depth, ld_after = after[OUTPUTS], after[LD]
            source = after[DZ]
            if pairs:
                depth, ld_after, source = (depth + 1) // 2, ld_after // 2, after[GR]
            x, dx = source + low * ld_after, dz + low * ld
            if after[PANEL] == 0:
                for r in range(high - low):
                    copy_row(m, address(work, x + r * ld_after), address(work, dx + r * ld))
            else:
                panels = (m + NR - 1) // NR
                _times_panels(
                    pairs, high - low, depth, m, work, x, ld_after, work, after[WT], 0, panels, dx, ld, MR, NR
                )
        if stage[NEEDS] & OUTPUT_PENALTY:  # such a stage drops nothing: y is what the penalty is on
            number = work.dtype.type
            l1, l2 = net.penalties[s, 4] / number(n), net.penalties[s, 5] / number(n)
            for r in range(low, high):
                penalty = add_penalty_row(m, address(work, y + r * ld), l1, l2, address(work, dz + r * ld))
                memory.figures[r] += np.float64(penalty) * n
        _backward_activation(s, low, high, step, net, work)
        if stage[PAIRS]:
            _pair(n, low, high, m, dz, ld, stage[GR], stage[GC], work)
