"""Training loops of one's own: over ``fastnn.ops``, op by op, against the same loop over NumPy, and PyTorch's eager.

An epoch has ``_STEPS`` batches of made rows; weights, batches and RMSprop are the same on every side. A line's work is
that of its matrix products.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from bench.peers import DENSE, load
from bench.peers.network import CROSS_ENTROPY, SQUARED_ERROR, Network
from bench.peers.ops_mlp import OpsMLP
from bench.suite import FASTNN, NUMPY, PYTORCH, Case, Contender, Workload, installed
from bench.training import initial_weights

_STEPS, _CHECKED_STEPS = 64, 4
# PyTorch's epsilon sits outside the root: its curve is only close.
_TOLERANCES = {NUMPY: 1e-4, PYTORCH: 0.1}

# Widths, rows of a batch, the loss, and by contender how many times as fast as it a loop is promised to be.
_LOOPS = (
    ((13, 64, 64, 1), 16, SQUARED_ERROR, {NUMPY: 1.0}),
    ((13, 64, 64, 1), 1, SQUARED_ERROR, {NUMPY: 1.0}),
    ((784, 100, 10), 32, CROSS_ENTROPY, {NUMPY: 1.0}),
    ((100, 256, 256, 1), 32, SQUARED_ERROR, {NUMPY: 1.0}),
    ((784, 512, 10), 128, CROSS_ENTROPY, {NUMPY: 1.3}),
)


def cases() -> list[Case]:
    """A line a network and batch size."""
    return [
        Case(f"{_STEPS} steps op by op, {_architecture(widths)}, batch {batch}", make, bars)
        for widths, batch, loss, bars in _LOOPS
        for make in [partial(_workload, widths, batch, loss)]
    ]


def _architecture(widths: tuple[int, ...]) -> str:
    return "-".join(map(str, widths))


def _made(widths: tuple[int, ...], rows: int, loss: str) -> tuple[Any, Any]:
    """Inputs in [0, 1), and labels or values."""
    rng = np.random.default_rng(7)
    x = rng.random((rows, widths[0]), np.float32)
    return x, rng.integers(0, widths[-1], rows) if loss == CROSS_ENTROPY else rng.random(rows, np.float32)


def _workload(widths: tuple[int, ...], batch: int, loss: str) -> Workload:
    network = Network(initial_weights(widths), loss)
    x, y = _made(widths, _STEPS * batch, loss)
    makers = {FASTNN: OpsMLP} | {name: load(DENSE[name]) for name in (NUMPY, PYTORCH) if installed(name)}
    sides = {name: make(network, x, y, batch) for name, make in makers.items()}

    def check() -> None:
        few = _CHECKED_STEPS * batch
        losses = {name: make(network, x[:few], y[:few], batch).epoch(False) for name, make in makers.items()}
        for name in losses.keys() - {FASTNN}:
            about = f"loss, fastnn.ops against {name}"
            np.testing.assert_allclose(losses[FASTNN], losses[name], rtol=_TOLERANCES[name], err_msg=about)

    products = sum(a * b for a, b in pairwise(widths))
    flops = 2.0 * len(x) * (3 * products - widths[0] * widths[1])  # no gradient by the inputs
    return Workload({name: Contender(side.epoch, flops, float(x.nbytes)) for name, side in sides.items()}, check)
