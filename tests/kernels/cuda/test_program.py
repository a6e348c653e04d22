"""Programs on a device, or the host that stands in: a step that is captured and launched gives the bits of op by op."""

from __future__ import annotations

import gc
import io
import re

import numpy as np
import pytest

import fastnn
from fastnn import backends, ops
from tests.cuda_host.build import LaunchError
from tests.cuda_host.places import host_only

N, INPUTS, HIDDEN, OUTPUTS = 6, 7, 9, 4


class Network:
    """Two layers with dropout, a penalty and Adam; all on the device."""

    def __init__(self, cupy):
        rng = np.random.default_rng(3)
        shapes = (INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, OUTPUTS), (OUTPUTS,)
        self.weights = [cupy.asarray(rng.normal(size=shape).astype("float32")) for shape in shapes]
        self.means, self.squares = ([cupy.zeros(shape, "float32") for shape in shapes] for _ in range(2))

    def loss(self, x, t, number):
        """Of the weights, with numbers on either side of losses, which are arrays () here."""

        def of(w1, b1, w2, b2):
            hidden = ops.dropout(ops.linear(x, w1, b1, "relu"), 0.25, 7, number)
            loss = ops.softmax_cross_entropy(ops.linear(hidden, w2, b2), t)[0]
            return 0.5 * loss + (1.0 - ops.l1_l2_penalty(w1, 0.01, 0.02)[0]) / 4.0

        return of

    def step(self, x, t, rate, number):
        loss, slopes = fastnn.gradients(self.loss(x, t, number), self.weights)
        ops.adam_step(self.weights, list(slopes), self.means, self.squares, number, learning_rate=rate)
        return loss

    def state(self):
        return [array.get().tobytes() for array in (*self.weights, *self.means, *self.squares)]


