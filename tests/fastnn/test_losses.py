"""Losses: classes against the functions, reductions, shapes, logits; derivatives by central differences."""

from __future__ import annotations

import inspect
import itertools
import re
import warnings

import keras_figures as keras
import numpy as np
import pytest

import fastnn
from fastnn import layers, losses, models, ops, utils

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


# Functions of targets and outputs that are followed, and their options.
FOLLOWED = {
    **{name: (*CASES[name][1:3], CASES[name][3], {}) for name in ("mse", "mae", "bce", "cce", "cce unscaled", "scce")},
    "bce logits": (BITS, VALUES, losses.binary_crossentropy, {"from_logits": True, "label_smoothing": 0.1}),
    "cce logits": (ROWS, VALUES, losses.categorical_crossentropy, {"from_logits": True, "label_smoothing": 0.2}),
    "scce logits": (LABELS, VALUES, losses.sparse_categorical_crossentropy, {"from_logits": True}),
    "scce ignored": (LABELS, ROWS, losses.sparse_categorical_crossentropy, {"ignore_class": int(LABELS[0])}),
    "mape": (UNIT, VALUES, losses.mean_absolute_percentage_error, {}),
    "msle": (UNIT, 2 * UNIT[::-1], losses.mean_squared_logarithmic_error, {}),
    "huber": (BITS, VALUES, losses.huber, {"delta": 0.7}),
    "log cosh": (BITS, 30 * VALUES, losses.log_cosh, {}),
    "poisson": (BITS, UNIT, losses.poisson, {}),
    "kl": (ROWS, probabilities(), losses.kl_divergence, {}),
    "cosine": (UNIT, VALUES, losses.cosine_similarity, {}),
    "dice": (BITS, UNIT, losses.dice, {"axis": 1}),
    "tversky": (BITS, UNIT, losses.tversky, {"alpha": 0.3, "beta": 0.9, "axis": 1}),
}


@pytest.mark.parametrize("case", FOLLOWED)
def test_functions_of_what_is_followed(case):
    """The same numbers, and derivatives by outputs, and by targets that are no labels."""
    true, pred, function, options = FOLLOWED[case]
    wanted, found = function(true, pred, **options), []
    scale = np.linspace(0.5, 1.5, N)

    def loss_of(true, pred):
        found.append(function(true, pred, **options))
        return ops.sum(ops.multiply(found[-1], scale))

    floats = [true, pred] if true.dtype.kind == "f" else [pred]
    of = loss_of if len(floats) > 1 else lambda pred: loss_of(true, pred)
    _, slopes = fastnn.gradients(of, floats)
    np.testing.assert_allclose(found[0].value, wanted, rtol=1e-9, atol=1e-12)
    rng = np.random.default_rng(1)
    for place, slope in enumerate(slopes):
        for _ in range(5):
            at, sides = tuple(map(rng.integers, pred.shape)), []
            for step in (1e-6, -1e-6):
                moved = [array.copy() for array in floats]
                moved[place][at] += step
                sides.append((function(*([true] * (len(floats) == 1)), *moved, **options) * scale).sum())
            assert slope[at] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-6)


