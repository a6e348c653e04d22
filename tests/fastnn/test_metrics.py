"""Metrics: values by hand, running means, weights, names."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, metrics, models

PRED = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.4, 0.5, 0.1], [0.2, 0.2, 0.6]])
LABELS = np.array([0, 1, 1, 2])
ROWS = np.eye(3)[LABELS]


@pytest.mark.parametrize(
    ("metric", "true", "pred", "wanted"),
    [
        (metrics.SparseCategoricalAccuracy(), LABELS, PRED, 0.75),
        (metrics.SparseCategoricalAccuracy(), LABELS[:, None], PRED, 0.75),
        (metrics.CategoricalAccuracy(), ROWS, PRED, 0.75),
        (metrics.BinaryAccuracy(), ROWS, PRED, 9 / 12),
        (metrics.BinaryAccuracy(threshold=0.25), ROWS, PRED, 10 / 12),
        (metrics.TopKCategoricalAccuracy(k=2), ROWS, PRED, 1.0),
        (metrics.SparseTopKCategoricalAccuracy(k=1), LABELS, PRED, 0.75),
        (metrics.MeanSquaredError(), [[1.0, 2.0]], [[0.0, 4.0]], 2.5),
        (metrics.MeanAbsoluteError(), [[1.0, 2.0]], [[0.0, 4.0]], 1.5),
        (metrics.RootMeanSquaredError(), [[1.0, 2.0], [0, 0]], [[0.0, 4.0], [0, 0]], np.sqrt(1.25)),
        (metrics.HalfSSE(), [[1.0, 2.0]], [[0.0, 4.0]], 2.5),
        (metrics.CategoricalCrossentropy(), ROWS, PRED, -np.log([0.7, 0.3, 0.5, 0.6]).mean()),
        (metrics.SparseCategoricalCrossentropy(), LABELS, PRED, -np.log([0.7, 0.3, 0.5, 0.6]).mean()),
        (metrics.BinaryCrossentropy(), [[1.0], [0.0]], [[0.8], [0.4]], -np.log([0.8, 0.6]).mean()),
        (metrics.get("accuracy"), LABELS, PRED, 0.75),
        (metrics.get("accuracy"), ROWS, PRED, 0.75),
        (metrics.get("acc"), [1, 0, 1, 1], [[0.9], [0.8], [0.7], [0.1]], 0.5),
    ],
)
def test_value(metric, true, pred, wanted):
    assert metric(true, pred) == pytest.approx(wanted, rel=1e-6)


def test_running_mean_counts_samples_not_batches():
    metric = metrics.SparseCategoricalAccuracy()
    metric.update_state(LABELS[:1], PRED[:1])
    metric.update_state(LABELS[1:], PRED[1:])
    assert metric.result() == pytest.approx(0.75)
    metric.reset_state()
    assert metric.result() == 0
    metric.update_state(LABELS[1:2], PRED[1:2])
    assert metric.result() == 0


def test_sample_weights():
    metric = metrics.SparseCategoricalAccuracy()
    assert metric(LABELS, PRED, sample_weight=[1, 3, 1, 1]) == pytest.approx(3 / 6)


@pytest.mark.parametrize("name", sorted(metrics.NAMES))
def test_names_and_configs(name):
    made = metrics.get(name)
    assert made.name == (name if name != type(made).__name__ else metrics.NAMES[name]().name)
    again = metrics.get({"class_name": type(made).__name__, "config": made.get_config()})
    assert type(again) is type(made)
    assert again.name == made.name


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"y_true: got shape \(4,\), wants \(4, 3\)"):
        metrics.MeanSquaredError()(LABELS, PRED)
    with pytest.raises(ValueError, match=r"y_true: got shape \(4, 3\), wants \(4,\)"):
        metrics.SparseCategoricalAccuracy()(ROWS, PRED)


def compiled(names, weighted=None, output=3, loss="sparse_categorical_crossentropy", activation="softmax"):
    model = models.Sequential([layers.Dense(output, activation, input_shape=(2,))])
    model.compile("sgd", loss, metrics=names, weighted_metrics=weighted)
    return model


def test_names_in_a_model_are_unique():
    def half(y_true, y_pred):
        return y_pred[:, 0] * 0 + 0.5

    model = compiled(["accuracy", "acc", "accuracy", half, metrics.SparseCategoricalAccuracy(name="q")], ["accuracy"])
    figures = model.evaluate(np.ones((4, 2)), LABELS, verbose=0, return_dict=True)
    assert list(figures) == ["loss", "accuracy", "acc", "accuracy_1", "half", "q", "weighted_accuracy"]
    assert figures["half"] == 0.5
    assert figures["q"] == figures["accuracy"] == figures["weighted_accuracy"]


def test_fused_loss_gives_metrics_of_probabilities():
    """The loss works on logits; metrics must still see what predict gives."""
    model = compiled(["sparse_categorical_crossentropy", "accuracy"])
    x = np.random.default_rng(0).normal(size=(4, 2))
    figures = model.evaluate(x, LABELS, verbose=0, return_dict=True)
    prediction = model.predict(x)
    wanted = metrics.SparseCategoricalCrossentropy()(LABELS, prediction)
    assert figures["sparse_categorical_crossentropy"] == pytest.approx(wanted, rel=1e-6)
    assert figures["loss"] == pytest.approx(wanted, rel=1e-6)
    assert figures["accuracy"] == (prediction.argmax(axis=1) == LABELS).mean()


def test_binary_accuracy_of_a_fused_sigmoid():
    model = compiled(["accuracy"], output=1, loss="binary_crossentropy", activation="sigmoid")
    model.set_weights([[[0.1], [0.2]], [0.0]])
    x = np.random.default_rng(0).normal(size=(40, 2))
    y = x[:, 0] + 2 * x[:, 1] > 0  # the sign of the logits, few of which are above 0.5
    assert model.evaluate(x, y, verbose=0)[1] == 1


def test_plain_metrics_ignore_sample_weights_and_weighted_ones_do_not():
    model = compiled(["accuracy"], ["accuracy"])
    x = np.random.default_rng(0).normal(size=(4, 2))
    right = model.predict(x).argmax(axis=1) == LABELS
    weight = np.where(right, 3.0, 1.0)
    _, plain, weighted = model.evaluate(x, LABELS, sample_weight=weight, verbose=0)
    assert plain == right.mean()
    assert weighted == pytest.approx((right * weight).sum() / weight.sum())


def test_internal_classes_are_not_offered():
    for wrong, error in (("acuracy", ValueError), (3, TypeError)):
        with pytest.raises(error) as raised:
            metrics.get(wrong)
        assert "Shaped" not in str(raised.value)
        assert "shaped" not in str(raised.value)
        assert "accuracy" in str(raised.value)
    with pytest.raises(ValueError, match="wants one of"):
        metrics.get("ShapedAccuracy")
    assert type(metrics.get("accuracy")).__name__ in metrics.CONFIG_NAMES
