"""Steps of a linear layer on a device, or the host that stands in: in the product's epilogue, or one by one."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import ops
from tests.cuda_host.places import host_only

STATES = ("m", "v", "b", "m_b", "v_b")


def given(seed=0, n=33, inputs=30, outputs=33):
    """A call of Adam's step by name, on the host."""
    rng = np.random.default_rng(seed)
    shapes = {"dy": (n, outputs), "x": (n, inputs), "w": (inputs, outputs), "y": (n, outputs)}
    shapes |= {"m": (inputs, outputs), "v": (inputs, outputs), "b": outputs, "m_b": outputs, "v_b": outputs}
    return {name: rng.random(shape, "float32") for name, shape in shapes.items()}


def stepped(arrays, **options):
    """What the step leaves of its arrays, by name, and dx."""
    dx = ops.linear_adam_step(**arrays, step=3, activation="relu", **options)
    left = {name: arrays[name].get() for name in ("w", *STATES) if arrays.get(name) is not None}
    return left if dx is None else left | {"dx": dx.get()}


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)


def on_device(cupy, arrays):
    return {name: cupy.asarray(array) for name, array in arrays.items()}


def columns_first(cupy, array):
    return cupy.asarray(np.ascontiguousarray(array.T)).T


@host_only
def test_the_gradient_of_the_weights_is_never_written(cupy):
    arrays = on_device(cupy, given(n=9))
    cupy.launched.clear()
    stepped(arrays)
    assert cupy.launched == ["column_sums", "product", "product", "step"]  # of dz, dx, w and b
    cupy.launched.clear()
    stepped({**arrays, "b": None, "m_b": None, "v_b": None}, need=())
    assert cupy.launched == ["column_sums", "product"]


@pytest.mark.parametrize("turned", [("w", "m", "v"), ("w",), ("m",), ("v", "x", "dy")])
def test_weights_and_states_of_any_strides_are_stepped_to_the_same_bits(cupy, turned):
    arrays = given()
    wanted = stepped(on_device(cupy, arrays))
    found = {
        name: columns_first(cupy, array) if name in turned else cupy.asarray(array) for name, array in arrays.items()
    }
    same(stepped(found), wanted)


@pytest.mark.parametrize("shared", ["x", "dy", "y"])
def test_weights_that_are_an_operand_too(cupy, shared):
    """The step is that of the operand as it was."""
    arrays = given(n=70, inputs=70, outputs=70)  # more blocks than run at a time
    arrays["w"] = arrays[shared].copy()
    wanted = stepped(on_device(cupy, arrays))
    over = on_device(cupy, arrays)
    over["w"] = over[shared]
    same(stepped(over), wanted)


def test_a_gradient_that_goes_where_an_operand_is(cupy):
    arrays = given()
    wanted = stepped(on_device(cupy, arrays))
    over = on_device(cupy, arrays)
    same(stepped(over, dx=over["x"]), wanted)
    np.testing.assert_array_equal(over["x"].get(), wanted["dx"])
