"""Programs of CSR matrices: replays give the bits of the same ops one by one, batches of an epoch those of its rows."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.backends import use_num_threads
from fastnn.kernels.cases import variant_name
from fastnn.kernels.cpu.instructions.lowering.sparse import Room
from fastnn.kernels.graph import Block, Sparse, View
from fastnn.kernels.table import TABLE

scipy_sparse = pytest.importorskip("scipy.sparse")

STEPS = [
    pytest.param(name, variant, id=f"{name}-{variant_name(variant)}")
    for name, op in TABLE.items()
    if op.module == "optim"
    for variant in op.variants
]


def same(got, expected):
    """Whether arrays, or lists of such, hold the same bits."""
    if isinstance(expected, (list, tuple)):
        return len(got) == len(expected) and all(map(same, got, expected))
    return got.dtype == expected.dtype and got.shape == expected.shape and got.tobytes() == expected.tobytes()


def made(rows, columns, dtype="float32", density=0.2, seed=0, kind="csr_array"):
    """A matrix with an empty row, an empty column and one that few rows have."""
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((rows, columns)) * (rng.random((rows, columns)) < density)
    dense[rows // 2], dense[:, 2 % columns] = 0, 0
    dense[1:, 3 % columns] = 0
    return getattr(scipy_sparse, kind)(dense.astype(dtype))


class Network:
    """Two layers, the first one of a CSR matrix, and a training step by RMSprop, op by op; ``how`` it is written."""

    def __init__(self, widths, dtype="float32", how="layer steps"):
        rng = np.random.default_rng(0)
        k, m, classes = widths
        shapes = (k, m), (m,), (m, classes), (classes,)
        self.arrays = [(rng.standard_normal(shape) / 8).astype(dtype) for shape in shapes]
        self.states = [np.zeros_like(w) for w in self.arrays]
        self.how = how

    def step(self, x, t, rate):
        w1, b1, w2, b2 = self.arrays
        s1, sb1, s2, sb2 = self.states
        h = ops.linear(x, w1, b1, "relu")
        y = ops.linear(h, w2, b2)
        loss, dy = ops.softmax_cross_entropy(y, t)
        if self.how == "layer steps":
            dh = ops.linear_rmsprop_step(dy, h, w2, y, s2, b2, sb2, learning_rate=rate)
            ops.linear_rmsprop_step(dh, x, w1, h, s1, b1, sb1, activation="relu", need=(), learning_rate=rate)
        else:
            dh, dw2, db2 = ops.linear_backward(dy, h, w2, y)
            _, dw1, db1 = ops.linear_backward(dh, x, w1, h, "relu", need=("dw", "db"))
            ops.rmsprop_step(self.arrays, [dw1, db1, dw2, db2], self.states, learning_rate=rate)
        return loss, y

    @property
    def everything(self):
        return [*self.arrays, *self.states]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("how", ["layer steps", "gradients"])
@pytest.mark.parametrize("widths", [(30, 20, 7), (200, 64, 10), (150, 128, 7), (50, 300, 5), (60, 512, 3)])
def test_training(widths, how, dtype, threads):
    """Calls with batches of other non-zeros, then epochs with a short last batch and rows that come twice."""
    one, other = Network(widths, dtype, how), Network(widths, dtype, how)
    x, rng = made(233, widths[0], dtype), np.random.default_rng(1)
    t, step = rng.integers(0, widths[-1], 233), fastnn.program(other.step)
    with use_num_threads(threads):
        for turn in range(3):
            rows = rng.integers(0, 233, 40)
            (loss, y), (expected, outputs) = (f(x[rows], t[rows], 0.01 / (turn + 1)) for f in (step, one.step))
            assert loss == expected
            assert same(y, outputs)
            assert same(other.everything, one.everything)
        for _ in range(2):
            order = np.concatenate([rng.permutation(233), rng.integers(0, 233, 9)])
            losses, y = step.repeat((x, t), order, 50, rate=0.01)
            results = [one.step(x[rows], t[rows], 0.01) for rows in np.split(order, range(50, len(order), 50))]
            assert losses.tolist() == [loss for loss, _ in results]
            assert same(y, results[-1][1])
            assert same(other.everything, one.everything)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("m", [5, 130])
@pytest.mark.parametrize(("name", "variant"), STEPS)
def test_steps_of_every_optimizer(name, variant, m, threads):
    """With the step's number as an argument where it has one; in an epoch too."""
    op = TABLE[f"linear_{name}"]
    fixed = {option: value for option, value in variant.items() if option in op.options}
    states = [each for each in TABLE[name].operands if each not in ("w", "dw") and variant.get(each, ...) is not None]
    x, rng = made(90, 40), np.random.default_rng(2)
    dy = rng.standard_normal((90, m)).astype("float32")
    numbered = "step" in op.options

    def parameters():
        fresh = np.random.default_rng(3)
        arrays = {"w": fresh.standard_normal((40, m)).astype("float32")}
        return arrays | {state: fresh.random((40, m)).astype("float32") / 100 for state in states}

    def run(arrays):
        def step(x, dy, turn):
            options = {**fixed, **({"step": turn} if numbered else {})}
            getattr(ops, op.name)(dy, x, y=dy, need=(), **arrays, **options)
            return turn * 2

        return step

    one, other = parameters(), parameters()
    step, expected = fastnn.program(run(other)), run(one)
    with use_num_threads(threads):
        for turn in range(1, 4):
            rows = rng.integers(0, 90, 30)
            step(x[rows], dy[rows], turn)
            expected(x[rows], dy[rows], turn)
        assert same([*other.values()], [*one.values()])
        order = rng.permutation(90)
        step.repeat((x, dy), order, 30, each={"turn": [4, 5, 6]})
        for turn, rows in enumerate(np.split(order, 3), 4):
            expected(x[rows], dy[rows], turn)
    assert same([*other.values()], [*one.values()])


