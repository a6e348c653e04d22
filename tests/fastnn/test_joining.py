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
