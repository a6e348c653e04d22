"""Counts, shares and areas: by hand and by other definitions, refused updates, and what training makes of them."""

from __future__ import annotations

import itertools
import json

import keras_epochs
import numpy as np
import pytest

from fastnn import callbacks, layers, metrics, models, utils

TRUE = np.array([0, 0, 1, 1])
PRED = np.array([0.25, 0.75, 0.5, 1.0])


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        (metrics.TruePositives(), 1.0),  # an output at the threshold is not above it
        (metrics.FalseNegatives(), 1.0),
        (metrics.FalsePositives(), 1.0),
        (metrics.TrueNegatives([0.25, 0.5, 0.75]), [1.0, 1.0, 2.0]),
        (metrics.Precision(), 0.5),
        (metrics.Precision(np.array([0.75, 0.25])), [1.0, 2 / 3]),
        (metrics.Recall([0.25]), 1.0),
        (metrics.Recall([1.0]), 0.0),
        (metrics.SensitivityAtSpecificity(0.5), 1.0),
        (metrics.SpecificityAtSensitivity(1.0), 0.5),
        (metrics.PrecisionAtRecall(0.5), 1.0),
        (metrics.RecallAtPrecision(0.9), 0.5),
        (metrics.RecallAtPrecision(1.0, num_thresholds=1), 0.0),
        (metrics.AUC(), 0.75),
        (metrics.AUC(thresholds=[0.8]), 0.75),
        (metrics.AUC(thresholds=[0.8], summation_method="minoring"), 0.5),
        (metrics.AUC(thresholds=[0.8], summation_method="majoring"), 1.0),
    ],
)
def test_value(metric, wanted):
    np.testing.assert_allclose(metric(TRUE, PRED), wanted, rtol=1e-15)


def test_the_area_is_the_share_of_pairs_in_order():
    """Mann and Whitney: of all pairs of a positive and a negative, those with the higher output for the positive."""
    rng = np.random.default_rng(0)
    pred, true, weight = rng.integers(0, 40, 300) / 40, rng.integers(0, 2, 300), rng.integers(0, 4, 300)
    ordered = whole = 0.0
    for (p, t, w), (q, u, v) in itertools.product(zip(pred, true, weight, strict=True), repeat=2):
        if t > u:
            ordered += w * v * ((p > q) + (p == q) / 2)
            whole += w * v
    metric = metrics.AUC(num_thresholds=41)
    for part in np.split(np.arange(300), [7, 150]):
        metric.update_state(true[part], pred[part] + 0.01, weight[part])  # between thresholds
    assert metric.result() == pytest.approx(ordered / whole, rel=1e-13)


def test_areas_of_perfect_and_useless_outputs():
    perfect = {"y_true": [0, 0, 1], "y_pred": [0.2, 0.3, 0.9]}
    for curve in ("ROC", "PR", "PRGAIN", "roc"):
        assert metrics.AUC(curve=curve)(**perfect) == pytest.approx(1)
    assert metrics.AUC()(TRUE, [0.5] * 4) == 0.5


def test_outputs_outside_of_the_unit_interval_count_as_its_ends():
    outside = [-3.0, 0.5, 0.5, 7.0]
    for metric in (metrics.AUC, lambda: metrics.SensitivityAtSpecificity(0.5)):
        assert metric()(TRUE, outside) == metric()(TRUE, np.clip(outside, 0, 1))


def test_logits():
    logits = np.array([-800.0, 0.3, 1.5, 800.0])
    assert metrics.AUC(from_logits=True)(TRUE, logits) == metrics.AUC()(
        TRUE, 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    )


def test_outputs_that_are_no_numbers_are_above_no_threshold():
    assert metrics.TruePositives()([1, 1], [np.nan, 0.9]) == 1
    assert metrics.FalseNegatives()([1, 1], [np.nan, 0.9]) == 1


def test_of_equal_outputs_the_first_are_largest():
    assert metrics.TruePositives().top_k is None
    pred = np.random.default_rng(0).integers(0, 3, (1, 300)) / 3
    first = [keras_epochs.among_largest(pred, place, 120) for place in np.ndindex(pred.shape)]
    assert metrics.Precision(top_k=120)([first], pred) == metrics.Recall(top_k=120)([first], pred) == 1
    assert metrics.Precision(top_k=5)([[1, 1, 0]], [[0.1, 0.2, 0.3]]) == pytest.approx(2 / 3)


def test_thresholds_are_compared_in_the_dtype_of_the_outputs():
    for dtype in ("float32", "float64"):
        assert metrics.FalseNegatives(0.3)([1], np.array([0.3], dtype)) == 1
        assert metrics.AUC(11).thresholds[4] == 0.4


@pytest.mark.parametrize("thresholds", [None, [0.8]])
def test_thresholds_are_no_variables(thresholds):
    metric = metrics.AUC(thresholds=thresholds)
    assert metric.variables == []
    made = metric.add_weight()
    assert metric.variables == [made]
    assert metric.get_config()["thresholds"] == thresholds


