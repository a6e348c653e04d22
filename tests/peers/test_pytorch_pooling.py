"""Pooling, normalisation, padding and pairs against PyTorch's, drawn at random, in float64 to 1e-9."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import gradients, layers, ops

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")
functional = torch.nn.functional


def tensor(array):
    return torch.tensor(array.copy(), dtype=torch.float64, requires_grad=True)


def agree(ours, theirs, arrays):
    """A function of arrays and the same of tensors: values, and gradients of a sum with drawn weights."""
    tensors = [tensor(array) for array in arrays]
    wanted = theirs(*tensors)
    goal = np.random.default_rng(1).standard_normal(tuple(wanted.shape))
    (wanted * torch.tensor(goal)).sum().backward()
    got = ours(*arrays)
    np.testing.assert_allclose(got, wanted.detach().numpy(), rtol=0, atol=1e-9)
    # half the sum of (y - g)^2 less that of y^2 has the derivative -g
    _, slopes = gradients(lambda *a: _weighed(ours(*a), goal), arrays)
    for slope, each in zip(slopes, tensors, strict=True):
        np.testing.assert_allclose(slope, each.grad.numpy(), rtol=0, atol=1e-9)


def _weighed(y, goal):
    return ops.half_sse(y, np.zeros(goal.shape))[0] - ops.half_sse(y, goal)[0]


def first(x):
    return x.permute(0, 3, 1, 2)


def last(x):
    return x.permute(0, 2, 3, 1)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("name", ["max", "average"])
def test_pools(name, seed):
    """Windows, strides, padding by numbers and sizes drawn; overlaps and gaps."""
    rng = np.random.default_rng([seed, len(name)])
    window, strides = rng.integers(1, 5, 2), rng.integers(1, 4, 2)
    around = rng.integers(0, window // 2 + 1)
    sizes = window + rng.integers(0, 9, 2)
    x = rng.standard_normal((rng.integers(1, 4), *sizes, rng.integers(1, 40)))
    padding = tuple((int(a), int(a)) for a in around)
    given = tuple(map(int, window)), tuple(map(int, strides))

    def theirs(x):
        if name == "max":
            return last(functional.max_pool2d(first(x), *given, tuple(map(int, around))))
        return last(functional.avg_pool2d(first(x), *given, tuple(map(int, around)), count_include_pad=False))

    agree(lambda x: getattr(ops, f"{name}_pool2d")(x, *given, padding), theirs, [x])


@pytest.mark.parametrize("seed", range(30))
def test_global_pools_and_resizing(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(rng.integers(1, [4, 9, 9, 40]))
    rows = x.reshape(x.shape[0], -1, x.shape[3])
    agree(ops.global_average_pool, lambda x: x.mean(1), [rows])
    agree(ops.global_max_pool, lambda x: x.amax(1), [rows])
    (top, bottom), (left, right) = around = rng.integers(0, 4, (2, 2)).tolist()
    agree(lambda x: ops.zero_pad2d(x, around), lambda x: functional.pad(x, (0, 0, left, right, top, bottom)), [x])
    padded = np.pad(x, ((0, 0), *around, (0, 0)), mode="wrap")
    h, w = padded.shape[1:3]
    agree(lambda x: ops.crop2d(x, around), lambda x: x[:, top : h - bottom, left : w - right], [padded])
    size = tuple(rng.integers(1, 4, 2).tolist())
    agree(
        lambda x: ops.upsample2d(x, size),
        lambda x: last(functional.interpolate(first(x), scale_factor=size, mode="nearest")),
        [x],
    )


@pytest.mark.parametrize("seed", range(30))
def test_normalisation(seed):
    rng = np.random.default_rng(seed)
    n, c = (int(size) for size in rng.integers(2, [400, 70]))
    epsilon = float(rng.choice([1e-5, 1e-3, 0.1]))
    x, (gamma, beta, mean) = 3 * rng.standard_normal((n, c)) + 1, rng.standard_normal((3, c))
    variance = rng.uniform(0.1, 2, c)
    agree(
        lambda x, gamma, beta: ops.batch_norm(x, gamma, beta, epsilon=epsilon)[0],
        lambda x, gamma, beta: functional.batch_norm(x, None, None, gamma, beta, training=True, eps=epsilon),
        [x, gamma, beta],
    )
    agree(
        lambda x, gamma, beta: ops.batch_norm_inference(x, mean, variance, gamma, beta, epsilon),
        lambda x, gamma, beta: functional.batch_norm(
            x, torch.tensor(mean), torch.tensor(variance), gamma, beta, eps=epsilon
        ),
        [x, gamma, beta],
    )
    agree(
        lambda x, gamma, beta: ops.layer_norm(x, gamma, beta, epsilon),
        lambda x, gamma, beta: functional.layer_norm(x, (c,), gamma, beta, epsilon),
        [x, gamma, beta],
    )


@pytest.mark.parametrize("seed", range(20))
def test_pairs_joins_and_axes(seed):
    """Of arrays that broadcast, in any order; equal numbers do not occur, whose derivative PyTorch shares out."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 6, rng.integers(1, 4)).tolist())
    part = tuple(size if rng.integers(2) else 1 for size in shape)[rng.integers(len(shape)) :]
    arrays = [rng.standard_normal(shape), rng.standard_normal(part)][:: int(rng.choice([1, -1]))]
    for name in ("add", "subtract", "multiply", "maximum", "minimum"):
        agree(getattr(ops, name), getattr(torch, name), arrays)
    agree(ops.average, lambda a, b: (a + b) / 2, arrays)
    axis = int(rng.integers(len(shape)))
    widths = rng.integers(1, 5, rng.integers(1, 5))
    several = [rng.standard_normal((*shape[:axis], width, *shape[axis + 1 :])) for width in widths]
    agree(lambda *arrays: ops.concatenate(arrays, axis), lambda *arrays: torch.cat(arrays, axis), several)
    axes = tuple(rng.permutation(len(shape)).tolist())
    agree(lambda x: ops.permute(x, axes), lambda x: x.permute(axes), [rng.standard_normal(shape)])


def test_moving_figures():
    """PyTorch's momentum is the new figure's share; its moving variance is that of n - 1."""
    rng = np.random.default_rng(0)
    layer = layers.BatchNormalization(momentum=0.75, dtype="float64")
    module = torch.nn.BatchNorm1d(5, eps=1e-3, momentum=0.25, dtype=torch.float64)
    for _ in range(4):
        x = rng.standard_normal((20, 5)) * 3 + 1
        y = module(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(layer(x, training=True), y, atol=1e-9)
    np.testing.assert_allclose(layer.get_weights()[2], module.running_mean.numpy(), atol=1e-9)
    kept = 0.75**4  # of the ones that both begin with
    moved = (module.running_var.numpy() - kept) * 19 / 20 + kept
    np.testing.assert_allclose(layer.get_weights()[3], moved, atol=1e-9)
