"""What launches do together in a recorded step, and what they do not, on a device or the host that stands in."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.table.elementwise import FROM_INPUT
from tests.cuda_host.places import host_only

N, INPUTS, HIDDEN, OUTPUTS = 20, 7, 9, 4
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


class Network:
    """Two layers, their state for any optimizer, and what a step does ``between`` the gradients and the update."""

    def __init__(self, cupy, dtype="float32", between=None, n=N, update=None, activation="tanh"):
        rng = np.random.default_rng(3)
        shapes = (INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, OUTPUTS), (OUTPUTS,)
        self.weights = [cupy.asarray(rng.normal(size=shape).astype(dtype)) for shape in shapes]
        self.states = [[cupy.asarray(np.ones(shape, dtype)) for shape in shapes] for _ in range(3)]
        self.x = cupy.asarray(rng.normal(size=(n, INPUTS)).astype(dtype))
        self.t = cupy.asarray(rng.normal(size=(n, OUTPUTS)).astype(dtype))
        self.between = between or (lambda network, x, slopes, hidden: None)
        self.update = update or plain
        self.activation = activation

    def step(self, x, rate):
        w1, b1, w2, b2 = self.weights
        z = ops.linear(x, w1, b1) if self.activation in FROM_INPUT else None
        hidden = ops.linear(x, w1, b1, self.activation) if z is None else getattr(ops, self.activation)(z)
        y = ops.linear(hidden, w2, b2)
        loss, dy = ops.mse(y, self.t)
        dx, dw2, db2 = ops.linear_backward(dy, hidden, w2, y)
        _, dw1, db1 = ops.linear_backward(dx, x, w1, hidden, self.activation, z, ("dw", "db"))
        slopes = [dw1, db1, dw2, db2]
        more = self.between(self, x, slopes, hidden)
        self.update(self, slopes, rate)
        return (loss, y) if more is None else (loss, y, more)

    def left(self):
        return [array.get() for array in (*self.weights, *(each for state in self.states for each in state), self.x)]


def compared(cupy, calls=5, **how):
    """The plan of a step that is compared with that op by op."""
    wanted, found = Network(cupy, **how), Network(cupy, **how)
    step, file = fastnn.program(found.step), io.StringIO()
    for number in range(calls):
        given = 0.01 / (1 + number)
        for a, b in zip(step(found.x, given), wanted.step(wanted.x, given), strict=True):
            np.testing.assert_allclose(a.get(), b.get(), **ROUNDING)
        for a, b in zip(found.left(), wanted.left(), strict=True):
            np.testing.assert_allclose(a, b, **ROUNDING)
    step.plan(file)
    return file.getvalue()


def written_gradients(plan):
    """Of how many layers."""
    return len(re.findall("linear_backward +linear_backward", plan))


def test_two_layers(cupy):
    plan = compared(cupy)
    assert plan.count("gradients and step") == plan.count("back to the input") == 1
    assert written_gradients(plan) == 0
    assert "activation's slope" not in plan


def plain(network, slopes, rate):
    ops.sgd_step(network.weights, slopes, learning_rate=rate)


def adam(network, slopes, rate):
    ops.adam_step(network.weights, slopes, *network.states[:2], 3, learning_rate=rate)


def one_by_one(network, slopes, rate):
    for w, dw in zip(network.weights, slopes, strict=True):
        ops.sgd_step(w, dw, learning_rate=rate)


def some(network, slopes, rate):
    ops.sgd_step(network.weights[2:], slopes[2:], learning_rate=rate)


def with_momentum(network, slopes, rate):
    ops.sgd_step(network.weights, slopes, network.states[0], learning_rate=rate, momentum=0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("update", [adam, with_momentum])
def test_steps_with_states(cupy, dtype, update):
    assert "gradients and step" in compared(cupy, dtype=dtype, update=update)


def test_a_step_of_some_weights(cupy):
    """Those of one layer, while the gradients of the other are nobody's."""
    assert "gradients and step" in compared(cupy, update=some)