@pytest.mark.parametrize("kind", ["csr_matrix", "csr_array"])
@pytest.mark.parametrize("backend", ["cpu", "naive"])
def test_products_and_gradients(backend, kind):
    """Of all activations that look at one number or at a row, with a bias and without; kept by both backends."""
    rng = np.random.default_rng(4)
    w, b = rng.standard_normal((12, 70)), rng.standard_normal(70)

    def run(x, dy):
        outputs = [ops.matmul(x, w), ops.linear(x, w), ops.linear(x, w, b, "softmax"), ops.linear(x, w, None, "tanh")]
        return [*outputs, *ops.linear_backward(dy, x, w, outputs[3], "tanh")]

    program = fastnn.program(run)
    with fastnn.use_backend(backend):
        for seed in range(3):
            x = made(9, 12, "float64", seed=seed, kind=kind)
            dy = rng.standard_normal((9, 70))
            assert same(program(x, dy), run(x, dy))


def test_gradients_of_a_loss_of_ones_own():
    rng = np.random.default_rng(5)
    w, b, t = rng.standard_normal((12, 5)), rng.standard_normal(5), rng.standard_normal((9, 5))

    def run(x):
        def loss(w, b):
            return ops.mse(ops.linear(x, w, b, "softplus"), t)[0]

        return fastnn.gradients(loss, (w, b))[1]

    program = fastnn.program(run)
    for seed in range(3):
        x = made(9, 12, "float64", seed=seed)
        assert same(program(x), run(x))


def test_dense_data_beside_it_in_any_place():
    """CSR data first, last and between arrays, two of them, one twice."""
    rng = np.random.default_rng(6)
    a, b, dense = made(50, 6, seed=1), made(50, 8, seed=2), rng.standard_normal((50, 4)).astype("float32")
    u, v, w = (rng.standard_normal((k, 3)).astype("float32") for k in (6, 8, 4))

    def run(x, d, z, again):
        return [ops.linear(x, u), ops.linear(d, w), ops.linear(z, v), ops.linear(again, u)]

    program, order = fastnn.program(run), rng.permutation(50)
    for _ in range(2):
        got = program.repeat((a, dense, b, a), order, 25)
        rows = order[25:]
        assert same(got, run(a[rows], dense[rows], b[rows], a[rows]))


def test_a_matrix_from_outside():
    """It is used as it is at each call."""
    rng = np.random.default_rng(6)
    x, w, s, dy = made(9, 12), *(rng.random(shape).astype("float32") for shape in ((12, 5), (12, 5), (9, 5)))

    def run(dy, w, s):
        ops.linear_rmsprop_step(dy, x, w, dy, s, need=())
        return ops.linear(x, w), ops.linear_backward(dy, x, w, dy)

    program, (v, u) = fastnn.program(run), (w.copy(), s.copy())
    for _ in range(3):
        results, expected = program(dy, w, s), run(dy, v, u)
        assert same([results[0], *results[1], w, s], [expected[0], *expected[1], v, u])
        x.data *= 2


def test_order_and_duplicates_of_columns_are_kept():
    parts = np.array([0.1, 0.2, 0.3, 0.4, 0.5], "f"), np.array([2, 0, 2, 1, 1]), np.array([0, 3, 5])
    x, w = scipy_sparse.csr_array(parts, shape=(2, 3)), np.random.default_rng(0).standard_normal((3, 4)).astype("f")
    assert not x.has_canonical_format
    dy = np.ones((2, 4), "f")

    def run(x, dy):
        y = ops.linear(x, w)
        return y, ops.linear_backward(dy, x, w, y, need=("dw",))[1]

    program = fastnn.program(run)
    for _ in range(2):
        assert same(program(x, dy), run(x, dy))
        assert same(program.repeat((x, dy), [1, 0, 0, 1], 2), run(x[[0, 1]], dy))


