"""Programs of ops whose instructions are notes of what their kernels are called with."""

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.kernels.cases import draw, sizes_name, variant_name
from fastnn.kernels.cpu import notes
from fastnn.kernels.cpu.gemm import _column_sums
from fastnn.kernels.cpu.instructions.lowering.noted import NOTED
from fastnn.kernels.formulas.pairs import CHOICES
from fastnn.kernels.table import TABLE
from fastnn.tape import calculate


def same(found, expected):
    """Whether results have the same bits."""
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    return all(a is b is None or np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def assert_near(found, expected, rtol):
    """The same but for rounding, and sums that leave out what is 0 times NaN or infinity."""
    for a, b in zip(found, expected, strict=True):
        assert np.isfinite(a)[np.isfinite(b)].all()
        both = np.isfinite(a) & np.isfinite(b)
        np.testing.assert_allclose(a[both], b[both], rtol=rtol, atol=rtol)


def called(program, capsys):
    program.plan()
    return any("called" in line[45:53] for line in capsys.readouterr().out.splitlines()[1:-1])


def is_small(op, sizes):
    sizes = op.whole(sizes)
    return all(op.elements(spec, sizes) <= 20_000 for spec in op.operands.values())


def cases():
    """All small cases with the defaults, the first two that are not empty with every other variant."""
    for name in NOTED:
        op = TABLE[name]
        small = [sizes for sizes in op.cases if is_small(op, sizes)]
        full = [sizes for sizes in small if all(op.elements(spec, sizes) for spec in (*op.operands.values(),))]
        for place, variant in enumerate(op.variants):
            for sizes in full if place == 0 else full[:2]:
                yield pytest.param(op, sizes, variant, id=f"{name}-{sizes_name_of(op, sizes)}-{variant_name(variant)}")


def sizes_name_of(op, sizes):
    return sizes_name({name: size for name, size in sizes.items() if isinstance(size, int)})


@pytest.mark.parametrize(("op", "sizes", "variant"), list(cases()))
def test_bits(op, sizes, variant, capsys):
    """Recorded with some numbers, replayed with others, by several threads; no Python is run between kernels."""
    for dtype, threads in (("float32", 2), ("float64", 3)):
        drawn = [draw(op, sizes, variant, dtype, np.random.default_rng(seed)) for seed in (1, 2)]
        arrays = [name for name in op.operands if drawn[0].get(name) is not None]
        options = {name: value for name, value in drawn[0].items() if name not in arrays}

        def call(*given, arrays=arrays, options=options):
            return getattr(ops, op.name)(**dict(zip(arrays, given, strict=True)), **options)

        program = fastnn.program(call)
        with fastnn.backends.use_num_threads(threads):
            for given in (*drawn, drawn[0]):
                own, other = ([given[name].copy() for name in arrays] for _ in range(2))
                assert same(program(*own), call(*other))
                assert all(map(np.array_equal, own, other))  # those that are updated in place, too
            assert not called(program, capsys)


def test_a_note_runs_nothing():
    x, total = np.ones((50, 3), "float32"), np.zeros(3, "float32")
    with notes.taking() as noted:
        _column_sums(x.dtype, 1e9, x, total)
        planned = _column_sums.planned(x.dtype, 1.0)
        planned(x, total)
    assert [note.kernel for note in noted.calls] == [_column_sums] * 2
    assert not total.any()
    _column_sums(x.dtype, 1e9, x, total)
    assert (total == 50).all()


def test_notes_are_of_one_thread_and_end():
    with notes.taking():
        assert notes.taken()
        with notes.taking() as inner:
            ops.column_sums(np.ones((5, 2)))
        assert inner.calls
        assert notes.taken()
    assert not notes.taken()


TURNED = {
    "reversed rows": lambda x: x[:, ::-1],
    "every other column": lambda x: x[:, :, ::2],
    "some channels": lambda x: x[..., 1:],
    "stretched": lambda x: np.broadcast_to(x[:, :1], (2, 5, 8, 3)),
    "permuted": lambda x: x.transpose(0, 1, 3, 2),
    "in reverse": lambda x: x.transpose(3, 2, 1, 0),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("turned", TURNED.values(), ids=TURNED)
def test_strided_arrays_are_laid_out(turned, dtype, capsys):
    """Of an op whose kernels are noted, of activations, of sums."""

    def step(x, y):
        y = ops.add(ops.tanh(x), y)
        return ops.max_pool2d(x, (2, 2), (2, 2)), ops.sigmoid_backward(y, x, x), y

    program = fastnn.program(step)
    for seed in range(2):
        x = turned(np.random.default_rng(seed).random((2, 8, 8, 3)).astype(dtype))
        y = np.random.default_rng(seed).random((*x.shape[:2], 1, x.shape[3])).astype(dtype)
        assert same(program(x, y), step(x, y))
    assert not called(program, capsys)


def test_arrays_of_many_strides_are_called_as_they_were(capsys):
    x = np.asfortranarray(np.random.default_rng(0).random((2, 5, 3, 4, 3), "float32"))
    program = fastnn.program(ops.tanh)
    for _ in range(2):
        assert same(program(x), ops.tanh(x))
    assert called(program, capsys)


def test_axes_are_exchanged_by_instructions(capsys):
    """Forwards and back, of four axes, and in another shape behind it."""

    def step(x, dy):
        def loss(x):
            heads = ops.permute(x, (0, 2, 1, 3))
            turned = ops.permute(ops.tanh(heads), (0, 1, 3, 2)).reshape(2, 3, -1)
            return ops.mse(turned, dy)[0], heads

        (_, heads), slopes = fastnn.gradients(loss, (x,))
        return heads, slopes[0], x.transpose(2, 0, 3, 1).reshape(3, -1)

    program = fastnn.program(step)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        x, dy = rng.random((2, 5, 3, 4)), rng.random((2, 3, 20))
        assert same(program(x, dy), step(x, dy))
    assert not called(program, capsys)


@pytest.mark.parametrize("name", ["subtract", "multiply", "average", "divide", "maximum", "minimum"])
@pytest.mark.parametrize(
    "shapes", [((5, 7), (5, 7)), ((5, 7), (7,)), ((7,), (5, 7)), ((5, 1), (1, 7)), ((2, 5, 1), (7,))]
)
def test_pairs(name, shapes, capsys):
    """Equal shapes, one or both stretched: the same bits as one by one, of what chooses the slopes as well."""

    def step(a, b, dy):
        chosen = getattr(ops, f"{name}_backward")(dy, a, b) if name in CHOICES else ()
        return getattr(ops, name)(a, b), *chosen

    program = fastnn.program(step)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        a, b = (rng.integers(1, 4, shape).astype("float32") for shape in shapes)
        dy = rng.random(np.broadcast_shapes(*shapes), "float32")
        assert same(program(a, b, dy), step(a, b, dy))
    assert not called(program, capsys)


def test_multiples_and_quotients_by_a_number(capsys):
    program = fastnn.program(
        lambda x, rate: (calculate("divided", x=x, factor=3.0), calculate("scaled", x=x, factor=rate))
    )
    for rate in (0.1, 0.7):
        x = np.random.default_rng(3).standard_normal((5, 7)).astype("float32")
        assert same(program(x, rate), (x / np.float32(3), x * np.float32(rate)))
    assert not called(program, capsys)


@pytest.mark.parametrize("masked", [False, True])
def test_words_that_there_are_not_stop_a_step(masked, capsys):
    """Of means of words, whose kernels say so themselves: the op's error, and nothing behind it is run."""
    table, total = np.random.default_rng(2).random((6, 3), "float32"), np.zeros(3, "float32")

    def step(words):
        mask = ops.embedding_mask(words, table) if masked else None
        rows = ops.embedding(words, table)
        means = ops.sequence_mean(rows, mask)
        ops.sgd_step(total, ops.column_sums(means), learning_rate=1.0)
        return means

    program = fastnn.program(step)
    for seed in range(3):
        words = np.random.default_rng(seed).integers(0, 6, (4, 5))
        before = total.copy()
        found = program(words).copy()
        after = total.copy()
        total[:] = before
        assert same(found, step(words))
        assert np.array_equal(after, total)
    assert not called(program, capsys)
    words[2, 1] = 6
    with pytest.raises(IndexError, match=r"indices\[2, 1\]: got 6, wants row numbers in \[0, 6\)"):
        program(words)
    assert np.array_equal(total, after)


def test_a_long_stack_keeps_its_memory_apart():
    """Results and scratch memory of many calls share an arena; weights are stepped in between."""
    rng = np.random.default_rng(1)
    kernels = [rng.standard_normal((3, 3, 8, 8)).astype("float32") / 8 for _ in range(6)]
    states = [np.zeros_like(w) for w in kernels]
    x = rng.standard_normal((4, 10, 10, 8)).astype("float32")

    def step(x, kernels, states, rate):
        outputs = [x]
        for w in kernels:
            outputs.append(ops.conv2d(outputs[-1], w, activation="relu", padding="same"))
        dy = outputs[-1]
        for place in reversed(range(len(kernels))):
            given = dy, outputs[place], kernels[place], outputs[place + 1], "relu"
            dy, dw, _ = ops.conv2d_backward(*given, need=("dx", "dw"), padding="same")
            ops.rmsprop_step(kernels[place], dw, states[place], learning_rate=rate)
        return dy

    own, own_states = [w.copy() for w in kernels], [s.copy() for s in states]
    program = fastnn.program(lambda x, rate: step(x, own, own_states, rate))
    for turn in range(3):
        assert same(program(x + turn, 0.01), step(x + turn, kernels, states, 0.01))
        assert all(map(np.array_equal, own, kernels))


def pooled_relu(of_relu, window, strides, dtype, poison=None):
    """A program of the gradient behind a relu and largest numbers of windows, the same op by op, and its argument."""
    rng = np.random.default_rng(3)
    w, b = rng.standard_normal((2, 3, 2, 5)).astype(dtype), rng.standard_normal(5).astype(dtype)
    x = rng.integers(-2, 3, (3, 9, 8, 2)).astype(dtype)
    if poison is not None:
        x[1, 4, 4] = poison

    def step(x):
        y = ops.conv2d(x, w, b, "relu")
        pooled = ops.max_pool2d(y, window, strides)
        slopes = ops.tanh(pooled)
        dy = ops.max_pool2d_backward(slopes, y, pooled, window, strides)
        return of_relu(dy, x, w, y)

    return fastnn.program(step), step, x


OF_RELU = {
    "a layer's": lambda dy, x, w, y: ops.conv2d_backward(dy, x, w, y, "relu"),
    "its own": lambda dy, x, w, y: ops.relu_backward(dy, y, y),
}


@pytest.mark.parametrize("poison", [None, np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("window", "strides"), [((2, 2), (2, 2)), ((3, 3), (2, 1))])
@pytest.mark.parametrize("name", OF_RELU)
def test_a_relu_s_derivative_goes_along_with_that_of_largest_numbers(name, window, strides, dtype, poison, capsys):
    """Windows side by side and overlapping, numbers that tie, zeros and NaN among them."""
    program, step, x = pooled_relu(OF_RELU[name], window, strides, dtype, poison)
    for turn in range(2):
        found, expected = program(x + turn), step(x + turn)
        if isinstance(found, tuple):  # the sums of dw are those of the largest numbers' windows
            assert_near(found, expected, 1e-4 if dtype == "float32" else 1e-12)
        else:
            assert same(found, expected)
    program.plan()
    assert "backward" not in [line[27:42].strip() for line in capsys.readouterr().out.splitlines()[1:-1]]


def test_a_gradient_that_is_seen_keeps_its_relu_apart(capsys):
    program, step, x = pooled_relu(lambda dy, x, w, y: (dy, ops.relu_backward(dy, y, y)), (2, 2), (2, 2), "float32")
    for turn in range(2):
        assert same(program(x + turn), step(x + turn))
    program.plan()
    assert "backward" in [line[27:42].strip() for line in capsys.readouterr().out.splitlines()[1:-1]]