def test_counts_of_many_batches_are_exact():
    metric = metrics.TruePositives(dtype="float64")
    for _ in range(3):
        metric.update_state(np.ones(2**20 + 1), np.ones(2**20 + 1, "float32"), 2.0**10)
    assert metric.result() == 3 * (2**20 + 1) * 2**10
    assert metrics.Precision(dtype="float32")([0, 0, 1], [1, 1, 1]) == np.float32(1 / 3)


def test_no_batch_and_empty_batches():
    for name in ("TruePositives", "Precision", "Recall", "AUC"):
        metric = getattr(metrics, name)()
        assert metric.result() == 0
        metric.update_state(np.zeros((0, 1)), np.zeros((0, 1)))
        assert metric.result() == 0


REFUSED = {
    "targets of another shape": (metrics.Precision, ([1], PRED), r"y_true: got shape \(1,\), wants \(4,\)"),
    "weights of another shape": (
        metrics.Recall,
        (TRUE, PRED, [1, 2]),
        r"sample_weight: got shape \(2,\), wants a single",
    ),
    "weights with NaN": (metrics.AUC, (TRUE, PRED, [1, 1, 1, np.nan]), "sample_weight: got nan in row 3"),
    "a class of vectors": (
        lambda: metrics.Precision(class_id=0),
        (TRUE, PRED),
        r"class_id: got 0, wants a column of y_pred, whose shape is \(4,\)",
    ),
    "a class that is not there": (
        lambda: metrics.PrecisionAtRecall(0.5, class_id=2),
        (TRUE.reshape(2, 2), PRED.reshape(2, 2)),
        r"class_id: got 2, wants a column of y_pred, whose shape is \(2, 2\)",
    ),
    "labels of vectors": (
        lambda: metrics.AUC(multi_label=True),
        (TRUE, PRED),
        r"y_pred: got shape \(4,\), wants \(samples, labels\), as multi_label says",
    ),
    "other labels than said": (
        lambda: metrics.AUC(multi_label=True, num_labels=3),
        (TRUE.reshape(2, 2), PRED.reshape(2, 2)),
        "y_pred: got 2 labels, wants 3",
    ),
    "too few weights of labels": (
        lambda: metrics.AUC(label_weights=[1.0]),
        (TRUE.reshape(2, 2), PRED.reshape(2, 2)),
        "label_weights: got 1 weights, wants 2, one a column of y_pred",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_updates_change_nothing(case):
    make, arguments, message = REFUSED[case]
    metric = make()
    before = metric.result()
    with pytest.raises(ValueError, match=message):
        metric.update_state(*arguments)
    assert metric.result() == before
    assert not metric._counts.any()


def test_the_number_of_labels_stays():
    metric = metrics.AUC(multi_label=True)
    metric.update_state([[0, 1]], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="y_pred: got 3 labels, wants 2"):
        metric.update_state([[0, 1, 1]], [[0.5, 0.5, 0.5]])
    metric.reset_state()
    metric.update_state([[0, 1, 1]], [[0.5, 0.5, 0.5]])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: metrics.Precision(1.5), ValueError, "thresholds: got 1.5, wants .*at least 0 and at most 1"),
        (lambda: metrics.Recall([0.5, -1]), ValueError, r"thresholds\[1\]: got -1.0, wants"),
        (lambda: metrics.Recall([]), ValueError, "thresholds: got none, wants at least one"),
        (lambda: metrics.Recall("half"), TypeError, "thresholds: got str 'half', wants a finite number"),
        (lambda: metrics.Precision(top_k=0), ValueError, "top_k: got 0, wants an integer of at least 1"),
        (lambda: metrics.Precision(class_id=-1), ValueError, "class_id: got -1, wants an integer of at least 0"),
        (lambda: metrics.AUC(1), ValueError, "num_thresholds: got 1, wants an integer of at least 2"),
        (lambda: metrics.AUC(curve="RCO"), ValueError, "curve: got 'RCO', wants one of 'ROC', 'PR', 'PRGAIN'"),
        (lambda: metrics.AUC(curve=3), TypeError, "curve: got int 3, wants one of 'ROC'"),
        (lambda: metrics.AUC(summation_method="mid"), ValueError, "summation_method: got 'mid', wants one of"),
        (lambda: metrics.AUC(thresholds=[2.0]), ValueError, r"thresholds\[0\]: got 2.0, wants"),
        (lambda: metrics.AUC(num_labels=2), ValueError, "num_labels: got 2 without multi_label"),
        (lambda: metrics.AUC(label_weights=[-1.0]), ValueError, "label_weights: got list .*, none below 0"),
        (
            lambda: metrics.AUC(label_weights=[[1.0]]),
            ValueError,
            "label_weights: got list .*, wants one number a",
        ),
        (lambda: metrics.AUC(from_logits=1), TypeError, "from_logits: got int 1, wants True or False"),
        (lambda: metrics.PrecisionAtRecall(1.5), ValueError, "recall: got 1.5, wants"),
        (lambda: metrics.RecallAtPrecision(-1), ValueError, "precision: got -1.0, wants"),
        (lambda: metrics.SensitivityAtSpecificity(2), ValueError, "specificity: got 2.0, wants"),
        (lambda: metrics.SpecificityAtSensitivity(2), ValueError, "sensitivity: got 2.0, wants"),
        (
            lambda: metrics.PrecisionAtRecall(0.5, 0),
            ValueError,
            "num_thresholds: got 0, wants an integer",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "metric",
    [
        metrics.Precision([0.2, 0.8], top_k=3, class_id=1, name="p", dtype="float32"),
        metrics.Recall(0.25),
        metrics.Recall(np.array(0.25)),
        metrics.FalsePositives(np.array([0.5, 0.25])),
        metrics.RecallAtPrecision(0.5, 9, 2),
        metrics.AUC(5, "pr", "Minoring", thresholds=[0.5, 0.25], from_logits=True),
        metrics.AUC(5, multi_label=True, num_labels=2, label_weights=np.array([1.0, 2.0])),
    ],
)
def test_configs(metric):
    config = json.loads(json.dumps(metric.get_config()))
    again = type(metric).from_config(config)
    assert again.get_config() == metric.get_config() == config
    assert again.thresholds == metric.thresholds


# ---------------------------------------------------------------------------------------------------------- training


def classifier(**compiled):
    utils.set_random_seed(1)
    model = models.Sequential([layers.Dense(1, "sigmoid", input_shape=(3,))])
    model.compile("rmsprop", "binary_crossentropy", **compiled)
    return model


X = np.random.default_rng(2).normal(size=(90, 3)).astype("float32")
Y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype("float32")


def test_training_tells_the_figures_of_whole_epochs(capsys):
    """Arrays in the history, their means on the line; those of evaluate follow from what predict gives."""
    model = classifier(metrics=[metrics.Precision(thresholds=[0.2, 0.8]), "auc"], weighted_metrics=[metrics.Recall()])
    weight = np.where(Y > 0, 2.0, 0.5)
    history = model.fit(X, Y, 32, epochs=2, validation_data=(X, Y, weight), sample_weight=weight, verbose=2).history
    assert list(history) == [f"{val}{name}" for val in ("", "val_") for name in ("loss", "precision", "auc", "recall")]
    assert [figure.shape for figure in history["precision"]] == [(2,), (2,)]
    assert all(isinstance(figure, float) for figure in history["auc"] + history["recall"])
    line = capsys.readouterr().out.splitlines()[-1]
    assert f"precision: {history['precision'][-1].mean():.4f}" in line
    figures = model.evaluate(X, Y, batch_size=7, sample_weight=weight, verbose=0, return_dict=True)
    outputs = model.predict(X)
    np.testing.assert_array_equal(figures["precision"], metrics.Precision([0.2, 0.8])(Y, outputs))
    assert figures["auc"] == pytest.approx(metrics.AUC()(Y, outputs), rel=1e-12)
    assert figures["recall"] == metrics.Recall()(Y, outputs, weight)
    for name, value in figures.items():
        np.testing.assert_allclose(history[f"val_{name}"][-1], value, rtol=1e-6)


def test_a_fit_with_them_is_the_same_but_for_the_figures():
    plain, measured = classifier(), classifier(metrics=["auc", metrics.F1Score("macro", 0.5)])
    losses = [model.fit(X, Y, 32, epochs=3, verbose=0, shuffle=False).history["loss"] for model in (plain, measured)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert measured.plan(X).runner == "fused"
    assert measured.plan(X).facts["metrics"] == "auc, f1_score: behind every batch, of its outputs"


def test_models_with_them_are_saved_and_loaded(tmp_path):
    model = classifier(metrics=[metrics.Precision(thresholds=[0.2, 0.8]), metrics.PrecisionAtRecall(0.5, name="p")])
    model.save(tmp_path / "model.safetensors")
    loaded = models.load_model(tmp_path / "model.safetensors")
    for one, other in zip(model.evaluate(X, Y, verbose=0), loaded.evaluate(X, Y, verbose=0), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("callback", [callbacks.EarlyStopping, callbacks.ModelCheckpoint])
def test_callbacks_want_one_number(callback, tmp_path):
    where = {"filepath": tmp_path / "m.safetensors", "save_best_only": True}
    options = where if callback is callbacks.ModelCheckpoint else {}
    model = classifier(metrics=[metrics.Precision(thresholds=[0.2, 0.8]), "recall"])
    model.fit(X, Y, verbose=0, callbacks=callback(monitor="recall", **options))
    with pytest.raises(
        ValueError, match=r"monitor: got 'precision', which is ndarray of shape .*, wants a single number"
    ):
        model.fit(X, Y, verbose=0, callbacks=callback(monitor="precision", **options))


def test_values_alone_are_no_metric_of_a_model():
    for metric in (metrics.Mean(), metrics.Sum()):
        with pytest.raises(TypeError, match=r"metrics\[0\]: got a (Mean|Sum) of values, wants a metric of targets and"):
            classifier(metrics=[metric])
