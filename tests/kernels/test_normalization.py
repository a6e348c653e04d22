"""Normalisation where it is hard: means far from zero, many rows, any number of threads, moving figures."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import ops
from fastnn.backends import use_num_threads
from fastnn.kernels.table import TABLE

RNG = np.random.default_rng(2)


@pytest.mark.parametrize(("n", "c"), [(4097, 5), (300, 64), (10_000, 16)])
def test_a_mean_that_is_large_beside_the_deviation(n, c):
    """A sum of squares would lose all digits; chunks joined by their means do not. A mean is off by some 1e-4."""
    x = (1e3 + RNG.standard_normal((n, c))).astype("float32")
    wide = x.astype("float64")
    y, mean, rstd = ops.batch_norm(x, epsilon=1e-5)
    np.testing.assert_allclose(mean, wide.mean(0), rtol=1e-7)
    np.testing.assert_allclose(rstd, 1 / np.sqrt(wide.var(0) + 1e-5), rtol=1e-5)
    np.testing.assert_allclose(y, (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5), atol=6e-4)
    rows = (wide.T - wide.T.mean(1, keepdims=True)) / np.sqrt(wide.T.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(ops.layer_norm(np.ascontiguousarray(x.T), epsilon=1e-5), rows, atol=6e-4)


def test_results_do_not_depend_on_threads():
    x, dy = RNG.standard_normal((2, 5001, 37)).astype("float32")
    gamma, beta = RNG.standard_normal((2, 37)).astype("float32")
    results = []
    for threads in (1, 2, 3, 4):
        with use_num_threads(threads):
            y, mean, rstd = ops.batch_norm(x, gamma, beta)
            results.append(
                [
                    *(y, mean, rstd),
                    *ops.batch_norm_backward(dy, x, mean, rstd, gamma),
                    ops.batch_norm_inference(x, mean, rstd, gamma, beta),
                    *ops.batch_norm_inference_backward(dy, x, mean, rstd, gamma),
                    ops.layer_norm(x, gamma, beta),
                    *ops.layer_norm_backward(dy, x, gamma),
                ]
            )
    for other in results[1:]:
        assert all(map(np.array_equal, results[0], other))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moving_figures_of_any_strides(dtype):
    """Step after step, in place; no rows move nothing."""
    moving = np.array([[1.0, 9, 2], [3, 9, 4]], dtype)[:, ::2].T
    mean, variance = moving[0].astype("float64"), moving[1].astype("float64")
    for rows in (5, 0, 8):
        x = RNG.standard_normal((rows, 2)).astype(dtype)
        ops.batch_norm(x, moving_mean=moving[0], moving_variance=moving[1], momentum=0.75)
        if rows:
            mean, variance = 0.75 * mean + 0.25 * x.mean(0), 0.75 * variance + 0.25 * x.var(0)
    np.testing.assert_allclose(moving[0], mean, rtol=1e-6)
    np.testing.assert_allclose(moving[1], variance, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "given", "error", "wanted"),
    [
        ("batch_norm", {"epsilon": 0.0}, ValueError, "epsilon: got 0.0, wants a number above 0|epsilon: got"),
        ("batch_norm", {"momentum": 1.5}, ValueError, "momentum: got 1.5"),
        ("batch_norm", {"gamma": np.ones(4)}, ValueError, r"gamma: got shape \(4,\), wants shape \(3,\) to match x"),
        ("batch_norm", {"moving_mean": np.ones(3, "f")}, TypeError, "moving_mean: got dtype float32, wants float64"),
        ("layer_norm", {"beta": np.ones((1, 3))}, ValueError, r"beta: got shape \(1, 3\)"),
        ("layer_norm", {"epsilon": float("nan")}, ValueError, "epsilon: got nan"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(name, given, error, wanted):
    variance = np.ones(3)
    others = {"moving_variance": variance} if "moving_variance" in TABLE[name].operands else {}
    with pytest.raises(error, match=wanted):
        getattr(ops, name)(np.zeros((2, 3)), **others, **given)
    assert (variance == 1).all()


def test_what_is_not_needed_is_not_made():
    x, dy = RNG.standard_normal((2, 4, 3))
    results = ops.layer_norm_backward(dy, x, need=("dbeta",))
    assert results[:2] == (None, None)
    np.testing.assert_allclose(results[2], dy.sum(0))
    with pytest.raises(ValueError, match="need"):
        ops.layer_norm_backward(dy, x, need=("dz",))
