"""Training epochs of the documents' networks: on made data of the real shape and density, and on the real data.

An epoch is one epoch inside a fit: what a fit does beforehand (checks, conversions, copies) is left out on every side.
Every contender starts from the same weights and trains with Keras's RMSprop (scikit-learn: Adam); a check that loss
curves agree comes first. A line's work is that of its matrix products, counted dense.
"""

from __future__ import annotations

import inspect
import os
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from bench import stacks
from bench.peers import DENSE, SPARSE, load
from bench.peers.fastnn_mlp import FastnnMLP
from bench.peers.network import CROSS_ENTROPY, SQUARED_ERROR, Network
from bench.suite import (
    FASTNN,
    FLOAT32,
    JAX,
    KERAS,
    KERAS_XLA,
    NAIVE,
    NUMPY,
    PYTORCH,
    SKLEARN,
    Case,
    Contender,
    Gauge,
    Workload,
    installed,
)
from fastnn.errors import BackendError
from fastnn.models import Sequential
from fastnn.recipes import RECIPES, Data
from fastnn.utils import set_random_seed

_SEED = 3
# Rows that plain Python trains on.
_NAIVE_ROWS = 4
# The check trains this many batches in order; the losses of equal formulas agree to rounding. PyTorch's epsilon sits
# elsewhere, so its curve is only close; scikit-learn's Adam makes other steps, from weights that are equal at first.
_CHECKED_BATCHES = 4
_TOLERANCES = {NUMPY: 1e-4, PYTORCH: 0.1, JAX: 1e-4, KERAS: 1e-4, KERAS_XLA: 1e-4, SKLEARN: 0.3, FLOAT32: 0.02}

# Zipf's exponent at which 512 rows of 82 words touch about 6,000 of 10,000 words, as 512 newswires do.
_ZIPF_EXPONENT = 1.17

Rows = tuple[Any, Any]

# The others take long: they run on real data only.
_ON_MADE_ROWS = (NUMPY, PYTORCH, JAX)


@dataclass(frozen=True)
class _Job:
    """A network of the documents, by its recipe; the other sides of its lines, and the ratios that are promised.

    ``made`` makes data like its own; without it there is a line on real data only.
    """

    dataset: str
    peers: Mapping[str, str]
    rows: int
    quick_rows: int
    at_least: Mapping[str, float]
    made: Callable[[int], Rows] | None = None
    batch_size: int = 0  # 0: the recipe's
    compiling: Mapping[str, Any] = field(default_factory=dict)  # what fastnn's `compile` is told besides

    @property
    def batch(self) -> int:
        """Rows in one update."""
        return self.batch_size or RECIPES[self.dataset].batch_size

    def name(self, rows: int, kind: str) -> str:
        """The line's name."""
        options = "".join(f", {option}" for option in self.compiling.values())
        shape = f"{RECIPES[self.dataset].architecture}, batch {self.batch}{options}"
        return f"epoch {self.dataset}, {shape}, {rows:,} {kind} rows"

    @property
    def skip(self) -> str:
        """Why this fastnn, or this CPU, cannot run it, if it cannot."""
        missing = set(self.compiling) - set(inspect.signature(Sequential.compile).parameters)
        if missing:
            return f"compile takes no {', '.join(sorted(missing))}"
        if self.compiling.get("precision") == "bfloat16":
            try:
                Sequential().compile(backend="cpu", precision="bfloat16")
            except BackendError as error:
                return str(error)
        return ""


def made_mnist(rows: int) -> Rows:
    """Images of which 19.1% of the pixels are not zero, in strokes six wide as those of real ones, and labels."""
    rng = np.random.default_rng(_SEED)
    density, width = 0.191, 6
    begins = rng.random((rows, 784), np.float32) < 1 - (1 - density) ** (1 / width)
    strokes = begins.copy()
    for step in range(1, width):
        strokes[:, step:] |= begins[:, :-step]
    return strokes * rng.random((rows, 784), np.float32), rng.integers(0, 10, rows)


def made_reuters(rows: int) -> Rows:
    """Multi-hot rows of 82 distinct words of 10,000, drawn by Zipf's law, and labels.

    Words are drawn without replacement: the largest of log p + Gumbel noise.
    """
    rng = np.random.default_rng(_SEED)
    log_p = -_ZIPF_EXPONENT * np.log(np.arange(1, 10_001, dtype=np.float32))
    x = np.zeros((rows, 10_000), np.float32)
    for row in x:
        row[np.argpartition(log_p + rng.gumbel(size=10_000).astype(np.float32), -82)[-82:]] = 1
    return x, rng.integers(0, 46, rows)


def _of(peers: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: peers[name] for name in names}


_JOBS = (
    _Job(
        "mnist",
        DENSE,
        rows=60_000,
        quick_rows=6_400,
        at_least={JAX: 3.0, PYTORCH: 6.0, KERAS: 8.0, KERAS_XLA: 8.0, SKLEARN: 10.0},
        made=made_mnist,
    ),
    _Job("fashion_mnist", _of(DENSE, JAX), rows=60_000, quick_rows=6_400, at_least={JAX: 1.5}),
    _Job(
        "fashion_mnist",
        {FLOAT32: "fastnn_mlp.FastnnMLP"},
        rows=60_000,
        quick_rows=6_400,
        at_least={FLOAT32: 1.5},
        compiling={"precision": "bfloat16"},
    ),
    _Job(
        "reuters",
        _of(SPARSE, NUMPY, PYTORCH, JAX, SKLEARN),
        rows=8_982,
        quick_rows=2_048,
        at_least={JAX: 15.0, PYTORCH: 10.0, SKLEARN: 8.0},
        made=made_reuters,
    ),
    _Job(
        "boston_housing",
        _of(DENSE, PYTORCH, SKLEARN),
        rows=404,
        quick_rows=404,
        at_least={PYTORCH: 50.0, SKLEARN: 30.0},
        batch_size=1,
    ),
)

