"""A whole training epoch of a stack of dense layers in one compiled call.

Two parallel regions a batch, and nothing but a check between them:

1. each task takes a range of the batch's rows through gather, forward pass, loss, metrics and backward pass: rows do
not
   depend on one another, so nothing waits inside. Where the inputs are sparse it also sorts the batch's non-zeros of a
   range of features by feature;
2. each task takes a range of units (stage, panel, block of ``UNIT_ROWS`` rows of W): a tile of dW = X.T @ dZ is formed
   in a buffer that stays in L1 and goes straight into the optimizer's update of the weights. dW is never written whole.

A stage is a dense layer; its sizes, activation, dropout, loss and optimizer are numbers read at run time, so that one
compiled function serves every network. Weights live in panels (``Layout``), so that both regions walk them in order.

Rows of W that belong to features which a batch does not have get no gradient. Under plain SGD nothing happens to them;
under RMSprop without momentum their mean square only decays, which a power of rho makes up for when the row is next
touched, and at the end of the epoch: exact but for rounding. Any other optimizer, or a penalty, moves every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import prange, types
from numba.extending import register_jitable

from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.machine import NV, tile
from fastnn.kernels.cpu.simd import (
    SPARSE_TILES,
    add_row,
    address,
    backward_row,
    cross_entropy_row,
    dropout_backward_row,
    dropout_row,
    forward_bias_row,
    gemm_tile,
    loss_row,
    penalty_row,
    prefetch_row,
    scale_row,
    softmax_row,
    sparse_row,
    transpose_block,
    update_row,
    widen_row,
)

# Rows of W in a unit of the update: a multiple of every tile height and of every vector length.
UNIT_ROWS = 96

# Depth of a block of a product: KC * NR numbers of a panel stay in L2.
_KC = 2048

# Columns of the stage table; see ``Layout.stages``.
INPUTS, OUTPUTS, CODE, HAS_BIAS, PANEL, W, B, WT, Y, LD, DZ = range(11)

# Columns of the network's masks and of their scales.
THRESHOLD, SEED, STREAM = range(3)
SCALE, KEPT = range(2)

# Kinds of inputs, and loss and metric codes beyond those of ``simd.LOSS_CODES``.
DENSE, BYTES, SPARSE, EXPANDED = range(4)
SOFTMAX_CROSS_ENTROPY = -1
ACCURACY, BINARY_ACCURACY = -1, -2


class Inputs(NamedTuple):
    """The samples; the arrays of the kinds that are not meant are empty.

    What is gathered is scale * x + offset. ``SPARSE`` samples are not gathered, and scaled already; ``EXPANDED`` ones
    are stored in the same arrays and made dense as they are gathered.
    """

    kind: Any
    dense: Any
    bytes: Any
    scale: Any
    offset: Any
    indptr: Any
    indices: Any
    values: Any


class Targets(NamedTuple):
    """Class indices or rows of numbers, one of them empty, and the samples' weights or an empty array."""

    labels: Any
    rows: Any
    weights: Any


class Network(NamedTuple):
    """Stages, and by stage the L1 and L2 penalties of kernel and bias; parameters and the optimizer's state.

    ``masks`` holds what dropout on the inputs (row 0) and on the outputs of each stage draws from, see ``dropout_row``,
    a threshold of 0 where there is none; ``scales`` how much it scales what it keeps, and the inverse of that.
    """

    stages: Any
    penalties: Any
    masks: Any
    scales: Any
    params: Any
    s0: Any
    s1: Any
    s2: Any


class Rules(NamedTuple):
    """How to train: codes of loss, metrics and optimizer with its hyper-parameters.

    ``mean`` divides an elementwise loss by its number of elements. ``threshold`` tells 0 from 1 in the outputs.
    ``adam`` is (rate, beta_1, beta_2), zeros for other optimizers: its first hyper-parameter depends on the step.
    ``lazy`` leaves rows without gradient for later, their state decaying by ``rho`` a step.
    """

    loss: Any
    mean: Any
    metrics: Any
    threshold: Any
    step: Any
    hyper: Any
    adam: Any
    lazy: Any
    rho: Any


