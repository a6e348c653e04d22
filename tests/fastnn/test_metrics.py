"""Metrics: values by hand, running means, weights, names."""

from __future__ import annotations

import inspect
import itertools
import json

import keras_epochs
import keras_figures as keras
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


# ------------------------------------------------------------------------------------------------------ as Keras has it


def of_figure(name):
    figure = keras.FIGURES[name]
    return figure, getattr(metrics, figure.cls)(**figure.options)


@pytest.mark.parametrize(("name", "shapes"), keras.cases(keras.METRICS))
def test_batches_of_any_shapes_and_weights(name, shapes):
    """Two batches of different lengths, and of the same; weights that do not fit are refused and change nothing."""
    served = refused = 0
    for weights, sizes in itertools.product(keras.WEIGHTS, keras.SIZES):
        figure, metric = of_figure(name)
        batches = keras.batches(name, shapes, weights, sizes)
        wanted = keras.running(batches, figure)
        if wanted is not None:
            for batch in batches:
                metric.update_state(*batch)
            assert metric.result() == pytest.approx(wanted, rel=1e-12, abs=1e-14), (weights, sizes)
            served += 1
            continue
        true, pred, weight = batches[0]
        before = metric(true, pred)
        with pytest.raises(ValueError, match=r"^sample_weight: got shape \(.*\), wants a single number"):
            metric.update_state(true, pred, weight)
        assert metric.result() == before
        assert metric(true, pred) == pytest.approx(before, rel=1e-15)
        refused += 1
    assert served >= 6
    assert refused >= 2


@pytest.mark.parametrize(("name", "shapes"), keras.cases(n for n in keras.METRICS if keras.FIGURES[n].function))
def test_functions_have_the_shape_of_keras(name, shapes):
    figure = keras.FIGURES[name]
    for sizes in keras.SIZES:
        true, pred, _ = keras.batches(name, shapes, None, sizes)[0]
        got = getattr(metrics, figure.function)(true, pred, **figure.options)
        wanted = figure.values(true, pred)
        assert isinstance(got, np.ndarray)
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("weights", keras_epochs.WEIGHTS)
@pytest.mark.parametrize("name", keras_epochs.EPOCHS)
def test_figures_of_an_epoch(name, weights):
    """Those of all samples of three batches; once more after a reset."""
    epoch, batches = keras_epochs.EPOCHS[name], keras_epochs.batches(name, weights)
    metric = getattr(metrics, epoch.cls)(**epoch.options)
    for _ in range(2):
        for batch in batches:
            metric.update_state(*batch)
        got, wanted = metric.result(), epoch.result(batches)
        assert isinstance(got, float if np.ndim(wanted) == 0 else np.ndarray)
        np.testing.assert_allclose(got, wanted, rtol=2e-6 if "F" in name else 1e-12, atol=1e-12)
        metric.reset_state()


def test_vectors_in_batches_of_different_lengths():
    """Of six numbers five are right; and the root of the mean of six squares."""
    accuracy, root = metrics.BinaryAccuracy(), metrics.RootMeanSquaredError()
    for true, pred in [([1, 0, 1, 1, 0], [0.9, 0.2, 0.8, 0.7, 0.1]), ([1], [0.2])]:
        accuracy.update_state(true, pred)
        root.update_state(np.zeros(len(pred)), np.array([1.0] if len(pred) == 1 else [0.0] * 5))
    assert accuracy.result() == pytest.approx(5 / 6)
    assert root.result() == pytest.approx(np.sqrt(1 / 6))


def test_losses_of_vectors_are_of_one_sample():
    """As in Keras, whose functions take the mean of the last axis: (n, 1) makes n samples."""
    by_batch, by_sample = metrics.MeanSquaredError(), metrics.MeanSquaredError()
    for pred in (np.zeros(5), np.ones(1)):
        by_batch.update_state(np.zeros(len(pred)), pred)
        by_sample.update_state(np.zeros((len(pred), 1)), pred[:, None])
    assert by_batch.result() == 1 / 2
    assert by_sample.result() == pytest.approx(1 / 6)
    with pytest.raises(ValueError, match=r"sample_weight: got shape \(3,\), wants a single number: .*reshape\(-1, 1\)"):
        metrics.MeanSquaredError()([1, 2, 3], [1, 2, 3], [1, 1, 1])