# bfloat16 may cost this much of float32's test accuracy, in points; the mean of this many seeds tells.
_PRECISION_POINTS, _PRECISION_SEEDS = 0.5, 3


def cases(quick: bool = False) -> list[Case]:
    """Each network on made data, and on the real data where the variable FASTNN_DATA names a folder; then stacks."""
    listed = []
    for job in _JOBS:
        rows = job.quick_rows if quick else job.rows
        if job.made is not None:
            made = _of(job.peers, *(name for name in job.peers if name in _ON_MADE_ROWS))
            listed.append(
                Case(job.name(rows, "made"), partial(_workload, job, made, partial(job.made, rows)), slow=True)
            )
        if os.environ.get("FASTNN_DATA"):
            real = partial(_workload, job, job.peers, partial(_real, job.dataset, rows))
            listed.append(Case(job.name(rows, "real"), real, job.at_least, slow=True, skip=job.skip))
    return [*listed, *stacks.cases(quick)]


def gauges() -> list[Gauge]:
    """What bfloat16 costs of the test accuracy."""
    if not os.environ.get("FASTNN_DATA"):
        return []
    return [
        Gauge(
            f"test accuracy of {job.dataset} that {option} loses",
            "points",
            partial(_accuracy_lost, job),
            at_most=_PRECISION_POINTS,
            skip=job.skip,
        )
        for job in _JOBS
        for option in job.compiling.values()
    ]


def _accuracy_lost(job: _Job, count: int) -> list[float]:
    """Percentage points by which a job's options lower the mean test accuracy of ``count`` seeds, of at most three."""
    seeds = range(min(count, _PRECISION_SEEDS))
    plain, optioned = (
        statistics.fmean(_test_accuracy(job, seed, options) for seed in seeds) for options in ({}, job.compiling)
    )
    return [100 * (plain - optioned)]


def _test_accuracy(job: _Job, seed: int, compiling: Mapping[str, Any]) -> float:
    """Of the recipe's network after as many epochs as the recipe has."""
    recipe = RECIPES[job.dataset]
    data = _data(job.dataset)
    set_random_seed(seed)
    network = Network(initial_weights((recipe.inputs, *recipe.hidden, recipe.outputs), seed))
    model = FastnnMLP(network, *data.train, job.batch, **compiling).model
    model.fit(*data.train, batch_size=job.batch, epochs=recipe.epochs, verbose=0)
    return float(model.evaluate(*data.test, verbose=0, return_dict=True)["accuracy"])


def _real(dataset: str, rows: int) -> Rows:
    x, targets = _data(dataset).train
    return x[:rows], targets[:rows]


@cache
def _data(dataset: str) -> Data:
    """The data set, inputs as float32, targets as every contender takes them."""
    data = RECIPES[dataset].data()
    kind = np.float32 if _loss(dataset) == SQUARED_ERROR else np.int64
    train, test = ((x.astype(np.float32, copy=False), y.astype(kind)) for x, y in (data.train, data.test))
    return Data(train, test)


def _loss(dataset: str) -> str:
    return SQUARED_ERROR if RECIPES[dataset].loss == "mse" else CROSS_ENTROPY


def _workload(job: _Job, peers: Mapping[str, str], data: Callable[[], Rows]) -> Workload:
    recipe = RECIPES[job.dataset]
    x, targets = data()
    network = Network(initial_weights((recipe.inputs, *recipe.hidden, recipe.outputs)), _loss(job.dataset))
    sides: dict[str, Callable[..., Any]] = {name: load(path) for name, path in peers.items() if installed(name)}
    sides[FASTNN] = partial(FastnnMLP, **job.compiling)

    def check() -> None:
        few = min(len(x), _CHECKED_BATCHES * job.batch)
        losses = {name: make(network, x[:few], targets[:few], job.batch).epoch(False) for name, make in sides.items()}
        for name in peers.keys() & losses:
            about = f"loss, fastnn against {name}"
            np.testing.assert_allclose(losses[FASTNN], losses[name], rtol=_TOLERANCES[name], err_msg=about)

    def contender(side: Any, rows: int = len(x), note: str = "") -> Contender:
        return Contender(side.epoch, float(rows * flops), float(rows * x.itemsize * recipe.inputs), note)

    ours = FastnnMLP(network, x, targets, job.batch, **job.compiling)
    flops = ours.model.plan().flop_per_sample
    few = slice(0, _NAIVE_ROWS)
    naive = FastnnMLP(network, x[few], targets[few], job.batch, backend="naive")
    contenders = {FASTNN: contender(ours)}
    contenders |= {
        name: contender(make(network, x, targets, job.batch)) for name, make in sides.items() if name != FASTNN
    }
    contenders[NAIVE] = contender(naive, _NAIVE_ROWS, f"{_NAIVE_ROWS} rows")
    return Workload(contenders, check)


def initial_weights(widths: tuple[int, ...], seed: int = _SEED) -> list[Any]:
    """Glorot-uniform kernels and zero biases, float32."""
    rng = np.random.default_rng(seed)
    weights: list[Any] = []
    for inputs, outputs in pairwise(widths):
        limit = np.sqrt(6 / (inputs + outputs))
        weights += [rng.uniform(-limit, limit, (inputs, outputs)).astype(np.float32), np.zeros(outputs, np.float32)]
    return weights
