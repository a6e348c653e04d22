"""Arrays of other libraries in the host's memory: taken by all of the API, without a copy, where they may be.

The other library is one that hands NumPy's memory out by DLPack and offers nothing else; tests/peers has real ones.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import discrete, layers, mathematics, models, numerics, ops, places, spatial, utils
from fastnn.adoption import adopted
from fastnn.kernels.cases import draw
from fastnn.kernels.table import TABLE


class Foreign:
    """An array of a library that NumPy does not know."""

    def __init__(self, array, reason=""):
        self.array, self.reason = array, reason

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: f"foreign.{self.array.dtype}")

    def __len__(self):
        return len(self.array)

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self, **options):
        if self.reason:
            raise BufferError(self.reason)
        return self.array.__dlpack__(**options)


def foreign(value):
    if isinstance(value, (list, tuple)):
        return [*map(foreign, value)]
    return Foreign(value) if isinstance(value, np.ndarray) else value


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("op", TABLE.values(), ids=TABLE)
def test_every_op_gives_the_same_bits_and_writes_where_the_arrays_lie(op, rng):
    given = draw(op, op.cases[-1], op.variants[0], "float32", rng)
    ours, theirs = ({n: np.copy(v) if isinstance(v, np.ndarray) else v for n, v in given.items()} for _ in "ab")
    for _ in range(2):  # as it is checked, and as it is remembered
        expected = getattr(ops, op.name)(**ours)
        found = getattr(ops, op.name)(**{name: foreign(value) for name, value in theirs.items()})
    for a, b in zip(*(each if isinstance(each, tuple) else (each,) for each in (expected, found)), strict=True):
        assert a is None or type(a) is type(b)
        np.testing.assert_array_equal(a, b)
    for name in given:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_no_copy_is_made():
    a = np.ones((3, 4), "float32")
    assert np.shares_memory(adopted("x", Foreign(a)), a)
    assert np.shares_memory(adopted("x", Foreign(a[:, ::2])), a)
    out = np.empty((3, 3), "float32")
    ops.matmul(Foreign(a), Foreign(a.T), out=Foreign(out))
    np.testing.assert_array_equal(out, 4.0)
    assert adopted("x", a) is a


def test_lists_of_a_step():
    weights, gradients = ([np.full(n, k, "float32") for n in (3, 5)] for k in (1, 2))
    ops.sgd_step(foreign(weights), foreign(gradients), learning_rate=0.5)
    assert all((w == 0).all() for w in weights)
    with pytest.raises(TypeError, match=r"^dw\[1\]: got Foreign of shape \(5,\) .*cannot be taken: it is kept"):
        ops.sgd_step(weights, [gradients[0], Foreign(gradients[1], "it is kept")])


def test_what_is_read_only_is_not_written_to():
    a = np.ones(4, "float32")
    a.flags.writeable = False
    assert ops.relu(Foreign(a)).sum() == 4
    with pytest.raises(ValueError, match=r"^out: got a read-only array"):
        ops.relu(a, out=Foreign(a))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Foreign(np.ones(3, "float16")), r"^x: got Foreign .*float16, wants dtype float32 or float64; cast it first"),
        (Foreign(np.ones(3, "complex64")), r"^x: got ndarray .*complex64, wants dtype float32 or float64"),
        (Foreign(np.ones(3), "use detach"), r"^x: got Foreign of shape \(3,\) .* that cannot be taken: use detach"),
    ],
)
def test_what_is_refused(value, message):
    with pytest.raises(TypeError, match=message):
        ops.relu(value)
    with pytest.raises(TypeError, match=message.replace("x: ", "w: ").replace("relu", "pack")):
        ops.pack(value)


def test_packed_joined_and_moved_axes():
    a = np.arange(12, dtype="float32").reshape(3, 4)
    np.testing.assert_array_equal(ops.unpack(ops.pack(Foreign(a))), a)
    np.testing.assert_array_equal(ops.concatenate([Foreign(a), a], axis=0), np.concatenate([a, a]))
    np.testing.assert_array_equal(ops.permute(Foreign(a), (1, 0)), a.T)


# A call of every function that is made of ops and takes arrays.
A, COUNTS, TRUTH = (
    np.arange(1.0, 13.0, dtype="float32").reshape(3, 4),
    np.arange(3),
    np.array([True, False, True, True]),
)
MADE_OF_OPS = {
    **dict.fromkeys({*discrete.NAMES, *numerics.NAMES, *places.NAMES, *mathematics.NAMES}, (A,)),
    **{name: (A, A[::-1]) for name in discrete.NAMES if name.startswith(("equal", "greater", "less", "not_"))},
    **dict.fromkeys(
        ("allclose", "cdist", "divide_no_nan", "hypot", "inner", "isin", "true_divide", "vdot"), (A, A[::-1])
    ),
    **dict.fromkeys(("floor_divide", "isclose", "logaddexp", "mod", "outer"), (A, A[::-1])),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor"), (TRUTH, TRUTH)),
    **{name: ([A, A], 1) for name in ("concatenate", "stack")},
    **dict.fromkeys(("hstack", "vstack"), ([A, A],)),
    "bincount": (COUNTS, COUNTS),
    "full_like": (A, 2.0),
    "multi_hot": (COUNTS[:, None], 3),
    "scatter_update": (A, COUNTS[:2, None], A[1:]),
    "tensordot": (A, A, ([0, 1], [0, 1])),
    "unravel_index": (COUNTS, (2, 2)),
    "broadcast_to": (A, (2, 3, 4)),
    "digitize": (A, A[0]),
    "searchsorted": (A[0], A),
    "in_top_k": (COUNTS, A, 2),
    "moments": (A, 0),
    "quantile": (A, 0.3),
    "roll": (A, 1),
    "scatter": (COUNTS[:, None], A, (5, 4)),
    "segment_sum": (A, COUNTS, 4),
    "slice": (A, (1, 0), (2, 3)),
    "slice_update": (A, (1, 0), A[:2, :3]),
    "take": (A, COUNTS, 1),
    "take_along_axis": (A, COUNTS[:, None], 1),
    "top_k": (A, 2),
    **dict.fromkeys(spatial.NAMES, (A.reshape(2, 3, 2), 2)),
    "conv": (A.reshape(2, 3, 2), np.ones((2, 2, 1), "float32")),
    "cast": (A, "float64"),
    "clip": (A, 2.0, 5.0),
    "dot": (A, A.T.copy()),
    "einsum": ("ij,kj->ik", A, A),
    "expand_dims": (A, 1),
    "get_item": (A, 1),
    "moveaxis": (A, 0, 1),
    "one_hot": (COUNTS, 3),
    "pad": (A, 1),
    "permute": (A, (1, 0)),
    "power": (A, 2.0),
    "repeat": (A, 2),
    "reshape": (A, (4, 3)),
    "split": (A, 2, 1),
    "swapaxes": (A, 0, 1),
    "tile": (A, 2),
    "where": (TRUTH, A, -A),
}
for name in ("arange", "eye", "full", "linspace", "ndim", "ones", "shape", "zeros"):  # of no array
    del MADE_OF_OPS[name]


@pytest.mark.parametrize("name", sorted(MADE_OF_OPS))
def test_what_is_made_of_ops_answers_as_for_numpys(name):
    arguments = MADE_OF_OPS[name]
    expected = getattr(ops, name)(*arguments)
    found = getattr(ops, name)(*map(foreign, arguments))
    for a, b in zip(*(each if isinstance(each, tuple) else (each,) for each in (expected, found)), strict=True):
        assert type(a) is type(b)
        np.testing.assert_array_equal(a, b)


def test_halves_are_cast():
    halves = Foreign(np.ones(3, "float16"))
    assert ops.cast(halves, "float32").dtype == "float32"
    assert ops.convert_to_numpy(halves).dtype == "float16"
    with pytest.raises(TypeError, match=r"^x: got Foreign .*wants dtype float32 or float64; cast it first"):
        ops.sum(halves)


def test_what_is_made_of_ops_says_which_array_it_cannot_take():
    kept = Foreign(A, "it is kept")
    for call, name in (
        (lambda: ops.sum(kept), "x"),
        (lambda: ops.less(A, kept), "x2"),
        (lambda: ops.where(TRUTH, kept, A), "x1"),
        (lambda: ops.stack([A, kept]), r"x\[1\]"),
    ):
        with pytest.raises(TypeError, match=f"^{name}: got Foreign .*cannot be taken: it is kept"):
            call()


def network(rng):
    x, t, w = rng.random((6, 4)), rng.random((6, 2)), rng.random((4, 2))
    return x, t, w


def test_gradients(rng):
    x, t, w = network(rng)
    loss, (dw,) = fastnn.gradients(lambda w: ops.mse(ops.matmul(x, w), t)[0], (w,))
    found = fastnn.gradients(lambda w: ops.mse(ops.matmul(Foreign(x), w), Foreign(t))[0], (Foreign(w),))
    assert found[0] == loss
    np.testing.assert_array_equal(found[1][0], dw)


def test_programs_and_epochs(rng):
    x, t, w = network(rng)
    outside = Foreign(w)

    @fastnn.program(copy=True)
    def step(x, t):
        y = ops.matmul(x, outside)
        value, dy = ops.mse(y, t)
        ops.sgd_step(outside, ops.matmul(x.T, dy), learning_rate=0.1)
        return value

    def plain(x, t, w):
        value, dy = ops.mse(ops.matmul(x, w), t)
        ops.sgd_step(w, ops.matmul(x.T, dy), learning_rate=0.1)
        return value

    v = w.copy()
    assert [step(Foreign(x), Foreign(t)) for _ in range(3)] == [plain(x, t, v) for _ in range(3)]
    order = np.arange(6)
    found = step.repeat((Foreign(x), Foreign(t)), Foreign(order), 3)
    np.testing.assert_array_equal(found, [plain(x[i : i + 3], t[i : i + 3], v) for i in (0, 3)])
    np.testing.assert_array_equal(v, w)


def test_the_trainer_takes_them(rng):
    x, y = rng.random((40, 5), "float32"), rng.integers(0, 3, 40)
    results = []
    for wrap in (foreign, lambda value: value):
        utils.set_random_seed(1)
        model = models.Sequential([layers.Dense(4, "relu", input_shape=(5,)), layers.Dense(3, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        history = model.fit(wrap(x), wrap(y), epochs=2, validation_split=0.25, verbose=0, sample_weight=wrap(x[:, 0]))
        results.append(
            (history.history, model.evaluate(wrap(x), wrap(y), verbose=0), model.predict(wrap(x), verbose=0))
        )
    assert results[0][:2] == results[1][:2]
    np.testing.assert_array_equal(results[0][2], results[1][2])
    with pytest.raises(TypeError, match=r"^x: got Foreign .*cannot be taken: it is kept"):
        model.predict(Foreign(x, "it is kept"))


def test_neuralnets_outputs(rng):
    x, y = rng.random((6, 2)), rng.random(6)
    columns = {"a": x[:, 0].copy(), "b": x[:, 1].copy(), "y": y}
    net = fastnn.neuralnet("y ~ a + b", columns, hidden=1, threshold=5.0, seed=0)
    np.testing.assert_array_equal(net.predict(Foreign(x)), net.predict(x))
    np.testing.assert_array_equal(net.compute(Foreign(x)).net_result, net.predict(x))
    with pytest.raises(TypeError, match=r"^data: got Foreign .*cannot be taken: it is kept"):
        net.predict(Foreign(x, "it is kept"))