def test_a_single_weight_is_that_of_the_batch():
    metric = metrics.BinaryAccuracy()
    metric.update_state([1, 1, 1, 1], [1, 1, 1, 0], sample_weight=1)
    metric.update_state([1], [0], sample_weight=np.float32(3))
    assert metric.result() == pytest.approx((1 * 0.75 + 3 * 0) / 4)


NAMED = ["name", "dtype"]
COUNT = ["thresholds", *NAMED]
SHARE = ["thresholds", "top_k", "class_id", *NAMED]
OVERLAP = ["sparse_y_pred", "axis"]
BOUND = ["num_thresholds", "class_id", *NAMED]
SIGNATURES = {  # as in Keras 3.15, whose names default to the string that None stands for here; and the direction
    "Metric": (["dtype", "name"], None),
    "Mean": (NAMED, None),
    "Sum": (NAMED, None),
    "MeanMetricWrapper": (["fn", *NAMED], None),
    "Accuracy": (NAMED, "up"),
    "BinaryAccuracy": ([*NAMED, "threshold"], "up"),
    "CategoricalAccuracy": (NAMED, "up"),
    "SparseCategoricalAccuracy": (NAMED, "up"),
    "TopKCategoricalAccuracy": (["k", *NAMED], "up"),
    "SparseTopKCategoricalAccuracy": (["k", *NAMED, "from_sorted_ids"], "up"),
    "MeanSquaredError": (NAMED, "down"),
    "RootMeanSquaredError": (NAMED, "down"),
    "MeanAbsoluteError": (NAMED, "down"),
    "MeanAbsolutePercentageError": (NAMED, "down"),
    "MeanSquaredLogarithmicError": (NAMED, "down"),
    "LogCoshError": (NAMED, "down"),
    "HalfSSE": (NAMED, "down"),
    "Hinge": (NAMED, "down"),
    "SquaredHinge": (NAMED, "down"),
    "CategoricalHinge": (NAMED, "down"),
    "KLDivergence": (NAMED, "down"),
    "Poisson": (NAMED, "down"),
    "BinaryCrossentropy": ([*NAMED, "from_logits", "label_smoothing"], "down"),
    "CategoricalCrossentropy": ([*NAMED, "from_logits", "label_smoothing", "axis"], "down"),
    "SparseCategoricalCrossentropy": ([*NAMED, "from_logits", "ignore_class", "axis"], "down"),
    "CosineSimilarity": ([*NAMED, "axis"], "up"),
    "PearsonCorrelation": ([*NAMED, "axis"], "up"),
    "ConcordanceCorrelation": ([*NAMED, "axis"], "up"),
    "R2Score": (["class_aggregation", "num_regressors", *NAMED], "up"),
    "F1Score": (["average", "threshold", *NAMED], "up"),
    "FBetaScore": (["average", "beta", "threshold", *NAMED], "up"),
    "TruePositives": (COUNT, None),
    "TrueNegatives": (COUNT, None),
    "FalsePositives": (COUNT, None),
    "FalseNegatives": (COUNT, None),
    "Precision": (SHARE, "up"),
    "Recall": (SHARE, "up"),
    "PrecisionAtRecall": (["recall", *BOUND], "up"),
    "RecallAtPrecision": (["precision", *BOUND], "up"),
    "SensitivityAtSpecificity": (["specificity", *BOUND], "up"),
    "SpecificityAtSensitivity": (["sensitivity", *BOUND], "up"),
    "IoU": (["num_classes", "target_class_ids", *NAMED, "ignore_class", "sparse_y_true", *OVERLAP], "up"),
    "MeanIoU": (["num_classes", *NAMED, "ignore_class", "sparse_y_true", *OVERLAP], "up"),
    "OneHotIoU": (["num_classes", "target_class_ids", *NAMED, "ignore_class", *OVERLAP], "up"),
    "OneHotMeanIoU": (["num_classes", *NAMED, "ignore_class", *OVERLAP], "up"),
    "BinaryIoU": (["target_class_ids", "threshold", *NAMED], "up"),
    "AUC": (
        [
            *("num_thresholds", "curve", "summation_method", *NAMED, "thresholds"),
            *("multi_label", "num_labels", "label_weights", "from_logits"),
        ],
        "up",
    ),
}
# What the classes want that cannot be made of a name alone.
WANTED = {
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
    "MeanMetricWrapper": {"fn": max},
    "IoU": {"num_classes": 3, "target_class_ids": (0, 2)},
    "MeanIoU": {"num_classes": 3},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [1]},
    "OneHotMeanIoU": {"num_classes": 3},
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_are_in_keras_order(name):
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD,)
    parameters = inspect.signature(getattr(metrics, name)).parameters.values()
    assert [parameter.name for parameter in parameters if parameter.kind in kinds] == SIGNATURES[name][0]


