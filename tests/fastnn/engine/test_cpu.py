"""The fused runner against the layer-by-layer one: same weights, same order, same loss curve."""

from __future__ import annotations

import copy
import itertools
import re
import tracemalloc
from functools import partial

import numpy as np
import pytest

import fastnn
from fastnn import (
    activations,
    callbacks,
    engine,
    layers,
    losses,
    metrics,
    models,
    ops,
    optimizers,
    regularizers,
    utils,
)
from fastnn.engine import form, session
from fastnn.engine.inputs import inputs_of, is_sparse
from fastnn.errors import DivergenceError
from fastnn.kernels.table import ACTIVATIONS as ALL_ACTIVATIONS

OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.05),
    "momentum": lambda: optimizers.SGD(0.002, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.002, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(0.001),
    "rmsprop-momentum": lambda: optimizers.RMSprop(0.001, momentum=0.5),
    "rmsprop-centered": lambda: optimizers.RMSprop(0.0003, centered=True),
    "adam": lambda: optimizers.Adam(0.001),
    "amsgrad": lambda: optimizers.Adam(0.001, amsgrad=True),
    "sgd-clipvalue": lambda: optimizers.SGD(0.05, clipvalue=0.01),
    "rmsprop-clipvalue": lambda: optimizers.RMSprop(0.001, clipvalue=0.01),
    "sgd-clipnorm": lambda: optimizers.SGD(0.05, clipnorm=0.2),
    "rmsprop-clipnorm": lambda: optimizers.RMSprop(0.0003, clipnorm=0.3),
    "momentum-global": lambda: optimizers.SGD(0.01, momentum=0.9, global_clipnorm=0.3),
    "sgd-global-decay": lambda: optimizers.SGD(0.05, global_clipnorm=0.3, weight_decay=0.1),
    "sgd-decay": lambda: optimizers.SGD(0.005, weight_decay=1.0),
    "adam-decay-clipvalue": lambda: optimizers.Adam(0.001, weight_decay=0.5, clipvalue=0.02),
    "sgd-schedule": lambda: optimizers.SGD(optimizers.schedules.PolynomialDecay(0.002, 90, 0.0005, cycle=True)),
    "rmsprop-schedule-decay": lambda: optimizers.RMSprop(
        optimizers.schedules.PiecewiseConstantDecay([30, 70], [0.001, 0.0005, 0.0002]), weight_decay=0.5
    ),
    "adamw": lambda: optimizers.AdamW(0.001, 0.3),
    "adagrad": lambda: optimizers.Adagrad(0.01, 0.05),
    "adagrad-decay": lambda: optimizers.Adagrad(0.01, weight_decay=0.2),
    "adadelta": lambda: optimizers.Adadelta(0.5, rho=0.9),
    "adamax": lambda: optimizers.Adamax(0.002),
    "nadam": lambda: optimizers.Nadam(0.001),
    "lion": lambda: optimizers.Lion(0.0001),
    "ftrl": lambda: optimizers.Ftrl(0.05, l1_regularization_strength=0.001),
    "ftrl-all": lambda: optimizers.Ftrl(
        optimizers.schedules.ExponentialDecay(0.05, 50, 0.9),
        learning_rate_power=-0.6,
        l2_regularization_strength=0.01,
        l2_shrinkage_regularization_strength=0.01,
        beta=0.1,
        clipnorm=0.5,
    ),
    "adam-schedule": lambda: optimizers.Adam(optimizers.schedules.CosineDecay(0.0, 150, 0.1, "c", 0.002, 20)),
}
# Beside those of the grids, which pair axes by their lengths.
AVERAGED = {
    "averaged-rmsprop": lambda: optimizers.RMSprop(0.001, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4),
}
# Those whose steps the update of sparse inputs makes as it forms the gradient.
DIRECT = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "amsgrad")
# loss: (last units, last activation, metrics)
HEADS = {
    "sparse_categorical_crossentropy": (10, "softmax", ["accuracy"]),
    "categorical_crossentropy": (5, "softmax", ["accuracy"]),
    "binary_crossentropy": (1, "sigmoid", ["accuracy"]),
    "mse": (3, "linear", ["mae", "mse"]),
    "mae": (1, "tanh", ["mae"]),
    "half_sse": (2, "sigmoid", ["mse"]),
}
HIDDEN = {"none": (), "1": (1,), "10": (10,), "33-1": (33, 1), "512": (512,), "10-33-10": (10, 33, 10)}
INPUTS = ("dense", "sparse", "csr", "bytes", "float64", "images")
ACTIVATIONS = ("relu", "tanh", "sigmoid", "linear")
# Rates of dropout on the inputs, and behind the hidden layers in turn.
DROPOUTS = {"inputs": (0.2, (0.0,)), "hidden": (0.0, (0.5,)), "some": (0.0, (0.0, 0.3)), "all": (0.1, (0.5, 0.2))}
# (scale, offset) of a rescaling of the inputs.
RESCALINGS = {"scaled": (0.25, 0.0), "shifted": (-0.5, 0.75)}
PENALTIES = {"no": None, "l2": regularizers.L2(0.01), "l1l2": regularizers.L1L2(0.001, 0.01)}


