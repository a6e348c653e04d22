"""Activations by name, as functions, with numbers, of one's own; layers of them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import fastnn
from fastnn import activations, layers, models, ops
from fastnn.engine.activations import Activation
from fastnn.kernels.table import ACTIVATIONS, ELEMENTWISE_ACTIVATIONS

X = np.random.default_rng(2).normal(size=(4, 6))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_name_a_function_and_an_op_mean_the_same(name):
    op = getattr(ops, ELEMENTWISE_ACTIVATIONS.get(name, name))
    for given in (name, getattr(activations, name), op, activations.get(name), Activation(name)):
        assert activations.get(given) == Activation(name)
    assert np.array_equal(getattr(activations, name)(X), op(X))
    assert np.array_equal(activations.get(name)(X), op(X))
    assert activations.deserialize(activations.serialize(name)) == Activation(name)


@pytest.mark.parametrize(("alias", "name"), [("swish", "silu"), ("hard_swish", "hard_silu"), (None, "linear")])
def test_further_names(alias, name):
    assert activations.get(alias) == Activation(name)


@pytest.mark.parametrize(
    ("given", "op", "numbers"),
    [
        (partial(activations.leaky_relu, negative_slope=0.1), "leaky_relu", (0.1,)),
        (partial(ops.elu, alpha=0.5), "elu", (0.5,)),
        (partial(activations.relu, max_value=6), "bounded_relu", (0, 6, 0)),
        (partial(activations.relu, threshold=1.0), "bounded_relu", (0, np.inf, 1)),
        (partial(activations.threshold, threshold=1.0, default_value=-2), "threshold", (1, -2)),
        (layers.LeakyReLU(0.1), "leaky_relu", (0.1,)),
        (layers.ReLU(6, 0.1, 0.5), "bounded_relu", (0.1, 6, 0.5)),
        (layers.ELU(0.5), "elu", (0.5,)),
    ],
)
def test_numbers_are_kept(given, op, numbers):
    found = activations.get(given)
    assert (found.op, found.numbers) == (op, numbers)
    assert activations.deserialize(activations.serialize(given)) == found
    assert np.array_equal(found(X), getattr(ops, op)(X, *numbers))
    dense = layers.Dense(3, given)
    assert layers.Dense.from_config(dense.get_config()).activation == found


def test_default_numbers_are_none():
    for given in (
        partial(activations.leaky_relu, negative_slope=0.2),
        activations.leaky_relu,
        layers.LeakyReLU(0.2),
        "leaky_relu",
    ):
        assert activations.get(given) == Activation("leaky_relu")
    assert activations.get(layers.ReLU()) == Activation("relu")
    assert activations.get(partial(activations.gelu, approximate=True)) == Activation("gelu_tanh")


def test_softmax_along_an_axis():
    for axis in (0, 1, -2):
        for name in ("softmax", "log_softmax"):
            got = getattr(activations, name)(X, axis=axis)
            wanted = np.exp(X) / np.exp(X).sum(axis=axis, keepdims=True)
            np.testing.assert_allclose(got, wanted if name == "softmax" else np.log(wanted), rtol=1e-12)
    with pytest.raises(ValueError, match="axis: got 2, wants an integer"):
        activations.softmax(X, axis=2)
    with pytest.raises(ValueError, match="axis: got 0, wants -1"):
        activations.get(partial(activations.softmax, axis=0))


def test_lists_and_integers_are_float32():
    assert activations.relu([[-1, 2], [3, -4]]).tolist() == [[0, 2], [3, 0]]
    assert activations.relu([1]).dtype == np.float32


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("rleu", ValueError, r"activation: got 'rleu', wants one of .* \(did you mean 'relu'\?\)"),
        (3, TypeError, "activation: got int 3, wants a name, a function"),
        (layers.Dense, TypeError, "activation: got type"),
        (partial(activations.elu, alpha=-1), ValueError, "alpha: got -1"),
        (partial(ops.elu, beta=1), TypeError, "beta: got an argument that elu does not have"),
        ({"class_name": "elu"}, ValueError, "activation: got dict"),
        ({"class_name": "ellu", "config": {}}, ValueError, "did you mean 'elu'"),
        ({"class_name": "elu", "config": {"alpha": "a"}}, TypeError, "alpha: got"),
    ],
)
def test_what_is_no_activation(given, error, message):
    with pytest.raises(error, match=message):
        layers.Dense(2, given)


class Square:
    """An activation of one's own, with its derivative."""

    def __call__(self, x):
        return x * x

    def backward(self, dy, x, y):
        return 2 * dy * x


def trained(activation, **options):
    fastnn.utils.set_random_seed(1)
    built = models.Sequential([layers.Input((6,)), layers.Dense(5, activation), layers.Dense(1)])
    built.compile("sgd", "mse", **options)
    return built, built.fit(X, X[:, :1] ** 2, epochs=3, verbose=0).history["loss"]


