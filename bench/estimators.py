"""Estimators as scikit-learn's users write them, fastnn's and scikit-learn's own: whole fits, all that ``fit`` does.

Both draw the same weights and orders from the same seed, so that a check that the losses agree comes first. A line's
work is that of its matrix products, counted dense. Without ``FASTNN_DATA`` there are lines on made data only.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from bench.suite import FASTNN, SKLEARN, Case, Contender, Workload, installed
from bench.training import made_mnist, made_reuters
from fastnn.recipes import RECIPES

# As far as two losses of float32 may be apart.
_TOLERANCE = 1e-2

Rows = tuple[Any, Any]


@dataclass(frozen=True)
class _Job:
    """A data set, the estimator and what it is given beside the recipe's hidden layers."""

    dataset: str
    estimator: str
    rows: int
    quick_rows: int
    parameters: Mapping[str, Any]
    at_least: float | None
    sparse: bool = False
    made: Callable[[int], Rows] | None = None
    dtype: str = "float32"

    def name(self, rows: int, kind: str) -> str:
        """The line's name."""
        what = f"batch {self.parameters['batch_size']}, {self.parameters['max_iter']} epochs{', CSR' * self.sparse}"
        rows_of = f"{rows:,} {kind} rows{', float64' * (self.dtype == 'float64')}"
        return f"{self.estimator} {self.dataset}, {RECIPES[self.dataset].architecture}, {what}, {rows_of}"


_JOBS = (
    _Job("mnist", "MLPClassifier", 60_000, 6_400, {"batch_size": 128, "max_iter": 5}, 8.0, made=made_mnist),
    _Job("reuters", "MLPClassifier", 8_982, 2_048, {"batch_size": 512, "max_iter": 9}, 8.0, True, made_reuters),
    _Job("boston_housing", "MLPRegressor", 404, 404, {"batch_size": 1, "max_iter": 20}, 30.0),
    # As data come that nobody has converted: no bar, half the lanes and twice the bytes on both sides.
    _Job("mnist", "MLPClassifier", 60_000, 6_400, {"batch_size": 128, "max_iter": 5}, None, dtype="float64"),
    _Job("reuters", "MLPClassifier", 8_982, 2_048, {"batch_size": 512, "max_iter": 9}, None, True, dtype="float64"),
    _Job("boston_housing", "MLPRegressor", 404, 404, {"batch_size": 1, "max_iter": 20}, None, dtype="float64"),
)


def cases(quick: bool = False) -> list[Case]:
    """Each estimator on made data where there are such, and on the real data."""
    listed = []
    for job in _JOBS:
        rows = job.quick_rows if quick else job.rows
        if job.made is not None:
            listed.append(Case(job.name(rows, "made"), partial(_workload, job, partial(job.made, rows)), slow=True))
        if os.environ.get("FASTNN_DATA"):
            real = partial(_workload, job, partial(_real, job.dataset, rows))
            bars = {} if job.at_least is None else {SKLEARN: job.at_least}
            listed.append(Case(job.name(rows, "real"), real, bars, slow=True))
    return listed


def _real(dataset: str, rows: int) -> Rows:
    x, y = _data(dataset)
    return x[:rows], y[:rows]


@cache
def _data(dataset: str) -> Rows:
    x, y = RECIPES[dataset].data().train
    return x.astype(np.float32, copy=False), y.ravel()


def _workload(job: _Job, data: Callable[[], Rows]) -> Workload:
    recipe = RECIPES[job.dataset]
    x, y = data()
    x = x.astype(job.dtype, copy=False)
    if job.sparse:
        from scipy.sparse import csr_matrix

        x = csr_matrix(x)
    fits = {FASTNN: partial(_fit, "fastnn.sklearn", job, x, y)}
    if installed(SKLEARN):
        fits[SKLEARN] = partial(_fit, "sklearn.neural_network", job, x, y)

    def check() -> None:
        losses = {name: fit().loss_ for name, fit in fits.items()}
        for name, loss in losses.items():
            np.testing.assert_allclose(losses[FASTNN], loss, rtol=_TOLERANCE, err_msg=f"loss, fastnn against {name}")

    products = [a * b for a, b in pairwise((recipe.inputs, *recipe.hidden, recipe.outputs))]
    passes = job.parameters["max_iter"] * x.shape[0]
    flops = float(passes * (6 * sum(products) - 2 * products[0]))
    moved = float(passes * recipe.inputs * x.dtype.itemsize)
    return Workload({name: Contender(fit, flops, moved) for name, fit in fits.items()}, check)


def _fit(module: str, job: _Job, x: Any, y: Any) -> Any:
    """The estimator of a module, fitted."""
    kind = getattr(importlib.import_module(module), job.estimator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few epochs do not converge
        hidden = RECIPES[job.dataset].hidden
        return kind(hidden_layer_sizes=hidden, random_state=0, **job.parameters).fit(x, y)
