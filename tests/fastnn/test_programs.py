"""Programs: replays give the bits of the same ops one by one; what cannot be recorded is named."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import threading
import time
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from interrupting import interrupted_at

import fastnn
from fastnn import ops
from fastnn.kernels.cases import draw, variant_name
from fastnn.kernels.table import ACTIVATIONS, TABLE

ELEMENTWISE = [name for name in ACTIVATIONS if name not in ("linear", "prelu")]


def same(got, expected):
    """Whether two structures of results hold the same bits."""
    if isinstance(expected, dict):
        return got.keys() == expected.keys() and all(same(got[key], expected[key]) for key in expected)
    if isinstance(expected, (tuple, list)):
        return len(got) == len(expected) and all(map(same, got, expected))
    if isinstance(expected, np.ndarray):
        return got.dtype == expected.dtype and got.shape == expected.shape and got.tobytes() == expected.tobytes()
    return bool(got == expected or (isinstance(expected, float) and np.isnan(got) and np.isnan(expected)))


def kernels_of(program, capsys, column=slice(30, 44)):
    """What the plan of a program's last recording calls its kernels, or what else a column of it has."""
    program.plan()
    lines = capsys.readouterr().out.splitlines()[1:-1]
    return [line[column].strip() for line in lines]


def copied(values):
    return [value.copy() if isinstance(value, np.ndarray) else value for value in values]


def variants():
    """All on the CPU, and one of each op by the loops."""
    for op in TABLE.values():
        for backend, chosen in (("cpu", op.variants), ("naive", op.variants[:1])):
            for variant in chosen:
                yield pytest.param(op, variant, backend, id=f"{op.name}-{variant_name(variant)}-{backend}")


@pytest.mark.parametrize(("op", "variant", "backend"), list(variants()))
def test_every_op(op, variant, backend):
    """Recorded with some arrays, replayed with others: results and what is updated in place."""
    sizes = [sizes for sizes in op.cases if all(1 < op.elements(spec, sizes) <= 1300 for spec in op.operands.values())]
    drawn = [draw(op, sizes[0], variant, "float32", np.random.default_rng(seed)) for seed in (1, 2, 3)]
    arrays = [name for name in op.operands if drawn[0].get(name) is not None]
    options = {name: value for name, value in drawn[0].items() if name not in arrays}

    def call(*given):
        given = dict(zip(arrays, given, strict=True))
        results = getattr(ops, op.name)(**given, **options)
        return results, [given[name] for name in op.inplace if name in given]

    with fastnn.use_backend(backend):
        program = fastnn.program(call)
        for given in drawn:
            values = [given[name] for name in arrays]
            assert same(program(*copied(values)), call(*copied(values)))


class Network:
    """Weights of a stack of dense layers and a training step of them, op by op."""

    def __init__(self, widths, dtype="float32", seed=0):
        rng = np.random.default_rng(seed)
        self.arrays = []
        for rows, columns in pairwise(widths):
            self.arrays += [rng.standard_normal((rows, columns)).astype(dtype) / rows, np.zeros(columns, dtype)]
        self.states = [np.zeros_like(w) for w in self.arrays]

    def step(self, x, t, rate):
        outputs, layers = [x], len(self.arrays) // 2
        for layer in range(layers):
            w, b = self.arrays[2 * layer : 2 * layer + 2]
            outputs.append(ops.linear(outputs[-1], w, b, "relu" if layer + 1 < layers else "linear"))
        loss, dy = ops.softmax_cross_entropy(outputs[-1], t)
        for layer in reversed(range(layers)):
            need = ("dx", "dw", "db") if layer else ("dw", "db")
            activation = "relu" if layer + 1 < layers else "linear"
            w = self.arrays[2 * layer]
            dy, *slopes = ops.linear_backward(dy, outputs[layer], w, outputs[layer + 1], activation, need=need)
            places = slice(2 * layer, 2 * layer + 2)
            ops.rmsprop_step(self.arrays[places], slopes, self.states[places], learning_rate=rate)
        return loss, outputs[-1]

    @property
    def everything(self):
        return [*self.arrays, *self.states]


def batches(rows, width, classes, count, dtype="float32"):
    rng = np.random.default_rng(5)
    return [(rng.random((rows, width)).astype(dtype), rng.integers(0, classes, rows)) for _ in range(count)]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("widths", "rows"), [((5, 7, 3), 4), ((300, 200, 70, 10), 65), ((64, 256, 10), 300)])
def test_training_step(widths, rows, dtype, threads):
    one, other = Network(widths, dtype), Network(widths, dtype)
    step = fastnn.program(other.step)
    with fastnn.backends.use_num_threads(threads):
        for turn, (x, t) in enumerate(batches(rows, widths[0], widths[-1], 4, dtype)):
            assert same(step(x, t, 0.01 / (turn + 1)), one.step(x, t, 0.01 / (turn + 1)))
            assert same(other.everything, one.everything)


def test_another_number_of_threads_between_two_calls():
    one, other = Network((300, 200, 10)), Network((300, 200, 10))
    step = fastnn.program(other.step)
    for threads, (x, t) in zip((1, 2, 3, 1), batches(64, 300, 10, 4), strict=True):
        with fastnn.backends.use_num_threads(threads):
            assert same(step(x, t, 0.01), one.step(x, t, 0.01))


class Packed:
    """A layer with packed weights, trained by an optimizer whose step keeps so many parts of a state."""

    def __init__(self, step, count):
        rng = np.random.default_rng(3)
        w, b = rng.standard_normal((70, 45)).astype("float32"), rng.standard_normal(45).astype("float32")
        self.step, self.w, self.b = getattr(ops, f"linear_{step}_step"), ops.pack(w), b
        self.states = [ops.pack(np.abs(w)) for _ in range(count)]
        self.of_bias = [np.abs(b) for _ in range(count)]

    def __call__(self, x, dy, turn, rate):
        y = ops.linear(x, self.w, self.b, "relu")
        dx, dw, db = ops.linear_backward(dy, x, self.w, y, "relu")
        states = [*self.states, *([turn] if len(self.states) > 1 else []), self.b, *self.of_bias]
        slope = self.step(dy, x, self.w, y, *states, activation="relu", learning_rate=rate)
        return ops.matmul(x, self.w), dx, dw, db, slope

    @property
    def everything(self):
        return [self.b, *self.of_bias, *map(ops.unpack, (self.w, *self.states))]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 33, 5000])