def inputs(kind, rows, width, rng):
    x = rng.standard_normal((rows, width)).astype("float32")
    if kind in ("sparse", "csr"):
        x = np.where(rng.random(x.shape) < 0.2, x, 0).astype("float32")
    if kind == "strokes":  # of neighbours, most are zero or not together
        alone, together = rng.random(x.shape) < 0.03, rng.random((rows, width // 2)) < 0.2
        x = np.where(alone | together.repeat(2, axis=1), x, 0).astype("float32")
    if kind == "sparse bytes":
        return (rng.integers(1, 4, x.shape) * (rng.random(x.shape) < 0.2)).astype("uint8")
    if kind == "csr":
        return pytest.importorskip("scipy.sparse").csr_matrix(x)
    if kind == "bytes":
        return rng.integers(1, 4, x.shape).astype("uint8")
    if kind == "float64":
        return x.astype("float64")
    return x.reshape(rows, 2, -1) if kind == "images" else x


def targets(loss, rows, rng):
    units = HEADS[loss][0]
    if loss == "sparse_categorical_crossentropy":
        return rng.integers(0, units, rows)
    if loss == "categorical_crossentropy":
        return utils.to_categorical(rng.integers(0, units, rows), units)
    if loss == "binary_crossentropy":
        return rng.integers(0, 2, (rows, units))
    return rng.random((rows, units)).astype("float32")


def model(x, hidden, activation, loss, optimizer, penalty, dtype, seed=3, dropout=(0.0, (0.0,)), rescaling=()):
    utils.set_random_seed(seed)
    units, last, figures = HEADS[loss]
    stack = [layers.Input(x.shape[1:]), *(layers.Rescaling(*each) for each in rescaling)]
    if len(x.shape) > 2:
        stack.append(layers.Flatten())
    stack.append(layers.Dropout(dropout[0]))
    turns = itertools.cycle([activation] if isinstance(activation, str) else activation)
    for n, rate, each in zip(hidden, itertools.cycle(dropout[1]), turns, strict=False):
        stack += [
            layers.Dense(n, each, kernel_regularizer=penalty, bias_regularizer=penalty, dtype=dtype),
            layers.Dropout(rate),
        ]
    stack += [layers.Dense(units, dtype=dtype, use_bias=len(hidden) != 1), layers.Activation(last)]
    built = models.Sequential(stack)
    built.compile({**OPTIMIZERS, **AVERAGED}[optimizer](), loss, figures)
    return built


def fit(monkeypatch, runner, built, x, y, **options):
    """History of a fit by the runner of that name."""
    with monkeypatch.context() as patch:
        if runner == "layerwise":
            patch.setitem(engine.RUNNERS, "fused", engine.LayerwiseRunner)
        assert built.plan(x).runner == "fused", built.plan(x)
        utils.set_random_seed(5)
        return built.fit(x, y, verbose=0, **options).history


def some(cases, every):
    """The cases, of which one in ``every`` is for all runs of the tests, and the others for the slow ones.

    To have all values of axes that are repeated among the former, it shares no factor with the lengths of these.
    """
    return [pytest.param(*case, marks=[pytest.mark.slow] if n % every else []) for n, case in enumerate(cases)]


def combinations():
    """Every value of every axis many times, in pairs that change: the axes' lengths share no factor with the stride."""
    axes = [list(HIDDEN), list(ACTIVATIONS), list(HEADS), list(OPTIMIZERS), list(PENALTIES), INPUTS, (1, 7, 128)]
    rng = np.random.default_rng(7)
    columns = [[axis[i % len(axis)] for i in rng.permutation(72)] for axis in axes]
    return [(*row, "float64" if i % 4 == 0 else "float32") for i, row in enumerate(zip(*columns, strict=True))]


@pytest.mark.parametrize(
    ("hidden", "activation", "loss", "optimizer", "penalty", "kind", "batch", "dtype"), some(combinations(), 2)
)
def test_loss_curve_is_that_of_the_layerwise_runner(
    monkeypatch, hidden, activation, loss, optimizer, penalty, kind, batch, dtype
):
    compare(monkeypatch, kind, batch, HIDDEN[hidden], activation, loss, optimizer, PENALTIES[penalty], dtype)


def compare(monkeypatch, kind, batch, *arguments, **options):
    """Train the model of these arguments by both runners, 200 steps or more."""
    rng = np.random.default_rng(11)
    rows = {1: 20, 7: 65, 128: 300}[batch]
    epochs = -(-200 // -(-rows // batch))
    x, y = inputs(kind, rows, 34, rng), targets(arguments[2], rows, rng)
    weight = rng.uniform(0.5, 2.0, rows) if batch == 7 else None
    assert_agree(
        monkeypatch,
        lambda: model(x, *arguments, **options),
        x,
        y,
        batch_size=batch,
        epochs=epochs,
        sample_weight=weight,
    )


def assert_agree(monkeypatch, build, x, y, **options):
    """The model that ``build`` makes trains by both runners to the same figures and weights."""
    results = []
    for runner in ("fused", "layerwise"):
        built = build()
        results.append((fit(monkeypatch, runner, built, x, y, **options), built))
    (fused, one), (layerwise, other) = results
    assert fused.keys() == layerwise.keys()
    np.testing.assert_allclose(fused["loss"], layerwise["loss"], rtol=1e-4)
    for name in fused:
        atol = 2.0 / len(y) if "acc" in name else 1e-6
        np.testing.assert_allclose(fused[name], layerwise[name], rtol=1e-4, atol=atol, err_msg=name)
    for mine, its in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=2e-3 * max(1.0, abs(its).max()))
    assert one.optimizer.iterations == other.optimizer.iterations
    for metric in one.metrics:
        assert metric.result() == fused[metric.name][-1]


@pytest.mark.parametrize("every", [None, 1, 4])
@pytest.mark.parametrize("kind", ["dense", "sparse", "strokes"])
@pytest.mark.parametrize("rule", [optimizers.SGD, optimizers.RMSprop, partial(optimizers.Adam, clipnorm=0.1)])
def test_averages_are_those_of_the_layerwise_runner(monkeypatch, rule, kind, every):
    """And the rest of the state: rows of zeros that the step itself would leave for later have their averages too."""
    rng = np.random.default_rng(5)
    x, y = inputs(kind, 65, 34, rng), targets("sparse_categorical_crossentropy", 65, rng)
    ends = []
    for runner in ("fused", "layerwise"):
        averaged = rule(0.002, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=every)
        built = model(x, (10,), "tanh", "sparse_categorical_crossentropy", "sgd", None, "float64")
        built.compile(averaged, built.loss)
        fit(monkeypatch, runner, built, x, y, batch_size=8, epochs=3)
        state = built.optimizer.state
        assert all((p.value == state[p.path]["average"]).all() for p in built.weights)
        ends.append([array for slots in state.values() for array in slots.values()])
    for mine, its in zip(*ends, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("kind", "dtype"), [("dense", "float64"), ("sparse", "float64"), ("strokes", "float32")])
def test_rprop_trains_on_whole_data_as_layer_by_layer(monkeypatch, kind, dtype):
    """Until rounding decides the sign of a gradient, which 30 steps of small data leave few."""
    rng = np.random.default_rng(11)
    x, y = inputs(kind, 40, 34, rng), targets("mse", 40, rng)

    def build():
        built = model(x, (9,), "tanh", "mse", "sgd", None, dtype)
        built.compile(optimizers.Rprop(0.01, step_max=0.1), "mse")
        return built

    assert_agree(monkeypatch, build, x, y, batch_size=40, epochs=30)


@pytest.mark.parametrize("runner", ["fused", "layerwise"])
def test_a_fit_ends_where_the_optimizer_has_converged(monkeypatch, runner):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, 4))
    y = x @ rng.normal(size=(4, 2))
    built = models.Sequential([layers.Input((4,)), layers.Dense(2, dtype="float64")])
    built.compile(optimizers.Rprop(threshold=1e-3), "mse")
    history = fit(monkeypatch, runner, built, x, y, batch_size=30, epochs=2000)
    assert 10 < len(history["loss"]) < 500
    assert all((abs(state["gradient"]) < 1e-3).all() for state in built.optimizer.state.values())


