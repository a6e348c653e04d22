"""Training epochs of networks of images and words: on made data, beside PyTorch and Keras.

As in ``training`` an epoch is one inside a fit, every side starts from the same weights, trains with RMSprop, and a
check that loss curves agree comes first. Where a whole epoch would take long it is one of fewer rows, which the line
says: the same for both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from bench.peers import load
from bench.peers.stack import Layer, Stack
from bench.suite import FASTNN, KERAS, PYTORCH, Case, Contender, Workload, installed
from fastnn.utils import set_random_seed

_SEED = 3
_PEERS = {PYTORCH: "pytorch_stack.PyTorchStack", KERAS: "keras_stack.KerasStack"}

# The check trains this many batches in order. PyTorch's epsilon sits elsewhere, so its curve is only close.
_CHECKED_BATCHES = 3
_TOLERANCES = {PYTORCH: 0.1, KERAS: 1e-3}

_WORDS = 10_000


@dataclass(frozen=True)
class _Job:
    """A network, as the line calls it, on so many rows of a shape; the ratios that are promised."""

    name: str
    layers: tuple[Layer, ...]
    shape: tuple[int, ...]
    classes: int
    batch: int
    rows: int
    at_least: Mapping[str, float] = field(hash=False)
    learning_rate: float = 0.001

    @property
    def of_words(self) -> bool:
        """Whether samples are words, by their numbers."""
        return len(self.shape) == 1

    def data(self, rows: int) -> tuple[Any, Any]:
        """Made images of 0 to 1, or words, and labels."""
        rng, shape = np.random.default_rng(_SEED), (rows, *self.shape)
        x = rng.integers(0, _WORDS, shape) if self.of_words else rng.random(shape, np.float32)
        return x, rng.integers(0, self.classes, rows)


_JOBS = (
    _Job(
        "28x28-20 of 5x5-pool-100-10",
        (("conv", 20, 5), ("pool",), ("flatten",), ("dense", 100)),
        (28, 28, 1), 10, batch=128, rows=12_800, at_least={PYTORCH: 3.0, KERAS: 2.0},
    ),
    _Job(
        "28x28-32-pool-64-pool-64 of 3x3-64-10",
        (("conv", 32, 3), ("pool",), ("conv", 64, 3), ("pool",), ("conv", 64, 3), ("flatten",), ("dense", 64)),
        (28, 28, 1), 10, batch=64, rows=6_400, at_least={PYTORCH: 1.8, KERAS: 2.5},
    ),
    _Job(
        "32x32x3-32-32-pool-64-64-pool-128-128-pool of 3x3, normalised, -10",
        (*(each for maps in (32, 64, 128) for each in (*[("block", maps, 3)] * 2, ("pool",))), ("flatten",)),
        (32, 32, 3), 10, batch=64, rows=1_280, at_least={PYTORCH: 1.2, KERAS: 1.4},
    ),
    _Job(
        "200 of 10000x16-mean-16-2",
        (("embedding", _WORDS, 16), ("mean",), ("dense", 16)),
        (200,), 2, batch=128, rows=12_800, at_least={PYTORCH: 5.0},
    ),
    _Job(
        "100 of 10000x16-LSTM 32-2",
        (("embedding", _WORDS, 16), ("lstm", 32)),
        (100,), 2, batch=64, rows=3_200, at_least={PYTORCH: 1.5},
    ),
    _Job(
        "64 of 10000x64-encoder of 4 heads, 128-mean-2",
        (("embedding", _WORDS, 64), ("encoder", 4, 128), ("mean",)),
        (64,), 2, batch=32, rows=1_600, at_least={PYTORCH: 1.2}, learning_rate=1e-4,
    ),
)  # fmt: skip


def cases(quick: bool = False) -> list[Case]:
    """A line of each network; of a quarter of its rows, ten batches at least, where it is to be ``quick``."""
    listed = []
    for job in _JOBS:
        rows = max(10 * job.batch, job.rows // 4) if quick else job.rows
        name = f"epoch {job.name}, batch {job.batch}, {rows:,} made rows"
        listed.append(Case(name, partial(_workload, job, rows), job.at_least, slow=True))
    return listed


def _workload(job: _Job, rows: int) -> Workload:
    x, labels = job.data(rows)
    names = [name for name in _PEERS if name in job.at_least and installed(name)]
    sides: dict[str, Callable[..., Any]] = {name: load(_PEERS[name]) for name in names}
    sides[FASTNN] = load("fastnn_stack.FastnnStack")
    set_random_seed(_SEED)
    model = load("fastnn_stack.model")(Stack(job.layers, job.shape, job.classes))
    stack = Stack(job.layers, job.shape, job.classes, model.get_weights(), job.learning_rate)
    flops = float(rows * model.plan().flop_per_sample)

    def check() -> None:
        few = slice(0, _CHECKED_BATCHES * job.batch)
        losses = {name: make(stack, x[few], labels[few], job.batch).epoch(False) for name, make in sides.items()}
        for name in names:
            about = f"loss, fastnn against {name}"
            np.testing.assert_allclose(losses[FASTNN], losses[name], rtol=_TOLERANCES[name], err_msg=about)

    contenders = {
        name: Contender(make(stack, x, labels, job.batch).epoch, flops, float(x.nbytes)) for name, make in sides.items()
    }
    return Workload(contenders, check)