@pytest.mark.parametrize(("step", "count"), [("sgd", 0), ("rmsprop", 1), ("adam", 2)])
def test_packed_weights(step, count, rows, threads):
    """With more rows than a block of the sums holds as well."""
    one, other = Packed(step, count), Packed(step, count)
    rng = np.random.default_rng(rows)
    program = fastnn.program(other)
    with fastnn.backends.use_num_threads(threads):
        for turn in range(1, 4):
            x, dy = (rng.standard_normal((rows, width)).astype("float32") for width in (70, 45))
            assert same(program(x, dy, turn, 0.01 / turn), one(x, dy, turn, 0.01 / turn))
            assert same(other.everything, one.everything)


def test_a_step_of_packed_weights_is_fused(capsys):
    layer = Packed("rmsprop", 1)
    program = fastnn.program(layer)
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((30, width)).astype("float32") for width in (70, 45))
    program(x, dy, 1, 0.1)
    assert "stepped product" in kernels_of(program, capsys, column=slice(30, 45))
    assert "called" not in kernels_of(program, capsys, column=slice(45, 53))


def slopes(x, w, t, rate):
    """The gradient of a loss by x, in a tuple."""
    return fastnn.gradients(lambda v: ops.half_sse(ops.tanh(ops.linear(v, w)), t)[0] * rate, (x,))[1]


class Drawing:
    """A random graph of ops on x (n, m), w (m, m), b (m,), n row numbers, as it grows by arrays (n, m) and numbers."""

    def __init__(self, rng, x, w, b, rows, rate, step):
        self.rng, self.x, self.w, self.b, self.rows, self.rate, self.step = rng, x, w, b, rows, rate, step
        self.arrays, self.numbers = [x], []

    @property
    def activation(self):
        return str(self.rng.choice(ELEMENTWISE))

    def linear(self, a, c):
        return [ops.linear(a, self.w, self.b if self.rng.random() < 0.5 else None, self.activation)]

    def sum(self, a, c):
        return [ops.add(a, c)]

    def products(self, a, c):
        return [ops.matmul(ops.matmul(a, c.T), self.x)]

    def activated(self, a, c):
        return [getattr(ops, self.activation)(a)]

    def biased(self, a, c):
        return [getattr(ops, self.activation)(ops.add(ops.matmul(a, self.w), self.b))]

    def loss(self, a, c):
        loss, slope = ops.mse(a, c)
        self.numbers.append(loss * self.rate + 1)
        return [slope]

    def stepped(self, a, c):
        w, b = self.w, self.b
        dx, dw, db = ops.linear_backward(a, c, w, ops.tanh(a), "tanh")
        ops.sgd_step(w, dw, learning_rate=self.rate * 0.5)
        ops.adam_step(b, db, ops.add(b, b), ops.relu(b), 3, learning_rate=self.rate)
        return [dx]

    def written(self, a, c):
        return [ops.relu(a.ravel(), out=ops.add(c, c).reshape(-1)).reshape(self.x.shape)]

    def dropped(self, a, c):
        return [ops.prelu(ops.dropout(a, 0.25, 3, self.step), ops.add(self.b, self.b))]

    def penalty(self, a, c):
        self.numbers.append(ops.l1_l2_penalty(a, 0.1, self.rate)[0])
        return [ops.gather(c, self.rows)]

    def slopes(self, a, c):
        return list(slopes(a, self.w, c, self.rate))

    def slopes_of_rows(self, a, c):
        """By a table, and by a bias."""

        def loss(v, b):
            return ops.mae(ops.add(ops.gather(v, self.rows), b), c)[0]

        dv, db = fastnn.gradients(loss, (a, self.b))[1]
        return [ops.add(dv, db)]


GROWN_BY = [name for name in vars(Drawing) if name not in ("activation",) and not name.startswith("_")]


def drawn_program(seed):
    """A function of what a ``Drawing`` takes, which returns its arrays and numbers."""

    def run(*given):
        rng = np.random.default_rng(seed)
        drawing = Drawing(rng, *given)
        arrays = drawing.arrays
        for _ in range(rng.integers(3, 12)):
            a, c = (arrays[rng.integers(len(arrays))] for _ in range(2))
            arrays += getattr(drawing, str(rng.choice(GROWN_BY)))(a, c)
        return arrays[1:], drawing.numbers

    return run


@pytest.mark.parametrize("seed", range(36))
def test_drawn_programs(seed):
    """Random graphs of ops, in-place steps of arguments and gradients among them, at three sizes and in two calls."""
    rng = np.random.default_rng(1000 + seed)
    run = drawn_program(seed)
    program = fastnn.program(run)
    n, m = int(rng.integers(1, 40)), int(rng.integers(1, 40))
    if seed % 6 == 0:
        n, m = 5 * n, 8 * m
    for step in range(3):
        given = [rng.standard_normal(shape).astype("float32") for shape in ((n, m), (m, m), (m,))]
        given.append(rng.integers(0, n, n))
        one, other = copied(given), copied(given)
        assert same(program(*other, 0.125, step), run(*one, 0.125, step))
        assert same(other, one)


def gradients_of_rows(x, w, b, index, step, rate):
    """By rows of a table that some of a batch share, and a bias; behind dropout, with a penalty."""

    def loss(w, b):
        rows = ops.add(ops.gather(w, index), ops.gather(x, index))
        kept = ops.dropout(ops.prelu(ops.add(rows, b), b), 0.25, 7, step)
        return ops.half_sse(ops.tanh(kept), ops.gather(x, index))[0] + rate * ops.l1_l2_penalty(w, 0.01, rate)[0]

    return fastnn.gradients(loss, (w, b))