# What the grid above does not have: layers, loss, metrics. Samples are (10,), targets 4 wide or classes.
STACKS = {
    "softmax between layers": (
        lambda: [layers.Dense(7, "softmax"), layers.Dense(4, "softmax")],
        "sparse_categorical_crossentropy",
        ["accuracy"],
    ),
    "softmax first, wide": (lambda: [layers.Dense(65, "softmax"), layers.Dense(4)], "mse", ["mae"]),
    "softmax and mse": (lambda: [layers.Dense(7, "tanh"), layers.Dense(4, "softmax")], "mse", ["accuracy"]),
    "a layer above softmax": (
        lambda: [layers.Dense(7, "relu"), layers.Dense(4, "softmax"), layers.Flatten()],
        "sparse_categorical_crossentropy",
        ["accuracy"],
    ),
    "probabilities that do not sum to 1": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4, "sigmoid")],
        "categorical_crossentropy",
        ["accuracy"],
    ),
    "labels and sigmoids": (lambda: [layers.Dense(4, "sigmoid")], "sparse_categorical_crossentropy", []),
    "activations on activations": (
        lambda: [layers.Dense(7, "relu"), *map(layers.Activation, ("tanh", "softmax")), layers.Dense(4, "sigmoid")],
        "mse",
        ["mae"],
    ),
    "activations on the last activation": (
        lambda: [layers.Dense(65, "tanh"), layers.Dense(4, "tanh"), *map(layers.Activation, ("sigmoid", "softmax"))],
        "categorical_crossentropy",
        ["accuracy"],
    ),
    "an activation before the first layer": (
        lambda: [layers.Activation("sigmoid"), layers.Dense(7, "tanh"), layers.Dense(4)],
        "mse",
        ["mae"],
    ),
    "activations before the first layer": (
        lambda: [layers.Activation("softmax"), layers.Activation("tanh"), layers.Dense(4)],
        "mae",
        [],
    ),
    "smoothed labels": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4, "softmax")],
        losses.CategoricalCrossentropy(label_smoothing=0.1),
        ["accuracy"],
    ),
    "smoothed labels, probabilities": (
        lambda: [layers.Dense(4, "sigmoid")],
        losses.CategoricalCrossentropy(label_smoothing=0.3, reduction="sum"),
        ["accuracy"],
    ),
    "smoothed labels, sigmoids": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4, "sigmoid")],
        losses.BinaryCrossentropy(label_smoothing=0.2),
        ["binary_accuracy"],
    ),
    "smoothed labels, logits": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4)],
        losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2, reduction="mean_with_sample_weight"),
        ["mse"],
    ),
    "a sum": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4)],
        losses.MeanSquaredError(reduction="sum"),
        ["mae"],
    ),
    "a sum of cross-entropies": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4, "softmax")],
        losses.SparseCategoricalCrossentropy(reduction="sum"),
        ["accuracy"],
    ),
    "a mean by weight": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4)],
        losses.MeanAbsoluteError(reduction="mean_with_sample_weight"),
        ["mse"],
    ),
    "a mean of cross-entropies by weight": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4, "softmax")],
        losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight"),
        ["accuracy"],
    ),
    "an activation on a dropout": (
        lambda: [layers.Dense(9), layers.Dropout(0.3), layers.Activation("tanh"), layers.Dense(4)],
        "mse",
        ["mae"],
    ),
    "dropouts on the inputs": (
        lambda: [layers.Dropout(0.2), layers.Dropout(0.3), layers.Dense(9, "tanh"), layers.Dense(4)],
        "mse",
        ["mae"],
    ),
    "dropouts on softmax": (
        lambda: [layers.Dense(9, "softmax"), layers.Dropout(0.2), layers.Dropout(0.3), layers.Dense(4)],
        "mse",
        ["mae"],
    ),
    "dropout of the outputs": (
        lambda: [layers.Dense(9, "tanh"), layers.Dense(4, "sigmoid"), layers.Dropout(0.3)],
        "mse",
        ["mae"],
    ),
    "dropout of activated inputs": (
        lambda: [layers.Activation("tanh"), layers.Dropout(0.3), layers.Dense(4)],
        "mse",
        ["mae"],
    ),
    "metrics of probabilities": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4, "softmax")],
        "categorical_crossentropy",
        [
            *("accuracy", "categorical_accuracy", metrics.TopKCategoricalAccuracy(2), "categorical_crossentropy"),
            *("mse", "mae", "root_mean_squared_error", "half_sse", "binary_crossentropy", "binary_accuracy"),
        ],
    ),
    "metrics of classes": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4, "softmax")],
        "sparse_categorical_crossentropy",
        ["acc", metrics.SparseTopKCategoricalAccuracy(2), "sparse_categorical_crossentropy"],
    ),
    "metrics of logits": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4)],
        losses.SparseCategoricalCrossentropy(from_logits=True),
        [metrics.SparseCategoricalCrossentropy(from_logits=True), metrics.SparseTopKCategoricalAccuracy(3)],
    ),
    "metrics of two sides": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4, "sigmoid")],
        "binary_crossentropy",
        ["binary_accuracy", metrics.BinaryAccuracy(threshold=0.3), "bce", "root_mean_squared_error"],
    ),
    "metrics of rows": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4, "tanh")],
        "mae",
        ["root_mean_squared_error", "half_sse", metrics.BinaryCrossentropy(from_logits=True)],
    ),
    "penalties on outputs": (
        lambda: [layers.Dense(7, "tanh", activity_regularizer="l2"), layers.Dense(4, activity_regularizer="l1")],
        "mse",
        [],
    ),
    "a penalty on logits": (
        lambda: [layers.Dense(4, activity_regularizer=regularizers.L1L2(0.01, 0.02)), layers.Activation("softmax")],
        "sparse_categorical_crossentropy",
        ["accuracy"],
    ),
    "a penalty on probabilities": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4, "softmax", activity_regularizer=regularizers.L2(0.1))],
        "categorical_crossentropy",
        ["accuracy"],
    ),
    "a penalty before the activation": (
        lambda: [layers.Dense(65, activity_regularizer="l2"), layers.Activation("sigmoid"), layers.Dense(4)],
        losses.MeanSquaredError(reduction="sum"),
        [],
    ),
    "penalties on the same numbers": (
        lambda: [layers.Dense(4, "tanh", activity_regularizer="l2"), layers.Flatten(activity_regularizer="l1")],
        "mae",
        [],
    ),
    "penalties on inputs": (
        lambda: [
            *(layers.Flatten(activity_regularizer="l1"), layers.Activation("sigmoid", activity_regularizer="l2")),
            *(layers.Dense(7, "tanh"), layers.Dense(4)),
        ],
        "mse",
        [],
    ),
    "a penalty before the dropout": (
        lambda: [layers.Dense(9, "tanh", activity_regularizer="l2"), layers.Dropout(0.3), layers.Dense(4)],
        "mse",
        ["mae"],
    ),
    "a penalty behind the dropout": (
        lambda: [layers.Dense(9, "relu"), layers.Dropout(0.3, activity_regularizer="l1"), layers.Dense(4)],
        "mse",
        ["mae"],
    ),
    "penalties and dropouts in turn": (
        lambda: [
            *(layers.Dropout(0.2, activity_regularizer="l2"), layers.Dense(7, activity_regularizer="l1")),
            *(layers.Dropout(0.3, activity_regularizer="l2"), layers.Activation("tanh", activity_regularizer="l2")),
            *(layers.Dropout(0.2), layers.Dense(4, "softmax", activity_regularizer="l2"), layers.Dropout(0.1)),
        ],
        "mse",
        [],
    ),
    "slopes": (
        lambda: [layers.Dense(41), layers.PReLU("glorot_uniform"), layers.Dense(7), layers.PReLU(), layers.Dense(4)],
        "mse",
        ["mae"],
    ),
    "slopes with penalties": (
        lambda: [
            layers.Dense(7, "tanh"),
            layers.PReLU(alpha_regularizer=regularizers.L1L2(0.01, 0.1), activity_regularizer="l2"),
            layers.Dense(4),
        ],
        "mse",
        ["mae"],
    ),
    "slopes between dropouts": (
        lambda: [layers.Dense(9), layers.Dropout(0.2), layers.PReLU("ones"), layers.Dropout(0.3), layers.Dense(4)],
        "mse",
        ["mae"],
    ),
    "slopes on slopes": (
        lambda: [layers.Dense(9, "softmax"), *(layers.PReLU("normal") for _ in range(2)), layers.Dense(4)],
        "mse",
        ["mae"],
    ),
    "slopes of the inputs": (
        lambda: [layers.PReLU("ones"), layers.Activation("tanh"), layers.Dense(4)],
        "mse",
        ["mae"],
    ),
    "slopes of the logits": (
        lambda: [layers.Dense(7), layers.Dense(4), layers.PReLU(), layers.Activation("softmax")],
        "sparse_categorical_crossentropy",
        ["accuracy"],
    ),
    "slopes of the outputs": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4), layers.PReLU("normal")],
        "mae",
        ["mse"],
    ),
    "an activation under the logits": (
        lambda: [layers.Dense(7, "tanh"), layers.Dense(4, "relu"), layers.Activation("softmax")],
        "sparse_categorical_crossentropy",
        ["accuracy"],
    ),
}


def stack_targets(stack, rows, rng):
    """Targets 4 wide, or classes of 4."""
    loss = losses.get(STACKS[stack][1])
    if loss.integer_targets:
        return rng.integers(0, 4, rows)
    if isinstance(loss, losses.CategoricalCrossentropy):
        return utils.to_categorical(rng.integers(0, 4, rows), 4)
    return rng.integers(0, 2, (rows, 4)) if isinstance(loss, losses.BinaryCrossentropy) else rng.random((rows, 4))


# Of a stack, by layer: the parameters that training leaves as they are.
FROZEN = {
    "frozen first": {0: ("kernel", "bias")},
    "frozen between": {1: ("kernel", "bias")},
    "frozen last": {2: ("kernel", "bias")},
    "frozen biases": {0: ("bias",), 2: ("bias",)},
    "frozen kernels": {0: ("kernel",), 1: ("kernel",)},
    "all frozen": dict.fromkeys(range(3), ("kernel", "bias")),
}
STACKS |= dict.fromkeys(
    FROZEN,
    (
        lambda: [
            layers.Dense(n, "tanh", kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer=penalty)
            for n, penalty in ((40, "l2"), (7, None), (4, None))
        ],
        "mse",
        ["mae"],
    ),
)


def stack_model(stack, dtype, optimizer="adam"):
    """A compiled model of one of ``STACKS``."""
    made, loss, figures = STACKS[stack]
    utils.set_random_seed(3)
    own = made()
    for layer in own:
        layer.dtype = dtype
    built = models.Sequential([layers.Input((10,)), *own])
    for index, names in FROZEN.get(stack, {}).items():
        for name in names:
            getattr(own[index], name).trainable = False
    built.compile(OPTIMIZERS[optimizer](), loss, copy.deepcopy(figures), copy.deepcopy(figures))
    return built


@pytest.mark.parametrize("kind", ["dense", "sparse", "strokes"])
@pytest.mark.parametrize("stack", FROZEN)
def test_frozen_parameters_stay_as_they_are(stack, kind):
    rng = np.random.default_rng(2)
    built = stack_model(stack, "float32", "rmsprop")
    before = built.get_weights()
    built.fit(inputs(kind, 65, 10, rng), rng.random((65, 4)), epochs=2, verbose=0)
    for parameter, old in zip(built.weights, before, strict=True):
        assert np.array_equal(parameter.value, old) != parameter.trainable, parameter
        assert (parameter.path in built.optimizer.state) == parameter.trainable


# Of the comparisons below: dtype, inputs, batch size, epochs, whether samples have weights, optimizer.
RUNS = [
    ("float32", "dense", 7, 20, True, "adam"),
    ("float64", "csr", 1, 4, True, "sgd-global-decay"),
    ("float32", "sparse", 5, 16, False, "rmsprop-clipnorm"),
]


