"""Dropout's masks: the published answers of their generator, one mask on every path, as random as they should be."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest

import fastnn
from fastnn import ops
from fastnn.kernels.naive.random import philox

# (counter, key, words) of Philox4x32-10 as the authors' Random123 publishes them: zeros, ones, digits of pi.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
SHAPE = (400, 1000)


def words(text):
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "wanted"), KNOWN)
def test_known_answers(counter, key, wanted):
    assert philox(words(counter), words(key)) == words(wanted)
    assert tuple(oracle.philox(words(counter), words(key)).tolist()) == words(wanted)


def kept(shape=SHAPE, rate=0.5, seed=1, step=0, stream=0, dtype="float32"):
    return ops.dropout(np.ones(shape, dtype), rate, seed, step, stream) != 0


def test_the_kernel_is_philox():
    """A rate just above a word's share of 2^32 drops that element, one just below keeps it."""
    counter, seed = (3, 2, 5, 7), 11 << 32 | 13
    for place, word in enumerate(philox(counter, (13, 11))):
        column = 3 + 16 * place
        for rate, wanted in ((word / 2**32, True), ((word + 1) / 2**32, False)):
            assert kept((3, 64), rate, seed, 5, 7)[2, column] == wanted


@pytest.mark.parametrize("backward", [False, True])
def test_the_same_mask_on_every_path(backward):
    op = ops.dropout_backward if backward else ops.dropout
    wanted = oracle.dropout_kept((70, 200), 0.3, 2**40 + 5, 9, 2)
    before = fastnn.get_num_threads()
    try:
        for threads in (1, 2, 3, 4):
            fastnn.set_num_threads(threads)
            for dtype in ("float32", "float64"):
                assert np.array_equal(op(np.ones((70, 200), dtype), 0.3, 2**40 + 5, 9, 2) != 0, wanted)
    finally:
        fastnn.set_num_threads(before)
    narrow = ops.dropout(np.ones((70, 67), "float32"), 0.3, 2**40 + 5, 9, 2) != 0
    assert np.array_equal(narrow, wanted[:, :67])  # a column's mask does not depend on the row's length


def test_what_is_dropped_is_zero_whatever_it_was():
    x = np.full((50, 30), np.nan, "float32")
    x[:, ::2] = np.inf
    y = ops.dropout(x, 0.5, 1)
    assert np.array_equal(y == 0, ~kept((50, 30)))


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.9])
def test_share_of_what_is_dropped(rate):
    """Over all, in every row, in every column: within 5 standard deviations of a binomial distribution."""
    dropped = ~kept(rate=rate)
    for counts, trials in ((dropped.sum(), dropped.size), (dropped.sum(0), len(dropped)), (dropped.sum(1), SHAPE[1])):
        deviation = math.sqrt(trials * rate * (1 - rate))
        assert abs(counts - trials * rate).max() < 5 * deviation
    assert dropped.sum(1).std() == pytest.approx(math.sqrt(SHAPE[1] * rate * (1 - rate)), rel=0.15)


@pytest.mark.parametrize(
    "other", [{"seed": 2}, {"seed": 1 << 32 | 1}, {"step": 1}, {"stream": 1}, {"seed": 1, "step": 2**32 - 1}]
)
def test_masks_of_other_names_have_nothing_in_common(other):
    """Two independent masks of rate 1/2 agree in half of their elements, within 5 standard deviations."""
    first, second = kept(), kept(**other)
    assert abs((first == second).sum() - first.size / 2) < 5 * math.sqrt(first.size) / 2


def test_neighbours_have_nothing_in_common():
    mask = kept()
    for shift in [(0, n) for n in (1, 4, 8, 15, 16, 17, 32, 48, 64)] + [(1, 0), (1, 1), (16, 0), (2, 64)]:
        shifted = np.roll(mask, shift, (0, 1))
        assert abs((mask == shifted).sum() - mask.size / 2) < 5 * math.sqrt(mask.size) / 2, shift


def test_the_mean_stays():
    y = ops.dropout(np.full(SHAPE, 2.0), 0.75, 4)
    assert y.mean() == pytest.approx(2.0, rel=5 * math.sqrt(3 / y.size))
    assert set(np.unique(y)) == {0.0, 8.0}
