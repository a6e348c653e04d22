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
from fastnn.optimizers import SGD
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


@pytest.mark.parametrize("kept", [False, True])
def test_what_an_activation_is_of_stays_where_it_is_wanted(cupy, kept):
    """And is what it was, where it is written before the activation is made of it."""
    rng = np.random.default_rng(0)
    x, w = (cupy.asarray(rng.normal(size=shape).astype("float32")) for shape in ((20, 7), (7, 9)))

    def function(x):
        z = ops.linear(x, w)
        if not kept:
            ops.tanh(z, out=z)
        return ops.gelu(z), z

    program = fastnn.program(function)
    for _ in range(3):
        for found, wanted in zip(program(x), function(x), strict=True):
            np.testing.assert_array_equal(found.get(), wanted.get())


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


@pytest.mark.parametrize("clip", [{}, {"clipvalue": 0.01}, {"clipnorm": 0.05}])
@pytest.mark.parametrize("looks", [False, True])
def test_vectors_of_other_layers_go_with_the_weights(cupy, looks, clip):
    """Unless somebody else needs their gradients."""
    rng, found = np.random.default_rng(4), []
    x, t = (cupy.asarray(rng.normal(size=shape).astype("float32")) for shape in ((N, INPUTS), (N, OUTPUTS)))
    arrays = [rng.normal(size=shape).astype("float32") for shape in ((INPUTS, OUTPUTS), (OUTPUTS,), (OUTPUTS,))]
    for _ in range(2):
        weights = [*map(cupy.asarray, arrays)]

        def step(x, t, weights=weights):
            w, gamma, beta = weights
            z = ops.linear(x, w)
            loss, dy = ops.mse(ops.layer_norm(z, gamma, beta), t)
            dz, dgamma, dbeta = ops.layer_norm_backward(dy, z, gamma)
            seen = dgamma if looks else loss
            _, dw, _ = ops.linear_backward(dz, x, w, z, need=("dw",))
            ops.sgd_step(weights, SGD(**clip).clipped([dw, dgamma, dbeta]), learning_rate=0.1)
            return loss, seen

        found.append((step, weights))
    (plain_step, wanted), (step, weights) = found
    program, file = fastnn.program(step), io.StringIO()
    for _ in range(4):
        for a, b in zip(program(x, t), plain_step(x, t), strict=True):
            np.testing.assert_allclose(a.get(), b.get(), **ROUNDING)
    for a, b in zip(weights, wanted, strict=True):
        np.testing.assert_allclose(a.get(), b.get(), **ROUNDING)
    program.plan(file)
    assert bool(re.search("sgd_step +sgd_step", file.getvalue())) == (looks or "clipnorm" in clip)
    assert ("clip by" in file.getvalue()) == (looks and bool(clip))


def over_themselves(network, slopes, rate):
    """Weights that are their own state."""
    ops.sgd_step(network.weights, slopes, network.weights[:], learning_rate=rate, momentum=0.5)


def test_steps_whose_arrays_are_the_same(cupy):
    assert "gradients and step" not in compared(cupy, update=over_themselves)


def test_sums_that_are_split_among_blocks(cupy):
    plan = compared(cupy, n=3000, update=adam)
    assert "gradients and step" in plan
    assert written_gradients(plan) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_split_sums_beside_whole_ones(cupy, monkeypatch, dtype):
    """Of whole numbers, to the last bit, whichever block comes last."""
    from fastnn.kernels.cuda import launch, steps

    rng, made, wanted = np.random.default_rng(0), [], []
    for n, k, m in ((33, 700, 31), (1, 1000, 65), (5, 9, 17)):
        a, b, c = (rng.integers(-2, 3, shape).astype(dtype) for shape in ((k, n), (k, m), (n, m)))
        made.append(steps.Gradient(cupy.asarray(a).T, cupy.asarray(b), cupy.asarray(c), []))
        wanted.append(c - 0.25 * (a.T @ b))
    shapes = tuple((each.a.shape[0], *each.b.shape) for each in made)
    splits = steps.plan_for(shapes, steps.TILES[dtype], launch.multiprocessors()).splits
    assert splits[0] > 1 == splits[2]
    for seed in range(2):
        monkeypatch.setattr(cupy, "seed", seed)
        left = [each.c.copy() for each in made]
        steps.step("sgd", [each._replace(c=c) for each, c in zip(made, left, strict=True)], [0.25])
        assert all(np.array_equal(found.get(), expected) for found, expected in zip(left, wanted, strict=True))


