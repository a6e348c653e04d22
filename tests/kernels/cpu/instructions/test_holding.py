"""Weights that a replay holds in panels while turns last: the bits of steps one by one, and what stops in between."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import backends, ops
from fastnn.kernels.cpu import program
from fastnn.kernels.cpu.instructions import holding

TURNS, BATCH, IN, HIDDEN, CLASSES = 12, 7, 19, 37, 5
ROWS = np.arange(TURNS * BATCH)
# Steps by the parts of their state.
STEPS = {"sgd_step": 0, "rmsprop_step": 1, "adam_step": 2}


class Loop:
    """Steps of two layers, of which the first one's weights are looked at by nobody but its product."""

    def __init__(self, step="rmsprop_step", dtype="float32", need=("dw", "db")):
        rng = np.random.default_rng(3)
        shapes = (IN, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,)
        self.weights = [rng.standard_normal(shape).astype(dtype) / 4 for shape in shapes]
        self.states = [[np.zeros_like(array) for _ in range(STEPS[step])] for array in self.weights]
        self.x = rng.standard_normal((TURNS * BATCH, IN)).astype(dtype)
        self.labels = rng.integers(0, CLASSES, TURNS * BATCH)
        self._step, self._need = getattr(ops, step), need
        self._numbers = {"step": 3} if step == "adam_step" else {}

    def __call__(self, x, labels):
        w1, b1, w2, b2 = self.weights
        y = ops.linear(x, w1, b1, "relu")
        scores = ops.linear(y, w2, b2)
        loss, dy = ops.softmax_cross_entropy(scores, labels)
        dy, *second = ops.linear_backward(dy, y, w2, scores)
        _, *first = ops.linear_backward(dy, x, w1, y, "relu", need=self._need)
        for array, gradient, state in zip(self.weights, [*first, *second], self.states, strict=True):
            self._step(array, gradient, *state, learning_rate=0.05, **self._numbers)
        return loss

    def one_by_one(self, turns=TURNS):
        """The losses of so many steps."""
        return [self(self.x[rows], self.labels[rows]) for rows in ROWS.reshape(TURNS, BATCH)[:turns]]

    def in_one_call(self):
        """Those of all steps."""
        return fastnn.program(self).repeat((self.x, self.labels), ROWS, BATCH)

    @property
    def arrays(self):
        return [*self.weights, *(part for state in self.states for part in state)]


@pytest.fixture
def held(monkeypatch):
    """The shapes of the matrices that are held in the end."""
    shapes = []

    def in_panels(stretch, lies):
        turn, found = holding.in_panels(stretch, lies)
        shapes.extend((pack.fields["k"], pack.fields["m"]) for one in found for pack in one.before)
        return turn, found

    monkeypatch.setattr(program, "in_panels", in_panels)
    return shapes


def assert_same(one, other):
    for a, b in zip(one.arrays, other.arrays, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step", STEPS)
def test_bits_are_those_of_steps_one_by_one(held, step, dtype, threads):
    plain, loop = Loop(step, dtype), Loop(step, dtype)
    with backends.use_num_threads(threads):
        wanted = plain.one_by_one()
        np.testing.assert_array_equal(loop.in_one_call(), wanted)
    assert held == [(IN, HIDDEN)] * (1 + STEPS[step])
    assert_same(loop, plain)


def test_a_wrong_label_in_between_leaves_what_the_turns_before_made(held):
    plain, loop = Loop(), Loop()
    plain.one_by_one(turns=9)
    loop.labels[9 * BATCH + 2] = CLASSES
    with pytest.raises(ValueError, match="targets"):
        loop.in_one_call()
    assert held
    assert_same(loop, plain)


def test_weights_that_others_look_at_stay_where_they_are(held):
    plain, loop = Loop(need=("dx", "dw", "db")), Loop(need=("dx", "dw", "db"))
    wanted = plain.one_by_one()
    np.testing.assert_array_equal(loop.in_one_call(), wanted)
    assert held == []
    assert_same(loop, plain)


def test_a_few_turns_move_nothing(held):
    loop = Loop()
    fastnn.program(loop).repeat((loop.x, loop.labels), ROWS[: (program._MANY - 1) * BATCH], BATCH)
    assert held == []
