"""Steps of a layer by CSR matrices in a recorded step: the bits of the same ops one by one, whoever looks at states."""

from __future__ import annotations

import io

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.kernels.cases import variant_name
from fastnn.kernels.table import TABLE
from tests.cuda_host.places import host_only

scipy_sparse = pytest.importorskip("scipy.sparse")

ROWS, FEATURES, BATCH = 27, 15, 3
PLAIN = {"velocity": None, "mean": None}
LAZY = "gradient and step of rows with non-zeros"

OPTIMIZERS = [
    pytest.param(name, variant, id=f"{name}-{variant_name(variant)}")
    for name, op in TABLE.items()
    if op.module == "optim"
    for variant in op.variants
]


def samples(cupy, dtype="float32"):
    """A matrix of few non-zeros a row, with a column that no row has and one that only the last has."""
    from fastnn.kernels.cuda import csr

    rng = np.random.default_rng(0)
    dense = np.where(rng.random((ROWS, FEATURES)) < 0.1, rng.normal(size=(ROWS, FEATURES)), 0).astype(dtype)
    dense[:, 7], dense[:, 11] = 0, np.arange(ROWS) == ROWS - 1
    matrix = scipy_sparse.csr_matrix(dense)
    parts = [cupy.asarray(part) for part in (matrix.data, matrix.indices, matrix.indptr)]
    return csr.bounded(*parts, matrix.shape, int(np.diff(matrix.indptr).max()))


class Layer:
    """A layer of these samples, and its step by an optimizer's op; ``more`` is done behind it in each turn."""

    def __init__(self, cupy, name="rmsprop_step", variant=PLAIN, dtype="float32", units=7, more=None):
        rng, op = np.random.default_rng(1), TABLE[name]
        self.x, self.t = samples(cupy, dtype), cupy.asarray(rng.normal(size=(ROWS, units)).astype(dtype))
        self.w, self.b = ([cupy.asarray(rng.normal(size=shape).astype(dtype))] for shape in ((FEATURES, units), units))
        of_state = [each for each in op.operands if each not in ("w", "dw") and variant.get(each, "") is not None]
        self.states = {
            each: [cupy.asarray(rng.random(w[0].shape).astype(dtype) / 100) for w in (self.w, self.b)]
            for each in of_state
        }
        self.fixed = {key: value for key, value in variant.items() if key in op.options}
        self.op, self.options, self.more = name, op.options, more

    def step(self, x, t, number):
        w, b = self.w[0], self.b[0]
        y = ops.linear(x, w, b, "tanh")
        loss, dy = ops.mse(y, t)
        _, dw, db = ops.linear_backward(dy, x, w, y, "tanh", need=("dw", "db"))
        own = {"step": number, "learning_rate": number * 0.01}
        own = {**self.fixed, **{key: value for key, value in own.items() if key in self.options}}
        getattr(ops, self.op)([w, b], [dw, db], **self.states, **own)
        return loss if self.more is None else (loss, self.more(self))

    @property
    def everything(self):
        return [array.get() for array in (*self.w, *self.b, *(each for pair in self.states.values() for each in pair))]


