"""Regularizers: value and derivative, names, and what they add to a loss."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, models, optimizers, regularizers

W = np.array([[1.0, -2.0], [0.0, 0.5]])


@pytest.mark.parametrize(
    ("penalty", "value", "gradient"),
    [
        (regularizers.L1(0.1), 0.35, 0.1 * np.sign(W)),
        (regularizers.L2(0.1), 0.525, 0.2 * W),
        (regularizers.L1L2(0.1, 0.2), 0.35 + 1.05, 0.1 * np.sign(W) + 0.4 * W),
        (regularizers.l1(0.1), 0.35, 0.1 * np.sign(W)),
        (regularizers.l1_l2(l1=0.1, l2=0.2), 1.4, 0.1 * np.sign(W) + 0.4 * W),
    ],
)
def test_value_and_gradient(penalty, value, gradient):
    got, derivative = penalty.value_and_gradient(W)
    assert got == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(derivative, gradient, rtol=1e-14)
    assert penalty(W.tolist()) == pytest.approx(value)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("l1", {"l1": 0.01}),
        ("l2", {"l2": 0.01}),
        ("L2", {"l2": 0.01}),
        ("l1l2", {"l1": 0.0, "l2": 0.0}),
        ("orthogonal_regularizer", {"factor": 0.01, "mode": "rows"}),
        ({"class_name": "L1L2", "config": {"l1": 1.0, "l2": 2.0}}, {"l1": 1.0, "l2": 2.0}),
    ],
)
def test_names(name, config):
    assert regularizers.get(name).get_config() == config


def test_none():
    assert regularizers.get(None) is None


def test_orthogonal_rows_and_columns():
    """Cosines of 0.6, 0 and 0.8 between three rows; rows along the axes cost nothing."""
    rows = np.array([[2.0, 0.0], [0.3, 0.4], [0.0, -5.0]])
    for mode, x in (("rows", rows), ("columns", rows.T)):
        penalty = regularizers.OrthogonalRegularizer(0.3, mode)
        assert penalty(x) == pytest.approx(0.3 * (0.6 + 0.8) / 3, rel=1e-14)
        assert penalty(np.diag([3.0, 1.0, 2.0])) == 0
        assert penalty(x[:1] if mode == "rows" else x[:, :1]) == 0
    assert regularizers.OrthogonalRegularizer()(np.zeros((2, 2))) == 0


@pytest.mark.parametrize("mode", ["rows", "columns"])
def test_derivative_of_the_orthogonal_penalty(mode):
    x, step = np.random.default_rng(0).normal(size=(4, 3)), 1e-6
    x[:, 2] *= 1e-3
    penalty = regularizers.OrthogonalRegularizer(0.7, mode)
    value, gradient = penalty.value_and_gradient(x)
    wanted = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        ends = []
        for side in (step, -step):
            moved = x.copy()
            moved[place] += side
            ends.append(penalty(moved))
        wanted[place] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(gradient, wanted, atol=2e-6 * np.abs(wanted).max())
    assert gradient.flags.c_contiguous
    single, coarse = penalty.value_and_gradient(x.astype("float32"))
    assert coarse.dtype == np.float32
    assert single == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(coarse, gradient, rtol=1e-3, atol=1e-4 * np.abs(gradient).max())


def test_orthogonal_penalty_in_training():
    """Rows that are alike are drawn apart, and the model goes layer by layer."""
    rng = np.random.default_rng(1)
    kernel = np.ones((3, 5)) + rng.normal(size=(3, 5))
    penalty = regularizers.OrthogonalRegularizer(1.0)
    model = models.Sequential(
        [layers.Dense(5, input_shape=(3,), kernel_initializer=kernel, kernel_regularizer=penalty, dtype="float64")]
    )
    model.compile(optimizers.SGD(0.1), "mse")
    assert model.plan().runner == "layerwise"
    losses = model.fit(np.zeros((8, 3)), np.zeros((8, 5)), epochs=80, batch_size=8, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(penalty(kernel), rel=1e-12)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: regularizers.OrthogonalRegularizer(-1), "factor: got -1.0, wants a finite number at least 0"),
        (lambda: regularizers.OrthogonalRegularizer(mode="row"), r"mode: got 'row', .* \(did you mean 'rows'"),
        (lambda: regularizers.OrthogonalRegularizer()([1.0, 2.0]), r"x: got shape \(2,\), wants a matrix"),
    ],
)
def test_refused_orthogonal_penalties(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", sorted(regularizers.NAMES))
def test_configs(name):
    made = regularizers.get(name)
    again = regularizers.deserialize(regularizers.serialize(made))
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()


def one_weight(**penalties):
    model = models.Sequential(
        [layers.Dense(1, input_shape=(1,), kernel_initializer="ones", dtype="float64", **penalties)]
    )
    model.compile(optimizers.SGD(0.1), "mse")
    return model


def test_kernel_and_bias_penalties_are_in_loss_and_step():
    model = one_weight(kernel_regularizer=regularizers.L2(0.5), bias_regularizer="l1", bias_initializer="ones")
    x, y = [[2.0], [2.0]], [[3.0], [3.0]]  # the prediction is exact: all loss is penalty
    wanted = 0.5 + 0.01
    assert model.evaluate(x, y, verbose=0) == pytest.approx(wanted, rel=1e-14)
    assert model.fit(x, y, verbose=0).history["loss"] == [pytest.approx(wanted, rel=1e-14)]
    kernel, bias = model.get_weights()
    assert kernel[0, 0] == pytest.approx(1 - 0.1 * 2 * 0.5)
    assert bias[0] == pytest.approx(1 - 0.1 * 0.01)


def test_activity_penalty_is_divided_by_the_batch_size():
    model = one_weight(activity_regularizer=regularizers.L2(0.5))
    x, y = np.full((4, 1), 2.0), np.full((4, 1), 2.0)
    wanted = 0.5 * 4 * 2.0**2 / 4
    for batch_size in (1, 2, 4):
        assert model.evaluate(x, y, batch_size=batch_size, verbose=0) == pytest.approx(wanted)
    model.fit(x, y, batch_size=4, verbose=0)
    # d/dw of 0.5 * sum (w x)^2 / 4 = w x^2
    assert model.get_weights()[0][0, 0] == pytest.approx(1 - 0.1 * 4.0)


def test_frozen_weights_are_not_penalised():
    model = one_weight(kernel_regularizer="l2")
    model.layers[0].trainable = False
    assert model.evaluate([[1.0]], [[1.0]], verbose=0) == 0
