"""Comparisons, places and whole numbers: NumPy's, of values that may be followed; no program has them."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import discrete, ops

RNG = np.random.default_rng(12)
X, Y = RNG.integers(-2, 3, (3, 4)) / 2, RNG.integers(-2, 3, (3, 4)) / 2
TWO = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or")
TWO += ("logical_xor", "isclose")
NOT_BY_ZERO = ("floor_divide", "mod")
ONE = ("logical_not", "isnan", "isinf", "isfinite", "floor", "ceil", "trunc", "round", "argsort")
COUNTS = ("bincount", "digitize", "searchsorted")
OTHERS = ("allclose", "isin", "meshgrid", "nonzero", "unravel_index")
AXES = ("argmax", "argmin", "any", "all", "count_nonzero")


def test_each_is_named_and_tried():
    assert sorted([*TWO, *NOT_BY_ZERO, *ONE, *AXES, *COUNTS, *OTHERS]) == [*discrete.NAMES]
    assert {*discrete.NAMES} <= {*ops.__all__}
    for name in discrete.NAMES:
        function = getattr(ops, name)
        assert (function.__name__, bool(function.__doc__)) == (name, True)


@pytest.mark.parametrize("name", TWO)
def test_of_two(name):
    assert np.array_equal(getattr(ops, name)(X, Y), getattr(np, name)(X, Y))
    assert np.array_equal(getattr(ops, name)([1, 0], 1), getattr(np, name)([1, 0], 1))


@pytest.mark.parametrize("name", NOT_BY_ZERO)
def test_division(name):
    assert np.array_equal(getattr(ops, name)(X, Y + 4), getattr(np, name)(X, Y + 4))
    assert getattr(ops, name)(np.array([7, -7]), 2).tolist() == getattr(np, name)([7, -7], 2).tolist()


def test_counts():
    numbers, bounds = RNG.integers(0, 5, 20), np.array([-1.0, 0.0, 0.5])
    assert np.array_equal(ops.bincount(numbers, minlength=8), np.bincount(numbers, minlength=8))
    assert np.array_equal(ops.bincount(numbers, numbers * 0.5), np.bincount(numbers, numbers * 0.5))
    assert np.array_equal(ops.digitize(X, bounds), np.digitize(X, bounds))
    assert ops.digitize(X, [0.0]).dtype == np.int32
    for side in ("left", "right"):
        assert np.array_equal(ops.searchsorted(bounds, X, side), np.searchsorted(bounds, X, side))
    assert ops.isclose([1.0, 1.0], [1.0, 1.2], atol=0.3).tolist() == [True, True]
    with pytest.raises(ValueError, match="side: got 'middle'"):
        ops.searchsorted(bounds, X, "middle")
    with pytest.raises(ValueError, match="minlength: got -1"):
        ops.bincount(numbers, minlength=-1)


def test_others():
    assert ops.allclose(X, X + 1e-9) is True
    assert ops.allclose(X, X + 1e-3) is False
    assert np.array_equal(ops.isin(X, [0.5, 1.0]), np.isin(X, [0.5, 1.0]))
    assert np.array_equal(ops.isin(X, [0.5], invert=True), X != 0.5)
    assert all(map(np.array_equal, ops.nonzero(X), np.nonzero(X)))
    assert all(map(np.array_equal, ops.unravel_index([5, 2], (2, 3)), ([1, 0], [2, 2])))
    for indexing in ("xy", "ij"):
        grid = ops.meshgrid(X[0], Y[:, 0], indexing=indexing)
        assert all(map(np.array_equal, grid, np.meshgrid(X[0], Y[:, 0], indexing=indexing)))
    with pytest.raises(ValueError, match="indexing: got 'yx'"):
        ops.meshgrid(X[0], indexing="yx")


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
