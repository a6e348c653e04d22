"""Tensors of PyTorch and arrays of JAX in the place of NumPy's: no copy, what each library forbids is kept to."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn import layers, models, ops, utils

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_tensors_are_read_and_written_where_they_lie(rng):
    a, b = torch.rand(5, 7), torch.rand(7, 4, dtype=torch.float32)
    out = torch.empty(5, 4)
    found = ops.matmul(a, b, out=out)
    assert isinstance(found, np.ndarray)
    assert found.ctypes.data == out.data_ptr()
    np.testing.assert_allclose(out, a @ b, rtol=1e-5)
    np.testing.assert_array_equal(ops.matmul(a.numpy(), b), found)


@pytest.mark.parametrize(
    "view", [lambda t: t.T, lambda t: t[::2, 1:], lambda t: t[:, ::3], lambda t: t.expand(2, *t.shape)[0]]
)
def test_any_strides(view):
    t = torch.rand(6, 7)
    np.testing.assert_array_equal(ops.relu(view(t)), view(t).relu())
    out = torch.full((6, 7), -1.0)
    ops.relu(view(t), out=view(out))
    np.testing.assert_array_equal(view(out), view(t).relu())


def test_a_broadcast_tensor_is_read_and_not_written_to():
    t = torch.rand(1, 4).expand(3, 4)
    np.testing.assert_array_equal(ops.relu(t), t)
    with pytest.raises(ValueError, match=r"^out: got a broadcast array"):
        ops.relu(torch.rand(3, 4), out=t)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(2, requires_grad=True), r"^x: got Tensor of shape \(2,\) .*cannot be taken: .*detach"),
        (torch.nn.Parameter(torch.ones(2)), r"^x: got Parameter .*detach"),
        (
            torch.ones(2, dtype=torch.bfloat16),
            r"^x: got Tensor .*torch\.bfloat16, wants dtype float32 or",
        ),
        (torch.ones(2, dtype=torch.float16), r"^x: got Tensor .*torch\.float16, wants dtype float32 or"),
        (torch.ones(2).to_sparse(), r"^x: got Tensor .*layout"),
        (torch.ones(2, dtype=torch.complex64), r"^x: got ndarray .*complex64, wants dtype float32 or float64"),
        (torch.ones(2, device="meta"), r"^x: got Tensor .*"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value.dtype),
)
def test_what_is_refused(tensor, message):
    with pytest.raises(TypeError, match=message):
        ops.relu(tensor)


def test_steps_of_lists_move_tensors():
    weights = [torch.ones(3), torch.ones(2, 2)]
    ops.sgd_step(weights, [torch.ones(3), torch.ones(2, 2)], learning_rate=1.0)
    assert all((w == 0).all() for w in weights)


def test_labels_losses_and_gradients(rng):
    logits, labels = torch.rand(6, 4), torch.tensor([0, 3, 2, 1, 1, 0])
    loss, dlogits = ops.softmax_cross_entropy(logits, labels)
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())
    assert dlogits.shape == (6, 4)
    value, (slope,) = fastnn.gradients(lambda z: ops.softmax_cross_entropy(z, labels)[0], (logits,))
    assert value == loss
    np.testing.assert_array_equal(slope, dlogits)


def test_the_trainer_takes_tensors(rng):
    x, y = rng.random((40, 5), "float32"), rng.integers(0, 3, 40)
    losses = []
    for kind in (np.asarray, torch.from_numpy):
        utils.set_random_seed(1)
        model = models.Sequential([layers.Dense(4, "relu", input_shape=(5,)), layers.Dense(3, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        history = model.fit(kind(x), kind(y), epochs=2, validation_data=(kind(x), kind(y)), verbose=0)
        losses.append((history.history, model.evaluate(kind(x), kind(y), verbose=0)))
        assert isinstance(model.predict(kind(x), verbose=0), np.ndarray)
    assert losses[0] == losses[1]
    with pytest.raises(TypeError, match=r"^x: got Tensor .*detach"):
        model.predict(torch.from_numpy(x).requires_grad_(), verbose=0)


def test_jax(rng):
    jax = pytest.importorskip("jax", reason="JAX is not installed: pip install '.[peers]'")
    a, b = rng.random((5, 7), "float32"), rng.random((7, 4), "float32")
    theirs = [jax.numpy.asarray(each) for each in (a, b)]
    found = ops.matmul(*theirs)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, ops.matmul(a, b))
    with pytest.raises(ValueError, match=r"^out: got a read-only array"):
        ops.relu(a, out=theirs[0])
    with pytest.raises(TypeError, match=r"^x: got ArrayImpl .*bfloat16, wants dtype float32 or float64; cast it first"):
        ops.relu(theirs[0].astype("bfloat16"))
    model = models.Sequential([layers.Dense(4, input_shape=(7,))])
    model.compile("sgd", "mse")
    model.fit(theirs[0], jax.numpy.ones((5, 4)), verbose=0)
    np.testing.assert_array_equal(model.predict(theirs[0], verbose=0), model.predict(a, verbose=0))


def test_neither_library_is_imported():
    program = "import sys, fastnn, numpy; fastnn.ops.relu(numpy.ones(3)); print({'torch', 'jax'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"
