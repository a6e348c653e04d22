"""Losses of a recorded step whose launches go on, against the same step op by op."""

from __future__ import annotations

import io

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.kernels.cases import draw
from fastnn.kernels.table import TABLE
from fastnn.kernels.table.elementwise import FROM_INPUT
from fastnn.kernels.table.losses import LOSSES

N, INPUTS = 7, 5

# Whose derivative outputs tell, or inputs, and those of rows.
LAST = ("sigmoid", "gelu", "softmax", "log_softmax")


class Layer:
    """A layer with an activation, its loss, and a step; what a step does ``between`` loss and gradients.

    What it makes ``goals`` of, of its targets and its bias, say.
    """

    def __init__(self, cupy, loss, activation, dtype="float32", variant=(), c=19, between=None, factor=1.0, goals=None):
        op, self._apart = TABLE[loss], activation in FROM_INPUT
        self._pred, self._target, self._weight = op.operands
        sizes = {"n": N, "c": c} if "c" in op.operands[self._pred] else {"n": N, "...": (c,)}
        rng = np.random.default_rng(2)
        given = draw(op, sizes, dict(variant), dtype, rng)
        given.pop(self._pred)
        self._given = {name: cupy.asarray(x) if isinstance(x, np.ndarray) else x for name, x in given.items()}
        shapes = (N, INPUTS), (INPUTS, c), (c,)
        self.x, self.w, self.b = (cupy.asarray(rng.normal(size=shape).astype(dtype)) for shape in shapes)
        self._loss, self._activation, self._between, self._factor = loss, activation, between, factor
        self._goals = goals

    def step(self, x):
        z = ops.linear(x, self.w, self.b) if self._apart else None
        y = ops.linear(x, self.w, self.b, self._activation) if z is None else getattr(ops, self._activation)(z)
        more = [] if self._between is None else [self._between(y)]
        given = self._given if self._goals is None else self._given | {self._target: self._goals(self)}
        loss, dy = getattr(ops, self._loss)(**{self._pred: y}, **given)
        if self._factor != 1:
            loss, dy = loss * self._factor, dy * self._factor
        _, dw, db = ops.linear_backward(dy, x, self.w, y, self._activation, z, need=("dw", "db"))
        ops.sgd_step([self.w, self.b], [dw, db], learning_rate=0.05)
        return (loss, y, *more)


def compared(cupy, *given, rounding=1e-5, **how):
    """The plan of a step that is compared with that op by op."""
    wanted, found = Layer(cupy, *given, **how), Layer(cupy, *given, **how)
    step, file = fastnn.program(found.step), io.StringIO()
    for _ in range(3):
        for a, b in zip(step(found.x), wanted.step(wanted.x), strict=True):
            np.testing.assert_allclose(a.get(), b.get(), rounding, rounding)
    np.testing.assert_allclose(found.w.get(), wanted.w.get(), rounding, rounding)
    step.plan(file)
    return file.getvalue()


@pytest.mark.parametrize("activation", LAST)
@pytest.mark.parametrize(("place", "dtype", "rounding"), [(0, "float32", 1e-5), (-1, "float64", 1e-13)])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_goes_back_through_its_outputs(cupy, loss, place, dtype, rounding, activation):
    plan = compared(cupy, loss, activation, dtype, TABLE[loss].variants[place], rounding=rounding)
    assert "slope" not in plan
    assert f"{activation}_backward" not in plan
    assert "3 launches" in plan  # the product, the loss, the step


@pytest.mark.parametrize("loss", ["mse", "cosine_similarity", "multiclass_hinge"])
@pytest.mark.parametrize(("activation", "c"), [("softmax", 1), ("softmax", 1030), ("log_softmax", 40), ("gelu", 1030)])
def test_rows_of_any_width(cupy, loss, activation, c):
    assert "3 launches" in compared(cupy, loss, activation, c=c)


@pytest.mark.parametrize("activation", ["tanh", "softmax", "linear"])
@pytest.mark.parametrize("loss", ["mae", "nll"])
def test_a_sum_in_place_of_a_mean(cupy, loss, activation):
    plan = compared(cupy, loss, activation, factor=float(N))
    assert "3 launches" in plan


def over(y):
    return ops.relu(y, out=y)


@pytest.mark.parametrize("activation", ["tanh", "softmax"])
@pytest.mark.parametrize("between", [ops.relu, over])
def test_outputs_that_somebody_looks_at_before(cupy, activation, between):
    """Who reads them leaves the slope of single numbers as it is; who writes to them as well."""
    plan = compared(cupy, "mse", activation, between=between)
    assert ("slope" in plan) == (activation == "softmax")


def test_a_derivative_that_somebody_keeps(cupy):
    layer = Layer(cupy, "mse", "tanh")

    def step(x):
        y = ops.linear(x, layer.w, layer.b, "tanh")
        loss, dy = ops.mse(y, layer._given["target"])
        _, dw, db = ops.linear_backward(dy, x, layer.w, y, "tanh", need=("dw", "db"))
        ops.sgd_step([layer.w, layer.b], [dw, db], learning_rate=0.0)
        return loss, dy

    program = fastnn.program(step)
    for _ in range(3):
        for found, wanted in zip(program(layer.x), step(layer.x), strict=True):
            np.testing.assert_array_equal(found.get(), wanted.get())


