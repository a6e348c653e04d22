"""Layers along chosen axes, and their gradients by central differences."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers, models, ops

RNG = np.random.default_rng(8)
X, Y = RNG.standard_normal((3, 4, 2)), RNG.standard_normal((3, 5, 4))


def named(kind, *args, **options):
    return getattr(layers, kind)(*args, dtype="float64", **options)


# (the layer, inputs, what NumPy makes of them)
CASES = {
    "unit": (("UnitNormalization", -1), [X], lambda x: x / np.sqrt((x * x).sum(-1, keepdims=True))),
    "unit of two": (("UnitNormalization", [1, 2]), [X], lambda x: x / np.sqrt((x * x).sum((1, 2), keepdims=True))),
    "dot": (("Dot", 1), [X[:, :, 0], Y[:, 0]], lambda a, b: (a * b).sum(1, keepdims=True)),
    "dot of axes": (("Dot", (1, 2)), [X, Y], lambda a, b: np.einsum("nka,nbk->nab", a, b)),
    "dot of one": (("Dot", [1, -1]), [X[:, :, 0], Y], lambda a, b: np.einsum("nk,nbk->nb", a, b)),
    "cosines": (
        ("Dot", -2, True),
        [X, X[:, ::-1] + 1],
        lambda a, b: np.einsum(
            "nka,nkb->nab", a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)
        ),
    ),
    "layer norm": (
        ("LayerNormalization", 1),
        [X],
        lambda x: (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-3),
    ),
    "batch norm": (
        ("BatchNormalization", 1),
        [X],
        lambda x: (x - x.mean((0, 2), keepdims=True)) / np.sqrt(x.var((0, 2), keepdims=True) + 1e-3),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    (kind, *args), given, formula = CASES[name]
    layer, given = named(kind, *args), [array.copy() for array in given]
    call = lambda *arrays: layer([*arrays] if len(arrays) > 1 else arrays[0], training=True)  # noqa: E731
    y = call(*given)
    np.testing.assert_allclose(y, formula(*given), rtol=1e-10, atol=1e-12)
    shapes = [(None, *array.shape[1:]) for array in given]
    assert layer.compute_output_shape(shapes if len(shapes) > 1 else shapes[0]) == (None, *y.shape[1:])
    weights = RNG.standard_normal(y.shape)
    loss = lambda *arrays: ops.sum(call(*arrays) * weights)  # noqa: E731
    _, slopes = fastnn.gradients(loss, given)
    for array, slope in zip(given, slopes, strict=True):
        for at in np.ndindex(array.shape):
            kept = array[at]
            array[at] = kept + 1e-6
            above = loss(*given)
            array[at] = kept - 1e-6
            found = (above - loss(*given)) / 2e-6
            array[at] = kept
            assert slope[at] == pytest.approx(found, rel=1e-5, abs=1e-7), at


@pytest.mark.parametrize("kind", ["LayerNormalization", "BatchNormalization", "UnitNormalization", "Conv1DTranspose"])
def test_they_train_in_programs_as_op_by_op(kind):
    options = {"filters": 3, "kernel_size": 2, "strides": 2} if kind == "Conv1DTranspose" else {"axis": 1}
    losses = []
    for eager in (False, True):
        fastnn.utils.set_random_seed(3)
        layer = getattr(layers, kind)(**options)
        model = models.Sequential([layers.Input((4, 2)), layer, layers.Flatten(), layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=eager)
        losses.append(model.fit(X, Y[:, 0, 0], epochs=3, batch_size=2, verbose=0).history["loss"])
    assert losses[0] == losses[1]


def test_alpha_dropout_keeps_mean_and_variance():
    layer, x = layers.AlphaDropout(0.3, seed=1, dtype="float64"), np.random.default_rng(3).standard_normal((400, 500))
    y, kept = layer.forward(x, training=True)
    assert y.mean() == pytest.approx(0, abs=0.01)
    assert y.std() == pytest.approx(1, abs=0.01)
    floor = 1.7580993408473766
    slope = ((1 - 0.3) * (1 + 0.3 * floor**2)) ** -0.5
    dropped = np.isclose(y, slope * floor * (0.3 - 1), rtol=1e-12)
    assert dropped.mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_allclose(y, slope * (np.where(dropped, -floor, x) + floor * 0.3), rtol=1e-6, atol=1e-9)
    dx, _ = layer.backward(np.ones_like(x), kept)
    np.testing.assert_allclose(dx, np.where(dropped, 0, slope), rtol=1e-6)
    assert np.array_equal(layer(x), x)


def test_gaussian_dropout_keeps_the_mean():
    layer, x = layers.GaussianDropout(0.2, seed=1), np.full((200, 50), 3.0)
    y = layer(x, training=True)
    assert np.array_equal(layer(x), x)
    assert y.mean() == pytest.approx(3, abs=0.05)
    assert y.std() == pytest.approx(3 * 0.5, abs=0.05)
    assert not np.array_equal(y, layer(x, training=True))
    assert np.array_equal(layers.GaussianDropout(0.2, seed=1)(x, training=True), y)
    first, kept = layer.forward(x, training=True)
    assert np.allclose(layer.backward(np.ones_like(x), kept)[0], first / 3)


def test_activity_is_charged():
    model = models.Sequential([layers.Input((2,)), layers.ActivityRegularization(l1=0.5, l2=0.1)])
    model.compile("sgd", "mse")
    x = np.array([[1.0, -2.0], [0.0, 3.0]])
    assert model.evaluate(x, x, verbose=0) == pytest.approx((0.5 * 6 + 0.1 * 14) / 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.Dot(0), "axes: got 0, wants axes of a sample"),
        (lambda: layers.Dot((1, 2, 3)), "axes: got"),
        (lambda: layers.Dot(2, name="d")([X, Y]), "^d: got inputs of shapes .* wants equal sizes along axes"),
        (lambda: layers.Dot(3, name="d")([X, Y]), "^d: got inputs of shapes .* wants equal sizes along axes"),
        (lambda: layers.Dot(1, name="d")([X]), "^d: got 1 inputs, wants a list of 2 inputs"),
        (lambda: layers.UnitNormalization(0), "axis: got int 0"),
        (lambda: layers.UnitNormalization(3, name="u")(X), "^u: got input shape .* wants such axes of samples"),
        (lambda: layers.UnitNormalization([1, -2], name="u")(X), "^u: got input shape .* each once"),
        (lambda: layers.BatchNormalization(3, name="b")(X), "^b: got input shape .* axis=3, wants such axes"),
        (lambda: layers.GaussianDropout(1.5), "rate: got 1.5"),
        (lambda: layers.AlphaDropout(1.5), "rate: got 1.5"),
        (lambda: layers.ActivityRegularization(-1.0), "l1: got -1"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
