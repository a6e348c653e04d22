"""Gradient descent on functions of one's own."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops, optimizers
from fastnn.errors import DivergenceError


def bowl(x):
    return ops.sum(ops.square(x))


@pytest.mark.parametrize("x0", [3.0, [3.0, -4.0], [[1.0, 2.0], [3.0, 4.0]]])
def test_a_bowl_has_its_minimum_at_0(x0):
    found = fastnn.minimize(bowl, x0, optimizer=optimizers.SGD(0.1))
    assert found.converged
    assert found.x.shape == np.shape(x0)
    np.testing.assert_allclose(found.x, 0, atol=1e-6)
    assert found.path.shape == (found.steps + 1, *np.shape(x0))
    np.testing.assert_array_equal(found.path[0], x0)
    np.testing.assert_allclose(found.values, (found.path.reshape(found.steps + 1, -1) ** 2).sum(axis=1))


def test_steps_are_those_of_the_rule():
    found = fastnn.minimize(bowl, 1.0, optimizer=optimizers.SGD(0.25), max_steps=3)
    np.testing.assert_allclose(found.path, [1, 0.5, 0.25, 0.125])
    assert not found.converged


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "nadam"])
def test_any_optimizer(name):
    rule = optimizers.get(name)
    rule.learning_rate = 0.05
    found = fastnn.minimize(bowl, [1.0, -2.0], optimizer=rule, tol=0.1)
    assert found.converged
    assert rule.iterations == 0


def test_a_gradient_of_ones_own():
    found = fastnn.minimize(lambda x: float((x[0] - 1) ** 2 + 2 * x[1] ** 2), [0, 1],
                            lambda x: [2 * (x[0] - 1), 4 * x[1]], optimizers.SGD(0.1))  # fmt: skip
    np.testing.assert_allclose(found.x, [1, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: fastnn.minimize(bowl, []), ValueError, "x0: got"),
        (lambda: fastnn.minimize(bowl, np.nan), ValueError, "x0: got"),
        (lambda: fastnn.minimize(bowl, 1.0, tol=-1), ValueError, "tol: got -1"),
        (lambda: fastnn.minimize(bowl, 1.0, max_steps=1.5), TypeError, "max_steps: got"),
        (lambda: fastnn.minimize(bowl, 1.0, optimizer="sdg"), ValueError, "sgd"),
        (lambda: fastnn.minimize(bowl, 1.0, optimizer=optimizers.SGD(1e9)), DivergenceError, "step .*: f is"),
        (lambda: fastnn.minimize(lambda x: x, [1.0, 2.0], lambda x: x), ValueError, "f: got .* wants one number"),
        (lambda: fastnn.minimize(lambda x: 1.0, [1.0, 2.0], lambda x: 1.0), ValueError, "grad: got .*shape"),
        (lambda: fastnn.minimize(np.sin, 1.0), TypeError, "sin"),
    ],
)
def test_bad_input(call, error, said):
    with pytest.raises(error, match=said):
        call()
