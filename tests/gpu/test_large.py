"""Arrays of more numbers than an int counts."""

from __future__ import annotations

import pytest

from fastnn import ops
from tests.cuda_host.places import device_only

pytestmark = device_only

_NUMBERS = (1 << 31) + 1024
_COLUMNS = 512


@pytest.fixture
def room(cupy):
    """Skips a test that there is no room for, so many arrays of float32; gives the memory back."""

    def wanted(arrays):
        free, _ = cupy.cuda.runtime.memGetInfo()
        if free < arrays * 4 * _NUMBERS + (1 << 28):
            pytest.skip(f"{free / 2**30:.0f} GiB of memory are free")

    yield wanted
    cupy.get_default_memory_pool().free_all_blocks()


def marked(cupy):
    """Zeros, but for the first number, and two behind what an int counts."""
    x = cupy.zeros(_NUMBERS, "float32")
    x[0], x[_NUMBERS - 1000], x[_NUMBERS - 1] = -1, -2, 3
    return x


def ends(x):
    return [float(x[place].get()) for place in (0, _NUMBERS - 1000, _NUMBERS - 1)]


def test_numbers(cupy, room):
    room(1)
    x = marked(cupy)
    assert ops.relu(x, out=x) is x
    assert ends(x) == [0, 0, 3]


def test_steps(cupy, room):
    room(2)
    w, dw = marked(cupy), marked(cupy)
    ops.sgd_step(w, dw, learning_rate=1.0)
    assert ends(w) == [0, 0, 0]
    assert ends(dw) == [-1, -2, 3]


def test_rows(cupy, room):
    room(1)
    x = marked(cupy).reshape(-1, _COLUMNS)
    x[-1] = 0
    assert ops.softmax(x, out=x) is x
    assert (x[-1].get() == 1 / _COLUMNS).all()


def test_products(cupy, room):
    room(1)
    a, b = cupy.zeros((_NUMBERS // _COLUMNS, 3), "float32"), cupy.zeros((3, _COLUMNS), "float32")
    a[-1], b[2] = 2, 5
    c = ops.linear(a, b, cupy.zeros(_COLUMNS, "float32"), "relu")
    assert (c[-1].get() == 10).all()
    assert (c[-2].get() == 0).all()
