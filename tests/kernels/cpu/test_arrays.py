"""A plan made for one call holds for all calls on arrays that are alike, wherever in memory these lie."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import ops
from fastnn.kernels.cpu._arrays import direct, in_order


def made(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def twice(call):
    """Plan, then run by the plan."""
    return [call() for _ in range(2)][-1]


def test_a_product_may_be_written_over_an_operand_of_its_own_memory():
    a, b = made((64, 100)), made((100, 100), 1)
    expected = ops.matmul(a, b)
    twice(lambda: ops.matmul(a, b, out=np.empty_like(a)))  # the same shapes, strides and flags, apart
    assert ops.matmul(a, b, out=a) is a
    assert np.array_equal(a, expected)


@pytest.mark.parametrize("shift", [0, 1, 16, 63])
def test_views_of_one_array_may_overlap(shift):
    memory = made(400)
    x, apart, near = memory[:64], memory[300:364], memory[shift : 64 + shift]
    expected = ops.tanh(x.copy())
    twice(lambda: ops.tanh(x, out=apart))
    ops.tanh(x, out=near)
    assert np.array_equal(near, expected)


@pytest.mark.parametrize("shift", [0, 8, 64])
def test_a_product_of_views_may_overlap_its_operand(shift):
    memory = made(30_000)
    a, apart, near = (memory[at : at + 10_000].reshape(100, 100) for at in (0, 20_000, shift))
    b = made((100, 100), 1)
    expected = ops.matmul(a.copy(), b)
    twice(lambda: ops.matmul(a, b, out=apart))
    ops.matmul(a, b, out=near)
    assert np.array_equal(near, expected)


def test_results_without_out_are_new_arrays():
    x = made(64)
    first, second = ops.relu(x), ops.relu(x)
    assert not np.may_share_memory(first, second)
    assert ops.linear(made((3, 4)), made((4, 5))) is not ops.linear(made((3, 4)), made((4, 5)))


def test_a_read_only_array_is_read_where_it_lies():
    x = made((3, 5))
    x.flags.writeable = False
    held = in_order(x)
    assert held.flags.carray
    assert np.shares_memory(held, x)
    del x
    assert np.array_equal(held, made((3, 5)))


def test_what_kernels_cannot_walk_is_copied():
    x = made((6, 4))
    shifted = np.ndarray((6, 4), np.float32, np.zeros(100, np.uint8), 1)
    shifted[...] = x
    for array in (x.T, x[::2], shifted):
        assert not direct(None, array)
        assert in_order(array).flags.carray
        assert np.array_equal(in_order(array), array)
    assert in_order(x) is x
    assert in_order(x, np.float64).dtype == np.float64