def test_steps_one_by_one(cupy):
    """A layer's gradients go to two steps: they are written."""
    assert "gradients and step" not in compared(cupy, update=one_by_one)


@pytest.mark.parametrize("activation", ["softmax", "gelu", "selu"])
def test_other_activations(cupy, activation):
    """One of rows has its slope by itself."""
    plan = compared(cupy, activation=activation)
    assert "gradients and step" in plan
    assert ("activation's slope" in plan) == (activation == "softmax")


def read(network, x, slopes, hidden):
    return ops.relu(slopes[0])


def kept(network, x, slopes, hidden):
    return slopes[3]


def changed(network, x, slopes, hidden):
    ops.add(slopes[2], slopes[2], out=slopes[2])


def written_over_the_samples(network, x, slopes, hidden):
    ops.relu(x, out=x)


def written_over_the_outputs(network, x, slopes, hidden):
    ops.relu(hidden, out=hidden)


@pytest.mark.parametrize(
    ("between", "layers"),
    [(read, 1), (kept, 1), (changed, 1), (written_over_the_samples, 1), (written_over_the_outputs, 1)],
)
def test_what_else_needs_a_gradient_or_changes_what_it_is_made_of(cupy, between, layers):
    """A layer keeps its gradients; the other does not."""
    plan = compared(cupy, between=between)
    assert written_gradients(plan) == layers
    assert "gradients and step" in plan


def over_themselves(network, slopes, rate):
    """Weights that are their own state."""
    ops.sgd_step(network.weights, slopes, network.weights[:], learning_rate=rate, momentum=0.5)


def test_steps_whose_arrays_are_the_same(cupy):
    assert "gradients and step" not in compared(cupy, update=over_themselves)


def test_sums_that_are_split_among_blocks(cupy):
    assert "gradients and step" not in compared(cupy, n=3000)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_step_of_many_products(cupy, name, dtype):
    """More products than a launch takes, at tiles' edges, against each product and its step by themselves."""
    from fastnn.kernels.cuda import gemm, steps

    rng, entry = np.random.default_rng(0), STEPS[name]
    numbers = [0.125, 0.25, 0.5, 0.75, 0.0, 0.0][: len(entry.hyper)]
    made, wanted = [], []
    for place in range(steps._AT_ONCE + 2):
        n, k, m = ((33, 5, 31), (1, 16, 65), (64, 7, 1), (5, 9, 17))[place % 4]
        a, b = (cupy.asarray(rng.integers(-2, 3, shape).astype(dtype)) for shape in ((k, n), (k, m)))
        both = [[1 + rng.random((n, m)).astype(dtype) for _ in range(1 + len(entry.states))]] * 2
        if "mean" in entry.states:
            both[0][1 + entry.states.index("mean")] *= 0  # the mean square is above the squared mean
        one, other = ([cupy.asarray(array.copy()) for array in arrays] for arrays in both)
        made.append(steps.Gradient(a.T, b, one[0], one[1:]))
        gemm.product(a.T, b, other[0], gemm.update(name), states=other[1:], numbers=numbers)
        wanted.append(other)
    steps.step(name, made, numbers)
    for each, arrays in zip(made, wanted, strict=True):
        for found, expected in zip((each.c, *each.states), arrays, strict=True):
            np.testing.assert_array_equal(found.get(), expected.get())


@host_only
def test_the_same_bits_in_any_order_of_blocks(cupy, monkeypatch):
    left = []
    for seed in range(3):
        monkeypatch.setattr(cupy, "seed", seed)
        network = Network(cupy, update=adam)
        step = fastnn.program(network.step)
        for _ in range(4):
            step(network.x, 0.1)
        left.append(network.left())
    for other in left[1:]:
        assert all(map(np.array_equal, left[0], other))
