"""Comparisons, places and whole numbers: NumPy's, of values that may be followed; no program has them."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import discrete, ops

RNG = np.random.default_rng(12)
X, Y = RNG.integers(-2, 3, (3, 4)) / 2, RNG.integers(-2, 3, (3, 4)) / 2
TWO = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or")
ONE = ("logical_not", "isnan", "isinf", "isfinite", "floor", "ceil", "round", "argsort")
AXES = ("argmax", "argmin", "any", "all", "count_nonzero")


def test_each_is_named_and_tried():
    assert sorted([*TWO, *ONE, *AXES]) == [*discrete.NAMES]
    assert {*discrete.NAMES} <= {*ops.__all__}
    for name in discrete.NAMES:
        function = getattr(ops, name)
        assert (function.__name__, bool(function.__doc__)) == (name, True)


@pytest.mark.parametrize("name", TWO)
def test_of_two(name):
    assert np.array_equal(getattr(ops, name)(X, Y), getattr(np, name)(X, Y))
    assert np.array_equal(getattr(ops, name)([1, 0], 1), getattr(np, name)([1, 0], 1))


@pytest.mark.parametrize("name", ONE)
def test_of_one(name):
    x = np.where(Y > 0.5, np.inf, X * 1.5)
    assert np.array_equal(getattr(ops, name)(x), getattr(np, name)(x))


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("name", AXES)
def test_over_axes(name, axis):
    assert np.array_equal(getattr(ops, name)(X, axis), getattr(np, name)(X, axis))
    assert np.array_equal(getattr(ops, name)(X, axis, True), getattr(np, name)(X, axis, keepdims=True))


def test_no_gradient_goes_through():
    _, (slope,) = fastnn.gradients(lambda x: ops.sum(x * ops.cast(ops.greater(x, 0), "float64")), [X])
    assert np.array_equal(slope, X > 0)


@pytest.mark.parametrize("name", ["greater", "floor", "argmax", "argsort"])
def test_a_program_refuses_them_by_name(name):
    given = (0.0,) if name == "greater" else ()
    with pytest.raises(TypeError, match=f"numpy.{name}: got an array of shape"):
        fastnn.program(lambda x: ops.sum(ops.array(getattr(ops, name)(x, *given), "float64")))(X)