def test_directions():
    assert set(SIGNATURES) == {name for name in metrics.__all__ if isinstance(getattr(metrics, name), type)}
    for name, (_, direction) in SIGNATURES.items():
        assert getattr(metrics, name)(**WANTED.get(name, {})).direction == direction, name
    assert metrics.MeanMetricWrapper(metrics.mean_absolute_error).direction == "down"
    assert metrics.MeanMetricWrapper(metrics.binary_accuracy).direction == "up"


def test_arguments_by_position():
    metric = metrics.BinaryAccuracy("half", "float32", 0.3)
    assert (metric.name, metric.dtype, metric.threshold) == ("half", "float32", 0.3)
    metric = metrics.SparseTopKCategoricalAccuracy(2, "top", np.float64, True)
    assert metric.get_config() == {"name": "top", "dtype": "float64", "k": 2, "from_sorted_ids": True}
    metric = metrics.CategoricalCrossentropy("ce", None, True, 0.1, -1)
    assert (metric.from_logits, metric.label_smoothing) == (True, 0.1)


def test_dtype_is_that_of_the_result():
    true, pred = [[1.0], [0.0], [0.0]], [[1.0], [1.0], [0.0]]
    assert metrics.MeanSquaredError(dtype="float32")(true, pred) == float(np.float32(1 / 3))
    assert metrics.RootMeanSquaredError(dtype=np.float32)(true, pred) == float(np.float32(np.sqrt(1 / 3)))
    for dtype in (None, "float64"):
        assert metrics.MeanSquaredError(dtype=dtype)(true, pred) == pytest.approx(1 / 3, rel=1e-15)


def test_sorted_classes():
    """Outputs may be the classes themselves, best first; the label is among the first two in the first row alone."""
    best_first = [[3, 1, 0, 2], [0, 2, 1, 3]]
    metric = metrics.SparseTopKCategoricalAccuracy(k=2, from_sorted_ids=True)
    assert metric([1, 1], best_first) == 0.5
    assert metric.fused_form(4) is None
    got = metrics.sparse_top_k_categorical_accuracy([[1], [1]], best_first, 2, True)
    np.testing.assert_array_equal(got, [[1], [0]])


