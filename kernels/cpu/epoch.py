"""A whole training epoch of a stack of dense layers in one compiled call.

A team runs it. A batch has two parts, behind each of which the tasks wait for one another:

1. each task takes a range of the batch's rows through gather, forward pass, loss, metrics and backward pass: rows do
   not depend on one another, so nothing waits inside. Where the inputs are sparse, the tasks sort the batch's non-zeros
   by feature beforehand, and may share the first stage by panels;
2. each task takes a range of units (stage, panel, block of ``UNIT_ROWS`` rows of W): a tile of dW = X.T @ dZ is formed
   in a buffer that stays in L1 and goes straight into the optimizer's update of the weights. dW is never written whole,
   unless gradients are to be clipped by their norms: then this part runs twice, first for all gradients and the
   squares of each unit's, then for the steps.

A stage is a dense layer or an activation alone; its sizes, activation, dropout, loss and optimizer are numbers read at
run time, so that one compiled function serves every network. Weights live in panels (``Layout``), so that both parts
walk them in order.

Rows of W that belong to features which a batch does not have get no gradient. Under plain SGD nothing happens to them;
under RMSprop without momentum their mean square only decays, which a power of rho makes up for when the row is next
touched, and at the end of the epoch: exact but for rounding. Any other optimizer, a penalty or weight decay moves
every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import register_jitable

from fastnn.kernels.cpu.jit import flat, matrix, team_kernel
from fastnn.kernels.cpu.machine import LINE, NV, caches, tile
from fastnn.kernels.cpu.simd import (
    CODES,
    LOSS_CODES,
    SPARSE_TILES,
    add_penalty_row,
    address,
    argmax_row,
    backward_row,
    clip_row,
    copy_rows,
    couple_row,
    cross_entropy_row,
    dropout_backward_row,
    dropout_row,
    forward_bias_row,
    forward_row,
    gemm_tile,
    gemm_tile_pairs,
    label_row,
    loss_row,
    pair_columns,
    pair_rows,
    pointer,
    prefetch,
    prefetch_row,
    probability_loss_row,
    scale_row,
    softmax_row,
    sparse_row,
    sparse_rows,
    sparse_update,
    squares_row,
    transpose_block,
    update_row,
    widen_row,
)
from fastnn.kernels.cpu.team import wait

# Rows of W in a unit of the update: a multiple of every tile height and of every vector length.
UNIT_ROWS = 96

# Depth of a block of a product: KC * NR numbers of a panel stay in L2.
_KC = 2048

# A block of features of a sparse first stage: its rows of a panel fill L1 this many times over, since a batch uses but
# some of them, and a sample has this many non-zeros in it at least. For MNIST (784 features, 150 non-zeros) one block
# took 1.3 times as long as two, five 1.2 times.
_BLOCK_OF_L1 = 4
_SEGMENT = 48

# Samples ahead of its use that a sample's non-zeros are asked for: from memory that no cache of this core holds, they
# take as long to come as a few samples to sort.
_AHEAD = 16
_GATHER_AHEAD = 2

# What work costs, in units of adding one sample's part to the gradient of a row of a panel from non-zeros: to update a
# row that a batch touches, and to add one sample's part in a dense product; in units of the last, to update a row
# there. Only for even shares: with these, tasks wait for one another 1 us a batch of MNIST's.
_UPDATE_COST = 60.0
_DENSE_COST, _DENSE_UPDATE_COST = 0.3, 125.0

# Columns of the stage table; see ``Layout.stages``.
INPUTS, OUTPUTS, CODE, NEEDS, PANEL, UNITS, W, B, WT, Y, LD, DZ, PAIRS, WP, XR, XC, GR, GC = range(18)

# Columns of the table of arrays, which are parameters or parts of the optimizer's state: the address of an array (K, N)
# as others see it, that of its panels, K (1 for a bias), N and the width of the panels.
ADDRESS, PANELS, ROWS, COLUMNS, WIDTH = range(5)

# Columns of ``Scratch.bounds``.
BEGIN, END, BLOCKS = range(3)

# Rows of ``Scratch.runs``.
FIRST, LAST, PLACES = range(3)

# What in a stage needs its gradient: bits of NEEDS.
KERNEL, BIAS, OUTPUT_PENALTY = 1, 2, 4

# The code of an activation that leaves numbers as they are.
IDENTITY = CODES["identity"]

# Columns of the network's masks and of their scales.
THRESHOLD, SEED, STREAM = range(3)
SCALE, KEPT = range(2)

# Kinds of inputs.
DENSE, BYTES, SPARSE, EXPANDED = range(4)

# Codes of the losses and metrics of a row of outputs.
SOFTMAX_CROSS_ENTROPY, CROSS_ENTROPY, ACCURACY, BINARY_ACCURACY, TOP_K = range(-5, 0)
FIGURES = {
    **LOSS_CODES,
    "softmax_cross_entropy": SOFTMAX_CROSS_ENTROPY,
    "cross_entropy": CROSS_ENTROPY,
    "accuracy": ACCURACY,
    "binary_accuracy": BINARY_ACCURACY,
    "top_k": TOP_K,
}

# The loss of a batch from those of its rows, each times its weight: divided by their number, by nothing, by the sum of
# their weights.
MEAN, SUM, WEIGHTED_MEAN = range(3)

# Ways to clip gradients: not at all, number by number, by the norm of each parameter's, by that of all together.
NO_CLIP, CLIP_VALUE, CLIP_NORM, CLIP_GLOBAL_NORM = range(4)

# What the second part does: gradients, steps, or both tile by tile.
GRADIENTS, STEPS, WHOLE = range(3)

# Powers of a decay that are kept: a feature seldom stays away for more batches.
POWERS = 64

# Figures of a unit: its penalty, the sums of squares of the gradients of its weights and of its biases.
UNIT_FIGURES = 3


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
    """Class indices or rows of numbers, one of them empty, and the samples' weights or an empty array.

    The loss compares outputs with ``goals``: the rows, or what became of them (label smoothing).
    """

    labels: Any
    rows: Any
    goals: Any
    weights: Any


class Network(NamedTuple):
    """Stages, and by stage the L1 and L2 penalties of kernel, bias and outputs; parameters and the optimizer's state.

    ``units`` is the number of units of the update. No gradient is needed below stage ``first``.
    ``masks`` holds what dropout on the inputs (row 0) and on the outputs of each stage draws from, see ``dropout_row``,
    a threshold of 0 where there is none; ``scales`` how much it scales what it keeps, and the inverse of that.
    """

    stages: Any
    units: Any
    first: Any
    penalties: Any
    masks: Any
    scales: Any
    params: Any
    s0: Any
    s1: Any
    s2: Any


class Rules(NamedTuple):
    """How to train: codes of loss, metrics and optimizer with its hyper-parameters.

    ``outputs`` divides the sum of the losses of a row's outputs; ``reduction`` says how the loss of a batch is made of
    its rows'. ``numbers`` are the metrics' own: a threshold, a k, for a loss what divides it. Metrics from ``plain``
    on count by the samples' weights. They look at the rows from ``seen`` on in scratch memory: the last stage's
    outputs, or these through the ``activation`` that the loss has taken into itself.

    Weights are multiplied by ``shrink`` before a step, gradients clipped to ``limit`` in the way of ``clip``.
    ``adam`` is (rate, beta_1, beta_2), zeros for other optimizers: its first hyper-parameter depends on the step.
    ``lazy`` leaves rows without gradient for later, their state decaying by ``rho`` a step.
    ``coupled`` lets features f and f + 1, f even, share their entries of non-zeros: pixels are seldom alone.
    Only for an even number of features, whose gradients go into the step as they are.
    """

    loss: Any
    outputs: Any
    reduction: Any
    metrics: Any
    numbers: Any
    plain: Any
    seen: Any
    activation: Any
    shrink: Any
    clip: Any
    limit: Any
    step: Any
    hyper: Any
    adam: Any
    lazy: Any
    rho: Any
    coupled: Any


class Scratch(NamedTuple):
    """Memory of a fit: batches and buffers, figures by row, and the non-zeros of a batch by feature.

    Behind the rows' figures lie those of the units, then by stage what the gradients of kernel and bias are multiplied
    with. ``gradients`` has the layout of the parameters where gradients are clipped by their norms, else it is empty.
    ``bounds`` tells for each row of a batch where the entries begin and end that are sorted, then where those in each
    block of features of the first stage begin, and where they end. ``runs`` holds for each feature where its entries
    begin and end when they are sorted, the step that last touched it, and for each task how many of its rows have it,
    then where the next of them belongs; ``decay`` what the feature's state has to be multiplied with, and behind all
    features the first ``POWERS`` powers of ``Rules.rho``. ``cuts`` tells where each task's share of the units begins.
    ``rows`` and ``values`` are the entries by feature, ``evens`` and ``couples`` those of ``Rules.coupled`` by sample.
    """

    work: Any
    gradients: Any
    figures: Any
    bounds: Any
    cuts: Any
    runs: Any
    touched: Any
    decay: Any
    rows: Any
    values: Any
    evens: Any
    couples: Any


@dataclass(frozen=True)
class Layout:
    """Where a network's numbers lie in one array of parameters and one of scratch memory.

    The weights of a stage (K inputs, N outputs) are panels [N/NR, K, NR], zeros in the columns beyond N, then the
    bias, padded likewise; the panels of a sparse first stage are ``SPARSE_TILES`` tiles wide; a stage without weights
    has panels of no columns. Scratch memory holds the gathered inputs of a batch, then for every stage its outputs,
    their gradient, and above the first stage that needs it the transposed weights as panels [K/NR, N, NR].

    With ``pairs`` the products are those of bfloat16 numbers (``simd.gemm_tile_pairs``), but for a sparse first stage:
    the transposed weights are panels [K/NR, N/2, NR] of pairs, and scratch memory also holds the weights as panels
    [N/NR, K/2, NR] of pairs (WP), and a stage's inputs (XR, XC) and its gradient (GR, GC) as pairs of neighbours in a
    row, for products that sum over columns, and of neighbours in a column, for those that sum over the batch.
    """

    sizes: tuple[int, ...]
    batch: int
    itemsize: int
    sparse: bool = False
    pairs: bool = False

    @property
    def rows(self) -> int:
        """Rows of a batch in scratch memory: even, so that each row has a neighbour."""
        return self.batch + self.batch % 2

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

    def stages(self, codes: Sequence[int], weights: Sequence[bool], needs: Sequence[int]) -> tuple[Any, int, int]:
        """(stage table, size of the parameters, size of scratch memory without the tasks' buffers)."""
        table = np.zeros((len(codes), GC + 1), np.int64)
        table[:, NEEDS] = needs
        taken = {"parameters": 0, "scratch": self.rows * self.leading(self.sizes[0])}

        def place(kind: str, size: int) -> int:
            taken[kind] += size
            return taken[kind] - size

        for s, (row, code, dense) in enumerate(zip(table, codes, weights, strict=True)):
            k, n = self.sizes[s], self.sizes[s + 1]
            row[[INPUTS, OUTPUTS, CODE, LD]] = k, n, code, self.leading(n)
            row[Y], row[DZ] = (place("scratch", self.rows * int(row[LD])) for _ in range(2))
            if not dense:
                continue
            panel, pairs = self.panel(s), self.pairs and not (s == 0 and self.sparse)
            row[PANEL], row[PAIRS] = panel, pairs
            row[UNITS] = -(-n // panel) * -(-k // UNIT_ROWS) if row[NEEDS] & (KERNEL | BIAS) else 0
            row[W] = place("parameters", self.padded(n, panel) * k)
            row[B] = place("parameters", self.padded(n, panel))
            if s > self.first(table):
                row[WT] = place("scratch", self.padded(k, self.NR) * (-(-n // 2) if pairs else n))
            if pairs:
                row[WP] = place("scratch", self.padded(n, panel) * -(-k // 2))
                row[XR], row[XC] = (place("scratch", self.rows * self.leading(k) // 2) for _ in range(2))
                row[GR], row[GC] = (place("scratch", self.rows * int(row[LD]) // 2) for _ in range(2))
        return table, taken["parameters"], taken["scratch"]

    def bounds(self, rows: int, non_zeros: float) -> Any:
        """``Scratch.bounds`` of so many rows, for samples with so many non-zeros."""
        size = self.sizes[0] * self.panel(0) * self.itemsize
        blocks = max(1, min(-(-size // (_BLOCK_OF_L1 * caches().l1)), int(non_zeros // _SEGMENT)))
        return np.zeros((rows, BLOCKS + blocks + 1), np.int64)

    def cuts(self, table: Any, tasks: int, frequencies: Any) -> Any:
        """``Scratch.cuts`` for so many tasks; ``frequencies`` are the shares of samples in which features are not zero.

        The frequent words of a text come first: halves of its features are a large and a small share of the work.
        """
        expected = self.batch * frequencies
        touched = 1 - (1 - frequencies) ** self.batch
        units = []
        for s, row in enumerate(table):
            k, blocks = int(row[INPUTS]), -(-int(row[INPUTS]) // UNIT_ROWS)
            if s == 0 and self.sparse:
                work = np.add.reduceat(expected + _UPDATE_COST * touched, np.arange(0, k, UNIT_ROWS))
            else:
                rows = np.minimum(UNIT_ROWS, k - UNIT_ROWS * np.arange(blocks))
                vectors = -(-min(int(row[OUTPUTS]), self.NR) * NV // self.NR) / NV  # of a tile's row, not masked out
                work = _DENSE_COST * rows * (vectors * self.batch / (1 + row[PAIRS]) + _DENSE_UPDATE_COST)
            units.append(np.tile(work, int(row[UNITS]) // max(blocks, 1)))
        return _even(np.concatenate(units), tasks)

    @staticmethod
    def first(table: Any) -> int:
        """The first stage that needs its gradient; the number of stages where none does."""
        return int(np.flatnonzero([*table[:, NEEDS], KERNEL])[0])

    def buffers(self, tasks: int) -> int:
        """Size of the tasks' buffers, which end scratch memory: a tile and a number.

        A row of a sparse panel (SPARSE_TILES <= MR) and a block to transpose (VL * VL <= MR * NR) fit in as well.
        """
        shape = tile(self.itemsize)
        return tasks * (shape.MR + 1) * shape.NR


def _even(work: Any, tasks: int) -> Any:
    """Where to cut a list of pieces of work so that so many neighbouring shares are of equal work: (tasks + 1,)."""
    done = np.concatenate(([0.0], np.cumsum(work)))
    wanted = done[-1] * np.arange(tasks + 1) / tasks
    cuts = np.searchsorted(done, wanted)
    before = np.maximum(cuts - 1, 0)
    cuts = np.where(wanted - done[before] < done[np.minimum(cuts, len(work))] - wanted, before, cuts)
    cuts[0], cuts[-1] = 0, len(work)
    return cuts.astype(np.int64)


# The functions below are compiled into the kernel; offsets name places in `net.params` and `memory.work`.


@register_jitable
def _times_panels(pairs, n, k, m, work, x, ld_x, panels, at, y, ld_y, MR, NR):
    """work[y: n x m] = work[x: n x k] @ panels[at: k x m]; k counts pairs where the numbers are ``pairs``."""
    tiles = (n + MR - 1) // MR
    for p in range((m + NR - 1) // NR):
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


@register_jitable
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


@register_jitable
def _drop(place, step, row, count, net, x):
    """Dropout of ``count`` numbers at x, in place, if there is any at this place of ``Network.masks``."""
    threshold, seed, stream = net.masks[place, THRESHOLD], net.masks[place, SEED], net.masks[place, STREAM]
    if threshold > 0:
        dropout_row(threshold, seed, stream, step, row, count, x, net.scales[place, SCALE], x)


@register_jitable
def _ask_for_entries(inputs, row):
    """Prefetch a sample's non-zeros: they lie anywhere in memory."""
    begin = inputs.indptr[row]
    count = inputs.indptr[row + 1] - begin
    prefetch_row(count, address(inputs.indices, begin), address(inputs.values, begin))


@register_jitable
def _ask_for(inputs, row, width):
    """Prefetch a sample of any kind."""
    if inputs.kind == BYTES:
        for j in range(0, width, LINE):
            prefetch(inputs.bytes, row * width + j)
    elif inputs.kind == DENSE:
        for j in range(0, width, LINE // inputs.dense.itemsize):
            prefetch(inputs.dense, row * width + j)
    else:
        _ask_for_entries(inputs, row)


@register_jitable
def _gather(inputs, order, first, low, high, step, net, work, ld):
    """Rows ``low`` to ``high`` of the batch into scratch memory, in the kernel's dtype, rescaled and dropped from."""
    width, scale, offset = net.stages[0, INPUTS], inputs.scale, inputs.offset
    for r in range(low, min(low + _GATHER_AHEAD, high)):
        _ask_for(inputs, order[first + r], width)
    for r in range(low, high):
        if r + _GATHER_AHEAD < high:
            _ask_for(inputs, order[first + r + _GATHER_AHEAD], width)
        source = order[first + r]
        if inputs.kind == BYTES:
            widen_row(width, address(inputs.bytes, source * width), scale, offset, address(work, r * ld))
        elif inputs.kind == DENSE:
            forward_row(IDENTITY, width, address(inputs.dense, source * width), address(work, r * ld))
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


@register_jitable
def _panels(stage):
    """The number of a stage's panels."""
    return (stage[OUTPUTS] + stage[PANEL] - 1) // stage[PANEL] if stage[PANEL] > 0 else 0


@register_jitable
def _splits_panels(net, tasks):
    """Whether tasks share the first stage's panels, not its rows, where that makes even shares.

    Then W stays in the caches of the core that updates it, and a block of it serves all rows of the batch.
    """
    return tasks > 1 and _panels(net.stages[0]) % tasks == 0


@register_jitable
def _split_rows(inputs, order, first, low, high, net, memory):
    """Where the non-zeros of rows ``low`` to ``high`` of the batch begin that belong to each block of features."""
    k, bounds = net.stages[0, INPUTS], memory.bounds
    blocks = bounds.shape[1] - BLOCKS - 1
    for r in range(low, high):
        row = order[first + r]
        end = inputs.indptr[row + 1]
        bounds[r, BLOCKS], bounds[r, BLOCKS + blocks] = inputs.indptr[row], end
        for q in range(1, blocks):
            begin = bounds[r, BLOCKS + q - 1]
            bounds[r, BLOCKS + q] = _first_from(inputs.indices, begin, end, q * k // blocks)


@register_jitable
def _sparse_forward(inputs, low, high, p0, p1, net, memory):
    """First stage of rows ``low`` to ``high`` from their non-zeros, panels ``p0`` to ``p1``.

    Panel by panel, and in a panel by blocks of features: a block's rows of W stay in L1 while all samples use them. The
    last panel comes first: the update left it in L2, and finds there what is used last here.
    """
    stage, bounds = net.stages[0], memory.bounds
    k, y, ld, width = stage[INPUTS], stage[Y], stage[LD], stage[PANEL]
    columns = bounds.shape[1]
    for p in range(p1 - 1, p0 - 1, -1):
        panel = address(net.params, stage[W] + p * k * width)
        for q in range(columns - BLOCKS - 1):
            z = address(memory.work, y + low * ld + p * width)
            sparse_rows(
                high - low, address(bounds, low * columns + BLOCKS + q), columns,
                address(inputs.indices, 0), address(inputs.values, 0), panel, z, ld, q,
            )  # fmt: skip


@register_jitable
def _forward(inputs, n, low, high, step, net, memory, ld_x, made, MR, NR):
    """All stages for rows ``low`` to ``high`` of the batch of n; the first one's product may have been ``made``."""
    work, rows = memory.work, high - low
    for s in range(net.stages.shape[0]):
        stage = net.stages[s]
        k, m, y, ld = stage[INPUTS], stage[OUTPUTS], stage[Y], stage[LD]
        x, ld_before = (0, ld_x) if s == 0 else (net.stages[s - 1, Y], net.stages[s - 1, LD])
        z = y + low * ld
        if stage[PANEL] == 0:
            for r in range(low, high):
                forward_row(stage[CODE], m, address(work, x + r * ld_before), address(work, y + r * ld))
                _drop(s + 1, step, r, m, net, address(work, y + r * ld))
            continue
        if s == 0 and inputs.kind == SPARSE:
            if not made:
                _sparse_forward(inputs, low, high, 0, _panels(stage), net, memory)
        elif stage[PAIRS]:
            _pair(n, low, high, k, x, ld_before, stage[XR], stage[XC], work)
            half = ld_before // 2
            _times_panels(
                True, rows, (k + 1) // 2, m, work, stage[XR] + low * half, half, work, stage[WP], z, ld, MR, NR
            )
        else:
            _times_panels(False, rows, k, m, work, x + low * ld_before, ld_before, net.params, stage[W], z, ld, MR, NR)
        for r in range(low, high):
            z = address(work, y + r * ld)
            forward_bias_row(stage[CODE], m, z, address(net.params, stage[B]), z)
            _drop(s + 1, step, r, m, net, z)


@register_jitable
def _row_loss(code, classes, work, out, slope, labels, rows, source, share):
    """Sum of a loss over one row of outputs; its derivative times ``share`` at ``slope``."""
    y, dy = address(work, out), address(work, slope)
    if code >= 0:
        return loss_row(code, classes, y, address(rows, source * classes), share, dy)
    if code == CROSS_ENTROPY:
        if labels.size == 0:
            return probability_loss_row(classes, y, address(rows, source * classes), share, dy)
        work[slope : slope + classes] = 0
        work[slope + labels[source]] = 1
        return probability_loss_row(classes, y, dy, share, dy)
    if labels.size > 0:
        return label_row(classes, y, labels[source], share, dy)
    top, mass = softmax_row(classes, y, share, dy)
    log_sum = top + work.dtype.type(np.log(mass))
    return cross_entropy_row(classes, y, log_sum, address(rows, source * classes), share, dy)[0]


@register_jitable
def _target(targets, source, classes):
    """The class index, or the place of the target row's largest number."""
    if targets.labels.size > 0:
        return targets.labels[source]
    return argmax_row(classes, address(targets.rows, source * classes))


@register_jitable
def _metric(code, number, work, out, spare, classes, targets, source):
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
    return np.float64(_row_loss(code, classes, work, out, spare, targets.labels, targets.rows, source, one)) / number


@register_jitable
def _score(n, scale, r, source, net, rules, targets, memory, batch):
    """Metrics, loss and the gradient by the last stage's outputs, for one row of n."""
    work, figures = memory.work, memory.figures
    last = net.stages[net.stages.shape[0] - 1]
    classes, out, slope = last[OUTPUTS], last[Y] + r * last[LD], last[DZ] + r * last[LD]
    number = work.dtype.type
    weight = targets.weights[source] if targets.weights.size > 0 else number(1)
    seen = rules.seen + r * last[LD]
    if seen != out:
        forward_row(rules.activation, classes, address(work, out), address(work, seen))
    for q in range(rules.metrics.size):
        value = _metric(rules.metrics[q], rules.numbers[q], work, seen, slope, classes, targets, source)
        figures[(q + 1) * batch + r] = value if q < rules.plain else value * weight
    share = weight * number(scale)
    loss = _row_loss(rules.loss, classes, work, out, slope, targets.labels, targets.goals, source, share)
    figures[r] = np.float64(weight * loss) * scale * n


@register_jitable
def _backward(n, low, high, step, net, memory, MR, NR):
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
                    forward_row(IDENTITY, m, address(work, x + r * ld_after), address(work, dx + r * ld))
            else:
                _times_panels(pairs, high - low, depth, m, work, x, ld_after, work, after[WT], dx, ld, MR, NR)
        if stage[NEEDS] & OUTPUT_PENALTY:  # such a stage drops nothing: y is what the penalty is on
            number = work.dtype.type
            l1, l2 = net.penalties[s, 4] / number(n), net.penalties[s, 5] / number(n)
            for r in range(low, high):
                penalty = add_penalty_row(m, address(work, y + r * ld), l1, l2, address(work, dz + r * ld))
                memory.figures[r] += np.float64(penalty) * n
        threshold, seed, stream = net.masks[s + 1, THRESHOLD], net.masks[s + 1, SEED], net.masks[s + 1, STREAM]
        scale, kept = net.scales[s + 1, SCALE], net.scales[s + 1, KEPT]
        if threshold > 0:
            for r in range(low, high):
                at, out = address(work, dz + r * ld), address(work, y + r * ld)
                dropout_backward_row(stage[CODE], threshold, seed, stream, step, r, m, at, out, scale, kept, at)
        elif stage[CODE] != IDENTITY:
            for r in range(low, high):
                at = address(work, dz + r * ld)
                backward_row(stage[CODE], m, at, address(work, y + r * ld), at)
        if stage[PAIRS]:
            _pair(n, low, high, m, dz, ld, stage[GR], stage[GC], work)


@register_jitable
def _decayed(missed, rules, memory):
    """What is left of a state after ``missed`` steps without a gradient."""
    powers = memory.decay.size - POWERS
    return memory.decay[powers + missed] if missed < POWERS else rules.rho**missed


@register_jitable
def _count(inputs, order, first, low, high, rules, memory, t, place):
    """How many entries rows ``low`` to ``high`` of the batch have of each feature; couples lie from ``place`` on."""
    counts, bounds, indptr = memory.runs[PLACES + t], memory.bounds, inputs.indptr
    features = memory.evens if rules.coupled else inputs.indices
    counts[:] = 0
    for r in range(low, min(low + _AHEAD, high)):
        _ask_for_entries(inputs, order[first + r])
    for r in range(low, high):
        if r + _AHEAD < high:
            _ask_for_entries(inputs, order[first + r + _AHEAD])
        row = order[first + r]
        begin, end = indptr[row], indptr[row + 1]
        if rules.coupled:
            entries, values = address(inputs.indices, begin), address(inputs.values, begin)
            evens, couples = address(memory.evens, place), address(memory.couples, 2 * place)
            begin, end = place, place + couple_row(end - begin, entries, values, evens, couples)
            place = end
        bounds[r, BEGIN], bounds[r, END] = begin, end
        for e in range(begin, end):
            counts[np.uint64(features[np.uint64(e)])] += 1  # unsigned: no check for an index from the end


# The loops over all features of a part are short and without branches, so that LLVM turns them into vectors, and go
# over contiguous slices: indices from 0 on are known not to count from the end. One loop took four times as long.


@register_jitable
def _allot(f0, f1, place, memory, coupled, tasks):
    """Where the entries of the features [f0, f1) belong, from ``place`` on.

    A feature's entries of a task lie behind those of the tasks before. Those of an even feature are also the next one's
    where they are ``coupled``.
    """
    begins, ends = memory.runs[FIRST][f0:f1], memory.runs[LAST][f0:f1]
    ends[:] = 0
    for q in range(tasks):
        counts = memory.runs[PLACES + q][f0:f1]
        for f in range(ends.size):
            ends[f] += counts[f]
    for f in range(ends.size):
        count = ends[f]
        begins[f] = ends[f] = place
        place += count
    for q in range(tasks):
        places = memory.runs[PLACES + q][f0:f1]
        for f in range(ends.size):
            count = places[f]
            places[f] = ends[f]
            ends[f] += count
    if coupled:
        for f in range(0, ends.size, 2):
            begins[f + 1], ends[f + 1] = begins[f], ends[f]


@register_jitable
def _note_touched(f0, f1, step, rules, memory):
    """What the state of the features [f0, f1) is to be multiplied with before ``step``, which touches some of them."""
    begins, ends = memory.runs[FIRST][f0:f1], memory.runs[LAST][f0:f1]
    touched, decay = memory.touched[f0:f1], memory.decay[f0:f1]
    powers = memory.decay[memory.decay.size - POWERS :]
    longest = 0
    for f in range(touched.size):
        missed = step - 1 - touched[f]
        decay[f] = powers[np.uint64(missed if missed < POWERS else POWERS - 1)]
    for f in range(touched.size):
        longest = max(longest, (step - 1 - touched[f]) * np.int64(begins[f] < ends[f]))
    if longest >= POWERS:
        for f in range(touched.size):
            missed = step - 1 - touched[f]
            if missed >= POWERS and begins[f] < ends[f]:
                decay[f] = rules.rho**missed
    for f in range(touched.size):
        touched[f] += (step - touched[f]) * np.int64(begins[f] < ends[f])


@register_jitable
def _scatter(inputs, low, high, rules, memory, t):
    """The entries of rows ``low`` to ``high`` of the batch to where they belong."""
    places, bounds = memory.runs[PLACES + t], memory.bounds
    features = memory.evens if rules.coupled else inputs.indices
    for r in range(low, high):
        for e in range(bounds[r, BEGIN], bounds[r, END]):
            feature = np.uint64(features[np.uint64(e)])
            to = np.uint64(places[feature])
            places[feature] += 1
            memory.rows[to] = r
            if rules.coupled:
                memory.values[2 * to] = memory.couples[np.uint64(2 * e)]
                memory.values[2 * to + 1] = memory.couples[np.uint64(2 * e + 1)]
            else:
                memory.values[to] = inputs.values[np.uint64(e)]


@register_jitable
def _sort_by_feature(inputs, order, first, low, high, f0, f1, step, rules, memory, words, t, tasks):
    """The batch's non-zeros feature by feature: a counting sort. True if the team is to stop.

    Task t has rows ``low`` to ``high`` and features ``f0`` to ``f1``. Nothing waits at the end.
    """
    place = t * (memory.rows.size // tasks)
    _count(inputs, order, first, low, high, rules, memory, t, place)
    if wait(tasks, words):
        return True
    _allot(f0, f1, place, memory, rules.coupled, tasks)
    if rules.lazy:
        _note_touched(f0, f1, step, rules, memory)
    if wait(tasks, words):
        return True
    _scatter(inputs, low, high, rules, memory, t)
    return False


@register_jitable
def _prefetch_targets(targets, order, low, high):
    """Prefetch what the loss compares the outputs of the samples order[low : high] with."""
    for i in range(low, high):
        if targets.labels.size > 0:
            prefetch(targets.labels, order[i])
        else:
            prefetch(targets.rows, order[i] * targets.rows.shape[1])
        if targets.weights.size > 0:
            prefetch(targets.weights, order[i])


@register_jitable
def _gradient(phase, memory, buffer, w):
    """Where the gradient of the weights from ``w`` on belongs."""
    return address(memory.work, buffer) if phase == WHOLE else address(memory.gradients, w)


@register_jitable
def _update(phase, s, q, net, rules, memory, w, g, count, at):
    """What a phase does to ``count`` weights from ``w`` on, their gradient at ``g``: penalty, norm, step.

    They are weights (q = 0) or biases (q = 1) of stage s; ``at`` is the place of the unit's figures.
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
    if rules.shrink != 1.0:
        scale_row(count, weights, rules.shrink)
    if rules.clip == CLIP_VALUE:
        clip_row(count, g, rules.limit)
    s0, s1, s2 = address(net.s0, w), address(net.s1, w), address(net.s2, w)
    update_row(rules.step, count, weights, g, s0, s1, s2, address(rules.hyper, 0))


@register_jitable
def _update_sparse(phase, low, high, width, panel, dz, ld, net, rules, memory, buffer, at):
    """Rows ``low`` to ``high`` of a panel of the first stage, from the batch's non-zeros by feature."""
    work, runs = memory.work, memory.runs
    penalized = net.penalties[0, 0] != 0.0 or net.penalties[0, 1] != 0.0
    if not penalized and rules.clip == NO_CLIP and rules.shrink == 1.0:  # gradients go into the step as they are
        sparse_update(
            rules.step, rules.coupled, low, high, 0 if rules.lazy else 1,
            address(runs[FIRST], 0), address(runs[LAST], 0), address(memory.rows, 0), address(memory.values, 0),
            address(work, dz), ld, address(memory.decay, 0),
            address(net.params, panel), address(net.s0, panel), address(net.s1, panel), address(net.s2, panel),
            address(rules.hyper, 0),
        )  # fmt: skip
        return
    for f in range(low, high):
        begin, end = runs[FIRST, f], runs[LAST, f]
        if begin < end or not rules.lazy:
            w = panel + f * net.stages[0, PANEL]
            if phase != GRADIENTS and rules.lazy and memory.decay[f] != 1.0:
                scale_row(width, address(net.s0, w), memory.decay[f])
            g = _gradient(phase, memory, buffer, w)
            if phase != STEPS:
                indices, values = address(memory.rows, begin), address(memory.values, begin)
                sparse_row(end - begin, indices, values, address(work, dz), ld, g)
            _update(phase, 0, 0, net, rules, memory, w, g, width, at)


@register_jitable
def _update_dense(phase, s, n, low, high, j, width, panel, x, ld_x, net, rules, memory, buffer, at, MR, NR):
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
        _update(phase, s, 0, net, rules, memory, w, g, (b - a) * NR, at)


@register_jitable
def _update_bias(phase, s, n, j, width, dz, ld, net, rules, memory, buffer, at, MR, NR):
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
        _update(phase, s, 1, net, rules, memory, w + c, g, count, at)


@register_jitable
def _clip_by_norm(net, rules, figures, at):
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


@register_jitable
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


@register_jitable
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
            forward_row(IDENTITY, NR, address(params, panel + (high - 1) * NR), address(work, buffer))
            work[buffer + NR : buffer + 2 * NR] = 0
            pair_rows(1, NR, address(work, buffer), NR, address(work, target + whole * NR), NR)


@register_jitable
def _update_unit(phase, s, p, block, n, kind, net, rules, memory, ld_x, buffer, at, MR, NR, VL):
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
            _update_sparse(phase, low, high, width, panel, dz, ld, net, rules, memory, buffer, at)
        else:
            x, ld_x = (0, ld_x) if s == 0 else (net.stages[s - 1, Y], net.stages[s - 1, LD])
            _update_dense(phase, s, n, low, high, j, width, panel, x, ld_x, net, rules, memory, buffer, at, MR, NR)
        if phase != GRADIENTS:
            _copy_unit(s, p, block, net.first, net.stages, net.params, memory.work, buffer, NR, VL)
    if block == 0 and stage[NEEDS] & BIAS:
        _update_bias(phase, s, n, j, width, dz, ld, net, rules, memory, buffer, at, MR, NR)


@register_jitable
def _catch_up(low, high, step, net, rules, memory):
    """Let the state of the rows ``low`` to ``high`` decay to ``step``."""
    stage = net.stages[0]
    k, width = stage[INPUTS], stage[PANEL]
    for f in range(low, high):
        missed = step - memory.touched[f]
        memory.touched[f] = step
        if missed > 0:
            factor = _decayed(missed, rules, memory)
            for p in range(_panels(stage)):
                scale_row(width, address(net.s0, stage[W] + (p * k + f) * width), factor)


@register_jitable
def _load(arrays, net, t, tasks):
    """Task t's share of the rows of all arrays [K, N] into panels [N/width, K, width]."""
    like = net.params
    for a in range(arrays.shape[0]):
        array = arrays[a]
        k, n, width = array[ROWS], array[COLUMNS], array[WIDTH]
        low, high = t * k // tasks, (t + 1) * k // tasks
        for j in range(0, n, width):
            source = pointer(like, array[ADDRESS] + (low * n + j) * like.itemsize)
            target = pointer(like, array[PANELS] + (j * k + low * width) * like.itemsize)
            copy_rows(high - low, min(width, n - j), width, source, n, target)


@register_jitable
def _store(arrays, net, t, tasks):
    """Task t's share of the rows of all panels into the arrays."""
    like = net.params
    for a in range(arrays.shape[0]):
        array = arrays[a]
        k, n, width = array[ROWS], array[COLUMNS], array[WIDTH]
        for i in range(t * k // tasks, (t + 1) * k // tasks):
            for j in range(0, n, width):
                source = pointer(like, array[PANELS] + (j * k + i * width) * like.itemsize)
                target = pointer(like, array[ADDRESS] + (i * n + j) * like.itemsize)
                forward_row(IDENTITY, min(width, n - j), source, target)


@register_jitable
def _copy_units(net, work, t, tasks, MR, NR):
    """Task t's share of the copies of all weights that scratch memory holds."""
    stages, buffer = net.stages, work.size - (t + 1) * (MR + 1) * NR
    for s in range(stages.shape[0]):
        blocks = (stages[s, INPUTS] + UNIT_ROWS - 1) // UNIT_ROWS
        units = _panels(stages[s]) * blocks
        for u in range(t * units // tasks, (t + 1) * units // tasks):
            _copy_unit(s, u // blocks, u % blocks, net.first, stages, net.params, work, buffer, NR, NR // NV)


@register_jitable
def _loss_scale(order, first, n, rules, targets):
    """What the loss of a row is multiplied with, times its weight, to be its part of the batch's."""
    divisor = 1.0 if rules.reduction == SUM else float(n)
    if rules.reduction == WEIGHTED_MEAN:
        divisor = 0.0
        for r in range(n):
            divisor += targets.weights[order[first + r]]
    return 1.0 / (divisor * rules.outputs) if divisor != 0.0 else 0.0


@register_jitable
def _update_units(phase, n, inputs, order, following, net, rules, memory, ld_x, by_unit, t, tasks, MR, NR):
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
            _ask_for(inputs, order[following + i], net.stages[0, INPUTS])
        r = end
        _update_unit(phase, s, p, block, n, inputs.kind, net, rules, memory, ld_x, buffer, at, MR, NR, NR // NV)


def _tuples(dtype: Any) -> list[Any]:
    """Numba's types of Inputs, Targets, Network, Rules and Scratch."""
    size, sizes, reals, wide = types.int64, flat(types.int64), flat(dtype), flat(types.float64)
    indices, whole = flat(types.int32), matrix(types.int64)
    fields = {
        Inputs: (size, matrix(dtype), matrix(types.uint8), dtype, dtype, sizes, indices, reals),
        Targets: (sizes, matrix(dtype), matrix(dtype), reals),
        Network: (
            matrix(types.int64),
            size,
            size,
            matrix(dtype),
            matrix(types.int64),
            matrix(dtype),
            reals,
            reals,
            reals,
            reals,
        ),
        Rules: (
            size,
            size,
            size,
            sizes,
            wide,
            size,
            size,
            size,
            dtype,
            size,
            dtype,
            size,
            reals,
            wide,
            size,
            dtype,
            size,
        ),
        Scratch: (reals, reals, wide, whole, sizes, matrix(types.int32), sizes, reals, indices, reals, indices, reals),
    }
    return [types.NamedTuple(kinds, cls) for cls, kinds in fields.items()]


def _signature(dtype: Any) -> Any:
    size = types.int64
    return size(*_tuples(dtype), flat(size), size, size, matrix(size), size, size, flat(types.float64))


@team_kernel(_signature)
def train(MR: int, NR: int, SOURCE: int) -> Any:
    """train(inputs, targets, net, rules, memory, order, batch, step, arrays, load, store, sums) -> steps made in all.

    ``step`` is the number of steps that the optimizer has made before; ``sums`` receives the sums over samples of
    loss, penalty and metrics. A batch whose loss is not finite is not trained on and ends the epoch. With ``load`` the
    ``arrays`` go into panels first; with ``store``, or where the epoch ends early, the state that ``Rules.lazy`` left
    behind is brought up to date, and the panels go back into the arrays.
    """

    def train(  # noqa: PLR0911 - a team that is told to stop leaves at any barrier
        inputs, targets, net, rules, memory, order, batch, step, arrays, load, store, sums, words, t, tasks
    ):
        _ = SOURCE
        stages, figures = net.stages, memory.figures
        features = stages[0, INPUTS]
        ld_x = stages[0, Y] // (batch + batch % 2)
        sorts = inputs.kind == SPARSE and stages[0, NEEDS] & KERNEL != 0
        by_panels = inputs.kind == SPARSE and _splits_panels(net, tasks)
        f0, f1 = t * features // tasks // 2 * 2, features if t + 1 == tasks else (t + 1) * features // tasks // 2 * 2
        by_unit = (1 + rules.metrics.size) * batch
        if load:
            _load(arrays, net, t, tasks)
            if wait(tasks, words):
                return step
            _copy_units(net, memory.work, t, tasks, MR, NR)
            if wait(tasks, words):
                return step
        for first in range(0, order.size, batch):
            n = min(batch, order.size - first)
            low, high = t * n // tasks // 2 * 2, n if t + 1 == tasks else (t + 1) * n // tasks // 2 * 2
            scale = _loss_scale(order, first, n, rules, targets)
            _prefetch_targets(targets, order, first + low, first + high)
            if inputs.kind == SPARSE:
                _split_rows(inputs, order, first, low, high, net, memory)
            else:
                _gather(inputs, order, first, low, high, step, net, memory.work, ld_x)
            if sorts and _sort_by_feature(
                inputs, order, first, low, high, f0, f1, step + 1, rules, memory, words, t, tasks
            ):
                return step
            if by_panels:
                if not sorts and wait(tasks, words):
                    return step
                panels = _panels(stages[0])
                _sparse_forward(inputs, 0, n, t * panels // tasks, (t + 1) * panels // tasks, net, memory)
                if wait(tasks, words):
                    return step
            _forward(inputs, n, low, high, step, net, memory, ld_x, by_panels, MR, NR)
            for r in range(low, high):
                _score(n, scale, r, order[first + r], net, rules, targets, memory, batch)
            _backward(n, low, high, step, net, memory, MR, NR)
            if t == 0 and rules.adam[0] > 0.0:
                corrections = 1.0 - rules.adam[1] ** (step + 1), 1.0 - rules.adam[2] ** (step + 1)
                rules.hyper[0] = rules.adam[0] * np.sqrt(corrections[1]) / corrections[0]
            if wait(tasks, words):
                return step
            loss = 0.0
            for r in range(n):
                loss += figures[r]
            if not np.isfinite(loss):
                store = 1
                break
            step += 1
            if t == 0:  # now: the others begin the next batch's figures before this task may
                sums[0] += loss
                for q in range(rules.metrics.size):
                    for r in range(n):
                        sums[2 + q] += figures[(q + 1) * batch + r]
            if rules.clip >= CLIP_NORM:
                none = order.size
                _update_units(GRADIENTS, n, inputs, order, none, net, rules, memory, ld_x, by_unit, t, tasks, MR, NR)
                if wait(tasks, words):
                    return step
                if t == 0:
                    _clip_by_norm(net, rules, figures, by_unit)
                if wait(tasks, words):
                    return step
            phase = STEPS if rules.clip >= CLIP_NORM else WHOLE
            _update_units(phase, n, inputs, order, first + batch, net, rules, memory, ld_x, by_unit, t, tasks, MR, NR)
            if wait(tasks, words):
                return step
            if t == 0:
                for u in range(net.units):
                    sums[1] += figures[by_unit + UNIT_FIGURES * u] * n
        if store:
            if sorts and rules.lazy:
                _catch_up(f0, f1, step, net, rules, memory)
                if wait(tasks, words):
                    return step
            _store(arrays, net, t, tasks)
        return step

    return train


def _forward_signature(dtype: Any) -> Any:
    inputs, _, net, _, memory = _tuples(dtype)
    return types.void(inputs, net, memory, flat(types.int64), types.int64, matrix(types.int64), matrix(dtype))


@team_kernel(_forward_signature)
def forward(MR: int, NR: int, SOURCE: int) -> Any:
    """forward(inputs, net, memory, order, rows, arrays, out): outputs of ``order``, ``rows`` samples at once.

    ``arrays`` go into panels first. Scratch memory is that of a batch of ``rows`` for each task. Nothing is dropped
    where the network's thresholds are 0.
    """

    def forward(inputs, net, memory, order, rows, arrays, out, words, t, tasks):
        _ = SOURCE
        _load(arrays, net, t, tasks)
        if wait(tasks, words):
            return
        last = net.stages[net.stages.shape[0] - 1]
        ld_x = net.stages[0, Y] // memory.bounds.shape[0]
        end = (t + 1) * order.size // tasks
        for start in range(t * order.size // tasks, end, rows):
            low, high = t * rows, t * rows + min(rows, end - start)
            first = start - low  # sample first + r is row r of scratch memory
            if inputs.kind == SPARSE:
                _split_rows(inputs, order, first, low, high, net, memory)
            else:
                _gather(inputs, order, first, low, high, 0, net, memory.work, ld_x)
            _forward(inputs, high, low, high, 0, net, memory, ld_x, False, MR, NR)
            for r in range(low, high):
                y = address(memory.work, last[Y] + r * last[LD])
                forward_row(IDENTITY, last[OUTPUTS], y, address(out, (first + r) * last[OUTPUTS]))

    return forward