def malformed():
    """Parts of matrices that SciPy lets pass when they are changed afterwards."""
    yield "column too large", lambda x: x.indices.__setitem__(4, x.shape[1])
    yield "column below 0", lambda x: x.indices.__setitem__(4, -1)
    yield "rows out of order", lambda x: x.indptr.__setitem__(2, x.indptr[4] + 1)
    yield "before the first", lambda x: x.indptr.__setitem__(0, -1)
    yield "behind the last", lambda x: x.indptr.__setitem__(-1, x.nnz + 1)


@pytest.mark.parametrize(("what", "spoil"), list(malformed()))
def test_malformed_matrices_are_named_before_anything_is_written(what, spoil):
    network = Network((30, 20, 7))
    step, t = fastnn.program(network.step), np.zeros(20, int)
    step(made(20, 30), t, 0.1)
    kept = [array.copy() for array in network.everything]
    x = made(20, 30)
    spoil(x)
    for run, name in (
        (lambda: step(x, t, 0.1), "x"),
        (lambda: step.repeat((x, t), np.arange(20), 5, rate=0.1), r"data\[0\]"),
    ):
        with pytest.raises(ValueError, match=f"{name}: got a malformed CSR matrix"):
            run()
    assert same(network.everything, kept)


def test_what_does_not_fit_is_named():
    network = Network((30, 20, 7))
    step, t = fastnn.program(network.step), np.zeros(20, int)
    kept = [array.copy() for array in network.everything]
    for x, error, message in (
        (made(20, 31), ValueError, "w: got shape|x: got shape"),
        (made(20, 30, "float64"), TypeError, "got dtype"),
        (made(20, 30).astype(int), TypeError, "x: got"),
        (made(20, 30).tocsc(), TypeError, "x: got"),
    ):
        with pytest.raises(error, match=message):
            step(x, t, 0.1)
    with pytest.raises(ValueError, match=r"data\[1\]: got 20 rows, wants 21"):
        step.repeat((made(21, 30), t), [0], 1, rate=0.1)
    with pytest.raises(IndexError, match="order: got row 20"):
        step.repeat((made(20, 30), t), [20], 1, rate=0.1)
    with pytest.raises(TypeError, match="transpose: got a CSR matrix in a program"):
        fastnn.program(lambda x: x.T)(made(4, 4))
    with pytest.raises(TypeError, match="result: got a CSR matrix in a program"):
        fastnn.program(lambda x: x)(made(4, 4))
    assert same(network.everything, kept)


def test_wrong_labels_in_the_middle_of_an_epoch():
    """The batches before it have been trained on, none behind it: rows of weights that none of them touched too."""
    one, other = Network((30, 64, 7)), Network((30, 64, 7))
    x, t = made(40, 30, density=0.05), np.zeros(40, int)
    step = fastnn.program(other.step)
    step(x[:5], t[:5], 0.1)
    one.step(x[:5], t[:5], 0.1)
    t[27] = 7
    for threads in (1, 2):
        with use_num_threads(threads), pytest.raises(ValueError, match="targets: got"):
            step.repeat((x, t), np.arange(40), 5, rate=0.1)
        for first in range(0, 25, 5):
            one.step(x[first : first + 5], t[first : first + 5], 0.1)
        assert same(other.everything, one.everything)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["sgd_step", "adagrad_step", "rmsprop_step", "adam_step"])
def test_rows_that_are_touched_seldom_or_never(name, threads):
    """Long epochs of few non-zeros; the rate changes, and calls of other batches come in between."""
    rng = np.random.default_rng(7)
    x, dy = made(400, 90, density=0.01), rng.standard_normal((400, 64)).astype("float32")
    states = [each for each in ("accumulator", "mean_square", "m", "v") if each in TABLE[name].operands]

    def parameters():
        fresh = np.random.default_rng(8)
        arrays = {each: fresh.random((90, 64)).astype("float32") for each in ("w", *states)}
        return arrays | ({"step": 3} if name == "adam_step" else {})

    def run(given):
        def step(x, dy, rate):
            getattr(ops, f"linear_{name}")(dy, x, y=dy, need=(), learning_rate=rate, **given)

        return step

    one, other = parameters(), parameters()
    expected, step = run(one), fastnn.program(run(other))
    rates = np.linspace(0.1, 0.2, 100)
    with use_num_threads(threads):
        for _ in range(2):
            order = rng.permutation(400)
            step.repeat((x, dy), order, 4, each={"rate": rates})
            step(x[:7], dy[:7], 0.1)
            for rows, rate in zip(order.reshape(100, 4), rates, strict=True):
                expected(x[rows], dy[rows], rate)
            expected(x[:7], dy[:7], 0.1)
            assert same([other[each] for each in ("w", *states)], [one[each] for each in ("w", *states)])


