"""Where a network's numbers lie: in one array of parameters and in one of scratch memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.cpu.compiler.machine import NV, caches, tile
from fastnn.kernels.cpu.records import STAGE, UNIT_ROWS, Rows
from fastnn.kernels.cpu.simd.sparse import SPARSE_TILES
from fastnn.kernels.formulas.activations import ACTIVATIONS, CODES

# A block of features of a sparse first stage: its rows of a panel fill L1 this many times over, since a batch uses but
# some of them, and a sample has this many non-zeros in it at least. For MNIST (784 features, 150 non-zeros) one block
# took 1.3 times as long as two, five 1.2 times.
_BLOCK_OF_L1 = 4
_SEGMENT = 48

# What work costs, in units of adding one sample's part to the gradient of a row of a panel from non-zeros: to update a
# row that a batch touches, or another one, and to add one sample's part in a dense product; in units of the last, to
# update a row there. Only for even shares: with these, one task of two waits 3 us a batch of MNIST's, of Reuters' 2 to
# 6, where an update is lazy. (Adam's nine epochs take 91 ms with 42% of the rows in the first share, 93 with 47 or 36.)
_UPDATE_COST, _OTHER_UPDATE_COST = 60.0, 40.0
_DENSE_COST, _DENSE_UPDATE_COST = 0.3, 125.0
_PRELU_COST = 1.0  # roughly, of a sample's part of the slopes of a panel

# Codes of the activations whose derivative takes their inputs, and of those that are flat where they are 0.
_FROM_INPUT = [CODES[name] for name, activation in ACTIVATIONS.items() if activation.needs == "x"]
_FLAT_AT_ZERO = [CODES[name] for name, activation in ACTIVATIONS.items() if activation.flat_at_zero]


class StageKind(NamedTuple):
    """What a stage is: the code of its activation, whether a product is before that, and what needs its gradient.

    Or it is a PReLU and nothing else; what it trains of its own are the slopes, in place of a bias.
    """

    activation: int
    product: bool = False
    prelu: bool = False
    trains_kernel: bool = False
    trains_bias: bool = False
    penalized: bool = False


def first_trained(kinds: Sequence[StageKind]) -> int:
    """The first stage that needs its gradient; the number of stages where none does."""
    needs = [kind.trains_kernel or kind.trains_bias or kind.penalized for kind in kinds]
    return [*needs, True].index(True)


@dataclass(frozen=True)
class Layout:
    """Where the numbers of a network of these ``sizes`` lie: the width of the inputs, then of each stage's outputs.

    The weights of a stage (K inputs, N outputs) are panels [N/NR, K, NR], zeros in the columns beyond N, then the bias,
    padded likewise; the panels of a sparse first stage are ``SPARSE_TILES`` tiles wide. A PReLU has slopes in place of
    a bias, and no weights; an activation alone has panels of no columns. Scratch memory holds the gathered inputs of a
    batch, unless they are sparse, then for every stage its outputs, their gradient, and above the first stage that
    needs it the transposed weights as panels [K/NR, N, NR].

    With ``pairs`` the products are those of bfloat16 numbers (``gemm_tile_pairs``), but for a sparse first stage: the
    transposed weights are panels [K/NR, N/2, NR] of pairs, and scratch memory also holds the weights as panels
    [N/NR, K/2, NR] of pairs, and a stage's inputs and its gradient as pairs of neighbours in a row, for products that
    sum over columns, and of neighbours in a column, for those that sum over the batch.
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

    @property
    def ld(self) -> int:
        """Distance of the rows of the gathered inputs."""
        return self.leading(self.sizes[0])

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

    def stages(self, kinds: Sequence[StageKind]) -> tuple[Any, int, int]:
        """(table of ``STAGE``, size of the parameters, size of scratch memory without the tasks' buffers)."""
        taken = {"parameters": 0, "scratch": 0 if self.sparse else self.rows * self.ld}

        def place(array: str, size: int) -> int:
            taken[array] += size
            return taken[array] - size

        first, before, table = first_trained(kinds), Rows(0, self.ld), []
        for s, kind in enumerate(kinds):
            k, n, ld = self.sizes[s], self.sizes[s + 1], self.leading(self.sizes[s + 1])
            y, dz = (place("scratch", self.rows * ld) for _ in range(2))
            seen = before if kind.prelu or kind.activation in _FROM_INPUT else Rows(y, ld)
            sizes = {"inputs": k, "outputs": n, "y": y, "ld": ld, "dz": dz, "seen": seen.at, "ld_seen": seen.ld}
            row = {**kind._asdict(), **sizes, "flat_at_zero": kind.activation in _FLAT_AT_ZERO}
            if kind.product or kind.prelu:
                panel, blocks = self.panel(s), -(-k // UNIT_ROWS) if kind.product else 1
                row |= {"panel": panel, "blocks": blocks}
                row["units"] = -(-n // panel) * blocks if kind.trains_kernel or kind.trains_bias else 0
                row["w"] = place("parameters", self.padded(n, panel) * k * kind.product)
                row["b"] = place("parameters", self.padded(n, panel))
            if kind.product:
                row["pairs"] = pairs = self.pairs and not (s == 0 and self.sparse)
                if s > first:
                    row["wt"] = place("scratch", self.padded(k, self.NR) * (-(-n // 2) if pairs else n))
                if pairs:
                    row["w_pairs"] = place("scratch", self.padded(n, panel) * -(-k // 2))
                    for name in ("x_by_row", "x_by_column"):
                        row[name] = place("scratch", self.rows * self.leading(k) // 2)
                    for name in ("dz_by_row", "dz_by_column"):
                        row[name] = place("scratch", self.rows * ld // 2)
            table.append(tuple(row.get(name, 0) for name in STAGE.names or ()))
            before = Rows(y, ld)
        return np.array(table, STAGE), taken["parameters"], taken["scratch"]

    def blocks(self, rows: int, non_zeros: float) -> Any:
        """``Scratch.blocks`` of so many rows, for samples with so many non-zeros."""
        size = self.sizes[0] * self.panel(0) * self.itemsize
        blocks = max(1, min(-(-size // (_BLOCK_OF_L1 * caches().l1)), int(non_zeros // _SEGMENT)))
        return np.zeros((rows, blocks + 1), np.int64)

    def cuts(self, table: Any, tasks: int, frequencies: Any, lazy: bool = False) -> Any:
        """``Scratch.cuts`` for so many tasks; ``frequencies`` are the shares of samples in which features are not zero.

        The frequent words of a text come first: halves of its features are a large and a small share of the work. Rows
        of W without entries are none where updates are ``lazy``; Reuters has 5,900 of 10,000 words in a batch of 512.
        """
        touched = 1 - (1 - frequencies) ** self.batch
        of_row = self.batch * frequencies + _UPDATE_COST * touched
        if not lazy:
            of_row += _OTHER_UPDATE_COST * (1 - touched)
        units = []
        for s, stage in enumerate(table):
            k, n, blocks = (int(stage[name]) for name in ("inputs", "outputs", "blocks"))
            if stage["prelu"]:
                work = np.full(1, _PRELU_COST * self.batch)
            elif s == 0 and self.sparse:
                work = np.add.reduceat(of_row, np.arange(0, k, UNIT_ROWS))
            else:
                rows = np.minimum(UNIT_ROWS, k - UNIT_ROWS * np.arange(blocks))
                vectors = -(-min(n, self.NR) * NV // self.NR) / NV  # of a tile's row, not masked out
                work = _DENSE_COST * rows * (vectors * self.batch / (1 + stage["pairs"]) + _DENSE_UPDATE_COST)
            units.append(np.tile(work, int(stage["units"]) // max(blocks, 1)))
        return _even(np.concatenate(units), tasks)

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