@pytest.mark.parametrize(
    ("stack", "dtype", "kind", "batch", "epochs", "weighted", "optimizer"),
    some([(stack, *RUNS[(n + k) % len(RUNS)]) for n, stack in enumerate(STACKS) for k in range(len(RUNS))], len(RUNS)),
)
def test_stacks_train_as_layer_by_layer(monkeypatch, stack, dtype, kind, batch, epochs, weighted, optimizer):
    rng = np.random.default_rng(2)
    x, y, weight = inputs(kind, 65, 10, rng), stack_targets(stack, 65, rng), rng.uniform(0, 2, 65)
    weight[::9] = 0
    options = {"sample_weight": weight} if weighted else {}
    assert_agree(
        monkeypatch, lambda: stack_model(stack, dtype, optimizer), x, y, batch_size=batch, epochs=epochs, **options
    )


# By loss: last activations that suit it, and metrics for any of them.
DRAWN = {
    losses.MeanSquaredError: (("linear", "tanh", "softmax"), ("root_mean_squared_error", "half_sse", "mae")),
    losses.MeanAbsoluteError: (("linear", "sigmoid", "softmax"), ("mse", "accuracy", "top_k_categorical_accuracy")),
    losses.HalfSSE: (("linear", "tanh"), ("mse",)),
    losses.BinaryCrossentropy: (("sigmoid",), ("bce", "binary_accuracy", "mse")),
    losses.CategoricalCrossentropy: (("softmax", "sigmoid"), ("accuracy", "mae", "categorical_crossentropy")),
    losses.SparseCategoricalCrossentropy: (("softmax", "sigmoid"), ("accuracy", "sparse_categorical_crossentropy")),
}


def drawn_layer(rng, units=None):
    """A layer that the fused runner takes, of the activations, penalties and frozen parameters that there are."""
    activation = str(rng.choice(["relu", "tanh", "sigmoid", "linear", "softmax"]))
    kernel, bias, output = rng.choice([None, None, None, regularizers.L1L2(0.002, 0.01), regularizers.L2(0.01)], 3)
    if units is None and rng.random() < 0.5:
        if rng.random() < 0.25:
            slopes = {"alpha_regularizer": kernel, "activity_regularizer": output}
            return layers.PReLU("normal", **slopes, trainable=rng.random() < 0.8)
        if rng.random() < 0.4:
            return layers.Dropout(float(rng.choice([0.0, 0.2, 0.4])), activity_regularizer=output)
        if rng.random() < 0.3:
            return layers.Flatten(activity_regularizer=output)
        return layers.Activation(activation, activity_regularizer=output)
    penalties = {"kernel_regularizer": kernel, "bias_regularizer": bias, "activity_regularizer": output}
    size = units or int(rng.choice([1, 3, 16, 17, 40]))
    return layers.Dense(size, activation, rng.random() < 0.8, trainable=rng.random() < 0.8, **penalties)


def drawn_optimizer(rng):
    """An optimizer that keeps small steps, with or without clipping and decay."""
    clip = [{}, {"clipvalue": 0.05}, {"clipnorm": 0.3}, {"global_clipnorm": 0.5}][rng.integers(4)]
    options = {**clip, "weight_decay": 0.2 if rng.random() < 0.3 else None}
    if rng.random() < 0.3:
        options.update(use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=[None, 1, 5][rng.integers(3)])
    return [
        optimizers.SGD(0.003, **options),
        optimizers.SGD(0.002, momentum=0.5, nesterov=True, **options),
        optimizers.RMSprop(0.0003, **options),
        optimizers.RMSprop(0.0003, momentum=0.3, centered=True, **options),
        optimizers.Adam(0.001, **options),
        optimizers.Adam(0.001, amsgrad=True, **options),
    ][rng.integers(6)]


def drawn_model(seed):
    """A compiled model drawn from what the fused runner says it runs; the same one for the same seed."""
    utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    kind = list(DRAWN)[rng.integers(len(DRAWN))]
    lasts, figures = DRAWN[kind]
    options = (
        {} if kind is losses.HalfSSE else {"reduction": str(rng.choice(["mean", "sum", "mean_with_sample_weight"]))}
    )
    logits = "Cross" in kind.__name__ and rng.random() < 0.4
    if logits:
        options["from_logits"] = True
    if kind in (losses.BinaryCrossentropy, losses.CategoricalCrossentropy) and rng.random() < 0.5:
        options["label_smoothing"] = 0.2
    if kind is losses.SparseCategoricalCrossentropy and seed % 2:
        options["ignore_class"] = seed % 4
    last = "linear" if logits else str(rng.choice(lasts))
    stack = [*(drawn_layer(rng) for _ in range(rng.integers(6))), drawn_layer(rng, 4), layers.Activation(last)]
    if rng.random() < 0.2:
        stack.insert(0, layers.Rescaling(0.5, float(rng.choice([0.0, 0.25]))))
    if rng.random() < 0.2:
        stack.append(layers.Flatten(activity_regularizer="l2"))
    for layer in stack:
        layer.dtype = "float64"
    built = models.Sequential([layers.Input((10,)), *stack])
    for parameter in built.weights:
        parameter.trainable = parameter.trainable and rng.random() < 0.9
    figures = () if logits else figures
    built.compile(drawn_optimizer(rng), kind(**options), [*figures], [*figures])
    return built


@pytest.mark.parametrize("seed", some([(seed,) for seed in range(60)], 7))
def test_any_combination_trains_as_layer_by_layer(monkeypatch, seed):
    loss, rng = drawn_model(seed).loss, np.random.default_rng(seed)
    labels, kind, batch = rng.integers(0, 4, 65), INPUTS[seed % 4], (1, 7, 32)[seed % 3]
    y = labels if loss.integer_targets else utils.to_categorical(labels, 4)
    weight = np.where(rng.random(65) < 0.2, 0, rng.uniform(0.5, 2, 65))
    weights = [{}, {"sample_weight": weight}, {"class_weight": {0: 0.5, 2: 3.0}}][seed % 5 % 3]
    epochs = -(-200 // -(-65 // batch))
    x = inputs(kind, 65, 10, rng)
    assert_agree(monkeypatch, lambda: drawn_model(seed), x, y, batch_size=batch, epochs=epochs, **weights)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("clip", ["clipvalue", "clipnorm", "global_clipnorm"])
def test_one_step_of_a_clipped_gradient(kind, clip):
    rng = np.random.default_rng(2)
    built = models.Sequential([layers.Input((34,)), layers.Dense(33), layers.Dense(3)])
    built.compile(optimizers.SGD(1.0, **{clip: 0.01}), "half_sse")
    before, x = built.get_weights(), inputs(kind, 300, 34, rng)
    assert built.plan(x).runner == "fused"
    built.fit(x, rng.random((300, 3)), batch_size=300, verbose=0)
    moved = [(new - old).astype("float64").ravel() for new, old in zip(built.get_weights(), before, strict=True)]
    if clip == "clipvalue":
        assert max(abs(m).max() for m in moved) == pytest.approx(0.01, rel=1e-5)
    else:
        norms = [np.linalg.norm(m) for m in (moved if clip == "clipnorm" else [np.concatenate(moved)])]
        np.testing.assert_allclose(norms, 0.01, rtol=1e-4)


def dropout_combinations():
    """Every value of every axis, and every place of dropout with every activation and kind of input."""
    pairs = itertools.product(DROPOUTS, ACTIVATIONS, INPUTS)
    optimizers = [*OPTIMIZERS, "rmsprop-clipvalue"]  # their number shares no factor with that of the inputs
    axes = [
        itertools.cycle(axis) for axis in (["10", "33-1", "512", "10-33-10", "512"], HEADS, optimizers, (7, 128, 1))
    ]
    return [(*pair, *map(next, axes), "float64" if i % 5 == 0 else "float32") for i, pair in enumerate(pairs)]


@pytest.mark.parametrize(
    ("dropout", "activation", "kind", "hidden", "loss", "optimizer", "batch", "dtype"), some(dropout_combinations(), 7)
)
def test_masks_are_those_of_the_layerwise_runner(
    monkeypatch, dropout, activation, kind, hidden, loss, optimizer, batch, dtype
):
    arguments = HIDDEN[hidden], activation, loss, optimizer, None, dtype
    compare(monkeypatch, kind, batch, *arguments, dropout=DROPOUTS[dropout])


# Activations with numbers of their own, beside all by name.
NUMBERED = {
    "relu, bounded": layers.ReLU(max_value=1.5, negative_slope=0.25, threshold=0.1),
    "leaky_relu 0.1": layers.LeakyReLU(0.1),
    "elu 0.5": layers.ELU(0.5),
    "celu 0.5": partial(activations.celu, alpha=0.5),
    "threshold 0.2": partial(activations.threshold, threshold=0.2, default_value=-0.5),
    "soft_shrink 0.1": partial(activations.soft_shrink, threshold=0.1),
    "hard_shrink 0.1": partial(ops.hard_shrink, threshold=0.1),
}


def activation_combinations():
    """Every activation on hidden layers, above and below another one, with everything else drawn."""
    steps = {"binary_step", "sign"}  # rounding decides their sides: see the test below
    names = [name for name in (*ALL_ACTIVATIONS, *NUMBERED) if name not in steps]
    rng = np.random.default_rng(13)
    others = ["none", *DROPOUTS], list(HEADS), list(OPTIMIZERS), INPUTS, ["10-33-10", "512", "33-1"], [7, 128, 1]
    return [
        (name, str(names[(i * 5 + 2) % len(names)]), *(axis[rng.integers(len(axis))] for axis in others),
         "float64" if i % 3 == 0 else "float32")
        for i, name in enumerate(names)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "dropout", "loss", "optimizer", "kind", "hidden", "batch", "dtype"),
    some(activation_combinations(), 2),
)
def test_every_activation_is_that_of_the_layers(
    monkeypatch, one, other, dropout, loss, optimizer, kind, hidden, batch, dtype
):
    turns = [NUMBERED.get(name, name) for name in (one, other)]
    if loss == "mae":  # its slope is a sign, which rounding decides where errors are small
        dtype = "float64"
    if "exponential" in turns:  # on which longer steps diverge
        optimizer = "sgd-clipvalue"
    arguments = HIDDEN[hidden], turns, loss, optimizer, PENALTIES["l2"], dtype
    compare(monkeypatch, kind, batch, *arguments, dropout=DROPOUTS.get(dropout, (0.0, (0.0,))))


