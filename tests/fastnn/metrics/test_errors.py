"""Means of errors, hinges and divergences: by hand, at the edges of what they are defined for, refused arguments."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastnn import layers, metrics, models

LOG2 = math.log(2)


@pytest.mark.parametrize(
    ("metric", "true", "pred", "wanted"),
    [
        (metrics.Accuracy(), [[1], [2], [3]], [[1], [5], [3]], 2 / 3),
        (metrics.MeanAbsolutePercentageError(), [[2.0, -4.0]], [[1.0, -5.0]], 37.5),
        (metrics.MeanAbsolutePercentageError(), [[0.0]], [[1e-7]], 100),
        (metrics.MeanSquaredLogarithmicError(), [[1.0, 0.0]], [[3.0, -5.0]], LOG2**2 / 2),
        (metrics.LogCoshError(), [[0.0, 0.0]], [[LOG2, -LOG2]], math.log(1.25)),
        (metrics.LogCoshError(), [[0.0]], [[-1000.0]], 1000 - LOG2),
        (metrics.Poisson(), [[2.0, 0.0]], [[1.0, 3.0]], 2.0),
        (metrics.KLDivergence(), [[0.5, 0.5]], [[0.25, 0.75]], 0.5 * LOG2 + 0.5 * math.log(2 / 3)),
        (metrics.KLDivergence(), [[1.0, 0.0]], [[0.5, 0.5]], LOG2 + 1e-7 * math.log(2e-7)),
        (metrics.Hinge(), [[1, 0]], [[0.25, 0.5]], (0.75 + 1.5) / 2),
        (metrics.Hinge(), [[1, -1]], [[0.25, 0.5]], (0.75 + 1.5) / 2),
        (metrics.SquaredHinge(), [[1, 0]], [[0.25, -3.0]], 0.75**2 / 2),
        (metrics.CategoricalHinge(), [[0, 1, 0]], [[0.5, 0.75, 0.25]], 0.75),
        (metrics.CategoricalHinge(), [[0, 1, 0]], [[0.5, 2.0, 0.25]], 0),
        (metrics.CosineSimilarity(), [[1.0, 0.0]], [[3.0, 4.0]], 0.6),
        (metrics.CosineSimilarity(), [[0.0, 0.0]], [[3.0, 4.0]], 0),
        (metrics.PearsonCorrelation(), [[1.0, 2.0, 3.0]], [[9.0, 7.0, 5.0]], -1),
        (metrics.ConcordanceCorrelation(), [[1.0, 2.0, 3.0]], [[2.0, 3.0, 4.0]], 2 * (2 / 3) / (4 / 3 + 1)),
    ],
)
def test_value(metric, true, pred, wanted):
    assert metric(true, pred) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_outputs_that_have_no_figure():
    """Logarithms of negative numbers and correlations of constants are NaN, without a warning."""
    assert math.isnan(metrics.Poisson()([[1.0]], [[-2.0]]))
    assert math.isnan(metrics.PearsonCorrelation()([[1.0, 1.0]], [[1.0, 2.0]]))


def test_functions_take_the_last_axis():
    true, pred = np.zeros((4, 2, 3)), np.ones((4, 2, 3))
    for name in ("log_cosh", "poisson", "hinge", "kl_divergence", "concordance_correlation"):
        assert getattr(metrics, name)(true, pred).shape == (4, 2)
    assert metrics.get(metrics.log_cosh).name == "logcosh"


@pytest.mark.parametrize("make", [metrics.CosineSimilarity, metrics.PearsonCorrelation, metrics.ConcordanceCorrelation])
def test_other_axes_are_refused(make):
    with pytest.raises(ValueError, match="axis: got 0, wants -1"):
        make(axis=0)
    with pytest.raises(ValueError, match=r"y_true: got shape \(2,\), wants \(2, 3\)"):
        make()([1.0, 2.0], np.ones((2, 3)))


def test_they_are_figures_of_training():
    x = np.random.default_rng(0).normal(size=(30, 2)).astype("float32")
    y = np.abs(x.sum(axis=1, keepdims=True)) + 1
    model = models.Sequential([layers.Dense(1, "sigmoid", input_shape=(2,))])
    names = ["mape", "msle", "poisson", "log_cosh_error", "r2_score"]
    model.compile("sgd", "mse", metrics=names)
    history = model.fit(x, y, epochs=2, verbose=0, validation_data=(x, y)).history
    pred = model.predict(x)
    for name in names:
        assert history[f"val_{name}"][-1] == pytest.approx(metrics.get(name)(y, pred), rel=1e-5)
