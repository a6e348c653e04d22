"""What a fit hands to the epoch's kernels: inputs, targets, network, rules and memory, and where numbers lie in them.

The kernels read tables of integers; their columns and codes are named here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastnn.kernels.cpu.jit import flat, inlined, matrix
from fastnn.kernels.cpu.machine import NV, caches, tile
from fastnn.kernels.cpu.simd.kernel import pointer
from fastnn.kernels.cpu.simd.losses import LOSS_ROW_CODES
from fastnn.kernels.cpu.simd.sparse import SPARSE_TILES
from fastnn.kernels.formulas.activations import ACTIVATIONS, CODES

# Rows of W in a unit of the update: a multiple of every tile height and of every vector length.
UNIT_ROWS = 96

# A block of features of a sparse first stage: its rows of a panel fill L1 this many times over, since a batch uses but
# some of them, and a sample has this many non-zeros in it at least. For MNIST (784 features, 150 non-zeros) one block
# took 1.3 times as long as two, five 1.2 times.
_BLOCK_OF_L1 = 4
_SEGMENT = 48

# What work costs, in units of adding one sample's part to the gradient of a row of a panel from non-zeros: to update a
# row that a batch touches, and to add one sample's part in a dense product; in units of the last, to update a row
# there. Only for even shares: with these, one task of two waits 3 us a batch of MNIST's, of Reuters' 2 to 6.
_UPDATE_COST = 60.0
_DENSE_COST, _DENSE_UPDATE_COST = 0.3, 125.0

# Columns of the stage table; see ``Layout.stages``.
INPUTS, OUTPUTS, CODE, NEEDS, PANEL, UNITS, W, B, WT, Y, LD, DZ = range(12)
SEEN, LD_SEEN, FLAT, PAIRS, WP, XR, XC, GR, GC = range(12, 21)

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

# Codes of the activations whose derivative takes their inputs, and of those that are flat where they are 0.
FROM_INPUT = [CODES[name] for name, activation in ACTIVATIONS.items() if activation.needs == "x"]
FLAT_AT_ZERO = [CODES[name] for name, activation in ACTIVATIONS.items() if activation.flat_at_zero]

# Columns of the network's masks and of their scales.
THRESHOLD, SEED, STREAM = range(3)
SCALE, KEPT = range(2)

# Kinds of inputs.
DENSE, BYTES, SPARSE, EXPANDED = range(4)

# Codes of the losses and metrics of a row of outputs, behind those of ``loss_row``.
SOFTMAX_CROSS_ENTROPY, CROSS_ENTROPY, ACCURACY, BINARY_ACCURACY, TOP_K = range(
    len(LOSS_ROW_CODES), len(LOSS_ROW_CODES) + 5
)
FIGURES = {
    **LOSS_ROW_CODES,
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

# What ``train`` notes as it goes: the steps made in all, and whether the panels, not the arrays, are up to date.
MADE, IN_PANELS = range(2)

# Figures of a unit: its penalty, the sums of squares of the gradients of its weights and of its biases.
UNIT_FIGURES = 3


class Inputs(NamedTuple):
    """The samples; the arrays of the kinds that are not meant are empty, and all are read-only (``frozen``).

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
    """Class indices or rows of numbers, one of them empty, and the samples' weights or an empty array; ``frozen`` too.

    The loss compares outputs with ``goals``: the rows, or what became of them (label smoothing).
    """

    labels: Any
    rows: Any
    goals: Any
    weights: Any


class Network(NamedTuple):
    """Stages, and by stage the L1 and L2 penalties of kernel, bias and outputs; parameters and the optimizer's state.

    ``slots`` are the addresses of the parts of the state, each laid out as ``params`` are; kernels write there.
    ``units`` is the number of units of the update. No gradient is needed below stage ``first``. ``numbers`` are those
    that the stages' activations take.
    ``masks`` holds what dropout on the inputs (row 0) and on the outputs of each stage draws from, see ``dropout_row``,
    a threshold of 0 where there is none; ``scales`` how much it scales what it keeps, and the inverse of that.
    """

    stages: Any
    units: Any
    first: Any
    numbers: Any
    penalties: Any
    masks: Any
    scales: Any
    params: Any
    slots: Any