# By name: ops that kernels of a replay do, of x and w (n, m), b (m,), numbers of rows, and two numbers.
LOWERED = {
    "dropout": lambda x, w, b, index, step, rate: ops.dropout(x, 0.3, 5, step),
    "random_normal": lambda x, w, b, index, step, rate: ops.random_normal(x, 2**62 + 5, step, 3, 1.0, 0.5),
    "random_uniform": lambda x, w, b, index, step, rate: ops.random_uniform(x, step, 1, 2**31 + step, -1.0, 2.0),
    "dropout, by numbers": lambda x, w, b, index, step, rate: ops.dropout_backward(x, 0.3, step, 2**31 + 3, step),
    "prelu": lambda x, w, b, index, step, rate: ops.prelu(x, b),
    "prelu_backward": lambda x, w, b, index, step, rate: ops.prelu_backward(w, x, b),
    "l1_l2_penalty": lambda x, w, b, index, step, rate: ops.l1_l2_penalty(w, rate, 0.25),
    "column_sums": lambda x, w, b, index, step, rate: (ops.column_sums(x), ops.column_sums(w.T)),
    "add": lambda x, w, b, index, step, rate: (ops.add(x, b), ops.add(b.reshape(1, 33), x), ops.add(x, w)),
    "gather": lambda x, w, b, index, step, rate: ops.gather(x, index),
    "gather_backward": lambda x, w, b, index, step, rate: ops.gather_backward(ops.gather(x, index), w, index),
    "gradients": gradients_of_rows,
    "gradients of nothing": lambda x, w, b, index, step, rate: fastnn.gradients(lambda x: 2.0, (x,)),
}


BYTES, ROWS = np.arange(24, dtype="uint8").reshape(8, 3), np.array([7, 0, 0, 5])

# Calls of ops on arrays that no kernel takes as they lie, or with numbers that none takes from call to call.
CALLED = {
    "sums of all that is stretched": lambda x: fastnn.gradients(
        lambda v: ops.half_sse(ops.add(x, v), x)[0], (X[:1, :1],)
    )[1],
    "bytes": lambda x: ops.add(x, ops.gather(BYTES, ROWS)),
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("name", LOWERED)
def test_kernels_of_ops(name, rows, dtype, threads, capsys):
    """Bits, and that no Python is run between kernels."""
    rng = np.random.default_rng(rows)
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((rows, 33), (rows, 33), (33,)))
    index = rng.integers(0, rows, 50)
    f = LOWERED[name]
    program = fastnn.program(f)
    with fastnn.backends.use_num_threads(threads):
        for turn in range(3):
            assert same(program(x, w, b, index, turn, 0.5 + turn), f(x, w, b, index, turn, 0.5 + turn))
    assert "called" not in kernels_of(program, capsys, column=slice(45, 53))


@pytest.mark.parametrize("name", CALLED)
def test_ops_that_are_called_as_they_were(name, capsys):
    program = fastnn.program(CALLED[name])
    for x in (X, -X):
        assert same(program(x), CALLED[name](x))
    assert "called" in kernels_of(program, capsys, column=slice(45, 53))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("wrong", [-1, 300, 2**40])
@pytest.mark.parametrize("op", ["gather", "gather_backward"])
def test_row_numbers_that_are_none_stop_a_replay(op, wrong, threads):
    """Before anything is written, and what follows is run."""
    x, index, w = np.ones((300, 200)), np.arange(300) % 7, np.ones((300, 200))

    @fastnn.program
    def run(x, index, out):
        given = (x, index) if op == "gather" else (x, x, index)
        getattr(ops, op)(*given, out=out)
        ops.sgd_step(w, x, learning_rate=1.0)

    with fastnn.backends.use_num_threads(threads):
        out = np.zeros((300, 200))
        run(x, index, out)
        out[:], w[:], index[250] = 7, 7, wrong
        with pytest.raises(IndexError, match=rf"index\[250\]: got {wrong}, wants row numbers in \[0, 300\)"):
            run(x, index, out)
        assert (out == 7).all()
        assert (w == 7).all()
        index[250] = 3
        run(x, index, out)
        assert (w == 6).all()


def test_gradients_of_a_loss_of_ones_own():
    rng = np.random.default_rng(3)
    w, b = rng.standard_normal((6, 3)), rng.standard_normal(3)

    def step(x, t, weight):
        def loss(w, b):
            y = ops.linear(x, w, b, "softplus")
            return weight * ops.mse(y, t)[0] + ops.mae(y, t)[0] / 2 + ops.l1_l2_penalty(w, 0.0, 0.01)[0]

        value, (dw, db) = fastnn.gradients(loss, (w, b))
        ops.sgd_step(w, dw, learning_rate=0.1)
        return value, dw, db

    program = fastnn.program(step)
    kept = w.copy()
    for weight in (1.0, 0.25, 3):
        x, t = rng.standard_normal((4, 6)), rng.standard_normal((4, 3))
        w[:] = kept
        expected = copied(step(x, t, weight))
        w[:] = kept
        assert same(list(program(x, t, weight)), expected)


def test_inside_of_gradients_it_is_called_as_it_is():
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((3, 4)), rng.standard_normal((4, 2))
    layer = fastnn.program(lambda v: ops.linear(x, v, None, "tanh"))
    layer(w)
    layer(w)
    expected = fastnn.gradients(lambda v: ops.half_sse(ops.linear(x, v, None, "tanh"), x[:, :2].copy())[0], (w,))
    assert same(fastnn.gradients(lambda v: ops.half_sse(layer(v), x[:, :2].copy())[0], (w,)), expected)


def test_programs_of_programs():
    inner = fastnn.program(ops.relu)
    outer = fastnn.program(lambda x: ops.add(inner(x), inner(x)))
    for x in np.random.default_rng(0).standard_normal((3, 7)):
        assert same(outer(x), 2 * np.maximum(x, 0))


# --------------------------------------------------------------------------------------------------- arguments, results


def test_structures_static_arguments_and_keywords():
    @fastnn.program(static=["depth"])
    def run(pair, depth, *, table, flag=False):
        x = pair[0]
        for _ in range(depth):
            x = ops.tanh(x)
        return {"x": x, "rest": [ops.add(x, pair[1]), table["t"] if flag else None], "n": depth}

    rng = np.random.default_rng(0)
    for depth in (1, 3, 1):
        for flag in (False, True):
            a, b, t = rng.standard_normal((3, 4))
            got = run((a, b), depth, table={"t": t}, flag=flag)
            x = a
            for _ in range(depth):
                x = ops.tanh(x)
            assert same(got, {"x": x, "rest": [ops.add(x, b), t if flag else None], "n": depth})


