"""Losses: classes against the functions, reductions, shapes, logits; derivatives by central differences."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, losses, models

GENERATOR = np.random.default_rng(0)
N, C = 6, 4


def probabilities(shape=(N, C)):
    raw = GENERATOR.uniform(0.1, 1, shape)
    return raw / raw.sum(axis=-1, keepdims=True)


LABELS = GENERATOR.integers(0, C, N)
ROWS = probabilities()
BITS = GENERATOR.integers(0, 2, (N, C)).astype(float)
VALUES = GENERATOR.normal(size=(N, C))
UNIT = GENERATOR.uniform(0.05, 0.95, (N, C))
WEIGHT = GENERATOR.uniform(0.2, 2, N)

# loss, targets, outputs, per-sample function
CASES = {
    "mse": (losses.MeanSquaredError(), BITS, VALUES, losses.mean_squared_error),
    "mae": (losses.MeanAbsoluteError(), BITS, VALUES, losses.mean_absolute_error),
    "bce": (losses.BinaryCrossentropy(), BITS, UNIT, losses.binary_crossentropy),
    "bce logits": (
        losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
        BITS,
        VALUES,
        lambda t, p: losses.binary_crossentropy(t, p, from_logits=True, label_smoothing=0.1),
    ),
    "cce": (losses.CategoricalCrossentropy(), ROWS, probabilities(), losses.categorical_crossentropy),
    "cce unscaled": (losses.CategoricalCrossentropy(), ROWS, 3 * probabilities(), losses.categorical_crossentropy),
    "cce logits": (
        losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2),
        ROWS,
        VALUES,
        lambda t, p: losses.categorical_crossentropy(t, p, from_logits=True, label_smoothing=0.2),
    ),
    "scce": (losses.SparseCategoricalCrossentropy(), LABELS, probabilities(), losses.sparse_categorical_crossentropy),
    "scce logits": (
        losses.SparseCategoricalCrossentropy(from_logits=True),
        LABELS,
        VALUES,
        lambda t, p: losses.sparse_categorical_crossentropy(t, p, from_logits=True),
    ),
    "half_sse": (losses.HalfSSE(), BITS, VALUES, losses.half_sse),
}


@pytest.mark.parametrize("case", CASES)
def test_value_is_the_mean_of_the_function(case):
    loss, true, pred, function = CASES[case]
    samples = function(true, pred)
    assert samples.shape == (N,)
    combine = np.sum if case == "half_sse" else np.mean
    assert loss(true, pred) == pytest.approx(combine(samples), rel=1e-12)
    assert loss(true, pred, WEIGHT) == pytest.approx(combine(samples * WEIGHT), rel=1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_derivative_by_central_differences(case, weight):
    loss, true, pred, _ = CASES[case]
    target = np.ascontiguousarray(true, dtype=np.int64 if loss.integer_targets else np.float64)
    _, gradient = loss.value_and_gradient(target, pred, weight)
    step = 1e-6
    for index in np.ndindex(pred.shape):
        up, down = pred.copy(), pred.copy()
        up[index] += step
        down[index] -= step
        wanted = (loss.value_and_gradient(target, up, weight)[0] - loss.value_and_gradient(target, down, weight)[0]) / (
            2 * step
        )
        assert gradient[index] == pytest.approx(wanted, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("reduction", "wanted"),
    [("sum_over_batch_size", 2.0), ("mean", 2.0), ("sum", 4.0), ("mean_with_sample_weight", 1.6)],
)
def test_reductions(reduction, wanted):
    loss = losses.MeanSquaredError(reduction=reduction)
    # samples' losses are 1 and 4... weighted: 0.5 * 0 + 2 * 2
    true, pred, weight = np.zeros((2, 2)), np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([0.5, 2.0])
    assert loss(true, pred, weight) == pytest.approx(wanted)
    _, gradient = loss.value_and_gradient(true, pred, weight)
    scale = wanted / 2.0
    np.testing.assert_allclose(gradient, scale * np.array([[0, 0], [2.0, 0.0]]))


@pytest.mark.parametrize("loss", [losses.CategoricalCrossentropy, losses.SparseCategoricalCrossentropy])
def test_sequences_are_rows_end_to_end(loss):
    """Outputs (n, t, c) count as n * t samples; a sample's weight is that of each of its rows."""
    pred = probabilities((3, 2, C))
    labels = GENERATOR.integers(0, C, (3, 2))
    true = labels if loss.integer_targets else np.eye(C)[labels]
    weight = np.array([1.0, 2.0, 0.5])
    each = -np.log(np.take_along_axis(pred, labels[..., None], -1)[..., 0])
    assert loss()(true, pred) == pytest.approx(each.mean(), rel=1e-12)
    assert loss()(true, pred, weight) == pytest.approx((each * weight[:, None]).mean(), rel=1e-12)


