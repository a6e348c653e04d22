"""The documents' worked examples A to H through the functional API, on every backend, in float64.

Numbers are the documents' own, recomputed to nine digits where they rounded or erred.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops


@pytest.fixture(params=["naive", "cpu"], autouse=True)
def backend(request):
    with fastnn.use_backend(request.param):
        yield request.param


def row(*numbers):
    return np.array([numbers], float)


def agree(value, expected, digits=9):
    np.testing.assert_allclose(value, expected, rtol=0, atol=0.6 * 10.0**-digits)


def test_a_linear_2_2_1():
    x, target, rate = row(2, 3), row(1), 0.05
    w, h = np.array([[0.11, 0.12], [0.21, 0.08]]), np.array([[0.14], [0.15]])
    hidden = ops.linear(x, w)
    agree(hidden, [[0.85, 0.48]])
    o = ops.linear(hidden, h)
    agree(o, [[0.191]])
    loss, do = ops.half_sse(o, target)
    agree(loss, 0.32724050)
    dhidden, dh, _ = ops.linear_backward(do, hidden, h, o)
    _, dw, _ = ops.linear_backward(dhidden, x, w, hidden)
    agree(dw, [[-0.22652, -0.24270], [-0.33978, -0.36405]])
    agree(dh, [[-0.68765], [-0.38832]])
    ops.sgd_step(w, dw, learning_rate=rate)
    ops.sgd_step(h, dh, learning_rate=rate)
    agree(w, [[0.121326, 0.132135], [0.226989, 0.0982025]])
    agree(h, [[0.1743825], [0.169416]])
    agree(ops.linear(ops.linear(x, w), h), [[0.25574578]], digits=8)


def sigmoid_network(x, target, w1, b1, w2, b2):
    """(h, o, E, gradients of w1, b1, w2, b2, h) of a two-layer sigmoid network whose bias is shared by a layer."""
    spread = np.ones(2)
    h = ops.linear(x, w1, b1 * spread, "sigmoid")
    o = ops.linear(h, w2, b2 * spread, "sigmoid")
    error, do = ops.half_sse(o, target)
    dh, dw2, db2 = ops.linear_backward(do, h, w2, o, "sigmoid")
    _, dw1, db1 = ops.linear_backward(dh, x, w1, h, "sigmoid")
    return h, o, error, dw1, db1.sum(), dw2, db2.sum(), dh


def test_b_sigmoid_2_2_2(backend):
    x, target = row(0.05, 0.10), row(0.01, 0.99)
    w1, w2 = np.array([[0.15, 0.25], [0.20, 0.30]]), np.array([[0.40, 0.50], [0.45, 0.55]])
    h, o, error, dw1, db1, dw2, db2, _ = sigmoid_network(x, target, w1, 0.35, w2, 0.60)
    agree(h, [[0.593269992, 0.596884378]])
    agree(o, [[0.75136507, 0.772928465]])
    agree(error, 0.298371109)
    agree((o - target) ** 2 / 2, [[0.274811083, 0.023560026]])
    agree(dw2, [[0.082167041, -0.02260254], [0.082667628, -0.022740242]])
    agree(dw1, [[0.000438568, 0.000497713], [0.000877135, 0.000995425]])
    agree([db1, db2], [0.018725609, 0.100400325])
    ops.sgd_step(w1, dw1, learning_rate=0.5)
    ops.sgd_step(w2, dw2, learning_rate=0.5)
    agree(w2, [[0.35891648, 0.51130127], [0.408666186, 0.561370121]])
    agree(w1, [[0.149780716, 0.249751144], [0.199561432, 0.299502287]])
    agree(sigmoid_network(x, target, w1, 0.35, w2, 0.60)[2], 0.291027774)
    for _ in range(9_999):
        _, _, _, dw1, _, dw2, _, _ = sigmoid_network(x, target, w1, 0.35, w2, 0.60)
        ops.sgd_step(w1, dw1, learning_rate=0.5)
        ops.sgd_step(w2, dw2, learning_rate=0.5)
    _, o, error, *_ = sigmoid_network(x, target, w1, 0.35, w2, 0.60)
    agree(o, [[0.01591362, 0.984064274]])
    agree(error, 3.510187783e-05, digits=14)


def test_c_softmax_2_2_3():
    x, target = row(1.8, 0.5), np.array([0])
    w1, b1 = np.array([[0.1, 0.4], [-0.2, 0.6]]), np.array([0.2, -0.3])
    w2, b2 = np.array([[0.3, 0.2, 0.3], [-0.3, 0.1, -0.2]]), np.array([-0.1, -0.5, -0.4])
    h = ops.linear(x, w1, b1, "relu")
    agree(h, [[0.28, 0.72]])
    logits = ops.linear(h, w2, b2)
    agree(logits, [[-0.232, -0.372, -0.46]])
    agree(ops.softmax(logits), [[0.375166598, 0.326154172, 0.29867923]])
    loss, dlogits = ops.softmax_cross_entropy(logits, target)
    agree(loss, 0.980385090)
    agree(dlogits, [[-0.624833402, 0.326154172, 0.29867923]])
    dh, dw2, _ = ops.linear_backward(dlogits, h, w2, logits)
    _, dw1, _ = ops.linear_backward(dh, x, w1, h, "relu")
    agree(dw2, [[-0.174953353, 0.091323168, 0.083630184], [-0.449880049, 0.234831004, 0.215049046]])
    agree(dw1, [[-0.058707751, 0.288593265], [-0.016307709, 0.080164796]])
    ops.sgd_step(w2, dw2, learning_rate=0.5)
    agree(w2, [[0.387476676, 0.154338416, 0.258184908], [-0.075059975, -0.017415502, -0.307524523]])


def test_c_loss_of_every_class_as_binary():
    """The document's loss adds -log(1 - p) of the other classes: binary cross-entropy, summed over the classes."""
    p = ops.softmax(row(-0.232, -0.372, -0.46))
    value, _ = ops.binary_cross_entropy(p, row(1, 0, 0))
    agree(3 * value, 1.729928933)
    agree(3 * value / np.log(10), 0.751298590)