def test_results_are_valid_until_the_next_call_or_copied():
    x = np.random.default_rng(0).standard_normal((2, 9))
    for copy in (False, True):
        program = fastnn.program(ops.tanh, copy=copy)
        program(x[0])
        first = program(x[0])
        kept = first.copy()
        program(x[1])
        assert same(first, kept) == copy


def test_numbers_and_numpy_numbers_are_arguments():
    program = fastnn.program(lambda x, t, a: ops.mse(x, t)[0] * a - a / 4)
    x, t = np.random.default_rng(0).standard_normal((2, 5))
    for a in (1, 2.5, np.float32(0.5), np.int64(3)):
        assert program(x, t, a) == ops.mse(x, t)[0] * float(a) - float(a) / 4


@pytest.mark.parametrize("turned", [lambda x: x[::-1], lambda x: x[:, ::-1], lambda x: x[::-1, ::-2]])
def test_arguments_may_run_backwards_in_memory(turned):
    rng = np.random.default_rng(6)
    w = rng.standard_normal((turned(np.empty((6, 8))).shape[1], 3)).astype("float32")
    run = fastnn.program(lambda x: ops.matmul(x, w))
    for _ in range(3):
        x = turned(rng.standard_normal((6, 8)).astype("float32"))
        np.testing.assert_allclose(run(x), x @ w, rtol=1e-5, atol=1e-5)


def test_other_shapes_strides_and_dtypes_are_other_recordings():
    traced = []

    @fastnn.program
    def run(x):
        traced.append(x.shape)
        return ops.add(ops.relu(x), x)

    rng = np.random.default_rng(0)
    wide = rng.standard_normal((6, 8))
    for x in (wide, wide.T, wide[::2], wide.astype("float32"), wide[:, ::-1], wide):
        assert same(run(x), ops.add(ops.relu(x), x))
    assert len(traced) == 5


def test_arguments_that_were_one_when_it_was_recorded():
    """An array given twice, and one that the function also knows by itself, are told apart later."""
    rng = np.random.default_rng(0)
    known = rng.standard_normal((4, 4))
    program = fastnn.program(lambda a, b: (ops.matmul(a, b.T), ops.add(a, known), ops.relu(b.reshape(2, 8))))
    for a, b in ((known, known), rng.standard_normal((2, 4, 4)), (known, rng.standard_normal((4, 4)))):
        assert same(program(a, b), (ops.matmul(a, b.T), ops.add(a, known), ops.relu(b.reshape(2, 8))))


def test_large_integers_are_constants():
    program = fastnn.program(lambda x, seed, step: ops.dropout(x, 0.5, seed, step))
    x = np.ones((4, 50), "float32")
    for seed in (2**62, 2**62 + 1, 3, 4):
        for step in (1, 2):
            assert same(program(x, seed, step), ops.dropout(x, 0.5, seed, step))


def test_arguments_that_share_memory_with_what_is_written():
    """Weights that are updated and an argument that is a part of them: as op by op."""
    w = np.linspace(-1, 1, 12)

    @fastnn.program
    def run(x, out):
        ops.sgd_step(w, ops.add(w, w), learning_rate=0.1)
        return ops.relu(x, out=out)

    def expected(x, out):
        ops.sgd_step(w, ops.add(w, w), learning_rate=0.1)
        return ops.relu(x, out=out)

    apart = np.linspace(-2, 2, 12)
    for x, out in ((apart, np.empty(12)), (apart, np.empty(12)), (w, np.empty(12)), (apart, apart), (apart, w)):
        kept = w.copy(), x.copy(), out.copy()
        got = [np.array(run(x, out)), w.copy(), out.copy()]
        w[:], x[:], out[:] = kept
        assert same(got, [np.array(expected(x, out)), w.copy(), out.copy()])


# -------------------------------------------------------------------------------------------------------------- refused

X = np.random.default_rng(1).standard_normal((4, 3)).astype("float32")
T = np.array([0, 2, 1, 0])
W = np.ones((3, 3), "float32")
LESS = -np.ones(1, "float32")


def _writes_between(x):
    y = ops.matmul(x, W)
    W[0, 0] += 1
    return ops.add(y, ops.matmul(x, W))


def _writes_at_the_end(x):
    y = ops.matmul(x, W)
    W[0, 0] += 1
    return y


