"""Random numbers: the same words on every path, spread as they should be, and nothing in common between names."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest

import fastnn
from fastnn import ops
from fastnn.kernels.naive import random as loops
from fastnn.kernels.table import DTYPES

SHAPE = (400, 1000)
OPS = {"random_uniform": ops.random_uniform, "random_normal": ops.random_normal}


def drawn(name, shape=SHAPE, seed=1, step=0, stream=0, dtype="float64", **options):
    return OPS[name](np.zeros(shape, dtype), seed, step, stream, **options)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_for_any_number_of_threads_and_columns(name, dtype):
    before = fastnn.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 4):
            fastnn.set_num_threads(threads)
            results.append(drawn(name, (70, 200), 2**40 + 5, 9, 2, dtype))
    finally:
        fastnn.set_num_threads(before)
    assert all(np.array_equal(results[0], each) for each in results[1:])
    assert np.array_equal(drawn(name, (31, 67), 2**40 + 5, 9, 2, dtype), results[0][:31, :67])


def test_uniform_numbers_are_words_in_every_dtype():
    words = oracle.words_of(*np.ogrid[:70, :200], 7, 3, 1)
    for dtype in DTYPES:
        assert np.array_equal(drawn("random_uniform", (70, 200), 7, 3, 1, dtype) * 2**24, words // 2**8)


def test_what_dropout_drops_is_below_its_rate():
    """Both look at the same word."""
    uniform = drawn("random_uniform", (50, 130), 5, 2, 1)
    assert np.array_equal(ops.dropout(np.ones((50, 130)), 0.25, 5, 2, 1) == 0, uniform < 0.25)


@pytest.mark.parametrize("name", OPS)
def test_loops_draw_the_same(name):
    with fastnn.use_backend("naive"):
        slow = drawn(name, (5, 67), 3)
    np.testing.assert_allclose(drawn(name, (5, 67), 3), slow, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("low", [0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1])
def test_normal_numbers_of_extreme_words(low, monkeypatch):
    """The formula of the loops at the ends: finite, and of the size that the distribution has there."""
    monkeypatch.setattr(loops, "word", lambda *_: low)
    y = loops.random_normal(np.zeros((1, 32)), 1)
    assert np.isfinite(y).all()
    assert abs(y).max() <= math.sqrt(2 * math.log(2**33))


def test_uniform_numbers_are_spread_evenly():
    y = np.sort(drawn("random_uniform").ravel())
    assert 0 <= y[0] < y[-1] < 1
    distance = abs(y - (np.arange(y.size) + 0.5) / y.size).max()  # Kolmogorov and Smirnov's
    assert distance < 2.0 / math.sqrt(y.size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_numbers_are_normal(dtype):
    y = drawn("random_normal", dtype=dtype).astype("float64").ravel()
    share = np.array([0.5 * math.erfc(-each / math.sqrt(2)) for each in np.sort(y)])
    assert abs(share - (np.arange(y.size) + 0.5) / y.size).max() < 2.0 / math.sqrt(y.size)
    for power, wanted, deviation in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((y**power).mean() - wanted) < 5 * math.sqrt(deviation / y.size), power


def test_means_deviations_and_ends():
    y = drawn("random_normal", mean=3.0, stddev=0.5)
    np.testing.assert_allclose(y, 3.0 + 0.5 * drawn("random_normal"), rtol=1e-15, atol=1e-15)
    y = drawn("random_uniform", minval=-2.0, maxval=6.0)
    np.testing.assert_allclose(y, 8.0 * drawn("random_uniform") - 2.0, rtol=0, atol=1e-15)
    assert np.all(drawn("random_uniform", minval=2.0, maxval=2.0) == 2.0)
    assert np.all(drawn("random_normal", mean=2.0, stddev=0.0) == 2.0)


@pytest.mark.parametrize("name", OPS)
def test_numbers_of_other_names_have_nothing_in_common(name):
    first = drawn(name)
    for other in ({"seed": 2}, {"seed": 1 << 32 | 1}, {"step": 1}, {"stream": 1}, {"step": 2**32 - 1}):
        correlation = np.corrcoef(first.ravel(), drawn(name, **other).ravel())[0, 1]
        assert abs(correlation) < 5 / math.sqrt(first.size), other
    for shift in [(0, n) for n in (1, 4, 15, 16, 17, 32, 48, 64)] + [(1, 0), (16, 0), (2, 64)]:
        correlation = np.corrcoef(first.ravel(), np.roll(first, shift, (0, 1)).ravel())[0, 1]
        assert abs(correlation) < 5 / math.sqrt(first.size), shift


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("random_uniform", {"minval": 2.0}, "maxval: got float 1.0, wants it no less than minval"),
        ("random_normal", {"stddev": -1.0}, "stddev: got -1"),
        ("random_normal", {"mean": float("nan")}, "mean: got nan"),
        ("random_normal", {"seed": -1}, "seed: got -1"),
        ("random_uniform", {"step": 2**32}, "step: got 4294967296"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        drawn(name, (2, 3), **options)


@pytest.mark.parametrize("name", OPS)
def test_a_program_draws_other_numbers_at_every_step(name):
    """And the same as the op: the step is a number of the program's, of which the seed is none."""
    x = np.zeros((9, 130), "float32")

    @fastnn.program
    def noisy(x, step):
        return ops.add(x, OPS[name](x, 3, step, 1))

    for step in range(4):
        assert np.array_equal(noisy(x, step), OPS[name](x, 3, step, 1))


@pytest.mark.parametrize("name", OPS)
def test_nothing_depends_on_what_numbers_are_shaped_like(name):
    x = np.ones((3, 4))
    loss, (dx,) = fastnn.gradients(lambda x: ops.total(ops.multiply(x, OPS[name](x, 3)))[0], (x,))
    assert loss == pytest.approx(OPS[name](x, 3).sum(), rel=1e-14)
    assert np.array_equal(dx, OPS[name](x, 3))
