"""F-scores and the coefficient of determination: by hand, special cases, refused updates, configs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastnn import metrics

TRUE = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
PRED = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.0, 0.0]])
TARGETS = np.array([[1.0, 10.0], [2.0, 10.0], [6.0, 40.0]])
OUTPUTS = np.array([[1.0, 15.0], [3.0, 15.0], [5.0, 40.0]])


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        (metrics.F1Score(), [2 / 3, 1 / 2]),
        (metrics.F1Score("macro"), 7 / 12),
        (metrics.F1Score("micro"), 4 / 7),
        (metrics.F1Score("weighted"), 7 / 12),
        (metrics.F1Score(threshold=0.1), [4 / 5, 1 / 2]),
        (metrics.FBetaScore(beta=2), [5 / 9, 1 / 2]),
    ],
)
def test_f_scores(metric, wanted):
    np.testing.assert_allclose(metric(TRUE, PRED), wanted, rtol=1e-6)


def test_largest_outputs_that_are_alike_all_count_and_zeros_never():
    metric = metrics.F1Score()
    np.testing.assert_allclose(metric([[1, 1, 0]], [[0.4, 0.4, 0.2]]), [1, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(metric([[0, 0, 1]], [[0.0, 0.0, 0.0]]), [1, 1, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        (metrics.R2Score(None), [1 - 2 / 14, 1 - 50 / 600]),
        (metrics.R2Score(), 1 - (2 / 14 + 50 / 600) / 2),
        (metrics.R2Score("variance_weighted_average"), 1 - 52 / 614),
        (metrics.R2Score(None, 2), [1 - 2 / 14 * 5 / 3, 1 - 50 / 600 * 5 / 3]),
    ],
)
def test_coefficients(metric, wanted):
    np.testing.assert_allclose(metric(TARGETS, OUTPUTS), wanted, rtol=1e-14)


def test_targets_far_from_zero_lose_nothing():
    """Sums of squares would: of 1e16 nothing is left of distances of 1."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(40, 1))
    pred = true + 0.1 * rng.normal(size=(40, 1))
    near, far = metrics.R2Score(), metrics.R2Score()
    for part in np.split(np.arange(40), [3, 4]):
        near.update_state(true[part], pred[part])
        far.update_state(true[part] + 1e8, pred[part] + 1e8)
    assert far.result() == pytest.approx(near.result(), abs=1e-7)
    assert near.result() == pytest.approx(1 - np.sum((true - pred) ** 2) / np.sum((true - true.mean()) ** 2), rel=1e-13)


def test_targets_that_are_all_alike():
    true = np.full((3, 2), 0.1)
    assert metrics.R2Score(None)(true, true + np.array([0.0, 0.5])).tolist() == [1, 0]
    assert metrics.R2Score("variance_weighted_average")(true, true) == 1


def test_too_few_targets_to_adjust_the_score():
    metric = metrics.R2Score(num_regressors=3)
    with pytest.warns(UserWarning, match="r2_score: got 4 targets for num_regressors=3, wants at least 5 to adjust"):
        assert metric([[1], [2], [3], [4]], [[1], [2], [3], [5]]) == pytest.approx(0.8)
    metric.update_state([[5]], [[5]])
    assert metric.result() == pytest.approx(1 - (1 / 10) * 4 / 1)


def test_no_batch():
    assert metrics.F1Score().result() == metrics.R2Score().result() == 0


@pytest.mark.parametrize("make", [metrics.F1Score, metrics.R2Score])
def test_refused_updates_change_nothing(make):
    metric = make()
    metric.update_state(TRUE, PRED)
    before = metric.result()
    for arguments, message in (
        ((TRUE[:, 0], PRED[:, 0]), r"y_pred: got shape \(4,\), wants \(samples, outputs\)"),
        (([[1, 0, 0]], [[1, 0, 0]]), "y_pred: got 3 outputs, wants 2, as in batches before"),
        ((TRUE[:2], PRED), r"y_true: got shape \(2, 2\), wants \(4, 2\)"),
        ((TRUE, PRED, [1, 2, 3]), r"sample_weight: got shape \(3,\), wants a single number"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.update_state(*arguments)
        np.testing.assert_array_equal(metric.result(), before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.F1Score("mean"), "average: got 'mean', wants one of 'micro', 'macro', 'weighted'"),
        (lambda: metrics.F1Score(threshold=0), "threshold: got 0.0, wants a finite number above 0 and at most 1"),
        (lambda: metrics.FBetaScore(beta=0), "beta: got 0.0, wants a finite number above 0"),
        (lambda: metrics.R2Score("mean"), "class_aggregation: got 'mean', wants one of 'uniform_average'"),
        (lambda: metrics.R2Score(num_regressors=-1), "num_regressors: got -1, wants an integer of at least 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "metric",
    [
        metrics.FBetaScore("weighted", 0.5, 0.25, "f", "float32"),
        metrics.F1Score("micro"),
        metrics.R2Score("variance_weighted_average", 3),
    ],
)
def test_configs(metric):
    config = json.loads(json.dumps(metric.get_config()))
    assert type(metric).from_config(config).get_config() == metric.get_config() == config
