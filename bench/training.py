"""Training epochs of the documents' networks: on made data of the real shape and density, and on the real data.

Every contender starts from the same weights and trains with Keras's RMSprop; a check that loss curves agree comes
first. A line's work is that of its matrix products, counted dense.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from bench.peers.fastnn_mlp import FastnnMLP
from bench.peers.numpy_mlp import NumpyMLP
from bench.suite import FASTNN, JAX, NAIVE, NUMPY, PYTORCH, Case, Contender, Workload
from fastnn.recipes import RECIPES

_SEED = 3
# Rows of the one batch that plain Python trains on.
_NAIVE_ROWS = 4
# The check trains this many batches in order; the losses of equal formulas agree to rounding. PyTorch's epsilon sits
# elsewhere, so its curve is only close.
_CHECKED_BATCHES = 4
_TOLERANCES = {NUMPY: 1e-4, PYTORCH: 0.1, JAX: 1e-4}

# Zipf's exponent at which 512 rows of 82 words touch about 6,000 of 10,000 words, as 512 newswires do.
_ZIPF_EXPONENT = 1.17

Rows = tuple[Any, Any]


@dataclass(frozen=True)
class _Job:
    """A network of the documents, by its recipe, and how to make data like its own."""

    dataset: str
    made: Callable[[int], Rows]
    rows: int
    quick_rows: int


def _made_mnist(rows: int) -> Rows:
    """Images of which 19.1% of the pixels are not zero, and labels."""
    rng = np.random.default_rng(_SEED)
    x = rng.random((rows, 784), np.float32)
    x *= rng.random((rows, 784), np.float32) < 0.191
    return x, rng.integers(0, 10, rows)


def _made_reuters(rows: int) -> Rows:
    """Multi-hot rows of 82 distinct words of 10,000, drawn by Zipf's law, and labels.

    Words are drawn without replacement: the largest of log p + Gumbel noise.
    """
    rng = np.random.default_rng(_SEED)
    log_p = -_ZIPF_EXPONENT * np.log(np.arange(1, 10_001, dtype=np.float32))
    x = np.zeros((rows, 10_000), np.float32)
    for row in x:
        row[np.argpartition(log_p + rng.gumbel(size=10_000).astype(np.float32), -82)[-82:]] = 1
    return x, rng.integers(0, 46, rows)


_JOBS = (
    _Job("mnist", _made_mnist, rows=60_000, quick_rows=6_400),
    _Job("reuters", _made_reuters, rows=8_982, quick_rows=2_048),
)


def cases(quick: bool = False) -> list[Case]:
    """Each network on made data, and on the real data where the variable FASTNN_DATA names a folder."""
    listed = []
    for job in _JOBS:
        recipe = RECIPES[job.dataset]
        rows = job.quick_rows if quick else job.rows
        name = f"epoch {job.dataset}, {recipe.architecture}, batch {recipe.batch_size}"
        listed.append(Case(f"{name}, {rows:,} made rows", partial(_workload, job.dataset, job.made, rows), slow=True))
        if os.environ.get("FASTNN_DATA"):
            listed.append(
                Case(f"{name}, {rows:,} real rows", partial(_workload, job.dataset, _real(job), rows), slow=True)
            )
    return listed


def _real(job: _Job) -> Callable[[int], Rows]:
    def load(rows: int) -> Rows:
        x, labels = _training_rows(job.dataset)
        return x[:rows], labels[:rows]

    return load


@cache
def _training_rows(dataset: str) -> Rows:
    x, labels = RECIPES[dataset].data().train
    return x.astype(np.float32), labels.astype(np.int64)


def _workload(dataset: str, data: Callable[[int], Rows], rows: int) -> Workload:
    recipe = RECIPES[dataset]
    x, labels = data(rows)
    weights = initial_weights((recipe.inputs, *recipe.hidden, recipe.outputs))
    batch = recipe.batch_size
    peers: dict[str, Callable[[Any], Any]] = {NUMPY: NumpyMLP}
    if importlib.util.find_spec("torch"):
        from bench.peers.pytorch_mlp import PyTorchMLP

        peers[PYTORCH] = PyTorchMLP
    if importlib.util.find_spec("jax"):
        from bench.peers.jax_mlp import JaxMLP

        peers[JAX] = JaxMLP

    def check() -> None:
        few = min(rows, _CHECKED_BATCHES * batch)
        ours = FastnnMLP(weights).epoch(x[:few], labels[:few], batch, shuffle=False)[0]
        for name, peer in peers.items():
            theirs = peer(weights).epoch(x[:few], labels[:few], batch, np.arange(few))[0]
            np.testing.assert_allclose(ours, theirs, rtol=_TOLERANCES[name], err_msg=f"loss, fastnn against {name}")

    ours, naive = FastnnMLP(weights), FastnnMLP(weights, backend="naive")
    flops = ours.model.plan().flop_per_sample
    rng = np.random.default_rng(_SEED)

    def contender(run: Callable[[], Any], rows: int = rows, note: str = "") -> Contender:
        return Contender(run, float(rows * flops), float(rows * x.itemsize * recipe.inputs), note)

    def epoch_of(peer: Any) -> Callable[[], Any]:
        return lambda: peer.epoch(x, labels, batch, rng.permutation(rows))

    few = slice(0, _NAIVE_ROWS)
    contenders = {FASTNN: contender(lambda: ours.epoch(x, labels, batch))}
    contenders |= {name: contender(epoch_of(peer(weights))) for name, peer in peers.items()}
    contenders[NAIVE] = contender(
        lambda: naive.epoch(x[few], labels[few], batch), _NAIVE_ROWS, f"one batch of {_NAIVE_ROWS} rows"
    )
    return Workload(contenders, check)


def initial_weights(widths: tuple[int, ...]) -> list[Any]:
    """Glorot-uniform kernels and zero biases, float32."""
    rng = np.random.default_rng(_SEED)
    weights: list[Any] = []
    for inputs, outputs in pairwise(widths):
        limit = np.sqrt(6 / (inputs + outputs))
        weights += [rng.uniform(-limit, limit, (inputs, outputs)).astype(np.float32), np.zeros(outputs, np.float32)]
    return weights