def test_functions_of_what_is_followed_check_shapes():
    with pytest.raises(ValueError, match=r"^y_true: got shape \(6, 4\), wants \(6, 3\), the shape of y_pred"):
        fastnn.gradients(lambda pred: ops.sum(losses.mean_squared_error(BITS, pred)), [VALUES[:, :3].copy()])
    with pytest.raises(ValueError, match="axis: got 0, wants -1"):
        fastnn.gradients(lambda pred: ops.sum(losses.binary_crossentropy(BITS, pred, axis=0)), [UNIT])


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("make", [losses.KLDivergence, losses.Huber, losses.CategoricalFocalCrossentropy])
def test_losses_whose_targets_are_followed_too(make, weight, reduction):
    """As in distillation, where a teacher gives them."""
    loss, pred = make(reduction=reduction), probabilities()
    if make is losses.CategoricalFocalCrossentropy:
        with pytest.raises(TypeError, match="followed for its gradient"):
            fastnn.gradients(lambda true: loss(true, pred, weight), [ROWS])
        return
    value, (by_true, by_pred) = fastnn.gradients(lambda true, pred: loss(true, pred, weight), [ROWS, pred])
    assert value == pytest.approx(loss(ROWS, pred, weight), rel=1e-9)
    np.testing.assert_allclose(by_pred, fastnn.gradients(lambda p: loss(ROWS, p, weight), [pred])[1][0], rtol=1e-6)
    high, low = (loss(ROWS + step * by_true, pred, weight) for step in (1e-6, -1e-6))
    assert np.square(by_true).sum() == pytest.approx((high - low) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("axis", [None, 1, (1, 2), (0, 1), -1])
@pytest.mark.parametrize("kind", [losses.Dice, losses.Tversky])
def test_overlaps(kind, axis):
    rng = np.random.default_rng(5)
    true, pred = rng.integers(0, 2, (3, 4, 2)).astype(float), rng.uniform(0.1, 0.9, (3, 4, 2))
    shared, missed, wrong = ((part).sum(axis) for part in (true * pred, true * (1 - pred), pred * (1 - true)))
    loss = kind(axis=axis)
    wanted = 1 - 2 * shared / (2 * shared + missed + wrong)
    if kind is losses.Tversky:
        loss, wanted = kind(0.2, 0.7, axis=axis), 1 - shared / (shared + 0.2 * missed + 0.7 * wrong)
    assert loss(true, pred) == pytest.approx(np.mean(wanted), rel=1e-6)
    value, slope = loss.value_and_gradient(true, pred)
    assert value == pytest.approx(np.mean(wanted), rel=1e-6)
    high, low = (loss(true, pred + step * slope) for step in (1e-6, -1e-6))
    assert np.square(slope).sum() == pytest.approx((high - low) / 2e-6, rel=1e-5)
    again = losses.get(losses.serialize(loss))
    assert again(true, pred) == loss(true, pred)


def test_overlaps_check_their_arguments():
    with pytest.raises(ValueError, match="alpha: got -1"):
        losses.Tversky(-1)
    with pytest.raises(TypeError, match=r"axis\[1\]: got"):
        losses.Dice(axis=(1, "x"))
    with pytest.raises(ValueError, match="y_true: got shape"):
        losses.dice(BITS, VALUES[:, :3])


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


# ------------------------------------------------------------------------------------------------------ as Keras has it


def of_figure(name, reduction):
    figure = keras.FIGURES[name]
    options = {} if figure.cls == "HalfSSE" else {"reduction": reduction}
    return figure, getattr(losses, figure.cls)(**figure.options, **options)


@pytest.mark.parametrize(("name", "shapes"), keras.cases(keras.LOSSES))
def test_calls_with_any_shapes_weights_and_reductions(name, shapes):
    """The value, or without reduction the array, of Keras; weights that do not fit are refused."""
    reductions = ["sum"] if name == "half_sse" else keras.REDUCTIONS
    served = refused = 0
    for weights, sizes, reduction in itertools.product(keras.WEIGHTS, keras.SIZES, reductions):
        figure, loss = of_figure(name, reduction)
        true, pred, weight = keras.batches(name, shapes, weights, sizes)[0]
        wanted = keras.reduced(figure, true, pred, weight, reduction)
        if wanted is None:
            with pytest.raises(ValueError, match=r"^sample_weight: got shape \(.*\), wants a single number"):
                loss(true, pred, weight)
            refused += 1
            continue
        got = loss(true, pred, weight)
        assert isinstance(got, np.ndarray if reduction in (None, "none") else float)
        assert np.shape(got) == np.shape(wanted)
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14, err_msg=f"{weights} {sizes} {reduction}")
        served += 1
    assert served >= 3 * len(reductions)
    assert refused >= 2 * len(reductions)


