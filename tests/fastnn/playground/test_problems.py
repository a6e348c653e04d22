"""Points that the playground makes."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.playground.problems import FEATURES, PROBLEMS, SIDE, features, points


@pytest.mark.parametrize("name", PROBLEMS)
def test_points_lie_in_the_square_with_what_is_to_be_learned(name):
    x, y = points(name, 501, seed=3)
    assert x.shape == (501, 2)
    assert y.shape == (501,)
    assert x.dtype == y.dtype == np.float32
    assert np.abs(x).max() <= SIDE
    assert np.abs(y).max() <= 1
    if PROBLEMS[name].regression:
        assert len(np.unique(y)) > 100
    else:
        assert set(y) == {-1, 1}
        assert 0.35 < (y > 0).mean() < 0.65


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_seed_decides_and_noise_changes_them(name):
    one, same, other, noisy = (
        points(name, seed=seed, noise=noise) for seed, noise in ((1, 0), (1, 0), (2, 0), (1, 0.5))
    )
    np.testing.assert_array_equal(one[0], same[0])
    assert (one[0] != other[0]).any()
    assert (one[0] != noisy[0]).any() or (one[1] != noisy[1]).any()


def test_xor_is_that_without_noise():
    x, y = points("xor")
    np.testing.assert_array_equal(y, np.sign(x[:, 0] * x[:, 1]))


def test_the_plane_is_one_without_noise():
    x, y = points("plane")
    np.testing.assert_allclose(y, x.sum(axis=1) / 12, atol=1e-6)


def test_features_are_columns_in_the_order_asked_for():
    x = np.array([[2.0, 3.0]], np.float32)
    np.testing.assert_allclose(features(x, ["x1*x2", "x1"]), [[6, 2]])
    np.testing.assert_allclose(features(x, list(FEATURES)), [[2, 3, 4, 9, 6, np.sin(2), np.sin(3)]], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: points("xro"), "name: got 'xro', wants one of .*did you mean 'xor'"),
        (lambda: points("xor", 0), "count: got 0"),
        (lambda: features(np.zeros((1, 2)), ["x3"]), "names: got 'x3'"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()