def test_outputs_that_are_written_to_behind_the_loss(cupy):
    """The slope is that of what stands there then."""
    layers = [Layer(cupy, "mse", "tanh") for _ in range(2)]

    def step(layer, x):
        y = ops.linear(x, layer.w, layer.b, "tanh")
        loss, dy = ops.mse(y, layer._given["target"])
        ops.relu(y, out=y)
        _, dw, db = ops.linear_backward(dy, x, layer.w, y, "tanh", need=("dw", "db"))
        ops.sgd_step([layer.w, layer.b], [dw, db], learning_rate=0.1)
        return loss

    program = fastnn.program(lambda x: step(layers[0], x))
    for _ in range(3):
        program(layers[0].x)
        step(layers[1], layers[1].x)
    np.testing.assert_allclose(layers[0].w.get(), layers[1].w.get(), rtol=1e-6)


def smoothed(layer):
    return ops.add(ops.multiply(layer.target, 0.8), 0.02)


def signed(layer):
    """As hinge losses do: of what is 0 and 1 alone -1 and 1."""
    less = ops.subtract(layer.target, 1.0)
    off = ops.max(ops.absolute(ops.multiply(layer.target, less)), keepdims=True)
    return ops.add(layer.target, ops.multiply(less, ops.subtract(1.0, ops.minimum(ops.multiply(off, 1e30), 1.0))))


def shifted(layer):
    """By a number that the step changes behind it."""
    return ops.maximum(ops.add(layer.target, layer.shift), 0.1)


GOALS = {"smoothed": smoothed, "signed": signed, "shifted": shifted}


def of_goals(cupy, goals, loss="mse", n=N, c=19, target=None, activation="tanh", dtype="float32"):
    """A layer with targets that a step makes, which it changes by the mean of its bias."""
    layer = Layer(cupy, loss, activation, dtype, c=c, goals=goals)
    rng = np.random.default_rng(8)
    layer.target = cupy.asarray((rng.integers(0, 2, (n, c)) if target is None else target).astype(dtype))
    layer.shift = cupy.asarray(np.array([0.25], dtype))
    layer._given["sample_weight"] = None
    layer.x = cupy.asarray(rng.normal(size=(n, INPUTS)).astype(dtype))
    return layer


def compared_goals(cupy, *given, rounding=1e-5, **how):
    wanted, found = of_goals(cupy, *given, **how), of_goals(cupy, *given, **how)
    step, file = fastnn.program(found.step), io.StringIO()
    for value in (0.25, 0.5, 0.75, 0.75):
        for each in (wanted, found):
            each.shift[...] = value
        for a, b in zip(step(found.x), wanted.step(wanted.x), strict=True):
            np.testing.assert_allclose(a.get(), b.get(), rounding, rounding)
    np.testing.assert_allclose(found.w.get(), wanted.w.get(), rounding, rounding)
    step.plan(file)
    return file.getvalue()


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("goals", GOALS)
@pytest.mark.parametrize(("loss", "activation"), [("hinge", "tanh"), ("mse", "softmax"), ("cosine_similarity", "gelu")])
def test_targets_are_made_in_the_launch_of_their_loss(cupy, goals, loss, activation, dtype, rounding):
    """Also with arrays of one number that are others from run to run."""
    plan = compared_goals(cupy, GOALS[goals], loss, activation=activation, dtype=dtype, rounding=rounding)
    assert "3 launches" in plan  # the product, the loss, the step


@pytest.mark.parametrize("other", [None, 0.5, -1.0, np.nan])
@pytest.mark.parametrize("loss", ["hinge", "cosine_similarity"])
def test_each_block_looks_at_all_targets(cupy, loss, other):
    """The last one of which decides what becomes of all others."""
    target = np.random.default_rng(8).integers(0, 2, (300, 31))
    target = np.where(np.arange(300 * 31).reshape(300, 31) == 9299, other, target) if other is not None else target
    assert "3 launches" in compared_goals(cupy, signed, loss, n=300, c=31, target=target)


@pytest.mark.parametrize("kind", ["kept", "written", "many", "two"])
def test_targets_that_are_not_the_losss_alone(cupy, kind):
    """Somebody has them, theirs are written to before the loss, or they are too many to look at, or of two arrays."""

    def goals(layer):
        made = signed(layer) if kind == "many" else smoothed(layer)
        if kind == "written":
            ops.multiply(layer.target, 0.5, out=layer.target)
        return ops.add(made, layer.others) if kind == "two" else made

    def of(layer):
        layer.others = cupy.asarray(layer.target.get() + np.float32(0.5))
        step = layer.step
        if kind == "kept":
            made = []
            layer._goals = lambda layer: made.append(goals(layer)) or made[-1]
            return lambda x: (*step(x), made[-1])
        return step

    n, c = (300, 120) if kind == "many" else (N, 19)
    one, other = (of_goals(cupy, goals, n=n, c=c) for _ in range(2))
    steps, file = [of(one), of(other)], io.StringIO()
    program = fastnn.program(steps[0])
    for _ in range(3):
        for a, b in zip(program(one.x), steps[1](other.x), strict=True):
            np.testing.assert_allclose(a.get(), b.get(), 1e-5, 1e-5)
    program.plan(file)
    assert "3 launches" not in file.getvalue()