class Rules(NamedTuple):
    """How to train: codes of loss, metrics and optimizer with its hyper-parameters.

    ``goal`` are the numbers that the loss takes (a width, an exponent), ``outputs`` divides the sum of the losses of a
    row's outputs; ``reduction`` says how the loss of a batch is made of
    its rows'. ``numbers`` are the metrics' own: a threshold, a k, for a loss what divides it. Metrics from ``plain``
    on count by the samples' weights. They look at the rows from ``seen`` on in scratch memory: the last stage's
    outputs, or these through the ``activation`` that the loss has taken into itself.

    ``hyper`` and ``shrink`` have a row for every step of a call, or one for all: the optimizer's hyper-parameters, and
    by stage what kernel and bias are multiplied by before the step. Gradients are clipped to ``limit`` in the way of
    ``clip``.
    ``lazy`` leaves rows without gradient for later, their state decaying by ``rho`` a step. ``direct`` says that the
    first stage's gradients go into the step as they are: without penalty, clipping or decay.
    ``coupled`` lets features f and f + 1, f even, share their entries of non-zeros: pixels are seldom alone. Only for
    an even number of features, and ``direct`` steps.
    """

    loss: Any
    goal: Any
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
    lazy: Any
    rho: Any
    direct: Any
    coupled: Any


class Scratch(NamedTuple):
    """Memory of a fit: batches and buffers, figures by row, and the non-zeros of a batch by feature.

    Behind the rows' figures lie those of the units, then by stage what the gradients of kernel and bias are multiplied
    with. ``gradients`` has the layout of the parameters where gradients are clipped by their norms, else it is empty.
    ``bounds`` tells for each row of a batch where the entries begin and end that are sorted, then where those in each
    block of features of the first stage begin, and where they end. ``runs`` holds for each feature where its entries
    begin and end when they are sorted, and for each task how many of its rows have it, then where the next of them
    belongs; ``touched`` the step that last touched it; ``decay`` what its state has to be multiplied with, and behind
    all features the first ``POWERS`` powers of ``Rules.rho``. ``cuts`` tells where each task's share of units begins.
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


def frozen(record: Any) -> Any:
    """``Inputs`` or ``Targets`` with read-only views in place of their arrays, which are contiguous.

    Numba converts no field of a named tuple, so arrays that may be written to pass as such that may not.
    """
    return type(record)(*(_frozen(field) if isinstance(field, np.ndarray) else field for field in record))


def _frozen(array: Any) -> Any:
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class Layout:
    """Where a network's numbers lie in one array of parameters and one of scratch memory.

    The weights of a stage (K inputs, N outputs) are panels [N/NR, K, NR], zeros in the columns beyond N, then the
    bias, padded likewise; the panels of a sparse first stage are ``SPARSE_TILES`` tiles wide; a stage without weights
    has panels of no columns. Scratch memory holds the gathered inputs of a batch, then for every stage its outputs,
    their gradient (SEEN is what of both the activation's derivative takes: its outputs, or those of the stage before),
    and above the first stage that needs it the transposed weights as panels [K/NR, N, NR].

    With ``pairs`` the products are those of bfloat16 numbers (``gemm_tile_pairs``), but for a sparse first stage: the
    transposed weights are panels [K/NR, N/2, NR] of pairs, and scratch memory also holds the weights as panels
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
            before = (table[s - 1, Y], table[s - 1, LD]) if s else (0, self.leading(k))
            row[[SEEN, LD_SEEN]] = before if code in FROM_INPUT else (row[Y], row[LD])
            row[FLAT] = code in FLAT_AT_ZERO
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


@inlined
def panel_count(stage):
    """The number of a stage's panels."""
    return (stage[OUTPUTS] + stage[PANEL] - 1) // stage[PANEL] if stage[PANEL] > 0 else 0


@inlined
def state_pointer(net, place):
    """Where the first slot of the state of the parameters from ``place`` on is."""
    return pointer(net.params, net.slots[0] + place * net.params.itemsize)


def signatures(dtype: Any) -> list[Any]:
    """Numba's types of Inputs, Targets, Network, Rules and Scratch."""
    size, sizes, reals, wide = types.int64, flat(types.int64), flat(dtype), flat(types.float64)
    indices, whole = flat(types.int32), matrix(types.int64)
    read, rows = partial(flat, readonly=True), matrix(dtype, readonly=True)
    indptr, bytes_ = read(types.int64), matrix(types.uint8, readonly=True)
    fields = {
        Inputs: (size, rows, bytes_, dtype, dtype, indptr, read(types.int32), read(dtype)),
        Targets: (read(types.int64), rows, rows, read(dtype)),
        Network: (
            matrix(types.int64),
            size,
            size,
            matrix(dtype),
            matrix(dtype),
            matrix(types.int64),
            matrix(dtype),
            reals,
            sizes,
        ),
        Rules: (
            size,
            reals,
            size,
            size,
            sizes,
            wide,
            size,
            size,
            size,
            matrix(dtype),
            size,
            dtype,
            size,
            matrix(dtype),
            size,
            dtype,
            size,
            size,
        ),
        Scratch: (reals, reals, wide, whole, sizes, matrix(types.int32), sizes, reals, indices, reals, indices, reals),
    }
    return [types.NamedTuple(kinds, cls) for cls, kinds in fields.items()]