def batches(cupy, count, n=N, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(count):
        x, t = rng.normal(size=(n, INPUTS)).astype("float32"), rng.integers(0, OUTPUTS, n)
        yield cupy.asarray(x), cupy.asarray(t), 0.1 / (1 + number), number + 1


def op_by_op(cupy, count, **how):
    """The losses of steps, and what they leave."""
    network = Network(cupy)
    losses = [network.step(*each).get() for each in batches(cupy, count, **how)]
    return np.array(losses), network.state()


def test_steps_are_those_op_by_op(cupy):
    """With a learning rate, a step's number and a mask that are others each time, at addresses that are others."""
    wanted, state = op_by_op(cupy, 10)
    network = Network(cupy)
    step = fastnn.program(network.step)
    losses = [step(*each).get() for each in batches(cupy, 10)]
    np.testing.assert_array_equal(losses, wanted)
    assert network.state() == state


@host_only
def test_a_step_is_one_launch_of_a_graph(cupy):
    network, given = Network(cupy), next(batches(cupy, 1))
    step = fastnn.program(network.step)
    for _ in range(2):
        step(*given)
    for _ in range(3):
        cupy.launched.clear()
        with cupy.unread():
            step(*given)
        assert cupy.launched[0] == "graph"
        assert cupy.launched.count("graph") == 1
        assert len(cupy.launched) == 1 + 16 == step.launches  # the sum of two numbers is CuPy's own


@host_only
def test_words_of_turns_are_counted_for_many_turns_at_once(cupy, monkeypatch):
    """Their bits are those of the ops; how often a call is made to find its numbers does not grow with the turns."""
    from fastnn.kernels.cuda.numbers import Table

    x = cupy.asarray(np.random.default_rng(0).normal(size=(300, INPUTS)).astype("float32"))
    seeds = 7, 2**62 + 5

    def step(x, number, stream):
        y = ops.add(ops.dropout(x, 0.25, seeds[0], number, 3), ops.random_normal(x, seeds[1], number, stream))
        return ops.dropout_backward(ops.dropout(y, 0.5, seeds[1], number, stream), 0.25, seeds[0], number)

    read, plain, found = [], Table.reading, []
    monkeypatch.setattr(Table, "reading", lambda table, call: read.append(call) or plain(table, call))
    program = fastnn.program(copy=True)(step)
    for turns in (40, 60, 100):
        rng = np.random.default_rng(turns)
        numbers = ((2**32 - 20 + np.arange(turns)) % 2**32).tolist()  # which the device counts
        streams = rng.integers(0, 2**32, turns).tolist()
        given = x[: 3 * turns]
        read.clear()
        made = program.repeat(given, range(3 * turns), 3, each={"number": numbers, "stream": streams}, join=True)
        found.append(len(read))
        wanted = [
            step(given[3 * turn : 3 * turn + 3], *each).get()
            for turn, each in enumerate(zip(numbers, streams, strict=True))
        ]
        np.testing.assert_array_equal(made.get(), np.concatenate(wanted))
    assert found == [4, 4, 8]  # of as many turns as are sent at a time


def test_arguments_at_other_addresses_and_at_those_again(cupy):
    """Some have a graph of their own; at any others they are copied to where another one reads them."""
    w = cupy.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    product = fastnn.program(lambda x: ops.relu(ops.matmul(x, w)))
    xs = [cupy.asarray(np.random.default_rng(seed).normal(size=(5, 3))) for seed in range(9)]
    for place in (*range(9), *range(8, -1, -1), 0, 0, 8, 8):
        np.testing.assert_array_equal(product(xs[place]).get(), ops.relu(ops.matmul(xs[place], w)).get())


def test_arguments_that_are_written_to_and_returned(cupy):
    @fastnn.program
    def step(w, dw, rate):
        ops.sgd_step(w, dw, learning_rate=rate)
        return w, w.T

    rng, alive = np.random.default_rng(0), []
    for place in range(9):  # more than have graphs of their own
        w, dw = (rng.normal(size=(4, 5)) for _ in range(2))
        on_device = cupy.asarray(w)
        alive.append(on_device)
        same, turned = step(on_device, cupy.asarray(dw), 0.5)
        assert same is on_device, place
        np.testing.assert_array_equal(same.get(), w - 0.5 * dw)
        np.testing.assert_array_equal(turned.get(), (w - 0.5 * dw).T)


def test_results_that_go_where_they_are_told(cupy):
    """To an array from outside, an argument, a result, and one over an operand, which a copy is made of first."""
    rng, alive = np.random.default_rng(0), []
    w, outside = (cupy.asarray(rng.normal(size=(4, 4))) for _ in range(2))

    def step(x, into, slope):
        y = ops.add(x, x, out=outside)
        z = ops.leaky_relu(ops.matmul(y, w, out=into), slope)
        turned = ops.leaky_relu(z.T, slope, out=z)
        return ops.add(turned, y), into, outside, ops.leaky_relu(x.T, slope, out=x)

    program = fastnn.program(step)
    for number in range(9):
        given = [rng.normal(size=(4, 4)) for _ in range(2)]
        found, wanted = (
            [each.get() for each in f(*(alive.append(cupy.asarray(each)) or alive[-1] for each in given), 0.1 * number)]
            for f in (program, step)
        )
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)


def test_arguments_of_any_strides(cupy):
    x = np.random.default_rng(0).normal(size=(6, 4))
    double = fastnn.program(lambda x: ops.add(x, x))
    for _ in range(9):
        on_device = cupy.asarray(x)
        for view in (on_device.T, on_device[::2], on_device[1:, 1:3]):
            np.testing.assert_array_equal(double(view).get(), 2 * view.get())


def test_what_gradients_calculate(cupy):
    """Sums over what was broadcast, zeros, numbers beside numbers that the device has."""
    rng = np.random.default_rng(0)
    x = cupy.asarray(rng.normal(size=(4, 5)))

    def step(a, b, unused, t, scale):
        def loss(a, b, unused):
            first, second = ops.mse(ops.add(x, ops.add(a, b)), t)[0], ops.mse(a, t)[0]
            return (first - second * scale) / (first + scale) * second

        return fastnn.gradients(loss, (a, b, unused))

    program = fastnn.program(step)
    for number in range(4):
        shapes = (4, 5), (4, 1), (2, 3), (4, 5)
        given = *(cupy.asarray(rng.normal(size=shape)) for shape in shapes), 0.5 + number
        (found, slopes), (wanted, others) = program(*given), step(*given)
        np.testing.assert_array_equal(found.get(), wanted.get())
        for one, other in zip(slopes, others, strict=True):
            np.testing.assert_array_equal(one.get(), other.get())