@pytest.mark.parametrize("activation", ["binary_step", "sign"])
def test_steps_of_whole_numbers_are_those_of_the_layers(monkeypatch, activation):
    """The layer above learns, and whole numbers are on the same side for all."""
    rng = np.random.default_rng(3)
    x, y = rng.integers(-3, 4, (60, 34)).astype("float32"), rng.random((60, 2)).astype("float32")
    whole = rng.integers(-2, 3, (34, 9)).astype("float32")

    def build():
        utils.set_random_seed(1)
        built = models.Sequential([layers.Input((34,)), layers.Dense(9, activation), layers.Dense(2)])
        built.layers[0].kernel.assign(whole)
        built.compile(optimizers.SGD(0.05), "mse")
        return built

    with pytest.warns(UserWarning, match="learns nothing"):
        assert_agree(monkeypatch, build, x, y, batch_size=7, epochs=20)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("spared", ["bias", "kernel"])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_weight_decay_spares_what_is_excluded(monkeypatch, optimizer, spared, kind):
    rng = np.random.default_rng(4)
    x, y = inputs(kind, 200, 34, rng), targets("mse", 200, rng)

    def sparing():
        built = model(x, (33,), "tanh", "mse", optimizer, None, "float32")
        built.optimizer.weight_decay = 5.0
        built.optimizer.exclude_from_weight_decay(var_names=[spared])
        return built

    assert_agree(monkeypatch, sparing, x, y, batch_size=33, epochs=6)


@pytest.mark.parametrize("batch", [7, 128])
@pytest.mark.parametrize("dropout", ["no", "inputs"])
@pytest.mark.parametrize("kind", [*INPUTS, "sparse bytes"])
@pytest.mark.parametrize("rescaling", RESCALINGS)
def test_inputs_are_rescaled_as_the_layerwise_runner_does(monkeypatch, rescaling, kind, dropout, batch):
    dtype = "float64" if (kind, dropout) == ("bytes", "no") else "float32"
    arguments = (33,), "tanh", "mse", "sgd", None, dtype
    drops = DROPOUTS.get(dropout, (0.0, (0.0,)))
    compare(monkeypatch, kind, batch, *arguments, dropout=drops, rescaling=[RESCALINGS[rescaling]])


def test_rescalings_in_a_row(monkeypatch):
    arguments = (33,), "tanh", "mse", "sgd", None, "float32"
    compare(monkeypatch, "bytes", 128, *arguments, rescaling=[(0.5, -1.0), (-2.0, 0.25)])


@pytest.mark.parametrize(
    ("kind", "scale", "offset", "first_layer", "stored"),
    [
        ("dense", 0.5, 0.0, "dense", "DENSE"),
        ("bytes", 0.5, 1.0, "dense", "BYTES"),
        ("sparse bytes", 0.5, 0.0, "sparse, zeros are skipped", "SPARSE"),
        ("sparse bytes", 0.5, 1.0, "dense", "BYTES"),
        ("csr", 0.5, 0.0, "sparse, zeros are skipped", "SPARSE"),
        ("csr", 0.5, 1.0, "dense", "EXPANDED"),
    ],
)
def test_plan_of_rescaling(kind, scale, offset, first_layer, stored):
    """Zeros are skipped only where they stay zeros."""
    from fastnn.kernels.cpu import records

    built, x, _ = small(kind, rescaling=[(scale, offset)])
    plan = built.plan(x)
    assert plan.runner == "fused"
    assert plan.facts["first layer"].startswith(first_layer)
    assert plan.facts["rescaling"] == f"{scale:g} * x + {offset:g}, of the samples of a batch"
    source = engine.input_source("x", x, np.dtype("float32"))
    network = built._network()
    preparation, sparse = form.form_of(network).preparation, is_sparse(source, network)
    assert (preparation.scale, preparation.offset) == (scale, offset)
    assert inputs_of(source, source.dtype, preparation, sparse).kind == getattr(records, stored)


@pytest.mark.parametrize(
    ("kind", "offset", "share"), [("bytes", 0.0, 0.1), ("sparse bytes", -0.5, 0.1), ("sparse bytes", 0.0, 0.6)]
)
def test_bytes_stay_bytes(kind, offset, share):
    """The data are never held in floating point; where zeros are skipped, 8 bytes a number of the fifth that is not."""
    rng = np.random.default_rng(0)
    x, y = inputs(kind, 50_000, 100, rng), rng.integers(0, 10, 50_000).astype("uint8")
    built = model(
        x, (16,), "relu", "sparse_categorical_crossentropy", "rmsprop", None, "float32", rescaling=[(1 / 255, offset)]
    )
    assert built.plan(x).runner == "fused"
    built.fit(x[:500], y[:500], verbose=0)
    built.evaluate(x[:500], y[:500], verbose=0)
    before = x.copy()
    tracemalloc.start()
    try:
        built.fit(x, y, batch_size=128, verbose=0)
        built.evaluate(x, y, verbose=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < share * x.size * 4
    assert np.array_equal(x, before)


def small(kind="dense", optimizer="rmsprop", rows=300, **options):
    rng = np.random.default_rng(0)
    x, y = inputs(kind, rows, 34, rng), targets("sparse_categorical_crossentropy", rows, rng)
    return model(x, (33,), "relu", "sparse_categorical_crossentropy", optimizer, None, "float32", **options), x, y


@pytest.mark.parametrize("dropout", [(0.0, (0.0,)), (0.0, (0.5,)), (0.2, (0.5,))])
@pytest.mark.parametrize("kind", ["dense", "sparse", "strokes"])
@pytest.mark.parametrize("optimizer", ["rmsprop", "rmsprop-clipnorm", "momentum-global", "averaged-rmsprop"])
def test_results_do_not_depend_on_threads(optimizer, kind, dropout, monkeypatch):
    from fastnn.kernels.cpu.teams import threads

    monkeypatch.setattr(threads, "SERIAL_BELOW_NS", 0.0)
    before = fastnn.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 4):
            fastnn.set_num_threads(count)
            built, x, y = small(kind, optimizer, dropout=dropout)
            history = built.fit(x, y, batch_size=50, epochs=3, verbose=0).history
            results.append((history, built.get_weights()))
    finally:
        fastnn.set_num_threads(before)
    for history, weights in results[1:]:
        assert history == results[0][0]
        assert all(np.array_equal(a, b) for a, b in zip(weights, results[0][1], strict=True))


