"""Steps of tables by the rows that batches look up: the same bits as steps of all rows."""

from __future__ import annotations

import io

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.backends import use_num_threads

ROWS, COUNT, WORDS, BATCH = 200, 5, 6, 4
# By the optimizer's step: how many parts its state has, its options, and whether rows may rest.
STEPS = {
    "sgd_step": (0, {"learning_rate": 0.3}, True),
    "adagrad_step": (1, {"learning_rate": 0.3, "epsilon": 1e-7}, True),
    "rmsprop_step": (1, {"learning_rate": 0.03, "rho": 0.9, "epsilon": 1e-7}, True),
    "adam_step": (2, {"learning_rate": 0.03, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "step": 3}, False),
}
# For the dtype of masks.
LIKE = {np.dtype(dtype): np.zeros((ROWS, COUNT), dtype) for dtype in ("float32", "float64")}


def mean_of(words, table):
    return ops.sequence_mean(ops.embedding(words, table))


def masked_mean_of(words, table):
    return ops.sequence_mean(ops.embedding(words, table), ops.embedding_mask(words, LIKE[table.dtype]))


def vectors_of(words, table):
    return ops.tanh(ops.embedding(words, table))


USES = pytest.mark.parametrize("use", [mean_of, masked_mean_of, vectors_of])


class Table:
    """A table, its state, and a program that steps it."""

    def __init__(self, name, use, dtype, seed=0, seen=False):
        parts, options, _ = STEPS[name]
        rng = np.random.default_rng(seed)
        self.table = rng.standard_normal((ROWS, COUNT)).astype(dtype)
        self.states = [np.full((ROWS, COUNT), 1e-3, dtype) for _ in range(parts)]
        self.program = fastnn.program(self.step)
        self._update, self._options, self._use, self._seen = getattr(ops, name), options, use, seen

    def step(self, words):
        def loss(table):
            return ops.l1_l2_penalty(self._use(words, table), l2=1.0)[0]

        value, (slope,) = fastnn.gradients(loss, (self.table,))
        self._update(self.table, slope, *self.states, **self._options)
        return (value, slope) if self._seen else value

    def arrays(self):
        return [self.table, *self.states]


def words_of(turns, seed=1):
    """Few words often, many seldom, some never."""
    rng = np.random.default_rng(seed)
    return np.minimum(rng.geometric(0.05, (turns * BATCH, WORDS)) - 1, ROWS - 20)


def plan_of(program):
    said = io.StringIO()
    program.plan(file=said)
    return said.getvalue()


@USES
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STEPS)
def test_bits_of_steps_of_all_rows(name, dtype, use):
    """Turn by turn, and many turns by one call; a short last batch; by any number of threads."""
    words, expected = words_of(25), Table(name, use, dtype)
    losses = [expected.step(words[first : first + BATCH]) for first in range(0, len(words), BATCH)]
    for threads in (1, 2, 3):
        with use_num_threads(threads):
            together, alone = Table(name, use, dtype), Table(name, use, dtype)
            found = together.program.repeat(words, np.arange(len(words)), BATCH)
            assert [*found] == losses
            assert [alone.program(words[first : first + BATCH]) for first in range(0, len(words), BATCH)] == losses
            assert ("step rows" in plan_of(alone.program)) == STEPS[name][2]
            for made in (together, alone):
                assert all(map(np.array_equal, made.arrays(), expected.arrays()))


@USES
def test_a_word_that_there_is_not(use):
    """The turns before it are whole, states settled, and the next call goes on from there."""
    words, made, expected = words_of(12), Table("rmsprop_step", use, "float32"), Table("rmsprop_step", use, "float32")
    made.program.repeat(words, np.arange(len(words)), BATCH)
    wrong = words.copy()
    wrong[9 * BATCH + 1, 3] = ROWS
    with pytest.raises(IndexError, match=rf"got {ROWS}, wants row numbers in \[0, {ROWS}\)"):
        made.program.repeat(wrong, np.arange(len(words)), BATCH)
    made.program.repeat(words, np.arange(len(words)), BATCH)
    for count in (12, 9, 12):
        for first in range(0, count * BATCH, BATCH):
            expected.step(words[first : first + BATCH])
    assert all(map(np.array_equal, made.arrays(), expected.arrays()))


def test_a_gradient_that_is_seen_is_of_all_rows():
    words, made, expected = words_of(3), *(Table("sgd_step", mean_of, "float32", seen=True) for _ in range(2))
    for first in range(0, len(words), BATCH):
        given = words[first : first + BATCH]
        (value, slope), (other, whole) = made.program(given), expected.step(given)
        assert value == other
        assert np.array_equal(slope, whole)
    assert "step rows" not in plan_of(made.program)


def test_many_words_step_all_rows():
    words = np.random.default_rng(0).integers(0, ROWS, (40, WORDS))
    made = Table("rmsprop_step", mean_of, "float32")
    for _ in range(2):
        made.program(words)
    assert "step rows" not in plan_of(made.program)
