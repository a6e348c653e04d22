"""Clipping on a device, or the host that stands in: against NumPy in extended precision."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.kernels.table import DTYPES
from tests.cuda_host.places import host_only

# Around a unit of 4096 numbers, and nothing.
SHAPES = ((), (7,), (0, 3), (64, 64), (4097,), (3, 5000))


@pytest.fixture
def clip(cupy):
    from fastnn.kernels.cuda import clip

    return clip


def drawn(dtype="float32", shapes=SHAPES):
    return [np.random.default_rng(size).standard_normal(shape).astype(dtype) for size, shape in enumerate(shapes)]


def squares(array):
    return (array.astype(np.longdouble) ** 2).sum()


def clipped(cupy, kind, gradients, limit):
    arrays = [cupy.asarray(each) for each in gradients]
    kind(arrays, limit)
    return [array.get() for array in arrays]


def assert_scaled(found, gradient, norm, limit):
    """Exactly as it was below the limit, else to two roundings."""
    if norm <= limit:
        np.testing.assert_array_equal(found, gradient)
    else:
        wanted = gradient.astype(np.longdouble) * (limit / norm)
        np.testing.assert_allclose(found, wanted.astype(gradient.dtype), rtol=2 * np.finfo(gradient.dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_by_value(cupy, clip, dtype):
    gradients = drawn(dtype)
    gradients[1][:3] = np.nan, np.inf, -np.inf
    for found, gradient in zip(clipped(cupy, clip.by_value, gradients, 0.5), gradients, strict=True):
        wanted = np.where(np.isfinite(gradient), np.clip(gradient, -0.5, 0.5), np.nan)
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("limit", [2.0, 65.0, 1e6])
@pytest.mark.parametrize("dtype", DTYPES)
def test_by_the_norm_of_each(cupy, clip, dtype, limit):
    gradients = drawn(dtype)
    for found, gradient in zip(clipped(cupy, clip.by_norm, gradients, limit), gradients, strict=True):
        assert_scaled(found, gradient, np.sqrt(squares(gradient)), limit)


@pytest.mark.parametrize("limit", [3.0, 1e6])
@pytest.mark.parametrize("dtype", DTYPES)
def test_by_the_norm_of_all(cupy, clip, dtype, limit):
    gradients = drawn(dtype)
    norm = np.sqrt(sum(map(squares, gradients)))
    for found, gradient in zip(clipped(cupy, clip.by_global_norm, gradients, limit), gradients, strict=True):
        assert_scaled(found, gradient, norm, limit)


@host_only
@pytest.mark.parametrize("kind", ["clipvalue", "clipnorm", "global_clipnorm"])
def test_more_arrays_than_a_launch_takes(cupy, clip, monkeypatch, kind):
    """The same bits, in any order of the threads."""
    gradients = drawn(shapes=[(5, size) for size in range(1, 40)])
    wanted = clipped(cupy, clip.CLIPS[kind], gradients, 1.5)
    assert any((one != other).any() for one, other in zip(wanted, gradients, strict=True))
    monkeypatch.setattr(clip, "_AT_ONCE", 16)
    monkeypatch.setattr(cupy, "seed", 5)
    for found, expected in zip(clipped(cupy, clip.CLIPS[kind], gradients, 1.5), wanted, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["clipvalue", "clipnorm", "global_clipnorm"])
def test_arrays_of_any_strides_and_none(cupy, clip, kind):
    gradients = drawn(shapes=[(5, 7), (3, 4)])
    wanted = clipped(cupy, clip.CLIPS[kind], gradients, 0.5)
    turned = [cupy.asarray(np.ascontiguousarray(each.T)).T for each in gradients]
    clip.CLIPS[kind](turned, 0.5)
    for found, expected in zip(turned, wanted, strict=True):
        np.testing.assert_allclose(found.get(), expected, rtol=1e-6)
    clip.CLIPS[kind]([], 0.5)
    clip.CLIPS[kind]([cupy.asarray(np.zeros((0, 3), "float32"))], 0.5)


@host_only
def test_optimizers_ask_for_all_kinds(clip):
    import inspect

    from fastnn.optimizers import Optimizer

    assert set(clip.CLIPS) <= set(inspect.signature(Optimizer).parameters)