def test_a_wrong_number_raises_before_anything_is_written(cupy):
    w = cupy.asarray(np.ones((4, 4)))

    @fastnn.program
    def step(rate):
        ops.sgd_step(w, w, learning_rate=rate)

    with fastnn.use_backend("cuda"):
        for rate in (0.5, 0.5, 0.5):
            step(rate)
        with pytest.raises(ValueError, match=r"learning_rate: got -1.0, wants a finite number at least 0"):
            step(-1.0)
        np.testing.assert_array_equal(w.get(), 0.125)
        step(0.5)
    np.testing.assert_array_equal(w.get(), 0.0625)


def test_an_interrupt_before_the_device_has_the_numbers(cupy, monkeypatch):
    w = cupy.asarray(np.ones((2, 2)))

    @fastnn.program
    def step(w, rate):
        ops.sgd_step(w, w, learning_rate=rate)

    for _ in range(3):
        step(w, 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(cupy, "asarray", interrupted)
        with pytest.raises(KeyboardInterrupt):
            step(w, 0.25)
    np.testing.assert_array_equal(w.get(), 0.125)
    step(w, 0.25)
    np.testing.assert_array_equal(w.get(), 0.125 * 0.75)


def interrupted(*_):
    raise KeyboardInterrupt


def test_numbers_that_plans_are_made_for(cupy):
    x = cupy.asarray(np.linspace(-1, 1, 12).reshape(3, 4))
    leaky = fastnn.program(ops.leaky_relu)
    for alpha in (0.1, 0.2, 0.2, 0.3, 0.1):
        np.testing.assert_array_equal(leaky(x, alpha).get(), ops.leaky_relu(x, alpha).get())


def test_numbers_that_are_none(cupy):
    x = cupy.asarray(np.ones((2, 2)))
    scaled = fastnn.program(lambda x, factor: ops.mse(x, x)[0] + factor)
    for factor in (1.0, np.nan, np.nan, np.inf, 2.0):
        np.testing.assert_array_equal(scaled(x, factor).get(), factor)


def test_numbers_that_choose_other_kernels(cupy, monkeypatch):
    """What was captured is of no use then, and everything begins anew."""
    planned, other = (backends.implementation("cuda", "elementwise", name) for name in ("leaky_relu", "elu"))

    def chosen(x, alpha, *, out=None):
        return (planned if alpha < 0.5 else other)(x, alpha, out=out)

    monkeypatch.setattr(f"{planned.__module__}.leaky_relu", chosen)
    backends.forget()
    x, alphas = cupy.asarray(np.linspace(-1, 1, 24).reshape(8, 3)), [0.1, 0.2, 0.3, 0.3, 0.6, 0.7, 0.8, 0.2]
    try:
        leaky = fastnn.program(lambda x, alpha: ops.leaky_relu(x, alpha))  # noqa: PLW0108 - repeat names alpha
        found = [leaky(x, alpha).get() for alpha in alphas]
        turns = [leaky.repeat(x, range(8), 1, each={"alpha": alphas}, join=True).get() for _ in range(3)]
        wanted = [ops.leaky_relu(x, alpha).get() for alpha in alphas]
    finally:
        backends.forget()
    np.testing.assert_array_equal(found, wanted)
    for each in turns:
        np.testing.assert_array_equal(each, [wanted[turn][turn] for turn in range(8)])


def test_results_live_as_long_as_they_are_needed(cupy):
    """Memory goes to later results of the same size, not sooner than nobody reads it any more."""
    w = cupy.asarray(np.random.default_rng(1).normal(size=(5, 5)))

    def chain(x):
        first = ops.matmul(x, w)
        second = ops.matmul(first, w)
        third = ops.matmul(second, w)
        return ops.add(ops.matmul(third, w), first), ops.add(second, third)

    program = fastnn.program(chain)
    for seed in range(7):
        x = cupy.asarray(np.random.default_rng(seed).normal(size=(5, 5)))
        for found, wanted in zip(program(x), chain(x), strict=True):
            np.testing.assert_array_equal(found.get(), wanted.get())


def plan_of(program):
    file = io.StringIO()
    program.plan(file)
    return file.getvalue()


def test_what_nothing_comes_of_is_not_launched(cupy):
    x = cupy.asarray(np.ones((3, 3)))

    @fastnn.program
    def one(x):
        ops.relu(x)
        return ops.sigmoid(x)

    for _ in range(3):
        one(x)
    assert "relu" not in plan_of(one)
    assert "sigmoid        captured" in plan_of(one)


# What waits for the device, and what voids a capture without saying so.
UNCAPTURABLE = {"read": lambda cupy, x: x.get(), "sent": lambda cupy, x: cupy.asarray(np.ones(3))}


@host_only
@pytest.mark.parametrize("name", ["tanh", "leaky_relu"])
@pytest.mark.parametrize("kind", UNCAPTURABLE)
def test_what_waits_or_ends_a_capture_is_called_between_graphs(cupy, monkeypatch, name, kind):
    """It is found out by capturing it."""
    planned = backends.implementation("cuda", "elementwise", name)

    def waits(x, *numbers, out=None):
        UNCAPTURABLE[kind](cupy, x)
        return planned(x, *numbers, out=out)

    x = cupy.asarray(np.random.default_rng(0).normal(size=(4, 4)))
    slopes = 0.25, 0.25, 0.5, 0.75, 0.75
    wanted = [ops.relu(ops.tanh(ops.leaky_relu(x, slope))).get() for slope in slopes]
    monkeypatch.setattr(f"{planned.__module__}.{name}", waits)
    backends.forget()
    try:
        program = fastnn.program(lambda x, slope: ops.relu(ops.tanh(ops.leaky_relu(x, slope))))
        found = [program(x, slope).get() for slope in slopes]
        plan = plan_of(program)
        turns = program.repeat(x, range(4), 1, each={"slope": [0.5] * 4}, join=True)
    finally:
        backends.forget()
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(turns.get(), wanted[2])
    assert re.search(rf"{name} +called", plan)
    assert plan.count("captured") == 2


@host_only
def test_products_that_are_cublas_s_are_called_between_graphs(cupy, monkeypatch):
    """Which CuPy does not capture."""
    from fastnn.kernels.cuda import cublas

    monkeypatch.setattr(cublas, "WORK_FROM", 13 * 17 * 13)
    x, w = (cupy.asarray(np.random.default_rng(0).normal(size=shape)) for shape in ((13, 17), (17, 13)))

    def step(x):
        return ops.tanh(ops.matmul(ops.relu(x), w))

    program, wanted = fastnn.program(step), step(x).get()
    for _ in range(4):
        np.testing.assert_array_equal(program(x).get(), wanted)
    plan = plan_of(program)
    assert re.search(r"matmul +called", plan)
    assert re.search(r"relu +captured", plan)


def csr_matrix(cupy, dense):
    rows, columns = np.nonzero(dense)
    parts = dense[rows, columns], columns.astype("int32"), np.searchsorted(rows, range(len(dense) + 1)).astype("int32")
    if hasattr(cupy, "launched"):  # the stand-in
        from tests.cuda_host.sparse import csr_matrix as made
    else:
        from cupyx.scipy.sparse import csr_matrix as made
    return made(tuple(map(cupy.asarray, parts)), shape=dense.shape)


def test_csr_matrices_of_any_number_of_non_zeros(cupy):
    """Their products are called, all else is captured."""
    w, b = (cupy.asarray(np.random.default_rng(1).normal(size=shape)) for shape in ((7, 5), (5,)))

    def layers(x, rate):
        return ops.leaky_relu(ops.linear(x, w, b), rate)

    program = fastnn.program(layers)
    for seed in range(7):
        dense = np.random.default_rng(seed).normal(size=(6, 7)) * (np.random.default_rng(seed).random((6, 7)) < 0.3)
        x = csr_matrix(cupy, dense)
        np.testing.assert_array_equal(program(x, 0.1 * seed).get(), layers(x, 0.1 * seed).get())
    assert re.search(r"linear +called", plan_of(program))
    assert re.search(r"leaky_relu +captured", plan_of(program))


def test_results_are_valid_until_the_next_call_or_stay(cupy):
    xs = [cupy.asarray(np.full((3, 3), value)) for value in (1.0, 2.0, 3.0, 4.0)]
    kept = fastnn.program(copy=True)(lambda x: ops.add(x, x))
    found = [kept(x) for x in xs]
    assert [each.get()[0, 0] for each in found] == [2, 4, 6, 8]


def test_memory_of_graphs_is_not_freed_where_there_is_no_more(cupy, monkeypatch):
    pools, made = [], cupy.cuda.MemoryPool
    monkeypatch.setattr(cupy.cuda, "MemoryPool", lambda *given: pools.append(made(*given)) or pools[-1])
    x = cupy.asarray(np.ones((3, 3)))
    chain = fastnn.program(lambda x: ops.matmul(ops.matmul(ops.matmul(x, x), x), x))
    for _ in range(4):
        assert chain(x).get()[0, 0] == 27
        pools[-1].free_all_blocks()  # as a pool does that finds no more memory


def test_results_outlive_their_program(cupy):
    x = cupy.asarray(np.ones((3, 3)))
    for calls in (1, 2, 3):
        double, scaled = fastnn.program(lambda x: ops.add(x, x)), fastnn.program(ops.leaky_relu)
        found = [(double(x), scaled(x, 0.5)) for _ in range(calls)]
        del double, scaled
        gc.collect()
        for each in found[-1]:
            assert (each.get() == each.get()[0, 0]).all(), calls
        assert [each.get()[0, 0] for each in found[-1]] == [2, 1]


@host_only
def test_a_program_on_another_stream(cupy):
    """It waits for what was asked for on the one before."""
    x, waited = cupy.asarray(np.ones((3, 3))), []
    double = fastnn.program(lambda x: ops.add(x, x))
    for _ in range(3):
        double(x)
    stream = cupy.cuda.Stream()
    stream.wait_event = waited.append
    with stream:
        double(x)
        double(x)
    assert len(waited) == 1


# --------------------------------------------------------------------------------------------------- turns over batches


BATCHES, BATCH = 5, 5
DATA = 23  # rows, so that the last batch is short


def data(cupy):
    rng = np.random.default_rng(5)
    return cupy.asarray(rng.normal(size=(DATA, INPUTS)).astype("float32")), cupy.asarray(rng.integers(0, OUTPUTS, DATA))


def epochs(count):
    """The order of rows, and the numbers of each batch."""
    for epoch in range(count):
        order = np.random.default_rng(epoch).permutation(DATA)
        numbers = range(BATCHES * epoch + 1, BATCHES * (epoch + 1) + 1)
        yield order, {"rate": [0.1 / number for number in numbers], "number": list(numbers)}


def epochs_op_by_op(cupy, count):
    """The losses of batches, and what they leave."""
    network, losses = Network(cupy), []
    x, t = (each.get() for each in data(cupy))
    for order, each in epochs(count):
        for place, (rate, number) in enumerate(zip(each["rate"], each["number"], strict=True)):
            rows = order[place * BATCH : (place + 1) * BATCH]
            losses.append(network.step(cupy.asarray(x[rows]), cupy.asarray(t[rows]), rate, number).get())
    return losses, network.state()


@pytest.mark.parametrize(("at_once", "unrolled"), [(2, 8), (64, 8), (64, 2), (3, 3)])
@pytest.mark.parametrize("where", ["order on the host", "order on the device"])
def test_epochs_are_those_op_by_op(cupy, monkeypatch, where, at_once, unrolled):
    """So many turns are known beforehand, and are a graph."""
    monkeypatch.setattr("fastnn.kernels.cuda.program._AT_ONCE", at_once)
    monkeypatch.setattr("fastnn.kernels.cuda.program._UNROLLED", unrolled)
    wanted, state = epochs_op_by_op(cupy, 4)
    network, given, losses = Network(cupy), data(cupy), []
    step = fastnn.program(network.step)
    for order, each in epochs(4):
        rows = cupy.asarray(order) if where == "order on the device" else order
        losses += step.repeat(given, rows, BATCH, each=each).tolist()
    assert losses == wanted
    assert network.state() == state


def counting(function, results):
    """The function, and what it returns in a list."""

    def counted(*given):
        results.append(function(*given))
        return results[-1]

    return counted


@host_only
def test_a_turn_is_one_launch_of_a_graph_and_nothing_is_read_back(cupy, monkeypatch):
    network, given, captured = Network(cupy), data(cupy), []
    step = fastnn.program(network.step)
    monkeypatch.setattr(cupy.Stream, "end_capture", counting(cupy.Stream.end_capture, captured))
    for place, (order, each) in enumerate(epochs(5)):
        cupy.launched.clear()
        captured.clear()
        with cupy.unread():
            step.repeat(given, order, BATCH, each=each)
        if place > 2:
            assert not any("next" in graph.launches for graph in captured)
            assert cupy.launched.count("graph") == BATCHES
            assert cupy.launched[:4] == ["rows", "rows", "next", "graph"]  # a batch, to see what it is like


@pytest.mark.parametrize("unrolled", [2, 8])
def test_what_is_joined_and_what_is_the_last_batches(cupy, monkeypatch, unrolled):
    monkeypatch.setattr("fastnn.kernels.cuda.program._UNROLLED", unrolled)
    w = cupy.asarray(np.random.default_rng(0).normal(size=(INPUTS, 3)).astype("float32"))
    x, _ = data(cupy)

    @fastnn.program
    def outputs(x, rate):
        y = ops.matmul(x, w)
        return {"y": y, "sum": ops.mse(y, y)[0] + rate, "rate": rate, "two": 2}

    order, rates = np.random.default_rng(0).permutation(DATA), np.arange(BATCHES) / 4
    wanted = (cupy.asarray(x.get()[order]), cupy.asarray(x.get()[order[20:]]))
    for _ in range(3):
        joined = outputs.repeat([x], order, BATCH, each={"rate": rates}, join=True)
        np.testing.assert_array_equal(joined["y"].get(), ops.matmul(wanted[0], w).get())
        last = outputs.repeat([x], order, BATCH, each={"rate": rates})
        np.testing.assert_array_equal(last["y"].get(), ops.matmul(wanted[1], w).get())
        for found in (joined, last):
            assert found["sum"].tolist() == found["rate"].tolist() == rates.tolist()
            assert found["two"].tolist() == [2] * BATCHES


def test_what_is_joined_lies_in_any_way(cupy):
    x = np.random.default_rng(0).normal(size=(12, 3))
    turned = fastnn.program(lambda x: ops.add(x, x).T)
    for _ in range(3):
        found = turned.repeat(cupy.asarray(x), range(12), 3, join=True)
        np.testing.assert_array_equal(found.get(), np.concatenate([2 * x[at : at + 3].T for at in range(0, 12, 3)]))


def test_batches_that_are_results_and_data_that_are_not_in_order(cupy):
    """Copied before the next one's are there; gathered by a launch of their own."""
    x = np.random.default_rng(0).normal(size=(12, 3))
    same, turned = fastnn.program(lambda x: (x, ops.add(x, x))), cupy.asarray(np.ascontiguousarray(x.T)).T
    for _ in range(3):
        for data in (cupy.asarray(x), turned):
            found = same.repeat(data, range(11, -1, -1), 3, join=True)
            np.testing.assert_array_equal(found[0].get(), x[::-1])
            last = same.repeat(data, range(11, -1, -1), 3)
            np.testing.assert_array_equal(last[0].get(), x[2::-1])
            np.testing.assert_array_equal(last[1].get(), 2 * x[2::-1])


def test_more_arrays_than_a_launch_takes(cupy):
    xs = [cupy.asarray(np.random.default_rng(seed).normal(size=(8, 3))) for seed in range(20)]
    sums = fastnn.program(lambda *xs: [ops.add(x, xs[0]) for x in xs])
    for _ in range(3):
        for x, found in zip(xs, sums.repeat(xs, range(8), 2, join=True), strict=True):
            np.testing.assert_array_equal(found.get(), x.get() + xs[0].get())


def test_turns_that_plans_are_made_for_each(cupy):
    x = cupy.asarray(np.linspace(-1, 1, 24).reshape(12, 2))
    leaky = fastnn.program(lambda x, alpha: ops.leaky_relu(x, alpha))  # noqa: PLW0108 - repeat names alpha
    alphas = np.repeat([0.1, 0.2, 0.3], 2)
    found = [leaky.repeat([x], range(12), 2, each={"alpha": alphas}, join=True).get() for _ in range(3)]
    wanted = [ops.leaky_relu(x[2 * place : 2 * place + 2], alpha).get() for place, alpha in enumerate(alphas)]
    for each in found:
        np.testing.assert_array_equal(each, np.concatenate(wanted))


def test_more_data_than_graphs(cupy):
    """Each set of data has its graph; the oldest make room for others."""
    add = fastnn.program(ops.add)
    sets = [cupy.asarray(np.random.default_rng(seed).normal(size=(8, 3))) for seed in range(7)]
    for _ in range(2):
        for x in sets:
            y = add.repeat([x, x], range(8), 2, join=True)
            np.testing.assert_array_equal(y.get(), 2 * x.get())


def test_rows_of_csr_matrices(cupy):
    """Whose rows wait for the device: these calls are made in between."""
    rng = np.random.default_rng(2)
    dense = rng.normal(size=(DATA, 7)) * (rng.random((DATA, 7)) < 0.3)
    w, t = (cupy.asarray(rng.normal(size=shape)) for shape in ((7, 5), (DATA, 5)))

    def scored(x, t, rate):
        return ops.mse(ops.leaky_relu(ops.linear(x, w, None), rate), t)[0]

    program, order = fastnn.program(scored), rng.permutation(DATA)
    rates = np.linspace(0.1, 0.5, BATCHES)
    parts = [order[place * BATCH : (place + 1) * BATCH] for place in range(BATCHES)]
    wanted = [
        scored(csr_matrix(cupy, dense[rows]), cupy.asarray(t.get()[rows]), rate).get()
        for rows, rate in zip(parts, rates, strict=True)
    ]
    for _ in range(3):
        found = program.repeat((csr_matrix(cupy, dense), t), order, BATCH, each={"rate": rates})
        np.testing.assert_array_equal(found.get(), wanted)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
@pytest.mark.parametrize("sample", [(), (1,), (3,), (16,), (2, 5)])
def test_rows_of_any_dtype_and_size(cupy, dtype, sample):
    from fastnn.kernels.cuda import batches

    held = np.random.default_rng(0).integers(0, 99, (9, *sample)).astype(dtype)
    index = np.array([3, 8, 0, 0, 9, -1, 2**62])
    found = batches.rows(cupy.asarray(held)[1:], cupy.asarray(index))  # whose address is no multiple of much
    np.testing.assert_array_equal(found.get()[[0, 2, 3]], held[1:][[3, 0, 0]])
    missing = {"uint8": 255, "int64": -1}.get(dtype, np.nan)
    np.testing.assert_array_equal(found.get()[[1, 4, 5, 6]], np.full((4, *sample), missing))


def test_wrong_data_and_orders(cupy):
    x, t = data(cupy)
    first = fastnn.program(lambda x: ops.add(x, x))
    with pytest.raises(TypeError, match=r"data\[1\]: got ndarray of shape \(23,\) and dtype int64, wants a CuPy array"):
        first.repeat([x, t.get()], range(DATA), BATCH)
    with pytest.raises(IndexError, match=r"order: got row 23, wants rows in \[0, 23\)"):
        first.repeat([x], [0, 23], 1)
    with pytest.raises(TypeError, match=r"order: got .*, wants row numbers \(n,\)"):
        first.repeat([x], cupy.asarray(np.zeros(3)), 1)


# -------------------------------------------------------------------------------------------------------- seeded faults


@pytest.fixture
def late(cupy):
    """The host as a device that works as late as it may."""
    with cupy.late("all"):
        yield


def steps_on_streams(cupy):
    """The losses of steps and of turns, by streams in turn, and what they leave; and those op by op."""
    from fastnn.kernels.cuda import batches as rows

    found, wanted, losses, others = Network(cupy), Network(cupy), [], []
    step, (x, t), alive = fastnn.program(copy=True)(found.step), data(cupy), list(batches(cupy, 3))
    for given in alive:
        losses.append(step(*given))
        others.append(wanted.step(*given))
    begun, ended = cupy.cuda.Event(), [cupy.cuda.Event() for _ in alive]
    begun.record()
    for end, given in zip(ended, alive, strict=True):
        stream = cupy.cuda.Stream(non_blocking=True)
        stream.wait_event(begun)
        with stream:
            losses.append(step(*given))
            end.record()
        others.append(wanted.step(*given))
    for end in reversed(ended):  # who comes before whom is for the program to say
        cupy.cuda.get_current_stream().wait_event(end)
    for order, each in epochs(2):
        losses += [step.repeat((x, t), order, BATCH, each=each)]
        on_device = cupy.asarray(order)
        for turn in range(BATCHES):
            some = on_device[turn * BATCH : (turn + 1) * BATCH]
            given = {name: values[turn] for name, values in each.items()}
            others.append(wanted.step(rows.rows(x, some), rows.rows(t, some), **given))
    return [np.hstack([each.get() for each in made]) for made in (losses, others)], found.state(), wanted.state()


def assert_the_same(cupy):
    (losses, others), found, wanted = steps_on_streams(cupy)
    np.testing.assert_array_equal(losses, others)
    assert found == wanted


@host_only
def test_steps_on_a_device_that_works_late(cupy, late):
    assert_the_same(cupy)


def without_numbers(patch, cupy):
    """What a step finds is what the first replay has found: its number, its rate."""
    from fastnn.kernels.cuda import numbers

    patch.setattr(numbers.Table, "host", property(lambda table: np.zeros_like(table._host)))


def without_moving_on(patch, cupy):
    """Every turn is the first one."""
    from fastnn.kernels.cuda import batches as rows

    def stay(entry, record, threads):
        if entry == "next":
            record[0]["moves"] = False
        plain(entry, record, threads)

    plain = rows._launch
    patch.setattr(rows, "_launch", stay)


def with_memory_given_back_early(patch, cupy):
    """A result goes back to the pool before the last call that needs it."""
    from fastnn.kernels.cuda import program

    def shorter(moments, kept):
        found = lifetimes(moments, kept)
        return {block: (first, max(first, last - 1)) for block, (first, last) in found.items()}

    lifetimes = program.lifetimes
    patch.setattr(program, "lifetimes", shorter)


def without_waiting_for_the_first_run(patch, cupy):
    patch.setattr(cupy.cuda.Event, "record", lambda event, stream=None: None)


def without_waiting_for_the_stream_before(patch, cupy):
    from fastnn.kernels.cuda import program

    plain = program.Replay._in_order

    def in_order(replay):
        replay._last_stream = cupy.cuda.get_current_stream().ptr
        return plain(replay)

    patch.setattr(program.Replay, "_in_order", in_order)


def without_counting_masks(patch, cupy):
    """The masks of turns are those of the first one that is sent: nothing is added to their counters."""
    from fastnn.kernels.cuda import batches as rows

    def begin(turns, which, order, numbers):
        sent = numbers.get()
        sent[0] = 0
        plain(turns, which, order, cupy.asarray(sent))

    plain = rows.Turns.begin
    patch.setattr(rows.Turns, "begin", begin)


SEEDED = [
    without_numbers,
    without_counting_masks,
    without_moving_on,
    with_memory_given_back_early,
    without_waiting_for_the_first_run,
    without_waiting_for_the_stream_before,
]


@host_only
@pytest.mark.parametrize("fault", SEEDED)
def test_seeded_faults_are_caught(cupy, late, monkeypatch, fault):
    fault(monkeypatch, cupy)
    with pytest.raises((AssertionError, LaunchError)):
        assert_the_same(cupy)
