"""Overlap of classes: by hand, what does not count, refused updates, training."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastnn import layers, metrics, models

TRUE, PRED = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1])
ROWS = np.eye(3)


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        (metrics.IoU(3, [0]), 1 / 3),
        (metrics.IoU(3, (1, 2)), (1 / 4 + 0) / 2),
        (metrics.MeanIoU(3), (1 / 3 + 1 / 4 + 0) / 3),
        (metrics.MeanIoU(7), (1 / 3 + 1 / 4 + 0) / 3),  # classes that do not occur do not count
        (metrics.MeanIoU(2), (1 / 3 + 1 / 3) / 2),  # neither does what is no class
        (metrics.MeanIoU(3, ignore_class=2), (1 / 3 + 1 / 3) / 2),
        (metrics.IoU(9, [8]), 0.0),
    ],
)
def test_value(metric, wanted):
    assert metric(TRUE, PRED) == pytest.approx(wanted, rel=1e-15)
    metric.reset_state()
    assert metric(TRUE.astype(float), PRED[:, np.newaxis]) == pytest.approx(wanted, rel=1e-15)
    metric.reset_state()
    assert metric.result() == 0


def test_rows_and_thresholds():
    assert metrics.OneHotMeanIoU(3)(ROWS[TRUE], 0.5 * ROWS[PRED]) == metrics.MeanIoU(3)(TRUE, PRED)
    assert metrics.OneHotIoU(3, [1], sparse_y_pred=True)(ROWS[TRUE], PRED) == 1 / 4
    assert metrics.MeanIoU(3, sparse_y_pred=False)(TRUE[:, np.newaxis], ROWS[PRED]) == metrics.MeanIoU(3)(TRUE, PRED)
    # an output at the threshold is of class 1
    assert metrics.BinaryIoU([1], 0.5)([0, 1, 1], [0.4, 0.5, 0.1]) == 1 / 2
    assert metrics.BinaryIoU()([0, 1, 1], [0.4, 0.5, 0.1], sample_weight=[1, 0.5, 0]) == 1


def test_negative_classes_do_not_count():
    assert metrics.MeanIoU(2)([-1, 0, 1], [0, -1, 1]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5], [1]), r"y_true: got 0.5, wants class indices \(whole numbers\); sparse_y_true is True"),
        (([0], [np.nan]), "y_pred: got nan, wants class indices"),
        (([0, 1], [1]), r"y_true: got shape \(2,\), wants \(1,\)"),
        (([0, 1], [1, 1], [1, 2, 3]), r"sample_weight: got shape \(3,\), wants a single number"),
    ],
)
def test_refused_updates_change_nothing(arguments, message):
    metric = metrics.MeanIoU(2)
    metric.update_state(TRUE, PRED)
    before = metric.result()
    with pytest.raises(ValueError, match=message):
        metric.update_state(*arguments)
    assert metric.result() == before


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: metrics.MeanIoU(0), ValueError, "num_classes: got 0, wants an integer of at least 1"),
        (lambda: metrics.IoU(2, [2]), ValueError, r"target_class_ids\[0\]: got 2, wants .* at most 1"),
        (lambda: metrics.IoU(2, [0], ignore_class="0"), TypeError, "ignore_class: got str '0'"),
        (lambda: metrics.MeanIoU(2, axis=0), ValueError, "axis: got 0, wants -1"),
        (lambda: metrics.OneHotIoU(2, [0], sparse_y_pred=1), TypeError, "sparse_y_pred: got int 1"),
        (lambda: metrics.BinaryIoU(threshold="0.5"), TypeError, "threshold: got str '0.5'"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "metric",
    [
        metrics.IoU(4, (1, 2), "i", "float32", 3, False, False),
        metrics.MeanIoU(4, sparse_y_pred=False),
        metrics.OneHotIoU(4, [0], sparse_y_pred=True),
        metrics.OneHotMeanIoU(4, ignore_class=-1),
        metrics.BinaryIoU([0], 0.25),
    ],
)
def test_configs(metric):
    config = json.loads(json.dumps(metric.get_config()))
    assert type(metric).from_config(config).get_config() == metric.get_config() == config


def test_training_on_class_indices():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)).astype("float32"), rng.integers(0, 3, 50)
    model = models.Sequential([layers.Dense(3, "softmax", input_shape=(4,))])
    metric = metrics.MeanIoU(3, sparse_y_pred=False)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[metric])
    model.fit(x, y, epochs=2, verbose=0, validation_data=(x, y))
    wanted = metrics.MeanIoU(3)(y, model.predict(x).argmax(axis=1))
    assert model.evaluate(x, y, verbose=0)[1] == pytest.approx(wanted)
    assert model.history.history["val_mean_io_u"][-1] == pytest.approx(wanted)