def by_norm(network, slopes, rate):
    ops.adam_step(network.weights, SGD(clipnorm=0.1).clipped(slopes), *network.states[:2], 3, learning_rate=rate)


def by_global_norm(network, slopes, rate):
    plain(network, SGD(global_clipnorm=0.1).clipped(slopes), rate)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("update", [by_norm, by_global_norm])
def test_gradients_that_are_clipped_by_norms(cupy, dtype, update):
    plan = compared(cupy, dtype=dtype, update=update)
    assert written_gradients(plan) == 0
    assert "clip by" not in plan


def test_a_norm_that_somebody_else_needs_gradients_for(cupy):
    """Those of a layer are looked at: all are clipped as they were."""
    assert "clip by global norm" in compared(cupy, update=by_global_norm, between=read)


def test_turns_that_end_with_a_step_by_norms(cupy):
    def step(network, x, rate):
        loss, _ = network.step(x, rate)
        return loss, ops.square(x)

    wanted, found = (Network(cupy, update=by_global_norm, n=INPUTS) for _ in range(2))
    data, rates = np.random.default_rng(1).normal(size=(30, INPUTS)).astype("float32"), np.linspace(0.1, 0.5, 12)
    order, program = np.arange(12 * INPUTS) % 30, fastnn.program(lambda x, rate: step(found, x, rate))
    losses, given = program.repeat((cupy.asarray(data),), order, INPUTS, each={"rate": rates}, join=True)
    expected = [
        [array.get().copy() for array in step(wanted, cupy.asarray(data[rows]), rate)]
        for rows, rate in zip(order.reshape(12, INPUTS), rates, strict=True)
    ]
    np.testing.assert_allclose(losses.get(), [loss for loss, _ in expected], **ROUNDING)
    np.testing.assert_allclose(given.get().reshape(12, INPUTS, -1), [one for _, one in expected], **ROUNDING)
    for a, b in zip(found.left(), wanted.left(), strict=True):
        np.testing.assert_allclose(a, b, **ROUNDING)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_by_norms_of_many_parameters(cupy, dtype, together):
    """More than a launch takes, against NumPy in extended precision."""
    from fastnn.kernels.cuda import norm_steps, steps

    rng, eps = np.random.default_rng(0), np.finfo(dtype).eps
    shapes = [((33, 5, 31), (1, 16, 65), (64, 300, 3), (5, 9, 17))[place % 4] for place in range(steps._AT_ONCE + 2)]
    a, b, w = (
        [rng.normal(size=shape).astype(dtype) for shape in some]
        for some in ([(k, n) for n, k, _ in shapes], [(k, m) for _, k, m in shapes], [(n, m) for n, _, m in shapes])
    )
    arrays = [[cupy.asarray(one) for one in some] for some in (a, b, w)]
    slopes = [cupy.asarray(np.zeros_like(one)) for one in w]
    squares = steps.gradients([steps.Gradient(x.T, y, dw, ()) for x, y, dw in zip(*arrays[:2], slopes, strict=True)])
    wanted = [x.T.astype(np.longdouble) @ y for x, y in zip(a, b, strict=True)]
    norms = [np.sqrt((one**2).sum()) for one in wanted]
    limit = 50.0
    assert min(norms) < limit < max(norms)
    norms = [np.sqrt(sum(norm**2 for norm in norms))] * len(norms) if together else norms
    decays = [place % 3 == 0 for place in range(len(w))]
    norm_steps.step(
        "sgd", [*zip(arrays[2], slopes, strict=True)], squares, steps.squares_of(shapes, dtype), limit, [0.5],
        together=together, left=0.75, decays=decays,
    )  # fmt: skip
    for found, weight, slope, norm, is_less in zip(arrays[2], w, wanted, norms, decays, strict=True):
        expected = weight * (0.75 if is_less else 1.0) - 0.5 * slope * min(1, limit / norm)
        np.testing.assert_allclose(found.get(), expected.astype(dtype), rtol=1e3 * eps, atol=1e3 * eps)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_step_of_many_products(cupy, name, dtype):
    """More products than a launch takes, at tiles' edges, against each product and its step by themselves."""
    from fastnn.kernels.cuda import epilogues, products, steps

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
        products.product(a.T, b, other[0], epilogues.update(name), states=other[1:], numbers=numbers)
        wanted.append(other)
    steps.step(name, made, numbers)
    for each, arrays in zip(made, wanted, strict=True):
        for found, expected in zip((each.c, *each.states), arrays, strict=True):
            np.testing.assert_array_equal(found.get(), expected.get())