def test_weights_and_states_that_others_look_at():
    """A penalty, a product of the weights, a state that is returned: what each turn finds is as op by op."""
    rng = np.random.default_rng(9)
    x, dy = made(60, 30, density=0.05), rng.standard_normal((60, 8)).astype("float32")

    def run(w, s, kind):
        def step(x, dy):
            before = ops.matmul(w.T, w) if kind == "product" else None
            ops.linear_rmsprop_step(dy, x, w, dy, s, need=())
            if kind == "penalty":
                return before, ops.l1_l2_penalty(w, 0.01, 0.02)[0]
            return before, ops.half_sse(s, w)[0]

        return step

    for kind in ("penalty", "product", "state"):
        (w, s), (v, u) = ([np.full((30, 8), number, "float32") for number in (1.0, 0.5)] for _ in range(2))
        step, expected = fastnn.program(run(w, s, kind)), run(v, u, kind)
        for _ in range(2):
            product, numbers = step.repeat((x, dy), np.arange(60), 10)
            results = [expected(x[first : first + 10], dy[first : first + 10]) for first in range(0, 60, 10)]
            assert np.array_equal(numbers, [number for _, number in results])
            assert product is None or same(product, results[-1][0])
            assert same([w, s], [v, u])


def test_wrong_labels_behind_a_step():
    """What comes before them in their batch has been done."""

    def run(w, s):
        def step(x, dy, t):
            ops.linear_rmsprop_step(dy, x, w, dy, s, need=())
            return ops.softmax_cross_entropy(dy, t)[0]

        return step

    x, dy = made(40, 30, density=0.05), np.random.default_rng(1).standard_normal((40, 8)).astype("float32")
    t = np.zeros(40, int)
    (w, s), (v, u) = ([np.full((30, 8), number, "float32") for number in (1.0, 0.5)] for _ in range(2))
    step, expected = fastnn.program(run(w, s)), run(v, u)
    step.repeat((x, dy, t), np.arange(40), 5)
    for first in range(0, 40, 5):
        expected(x[first : first + 5], dy[first : first + 5], t[first : first + 5])
    t[27] = 9
    with pytest.raises(ValueError, match="targets: got"):
        step.repeat((x, dy, t), np.arange(40), 5)
    for first in range(0, 25, 5):
        expected(x[first : first + 5], dy[first : first + 5], t[first : first + 5])
    with pytest.raises(ValueError, match="targets: got"):
        expected(x[25:30], dy[25:30], t[25:30])
    assert same([w, s], [v, u])


def test_a_matrix_whose_values_are_the_weights():
    """Its values change as the weights do: as op by op."""

    def run(w):
        def step(x, dy):
            ops.linear_sgd_step(dy, x, w, dy, need=())
            return ops.linear(x, w)

        return step

    results = []
    for program in (lambda f: f, fastnn.program):
        w = np.linspace(-1, 1, 16).astype("f").reshape(4, 4)
        x = scipy_sparse.csr_array((w.ravel(), np.tile(np.arange(4), 4), np.arange(0, 17, 4)), shape=(4, 4))
        assert np.may_share_memory(x.data, w)
        step, apart = program(run(w)), made(4, 4)
        found = [np.array(step(each, np.ones((4, 4), "f"))) for each in (apart, x, apart)]
        results.append([*found, w])
    assert same(*results)


def test_a_step_is_fused_into_its_gradient_unless_somebody_looks_at_that(capsys):
    w, s, x, dy = np.ones((30, 20), "f"), np.zeros((30, 20), "f"), made(8, 30), np.ones((8, 20), "f")

    def run(x, dy, returns):
        dw = ops.linear_backward(dy, x, w, dy, need=("dw",))[1]
        ops.rmsprop_step(w, dw, s)
        return dw if returns else None

    for returns in (False, True):
        program = fastnn.program(run)
        program(x, dy, returns)
        program.plan()
        printed = capsys.readouterr().out
        assert ("sparse step" in printed) != returns
        assert "8x30" in printed


@pytest.mark.parametrize("ordered", [False, True])
def test_a_batch_has_no_more_non_zeros_than_int32_counts(ordered):
    indptr = View(Block(0, argument=0), 0, (3,), (8,), np.dtype(np.int64))
    room = Room(Sparse(indptr, indptr, indptr, (2, 9), object, ordered), Block(0), Block(0), np.dtype(np.float32))
    most = 2**31 - 1
    assert room.most([np.array([7, 7, 7 + most])]) == most
    with pytest.raises(ValueError, match="x: got CSR rows that may hold 2,147,483,648 non-zeros, wants at most"):
        room.most([np.array([7, 7, 8 + most])])