REFUSED = {
    "expression": (lambda x: 2 ** ops.relu(x), r"\*\*: got an array of shape \(4, 3\) .* in a program"),
    "on an argument": (lambda x: x // 255, r"unsupported operand type|numpy.floor_divide"),
    "ufunc": (np.exp, "numpy.exp: got an array"),
    "function": (lambda x: np.argmax(ops.relu(x), axis=1), "numpy.argmax: got an array"),
    "branch": (lambda x: ops.relu(x) if ops.mse(x, x)[0] > 0 else x, ">: got the number"),
    "truth": (lambda x: ops.relu(x) if ops.mse(x, x)[0] else x, "if: got the number"),
    "equal": (lambda x: ops.mse(x, x)[0] == 0, "==: got the number"),
    "float": (lambda x: float(ops.mse(x, x)[0]), "float: got the number"),
    "format": (lambda x: f"{ops.mse(x, x)[0]:.3f}", "format: got"),
    "index": (lambda x: ops.relu(x)[[0]], r"\[...\]: got an array"),
    "method": (lambda x: ops.relu(x).argmax(axis=1), r"^\.argmax: got an array of shape \(4, 3\) .* in a program"),
    "magnitude": (lambda x: abs(ops.relu(x)), "abs: got an array"),
    "assignment": (lambda x: ops.relu(x).__setitem__(0, 1), r"\[...\] =: got an array"),
    "length": (len, "len: got an array"),
    "loop": (lambda x: [ops.relu(row) for row in x], "for: got an array"),
    "made inside": (lambda x: ops.add(x, np.ones((4, 3), "float32")), "add: b: got an array that was made inside"),
    "made of weights": (lambda x: ops.matmul(x, W * 2), "matmul: b: got an array that was made inside"),
    "accumulator": (
        lambda x: ops.add(a := np.zeros((4, 3), "float32"), x, out=a),
        "add: a: got an array that was made",
    ),
    "written": (_writes_between, "matmul: b: got an array that was written to inside the program"),
    "written at the end": (_writes_at_the_end, "matmul: b: got an array that was written to inside the program"),
    "packed inside": (lambda x: ops.linear(x, ops.pack(W)), "w: got weights to pack inside a program"),
    "option of a result": (
        lambda x: ops.sgd_step(x, x, learning_rate=ops.mse(x, x)[0]),
        "learning_rate: got a result as an option of sgd_step",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_recorded_is_named(name):
    f, message = REFUSED[name]
    program = fastnn.program(f)
    for _ in range(2):  # nothing is remembered of the first
        with pytest.raises((TypeError, AttributeError), match=message):
            program(X.copy())


def test_arrays_made_inside_may_be_written_to_first():
    program = fastnn.program(lambda x: ops.relu(x, out=np.empty((4, 3), "float32")))
    views = fastnn.program(lambda x: ops.matmul(x, W.T))
    for x in (X, 2 * X, -X):
        assert same(program(x), ops.relu(x))
        assert same(views(x), ops.matmul(x, W.T))


def test_backends_are_chosen_around_the_call():
    @fastnn.program
    def run(x):
        with fastnn.use_backend("naive"):
            return ops.relu(x)

    with pytest.raises(RuntimeError, match="use_backend: got 'naive' in a program"):
        run(X)
    program = fastnn.program(ops.softsign)
    for backend in ("naive", "cpu", "naive"):
        with fastnn.use_backend(backend):
            assert same(program(X), ops.softsign(X))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fastnn.program(3), TypeError, "f: got int 3"),
        (lambda: fastnn.program(ops.relu, static="x"), TypeError, "static: got str 'x'"),
        (lambda: fastnn.program(lambda x, y: x)(X, {1}), TypeError, "y: got .* in a program"),
        (
            lambda: fastnn.program(ops.relu)(np.ma.masked_array(X)),
            TypeError,
            "x: got .*, wants a NumPy array in a program",
        ),
        (lambda: fastnn.program(ops.relu)("text"), TypeError, "x: got str 'text'"),
        (lambda: fastnn.program(ops.relu).plan(), RuntimeError, "has no plan in this thread yet"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_wrong_labels_stop_a_replay_before_what_follows():
    network = Network((3, 4, 3))
    step = fastnn.program(network.step)
    step(X, T, 0.1)
    kept = copied(network.everything)
    for wrong in (np.array([0, 3, 1, 0]), np.array([0, -1, 1, 0])):
        for threads in (1, 2):
            with fastnn.backends.use_num_threads(threads), pytest.raises(ValueError, match="targets: got"):
                step(X, wrong, 0.1)
        assert same(network.everything, kept)
    assert np.isfinite(step(X, T, 0.1)[0])


def test_nan_is_no_error():
    network = Network((3, 4, 3))
    step = fastnn.program(network.step)
    for x in (X, np.full_like(X, np.nan)):
        loss, _ = step(x, T, 0.1)
    assert np.isnan(loss)


# --------------------------------------------------------------------------------------------------------------- epochs


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("widths", [(7, 5, 3), (200, 256, 10)])
def test_an_epoch_is_a_call_for_each_batch(widths, threads):
    rng = np.random.default_rng(2)
    x, t = rng.random((133, widths[0])).astype("float32"), rng.integers(0, widths[-1], 133)
    rates = 0.01 / np.arange(1, 8)
    one, other = Network(widths), Network(widths)
    step = fastnn.program(other.step)
    with fastnn.backends.use_num_threads(threads):
        for _ in range(3):
            order = rng.permutation(133)
            losses, outputs = step.repeat((x, t), order, 20, each={"rate": rates})
            parts = np.split(order, range(20, 133, 20))
            expected = [one.step(x[rows], t[rows], rate) for rows, rate in zip(parts, rates, strict=True)]
            assert losses.tolist() == [loss for loss, _ in expected]
            assert same(outputs, expected[-1][1])
            assert same(other.everything, one.everything)


def test_an_epoch_with_arguments_of_all_batches_and_ops_outside_of_the_kernels():
    x = np.random.default_rng(2).standard_normal((10, 4))
    b = np.arange(4.0)
    program = fastnn.program(lambda x, b, scale: (ops.half_sse(ops.add(x, b), x)[0] * scale, ops.prelu(x, b)))
    for _ in range(2):
        totals, last = program.repeat(x, np.arange(10)[::-1], 5, b=b, scale=2.0)
        assert totals.tolist() == [ops.half_sse(ops.add(part, b), part)[0] * 2 for part in (x[:4:-1], x[4::-1])]
        assert same(last, ops.prelu(x[4::-1].copy(), b))


def test_an_epoch_of_a_program_that_returns_nothing_or_one_array():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((2300, 3)), np.zeros(3)

    def run(rows):
        ops.sgd_step(w, rows.reshape(3), learning_rate=0.5)

    program = fastnn.program(run)
    for _ in range(2):
        w[:] = 0
        assert program.repeat(x, np.arange(2300), 1) is None
        got = w.copy()
        w[:] = 0
        for row in x:
            ops.sgd_step(w, row, learning_rate=0.5)
        assert same(got, w)
    outputs = fastnn.program(ops.tanh, copy=True)
    for _ in range(2):
        assert same(outputs.repeat(x, np.arange(30), 10), ops.tanh(x[20:30]))


def test_an_epoch_on_data_that_is_written_to():
    """Each batch sees what those before it have done, as call by call."""
    x = np.random.default_rng(2).standard_normal((1200, 3))
    whole = fastnn.program(lambda rows: ops.sgd_step(x, x, learning_rate=0.001) or ops.half_sse(rows, rows)[0])
    sums = fastnn.program(lambda rows: (ops.sgd_step(x, x, learning_rate=0.001), ops.add(rows, rows))[1])
    for program in (whole, sums):
        kept = x.copy()
        got = program.repeat(x, np.arange(1200), 1)
        after = x.copy()
        x[:] = kept
        for row in range(1200):
            last = x[row : row + 1].copy()
            ops.sgd_step(x, x, learning_rate=0.001)
        assert same(after, x)
        if program is whole:
            assert np.shape(got) == (1200,)
        else:
            assert same(got, last + last)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("rows", "batch"), [(4, 4), (133, 20), (120, 20), (2300, 1)])
def test_results_of_all_batches(rows, batch, threads):
    """One behind the other, with the bits of a call for each batch: of kernels, of ops outside of them, strided."""
    rng = np.random.default_rng(2)
    x, alpha = rng.standard_normal((rows, 300 if batch > 1 else 3)), np.full(4, 0.3)
    u = rng.standard_normal((x.shape[1], 4))

    def run(x, rate):
        y = ops.matmul(x, u)
        moved = ops.add(ops.prelu(y, alpha), y)
        return {"arrays": (ops.tanh(y.T).T, y.reshape(-1), moved), "sum": [rate + ops.half_sse(moved, y)[0], None]}

    program = fastnn.program(run)
    rates = np.linspace(0.1, 0.2, -(-rows // batch))
    with fastnn.backends.use_num_threads(threads):
        for _ in range(3):
            order = rng.permutation(rows)
            got = program.repeat(x, order, batch, each={"rate": rates}, join=True)
            program(x[:batch], 0.1)  # what was joined stays
            parts = np.split(order, range(batch, rows, batch))
            each = [run(x[part], rate) for part, rate in zip(parts, rates.tolist(), strict=True)]
            arrays = tuple(map(np.concatenate, zip(*(one["arrays"] for one in each), strict=True)))
            assert same(got, {"arrays": arrays, "sum": [np.array([one["sum"][0] for one in each]), None]})


@pytest.mark.parametrize(
    ("given", "named", "error", "message"),
    [
        (((X, T[:3]), [0], 1), {"rate": 1.0}, ValueError, r"data\[1\]: got 3 rows, wants 4"),
        (((X, None), [0], 1), {"rate": 1.0}, TypeError, r"data\[1\]: got None"),
        (((), [0], 1), {"rate": 1.0}, ValueError, "data: got no arrays"),
        (((X, T), [0, 4], 1), {"rate": 1.0}, IndexError, "order: got row 4"),
        (((X, T), [0, -1], 1), {"rate": 1.0}, IndexError, "order: got row -1"),
        (((X, T), [], 1), {"rate": 1.0}, ValueError, "order: got no rows"),
        (((X, T), [0.5], 1), {"rate": 1.0}, TypeError, "order: got"),
        (((X, T), [0], 0), {"rate": 1.0}, ValueError, "batch: got 0"),
        (((X, T), [0, 1], 1), {"each": {"rate": [1.0]}}, ValueError, r"each\['rate'\]: got .*wants 2 numbers"),
    ],
)
def test_bad_epochs(given, named, error, message):
    network = Network((3, 4, 3))
    kept = copied(network.everything)
    with pytest.raises(error, match=message):
        fastnn.program(network.step).repeat(*given, **named)
    assert same(network.everything, kept)


def test_wrong_labels_in_the_middle_of_an_epoch():
    """The batches before it have been trained on, none behind it."""
    one, other = Network((3, 4, 3)), Network((3, 4, 3))
    x, t = np.tile(X, (6, 1)), np.tile(T, 6)
    step = fastnn.program(other.step)
    step(X, T, 0.1)
    one.step(X, T, 0.1)
    t[13] = 7
    with pytest.raises(ValueError, match="targets: got"):
        step.repeat((x, t), np.arange(24), 4, rate=0.1)
    for first in (0, 4, 8):
        one.step(x[first : first + 4], t[first : first + 4], 0.1)
    assert same(other.everything, one.everything)


# ------------------------------------------------------------------------------------------------------ threads, memory


def test_threads_have_recordings_of_their_own():
    program = fastnn.program(lambda x: ops.tanh(ops.relu(x)))
    inputs = np.random.default_rng(0).standard_normal((4, 200, 50))
    wrong = []

    def work(x):
        expected = ops.tanh(ops.relu(x))
        wrong.extend(x for _ in range(50) if not same(program(x), expected))

    threads = [threading.Thread(target=work, args=(x,)) for x in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("count", [1, 2])
def test_threads_train_networks_of_their_own_by_one_program(count):
    """Calls and epochs, all at the same time, on teams of threads."""

    @fastnn.program
    def step(x, t, arrays, states, rate):
        network = Network.__new__(Network)
        network.arrays, network.states = arrays, states
        return network.step(x, t, rate)[0]

    (x, t), *_ = batches(192, 300, 10, 1)
    trained, order = [Network((300, 128, 10)) for _ in range(5)], np.arange(192)[::-1]
    results = [None] * len(trained)

    def work(place):
        network = trained[place]
        with fastnn.backends.use_num_threads(count):
            losses = [step(x[:64], t[:64], network.arrays, network.states, 0.01) for _ in range(10)]
            for _ in range(3):
                losses += step.repeat(
                    (x, t), order, 64, arrays=network.arrays, states=network.states, rate=0.01
                ).tolist()
        results[place] = losses

    threads = [threading.Thread(target=work, args=(place,)) for place in range(1, len(trained))]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    for network, losses in zip(trained, results, strict=True):
        assert losses == results[0]
        assert same(network.everything, trained[0].everything)


def passes_in_a_child(check):
    """Whether a check is true in a forked child."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_replays():
    """As its parent would: calls and epochs; so does a child of its own, and the parent again."""
    network = Network((300, 256, 10))
    step = fastnn.program(network.step)
    (x, t), *_ = batches(64, 300, 10, 1)
    step(x, t, 0.01)
    kept = copied(network.everything)

    def losses():
        for array, before in zip(network.everything, kept, strict=True):
            array[:] = before
        return [step(x, t, 0.01)[0], *step.repeat((x, t), np.arange(64), 32, rate=0.01)[0]]

    expected = losses()
    assert passes_in_a_child(lambda: losses() == expected)
    assert passes_in_a_child(lambda: losses() == expected and passes_in_a_child(lambda: losses() == expected))
    assert losses() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_another_thread_replays():
    network, (x, t) = Network((300, 256, 10)), batches(64, 300, 10, 1)[0]
    step = fastnn.program(lambda x, t: ops.softmax_cross_entropy(ops.linear(x, *network.arrays[:2], "relu"), t)[0])
    expected, over = step(x, t), threading.Event()

    def work():
        while not over.is_set():
            step(x, t)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert all(passes_in_a_child(lambda: step(x, t) == expected) for _ in range(5))
    finally:
        over.set()
        thread.join()


# ----------------------------------------------------------------------------------------------------------- interrupts


@pytest.fixture
def alarm():
    """What lets KeyboardInterrupt come in so many seconds, wherever Python looks for it then."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("this system has no timer that interrupts")

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_long_epoch_is_interrupted(threads, alarm, capsys):
    """In its middle; what has been trained until then is as batch by batch, and so is what comes after."""
    one, other = Network((256, 256, 10)), Network((256, 256, 10))
    x, t = np.tile(np.random.default_rng(0).random((64, 256)).astype("float32"), (200, 1)), np.arange(12_800) % 10
    step = fastnn.program(other.step)
    counted = np.zeros(1, "float32")
    count = fastnn.program(lambda x, t, rate: (step(x, t, rate)[0], ops.sgd_step(counted, LESS, learning_rate=1.0))[0])
    order = np.tile(np.arange(12_800), 40)
    with fastnn.backends.use_num_threads(threads):
        count.repeat((x, t), order[:128], 64, rate=0.001)
        began = time.perf_counter()
        alarm(0.3)
        with pytest.raises(KeyboardInterrupt):
            count.repeat((x, t), order, 64, rate=0.001)
        assert time.perf_counter() - began < 3
        assert 2 < counted[0] < 8000
        assert "called" not in kernels_of(count, capsys, column=slice(45, 53))
        for turn in [0, 1, *range(int(counted[0]) - 2)]:
            rows = order[turn * 64 : (turn + 1) * 64]
            one.step(x[rows], t[rows], 0.001)
        assert same(other.everything, one.everything)
        assert same(step(x[:64], t[:64], 0.001), one.step(x[:64], t[:64], 0.001))


def test_a_long_call_is_interrupted(alarm):
    """Between two kernels, and it may be called again."""
    counts = [np.zeros(1, "float32") for _ in range(60)]
    w = np.eye(700, dtype="float32")

    @fastnn.program
    def run(x):
        for count in counts:
            x = ops.matmul(x, w)
            ops.sgd_step(count, LESS, learning_rate=1.0)
        return x

    x = np.random.default_rng(0).standard_normal((700, 700)).astype("float32")
    run(x)
    began = time.perf_counter()
    run(x)
    alarm(0.2 * (time.perf_counter() - began))
    with pytest.raises(KeyboardInterrupt):
        run(x)
    assert counts[0] == 3
    assert counts[-1] == 2
    assert same(run(x), x)


@pytest.mark.parametrize("every", ["line", "opcode"])
def test_an_interrupt_at_any_point_leaves_a_program_usable(every):
    """Wherever it comes: the next calls, with numbers that they have had before, give the bits of the ops."""
    kept = np.linspace(-1, 1, 6)
    w = kept.copy()

    @fastnn.program
    def step(x, t, rate):
        loss, slope = ops.softmax_cross_entropy(ops.add(x, w.reshape(2, 3)), t)
        ops.sgd_step(w, slope.ravel(), learning_rate=rate)
        return loss

    x, t, wrong = np.ones((2, 3)), np.array([0, 2]), np.array([0, 3])

    def refused():
        with pytest.raises(ValueError, match="targets"):
            step(x, wrong, 0.5)

    def run(rate):
        w[:] = kept
        return step(x, t, rate), w.copy()

    step(x, t, 0.5)
    expected = {rate: run(rate) for rate in (0.25, 0.5)}
    calls = [lambda: step(x, t, 0.25), lambda: step.repeat((x, t), [0, 1, 1, 0], 2, rate=0.25), refused]
    for call in calls:
        for point in range(1, 400, 1 if every == "line" else 3):
            run(0.5)
            if not interrupted_at(point, call, every):
                break
            for rate in (0.5, 0.25):
                assert same(run(rate), expected[rate]), point


def test_no_array_is_allocated_in_the_steady_state():
    """What a replay allocates does not grow with its arrays: results lie in the program's own memory."""
    network = Network((64, 64, 10))
    step = fastnn.program(network.step)
    (x, t), *_ = batches(128, 64, 10, 1)
    for _ in range(3):
        step(x, t, 0.01)
    tracemalloc.start()
    try:
        step(x, t, 0.01)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(20):
            step(x, t, 0.01)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now - before < 2048, "memory is kept from call to call"
    assert peak - before < x.nbytes / 2, "an array was made"


def test_an_epoch_allocates_what_it_returns():
    """And figures of its batches, and one batch to know the recording by, however many there are."""
    network = Network((256, 64, 10))
    step = fastnn.program(network.step)
    (x, t), *_ = batches(64 * 64, 256, 10, 1)
    order, peaks = np.arange(len(x)), []
    for _ in range(3):
        step.repeat((x, t), order, 64, rate=0.01)
    for rows in (order, order[: 64 * 32]):
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            losses, _ = step.repeat((x, t), rows, 64, rate=0.01)
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
        finally:
            tracemalloc.stop()
        assert len(losses) == len(rows) // 64
    assert peaks[0] - peaks[1] < 32 * 256, "memory of more than figures is taken for each batch"
    assert max(peaks) < 2 * x[:64].nbytes, "arrays of more than the first batch are made"


def test_a_step_is_fused_into_the_product_of_its_gradient(capsys):
    """Unless somebody else looks at that."""
    network = Network((30, 20, 10))
    x = np.ones((8, 30), "float32")

    def run(x, t, returns):
        w, b, s, sb = network.arrays[0], network.arrays[1], network.states[0], network.states[1]
        y = ops.linear(x, w, b)
        loss, dy = ops.mse(y, t)
        _, dw, db = ops.linear_backward(dy, x, w, y, need=("dw", "db"))
        ops.rmsprop_step([w, b], [dw, db], [s, sb])
        return (loss, dw) if returns else loss

    for returns in (False, True):
        program = fastnn.program(run)
        program(x, np.zeros((8, 20), "float32"), returns)
        program.plan()
        assert ("stepped product" in capsys.readouterr().out) != returns


@pytest.mark.parametrize(("n", "k", "m"), [(1, 4, 4), (5, 7, 3), (64, 300, 200), (70, 2500, 40), (300, 33, 1030)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bias_and_activation_are_fused_into_the_product(n, k, m, dtype, capsys):
    """Whatever has made them; blocks of the sums, and copies of operands, among them."""
    rng = np.random.default_rng(n)
    given = [rng.standard_normal(shape).astype(dtype) for shape in ((n, k), (k, m), (m,))]
    for f in (
        lambda x, w, b: ops.add(ops.matmul(x, w), b),
        lambda x, w, b: ops.relu(ops.add(b, ops.matmul(x, w))),
        lambda x, w, b: ops.gelu(ops.linear(x, w, b)),
        lambda x, w, b: ops.elu(ops.matmul(x, w), 0.3),
    ):
        program = fastnn.program(f)
        for _ in range(2):
            assert same(program(*given), f(*given))
        assert set(kernels_of(program, capsys)) <= {"product", "copy tiles"}


def test_products_that_are_seen_keep_their_results(capsys):
    """By the caller, by another op, or because what is to be added changes in between."""
    x, w, b = (np.random.default_rng(0).standard_normal(shape) for shape in ((4, 4), (4, 4), (4,)))

    def returned(x, w, b):
        z = ops.matmul(x, w)
        return ops.add(z, b), z

    def read(x, w, b):
        z = ops.matmul(x, w)
        return ops.relu(z), ops.tanh(z)

    def changed(x, w, b):
        z = ops.matmul(x, w)
        ops.sgd_step(b, b, learning_rate=0.5)
        return ops.add(z, b)

    def twice(x, w, b):
        z = ops.matmul(x, w)
        return ops.add(z, z)

    def over_an_operand(x, w, b):
        return ops.relu(ops.matmul(x, w), out=x)

    for f in (returned, read, changed, twice, over_an_operand):
        program = fastnn.program(f)
        for rows in (4, 1):
            for _ in range(2):
                one, other = copied([x[:rows], w, b]), copied([x[:rows], w, b])
                assert same(program(*one), f(*other))
                assert same(one, other)
        assert len(kernels_of(program, capsys)) > 1


def test_an_epilogue_without_a_bias_keeps_the_sign_of_zero():
    """Of sums that underflow; the bias that stands in is -0."""
    x, w = np.full((1, 1), 1e-30, "float32"), np.array([[-1e-30, 1e-30]], "float32")
    program = fastnn.program(lambda x, w: ops.tanh(ops.matmul(x, w)))
    for _ in range(2):
        assert same(program(x, w), ops.tanh(ops.matmul(x, w)))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_bias_gradient_is_fused_into_the_derivative(threads, capsys):
    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal(shape).astype("float32") for shape in ((33, 20), (20, 770), (33, 770)))
    y = np.tanh(dy)

    def run(dy, x, w, y):
        return ops.linear_backward(dy, x, w, y, "tanh")

    program = fastnn.program(run)
    with fastnn.backends.use_num_threads(threads):
        for _ in range(2):
            assert same(program(dy, x, w, y), run(dy, x, w, y))
    kernels = kernels_of(program, capsys)
    assert "backward sums" in kernels
    assert "column sums" not in kernels


def test_plan_tells_ops_kernels_waits_and_work(capsys):
    network = Network((300, 256, 10))
    step = fastnn.program(network.step)
    (x, t), *_ = batches(64, 300, 10, 1)
    with fastnn.backends.use_num_threads(2):
        step(x, t, 0.01)
        step.plan()
    printed = capsys.readouterr().out
    assert "softmax_cross_entropy" in printed
    assert "wait" in printed
    assert f"{2 * 3 * 64 * (300 * 256 + 256 * 10) - 2 * 64 * 300 * 256 + 2 * 64 * 300 * 256:,} FLOP" in printed


def test_recordings_are_dropped_with_their_program():
    program = fastnn.program(ops.relu)
    x = np.ones(5)
    program(x)
    count = sys.getrefcount(x)
    del program
    assert sys.getrefcount(x) <= count


@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf])
def test_options_that_are_arguments_keep_their_bounds(rate):
    w, x = np.ones((3, 2)), np.ones((3, 2))

    @fastnn.program
    def step(x, rate):
        ops.sgd_step(w, x, learning_rate=rate * 2.0)
        return ops.half_sse(w, x)[0]

    step(x, 0.1)
    step(x, 0.1)
    before, got = w.copy(), re.escape(str(rate * 2))
    for _ in range(2):
        with pytest.raises(ValueError, match=f"learning_rate: got {got}, wants a finite number at least 0"):
            step(x, rate)
    np.testing.assert_array_equal(w, before)
    data, order = np.ones((9, 2)), np.arange(9)
    step.repeat((data,), order, 3, rate=0.1)
    before = w.copy()
    with pytest.raises(ValueError, match=f"learning_rate: got {got}, wants"):
        step.repeat((data,), order, 3, each={"rate": [0.1, 0.1, rate]})
    np.testing.assert_array_equal(w, before)


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("rows", [3, 6, 12, 11, 2])
def test_constants_among_the_results_of_batches(rows, join):
    step = fastnn.program(lambda x: {"number": 3, "flag": True, "parts": (None, "a", 2.5), "outputs": ops.relu(x)})
    x = np.random.default_rng(0).standard_normal((rows, 2))
    for _ in range(2):
        results, batches = step.repeat((x,), np.arange(rows), 3, join=join), -(-rows // 3)
        np.testing.assert_array_equal(results["number"], np.full(batches, 3.0))
        assert results["flag"] is True
        assert results["parts"][:2] == (None, "a")
        np.testing.assert_array_equal(results["parts"][2], np.full(batches, 2.5))
        wanted = np.maximum(x, 0) if join else np.maximum(x[3 * (batches - 1) :], 0)
        np.testing.assert_array_equal(results["outputs"], wanted)


@pytest.mark.parametrize("name", ["square", "log", "gelu", "sin"])
def test_what_a_product_made_is_kept_for_a_derivative_in_another_stretch(name):
    """The activation ends no product whose result its derivative, behind a call without instructions, reads."""
    rng, step = np.random.default_rng(3), fastnn.program(lambda *given: fastnn.gradients(loss, given))

    def loss(x, w):
        return ops.sum(getattr(ops, name)(ops.matmul(x, w)))

    for _ in range(3):
        given = rng.uniform(0.5, 2.0, (3, 4)), rng.uniform(0.5, 2.0, (4, 2))
        value, found = step(*given)
        wanted, gradients = fastnn.gradients(loss, given)
        assert value == wanted
        assert all(map(np.array_equal, found, gradients))