@pytest.mark.parametrize(("name", "shapes"), keras.cases(keras.LOSSES))
def test_functions_have_the_shape_of_keras(name, shapes):
    figure = keras.FIGURES[name]
    for sizes in keras.SIZES:
        true, pred, _ = keras.batches(name, shapes, None, sizes)[0]
        got = getattr(losses, figure.function)(true, pred, **figure.options)
        wanted = figure.values(true, pred)
        assert isinstance(got, np.ndarray)
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("weights", [None, "n", "n 1", "n t", "1 t"])
@pytest.mark.parametrize("name", keras.LOSSES)
def test_training_has_the_value_of_the_call_and_its_derivative(name, weights):
    """Of sequences, with weights a sample and a step, by every reduction; derivatives by central differences."""
    figure = keras.FIGURES[name]
    shapes = "steps and sequences" if figure.targets == "labels" else "sequences"
    true, pred, weight = keras.batches(name, shapes, weights, "5 and 1")[0]
    for reduction in ["sum"] if name == "half_sse" else ["mean", "sum", "mean_with_sample_weight"]:
        _, loss = of_figure(name, reduction)
        target = np.ascontiguousarray(true, np.int64 if loss.integer_targets else np.float64)
        value, gradient = loss.value_and_gradient(target, pred, weight)
        assert value == pytest.approx(keras.reduced(figure, true, pred, weight, reduction), rel=1e-12)
        assert gradient.shape == pred.shape
        for index in list(np.ndindex(pred.shape))[::4]:
            shift = np.zeros(pred.shape)
            shift[index] = 1e-6
            up, down = (loss.value_and_gradient(target, pred + sign * shift, weight)[0] for sign in (1, -1))
            assert gradient[index] == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-8)


