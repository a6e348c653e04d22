"""What is made of ops: concatenation, axes in another order, rows of ones and zeros."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops

RNG = np.random.default_rng(9)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_concatenate(axis, count):
    widths = [(i * 3 + 1) % 4 for i in range(count)]
    shapes = [tuple(width if at == axis % 3 else size for at, size in enumerate((2, 5, 3))) for width in widths]
    arrays = [RNG.standard_normal(shape) for shape in shapes]
    y = ops.concatenate(arrays, axis)
    assert np.array_equal(y, np.concatenate(arrays, axis))
    assert not any(np.shares_memory(y, array) for array in arrays)


def test_permute():
    x = RNG.standard_normal((2, 3, 4, 5)).astype("float32")
    y = ops.permute(x, (3, 1, 0, 2))
    assert y.flags.c_contiguous
    assert np.array_equal(y, x.transpose(3, 1, 0, 2))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_parts_are_views_and_stack_is_their_inverse(axis):
    x = RNG.standard_normal((4, 6, 8))
    for given in (2, [1, 1, 3], [0]):
        parts = ops.split(x, given, axis)
        for part, wanted in zip(parts, np.split(x, given, axis), strict=True):
            assert np.array_equal(part, wanted)
            assert part.size == 0 or np.shares_memory(part, x)
    parts = ops.unstack(x, x.shape[axis], axis)
    assert [part.shape for part in parts] == [x.take(0, axis).shape] * x.shape[axis]
    assert np.array_equal(ops.stack(parts, axis), x)
    assert ops.unstack(np.zeros((0, 3))) == ()
    assert np.array_equal(ops.flip(x, axis), np.flip(x, axis))
    assert np.array_equal(ops.flip(x.astype("float32"), axis), np.flip(x, axis).astype("float32"))


def test_gradients_of_parts():
    """Of some parts, and in a program: those that nothing depends on have zeros."""
    x, t = RNG.standard_normal((3, 4)), RNG.standard_normal((2, 3))
    goal = np.zeros((3, 4))

    def loss(x):
        first, _, _, last = ops.unstack(x, axis=1)
        return ops.mse(ops.flip(ops.stack([first, last]), 1), t)[0]

    goal[:, [0, 3]] = 2 * (np.stack([x[:, 0], x[:, 3]]) - t[:, ::-1]).T / 6
    replayed = fastnn.program(lambda x: fastnn.gradients(loss, [x]))
    for run in (lambda x: fastnn.gradients(loss, [x]), replayed, replayed, replayed):
        _, (dx,) = run(x)
        np.testing.assert_allclose(dx, goal, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_hot(dtype):
    index = RNG.integers(0, 7, (3, 4))
    y = ops.one_hot(index, 7, dtype)
    assert y.dtype == dtype
    assert np.array_equal(y, np.eye(7)[index])
    with pytest.raises(IndexError, match="wants row numbers in"):
        ops.one_hot(np.array([7]), 7)


def test_in_a_program():
    t = RNG.standard_normal((6, 4, 9))

    @fastnn.program
    def step(x, y, index):
        wide = ops.concatenate([x, y, ops.one_hot(index, 4, "float64").reshape(6, 4, 1)])
        turned = ops.permute(wide, (0, 2, 1)).reshape(6, 4, 9)
        return ops.mse(turned, t)[0], ops.tanh(turned)

    for _ in range(3):
        x, y, index = RNG.standard_normal((6, 4, 3)), RNG.standard_normal((6, 4, 5)), RNG.integers(0, 4, 6)
        wide = np.concatenate([x, y, np.eye(4)[index][:, :, None]], -1).transpose(0, 2, 1).reshape(6, 4, 9)
        loss, z = step(x, y, index)
        assert loss == pytest.approx(((wide - t) ** 2).mean())
        np.testing.assert_allclose(z, np.tanh(wide), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "wanted"),
    [
        (lambda x: ops.concatenate([]), TypeError, "arrays: got list"),
        (ops.concatenate, TypeError, "arrays: got ndarray"),
        (lambda x: ops.concatenate([x, 3]), TypeError, r"arrays\[1\]: got int"),
        (lambda x: ops.concatenate([x, x[:1]]), ValueError, r"arrays\[1\]: got shape \(1, 3\), wants 2 dimensions, of"),
        (lambda x: ops.concatenate([x, x[0]]), ValueError, r"arrays\[1\]: got shape \(3,\)"),
        (lambda x: ops.concatenate([x, x], 2), ValueError, "axis: got 2"),
        (lambda x: ops.concatenate([x, x.astype("f")]), TypeError, "b: got dtype float32, wants float64"),
        (lambda x: ops.split(x, 4), ValueError, "indices_or_sections: got 4, wants a divisor of the size"),
        (lambda x: ops.split(x, [2, 1]), ValueError, r"got \[2, 1\], wants indices that do not fall"),
        (lambda x: ops.split(x, [9]), ValueError, r"indices_or_sections\[0\]: got 9"),
        (lambda x: ops.split([1], 1), TypeError, "x: got list"),
        (lambda x: ops.split(x, 1, 5), ValueError, "axis: got 5"),
        (ops.stack, TypeError, "x: got ndarray"),
        (lambda x: ops.stack([x, x[:1]]), ValueError, r"x\[1\]: got ndarray"),
        (lambda x: ops.unstack(x, 7), ValueError, "num: got 7, wants the size"),
        (lambda x: ops.unstack(3), TypeError, "x: got int"),
        (lambda x: ops.flip(3), TypeError, "x: got int"),
        (lambda x: ops.permute(x, (0, 0)), ValueError, r"axes: got tuple \(0, 0\)"),
        (lambda x: ops.permute(x, 1), ValueError, "axes: got int"),
        (lambda x: ops.one_hot(x, 3), TypeError, "index: got"),
        (lambda x: ops.one_hot([1], 3), TypeError, "index: got list"),
        (lambda x: ops.one_hot(x, 0), ValueError, "num_classes: got 0"),
    ],
)
def test_wrong_arguments(call, error, wanted):
    with pytest.raises(error, match=wanted):
        call(np.zeros((2, 3)))
