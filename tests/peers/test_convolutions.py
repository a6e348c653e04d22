"""Convolutions against PyTorch's, value and gradients, in float64 to 1e-9, for drawn sizes and arguments."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import ops
from fastnn.kernels.table.windows import margins, places

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")
functional = torch.nn.functional


def drawn(rng, axes):
    """(sizes of x's axes, of the kernel's, options) of windows that have places."""
    while True:
        sizes, kernel = (rng.integers(1, high, axes).tolist() for high in (14, 6))
        options = {
            "strides": tuple(rng.integers(1, 4, axes).tolist()),
            "dilation": tuple(rng.integers(1, 4, axes).tolist()),
            "padding": ["valid", "same", tuple(map(tuple, rng.integers(0, 4, (axes, 2)).tolist()))][rng.integers(3)],
        }
        moved = [
            (size, window, options["strides"][axis], options["padding"], axis, options["dilation"][axis])
            for axis, (size, window) in enumerate(zip(sizes, kernel, strict=True))
        ]
        if all(places(*each) > 0 for each in moved):
            return sizes, kernel, options, [margins(*each) for each in moved]


def tensor(array):
    return torch.from_numpy(array).requires_grad_()


def to_front(x):
    """Channels ahead of the spatial axes, as PyTorch has them."""
    return torch.movedim(x, -1, 1)


def padded(x, around):
    """x (n, c, ...) with zeros around its spatial axes; ``pad`` wants the last axis first."""
    return functional.pad(to_front(x), [side for pair in reversed(around) for side in pair])


def agree(name, arrays, options, function):
    """An op and its backward op against PyTorch's function and what comes back from a drawn gradient."""
    y = getattr(ops, name)(*arrays, **options)
    tensors = [tensor(array) for array in arrays]
    expected = torch.movedim(function(*tensors), 1, -1)
    assert tuple(expected.shape) == y.shape
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=1e-9)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    expected.backward(torch.from_numpy(dy))
    x, w, _ = arrays
    for slope, each in zip(getattr(ops, f"{name}_backward")(dy, x, w, y, **options), tensors, strict=True):
        np.testing.assert_allclose(slope, each.grad.numpy(), rtol=0, atol=1e-9)


# So many drawn calls a test; in all 500.
EACH = 25


@pytest.mark.parametrize("seed", range(6))
def test_conv2d(seed):
    rng = np.random.default_rng(seed)
    for _ in range(EACH):
        groups = int(rng.choice([1, 1, 2, 3]))
        sizes, kernel, options, around = drawn(rng, 2)
        c, f = (groups * int(rng.integers(1, 20)) for _ in range(2))
        shapes = (int(rng.integers(1, 4)), *sizes, c), (*kernel, c // groups, f), (f,)

        def convolution(x, w, b, around=around, options=options, groups=groups):
            moved = {"stride": options["strides"], "dilation": options["dilation"], "groups": groups}
            return functional.conv2d(padded(x, around), w.permute(3, 2, 0, 1).contiguous(), b, **moved)

        agree("conv2d", [rng.standard_normal(s) for s in shapes], {**options, "groups": groups}, convolution)


@pytest.mark.parametrize("seed", range(5))
def test_conv1d(seed):
    rng = np.random.default_rng(seed)
    for _ in range(EACH):
        groups = int(rng.choice([1, 1, 2]))
        sizes, kernel, options, around = drawn(rng, 1)
        c, f = (groups * int(rng.integers(1, 20)) for _ in range(2))
        shapes = (int(rng.integers(1, 6)), *sizes, c), (*kernel, c // groups, f), (f,)

        def convolution(x, w, b, around=around, options=options, groups=groups):
            moved = {"stride": options["strides"], "dilation": options["dilation"], "groups": groups}
            return functional.conv1d(padded(x, around), w.permute(2, 1, 0).contiguous(), b, **moved)

        agree("conv1d", [rng.standard_normal(s) for s in shapes], {**options, "groups": groups}, convolution)


@pytest.mark.parametrize("seed", range(5))
def test_depthwise_conv2d(seed):
    rng = np.random.default_rng(seed)
    for _ in range(EACH):
        sizes, kernel, options, around = drawn(rng, 2)
        c, m = int(rng.integers(1, 20)), int(rng.integers(1, 4))
        shapes = (int(rng.integers(1, 4)), *sizes, c), (*kernel, c, m), (c * m,)

        def convolution(x, w, b, around=around, options=options, c=c, m=m):
            by_channel = w.permute(2, 3, 0, 1).reshape(c * m, 1, *w.shape[:2])
            moved = {"stride": options["strides"], "dilation": options["dilation"], "groups": c}
            return functional.conv2d(padded(x, around), by_channel, b, **moved)

        agree("depthwise_conv2d", [rng.standard_normal(s) for s in shapes], options, convolution)


@pytest.mark.parametrize("seed", range(4))
def test_conv2d_transpose(seed):
    """What is "same" leaves of all that the kernel spreads is cut out of it."""
    rng = np.random.default_rng(seed)
    for _ in range(EACH):
        sizes, kernel, options, _ = drawn(rng, 2)
        if not isinstance(options["padding"], str):
            options["padding"] = ((0, 0), (0, 0))
        c, f = (int(rng.integers(1, 20)) for _ in range(2))
        shapes = (int(rng.integers(1, 4)), *sizes, c), (*kernel, f, c), (f,)
        arrays = [rng.standard_normal(s) for s in shapes]
        *_, rows, columns, _ = ops.conv2d_transpose(*arrays, **options).shape
        first = [
            margins(size, window, options["strides"][axis], options["padding"], axis, options["dilation"][axis])[0]
            for axis, (size, window) in enumerate(zip((rows, columns), kernel, strict=True))
        ]

        def convolution(x, w, b, options=options, first=first, rows=rows, columns=columns):
            moved = {"stride": options["strides"], "dilation": options["dilation"]}
            whole = functional.conv_transpose2d(to_front(x), w.permute(3, 2, 0, 1).contiguous(), None, **moved)
            whole = functional.pad(whole, [0, columns, 0, rows])
            cut = whole[:, :, first[0] : first[0] + rows, first[1] : first[1] + columns]
            return cut + b[:, None, None]

        agree("conv2d_transpose", arrays, options, convolution)
