"""Means and sums of values."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import metrics, ops


def test_means_of_values():
    metric = metrics.Mean()
    metric.update_state([[1.0, 3.0], [5.0, 7.0]])
    metric.update_state(9)
    assert metric.result() == (2 + 6 + 9) / 3
    metric.reset_state()
    assert metric([1, 2], sample_weight=[3, 1]) == 5 / 4
    metric.update_state(np.float32(2), 4)
    assert metric.result() == (5 + 8) / 8


def test_what_is_followed_counts_by_its_value():
    mean, accuracy = metrics.Mean(), metrics.BinaryAccuracy()
    x = np.array([[0.2], [0.9]])

    def loss_of(w):
        y = ops.multiply(x, w)
        mean.update_state(ops.sum(y))
        accuracy.update_state(np.array([[1], [1]]), y)
        return ops.sum(ops.square(y))

    _, (slope,) = fastnn.gradients(loss_of, [np.ones((1, 1))])
    assert mean.result() == pytest.approx(1.1)
    assert accuracy.result() == 0.5
    assert slope == pytest.approx(2 * np.square(x).sum())


def test_sums_of_values():
    metric = metrics.Sum(dtype="float64")
    metric.update_state([[1, 2], [3, 4]])
    metric.update_state(0.5)
    assert metric.result() == 10.5
    metric.reset_state()
    assert metric([[1, 2], [3, 4]], sample_weight=[10, 1]) == 37
    assert metric([[1, 2], [3, 4]], sample_weight=[[1], [2]]) == 37 + 17
    metric.update_state([1, 1], 2)
    assert metric.result() == 58


@pytest.mark.parametrize("make", [metrics.Mean, metrics.Sum])
def test_refused_values_change_nothing(make):
    metric = make()
    metric.update_state([2.0])
    for call, error, message in (
        (lambda: metric("3"), TypeError, "values: got str '3', wants a finite number"),
        (lambda: metric([1, 2], [1, 2, 3]), ValueError, r"sample_weight: got shape \(3,\), wants a single number"),
        (lambda: metric(["a"]), TypeError, "values: got ndarray .*, wants an array of numbers"),
    ):
        with pytest.raises(error, match=message):
            call()
        assert metric.result() == 2


def test_a_metric_of_the_users_own_defines_the_rest():
    class Own(metrics.Metric):
        pass

    for method in ("reset_state", "update_state", "result"):
        with pytest.raises(NotImplementedError, match=f"Own: wants a method {method}"):
            getattr(Own(), method)()