def test_d_sigmoid_3_2_2():
    x, target = row(1, 4, 5), row(0.1, 0.05)
    w1, w2 = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]), np.array([[0.7, 0.8], [0.9, 0.1]])
    agree(ops.linear(x, w1, np.full(2, 0.5)), [[4.3, 5.3]])
    h, o, _, dw1, db1, dw2, db2, dh = sigmoid_network(x, target, w1, 0.5, w2, 0.5)
    agree(h, [[0.986613082, 0.995033198]])
    agree(ops.linear(h, w2, np.full(2, 0.5)), [[2.086159036, 1.388793786]])
    agree(o, [[0.889550614, 0.800399608]])
    agree(dw2, [[0.076535128, 0.118279022], [0.077188307, 0.119288458]])
    agree(dh, [[0.150208638, 0.08180463]])
    agree(dw1, [[0.001983912, 0.000404289], [0.007935647, 0.001617157], [0.009919559, 0.002021447]])
    agree([db1, db2], [0.002388201, 0.197457498])


def test_e_scalar_chain():
    """f(x) = w2 * sigmoid(w1 x + b1) + b2, E = (f - y)^2, and the four derivatives written out."""
    x, y, w1, b1, w2, b2 = 0.7, -0.3, 1.2, -0.4, 0.9, 0.25
    s = 1 / (1 + np.exp(-(w1 * x + b1)))
    f = w2 * s + b2
    layer = {"w": np.array([[w1]]), "b": np.array([b1])}
    h = ops.linear(row(x), layer["w"], layer["b"], "sigmoid")
    o = ops.linear(h, np.array([[w2]]), np.array([b2]))
    agree(o, [[f]], digits=12)
    error, do = ops.mse(o, row(y))
    agree(error, (f - y) ** 2, digits=12)
    dh, dw2, db2 = ops.linear_backward(do, h, np.array([[w2]]), o)
    _, dw1, db1 = ops.linear_backward(dh, row(x), layer["w"], h, "sigmoid")
    agree(dw2, [[2 * (f - y) * s]], digits=12)
    agree(db2, [2 * (f - y)], digits=12)
    agree(dw1, [[2 * (f - y) * w2 * s * (1 - s) * x]], digits=12)
    agree(db1, [2 * (f - y) * w2 * s * (1 - s)], digits=12)


def test_f_softmax():
    agree(ops.softmax(row(2, 1, 0.1)), [[0.659001139, 0.242432971, 0.09856589]])


def test_g_xor():
    """Full-batch gradient descent on 2-4-1 with tanh separates what no line can."""
    x = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    target = np.array([[0.0], [1.0], [1.0], [0.0]])
    rng = np.random.default_rng(1)
    w1, b1, w2, b2 = rng.standard_normal((2, 4)), np.zeros(4), rng.standard_normal((4, 1)), np.zeros(1)
    for _ in range(500):
        h = ops.linear(x, w1, b1, "tanh")
        logits = ops.linear(h, w2, b2)
        loss, dlogits = ops.binary_cross_entropy(logits, target, from_logits=True)
        dh, dw2, db2 = ops.linear_backward(dlogits, h, w2, logits)
        _, dw1, db1 = ops.linear_backward(dh, x, w1, h, "tanh")
        for w, dw in ((w1, dw1), (b1, db1), (w2, dw2), (b2, db2)):
            ops.sgd_step(w, dw, learning_rate=0.5)
    assert loss < 0.02
    assert np.array_equal(ops.sigmoid(logits) > 0.5, target == 1)


@pytest.mark.parametrize("start", [[3.0], [-2.0, 1.5]])
def test_h_gradient_descent(start):
    """x^2 and x1^2 + x2^2 have their minimum at 0: each step of rate 0.1 shrinks x by 0.8."""
    x = np.array([start])
    for step in range(1, 101):
        _, dx = ops.l1_l2_penalty(x, l2=1.0)
        ops.sgd_step(x, dx, learning_rate=0.1)
        np.testing.assert_allclose(x, 0.8**step * np.array([start]), rtol=1e-12)
    assert abs(x).max() < 1e-9
