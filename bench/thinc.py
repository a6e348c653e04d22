"""thinc's MNIST network as thinc's users write it, on its own NumpyOps and on fastnn's: an epoch of training.

784-256-256-10 is the script of thinc's examples, 784-32-32-10 its introduction: ReLU with dropout of 0.2, softmax, Adam
at 0.001, shuffled batches of 128. Of the second most is thinc's own Python, on either side. NumpyOps' products run on
one thread, whatever its package of products was told. A line's work is that of the matrix products. Without
``FASTNN_DATA`` there are lines on made data only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from bench.suite import FASTNN, NOT_INSTALLED, THINC, Case, Contender, Workload, installed
from bench.training import made_mnist
from fastnn.recipes import RECIPES

_BATCH, _DROPOUT, _RATE, _CLASSES = 128, 0.2, 0.001, 10
_ROWS, _QUICK_ROWS = 60_000, 6_400

# Units of the hidden layers, and how many times as fast as NumpyOps an epoch on the real data is promised to be.
_NETWORKS = {256: {THINC: 2.0}, 32: {}}

# Batches after which weights are compared, and how far nearly all may be apart then, in steps of the rate. None may be
# a whole step apart: Adam's are about as long whatever the gradient is, so that where this is next to 0 its rounding
# shows (a twentieth of a step was seen).
_COMPARED, _TOLERANCE = 10, 1e-2

Rows = tuple[Any, Any]


def cases(quick: bool = False) -> list[Case]:
    """Each network on made data and on the real data."""
    rows = _QUICK_ROWS if quick else _ROWS
    skip = "" if installed(THINC) else NOT_INSTALLED
    listed = []
    for units, bars in _NETWORKS.items():
        name = f"thinc's MNIST epoch, 784-{units}-{units}-10, batch {_BATCH}, {rows:,}"
        made = partial(_workload, units, partial(made_mnist, rows))
        listed.append(Case(f"{name} made rows", made, slow=True, skip=skip))
        if os.environ.get("FASTNN_DATA"):
            real = partial(_workload, units, partial(_real, rows))
            listed.append(Case(f"{name} real rows", real, bars, slow=True, skip=skip))
    return listed


def _real(rows: int) -> Rows:
    x, y = _data()
    return x[:rows], y[:rows]


@cache
def _data() -> Rows:
    x, y = RECIPES["mnist"].data().train
    return x.astype(np.float32, copy=False), y.ravel()


class _Side:
    """A network under one of thinc's ops, its optimizer, and its epochs."""

    def __init__(self, ops: str, optimizer: Callable[[float], Any], units: int, dropout: float, rows: Rows) -> None:
        from thinc import api

        self.x, self.y = rows
        with api.use_ops(ops):
            layers = (api.Relu(nO=units, dropout=dropout) for _ in range(2))
            self.model = api.chain(*layers, api.Softmax())
            api.fix_random_seed(0)
            self.model.initialize(X=self.x[:5], Y=self.y[:5])
        self.optimizer = optimizer(_RATE)

    def epoch(self, shuffle: bool = True) -> None:
        for x, y in self.model.ops.multibatch(_BATCH, self.x, self.y, shuffle=shuffle):
            outputs, backprop = self.model.begin_update(x)
            backprop(outputs - y)
            self.model.finish_update(self.optimizer)

    def weights(self) -> list[Any]:
        return [node.get_param(name) for node in self.model.walk() for name in node.param_names]


def _sides(units: int, dropout: float, rows: Rows) -> dict[str, _Side]:
    from thinc.api import Adam

    from fastnn import thinc

    return {
        THINC: _Side("numpy", Adam, units, dropout, rows),
        FASTNN: _Side("fastnn", thinc.Adam, units, dropout, rows),
    }


def _workload(units: int, data: Callable[[], Rows]) -> Workload:
    x, labels = data()
    y = np.eye(_CLASSES, dtype=np.float32)[labels]
    compared = x[: _COMPARED * _BATCH], y[: _COMPARED * _BATCH]

    def check() -> None:
        sides = _sides(units, 0.0, compared)  # masks are drawn by other generators
        for side in sides.values():
            side.epoch(shuffle=False)
        for found, expected in zip(*(sides[name].weights() for name in (FASTNN, THINC)), strict=True):
            apart = np.abs(found - expected)
            np.testing.assert_allclose(np.quantile(apart, 0.999), 0, atol=_TOLERANCE * _RATE, err_msg="weights")
            np.testing.assert_allclose(apart.max(), 0, atol=_RATE, err_msg="weights")

    products = x.shape[1] * units + units * units + units * _CLASSES
    flops = 6.0 * len(x) * products  # thinc asks for the gradient of the inputs too
    sides = _sides(units, _DROPOUT, (x, y))
    return Workload({name: Contender(side.epoch, flops, float(x.nbytes)) for name, side in sides.items()}, check)