class Scratch(NamedTuple):
    """Memory of a fit: batches and buffers, figures by row, and the non-zeros of a batch by feature.

    ``runs`` holds for each feature where its entries begin and end, and the step that last touched it; ``decay`` what
    its state has to be multiplied with.
    """

    work: Any
    figures: Any
    runs: Any
    decay: Any
    rows: Any
    values: Any


@dataclass(frozen=True)
class Layout:
    """Where a network's numbers lie in one array of parameters and one of scratch memory.

    The weights of a stage (K inputs, N outputs) are panels [N/NR, K, NR], zeros in the columns beyond N, then the
    bias, padded likewise; the panels of a sparse first stage are ``SPARSE_TILES`` tiles wide. Scratch memory holds
    the gathered inputs of a batch, then for every stage its outputs, their gradient, and but for the first stage the
    transposed weights as panels [K/NR, N, NR].
    """

    sizes: tuple[int, ...]
    batch: int
    itemsize: int
    sparse: bool = False

    @property
    def NR(self) -> int:  # noqa: D102 - the field's name
        return tile(self.itemsize).NR

    def panel(self, stage: int) -> int:
        """Columns of a stage's panels."""
        return SPARSE_TILES * self.NR if stage == 0 and self.sparse else self.NR

    @staticmethod
    def padded(n: int, panel: int) -> int:
        """n rounded up to whole panels."""
        return -(-n // panel) * panel

    def leading(self, n: int) -> int:
        """Distance of the rows of a batch: whole panels, off the multiples of 1024 bytes that share cache sets."""
        width = self.padded(n, SPARSE_TILES * self.NR)
        return width + 64 // self.itemsize if width * self.itemsize % 1024 == 0 else width

    def stages(self, codes: Sequence[int], biases: Sequence[bool]) -> tuple[Any, int, int]:
        """(stage table, size of the parameters, size of scratch memory without the tasks' buffers)."""
        table = np.zeros((len(codes), DZ + 1), np.int64)
        parameters, scratch = 0, self.batch * self.leading(self.sizes[0])
        for s, (row, code, bias) in enumerate(zip(table, codes, biases, strict=True)):
            k, n = self.sizes[s], self.sizes[s + 1]
            panel = self.panel(s)
            row[[INPUTS, OUTPUTS, CODE, HAS_BIAS, PANEL, LD]] = k, n, code, bias, panel, self.leading(n)
            row[W], row[B] = parameters, parameters + self.padded(n, panel) * k
            parameters = int(row[B]) + self.padded(n, panel)
            row[Y], row[DZ] = scratch, scratch + self.batch * row[LD]
            row[WT] = row[DZ] + self.batch * row[LD]
            scratch = int(row[WT]) + (self.padded(k, self.NR) * n if s else 0)
        return table, parameters, scratch

    def buffers(self, tasks: int) -> int:
        """Size of the tasks' buffers, which end scratch memory: a tile, its penalty, and a number."""
        shape = tile(self.itemsize)
        return tasks * (2 * shape.MR + 1) * shape.NR

    def units(self, table: Any) -> int:
        """Number of units of the update."""
        return sum(-(-int(row[OUTPUTS]) // int(row[PANEL])) * -(-int(row[INPUTS]) // UNIT_ROWS) for row in table)


def pack(w: Any, panels: Any, NR: int) -> None:
    """Weights (K, N) into panels [N/NR, K, NR]."""
    k, n = w.shape
    whole = n // NR
    view = panels.reshape(-1, k, NR)
    view[:whole] = w[:, : whole * NR].reshape(k, whole, NR).transpose(1, 0, 2)
    if whole < len(view):
        view[whole] = 0
        view[whole, :, : n - whole * NR] = w[:, whole * NR :]


def unpack(panels: Any, w: Any, NR: int) -> None:
    """Panels [N/NR, K, NR] into weights (K, N)."""
    k, n = w.shape
    w[...] = panels.reshape(-1, k, NR).transpose(1, 0, 2).reshape(k, -1)[:, :n]


# The functions below are compiled into the kernel; offsets name places in `net.params` and `memory.work`.


@register_jitable
def _times_panels(n, k, m, work, x, ld_x, panels, at, y, ld_y, MR, NR):
    """work[y: n x m] = work[x: n x k] @ panels[at: k x m]."""
    tiles = (n + MR - 1) // MR
    for p in range((m + NR - 1) // NR):
        j = p * NR
        for k0 in range(0, k, _KC):
            for i in range(tiles):
                low, high = i * n // tiles, (i + 1) * n // tiles
                a = address(work, x + low * ld_x + k0)
                b = address(panels, at + (p * k + k0) * NR)
                c = address(work, y + low * ld_y + j)
                gemm_tile(high - low, min(NR, m - j), min(_KC, k - k0), a, ld_x, 1, b, NR, c, ld_y, k0)


@register_jitable
def _drop(place, step, row, count, net, x):
    """Dropout of ``count`` numbers at x, in place, if there is any at this place of ``Network.masks``."""
    threshold, seed, stream = net.masks[place, THRESHOLD], net.masks[place, SEED], net.masks[place, STREAM]
    if threshold > 0:
        dropout_row(threshold, seed, stream, step, row, count, x, net.scales[place, SCALE], x)


@register_jitable
def _gather(inputs, order, first, low, high, step, net, work, ld):
    """Rows ``low`` to ``high`` of the batch into scratch memory, in the kernel's dtype, rescaled and dropped from."""
    width, scale, offset = net.stages[0, INPUTS], inputs.scale, inputs.offset
    for r in range(low, high):
        source = order[first + r]
        if inputs.kind == BYTES:
            widen_row(width, address(inputs.bytes, source * width), scale, offset, address(work, r * ld))
        elif inputs.kind == DENSE:
            for j in range(width):
                work[r * ld + j] = inputs.dense[source, j]
        else:
            for j in range(width):
                work[r * ld + j] = 0
            for e in range(inputs.indptr[source], inputs.indptr[source + 1]):
                work[r * ld + inputs.indices[e]] = inputs.values[e]
        if inputs.kind != BYTES and (scale != 1.0 or offset != 0.0):
            for j in range(width):
                work[r * ld + j] = work[r * ld + j] * scale + offset
        _drop(0, step, r, width, net, address(work, r * ld))


@register_jitable
def _sparse_forward(inputs, order, first, low, high, net, work):
    """First stage of rows ``low`` to ``high`` from their non-zeros, panel by panel, so that one panel stays in L1."""
    stage = net.stages[0]
    k, m, y, ld = stage[INPUTS], stage[OUTPUTS], stage[Y], stage[LD]
    width = stage[PANEL]
    for p in range((m + width - 1) // width):
        panel = address(net.params, stage[W] + p * k * width)
        for r in range(low, high):
            begin, end = inputs.indptr[order[first + r]], inputs.indptr[order[first + r] + 1]
            z = address(work, y + r * ld + p * width)
            sparse_row(end - begin, address(inputs.indices, begin), address(inputs.values, begin), panel, width, z)


@register_jitable
def _forward(inputs, order, first, low, high, step, net, memory, ld_x, MR, NR):
    """All stages for rows ``low`` to ``high`` of the batch."""
    work = memory.work
    for s in range(net.stages.shape[0]):
        stage = net.stages[s]
        k, m, y, ld = stage[INPUTS], stage[OUTPUTS], stage[Y], stage[LD]
        if s == 0 and inputs.kind == SPARSE:
            _sparse_forward(inputs, order, first, low, high, net, work)
        else:
            x, ld_before = (0, ld_x) if s == 0 else (net.stages[s - 1, Y], net.stages[s - 1, LD])
            _times_panels(
                high - low, k, m, work, x + low * ld_before, ld_before, net.params, stage[W], y + low * ld, ld, MR, NR
            )
        for r in range(low, high):
            z = address(work, y + r * ld)
            forward_bias_row(stage[CODE], m, z, address(net.params, stage[B]), z)
            _drop(s + 1, step, r, m, net, z)


@register_jitable
def _hit(work, out, classes, targets, source):
    """Whether the largest output is that of the class index, or of the target row's largest number."""
    best, wanted = 0, 0
    for j in range(1, classes):
        if work[out + j] > work[out + best]:
            best = j
        if targets.rows.size > 0 and targets.rows[source, j] > targets.rows[source, wanted]:
            wanted = j
    return best == (targets.labels[source] if targets.labels.size > 0 else wanted)


@register_jitable
def _metric(code, threshold, work, out, spare, classes, targets, source):
    """One metric of one row, the mean over its outputs; ``spare`` may be overwritten."""
    if code == ACCURACY:
        return 1.0 if _hit(work, out, classes, targets, source) else 0.0
    if code == BINARY_ACCURACY:
        hits = 0.0
        for j in range(classes):
            side = 1.0 if work[out + j] > threshold else 0.0
            hits += 1.0 if targets.rows[source, j] == side else 0.0
        return hits / classes
    t = address(targets.rows, source * classes)
    one = work.dtype.type(1)
    return np.float64(loss_row(code, classes, address(work, out), t, one, address(work, spare))) / classes


@register_jitable
def _score(n, r, source, net, rules, targets, memory, batch):
    """Metrics, loss and the gradient by the last stage's logits (softmax) or its pre-activation, for one row of n."""
    work, figures = memory.work, memory.figures
    last = net.stages[net.stages.shape[0] - 1]
    classes, out, slope = last[OUTPUTS], last[Y] + r * last[LD], last[DZ] + r * last[LD]
    for q in range(rules.metrics.size):
        code = rules.metrics[q]
        figures[(q + 1) * batch + r] = _metric(code, rules.threshold, work, out, slope, classes, targets, source)
    number = work.dtype.type
    weight = targets.weights[source] if targets.weights.size > 0 else number(1)
    y, dz = address(work, out), address(work, slope)
    if rules.loss == SOFTMAX_CROSS_ENTROPY:
        share = weight / number(n)
        top, mass = softmax_row(classes, y, share, dz)
        log_sum = top + number(np.log(mass))
        if targets.labels.size > 0:
            label = targets.labels[source]
            work[slope + label] -= share
            figures[r] = weight * (log_sum - work[out + label])
        else:
            loss, _ = cross_entropy_row(classes, y, log_sum, address(targets.rows, source * classes), share, dz)
            figures[r] = weight * loss
    else:
        share = weight / number(n * classes) if rules.mean else weight
        loss = loss_row(rules.loss, classes, y, address(targets.rows, source * classes), share, dz)
        figures[r] = weight * loss / number(classes) if rules.mean else weight * loss * number(n)
        backward_row(last[CODE], classes, dz, y, dz)


@register_jitable
def _backward(low, high, step, net, memory, MR, NR):
    """dZ of every stage but the last, for rows ``low`` to ``high`` of the batch."""
    work = memory.work
    for back in range(net.stages.shape[0] - 1):
        s = net.stages.shape[0] - 1 - back
        stage, before = net.stages[s], net.stages[s - 1]
        k, m, ld, ld_before = stage[INPUTS], stage[OUTPUTS], stage[LD], before[LD]
        dz, dx = stage[DZ] + low * ld, before[DZ] + low * ld_before
        _times_panels(high - low, m, k, work, dz, ld, work, stage[WT], dx, ld_before, MR, NR)
        threshold, seed, stream = net.masks[s, THRESHOLD], net.masks[s, SEED], net.masks[s, STREAM]
        scale, kept = net.scales[s, SCALE], net.scales[s, KEPT]
        for r in range(low, high):
            at, y = address(work, before[DZ] + r * ld_before), address(work, before[Y] + r * ld_before)
            if threshold > 0:
                dropout_backward_row(before[CODE], threshold, seed, stream, step, r, k, at, y, scale, kept, at)
            else:
                backward_row(before[CODE], k, at, y, at)


@register_jitable
def _first_from(indices, begin, end, feature):
    """First place in [begin, end) whose index is not below ``feature``; the indices rise."""
    while begin < end:
        middle = (begin + end) // 2
        if indices[middle] < feature:
            begin = middle + 1
        else:
            end = middle
    return begin


@register_jitable
def _sort_by_feature(inputs, order, first, n, f0, f1, place, step, rules, memory):
    """The batch's non-zeros of the features [f0, f1), feature by feature, from ``place`` on: a counting sort."""
    begins, ends, touched = memory.runs[0], memory.runs[1], memory.runs[2]
    indptr, indices = inputs.indptr, inputs.indices
    for f in range(f0, f1):
        ends[f] = 0
    for r in range(n):
        row = order[first + r]
        begin = _first_from(indices, indptr[row], indptr[row + 1], f0)
        for e in range(begin, _first_from(indices, begin, indptr[row + 1], f1)):
            ends[np.uint64(indices[e])] += 1  # unsigned: no check for an index from the end
    for f in range(f0, f1):
        found = ends[f]
        begins[f] = ends[f] = place
        place += found
        if found > 0 and rules.lazy:
            memory.decay[f] = rules.rho ** (step - 1 - touched[f])
            touched[f] = step
    for r in range(n):
        row = order[first + r]
        begin = _first_from(indices, indptr[row], indptr[row + 1], f0)
        for e in range(begin, _first_from(indices, begin, indptr[row + 1], f1)):
            feature = np.uint64(indices[e])
            at = np.uint64(ends[feature])
            ends[feature] += 1
            memory.rows[at] = r
            memory.values[at] = inputs.values[np.uint64(e)]


@register_jitable
def _prefetch(inputs, order, low, high):
    """Ask for the non-zeros of the samples order[low : high]: they lie anywhere in memory."""
    for i in range(low, high):
        begin = inputs.indptr[order[i]]
        count = inputs.indptr[order[i] + 1] - begin
        prefetch_row(count, address(inputs.indices, begin), address(inputs.values, begin))


@register_jitable
def _update(net, rules, work, w, g, count):
    """The optimizer's step on ``count`` weights from ``w`` on, their gradient at ``g`` in scratch memory."""
    s0, s1, s2 = address(net.s0, w), address(net.s1, w), address(net.s2, w)
    update_row(rules.step, count, address(net.params, w), address(work, g), s0, s1, s2, address(rules.hyper, 0))


@register_jitable
def _penalize(l1, l2, net, work, w, g, spare, count):
    """Add the penalty's derivative to the gradient at ``g``; the penalty."""
    if l1 == 0.0 and l2 == 0.0:
        return 0.0
    value = penalty_row(count, address(net.params, w), l1, l2, address(work, spare))
    add_row(count, address(work, g), address(work, spare), address(work, g))
    return np.float64(value)


@register_jitable
def _update_sparse(low, high, width, panel, dz, ld, net, rules, memory, buffer, MR, NR):
    """Rows ``low`` to ``high`` of a panel of the first stage, from the batch's non-zeros by feature; the penalty."""
    work, runs, penalty = memory.work, memory.runs, 0.0
    l1, l2 = net.penalties[0, 0], net.penalties[0, 1]
    for f in range(low, high):
        begin, end = runs[0, f], runs[1, f]
        if begin < end or not rules.lazy:
            w = panel + f * net.stages[0, PANEL]
            if rules.lazy and memory.decay[f] != 1.0:
                scale_row(width, address(net.s0, w), memory.decay[f])
            g = address(work, buffer)
            sparse_row(
                end - begin, address(memory.rows, begin), address(memory.values, begin), address(work, dz), ld, g
            )
            penalty += _penalize(l1, l2, net, work, w, buffer, buffer + MR * NR, width)
            _update(net, rules, work, w, buffer, width)
    return penalty


@register_jitable
def _update_dense(s, n, low, high, width, panel, x, ld_x, dz, ld, net, rules, memory, buffer, MR, NR):
    """Rows ``low`` to ``high`` of a panel: each tile of dW = X.T @ dZ goes straight into the update; the penalty.

    A tile's rows lie end to end in the panel and in the buffer, so one call updates them all, padding included: its
    weights, gradients and states are 0 and stay so.
    """
    work, penalty = memory.work, 0.0
    if width < NR:
        work[buffer : buffer + MR * NR] = 0
    tiles = (high - low + MR - 1) // MR
    for i in range(tiles):
        a, b = low + i * (high - low) // tiles, low + (i + 1) * (high - low) // tiles
        c = address(work, buffer)
        gemm_tile(b - a, width, n, address(work, x + a), 1, ld_x, address(work, dz), ld, c, NR, 0)
        w, count = panel + a * NR, (b - a) * NR
        penalty += _penalize(net.penalties[s, 0], net.penalties[s, 1], net, work, w, buffer, buffer + MR * NR, count)
        _update(net, rules, work, w, buffer, count)
    return penalty


@register_jitable
def _update_bias(s, n, j, width, dz, ld, net, rules, memory, buffer, MR, NR):
    """``width`` biases from column j on: db = ones.T @ dZ, the ones being one number with strides of 0; the penalty."""
    work = memory.work
    one = buffer + 2 * MR * NR
    work[one] = work.dtype.type(1)
    for c in range(0, width, NR):
        count = min(NR, width - c)
        gemm_tile(1, count, n, address(work, one), 0, 0, address(work, dz + c), ld, address(work, buffer + c), NR, 0)
    w = net.stages[s, B] + j
    penalty = _penalize(net.penalties[s, 2], net.penalties[s, 3], net, work, w, buffer, buffer + MR * NR, width)
    _update(net, rules, work, w, buffer, width)
    return penalty


@register_jitable
def _transpose(net, panel, low, high, j, width, work, at, m, NR, VL):
    """Rows ``low`` to ``high`` of a panel, columns j on, into the transposed panels [K/NR, m, NR]."""
    for k in range(low, high, VL):
        target = at + (k // NR * m + j) * NR + k % NR
        for c in range(0, width, VL):
            source = address(net.params, panel + k * NR + c)
            transpose_block(min(VL, high - k), min(VL, width - c), source, NR, address(work, target + c * NR), NR)


@register_jitable
def _update_unit(s, p, block, n, kind, net, rules, memory, ld_x, buffer, MR, NR, VL):
    """One unit of the update, with its share of the bias and of the transposed weights; the penalty."""
    stage = net.stages[s]
    k, m, ld = stage[INPUTS], stage[OUTPUTS], stage[LD]
    j = p * stage[PANEL]
    width = min(stage[PANEL], m - j)
    low, high = block * UNIT_ROWS, min(k, (block + 1) * UNIT_ROWS)
    dz, panel = stage[DZ] + j, stage[W] + j * k
    if s == 0 and kind == SPARSE:
        penalty = _update_sparse(low, high, width, panel, dz, ld, net, rules, memory, buffer, MR, NR)
    else:
        x, ld_before = (0, ld_x) if s == 0 else (net.stages[s - 1, Y], net.stages[s - 1, LD])
        penalty = _update_dense(s, n, low, high, width, panel, x, ld_before, dz, ld, net, rules, memory, buffer, MR, NR)
    if block == 0 and stage[HAS_BIAS]:
        penalty += _update_bias(s, n, j, width, dz, ld, net, rules, memory, buffer, MR, NR)
    if s > 0:
        _transpose(net, panel, low, high, j, width, memory.work, stage[WT], m, NR, VL)
    return penalty


@register_jitable
def _catch_up(step, net, rules, memory):
    """Let the state of every row decay to ``step``."""
    stage = net.stages[0]
    k, m = stage[INPUTS], stage[OUTPUTS]
    width = stage[PANEL]
    for f in range(k):
        missed = step - memory.runs[2, f]
        memory.runs[2, f] = step
        if missed > 0:
            for p in range((m + width - 1) // width):
                scale_row(width, address(net.s0, stage[W] + (p * k + f) * width), rules.rho**missed)


def _signature(dtype: Any) -> Any:
    size, sizes, reals, wide = types.int64, flat(types.int64), flat(dtype), flat(types.float64)
    indices = flat(types.int32)
    fields = {
        Inputs: (size, matrix(dtype), matrix(types.uint8), dtype, dtype, sizes, indices, reals),
        Targets: (sizes, matrix(dtype), reals),
        Network: (matrix(types.int64), matrix(dtype), matrix(types.int64), matrix(dtype), reals, reals, reals, reals),
        Rules: (size, size, sizes, dtype, size, reals, wide, size, dtype),
        Scratch: (reals, wide, matrix(types.int64), reals, indices, reals),
    }
    tuples = [types.NamedTuple(kinds, cls) for cls, kinds in fields.items()]
    return size(*tuples, sizes, size, size, size, wide, size)


@kernel(_signature)
def train(MR: int, NR: int, parallel: bool, SOURCE: int) -> Any:
    """train(inputs, targets, net, rules, memory, order, batch, step, settle, sums, tasks) -> steps made before and now.

    ``step`` is the number of steps that the optimizer has made before; ``sums`` receives the sums over samples of
    loss, penalty and metrics. A batch whose loss is not finite is not trained on and ends the epoch. With ``settle``
    the state that ``Rules.lazy`` left behind is brought up to date before the return.
    """

    def train(inputs, targets, net, rules, memory, order, batch, step, settle, sums, tasks):
        _ = (SOURCE, parallel)
        stages, figures, work = net.stages, memory.figures, memory.work
        VL = NR // NV
        features = stages[0, INPUTS]
        ld_x = stages[0, Y] // batch
        capacity = memory.rows.size // tasks
        units = 0
        for s in range(stages.shape[0]):
            units += (
                (stages[s, OUTPUTS] + stages[s, PANEL] - 1)
                // stages[s, PANEL]
                * ((stages[s, INPUTS] + UNIT_ROWS - 1) // UNIT_ROWS)
            )
        penalties = (1 + rules.metrics.size) * batch  # the units' penalties lie behind the rows' figures
        for first in range(0, order.size, batch):
            n = min(batch, order.size - first)
            for t in prange(tasks):
                low, high = t * n // tasks, (t + 1) * n // tasks
                if inputs.kind == SPARSE:
                    f0, f1 = t * features // tasks, (t + 1) * features // tasks
                    _sort_by_feature(inputs, order, first, n, f0, f1, t * capacity, step + 1, rules, memory)
                else:
                    _gather(inputs, order, first, low, high, step, net, work, ld_x)
                _forward(inputs, order, first, low, high, step, net, memory, ld_x, MR, NR)
                for r in range(low, high):
                    _score(n, r, order[first + r], net, rules, targets, memory, batch)
                _backward(low, high, step, net, memory, MR, NR)
            loss = 0.0
            for r in range(n):
                loss += figures[r]
            if not np.isfinite(loss):
                break
            step += 1
            if rules.adam[0] > 0.0:
                corrections = 1.0 - rules.adam[1] ** step, 1.0 - rules.adam[2] ** step
                rules.hyper[0] = rules.adam[0] * np.sqrt(corrections[1]) / corrections[0]
            for t in prange(tasks):
                buffer = work.size - (t + 1) * (2 * MR + 1) * NR
                if inputs.kind == SPARSE:  # the next batch's, while this one's update computes
                    start = first + batch
                    left = max(0, min(batch, order.size - start))
                    _prefetch(inputs, order, start + t * left // tasks, start + (t + 1) * left // tasks)
                s, passed = 0, 0
                for u in range(t * units // tasks, (t + 1) * units // tasks):
                    blocks = (stages[s, INPUTS] + UNIT_ROWS - 1) // UNIT_ROWS
                    inside = (stages[s, OUTPUTS] + stages[s, PANEL] - 1) // stages[s, PANEL] * blocks
                    while u - passed >= inside:
                        passed += inside
                        s += 1
                        blocks = (stages[s, INPUTS] + UNIT_ROWS - 1) // UNIT_ROWS
                        inside = (stages[s, OUTPUTS] + stages[s, PANEL] - 1) // stages[s, PANEL] * blocks
                    p, block = (u - passed) // blocks, (u - passed) % blocks
                    figures[penalties + u] = _update_unit(
                        s, p, block, n, inputs.kind, net, rules, memory, ld_x, buffer, MR, NR, VL
                    )
            sums[0] += loss
            for u in range(units):
                sums[1] += figures[penalties + u] * n
            for q in range(rules.metrics.size):
                for r in range(n):
                    sums[2 + q] += figures[(q + 1) * batch + r]
        if inputs.kind == SPARSE and rules.lazy and settle:
            _catch_up(step, net, rules, memory)
        return step

    return train


@kernel(lambda dtype: types.void(matrix(dtype, readonly=True), flat(types.int64), types.int64))
def _count_rows(MR: int, NR: int, parallel: bool, SOURCE: int) -> Any:
    def count_rows(x, counts, tasks):
        _ = (SOURCE, parallel)
        n, k = x.shape
        for t in prange(tasks):
            for i in range(t * n // tasks, (t + 1) * n // tasks):
                found = 0
                for j in range(k):
                    found += x[i, j] != 0
                counts[i] = found

    return count_rows


def _compress_signature(dtype: Any) -> Any:
    return types.void(matrix(dtype, readonly=True), flat(types.int64), flat(types.int32), flat(dtype), types.int64)


@kernel(_compress_signature)
def _compress_rows(MR: int, NR: int, parallel: bool, SOURCE: int) -> Any:
    def compress_rows(x, indptr, indices, values, tasks):
        _ = (SOURCE, parallel)
        n, k = x.shape
        for t in prange(tasks):
            for i in range(t * n // tasks, (t + 1) * n // tasks):
                at, end = np.uint64(indptr[i]), np.uint64(indptr[i + 1])
                for j in range(k):  # written always, kept if not zero: no branch to mispredict
                    if at == end:
                        break
                    number = x[i, j]
                    indices[at] = j
                    values[at] = number
                    at += np.uint64(number != 0)

    return compress_rows


# Numbers that are converted at a time on the way to CSR: they stay in L2.
_CHUNK = 1 << 17


def to_csr(x: Any, dtype: Any = None) -> tuple[Any, Any, Any]:
    """(indptr, indices, values) of the non-zeros of an array (n, k), values as ``dtype`` (float32 or float64).

    Numbers of another dtype are converted a few rows at a time: the whole array is never held as ``dtype``.
    """
    kind = np.dtype(dtype or x.dtype)
    as_is = x.dtype == kind and x.flags.c_contiguous
    rows = max(1, len(x) if as_is else _CHUNK // max(1, x.shape[1]))
    parts = [slice(i, min(i + rows, len(x))) for i in range(0, len(x), rows)]
    indptr = np.zeros(len(x) + 1, np.int64)
    for part in parts:
        numbers = np.ascontiguousarray(x[part], kind)
        _count_rows(kind, 0.3 * numbers.size, numbers, indptr[1:][part])
    np.cumsum(indptr, out=indptr)
    indices, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], kind)
    for part in parts:
        numbers = np.ascontiguousarray(x[part], kind)
        _compress_rows(kind, 0.3 * numbers.size, numbers, indptr[part.start : part.stop + 1], indices, values)
    return indptr, indices, values
