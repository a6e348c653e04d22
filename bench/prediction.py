"""Prediction with the documents' MNIST network: the outputs of 10,000 images, against NumPy and PyTorch."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from bench.peers import DENSE, load
from bench.peers.fastnn_mlp import FastnnMLP
from bench.peers.network import Network
from bench.suite import FASTNN, NUMPY, PYTORCH, Case, Contender, Workload, assert_agree, installed
from bench.training import initial_weights, made_mnist
from fastnn.recipes import RECIPES

_ROWS = 10_000
_AT_LEAST = {PYTORCH: 2.0}
# Probabilities of 784 and of 512 float32 products, summed in another order.
_TOLERANCE = 1e-5


def cases() -> list[Case]:
    """On made images, and on the test images where the variable FASTNN_DATA names a folder."""
    name = f"predict mnist, {RECIPES['mnist'].architecture}, {_ROWS:,}"
    listed = [Case(f"{name} made rows", partial(_workload, lambda: made_mnist(_ROWS)[0]))]
    if os.environ.get("FASTNN_DATA"):
        listed.append(Case(f"{name} real rows", partial(_workload, _test_images), _AT_LEAST))
    return listed


@cache
def _test_images() -> Any:
    return RECIPES["mnist"].data().test[0]


def _workload(images: Callable[[], Any]) -> Workload:
    recipe, x = RECIPES["mnist"], images()
    widths = (recipe.inputs, *recipe.hidden, recipe.outputs)
    network = Network(initial_weights(widths))
    labels = np.zeros(len(x), np.int64)
    makers = {name: load(DENSE[name]) for name in (NUMPY, PYTORCH) if installed(name)}
    sides = {name: make(network, x, labels, recipe.batch_size) for name, make in {FASTNN: FastnnMLP, **makers}.items()}
    runs = {name: side.predict for name, side in sides.items()}

    def check() -> None:
        for name, run in runs.items():
            assert_agree(f"probabilities, {name} against NumPy", run(), runs[NUMPY](), _TOLERANCE)

    flops = 2.0 * len(x) * sum(a * b for a, b in pairwise(widths))
    return Workload({name: Contender(run, flops, float(x.nbytes)) for name, run in runs.items()}, check)
