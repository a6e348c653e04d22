"""Programs of device arrays but for their numbers: what is taken, refused, remembered; no call waits for the device.

The device is the host, its kernels are not compiled: results hold nothing.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops


@pytest.fixture
def x(device):
    return device.asarray(np.ones((5, 6), "float32"))


@pytest.fixture
def w(device):
    return device.asarray(np.ones((6, 4), "float32"))


def test_no_call_waits_for_the_device(device, x, w):
    t = device.asarray(np.zeros(5, "int64"))

    @fastnn.program
    def step(x, t, rate):
        def loss(w):
            return ops.softmax_cross_entropy(ops.matmul(x, w), t)[0] + 0.5 * ops.l1_l2_penalty(w, 0.0, 0.1)[0]

        value, (dw,) = fastnn.gradients(loss, (w,))
        ops.sgd_step(w, dw, learning_rate=rate)
        return value

    with device.unread():
        for rate in (0.1, 0.1, 0.2, 0.3):
            loss = step(x, t, rate)
            assert type(loss) is device.ndarray
            assert loss.shape == ()


def test_arguments_of_other_likeness_make_other_recordings(device, x, w):
    recorded = []

    @fastnn.program
    def product(x):
        recorded.append(x.shape)
        return ops.matmul(x, w)

    product(x)
    product(device.asarray(np.ones((5, 6), "float32")))
    assert len(recorded) == 1
    product(device.asarray(np.ones((6, 5), "float32")).T)  # other strides
    with fastnn.use_precision("tf32"):
        product(x)
    assert len(recorded) == 3


def test_what_a_program_was_made_of_is_seen(x, w):
    with pytest.raises(TypeError, match=r"matmul: a: got an array that was made inside the program"):
        fastnn.program(lambda x: ops.matmul(w.T.copy(), x.T))(x)


class Foreign:
    """An array of another library's."""

    __module__ = "another.library"

    def __init__(self, array):
        self.array = array

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__


def test_arrays_of_other_libraries(x, w):
    with pytest.raises(TypeError, match=r"x: got an array of another's on a CUDA device, wants a CuPy array"):
        fastnn.program(lambda x: ops.matmul(x, w))(Foreign(x))
    with pytest.raises(TypeError, match=r"matmul: b: got an array of another's on a CUDA device in a program, wants a"):
        fastnn.program(lambda x: ops.matmul(x, Foreign(w)))(x)


def test_arrays_in_two_places(x, w):
    host = np.ones((6, 4), "float32")
    product = fastnn.program(ops.matmul)
    with pytest.raises(TypeError, match=r"b: got a NumPy array beside a, which is on a CUDA device, wants all arrays"):
        product(x, host)
    with pytest.raises(TypeError, match=r"a: got a NumPy array beside b, which is on a CUDA device, wants all arrays"):
        product(np.ones((5, 6), "float32"), w)
    with pytest.raises(TypeError, match=r"a: got an array of .* beside the NumPy array b, wants all arrays"):
        fastnn.program(lambda x: ops.matmul(x, host))(x)
    with pytest.raises(TypeError, match=r"matmul: b: got an array of .* in a program, wants one of NumPy's"):
        fastnn.program(lambda x: ops.matmul(x, w))(np.ones((5, 6), "float32"))
    with (
        fastnn.use_backend("cuda"),
        pytest.raises(TypeError, match=r"x: got a NumPy array for the backend 'cuda', wants all arrays"),
    ):
        fastnn.program(lambda x: ops.matmul(x, w))(np.ones((5, 6), "float32"))


def test_arrays_from_outside_alone(device, x, w):
    """Where the backend is chosen, that is."""

    @fastnn.program
    def stepped(rate):
        ops.sgd_step(w, w, learning_rate=rate)
        return ops.matmul(x, w)

    with pytest.raises(TypeError, match=r"wants one of NumPy's, as the program's arguments are, or those and"):
        stepped(0.5)
    with fastnn.use_backend("cuda"):
        assert type(stepped(0.5)) is type(stepped(0.5)) is device.ndarray


def test_what_programs_ask_of_device_arrays(device):
    from fastnn.kernels.cuda.arrays import ON_DEVICE

    kind, whole = ON_DEVICE, device.asarray(np.arange(24.0).reshape(4, 6))
    part = whole[::-1, 1:5:2]
    assert kind.bounds(part) == (kind.address(whole) + 8, kind.address(whole) + 8 * 22)
    again = kind.at(kind.address(part), part, whole)
    part[...] = -1.0
    np.testing.assert_array_equal(again.get(), part.get())
    assert kind.holds(part)
    assert not kind.holds(np.ones(3))
    assert kind.owner(part) is whole
    assert not kind.is_lent(whole)
    assert kind.is_lent(device.asarray(Foreign(whole)))
    assert kind.is_aligned(part)
    with device.unread():
        assert kind.seen(part) == kind.seen(whole)
        rows = kind.rows(whole, device.asarray(np.array([2, 0])))
        assert rows.shape == kind.joined([rows[:1], rows[1:]]).shape == (2, 6)
        assert kind.in_order(part).flags.c_contiguous
        assert kind.holds(kind.copied(np.ones(3)))
        assert kind.empty((2, 3), "float32").strides == (12, 4)