def test_a_function_of_ones_own():
    built, losses = trained(Square())
    assert "the activation of" in str(built.plan(X))
    assert built.plan(X).runner == "layerwise"
    assert losses[2] < losses[0]
    with pytest.raises(ValueError, match="activation: got the function 'Square', which a model file cannot hold"):
        built.get_config()
    assert np.array_equal(built.predict(X, verbose=0), built.predict(X, verbose=0))


def test_a_function_of_ops_gives_what_the_activation_does():
    ours, own = trained("tanh"), trained(lambda x: ops.tanh(x))  # noqa: PLW0108 - not the op itself, which is known
    np.testing.assert_allclose(own[1], ours[1], rtol=1e-5)


def test_a_function_without_a_derivative_predicts_and_does_not_train():
    built = models.Sequential([layers.Input((6,)), layers.Dense(5, np.tanh)])
    built.compile("sgd", "mse")
    assert built.predict(X, verbose=0).shape == (4, 5)
    with pytest.raises(TypeError, match=r"activation: got the function 'tanh' to train through, wants one made of"):
        built.fit(X, np.zeros((4, 5)), verbose=0)


def test_a_function_that_returns_something_else():
    layer = layers.Dense(2, lambda x: x[:, :1])
    with pytest.raises(ValueError, match=r"activation: '<lambda>' returned ndarray of shape \(4, 1\)"):
        layer(X)


@pytest.mark.parametrize("name", ["binary_step", "sign"])
def test_fit_says_that_nothing_below_a_step_learns(name):
    with pytest.warns(UserWarning, match=f"the derivative of '{name}' .* so dense.* learns nothing"):
        trained(name)


def test_layers_of_activations():
    for layer in (
        layers.ReLU(1.5, 0.25, 0.5),
        layers.LeakyReLU(0.1),
        layers.ELU(0.5),
        layers.Softmax(),
        layers.Softmax(1),
    ):
        again = type(layer).from_config(layer.get_config())
        assert np.array_equal(layer(X), again(X))
    assert layers.LeakyReLU().negative_slope == 0.3
    with pytest.raises(ValueError, match="negative_slope: got -1"):
        layers.LeakyReLU(-1)
    with pytest.raises(ValueError, match="axis: got 0, the axis of the batch"):
        layers.Softmax(0)
    x = np.random.default_rng(1).normal(size=(2, 3, 4))
    layer, dy = layers.Softmax(1, dtype="float64"), np.ones((2, 3, 4)) * x
    y, kept = layer.forward(x)
    np.testing.assert_allclose(y.sum(axis=1), 1)
    dx, _ = layer.backward(dy, kept)
    np.testing.assert_allclose(dx, y * (dy - (dy * y).sum(axis=1, keepdims=True)), atol=1e-15)


@pytest.mark.parametrize(
    ("shape", "shared", "slopes"),
    [
        ((6,), None, (6,)),
        ((6,), 1, (1,)),
        ((3, 4), [1], (1, 4)),
        ((3, 4), [2], (3, 1)),
        ((3, 4), [1, 2], (1, 1)),
        ((3, 4, 2), [1, 3], (1, 4, 1)),
    ],
)
def test_prelu_learns_its_slopes(shape, shared, slopes):
    layer = layers.PReLU("he_normal" if len(slopes) > 1 else "ones", shared_axes=shared, dtype="float64")
    x, dy = (np.random.default_rng(seed).normal(size=(5, *shape)) for seed in (1, 2))
    y = layer(x)
    assert layer.alpha.shape == slopes
    np.testing.assert_allclose(y, np.where(x > 0, x, layer.alpha.value * x))
    dx, (dalpha,) = layer.backward(dy, layer.forward(x)[1])
    np.testing.assert_allclose(dx, np.where(x > 0, dy, layer.alpha.value * dy))
    each = np.where(x > 0, 0, dy * x).sum(axis=0)
    axes = tuple(axis for axis, size in enumerate(slopes) if size == 1 and len(shape) > axis and shape[axis] != 1)
    np.testing.assert_allclose(dalpha, each.sum(axis=axes, keepdims=True) if axes else each)
    again = layers.PReLU.from_config(layer.get_config())
    again.build((None, *shape))
    assert again.alpha.shape == slopes


def test_a_model_learns_with_prelu(tmp_path):
    fastnn.utils.set_random_seed(1)
    built = models.Sequential([layers.Input((6,)), layers.Dense(5), layers.PReLU(), layers.Dense(1)])
    built.compile("adam", "mse")
    losses = built.fit(X, X[:, :1] ** 2, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert (built.layers[1].alpha.value != 0).any()
    built.save(tmp_path / "m.safetensors")
    loaded = models.load_model(tmp_path / "m.safetensors")
    assert np.array_equal(loaded.predict(X, verbose=0), built.predict(X, verbose=0))


def test_prelu_of_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"shared_axes\[0\]: got 0, wants an integer of at least 1"):
        layers.PReLU(shared_axes=0)
    with pytest.raises(ValueError, match=r"wants axes \[2\] of samples of known sizes"):
        layers.PReLU(shared_axes=[2])(X)
    layer = layers.PReLU()
    layer(X)
    with pytest.raises(ValueError, match="for which it is built"):
        layer(X[:, :3])