@pytest.mark.parametrize("limit", [None, 1.5])
@pytest.mark.parametrize("left", [None, 0.75])
def test_decay_and_clipping_before_a_step(cupy, left, limit):
    """To the last bit: of whole numbers, with weights that decay beside one that does not."""
    from fastnn.kernels.cuda import steps

    rng, made, wanted = np.random.default_rng(0), [], []
    for n, k, m, decays in ((33, 7, 31, True), (1, 16, 65, False), (5, 300, 17, True)):
        a, b, w, v = (rng.integers(-2, 3, shape).astype("float32") for shape in ((k, n), (k, m), (n, m), (n, m)))
        made.append(
            steps.Gradient(*map(cupy.asarray, (a, b, w)), [cupy.asarray(v)], decays)._replace(a=cupy.asarray(a).T)
        )
        slope = a.T @ b if limit is None else np.clip(a.T @ b, -limit, limit)
        velocity = np.float32(0.5) * v - np.float32(0.25) * slope
        wanted += [(w * np.float32(left if left and decays else 1)) + velocity, velocity]
    steps.step("momentum", made, [0.25, 0.5], left, limit)
    found = [array for each in made for array in (each.c, *each.states)]
    assert all(np.array_equal(array.get(), expected) for array, expected in zip(found, wanted, strict=True))


def test_infinite_gradients_are_not_clipped_to_numbers(cupy):
    from fastnn.kernels.cuda import steps

    a, b = cupy.asarray(np.array([[np.inf, 1, np.nan]], "float32")), cupy.asarray(np.ones((1, 1), "float32"))
    w = cupy.asarray(np.zeros((3, 1), "float32"))
    steps.step("sgd", [steps.Gradient(a.T, b, w, [])], [1.0], limit=0.5)
    np.testing.assert_array_equal(w.get()[:, 0], [np.nan, -0.5, np.nan])


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


class Dropped:
    """A layer, dropout, another layer; ``back`` are the counters of the mask on the way back."""

    def __init__(self, cupy, activation, back, dtype, rate=0.3):
        rng = np.random.default_rng(5)
        shapes = (N, INPUTS), (INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, OUTPUTS), (N, OUTPUTS)
        self.x, self.w1, self.b1, self.w2, self.t = (cupy.asarray(rng.normal(size=s).astype(dtype)) for s in shapes)
        self._activation, self._back, self._rate = activation, back, rate

    def step(self, x, number, seed):
        z = ops.linear(x, self.w1, self.b1) if self._activation in FROM_INPUT else None
        hidden = ops.linear(x, self.w1, self.b1, self._activation) if z is None else getattr(ops, self._activation)(z)
        left = ops.dropout(hidden, self._rate, seed, number, 2)
        y = ops.linear(left, self.w2)
        loss, dy = ops.mse(y, self.t)
        dx, dw2, _ = ops.linear_backward(dy, left, self.w2, y, need=("dx", "dw"))
        dh = ops.dropout_backward(dx, self._rate, *self._back(seed, number))
        _, dw1, db1 = ops.linear_backward(dh, x, self.w1, hidden, self._activation, z, ("dw", "db"))
        ops.sgd_step([self.w1, self.b1, self.w2], [dw1, db1, dw2], learning_rate=0.01)
        return loss, left


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("back", ["same", "other"])
def test_a_mask_is_drawn_once_for_both_ways(cupy, back, activation, dtype, rounding):
    """Where it is the same on the way back, step by step and in turns."""
    counters = {"same": lambda seed, number: (seed, number, 2), "other": lambda seed, number: (seed, number, 3)}[back]
    wanted, found, turned = (Dropped(cupy, activation, counters, dtype) for _ in range(3))
    step, file = fastnn.program(found.step), io.StringIO()
    for number, seed in ((1, 7), (2, 7), (3, 7), (9, 2**40 + 1), (10, 2**40 + 1)):
        for a, b in zip(step(found.x, number, seed), wanted.step(wanted.x, number, seed), strict=True):
            np.testing.assert_allclose(a.get(), b.get(), rounding, rounding)
    np.testing.assert_allclose(found.w1.get(), wanted.w1.get(), rounding, rounding)
    step.plan(file)
    assert ("dropout_backward" in file.getvalue()) == (back == "other")
    repeated = fastnn.program(lambda x, number: turned.step(x, number, 7)[0])
    repeated.repeat(turned.x, np.tile(np.arange(N), 5), N, each={"number": range(1, 6)})
    alone = Dropped(cupy, activation, counters, dtype)
    for number in range(1, 6):
        alone.step(alone.x, number, 7)
    np.testing.assert_allclose(turned.w1.get(), alone.w1.get(), rounding, rounding)
