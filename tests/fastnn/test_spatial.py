"""Windows over steps or images by the rank, against sums over slices; gradients against central differences."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers, models, ops, spatial, utils

rng = np.random.default_rng(0)
STEPS, IMAGES = rng.standard_normal((2, 7, 3)), rng.standard_normal((2, 7, 5, 3))


def test_all_are_ops():
    assert {*spatial.NAMES} <= {*ops.__all__}


def windows(x, size, stride):
    """Each place's window along the axes between samples and channels, as the last axis."""
    axes = tuple(range(1, x.ndim - 1))
    found = np.lib.stride_tricks.sliding_window_view(x, (size,) * len(axes), axes)
    found = found[(slice(None), *(slice(None, None, stride) for _ in axes))]
    return found.reshape(*found.shape[: x.ndim], -1)


@pytest.mark.parametrize("x", [STEPS, IMAGES], ids=["steps", "images"])
@pytest.mark.parametrize(("size", "stride"), [(2, None), (3, 1), (3, 2), (1, 2)])
def test_pooling(x, size, stride):
    wanted = windows(x, size, stride or size)
    np.testing.assert_array_equal(ops.max_pool(x, size, stride), wanted.max(-1))
    np.testing.assert_allclose(ops.average_pool(x, size, stride), wanted.mean(-1), rtol=1e-14, atol=1e-15)


def test_padding_of_pooling_is_no_part_of_means():
    x = np.arange(1.0, 6.0).reshape(1, 5, 1)
    np.testing.assert_array_equal(ops.average_pool(x, 2, padding="same").ravel(), [1.5, 3.5, 5])
    np.testing.assert_array_equal(ops.max_pool(-x, 2, padding="same").ravel(), [-1, -3, -5])


def test_repetitions_and_zeros():
    np.testing.assert_array_equal(ops.upsample(STEPS, 2), np.repeat(STEPS, 2, 1))
    np.testing.assert_array_equal(ops.upsample(IMAGES, (2, 3)), np.repeat(np.repeat(IMAGES, 2, 1), 3, 2))
    np.testing.assert_array_equal(ops.zero_pad(STEPS, 2), np.pad(STEPS, ((0, 0), (2, 2), (0, 0))))
    np.testing.assert_array_equal(ops.zero_pad(STEPS, [(1, 3)]), np.pad(STEPS, ((0, 0), (1, 3), (0, 0))))
    wanted = np.pad(IMAGES, ((0, 0), (1, 1), (2, 0), (0, 0)))
    np.testing.assert_array_equal(ops.zero_pad(IMAGES, (1, (2, 0))), wanted)


@pytest.mark.parametrize("groups", [1, 3])
def test_convolutions_take_groups_from_the_kernel(groups):
    for x, axes in ((STEPS, 1), (IMAGES, 2)):
        kernel = rng.standard_normal((*(3,) * axes, 3 // groups, 6))
        found = ops.conv(x, kernel, 2, "same")
        wanted = getattr(ops, f"conv{axes}d")(x, kernel, strides=(2,) * axes, padding="same", groups=groups)
        np.testing.assert_array_equal(found, wanted)


CALLS = {
    "max_pool": lambda x: ops.max_pool(x, 3, 2),
    "average_pool": lambda x: ops.average_pool(x, 2, padding="same"),
    "upsample": lambda x: ops.upsample(x, 2),
    "zero_pad": lambda x: ops.zero_pad(x, 1),
    "conv": lambda x: ops.conv(x, np.linspace(-1, 1, 3 ** (x.ndim - 1) * 2).reshape((3,) * (x.ndim - 1) + (2,))),
}


@pytest.mark.parametrize("x", [STEPS, IMAGES], ids=["steps", "images"])
@pytest.mark.parametrize("name", CALLS)
def test_gradients(name, x):
    assert {*CALLS} == {*spatial.NAMES}
    function = CALLS[name]
    weights = np.random.default_rng(1).standard_normal(function(x).shape)
    (dx,) = fastnn.gradients(lambda x: ops.sum(function(x) * weights), [x])[1]
    direction = np.random.default_rng(2).standard_normal(x.shape)
    beyond, before = (np.sum(function(x + sign * 1e-6 * direction) * weights) for sign in (1, -1))
    np.testing.assert_allclose(np.sum(dx * direction), (beyond - before) / 2e-6, rtol=1e-6)


def test_in_graphs_of_layers():
    utils.set_random_seed(0)
    inputs = layers.Input((8, 3))
    hidden = ops.max_pool(layers.Conv1D(4, 3, activation="relu")(inputs), 2)
    model = models.Model(inputs, layers.Dense(1)(layers.Flatten()(hidden)))
    model.compile("adam", "mse")
    x = rng.standard_normal((16, 8, 3)).astype("float32")
    losses = model.fit(x, x[:, 0, :1], epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: ops.max_pool(np.ones((2, 3)), 2), r"x: got shape \(2, 3\), wants \(n, steps, c\) or \(n, h, w, c\)"),
        (lambda: ops.max_pool(STEPS, (2, 2)), r"pool_size: got \(2, 2\), wants one number, or one for each of 1 axes"),
        (lambda: ops.max_pool(STEPS, 0), "pool_size: got 0"),
        (lambda: ops.average_pool(STEPS, 2, -1), "strides: got -1"),
        (lambda: ops.average_pool(STEPS, 2, padding="full"), "padding: got 'full'"),
        (lambda: ops.upsample(IMAGES, (2,)), r"size: got \(2,\), wants one number, or one for each of 2 axes"),
        (lambda: ops.zero_pad(IMAGES, [1, 2, 3]), r"padding: got \[1, 2, 3\], wants one number, or 2 numbers"),
        (lambda: ops.conv(STEPS, np.ones((3, 3, 3, 2))), r"kernel: got shape \(3, 3, 3, 2\), wants 3 axes"),
        (lambda: ops.conv(STEPS, np.ones((3, 2, 2))), r"kernel: got shape .* wants a divisor of x's 3 channels"),
    ],
)
def test_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