@pytest.mark.parametrize(
    ("optimizer", "penalty", "dtype", "coupled"),
    [
        *(
            (name, "no", "float32", name.split("-")[0] in DIRECT and not re.search("clip|global|decay", name))
            for name in OPTIMIZERS
        ),
        ("rmsprop", "no", "float64", True),
        ("rmsprop", "l1l2", "float32", False),
    ],
)
@pytest.mark.parametrize(("kind", "width"), [("strokes", 34), ("strokes", 33), ("sparse", 34)])
def test_neighbours_share_entries(monkeypatch, kind, width, optimizer, penalty, dtype, coupled):
    """Where most of them are zero or not together, their number is even, and gradients go into the step as they are."""
    from fastnn.kernels.cpu import records
    from fastnn.kernels.cpu.epochs import epoch

    rng = np.random.default_rng(2)
    x = inputs(kind, 200, 34, rng).reshape(200, -1)[:, :width].copy()
    y = targets("sparse_categorical_crossentropy", 200, rng)
    train, seen = epoch.train, []

    def watched(dtype, nanoseconds, *arguments):
        (rules,) = (argument for argument in arguments if isinstance(argument, records.Rules))
        seen.append(bool(rules.coupled))
        return train(dtype, nanoseconds, *arguments)

    watched.compiled = train.compiled
    monkeypatch.setattr(epoch, "train", watched)
    arguments = (33,), "relu", "sparse_categorical_crossentropy", optimizer, PENALTIES[penalty], dtype
    assert_agree(monkeypatch, lambda: model(x, *arguments), x, y, batch_size=33, epochs=6)
    assert set(seen) == {coupled and kind == "strokes" and width % 2 == 0}


@pytest.mark.parametrize("seen", ["nobody looks", "a callback", "a validation", "a stream"])
def test_weights_stay_in_panels_where_nobody_looks(seen, monkeypatch):
    from fastnn.kernels.cpu.epochs import epoch

    train, rules = epoch.train, []

    def watched(*arguments):
        rules.append(arguments[6])
        return train(*arguments)

    watched.compiled = train.compiled
    built, x, y = small("sparse", "rmsprop")
    monkeypatch.setattr(epoch, "train", watched)
    options = {"epochs": 3, "verbose": 0, "shuffle": False}
    if seen == "a stream":
        batches = itertools.cycle([(x[i : i + 50], y[i : i + 50]) for i in range(0, 300, 50)])
        built.fit(batches, steps_per_epoch=6, **options)
    else:
        look = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
        more = {"a callback": {"callbacks": [look]}, "a validation": {"validation_data": (x, y)}}
        built.fit(x, y, batch_size=50, **options, **more.get(seen, {}))
    once = 1 if seen == "nobody looks" else 3
    assert sum(each.load for each in rules) == once
    assert sum(each.store for each in rules) == once


@pytest.mark.parametrize("kind", ["dense", "sparse", "strokes"])
def test_more_threads_in_the_middle_of_a_fit(kind, monkeypatch):
    """Scratch memory is made for a number of tasks: a callback that asks for more must not overrun it."""
    from fastnn.kernels.cpu.teams import threads

    class MoreThreads(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            fastnn.set_num_threads(1 + batch % 4)

    monkeypatch.setattr(threads, "SERIAL_BELOW_NS", 0.0)
    before = fastnn.get_num_threads()
    results = []
    try:
        for listeners in ([], [MoreThreads()]):
            fastnn.set_num_threads(1)
            built, x, y = small(kind)
            built.fit(x, y, batch_size=30, epochs=2, verbose=0, callbacks=listeners)
            results.append(built.get_weights())
    finally:
        fastnn.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["dense", "sparse", "strokes"])
def test_more_threads_at_the_moment_of_the_call(kind, monkeypatch):
    """Another Python thread may ask for more threads between the check of scratch memory and the kernel's start."""
    from fastnn.kernels.cpu.epochs import epoch
    from fastnn.kernels.cpu.teams import threads

    train, tasks = epoch.train, []

    def disturbed(dtype, nanoseconds, *arguments):
        fastnn.set_num_threads(4)
        tasks.append(threads.count(nanoseconds))
        return train(dtype, nanoseconds, *arguments)

    monkeypatch.setattr(threads, "SERIAL_BELOW_NS", 0.0)
    disturbed.compiled = train.compiled
    monkeypatch.setattr(epoch, "train", disturbed)
    before = fastnn.get_num_threads()
    try:
        fastnn.set_num_threads(1)
        built, x, y = small(kind)
        built.fit(x, y, batch_size=300, epochs=2, verbose=0)
    finally:
        fastnn.set_num_threads(before)
    assert tasks == [1, 4, 4]  # the last one brings the weights back


