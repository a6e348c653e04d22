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
    """A layer with an activation, its loss, and a step; what a step does ``between`` loss and gradients."""

    def __init__(self, cupy, loss, activation, dtype="float32", variant=(), c=19, between=None, factor=1.0):
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

    def step(self, x):
        z = ops.linear(x, self.w, self.b) if self._apart else None
        y = ops.linear(x, self.w, self.b, self._activation) if z is None else getattr(ops, self._activation)(z)
        more = [] if self._between is None else [self._between(y)]
        loss, dy = getattr(ops, self._loss)(**{self._pred: y}, **self._given)
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