REFUSED = {
    "weights with NaN": (lambda m: m([1], [1], [np.nan]), ValueError, "sample_weight: got nan in row 0"),
    "weight a string": (lambda m: m([1], [1], "3"), TypeError, "sample_weight: got str '3', wants a finite number"),
    "ragged weights": (
        lambda m: m([1], [1], [[1], [1, 2]]),
        ValueError,
        "sample_weight: got rows of different lengths",
    ),
    "objects as weights": (lambda m: m([1], [1], [None]), TypeError, "sample_weight: got ndarray .* dtype object"),
    "infinite weight": (lambda m: m([1], [1], np.inf), ValueError, "sample_weight: got inf, wants a finite number"),
    "targets too short": (
        lambda m: m([1], [1, 0]),
        ValueError,
        r"y_true: got shape \(1,\), wants \(2,\), the shape of y_pred",
    ),
    "targets to be broadcast": (
        lambda m: m([[1], [0]], [[1, 0], [0, 1]]),
        ValueError,
        r"y_true: got shape \(2, 1\), wants \(2, 2\)",
    ),
    "outputs of strings": (lambda m: m([1], ["a"]), TypeError, "y_pred: got ndarray .*, wants an array of numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_updates_change_nothing(case):
    call, error, message = REFUSED[case]
    metric = metrics.BinaryAccuracy()
    metric.update_state([1, 1, 0], [0, 1, 0])
    with pytest.raises(error, match=message):
        call(metric)
    assert metric.result() == pytest.approx(2 / 3)
    metric.update_state([1], [1])
    assert metric.result() == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.sparse_top_k_categorical_accuracy([3], PRED[:1], 2), r"y_true: got the label 3, .*\[0, 3\)"),
        (lambda: metrics.sparse_top_k_categorical_accuracy([-1], PRED[:1], 2), r"y_true: got the label -1, .*\[0, 3\)"),
        (
            lambda: metrics.sparse_top_k_categorical_accuracy([0.5], PRED[:1], 2),
            r"y_true: got 0.5, wants class indices",
        ),
        (lambda: metrics.top_k_categorical_accuracy(ROWS, PRED, 0), "k: got 0, wants an integer of at least 1"),
        (lambda: metrics.binary_accuracy([1], [1], np.nan), "threshold: got nan, wants a finite number"),
        (lambda: metrics.BinaryCrossentropy(label_smoothing=2), "label_smoothing: got 2.0, wants .*at most 1"),
        (lambda: metrics.CategoricalCrossentropy(axis=1), "axis: got 1, wants -1"),
        (lambda: metrics.SparseCategoricalCrossentropy(ignore_class=0), "ignore_class: got 0, wants None.*weight 0"),
        (lambda: metrics.MeanSquaredError(dtype="float16"), "dtype: got 'float16', wants one of 'float32', 'float64'"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_own_function_must_give_numbers():
    with pytest.raises(TypeError, match="metrics: 'nothing' returned NoneType None, wants a number a sample"):
        metrics.MeanMetricWrapper(lambda y_true, y_pred: None, "nothing")([1], [1])
    whole_batch = metrics.MeanMetricWrapper(lambda y_true, y_pred: 2.0, "two")
    assert whole_batch([1, 2, 3], [1, 2, 3]) == 2


@pytest.mark.parametrize("name", sorted(metrics.NAMES))
def test_names_and_configs(name):
    cls = metrics.NAMES[name]
    if wanted := WANTED.get(cls.__name__):
        made = cls(**wanted)
        with pytest.raises(TypeError, match=rf"missing \d required positional arguments?: '{next(iter(wanted))}'"):
            metrics.get(name)
    else:
        made = metrics.get(name)
        assert made.name == name
    again = metrics.get({"class_name": type(made).__name__, "config": made.get_config()})
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()


@pytest.mark.parametrize("name", sorted(SIGNATURES.keys() - {"Metric", "MeanMetricWrapper"}))
def test_configs_hold_every_argument(name):
    made = getattr(metrics, name)(**WANTED.get(name, {}))
    # the axis is the last one, no class is ignored
    assert made.get_config().keys() | {"axis", "ignore_class"} >= set(SIGNATURES[name][0])
    again = metrics.deserialize(json.loads(json.dumps(metrics.serialize(made))))
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()


def test_a_function_cannot_be_serialized():
    with pytest.raises(ValueError, match="got an object of the class MeanMetricWrapper, wants one of fastnn's own"):
        metrics.serialize(metrics.MeanMetricWrapper(max))


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