@pytest.mark.parametrize("kind", ["dense", "sparse", "strokes"])
@pytest.mark.parametrize("clip", ["clipvalue", "clipnorm", "global_clipnorm"])
def test_clipping_that_begins_in_the_middle_of_a_fit(monkeypatch, clip, kind):
    """Scratch memory holds all gradients only where their norms are asked for."""

    class Clips(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            setattr(self.model.optimizer, clip, 0.1 if epoch == 1 else None)

    results = []
    for runner in ("fused", "layerwise"):
        built, x, y = small(kind)
        fit(monkeypatch, runner, built, x, y, batch_size=64, epochs=3, callbacks=[Clips()])
        results.append(built.get_weights())
    for mine, its in zip(*results, strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=1e-4)


def test_a_batch_of_too_many_non_zeros(monkeypatch):
    monkeypatch.setattr(session, "_MOST_ENTRIES", 100)
    built, x, y = small("sparse")
    with pytest.raises(ValueError, match=r"batch_size: got 300, whose non-zeros .* smaller batches"):
        built.fit(x, y, batch_size=300, verbose=0)
    before = fastnn.get_num_threads()
    try:
        fastnn.set_num_threads(1)
        built.fit(x, y, batch_size=5, verbose=0)
    finally:
        fastnn.set_num_threads(before)


def test_a_batch_larger_than_the_data():
    built, x, y = small(rows=20)
    built.fit(x, y, batch_size=10**12, epochs=2, verbose=0)
    assert built.optimizer.iterations == 2


@pytest.mark.parametrize("kind", ["dense", "sparse", "strokes"])
def test_callbacks_see_and_change_ordinary_arrays(monkeypatch, kind):
    """Weights read after every batch, and replaced between epochs, are those that training uses."""
    seen = {}

    class Meddler(callbacks.Callback):
        def __init__(self, runner):
            super().__init__()
            self.log = seen.setdefault(runner, [])

        def on_train_batch_end(self, batch, logs=None):
            self.log.append((logs["loss"], self.model.get_weights()[0].sum(dtype=float)))

        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights([w * 0.5 for w in self.model.get_weights()])
            self.model.optimizer.learning_rate *= 0.5

    for runner in ("fused", "layerwise"):
        built, x, y = small(kind)
        fit(monkeypatch, runner, built, x, y, batch_size=64, epochs=3, callbacks=[Meddler(runner)])
    np.testing.assert_allclose(seen["fused"], seen["layerwise"], rtol=1e-4, atol=1e-4)
    assert len(seen["fused"]) == 15


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_epoch_end"])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_arrays_that_take_the_place_of_others(kind, hook, order, monkeypatch):
    """Those of parameters and of slots: training goes on with the new ones, and leaves the old ones alone."""
    results = []
    for runner in ("fused", "layerwise"):
        built, x, y = small(kind, "adam")
        left = []

        def replaced(array, left=left):
            left.append((array, array.copy()))
            return np.array(0.5 * array, order=order)

        def replace(number, logs=None, built=built, replaced=replaced):
            for parameter in built.weights:
                parameter.value = replaced(parameter.value)
                slots = built.optimizer.state[parameter.path]
                slots.update((slot, replaced(array)) for slot, array in slots.items())

        listener = callbacks.LambdaCallback(**{hook: replace})
        fit(monkeypatch, runner, built, x, y, batch_size=100, epochs=3, callbacks=[listener])
        assert all((array == copy).all() for array, copy in left)
        results.append([*built.get_weights(), *(a for s in built.optimizer.state.values() for a in s.values())])
    for mine, its in zip(*results, strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_an_array_of_another_dtype_takes_the_place_of_a_parameters(dtype):
    """Kernels read and write by addresses: they get a copy of their own dtype."""
    results = []
    for wanted in (dtype, "float32"):
        built, x, y = small("dense", "sgd")

        def replace(epoch, logs=None, built=built, wanted=wanted):
            kernel = built.weights[0]
            kernel.value = (np.round(8 * kernel.value) / 8).astype(wanted)  # the same number in all of them

        built.fit(x, y, epochs=2, shuffle=False, verbose=0, callbacks=[callbacks.LambdaCallback(on_epoch_end=replace)])
        built.fit(x, y, shuffle=False, verbose=0)
        results.append(built.weights[0])
    assert results[0].dtype == dtype
    np.testing.assert_array_equal(results[0], results[1].numpy().astype(dtype))


def test_a_second_architecture_compiles_nothing():
    from fastnn.kernels.cpu.epochs import epoch

    built, x, y = small()
    built.fit(x, y, epochs=1, verbose=0)
    dispatcher = epoch.train.dispatchers["f"]
    signatures = list(dispatcher.overloads)
    rng = np.random.default_rng(0)
    for hidden, activation, loss, optimizer in [((7, 5), "tanh", "mse", "adam"), ((), "relu", "mae", "nesterov")]:
        y = targets(loss, 300, rng)
        model(x, hidden, activation, loss, optimizer, None, "float32").fit(x, y, epochs=1, verbose=0)
    for stack, optimizer in zip(STACKS, itertools.cycle(OPTIMIZERS)):
        y = stack_targets(stack, 300, rng)
        stack_model(stack, "float32", optimizer).fit(x[:, :10], y, epochs=1, verbose=0)
    assert epoch.train.dispatchers["f"] is dispatcher
    assert list(dispatcher.overloads) == signatures


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_divergence_names_epoch_batch_and_rate(kind):
    built, x, y = small(kind, "sgd")
    built.compile(optimizers.SGD(1e30), "sparse_categorical_crossentropy")
    assert built.plan(x).runner == "fused"
    with pytest.raises(DivergenceError, match=r"at epoch 1, batch \d+, with learning rate 1e\+30"):
        built.fit(x, y, batch_size=32, epochs=2, verbose=0, shuffle=False)


def test_stopping_inside_an_epoch():
    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    built, x, y = small()
    built.fit(x, y, batch_size=50, epochs=3, verbose=0, callbacks=[Stop()])
    assert built.optimizer.iterations == 2


@pytest.mark.parametrize("kind", ["sparse", "csr"])
def test_plan_of_dropout(kind):
    """Where some of the inputs are dropped the first layer takes every number, zeros too."""
    for rate, first_layer in ((0.0, "sparse, zeros are skipped"), (0.25, "dense")):
        built, x, _ = small(kind, dropout=(rate, (0.5,)))
        plan = built.plan(x)
        assert plan.runner == "fused"
        assert plan.facts["first layer"].startswith(first_layer)
        names = [f"{layer.name} {layer.rate}" for layer in built.layers if getattr(layer, "rate", 0)]
        assert plan.facts["dropout"] == f"{', '.join(names)}, masks drawn in the kernel"
    assert "dropout" not in small()[0].plan().facts


class Absolute(regularizers.Regularizer):
    """A penalty of the user's own."""

    def value_and_gradient(self, x):
        return float(abs(x).sum()), np.sign(x)


OBSTACLES = {
    "there is no dense layer": [layers.Flatten()],
    "rescales what layers give, not the inputs": [layers.Dense(3), layers.Rescaling(2.0), layers.Dense(2)],
    "rescaling_1 rescales": [
        *(
            layers.Rescaling(0.5, activity_regularizer="l2", name="rescaling_0"),
            layers.Rescaling(2.0, name="rescaling_1"),
        ),
        layers.Dense(2),
    ],
    "has a penalty of the user's own on its outputs": [layers.Dense(3, activity_regularizer=Absolute())],
    "shares its slopes": [layers.Dense(3), layers.PReLU(shared_axes=1)],
    "has a penalty of the user's own": [layers.Dense(3, kernel_regularizer=Absolute())],
}


@pytest.mark.parametrize("reason", OBSTACLES)
def test_what_it_cannot_run_goes_layer_by_layer(reason):
    x = np.random.default_rng(0).standard_normal((20, 3)).astype("float32")
    built = models.Sequential([layers.Input((3,)), *OBSTACLES[reason]])
    built.compile("sgd", "mse")
    plan = built.plan(x)
    assert plan.runner == "layerwise"
    assert reason in str(plan)
    if reason != "there is no dense layer":
        built.fit(x, np.zeros((20, built.output_shape[-1])), epochs=1, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"loss": lambda y, p: (0.0, p - y)}, "the loss is none of the kernels'"),
        ({"metrics": ["sparse_categorical_accuracy"]}, "'sparse_categorical_accuracy' fits class indices only"),
        ({"loss": "sparse_categorical_crossentropy", "metrics": ["mse"]}, "'mse' does not fit class indices"),
    ],
)
def test_compile_arguments_it_cannot_run(arguments, reason):
    x = np.ones((4, 3), "float32")
    built = models.Sequential([layers.Input((3,)), layers.Dense(2)])
    built.compile(**{"optimizer": "sgd", "loss": "mse", **arguments})
    plan = built.plan(x)
    assert plan.runner == "layerwise"
    assert reason in str(plan)


def test_softmax_along_one_of_several_axes_goes_layer_by_layer():
    x = np.ones((4, 3, 2), "float32")
    for activation, runner in (("softmax", "layerwise"), ("relu", "fused")):
        stack = [layers.Activation(activation), layers.Flatten(), layers.Dense(2)]
        built = models.Sequential([layers.Input((3, 2)), *stack])
        built.compile("sgd", "mse")
        assert built.plan(x).runner == runner
        built.fit(x, np.zeros((4, 2)), verbose=0)


def test_the_plan_says_what_becomes_of_zeros():
    x = np.eye(12, dtype="float32")
    for stack, said in (([], "zeros are skipped"), ([layers.Activation("tanh")], "takes no notice of zeros")):
        built = models.Sequential([layers.Input((12,)), *stack, layers.Dense(2)])
        built.compile("sgd", "mse")
        assert said in str(built.plan(x))


def evaluated(monkeypatch, runner, built, x, y, **options):
    """What the runner of that name evaluates."""
    with monkeypatch.context() as patch:
        if runner == "layerwise":
            patch.setitem(engine.RUNNERS, "fused", engine.LayerwiseRunner)
        return built.evaluate(x, y, verbose=0, return_dict=True, **options)


@pytest.mark.parametrize("loss", HEADS)
@pytest.mark.parametrize(("kind", "batch_size"), [*zip(INPUTS, itertools.cycle([7, 128, 1000]), strict=False)])
def test_evaluation_is_that_of_the_layers(monkeypatch, kind, batch_size, loss):
    rng = np.random.default_rng(1)
    x, y = inputs(kind, 300, 12, rng), targets(loss, 300, rng)
    built = model(x, (33, 10), "tanh", loss, "sgd", regularizers.L2(0.01), "float32")
    for options in ({}, {"sample_weight": rng.random(300).astype("float32")}):
        own, other = (
            evaluated(monkeypatch, runner, built, x, y, batch_size=batch_size, **options)
            for runner in ("fused", "layerwise")
        )
        assert own == pytest.approx(other, rel=2e-5)