def test_probabilities_are_clipped_as_in_keras():
    assert losses.binary_crossentropy([[1.0]], [[0.0]])[0] == pytest.approx(-np.log(1e-7), rel=1e-6)
    assert losses.CategoricalCrossentropy()([[0, 1]], np.array([[1.0, 0.0]])) == pytest.approx(-np.log(1e-7), rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "activation", "fused"),
    [
        (losses.CategoricalCrossentropy(), "softmax", True),
        (losses.SparseCategoricalCrossentropy(), "softmax", True),
        (losses.BinaryCrossentropy(), "sigmoid", True),
        (losses.BinaryCrossentropy(), "softmax", False),
        (losses.CategoricalCrossentropy(), "sigmoid", False),
        (losses.CategoricalCrossentropy(from_logits=True), "softmax", False),
        (losses.MeanSquaredError(), "softmax", False),
    ],
)
def test_logits_form(loss, activation, fused):
    form = loss.logits_form(activation)
    assert (form is not None) == fused
    if form is not None:
        assert form.get_config() == {**loss.get_config(), "from_logits": True}


@pytest.mark.parametrize("name", sorted(losses.NAMES))
def test_names_and_configs(name):
    made = losses.get(name)
    again = losses.get({"class_name": type(made).__name__, "config": made.get_config()})
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()


def test_functions_stand_for_classes():
    assert isinstance(losses.get(losses.mean_squared_error), losses.MeanSquaredError)
    assert isinstance(losses.get(losses.binary_crossentropy), losses.BinaryCrossentropy)


@pytest.mark.parametrize(("true", "pred"), [((5,), (5, 1)), ((5, 1), (5,)), ((5,), (5,)), ((5, 1), (5, 1))])
def test_a_missing_last_axis_is_added(true, pred):
    got = losses.MeanSquaredError()(np.ones(true), np.full(pred, 3.0)) if pred != (5,) else None
    if got is not None:
        assert got == 4.0
    assert np.all(losses.mean_squared_error(np.ones(true), np.full(pred, 3.0)) == 4.0)


def test_own_function_trains():
    """f(y_true, y_pred) -> (loss, gradient): four times mse as a function is mse with four times the step."""

    def quadruple(y_true, y_pred):
        return 4 * float(((y_pred - y_true) ** 2).mean()), 8 * (y_pred - y_true) / y_pred.size

    x = GENERATOR.normal(size=(8, 3))
    model = models.Sequential([layers.Dense(2, input_shape=(3,), dtype="float64")])
    start = model.get_weights()
    from fastnn import optimizers

    model.compile(optimizers.SGD(0.01), quadruple)
    model.fit(x, x[:, :2], verbose=0)
    got = model.get_weights()
    model.set_weights(start)
    model.compile(optimizers.SGD(0.04), "mse")
    model.fit(x, x[:, :2], verbose=0, shuffle=False)
    for a, b in zip(got, model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_own_function_must_return_a_pair():
    model = models.Sequential([layers.Dense(2, input_shape=(3,))])
    model.compile("sgd", lambda y_true, y_pred: 0.0)
    with pytest.raises(TypeError, match=r"returned float 0.0, wants a pair \(loss, gradient\)"):
        model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    model.compile("sgd", lambda y_true, y_pred: (0.0, np.zeros(3)))
    with pytest.raises(ValueError, match=r"a gradient of shape \(3,\), wants \(2, 2\)"):
        model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    with pytest.raises(ValueError, match=r"sample_weight: got weights, wants None"):
        model.fit(np.ones((2, 3)), np.ones((2, 2)), sample_weight=np.ones(2), verbose=0)
