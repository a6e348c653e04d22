"""Penalties that are averaged as the loss is, and the figure of a loss, on both runners of the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, losses, optimizers, regularizers
from fastnn.engine import RUNNERS, DataSet, Network, input_source

ROWS, BATCH, RATE, L1, L2 = 7, 3, 0.05, 0.3, 0.2
GENERATOR = np.random.default_rng(0)
X, Y = GENERATOR.normal(size=(ROWS, 4)), GENERATOR.normal(size=(ROWS, 2))
KERNEL = GENERATOR.normal(size=(4, 2))
WEIGHTS = np.linspace(0.5, 2, ROWS)


def by_hand(weights, l1, scale):
    """(kernel, figure) after an epoch of SGD on a line without bias, its last batch of one sample."""
    kernel, figure = KERNEL.copy(), 0.0
    for first in range(0, ROWS, BATCH):
        some = slice(first, first + BATCH)
        x, share = X[some], weights[some, np.newaxis] / weights[some].sum()
        error = x @ kernel - Y[some]
        penalty = l1 * np.abs(kernel).sum() + L2 * np.square(kernel).sum()
        figure += len(x) / ROWS * (scale * 0.5 * (share * error**2).sum() + penalty / weights[some].sum())
        slope = l1 * np.sign(kernel) + 2 * L2 * kernel
        kernel -= RATE * (x.T @ (share * error) + slope / weights[some].sum())
    return kernel, figure


@pytest.mark.parametrize("runner", ["fused", "layerwise"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l1", [0.0, L1])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_penalties_are_divided_as_the_loss_is(runner, weighted, l1, scale):
    line = layers.Dense(2, use_bias=False, kernel_regularizer=regularizers.L1L2(l1, L2), dtype="float64")
    line.build((None, 4), [KERNEL.copy()])
    loss = losses.QuadraticCost("mean_with_sample_weight")
    loss.figure_scale = scale
    network = Network([line], np.dtype("float64"), loss, optimizers.SGD(RATE), averaged_penalties=True)
    source = input_source("X", X, np.dtype("float64"))
    data = DataSet(source, Y, WEIGHTS if weighted else None, np.dtype("float64"))
    figures = RUNNERS[runner](network, "cpu").train_epoch(data, BATCH)
    kernel, figure = by_hand(WEIGHTS if weighted else np.ones(ROWS), l1, scale)
    np.testing.assert_allclose(line.kernel.value, kernel, rtol=1e-12)
    assert figures["loss"] == pytest.approx(figure, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_recorded_step_divides_them_as_well(weighted):
    """More batches than run op by op, of which those with weights stay so."""
    kernels = []
    for runner in ("fused", "layerwise"):
        line = layers.Dense(2, use_bias=False, kernel_regularizer=regularizers.L2(L2), dtype="float64")
        line.build((None, 4), [KERNEL.copy()])
        loss = losses.QuadraticCost("mean_with_sample_weight")
        network = Network([line], np.dtype("float64"), loss, optimizers.SGD(RATE), averaged_penalties=True)
        data = DataSet(input_source("X", X, np.dtype("float64")), Y, WEIGHTS if weighted else None, np.dtype("float64"))
        made = RUNNERS[runner](network, "cpu")
        for _ in range(12):
            made.train_epoch(data, BATCH)
        kernels.append(line.kernel.value)
    np.testing.assert_allclose(*kernels, rtol=1e-10)
