"""Branches and loops as Python runs them: values, gradients, structures, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops

RNG = np.random.default_rng(23)
X = RNG.standard_normal((4, 3))


def test_branches():
    assert ops.cond(X[0, 0] == X[0, 0], lambda: 1, lambda: 2) == 1
    assert ops.cond(np.array(False), lambda: 1, lambda: 2) == 2
    assert [ops.switch(i, [lambda a: a, lambda a: 2 * a], 5) for i in (-3, 0, 1, 7)] == [5, 5, 10, 10]


def test_loops():
    assert ops.fori_loop(1, 5, lambda i, value: value * i, 1) == 24
    assert ops.fori_loop(3, 3, lambda i, value: value * i, 1) == 1
    assert ops.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2), (0, 1)) == (3, 8)
    assert ops.while_loop(lambda i: True, lambda i: i + 1, 0, maximum_iterations=4) == 4
    np.testing.assert_allclose(ops.map(lambda row: row * 2.0, X), 2 * X)
    pairs = ops.vectorized_map(lambda each: {"sum": each["a"] + each["b"], "a": each["a"]}, {"a": X, "b": X})
    assert np.array_equal(pairs["sum"], 2 * X)
    assert np.array_equal(pairs["a"], X)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan(reverse):
    carry, y = ops.scan(lambda carry, x: (carry + x, carry), np.zeros(3), X, reverse=reverse)
    order = X[::-1] if reverse else X
    before = np.cumsum(order, 0) - order
    np.testing.assert_allclose(carry, X.sum(0))
    np.testing.assert_allclose(y, before[::-1] if reverse else before, atol=1e-15)
    assert ops.scan(lambda carry, _: (carry + 1, None), 0, length=5) == (5, None)


def test_gradients_go_through():
    def loss(x):
        carry, y = ops.scan(lambda carry, row: (carry * row, ops.square(row)), ops.ones_like(x[0]), x)
        doubled = ops.fori_loop(0, 2, lambda _, value: value * 2.0, ops.map(ops.sin, x))
        return ops.sum(carry) + ops.cond(ops.norm(x), lambda: ops.sum(y) + ops.sum(doubled), lambda: 0.0)

    _, (dx,) = fastnn.gradients(loss, [X])
    np.testing.assert_allclose(dx, X.prod(0) / X + 2 * X + 4 * np.cos(X), rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.switch(0, []), TypeError, "branches: got list"),
        (lambda: ops.fori_loop(0, 1.5, lambda i, v: v, 0), TypeError, "upper: got"),
        (lambda: ops.while_loop(lambda i: True, lambda i: i, 0, -1), ValueError, "maximum_iterations: got -1"),
        (lambda: ops.map(ops.sum, [X, X[:2]]), ValueError, r"xs: got arrays of lengths \[2, 4\]"),
        (lambda: ops.map(ops.sum, 3.0), TypeError, "xs: got float"),
        (lambda: ops.scan(lambda c, x: (c, x), 0, X, length=3), ValueError, "length: got 3, wants that of xs, 4"),
        (lambda: ops.scan(lambda c, x: (c, x), 0), TypeError, "length: got"),
        (
            lambda: fastnn.program(lambda x: ops.cond(ops.sum(x), lambda: x, lambda: -x))(X),
            TypeError,
            "if: got the number",
        ),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
