"""The documents' worked examples through the trainer: layers with the documents' weights, plain SGD, every backend."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import backends, layers, models, optimizers, utils
from fastnn.engine import LayerwiseRunner
from fastnn.engine.data import Batch

BACKENDS = [name for name, state in backends.available_backends().items() if state.available and name != "cuda"]

pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def network(backend, weights, activations, loss, rate, frozen_bias=False):
    """A float64 model with the given (kernel, bias or None) pairs."""
    model = models.Sequential()
    model.add(layers.Input((len(weights[0][0]),)))
    for (kernel, bias), activation in zip(weights, activations, strict=True):
        model.add(layers.Dense(len(kernel[0]), activation, use_bias=bias is not None, dtype="float64"))
    flat = []
    for kernel, bias in weights:
        flat += [np.array(kernel)] if bias is None else [np.array(kernel), np.full(len(kernel[0]), bias)]
    model.set_weights(flat)
    for layer in model.layers:
        if frozen_bias and layer.bias is not None:
            layer.bias.trainable = False
    model.compile(optimizers.SGD(rate), loss, backend=backend)
    return model


def gradients(model, backend, x, y):
    integers = model.loss.integer_targets
    target = np.array(y, dtype=np.int64 if integers else np.float64)
    with backends.use_backend(backend):
        _, _, found = LayerwiseRunner(model._network(), backend).gradients(
            Batch(np.array(x, dtype=float), target, None, 1)
        )
    return found


def close(got, wanted, digits=9):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=0.51 * 10**-digits)


def test_a_linear(backend):
    weights = [([[0.11, 0.12], [0.21, 0.08]], None), ([[0.14], [0.15]], None)]
    model = network(backend, weights, ["linear", "linear"], "half_sse", 0.05)
    x, y = [[2.0, 3.0]], [[1.0]]
    close(model.predict(x), [[0.191]])
    dw, dh = gradients(model, backend, x, y)
    close(dw, [[-0.22652, -0.24270], [-0.33978, -0.36405]])
    close(dh, [[-0.68765], [-0.38832]])
    close(model.train_on_batch(x, y), 0.32724050)
    w, h = model.get_weights()
    close(w, [[0.121326, 0.132135], [0.226989, 0.0982025]])
    close(h, [[0.1743825], [0.169416]])
    close(model.predict(x), [[0.25574578]], 8)


B_WEIGHTS = [([[0.15, 0.25], [0.20, 0.30]], 0.35), ([[0.40, 0.50], [0.45, 0.55]], 0.60)]
B_X, B_Y = [[0.05, 0.10]], [[0.01, 0.99]]


def test_b_sigmoid(backend):
    model = network(backend, B_WEIGHTS, ["sigmoid", "sigmoid"], "half_sse", 0.5, frozen_bias=True)
    close(model.predict(B_X), [[0.75136507, 0.772928465]])
    dw1, dw2 = gradients(model, backend, B_X, B_Y)
    close(dw2, [[0.082167041, -0.02260254], [0.082667628, -0.022740242]])
    close(dw1, [[0.000438568, 0.000497713], [0.000877135, 0.000995425]])
    close(model.train_on_batch(B_X, B_Y), 0.298371109)
    w1, b1, w2, b2 = model.get_weights()
    close(w2, [[0.35891648, 0.51130127], [0.408666186, 0.561370121]])
    close(w1, [[0.149780716, 0.249751144], [0.199561432, 0.299502287]])
    assert (b1 == 0.35).all()
    assert (b2 == 0.60).all()
    close(model.evaluate(B_X, B_Y, verbose=0), 0.291027774)


def test_b_shared_biases(backend):
    """A bias that a layer's units share has the sum of the units' bias gradients."""
    model = network(backend, B_WEIGHTS, ["sigmoid", "sigmoid"], "half_sse", 0.5)
    _, db1, _, db2 = gradients(model, backend, B_X, B_Y)
    close(db1.sum(), 0.018725609)
    close(db2.sum(), 0.100400325)


def test_b_ten_thousand_rounds(backend):
    model = network(backend, B_WEIGHTS, ["sigmoid", "sigmoid"], "half_sse", 0.5, frozen_bias=True)
    model.fit(B_X, B_Y, epochs=10_000, verbose=0)
    close(model.predict(B_X), [[0.01591362, 0.984064274]], 8)
    assert model.evaluate(B_X, B_Y, verbose=0) == pytest.approx(3.510187783e-05, rel=1e-7)


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_c_softmax(backend, loss):
    weights = [([[0.1, 0.4], [-0.2, 0.6]], 0.0), ([[0.3, 0.2, 0.3], [-0.3, 0.1, -0.2]], 0.0)]
    model = network(backend, weights, ["relu", "softmax"], loss, 0.5)
    w1, _, w2, _ = model.get_weights()
    model.set_weights([w1, [0.2, -0.3], w2, [-0.1, -0.5, -0.4]])
    x, y = [[1.8, 0.5]], [0] if loss.startswith("sparse") else [[1, 0, 0]]
    close(model.predict(x), [[0.375166598, 0.326154172, 0.29867923]])
    dw1, _, dw2, db2 = gradients(model, backend, x, y)
    close(db2, [-0.624833402, 0.326154172, 0.29867923])
    close(dw2, [[-0.174953353, 0.091323168, 0.083630184], [-0.449880049, 0.234831004, 0.215049046]])
    close(dw1, [[-0.058707751, 0.288593265], [-0.016307709, 0.080164796]])
    close(model.train_on_batch(x, y), 0.980385090)
    close(model.get_weights()[2], [[0.387476676, 0.154338416, 0.258184908], [-0.075059975, -0.017415502, -0.307524523]])


def test_d_sigmoid(backend):
    weights = [([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], 0.5), ([[0.7, 0.8], [0.9, 0.1]], 0.5)]
    model = network(backend, weights, ["sigmoid", "sigmoid"], "half_sse", 0.01)
    x, y = [[1.0, 4.0, 5.0]], [[0.1, 0.05]]
    close(model.predict(x), [[0.889550614, 0.800399608]])
    dw1, db1, dw2, db2 = gradients(model, backend, x, y)
    close(dw2, [[0.076535128, 0.118279022], [0.077188307, 0.119288458]])
    close(db2.sum(), 0.197457498)
    close(dw1, [[0.001983912, 0.000404289], [0.007935647, 0.001617157], [0.009919559, 0.002021447]])
    close(db1.sum(), 0.002388201)


def test_e_scalar_chain(backend):
    x, y, w1, b1, w2, b2 = 0.7, 0.3, 1.3, -0.4, -0.8, 0.25
    model = network(backend, [([[w1]], b1), ([[w2]], b2)], ["sigmoid", "linear"], "mse", 0.1)
    s = 1 / (1 + np.exp(-(w1 * x + b1)))
    f = w2 * s + b2
    wanted = [2 * (f - y) * w2 * s * (1 - s) * x, 2 * (f - y) * w2 * s * (1 - s), 2 * (f - y) * s, 2 * (f - y)]
    found = [float(g.squeeze()) for g in gradients(model, backend, [[x]], [[y]])]
    np.testing.assert_allclose(found, wanted, rtol=1e-14)


def test_f_softmax(backend):
    with backends.use_backend(backend):
        got = layers.Activation("softmax", dtype="float64")([[2.0, 1.0, 0.1]])
    close(got, [[0.659001139, 0.242432971, 0.09856589]])


def test_g_xor_is_learned(backend):
    utils.set_random_seed(0)
    x = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    y = np.array([0, 1, 1, 0])
    model = models.Sequential([layers.Input((2,)), layers.Dense(8, "tanh"), layers.Dense(1, "sigmoid")])
    model.compile(optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"], backend=backend)
    history = model.fit(x, y, epochs=150, verbose=0).history
    assert history["accuracy"][-1] == 1
    assert history["loss"][-1] < 0.05
    assert ((model.predict(x)[:, 0] > 0.5) == y).all()


def test_g_xor_is_not_linearly_separable(backend):
    x = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    model = models.Sequential([layers.Input((2,)), layers.Dense(1, "sigmoid")])
    model.compile(optimizers.SGD(0.5), "binary_crossentropy", metrics=["accuracy"], backend=backend)
    history = model.fit(x, [0, 1, 1, 0], epochs=200, verbose=0).history
    assert history["loss"][-1] > 0.69  # log 2: no better than a coin
