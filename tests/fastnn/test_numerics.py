"""Sums over axes, other shapes, powers and parts: values, gradients, programs, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops

RNG = np.random.default_rng(11)
X, W = RNG.standard_normal((3, 4, 5)), RNG.uniform(0.5, 2.0, (4, 5))
AXES = (None, 0, 1, 2, -1, (0, 1), (2, 0), [1, 2], (0, 1, 2))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min"])
def test_reductions(name, axis, keepdims):
    y = getattr(ops, name)(X, axis, keepdims)
    wanted = getattr(np, name)(X, axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=keepdims)
    assert np.shape(y) == wanted.shape
    assert np.allclose(y, wanted, rtol=1e-12)


def test_what_is_empty_or_a_number():
    nothing = np.empty((0, 3))
    assert ops.sum(nothing) == 0.0
    assert np.array_equal(ops.sum(nothing, axis=0), np.zeros(3))
    assert ops.sum(nothing, axis=1).shape == (0,)
    assert ops.sum(2.5) == ops.mean(2.5) == 2.5
    assert np.array_equal(ops.sum(np.full((2, 3), np.nan), axis=0), np.full(3, np.nan), equal_nan=True)
    with pytest.raises(ValueError, match=r"x: got shape \(0, 3\), wants numbers to take the mean of"):
        ops.mean(nothing)
    with pytest.raises(ValueError, match="wants numbers along axis 0"):
        ops.max(nothing, axis=0)


# Of x (3, 4, 5) and w (4, 5): a number.
FORMULAS = {
    "root of a mean": lambda x, w: ops.sqrt(ops.mean(ops.square(x - w))),
    "quotients": lambda x, w: ops.mean(x / w) + ops.sum(1.0 / w) / ops.sum(w) - ops.mean(w / 3.0),
    "axes": lambda x, w: ops.mean(ops.sum(x / w, axis=1) * ops.mean(x, axis=(0, 2), keepdims=True)[0, 0]),
    "extremes": lambda x, w: ops.sum(ops.log(w)) * ops.max(x) - ops.sum(ops.min(x, axis=-1) * w[0, 0]),
    "parts": lambda x, w: ops.sum(ops.exponential(-0.5 * (ops.square(x[:, 1:3, -1]) + w[..., 2][1:3]))),
    "powers": lambda x, w: ops.sum(x**2 * w**0.5 + x**3) - ops.sum(x**1),
    "clipped": lambda x, w: ops.mean(ops.absolute(ops.clip(x, -0.5, 0.7)) * ops.maximum(w, 1.0)),
    "shapes": lambda x, w: ops.sum(
        ops.transpose(x, (2, 0, 1))[0] * ops.squeeze(ops.expand_dims(ops.reshape(w, (5, 4)), 0))[1]
    ),
    "normalised": lambda x, w: ops.mean(w * x / ops.sqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-3)),
    "numbers": lambda x, w: ops.exponential(ops.mean(x)) * ops.sum(x * ops.mean(w)) + ops.maximum(ops.sum(w), 1.0),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_by_central_differences(name):
    formula, given = FORMULAS[name], (X.copy(), W.copy())
    value, found = fastnn.gradients(formula, given)
    assert value == pytest.approx(formula(*given), rel=1e-13)
    for array, gradient in zip(given, found, strict=True):
        for at in np.ndindex(array.shape):
            kept = array[at]
            array[at] = kept + 1e-6
            above = formula(*given)
            array[at] = kept - 1e-6
            slope = (above - formula(*given)) / 2e-6
            array[at] = kept
            assert gradient[at] == pytest.approx(slope, rel=1e-5, abs=1e-7), at


@pytest.mark.parametrize("name", FORMULAS)
def test_programs_give_what_calls_give(name):
    made = fastnn.program(lambda x, w: fastnn.gradients(FORMULAS[name], (x, w)))
    for _ in range(3):
        given = RNG.standard_normal(X.shape), RNG.uniform(0.5, 2.0, W.shape)
        value, found = made(*given)
        wanted, gradients = fastnn.gradients(FORMULAS[name], given)
        assert value == wanted
        assert all(map(np.array_equal, found, gradients))


def test_arrays():
    assert ops.array([1.0, 2.0]).dtype == np.float32
    assert ops.array([1, 2]).dtype.kind == "i"
    assert ops.array(X) is X
    assert ops.array([1, 2], "float64").dtype == np.float64
    assert ops.cast(np.array([True, False]), "float32").tolist() == [1.0, 0.0]
    assert ops.shape(X) == (3, 4, 5)
    assert np.array_equal(ops.ones_like(X), np.ones_like(X))
    assert np.array_equal(ops.zeros_like(X), np.zeros_like(X))
    assert np.array_equal(ops.transpose(W), W.T)
    assert ops.expand_dims(W, -1).shape == (4, 5, 1)
    assert ops.squeeze(ops.expand_dims(W, 1), 1).shape == W.shape


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.sum(X, axis=3), ValueError, "axis: got 3, wants"),
        (lambda: ops.sum(X, axis=(0, -3)), ValueError, r"axis: got \(0, -3\), wants every axis once"),
        (lambda: ops.max([1.0]), TypeError, "x: got list"),
        (lambda: ops.squeeze(X, 1), ValueError, r"axis: got 1 for the shape \(3, 4, 5\), wants axes of one place"),
        (lambda: ops.expand_dims(X, 5), ValueError, "axis: got 5"),
        (lambda: ops.clip(X, "0", 1), TypeError, "x_min: got"),
        (lambda: ops.divide([1.0], 2.0), TypeError, "a: got list"),
        (lambda: fastnn.gradients(lambda x: ops.sum(ops.cast(x, "float32")), [X]), TypeError, "dtype: got float32"),
        (lambda: fastnn.gradients(lambda x: ops.sum(x[[0, 1]]), [X]), TypeError, r"\[\.\.\.\]: got an array"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