SIGNATURES = {  # as in Keras 3.15
    "MeanSquaredError": ["reduction", "name", "dtype"],
    "MeanAbsoluteError": ["reduction", "name", "dtype"],
    "BinaryCrossentropy": ["from_logits", "label_smoothing", "axis", "reduction", "name", "dtype"],
    "CategoricalCrossentropy": ["from_logits", "label_smoothing", "axis", "reduction", "name", "dtype"],
    "SparseCategoricalCrossentropy": ["from_logits", "ignore_class", "reduction", "axis", "name", "dtype"],
    "MeanAbsolutePercentageError": ["reduction", "name", "dtype"],
    "MeanSquaredLogarithmicError": ["reduction", "name", "dtype"],
    "LogCosh": ["reduction", "name", "dtype"],
    "Huber": ["delta", "reduction", "name", "dtype"],
    "Poisson": ["reduction", "name", "dtype"],
    "CosineSimilarity": ["axis", "reduction", "name", "dtype"],
    "KLDivergence": ["reduction", "name", "dtype"],
    "Hinge": ["reduction", "name", "dtype"],
    "SquaredHinge": ["reduction", "name", "dtype"],
    "CategoricalHinge": ["reduction", "name", "dtype"],
    "BinaryFocalCrossentropy": [
        *("apply_class_balancing", "alpha", "gamma", "from_logits", "label_smoothing", "axis"),
        *("reduction", "name", "dtype"),
    ],
    "CategoricalFocalCrossentropy": [
        *("alpha", "gamma", "from_logits", "label_smoothing", "axis", "reduction", "name", "dtype"),
    ],
    "HalfSSE": ["name", "dtype"],
    "Loss": ["name", "reduction", "dtype"],
    "binary_crossentropy": ["y_true", "y_pred", "from_logits", "label_smoothing", "axis"],
    "categorical_crossentropy": ["y_true", "y_pred", "from_logits", "label_smoothing", "axis"],
    "sparse_categorical_crossentropy": ["y_true", "y_pred", "from_logits", "ignore_class", "axis"],
    "huber": ["y_true", "y_pred", "delta"],
    "cosine_similarity": ["y_true", "y_pred", "axis"],
    "binary_focal_crossentropy": [
        *("y_true", "y_pred", "apply_class_balancing", "alpha", "gamma", "from_logits", "label_smoothing", "axis"),
    ],
    "categorical_focal_crossentropy": [
        *("y_true", "y_pred", "alpha", "gamma", "from_logits", "label_smoothing", "axis"),
    ],
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_are_in_keras_order(name):
    assert list(inspect.signature(getattr(losses, name)).parameters) == SIGNATURES[name]


def test_arguments_by_position():
    loss = losses.BinaryCrossentropy(True, 0.1, -1, "sum", "mine", "float64")
    assert loss.get_config() == {
        "from_logits": True,
        "label_smoothing": 0.1,
        "reduction": "sum",
        "name": "mine",
        "dtype": "float64",
    }


def test_dtype_is_that_of_the_call():
    """1 + 1e-12 is 1 in float32; without a dtype the outputs' counts."""
    true, pred = np.array([[1.0]]), np.array([[1 + 1e-12]])
    assert losses.MeanAbsoluteError(dtype="float32")(true, pred) == 0
    assert losses.MeanAbsoluteError(dtype=np.float64)(true, pred) == losses.MeanAbsoluteError()(true, pred) > 0
    each = losses.MeanSquaredError(reduction=None)
    assert each(true, pred.astype("float16")).dtype == each([1], [3]).dtype == np.float32
    assert each(true, pred).dtype == np.float64


def test_infinite_losses_bring_no_warning():
    assert losses.MeanSquaredError()([[0.0]], np.array([[1e30]], "float32")) == np.inf
    assert np.isnan(losses.CategoricalCrossentropy()([[0, 1]], [[0.0, 0.0]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.MeanSquaredError("avg"), "reduction: got 'avg', wants one of 'sum_over_batch_size'.* 'none'"),
        (lambda: losses.MeanSquaredError(dtype="float16"), "dtype: got 'float16', wants one of 'float32', 'float64'"),
        (lambda: losses.BinaryCrossentropy(axis=0), "axis: got 0, wants -1"),
        (lambda: losses.binary_crossentropy(BITS, UNIT, axis=1), "axis: got 1, wants -1"),
        (
            lambda: losses.SparseCategoricalCrossentropy(ignore_class=-1)([-1, -2] * 3, UNIT),
            "y_true: got the label -2, wants",
        ),
        (
            lambda: losses.CategoricalCrossentropy()(LABELS, ROWS),
            r"y_true: got shape \(6,\), wants \(6, 4\).*'sparse_categorical_crossentropy'",
        ),
        (
            lambda: losses.SparseCategoricalCrossentropy()(ROWS, ROWS),
            r"y_true: got shape \(6, 4\), wants \(6,\).*'categorical_crossentropy'",
        ),
        (lambda: losses.SparseCategoricalCrossentropy()([9], ROWS[:1]), r"y_true: got the label 9, wants .*\[0, 4\)"),
        (lambda: losses.CategoricalCrossentropy()(2 * ROWS, ROWS), "y_true: row 0 sums to 2, wants rows"),
        (lambda: losses.BinaryCrossentropy()([[2]], [[0.5]]), r"y_true: got numbers from 2 to 2, wants .*\[0, 1\]"),
        (lambda: losses.MeanSquaredError()([[np.nan]], [[0.5]]), "y_true: got nan in row 0"),
        (lambda: losses.MeanSquaredError()([1], [2], np.nan), "sample_weight: got nan, wants a finite number"),
        (lambda: losses.MeanSquaredError()(BITS, UNIT, BITS), r"wants a single number or \(6,\)$"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ------------------------------------------------------------------------------------------------------ one output

ONE_OUTPUT = "the categorical cross-entropy of one output is 0 whatever that is"


def one_output(loss, **shape):
    model = models.Sequential([layers.Dense(1, "softmax", **shape)])
    model.compile("sgd", loss)
    return model


def test_categorical_cross_entropy_of_one_output_warns_at_compile():
    with pytest.warns(SyntaxWarning, match=f"{ONE_OUTPUT}.*'binary_crossentropy'") as caught:
        model = one_output("categorical_crossentropy", input_shape=(3,))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():  # once is enough
        warnings.simplefilter("error")
        assert model.fit(np.ones((4, 3)), np.ones(4), verbose=0).history["loss"] == [0]


def test_categorical_cross_entropy_of_one_output_warns_at_fit():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = one_output("categorical_crossentropy")
        one_output("binary_crossentropy", input_shape=(3,))
    with pytest.warns(SyntaxWarning, match=ONE_OUTPUT) as caught, pytest.raises(ValueError, match="y: row 0 sums to 0"):
        model.fit(np.ones((4, 3)), [0, 1, 1, 0], verbose=0)
    assert [warning.filename for warning in caught] == [__file__]


def test_categorical_cross_entropy_of_one_output_warns_when_called():
    for function in (losses.categorical_crossentropy, losses.CategoricalCrossentropy()):
        with pytest.warns(SyntaxWarning, match=ONE_OUTPUT) as caught:
            function([[1.0]], [[0.3]])
        assert [warning.filename for warning in caught] == [__file__]


def test_no_reduction_is_not_for_training():
    model = models.Sequential([layers.Dense(1, input_shape=(3,))])
    model.compile("sgd", "mse")
    message = re.escape("loss: got 'mean_squared_error' with the reduction None, which gives a number for every sample")
    with pytest.raises(ValueError, match=message):
        model.compile("adam", losses.MeanSquaredError(reduction=None))
    assert model.loss.reduction == "sum_over_batch_size"


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
    assert losses.MeanSquaredError()(np.ones(true), np.full(pred, 3.0)) == 4.0
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


def test_own_function_must_return_a_number_of_ops_or_a_pair():
    model = models.Sequential([layers.Dense(2, input_shape=(3,))])
    for returned, message in (
        (0.0, "returned what does not depend on y_pred by fastnn.ops"),
        (None, "returned NoneType.*, wants a number made by fastnn.ops"),
        ((1, 2, 3), r"returned tuple .*, wants a pair \(loss, gradient\)"),
    ):
        model.compile("sgd", lambda y_true, y_pred, returned=returned: returned)
        with pytest.raises(TypeError, match=message):
            model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    model.compile("sgd", lambda y_true, y_pred: (0.0, np.zeros(3)))
    with pytest.raises(ValueError, match=r"a gradient of shape \(3,\), wants \(2, 2\)"):
        model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    with pytest.raises(ValueError, match=r"sample_weight: got weights, wants None"):
        model.fit(np.ones((2, 3)), np.ones((2, 2)), sample_weight=np.ones(2), verbose=0)


def negative_log_density(y_true, y_pred):
    """Of normal numbers whose means and logarithms of variances are the outputs."""
    mean, log_variance = y_pred[:, :1], y_pred[:, 1:]
    return ops.square(y_true - mean) * ops.exp(-log_variance) + log_variance


class Density(losses.Loss):
    def call(self, y_true, y_pred):
        return negative_log_density(y_true, y_pred)


class CalledDensity(losses.Loss):
    """As some write it: without a ``call``."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        return ops.mean(negative_log_density(y_true, y_pred))


@pytest.mark.parametrize("loss", [negative_log_density, Density(), CalledDensity()])
def test_own_losses_take_targets_of_any_shape(loss):
    utils.set_random_seed(2)
    x, y = GENERATOR.normal(size=(32, 3)), GENERATOR.normal(size=(32, 1))
    model = models.Sequential([layers.Input((3,), dtype="float64"), layers.Dense(2, dtype="float64")])
    model.compile("sgd", loss)
    out = model.predict(x, verbose=0)
    wanted = np.mean(np.square(y - out[:, :1]) * np.exp(-out[:, 1:]) + out[:, 1:])
    assert model.evaluate(x, y, verbose=0) == pytest.approx(wanted, rel=1e-6)
    history = model.fit(x, y, epochs=5, verbose=0, validation_data=(x, y)).history
    assert history["val_loss"][-1] < wanted
    model.compile("sgd", losses.Dice())
    with pytest.raises(ValueError, match=r"y: got shape \(32, 1\), wants \(n, 2\), the model's output"):
        model.fit(x, y, verbose=0)