def trained(cupy, calls=3, **how):
    """A program's text behind calls and epochs, each of which leaves what the ops do one by one."""
    one, other = Layer(cupy, **how), Layer(cupy, **how)
    program, rng, count = fastnn.program(other.step), np.random.default_rng(2), 0

    def batch(rows):
        from fastnn.kernels.cuda import batches, csr

        index = cupy.asarray(rows)
        return csr.gather(one.x, index), batches.rows(one.t, index)

    for _ in range(calls):
        order = rng.permutation(ROWS)
        numbers = range(count + 1, count + 1 + ROWS // BATCH)
        count += ROWS // BATCH
        program.repeat((other.x, other.t), order, BATCH, each={"number": list(numbers)})
        for number, rows in zip(numbers, np.split(order, ROWS // BATCH), strict=True):
            one.step(*batch(rows), number)
        for found, wanted in zip(other.everything, one.everything, strict=True):
            np.testing.assert_array_equal(found, wanted)
    for number in (count + 1, count + 2):
        for step in (one.step, program):
            step(*batch(np.arange(number, number + BATCH)), number)
        for found, wanted in zip(other.everything, one.everything, strict=True):
            np.testing.assert_array_equal(found, wanted)
    program.plan(said := io.StringIO())
    return said.getvalue()


def left_by(cupy, program, layer, calls=2):
    """What epochs leave."""
    for _ in range(calls):
        numbers = [*range(1, 1 + ROWS // BATCH)]
        program.repeat((layer.x, layer.t), np.arange(ROWS), BATCH, each={"number": numbers})
    return layer.everything


@pytest.mark.parametrize(("name", "variant"), OPTIMIZERS)
def test_every_optimizer(cupy, name, variant):
    """RMSprop alone has states that shrink without a gradient and change nothing: its rows wait."""
    plan = trained(cupy, name=name, variant=variant, units=5, calls=1)
    assert "gradient and step" in plan
    plain = name == "rmsprop_step" and variant.items() >= PLAIN.items()
    assert (LAZY in plan) == plain
    assert "linear_backward  linear_backward" not in plan
    assert "called" not in plan


@pytest.mark.parametrize("units", [1, 33, 65])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_that_wait(cupy, monkeypatch, units, dtype):
    """In strips of all widths."""
    from fastnn.kernels.cuda import csr

    for columns in (1, 2, 4):
        monkeypatch.setattr(csr, "_lane_columns", lambda n, m, columns=columns: columns)
        assert LAZY in trained(cupy, units=units, dtype=dtype, calls=1)


def of_state(layer):
    return ops.add(layer.states["mean_square"][0], layer.states["mean_square"][0])


def of_weights(layer):
    return ops.add(layer.w[0], layer.w[0])


@pytest.mark.parametrize(("more", "waits"), [(of_state, False), (of_weights, True)])
def test_states_that_somebody_looks_at_in_a_turn_do_not_wait(cupy, more, waits):
    """Weights do not change where there is no gradient: who looks at them sees what they are."""
    one, other = Layer(cupy), Layer(cupy, more=more)
    plain, program = fastnn.program(one.step), fastnn.program(other.step)
    for found, wanted in zip(left_by(cupy, program, other), left_by(cupy, plain, one), strict=True):
        np.testing.assert_array_equal(found, wanted)
    program.plan(said := io.StringIO())
    assert (LAZY in said.getvalue()) == waits


@host_only
def test_the_same_bits_in_any_order_of_blocks(cupy, monkeypatch):
    left = []
    for seed in range(3):
        monkeypatch.setattr(cupy, "seed", seed)
        layer = Layer(cupy)
        left.append(left_by(cupy, fastnn.program(layer.step), layer))
    for other in left[1:]:
        assert all(map(np.array_equal, left[0], other))


FAULTS = {
    "steps of a row counted twice": ("csr.cu", "*given.made - 1", "*given.made"),
    "rows that forget what they have seen": ("csr.cuh", "given.last[at.warp] = *given.made", "(void)given.last"),
    "steps that nobody counts": ("transpose.cu", "++*given.made", "(void)given.made"),
    "one missed step for many": ("csr.cuh", "at.first + c * LANES, steps);", "at.first + c * LANES, 1);"),
}


@host_only
@pytest.mark.parametrize("name", FAULTS)
def test_seeded_faults_are_caught(cupy, monkeypatch, name):
    from fastnn.kernels.cuda import csr, launch

    file, right, wrong = FAULTS[name]
    read = launch._file
    assert right in read(file)
    monkeypatch.setattr(launch, "_file", lambda each: read(each).replace(right, wrong) if each == file else read(each))
    launch.kernel.cache_clear()
    csr._kernel.cache_clear()
    with pytest.raises(AssertionError):
        trained(cupy)
    launch.kernel.cache_clear()
    csr._kernel.cache_clear()


@host_only
def test_what_rows_have_missed_is_made_up_for_where_a_run_fails(cupy, monkeypatch):
    """Whoever looks at the states then sees those of the steps that were made."""
    one, other = Layer(cupy), Layer(cupy)
    plain, program = fastnn.program(one.step), fastnn.program(other.step)
    for layer, step in ((one, plain), (other, program)):
        left_by(cupy, step, layer, calls=1)
    launch, made = cupy.Graph.launch, []

    def fail(graph, stream=None):
        if made:
            raise KeyboardInterrupt
        made.append(1)
        launch(graph, stream)

    monkeypatch.setattr(cupy.Graph, "launch", fail)
    with pytest.raises(KeyboardInterrupt):
        left_by(cupy, program, other, calls=1)
    monkeypatch.setattr(cupy.Graph, "launch", launch)
    done = 8 * BATCH  # a graph of many turns
    plain.repeat((one.x, one.t), np.arange(done), BATCH, each={"number": [*range(1, 1 + done // BATCH)]})
    for found, wanted in zip(other.everything, one.everything, strict=True):
        np.testing.assert_array_equal(found, wanted)