def test_evaluation_of_many_samples_runs_no_layer(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = inputs("dense", 300, 12, rng), targets("mse", 300, rng)
    built = model(x, (10,), "relu", "mse", "sgd", None, "float32")
    monkeypatch.setattr(layers.Dense, "forward", pytest.fail)
    built.evaluate(x, y, verbose=0)


def test_evaluation_with_penalties_on_outputs_goes_layer_by_layer(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = inputs("dense", 300, 12, rng), rng.random((300, 2)).astype("float32")
    stack = [layers.Dense(5, activity_regularizer=regularizers.L2(0.5)), layers.Dense(2)]
    built = models.Sequential([layers.Input((12,)), *stack])
    built.compile("sgd", "mse")
    own, other = (evaluated(monkeypatch, runner, built, x, y) for runner in ("fused", "layerwise"))
    assert own == other


@pytest.mark.parametrize("every", [True, False])
def test_evaluation_calls_back_by_batches(every):
    rng = np.random.default_rng(1)
    x, y = inputs("dense", 300, 12, rng), targets("mse", 300, rng)
    built = model(x, (10,), "relu", "mse", "sgd", None, "float32")
    calls = []
    methods = {
        "on_test_batch_begin": lambda self, batch, logs=None: calls.append(batch),
        "on_test_batch_end": lambda self, batch, logs=None: calls.append((batch, logs["loss"])),
    }
    listener = type("Listener", (callbacks.Callback,), methods if every else {})()
    found = built.evaluate(x, y, batch_size=100, verbose=0, callbacks=[listener], return_dict=True)
    assert [call for call in calls if isinstance(call, int)] == ([0, 1, 2] if every else [])
    if every:
        assert calls[-1] == (2, found["loss"])


def test_density_decides_between_dense_and_sparse():
    from fastnn.kernels.cpu import records

    rng = np.random.default_rng(0)
    for density, kind in ((0.05, records.SPARSE), (0.95, records.DENSE)):
        x = np.where(rng.random((500, 40)) < density, 1.0, 0.0).astype("float32")
        source = engine.input_source("x", x, np.dtype("float32"))
        built = models.Sequential([layers.Input((40,)), layers.Dense(2)])
        built.compile("sgd", "mse")
        sparse = is_sparse(source, built._network())
        assert inputs_of(source, np.dtype("float32"), form.Preparation(), sparse).kind == kind


def test_every_axis_is_covered():
    """The grid that this file compares on has every value of every axis."""
    rows = combinations()
    assert len(set(rows)) >= 60
    for column, axis in zip(
        zip(*rows, strict=True), [HIDDEN, ACTIVATIONS, HEADS, OPTIMIZERS, PENALTIES, INPUTS], strict=False
    ):
        assert set(column) == set(axis)
    assert len(list(itertools.chain(rows))) == len(rows)


# Losses beside those of HEADS, each with the last layer's units and activation, and what its targets are.
FURTHER_LOSSES = {
    "mape": (lambda: "mape", 3, "linear", "positive"),
    "msle": (lambda: "msle", 2, "softplus", "positive"),
    "huber": (lambda: losses.Huber(0.3), 3, "linear", "numbers"),
    "log_cosh": (lambda: losses.LogCosh("sum"), 1, "tanh", "numbers"),
    "poisson": (lambda: "poisson", 2, "exponential", "counts"),
    "quadratic_cost": (losses.QuadraticCost, 3, "sigmoid", "numbers"),
    "cosine": (lambda: "cosine_similarity", 5, "tanh", "numbers"),
    "hinge": (lambda: "hinge", 2, "tanh", "bits"),
    "squared_hinge": (lambda: losses.SquaredHinge("mean_with_sample_weight"), 1, "linear", "bits"),
    "categorical_hinge": (lambda: "categorical_hinge", 19, "linear", "one hot"),
    "multiclass_hinge": (lambda: "multiclass_hinge", 19, "linear", "labels"),
    "kl_divergence": (lambda: "kl_divergence", 7, "softmax", "probabilities"),
    "nll": (lambda: "nll", 7, "log_softmax", "labels"),
    "binary focal": (lambda: losses.BinaryFocalCrossentropy(True, gamma=1.5), 2, "sigmoid", "bits"),
    "binary focal logits": (
        lambda: losses.BinaryFocalCrossentropy(from_logits=True, label_smoothing=0.1), 2, "linear", "bits"
    ),
    "categorical focal": (losses.CategoricalFocalCrossentropy, 7, "softmax", "one hot"),
    "categorical focal by class": (
        lambda: losses.CategoricalFocalCrossentropy([0.5, 1, 2], from_logits=True), 3, "linear", "one hot"
    ),
    "ignored": (lambda: losses.SparseCategoricalCrossentropy(ignore_class=1), 3, "softmax", "labels"),
}  # fmt: skip
FURTHER_TARGETS = {
    "numbers": lambda rng, rows, units: rng.standard_normal((rows, units)),
    "positive": lambda rng, rows, units: rng.uniform(0.5, 2, (rows, units)),
    "counts": lambda rng, rows, units: rng.poisson(2.0, (rows, units)),
    "bits": lambda rng, rows, units: rng.integers(0, 2, (rows, units)),
    "labels": lambda rng, rows, units: rng.integers(0, units, rows),
    "one hot": lambda rng, rows, units: np.eye(units)[rng.integers(0, units, rows)],
    "probabilities": lambda rng, rows, units: rng.dirichlet(np.ones(units), rows),
}


@pytest.mark.parametrize(("weighted", "name"), some(itertools.product([False, True], FURTHER_LOSSES), 2))
def test_every_loss_is_that_of_the_layers(monkeypatch, name, weighted):
    make, units, activation, kind = FURTHER_LOSSES[name]
    rng = np.random.default_rng(6)
    x, y = inputs("sparse" if weighted else "dense", 65, 34, rng), FURTHER_TARGETS[kind](rng, 65, units)
    dtype = "float64" if weighted else "float32"

    def build():
        utils.set_random_seed(4)
        stack = [layers.Dense(9, "tanh", dtype=dtype), layers.Dense(units, activation, dtype=dtype)]
        built = models.Sequential([layers.Input((34,)), *stack])
        built.compile(optimizers.SGD(0.003), make(), [] if kind == "labels" else ["mse"])
        assert built.plan(x).runner == "fused"
        return built

    weight = rng.uniform(0.5, 2, 65) if weighted else None
    assert_agree(monkeypatch, build, x, y, batch_size=7, epochs=20, sample_weight=weight)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("ignored", [-1, 2, 255])
@pytest.mark.parametrize(("logits", "weighted", "batch"), [(False, False, 7), (True, True, 1), (False, True, 65)])
def test_a_class_is_ignored_as_layer_by_layer(monkeypatch, ignored, reduction, logits, weighted, batch):
    """Of some batches all samples; metrics count them, by weights that know nothing of it."""
    rng = np.random.default_rng(9)
    x, y = inputs("dense", 65, 12, rng), rng.integers(0, 3, 65)
    y[rng.random(65) < 0.4] = ignored
    y[7:14] = ignored

    def build():
        utils.set_random_seed(4)
        last = layers.Dense(3, "linear" if logits else "softmax", dtype="float64")
        built = models.Sequential([layers.Input((12,)), layers.Dense(9, "tanh", dtype="float64"), last])
        loss = losses.SparseCategoricalCrossentropy(logits, ignored, reduction)
        built.compile(optimizers.Adam(0.003), loss, ["accuracy"], ["sparse_categorical_accuracy"])
        assert built.plan(x).runner == "fused"
        return built

    options = {"sample_weight": rng.uniform(0.5, 2, 65)} if weighted else {}
    assert_agree(monkeypatch, build, x, y, batch_size=batch, epochs=6, shuffle=ignored != 2, **options)


# Metrics that look at outputs themselves, beside those of the kernels: by loss.
APART = {
    "sparse_categorical_crossentropy": ["accuracy", "sparse_top_k_categorical_accuracy"],
    "categorical_crossentropy": ["accuracy", "auc", "precision", "top_k_categorical_accuracy"],
    "binary_crossentropy": ["auc", "precision", "accuracy", "recall", "hinge"],
    "mse": ["R2Score", "mae", "cosine_similarity"],
}


@pytest.mark.parametrize("dropout", ["no", "hidden"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "bytes"])
@pytest.mark.parametrize("loss", APART)
def test_metrics_of_their_own_see_what_layers_give(monkeypatch, loss, kind, dropout):
    """Of every batch, weighted and not, beside metrics that the kernels keep; the fit stays in compiled calls."""
    rng = np.random.default_rng(8)
    x, y = inputs(kind, 65, 34, rng), targets(loss, 65, rng)

    def build():
        built = model(x, (10,), "tanh", loss, "adam", None, "float32", dropout=DROPOUTS.get(dropout, (0.0, (0.0,))))
        own = [metrics.MeanMetricWrapper(lambda y_true, y_pred: abs(y_pred).sum(axis=-1), "size")]
        built.compile("adam", loss, [*APART[loss], *own], weighted_metrics=[*APART[loss], "mse"][1:-1])
        return built

    options = {"batch_size": 7, "epochs": 3, "sample_weight": rng.uniform(0.5, 2, 65)}
    assert_agree(monkeypatch, build, x, y, **options)


def test_a_metric_that_does_not_fit_is_found_before_anything_is_changed():
    built, x, y = small("dense")

    def unfit(y_true, y_pred):
        raise ValueError("does not fit")

    built.compile("sgd", built.loss, [unfit])
    before = built.get_weights()
    assert built.plan(x).runner == "fused"
    with pytest.raises(ValueError, match="does not fit"):
        built.fit(x, y, verbose=0)
    for one, other in zip(before, built.get_weights(), strict=True):
        assert np.array_equal(one, other)
