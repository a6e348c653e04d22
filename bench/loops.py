"""Training loops of one's own over ``fastnn.ops``: op by op, as a program, and an epoch of it in one call.

Beside them the same loop over NumPy and PyTorch's eager one; an epoch stands beside our own ``fit``, and so does the
same ``fit`` layer by layer.

An epoch has ``_STEPS`` batches of made rows, or fewer; weights, batches and RMSprop are the same on every side. Where
rows have zeros of which all sides take a CSR matrix, a line says so. Its work is that of its matrix products, and of
these what is not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np

from bench.peers import DENSE, load
from bench.peers.fastnn_mlp import FastnnMLP, LayerwiseMLP
from bench.peers.network import CROSS_ENTROPY, SQUARED_ERROR, Network
from bench.peers.ops_mlp import EpochMLP, OpsMLP, ProgramMLP
from bench.suite import FASTNN, FIT, NUMPY, PYTORCH, Case, Contender, Workload, installed
from bench.training import Rows, initial_weights, made_mnist, made_reuters

_STEPS, _CHECKED_STEPS = 64, 4
# PyTorch's epsilon sits outside the root: its curve is only close.
_TOLERANCES = {NUMPY: 1e-4, PYTORCH: 0.1, FIT: 1e-4}


@dataclass(frozen=True)
class _Loop:
    """A network and its batches; by way of running it, how many times as fast as a contender it is promised to be.

    There is no line of a way without such promises. ``sparse`` makes rows that are handed over as a CSR matrix.
    """

    widths: tuple[int, ...]
    batch: int
    loss: str
    op_by_op: Mapping[str, float] = field(default_factory=dict)
    program: Mapping[str, float] = field(default_factory=dict)
    epoch: Mapping[str, float] = field(default_factory=dict)
    layerwise: Mapping[str, float] = field(default_factory=dict)
    sparse: Callable[[int], Rows] | None = None
    steps: int = _STEPS

    def name(self, way: str) -> str:
        """The line's name."""
        kind = ", CSR" if self.sparse else ""
        said = _SAID[way].format(steps=self.steps)
        return f"{said}{kind}, {'-'.join(map(str, self.widths))}, batch {self.batch}"

    @property
    def skip(self) -> str:
        """Why it cannot run here, if it cannot."""
        return "SciPy is not installed" if self.sparse and find_spec("scipy") is None else ""


_LOOPS = (
    _Loop((13, 64, 64, 1), 16, SQUARED_ERROR, {NUMPY: 1.0}, {NUMPY: 5.0, PYTORCH: 20.0}, {FIT: 0.6}),
    _Loop((13, 64, 64, 1), 1, SQUARED_ERROR, {NUMPY: 1.0}, {NUMPY: 5.0, PYTORCH: 20.0}, {FIT: 0.6}),
    _Loop((784, 100, 10), 32, CROSS_ENTROPY, {NUMPY: 1.0}, {NUMPY: 2.0, PYTORCH: 4.0}, {FIT: 0.8}),
    _Loop((100, 256, 256, 1), 32, SQUARED_ERROR, {NUMPY: 1.0}, {NUMPY: 2.0, PYTORCH: 4.0}, {FIT: 0.8}, {FIT: 0.7}),
    _Loop((784, 512, 10), 128, CROSS_ENTROPY, {NUMPY: 1.3}, {NUMPY: 1.6, PYTORCH: 2.0}, {FIT: 0.8}, {FIT: 0.85}),
    _Loop((20, 32, 1), 8, SQUARED_ERROR, layerwise={FIT: 0.2}),
    _Loop((784, 512, 10), 128, CROSS_ENTROPY, epoch={FIT: 0.8}, sparse=made_mnist),
    _Loop((10_000, 64, 64, 46), 512, CROSS_ENTROPY, epoch={FIT: 0.8}, sparse=made_reuters, steps=16),
)

_SAID = {
    "op_by_op": "{steps} steps op by op",
    "program": "{steps} steps as a program",
    "epoch": "{steps} steps of an epoch as a program",
    "layerwise": "fit layer by layer",
}

# The trainer without metrics: an epoch as a program has none.
_fit, _fit_layerwise = partial(FastnnMLP, metrics=None), partial(LayerwiseMLP, metrics=None)

# The ways of running a loop, with our side of each and the others' sides.
_WAYS: Mapping[str, tuple[Callable[..., Any], Sequence[str]]] = {
    "op_by_op": (OpsMLP, (NUMPY, PYTORCH)),
    "program": (ProgramMLP, (NUMPY, PYTORCH)),
    "epoch": (EpochMLP, (FIT,)),
    "layerwise": (_fit_layerwise, (FIT,)),
}


def cases() -> list[Case]:
    """A line a way, network and batch size, where anything is promised of it."""
    return [
        Case(loop.name(way), partial(_workload, loop, way), getattr(loop, way), skip=loop.skip)
        for way in _WAYS
        for loop in _LOOPS
        if getattr(loop, way)
    ]


def _made(loop: _Loop, rows: int) -> Rows:
    """Inputs in [0, 1), and labels or values; or sparse inputs and labels."""
    if loop.sparse:
        from scipy.sparse import csr_array

        x, labels = loop.sparse(rows)
        return csr_array(x), labels
    rng = np.random.default_rng(7)
    x = rng.random((rows, loop.widths[0]), np.float32)
    return x, rng.integers(0, loop.widths[-1], rows) if loop.loss == CROSS_ENTROPY else rng.random(rows, np.float32)


def _workload(loop: _Loop, way: str) -> Workload:
    network, batch = Network(initial_weights(loop.widths), loop.loss), loop.batch
    x, y = _made(loop, loop.steps * batch)
    ours, others = _WAYS[way]
    makers = {FASTNN: ours} | {name: _fit if name == FIT else load(DENSE[name]) for name in others if installed(name)}
    sides = {name: make(network, x, y, batch) for name, make in makers.items()}

    def check() -> None:
        few = _CHECKED_STEPS * batch
        losses = {name: make(network, x[:few], y[:few], batch).epoch(False) for name, make in makers.items()}
        for name in losses.keys() - {FASTNN}:
            about = f"loss, fastnn.ops against {name}"
            np.testing.assert_allclose(losses[FASTNN], losses[name], rtol=_TOLERANCES[name], err_msg=about)

    numbers, size = (x.nnz, x.data.nbytes + x.indices.nbytes) if loop.sparse else (x.size, x.nbytes)
    behind = sum(a * b for a, b in list(pairwise(loop.widths))[1:])
    flops = 2.0 * (2 * numbers * loop.widths[1] + 3 * x.shape[0] * behind)  # no gradient by the inputs
    return Workload({name: Contender(side.epoch, flops, float(size)) for name, side in sides.items()}, check)
