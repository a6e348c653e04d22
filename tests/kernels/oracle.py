"""Every op as a NumPy expression in extended precision: more bits than any kernel's accumulator has.

Where a long double is a double (Windows, macOS on ARM) that is so for float32 only; float64 results are compared with
others of their own precision there, whose errors the tolerances leave room for, which a test shows.

``results(op, given)`` is what a call must return and leave in its in-place operands; ``scales`` the same with every
number replaced by its magnitude where sums are formed, so that tolerances follow |a| |b|, not a result that cancelled.
"""

from __future__ import annotations

import numpy as np

from fastnn import backends
from fastnn.kernels.table import NUMBERS, TABLE, linear_steps, windows

WIDE = np.longdouble
CLIP = WIDE("1e-7")
PI = "3.14159265358979323846"


def wide(array):
    return np.asarray(array, WIDE)


def sigmoid(x):
    e = np.exp(-abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def softmax(x):
    if x.size == 0:
        return x
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(dy, x, y):
    return y * (dy - (dy * y).sum(axis=1, keepdims=True))


def tanh(x):
    return np.tanh(x)


def normal(x):
    """The standard normal distribution: its series near 0, a continued fraction for its tail."""
    t = np.minimum(abs(x), 160)  # far enough for 0 in a long double
    bell = np.exp(-t * t / 2) / np.sqrt(2 * WIDE(PI))
    term = total = t
    for k in range(1, 120):
        term = term * t * t / (2 * k + 1)
        total = total + term
    fraction = np.maximum(t, 2)
    for k in range(400, 0, -1):
        fraction = np.maximum(t, 2) + k / fraction
    tail = np.where(t < 2, WIDE(1) / 2 - bell * total, bell / fraction)
    return np.where(x > 0, 1 - tail, tail)


def erf(x):
    """By its series near 0, else by the normal distribution."""
    near = np.clip(x, -1, 1)
    term = total = np.ones_like(x)
    for k in range(1, 40):
        term = term * -near * near / k
        total = total + term / (2 * k + 1)
    return np.where(abs(x) < 1, 2 / np.sqrt(WIDE(PI)) * near * total, 2 * normal(np.sqrt(WIDE(2)) * x) - 1)


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


def times(x, gate):
    """x times a gate that vanishes faster than x grows."""
    return np.where(gate == 0, 0, np.where(gate == 0, 0, x) * gate)


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def bounded_relu(x, slope, most, threshold):
    below = slope * (x - threshold) if slope else np.zeros_like(x)
    return np.where(np.isnan(x), x, np.minimum(np.where(x >= threshold, x, below), most))


def bounded_relu_slope(x, slope, most, threshold):
    return np.where(x > threshold, np.where(x < most, 1, 0), slope)


def gelu_tanh_argument(x):
    return np.sqrt(2 / WIDE(PI)) * (x + WIDE("0.044715") * x**3)


def gelu_tanh_slope(x):
    u = gelu_tanh_argument(x)
    inner = np.sqrt(2 / WIDE(PI)) * (1 + 3 * WIDE("0.044715") * x**2)
    return (1 + np.tanh(u)) / 2 + x * (1 - np.tanh(u) ** 2) * inner / 2


def soft_shrink(x, threshold):
    return np.where(abs(x) > threshold, x - np.copysign(threshold, x), np.where(np.isnan(x), x, 0))


# Self-normalising networks' alpha and scale, as Klambauer et al. (2017) derive them.
ALPHA, SCALE = "1.6732632423543772848", "1.0507009873554804934"

# y from x and the activation's numbers.
FORWARD = {
    "identity": lambda x: x,
    "linear": lambda x: x,
    "relu": lambda x: np.where((x > 0) | np.isnan(x), x, 0),
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu6": lambda x: np.where(np.isnan(x), x, np.clip(x, 0, 6)),
    "bounded_relu": bounded_relu,
    "leaky_relu": lambda x, slope: np.where(x > 0, x, slope * x),
    "elu": elu,
    "celu": lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x / alpha, 0))),
    "selu": lambda x: WIDE(SCALE) * elu(x, WIDE(ALPHA)),
    "hard_sigmoid": lambda x: np.where(np.isnan(x), x, np.clip(x + 3, 0, 6)) / 6,
    "log_sigmoid": lambda x: -softplus(-x),
    "hard_tanh": lambda x: np.where(np.isnan(x), x, np.clip(x, -1, 1)),
    "softplus": softplus,
    "softsign": lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + abs(x))),
    "silu": lambda x: times(x, sigmoid(x)),
    "hard_silu": lambda x: times(x, np.clip(x + 3, 0, 6) / 6),
    "gelu": lambda x: times(x, normal(x)),
    "gelu_tanh": lambda x: times(x, sigmoid(2 * gelu_tanh_argument(x))),
    "mish": lambda x: times(x, np.tanh(softplus(x))),
    "exponential": np.exp,
    "threshold": lambda x, threshold, default: np.where((x > threshold) | np.isnan(x), x, default),
    "soft_shrink": soft_shrink,
    "hard_shrink": lambda x, threshold: np.where((abs(x) > threshold) | np.isnan(x), x, 0),
    "binary_step": lambda x: np.where(np.isnan(x), x, x >= 0),
    "sign": np.sign,
    "square": lambda x: x * x,
    "sqrt": np.sqrt,
    "log": np.log,
    "absolute": abs,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "log1p": np.log1p,
    "expm1": np.expm1,
    "erf": erf,
    "sin": np.sin,
    "cos": np.cos,
    "softmax": softmax,
    "log_softmax": lambda x: (
        x - x.max(1, keepdims=True) - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)) if x.size else x
    ),
}
# dx from dy, x, y and the activation's numbers.
BACKWARD = {
    "identity": lambda dy, x, y: dy,
    "linear": lambda dy, x, y: dy,
    "relu": lambda dy, x, y: np.where(y > 0, dy, 0),
    "sigmoid": lambda dy, x, y: dy * y * (1 - y),
    "tanh": lambda dy, x, y: dy * (1 - y) * (1 + y),
    "relu6": lambda dy, x, y: np.where((y > 0) & (y < 6), dy, 0),
    "bounded_relu": lambda dy, x, y, *numbers: dy * bounded_relu_slope(x, *numbers),
    "leaky_relu": lambda dy, x, y, slope: np.where(y > 0, dy, slope * dy),
    "elu": lambda dy, x, y, alpha: dy * np.where(y > 0, 1, y + alpha),
    "celu": lambda dy, x, y, alpha: dy * np.where(y > 0, 1, y / alpha + 1),
    "selu": lambda dy, x, y: dy * np.where(y > 0, WIDE(SCALE), y + WIDE(SCALE) * WIDE(ALPHA)),
    "hard_sigmoid": lambda dy, x, y: np.where((y > 0) & (y < 1), dy / 6, 0),
    "log_sigmoid": lambda dy, x, y: dy * (1 - np.exp(y)),
    "hard_tanh": lambda dy, x, y: np.where(abs(y) < 1, dy, 0),
    "softplus": lambda dy, x, y: dy * (1 - np.exp(-y)),
    "softsign": lambda dy, x, y: dy * (1 - abs(y)) ** 2,
    "silu": lambda dy, x, y: dy * (sigmoid(x) + times(x, sigmoid(x) * sigmoid(-x))),
    "hard_silu": lambda dy, x, y: dy * np.where(x <= -3, 0, np.where(x >= 3, 1, (2 * x + 3) / 6)),
    "gelu": lambda dy, x, y: dy * (normal(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * WIDE(PI))),
    "gelu_tanh": lambda dy, x, y: dy * gelu_tanh_slope(x),
    "mish": lambda dy, x, y: dy * (np.tanh(softplus(x)) + x * (1 - np.tanh(softplus(x)) ** 2) * sigmoid(x)),
    "exponential": lambda dy, x, y: dy * y,
    "threshold": lambda dy, x, y, threshold, default: np.where(x > threshold, dy, 0),
    "soft_shrink": lambda dy, x, y, threshold: np.where(y != 0, dy, 0),
    "hard_shrink": lambda dy, x, y, threshold: np.where(y != 0, dy, 0),
    "binary_step": lambda dy, x, y: 0 * dy,
    "sign": lambda dy, x, y: 0 * dy,
    "square": lambda dy, x, y: 2 * dy * x,
    "sqrt": lambda dy, x, y: dy / (2 * y),
    "log": lambda dy, x, y: dy / x,
    "absolute": lambda dy, x, y: dy * np.sign(x),
    "rsqrt": lambda dy, x, y: -dy * y**3 / 2,
    "log1p": lambda dy, x, y: dy / (1 + x),
    "expm1": lambda dy, x, y: dy * (y + 1),
    "erf": lambda dy, x, y: dy * 2 / np.sqrt(WIDE(PI)) * np.exp(-x * x),
    "sin": lambda dy, x, y: dy * np.cos(x),
    "cos": lambda dy, x, y: -dy * np.sin(x),
    "softmax": softmax_backward,
    "log_softmax": lambda dy, x, y: dy - np.exp(y) * dy.sum(axis=1, keepdims=True),
}


def activation(name):
    """The op of an activation as a formula of its operands and numbers."""
    return lambda x, **numbers: FORWARD[name](x, *({**NUMBERS.get(name, {}), **numbers}).values())


def derivative(name):
    """The op of an activation's derivative."""
    return lambda dy, x, y, **numbers: BACKWARD[name](dy, x, y, *({**NUMBERS.get(name, {}), **numbers}).values())


def add(a, b):
    return a + b


def subtract(a, b):
    return a - b


def multiply(a, b):
    return a * b


def divide(a, b):
    return a / b


def average(a, b):
    return (a + b) / 2


def maximum(a, b):
    return np.maximum(a, b)


def minimum(a, b):
    return np.minimum(a, b)


def maximum_backward(dy, a, b):
    return np.where(a >= b, dy, 0), np.where(a >= b, 0, dy)


def minimum_backward(dy, a, b):
    return np.where(a <= b, dy, 0), np.where(a <= b, 0, dy)


def join(a, b):
    return np.concatenate([a, b], axis=1)


def join_backward(dy, a, b):
    return dy[:, : a.shape[1]], dy[:, a.shape[1] :]


def gather(data, index):
    return data[index]


def gather_backward(dy, data, index):
    total = np.zeros_like(data)
    np.add.at(total, index, dy)
    return total


def _patches(x, pool_size, strides, padding):
    """(n, p, q, window, c): what each window covers, NaN where that is outside; its numbers' places in x, -1 there."""
    around = [windows.margins(x.shape[axis + 1], pool_size[axis], strides[axis], padding, axis) for axis in (0, 1)]
    wide = np.pad(x, ((0, 0), *around, (0, 0)), constant_values=np.nan)
    places = np.pad(np.arange(x.size).reshape(x.shape), ((0, 0), *around, (0, 0)), constant_values=-1)
    cut = [
        np.lib.stride_tricks.sliding_window_view(each, pool_size, (1, 2))[:, :: strides[0], :: strides[1]]
        for each in (wide, places)
    ]
    shape = *cut[0].shape[:4], pool_size[0] * pool_size[1]
    return [np.moveaxis(each.reshape(shape), 4, 3) for each in cut]


def max_pool2d(x, pool_size, strides, padding="valid"):
    patches, _ = _patches(x, pool_size, strides, padding)
    return np.fmax.reduce(patches, axis=3)


def average_pool2d(x, pool_size, strides, padding="valid"):
    patches, places = _patches(x, pool_size, strides, padding)
    return np.where(places >= 0, patches, 0).sum(axis=3) / (places >= 0).sum(axis=3)


def max_pool2d_backward(dy, x, y, pool_size, strides, padding="valid"):
    patches, places = _patches(x, pool_size, strides, padding)
    first = np.argmax(patches == y[:, :, :, None], axis=3, keepdims=True)
    dx = np.zeros(x.size, WIDE)
    np.add.at(dx, np.take_along_axis(places, first, 3).ravel(), dy.ravel())
    return dx.reshape(x.shape)


def average_pool2d_backward(dy, x, pool_size, strides, padding="valid"):
    _, places = _patches(x, pool_size, strides, padding)
    shares = np.broadcast_to((dy / (places >= 0).sum(axis=3))[:, :, :, None], places.shape)
    dx = np.zeros(x.size, WIDE)
    np.add.at(dx, places[places >= 0], shares[places >= 0])
    return dx.reshape(x.shape)


def global_max_pool(x):
    return x.max(axis=1)


def global_average_pool(x):
    return x.mean(axis=1)


def global_max_pool_backward(dy, x, y):
    first = np.argmax(x == y[:, None], axis=1)
    return np.where(np.arange(x.shape[1])[:, None] == first[:, None], dy[:, None], 0)


def global_average_pool_backward(dy, x):
    return np.broadcast_to(dy[:, None] / x.shape[1], x.shape)


def zero_pad2d(x, padding=1):
    return np.pad(x, ((0, 0), *padding, (0, 0)))


def crop2d(x, cropping=1):
    (top, bottom), (left, right) = cropping
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def sampled_places(h, w, matrices, height, width, interpolation, fill_mode):
    """(row, column, share, whether it is one of the image) of every place's corners, (n, height, width, corners)."""
    r, s = np.arange(height)[:, None], np.arange(width)
    a, b, c, d, e, f = (np.asarray(matrices[:, k], np.float64)[:, None, None] for k in range(6))
    row, column = a * r + b * s + c, d * r + e * s + f
    if interpolation == "nearest":
        i, j = (np.floor(each + 0.5).astype(int)[..., None] for each in (row, column))
        share = np.ones(i.shape)
    else:
        top, left = np.floor(row), np.floor(column)
        down, across = (row - top)[..., None], (column - left)[..., None]
        i = top.astype(int)[..., None] + [0, 0, 1, 1]
        j = left.astype(int)[..., None] + [0, 1, 0, 1]
        share = np.concatenate([1 - down, 1 - down, down, down], -1) * np.concatenate([1 - across, across] * 2, -1)
    known = (i >= 0) & (i < h) & (j >= 0) & (j < w)
    found = []
    for place, size in ((i, h), (j, w)):
        mirrored = place % (2 * size)
        ways = {
            "wrap": place % size,
            "reflect": np.where(mirrored < size, mirrored, 2 * size - 1 - mirrored),
        }
        found.append(ways.get(fill_mode, np.clip(place, 0, size - 1)))
    return *found, share, known | (fill_mode != "constant")


def affine_sample2d(x, matrices, height, width, interpolation="bilinear", fill_mode="constant", fill_value=0.0):
    n, h, w, _ = x.shape
    i, j, share, known = sampled_places(h, w, matrices, height, width, interpolation, fill_mode)
    seen = np.where(known[..., None], x[np.arange(n)[:, None, None, None], i, j], WIDE(fill_value))
    return (share[..., None] * seen).sum(axis=3)


def affine_sample2d_backward(
    dy, x, matrices, height, width, interpolation="bilinear", fill_mode="constant", fill_value=0.0
):
    n, h, w, _ = x.shape
    i, j, share, known = sampled_places(h, w, matrices, height, width, interpolation, fill_mode)
    dx = np.zeros(x.shape, WIDE)
    images = np.broadcast_to(np.arange(n)[:, None, None, None], i.shape)
    np.add.at(dx, (images, i, j), (share * known)[..., None] * dy[:, :, :, None])
    return dx


def upsample2d(x, size=(2, 2)):
    return x.repeat(size[0], axis=1).repeat(size[1], axis=2)


def upsample2d_backward(dy, x, size=(2, 2)):
    n, h, w, c = x.shape
    return dy.reshape(n, h, size[0], w, size[1], c).sum(axis=(2, 4))


def column_sums(x):
    return x.sum(axis=0)


def matmul(a, b):
    return np.einsum("nk,km->nm", a, b) if a.shape[1] else np.zeros((a.shape[0], b.shape[1]), WIDE)


def linear(x, w, b=None, activation="linear"):
    return FORWARD[activation](matmul(x, w) + (0 if b is None else b), *NUMBERS.get(activation, {}).values())


def linear_backward(dy, x, w, y, activation="linear", z=None, need=()):
    dz = BACKWARD[activation](dy, z, y, *NUMBERS.get(activation, {}).values())
    return matmul(dz, w.T), matmul(x.T, dz), dz.sum(axis=0)


def _windows(x, w, strides, padding, dilation):
    """(kernel's row and column, the rows and columns of padded x under it) for each of the kernel's places."""
    along = [(x.shape[1 + axis], w.shape[axis], strides[axis], padding, axis, dilation[axis]) for axis in range(2)]
    count, margin = [windows.places(*each) for each in along], [windows.margins(*each) for each in along]
    for k, m in np.ndindex(*w.shape[:2]):
        first = k * dilation[0], m * dilation[1]
        yield (
            k,
            m,
            margin,
            tuple(slice(f, f + (n - 1) * s + 1, s) for f, n, s in zip(first, count, strides, strict=True)),
        )


def _by_group(a, groups):
    """The last axis as (groups, share)."""
    return a.reshape(*a.shape[:-1], groups, -1) if a.size else np.zeros((*a.shape[:-1], groups, a.shape[-1] // groups))


def conv2d(x, w, b=None, activation="linear", strides=(1, 1), padding="valid", dilation=(1, 1), groups=1):
    z = WIDE(0)
    for k, m, margin, (rows, columns) in _windows(x, w, strides, padding, dilation):
        seen = _by_group(np.pad(x, [(0, 0), *margin, (0, 0)])[:, rows, columns], groups)
        product = np.einsum("nijgc,cgf->nijgf", seen, _by_group(w[k, m], groups))
        z = z + product.reshape(*product.shape[:3], w.shape[3])
    return of_rows(FORWARD[activation], activation, z + (0 if b is None else b))


def conv2d_backward(
    dy, x, w, y, activation="linear", z=None, need=(), strides=(1, 1), padding="valid", dilation=(1, 1), groups=1
):
    dz = of_rows(BACKWARD[activation], activation, dy, z, y)
    of_z, dw, slope = _by_group(dz, groups), np.zeros_like(w), WIDE(0)
    for k, m, margin, (rows, columns) in _windows(x, w, strides, padding, dilation):
        padded = np.pad(x, [(0, 0), *margin, (0, 0)])
        of_x, share = np.einsum("nijgf,cgf->nijgc", of_z, _by_group(w[k, m], groups)), np.zeros_like(padded)
        share[:, rows, columns] = of_x.reshape(*of_x.shape[:3], x.shape[3])
        slope = slope + share
        product = np.einsum("nijgc,nijgf->cgf", _by_group(padded[:, rows, columns], groups), of_z)
        dw[k, m] = product.reshape(w.shape[2:])
    (top, _), (left, _) = margin
    return slope[:, top : top + x.shape[1], left : left + x.shape[2]], dw, dz.sum(axis=(0, 1, 2))


def _row_options(strides, padding, dilation):
    """Of sequences, for images of one row."""
    padding = padding if isinstance(padding, str) else ((0, 0), *padding)
    return {"strides": (1, *strides), "padding": padding, "dilation": (1, *dilation)}


def conv1d(x, w, b=None, activation="linear", strides=(1,), padding="valid", dilation=(1,), groups=1):
    return conv2d(x[:, None], w[None], b, activation, **_row_options(strides, padding, dilation), groups=groups)[:, 0]


def conv1d_backward(
    dy, x, w, y, activation="linear", z=None, need=(), strides=(1,), padding="valid", dilation=(1,), groups=1
):
    images, z = (each[:, None] for each in (dy, x)), None if z is None else z[:, None]
    options = {**_row_options(strides, padding, dilation), "groups": groups}
    dx, dw, db = conv2d_backward(*images, w[None], y[:, None], activation, z, **options)
    return dx[:, 0], dw[0], db


def conv2d_transpose(x, w, b=None, activation="linear", strides=(1, 1), padding="valid", dilation=(1, 1)):
    along = [windows.spread(x.shape[1 + a], w.shape[a], strides[a], padding, a, dilation[a]) for a in range(2)]
    like = np.zeros((x.shape[0], *along, w.shape[2]), WIDE)
    z = conv2d_backward(x, like, w, x, strides=strides, padding=padding, dilation=dilation)[0]
    return of_rows(FORWARD[activation], activation, z + (0 if b is None else b))


def conv2d_transpose_backward(
    dy, x, w, y, activation="linear", z=None, need=(), strides=(1, 1), padding="valid", dilation=(1, 1)
):
    dz = of_rows(BACKWARD[activation], activation, dy, z, y)
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    dw = conv2d_backward(x, dz, w, x, **options)[1]
    return conv2d(dz, w, **options), dw, dz.sum(axis=(0, 1, 2))


def depthwise_conv2d(x, w, b=None, activation="linear", strides=(1, 1), padding="valid", dilation=(1, 1)):
    grouped = w.reshape(*w.shape[:2], 1, -1) if w.size else w.reshape(*w.shape[:2], min(1, x.shape[3]), 0)
    return conv2d(x, grouped, b, activation, strides, padding, dilation, max(1, x.shape[3]))


def depthwise_conv2d_backward(
    dy, x, w, y, activation="linear", z=None, need=(), strides=(1, 1), padding="valid", dilation=(1, 1)
):
    grouped = w.reshape(*w.shape[:2], 1, -1) if w.size else w.reshape(*w.shape[:2], min(1, x.shape[3]), 0)
    options = need, strides, padding, dilation, max(1, x.shape[3])
    dx, dw, db = conv2d_backward(dy, x, grouped, y, activation, z, *options)
    return dx, dw.reshape(w.shape), db


def of_rows(function, activation, *arrays):
    """A formula of an activation's for arrays of more than two axes, the last one the rows'."""
    rows = [None if each is None else each.reshape(-1, each.shape[-1] or 1) for each in arrays]
    return function(*rows, *NUMBERS.get(activation, {}).values()).reshape(arrays[0].shape)


def _rows(targets, c):
    targets = np.asarray(targets)
    return np.eye(c, dtype=WIDE)[targets.astype(int)] if targets.ndim == 1 else targets


def _weights(sample_weight, n):
    return np.ones(n, WIDE) if sample_weight is None else sample_weight


def prelu(x, alpha):
    return np.where(x > 0, x, alpha * x)


def prelu_backward(dy, x, alpha):
    return np.where(x > 0, dy, alpha * dy), np.where(x > 0, 0, dy * x).sum(axis=0)


def _scaled(gamma):
    return 1 if gamma is None else gamma


def _shifted(beta):
    return 0 if beta is None else beta


def _moments(x, axis):
    if x.shape[axis] == 0:
        return (np.zeros(x.shape[1 - axis], WIDE),) * 2
    return x.mean(axis), x.var(axis)


def batch_norm(x, gamma=None, beta=None, moving_mean=None, moving_variance=None, momentum=0.99, epsilon=1e-3):
    mean, variance = _moments(x, 0)
    rstd, momentum = 1 / np.sqrt(variance + WIDE(epsilon)), WIDE(momentum if len(x) else 1)
    moving = {"moving_mean": (moving_mean, mean), "moving_variance": (moving_variance, variance)}
    moved = {name: momentum * old + (1 - momentum) * new for name, (old, new) in moving.items() if old is not None}
    return {0: _scaled(gamma) * (x - mean) * rstd + _shifted(beta), 1: mean, 2: rstd, **moved}


def _needed(need, *gradients, names=("dx", "dgamma", "dbeta")):
    named = enumerate(zip(names, gradients, strict=True))
    return {place: gradient for place, (name, gradient) in named if name in need}


def batch_norm_backward(dy, x, mean, rstd, gamma=None, need=("dx", "dgamma", "dbeta")):
    z, n = (x - mean) * rstd, max(1, len(x))
    dgamma, dbeta = (dy * z).sum(axis=0), dy.sum(axis=0)
    return _needed(need, _scaled(gamma) * rstd * (dy - dbeta / n - z * dgamma / n), dgamma, dbeta)


def batch_norm_inference(x, moving_mean, moving_variance, gamma=None, beta=None, epsilon=1e-3):
    return _scaled(gamma) * (x - moving_mean) / np.sqrt(moving_variance + WIDE(epsilon)) + _shifted(beta)


def batch_norm_inference_backward(
    dy, x, moving_mean, moving_variance, gamma=None, epsilon=1e-3, need=("dx", "dgamma", "dbeta")
):
    rstd = 1 / np.sqrt(moving_variance + WIDE(epsilon))
    return _needed(need, _scaled(gamma) * rstd * dy, (dy * (x - moving_mean) * rstd).sum(axis=0), dy.sum(axis=0))


def layer_norm(x, gamma=None, beta=None, epsilon=1e-3):
    mean, variance = (each[:, None] for each in _moments(x, 1))
    return _scaled(gamma) * (x - mean) / np.sqrt(variance + WIDE(epsilon)) + _shifted(beta)


def layer_norm_backward(dy, x, gamma=None, epsilon=1e-3, need=("dx", "dgamma", "dbeta")):
    mean, variance = (each[:, None] for each in _moments(x, 1))
    rstd = 1 / np.sqrt(variance + WIDE(epsilon))
    z, g = (x - mean) * rstd, _scaled(gamma) * dy
    means = (each.mean(axis=1, keepdims=True) if len(x) else each for each in (g, g * z))
    first, second = means
    return _needed(need, rstd * (g - first - z * second), (dy * z).sum(axis=0), dy.sum(axis=0))


def softmax_cross_entropy(logits, targets, sample_weight=None):
    n, c = logits.shape
    if n == 0:
        return WIDE(0), logits
    t, weight = _rows(targets, c), _weights(sample_weight, n)[:, None]
    top = logits.max(axis=1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return -(weight * t * log_p).sum() / n, weight * (softmax(logits) * t.sum(axis=1, keepdims=True) - t) / n


def cross_entropy(probs, targets, sample_weight=None):
    n, c = probs.shape
    if n == 0:
        return WIDE(0), probs
    t, weight = _rows(targets, c), _weights(sample_weight, n)[:, None]
    total = probs.sum(axis=1, keepdims=True)
    scaled = probs / total
    q = np.clip(scaled, CLIP, 1 - CLIP)
    slope = np.where(q == scaled, -weight * t / q, 0) / n
    return -(weight * t * np.log(q)).sum() / n, (slope - (slope * scaled).sum(axis=1, keepdims=True)) / total


def _spread(sample_weight, pred):
    return _weights(sample_weight, pred.shape[0]).reshape((-1,) + (1,) * (pred.ndim - 1))


def _reduced(values, slopes, pred, sample_weight, mean):
    weight, scale = _spread(sample_weight, pred), WIDE(1) / max(1, pred.size) if mean else WIDE(1)
    return (weight * values).sum() * scale, weight * slopes * scale


def philox(counter, key):
    """Philox4x32-10 of arrays of words: four counters that broadcast, and two words of a key."""
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, np.uint64) for word in counter))
    k0, k1 = (np.uint64(word) for word in key)
    word = np.uint64(2**32 - 1)
    for _ in range(10):
        p, q = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (q >> np.uint64(32)) ^ c1 ^ k0, q & word, (p >> np.uint64(32)) ^ c3 ^ k1, p & word
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & word, (k1 + np.uint64(0xBB67AE85)) & word
    return np.stack([c0, c1, c2, c3])


def words_of(rows, columns, seed, step=0, stream=0):
    """The random words of rows and columns, which broadcast."""
    words = philox((columns % 16 + columns // 64 * 16, rows, step, stream), (seed % 2**32, seed >> 32))
    return np.choose(columns // 16 % 4, words)


def dropout_kept(shape, rate, seed, step=0, stream=0):
    """Where dropout keeps."""
    return words_of(*np.ogrid[: shape[0], : shape[1]], seed, step, stream) >= WIDE(rate) * 2**32


def dropout(x, rate, seed, step=0, stream=0):
    return np.where(dropout_kept(x.shape, rate, seed, step, stream), x / (1 - WIDE(rate)), 0)


def dropout_backward(dy, rate, seed, step=0, stream=0):
    return dropout(dy, rate, seed, step, stream)


def random_uniform(like, seed, step=0, stream=0, minval=0.0, maxval=1.0):
    share = wide(words_of(*np.ogrid[: like.shape[0], : like.shape[1]], seed, step, stream) // 2**8) / 2**24
    return minval + (WIDE(maxval) - minval) * share


def random_normal(like, seed, step=0, stream=0, mean=0.0, stddev=1.0):
    rows, columns = np.ogrid[: like.shape[0], : like.shape[1]]
    first = columns - columns // 16 % 2 * 16
    u = (wide(words_of(rows, first, seed, step, stream)) + WIDE(1) / 2) / 2**32
    angle = 8 * np.arctan(WIDE(1)) * wide(words_of(rows, first + 16, seed, step, stream)) / 2**32
    part = np.where(first == columns, np.cos(angle), np.sin(angle))
    return WIDE(mean) + WIDE(stddev) * np.sqrt(-2 * np.log(u)) * part


def mse(pred, target, sample_weight=None):
    return _reduced((pred - target) ** 2, 2 * (pred - target), pred, sample_weight, True)


def mae(pred, target, sample_weight=None):
    return _reduced(abs(pred - target), np.sign(pred - target), pred, sample_weight, True)


def half_sse(pred, target, sample_weight=None):
    return _reduced((pred - target) ** 2 / 2, pred - target, pred, sample_weight, False)


def binary_cross_entropy(pred, target, sample_weight=None, from_logits=False):
    if from_logits:
        values = np.maximum(pred, 0) - pred * target + np.log1p(np.exp(-abs(pred)))
        return _reduced(values, sigmoid(pred) - target, pred, sample_weight, True)
    q = np.clip(pred, CLIP, 1 - CLIP)
    values = -(target * np.log(q) + (1 - target) * np.log1p(-q))
    return _reduced(values, np.where(q == pred, (q - target) / (q * (1 - q)), 0), pred, sample_weight, True)


def l1_l2_penalty(w, l1=0.0, l2=0.0):
    l1, l2 = WIDE(l1), WIDE(l2)
    return (l1 * abs(w) + l2 * w**2).sum(), l1 * np.sign(w) + 2 * l2 * w


def total(x, share=1.0):
    return WIDE(share) * x.sum(), WIDE(share) * np.ones_like(x)


def sgd_step(w, dw, velocity=None, learning_rate=0.01, momentum=0.0, nesterov=False):
    step = WIDE(learning_rate) * dw
    if velocity is None:
        return {"w": w - step}
    velocity = WIDE(momentum) * velocity - step
    return {"w": w + (WIDE(momentum) * velocity - step if nesterov else velocity), "velocity": velocity}


def rmsprop_step(
    w, dw, mean_square, velocity=None, mean=None, learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7
):
    rho, state = WIDE(rho), {}
    mean_square = state["mean_square"] = rho * mean_square + (1 - rho) * dw**2
    variance = mean_square
    if mean is not None:
        mean = state["mean"] = rho * mean + (1 - rho) * dw
        variance = mean_square - mean**2
    step = WIDE(learning_rate) * dw / np.sqrt(variance + WIDE(epsilon))
    if velocity is not None:
        step = state["velocity"] = WIDE(momentum) * velocity + step
    return {"w": w - step, **state}


def heavy_ball_step(w, dw, velocity, learning_rate=0.01, momentum=0.9, dampening=0.0, nesterov=False):
    velocity = WIDE(momentum) * velocity + (1 - WIDE(dampening)) * dw
    moved = dw + WIDE(momentum) * velocity if nesterov else velocity
    return {"w": w - WIDE(learning_rate) * moved, "velocity": velocity}


def rmsprop_root_step(
    w, dw, mean_square, velocity=None, mean=None, learning_rate=0.01, rho=0.99, momentum=0.0, epsilon=1e-8
):
    rho, state = WIDE(rho), {}
    mean_square = state["mean_square"] = rho * mean_square + (1 - rho) * dw**2
    variance = mean_square
    if mean is not None:
        mean = state["mean"] = rho * mean + (1 - rho) * dw
        variance = mean_square - mean**2
    moved = dw / (np.sqrt(variance) + WIDE(epsilon))
    if velocity is not None:
        moved = state["velocity"] = WIDE(momentum) * velocity + moved
    return {"w": w - WIDE(learning_rate) * moved, **state}


def adagrad_root_step(w, dw, accumulator, learning_rate=0.01, epsilon=1e-10):
    accumulator = accumulator + dw**2
    moved = dw / (np.sqrt(accumulator) + WIDE(epsilon))
    return {"w": w - WIDE(learning_rate) * moved, "accumulator": accumulator}


def adam_step(w, dw, m, v, step, v_max=None, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    beta_1, beta_2 = WIDE(beta_1), WIDE(beta_2)
    m, v = m + (1 - beta_1) * (dw - m), v + (1 - beta_2) * (dw**2 - v)
    state = {"m": m, "v": v}
    largest = v
    if v_max is not None:
        largest = state["v_max"] = np.maximum(v_max, v)
    alpha = WIDE(learning_rate) * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    return {"w": w - alpha * m / (np.sqrt(largest) + WIDE(epsilon)), **state}


def adagrad_step(w, dw, accumulator, learning_rate=0.001, epsilon=1e-7):
    accumulator = accumulator + dw**2
    return {"w": w - WIDE(learning_rate) * dw / np.sqrt(accumulator + WIDE(epsilon)), "accumulator": accumulator}


def adadelta_step(w, dw, mean_square, mean_moved, learning_rate=0.001, rho=0.95, epsilon=1e-7):
    rho, epsilon = WIDE(rho), WIDE(epsilon)
    square = rho * mean_square + (1 - rho) * dw**2
    step = dw * np.sqrt((mean_moved + epsilon) / (square + epsilon))
    moved = rho * mean_moved + (1 - rho) * step**2
    return {"w": w - WIDE(learning_rate) * step, "mean_square": square, "mean_moved": moved}


def adamax_step(w, dw, m, norm, step, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    beta_1, beta_2 = WIDE(beta_1), WIDE(beta_2)
    m, norm = m + (1 - beta_1) * (dw - m), np.maximum(beta_2 * norm, abs(dw))
    alpha = WIDE(learning_rate) / (1 - beta_1**step)
    return {"w": w - alpha * m / (norm + WIDE(epsilon)), "m": m, "norm": norm}


def nadam_step(w, dw, m, v, step, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    beta_1, beta_2 = WIDE(beta_1), WIDE(beta_2)
    momenta = beta_1 * (1 - WIDE("0.96") ** np.arange(1, step + 2) / 2)
    m, v = m + (1 - beta_1) * (dw - m), v + (1 - beta_2) * (dw**2 - v)
    mean = momenta[-1] * m / (1 - momenta.prod()) + (1 - momenta[-2]) * dw / (1 - momenta[:-1].prod())
    root = np.sqrt(v / (1 - beta_2**step))
    return {"w": w - WIDE(learning_rate) * mean / (root + WIDE(epsilon)), "m": m, "v": v}


def lion_step(w, dw, m, learning_rate=0.001, beta_1=0.9, beta_2=0.99):
    beta_1, beta_2 = WIDE(beta_1), WIDE(beta_2)
    drawn = beta_1 * m + (1 - beta_1) * dw
    return {"w": w - WIDE(learning_rate) * np.sign(drawn), "m": beta_2 * m + (1 - beta_2) * dw}


def ftrl_step(
    w,
    dw,
    accumulator,
    linear,
    learning_rate=0.001,
    learning_rate_power=-0.5,
    l1_regularization_strength=0.0,
    l2_regularization_strength=0.0,
    l2_shrinkage_regularization_strength=0.0,
    beta=0.0,
):
    rate, power, l1 = WIDE(learning_rate), -WIDE(learning_rate_power), WIDE(l1_regularization_strength)
    new = accumulator + dw**2
    sigma = (new**power - accumulator**power) / rate
    linear = linear + dw + (2 * WIDE(l2_shrinkage_regularization_strength) - sigma) * w
    pull = (new**power + WIDE(beta)) / rate + 2 * WIDE(l2_regularization_strength)
    return {"w": (np.clip(linear, -l1, l1) - linear) / pull, "accumulator": new, "linear": linear}


def rprop_step(w, dw, step_size, change, gradient, eta_minus=0.5, eta_plus=1.2, step_min=1e-6, step_max=50.0):
    turn = np.sign(change) * np.sign(dw)
    shrunk, grown = np.maximum(step_size * WIDE(eta_minus), step_min), np.minimum(step_size * WIDE(eta_plus), step_max)
    size = np.select([turn > 0, turn < 0], [shrunk, grown], step_size)
    kept = np.where(turn > 0, 0, -np.sign(dw) * size)
    return {"w": w + np.where(turn > 0, -change, kept), "step_size": size, "change": kept, "gradient": dw}


def rprop_minus_step(
    w,
    dw,
    step_size,
    gradient,
    balance="none",
    eta_minus=0.5,
    eta_plus=1.2,
    step_min=1e-6,
    step_max=50.0,
    delta=1e-6,
):
    kept = np.sign(gradient) * np.sign(dw)
    shrunk, grown = np.maximum(step_size * WIDE(eta_minus), step_min), np.minimum(step_size * WIDE(eta_plus), step_max)
    size = np.select([kept > 0, kept < 0], [grown, shrunk], step_size)
    if balance != "none" and dw.any():
        keys = np.where(dw != 0, abs(dw) if balance == "gradient" else size, np.inf)
        one = np.unravel_index(np.argmin(keys), keys.shape)
        slope, total = dw[one], (size * dw).sum() - size[one] * dw[one] + WIDE(delta)
        size[one] = np.clip(-total / slope, step_min, step_max)
    return {"w": w - np.sign(dw) * size, "step_size": size, "gradient": dw}


def layer_step(op):
    """The op of a linear layer's step as its gradients and the optimizer's formula, of w and of b."""
    step = linear_steps.step_of(op)
    states = linear_steps.states_of(step)

    def call(dy, x, w, y, b=None, activation="linear", z=None, need=("dx",), **given):
        dx, dw, db = linear_backward(dy, x, w, y, activation, z)
        options = {name: given[name] for name in step.options if name in given}
        of_w, of_b = ({state: given.get(name(state)) for state in states} for name in (str, linear_steps.of_bias))
        result = {0: dx} if need else {}
        result |= ORACLES[step.name](w, dw, **of_w, **options)
        if b is not None:
            stepped = ORACLES[step.name](b, db, **of_b, **options)
            result |= {"b" if name == "w" else linear_steps.of_bias(name): value for name, value in stepped.items()}
        return result

    return call


def _attention_weights(query, key, mask, scale, causal):
    """(n, h, t, s), and which of them count."""
    scores = WIDE(scale) * np.einsum("nthd,nshd->nhts", query, key)
    counts = np.ones(scores.shape, bool) if mask is None else np.broadcast_to(mask[:, None] != 0, scores.shape)
    counts = np.tril(counts) if causal else counts
    scores = np.where(counts, scores, WIDE(-1e9))
    shares = np.exp(scores - scores.max(axis=3, keepdims=True, initial=WIDE(-1e9)))
    return shares / shares.sum(axis=3, keepdims=True), counts


def attention(query, key, value, mask=None, scale=1.0, causal=False):
    weights, _ = _attention_weights(query, key, mask, scale, causal)
    return np.einsum("nhts,nshe->nthe", weights, value)


_OF_ATTENTION = ("dquery", "dkey", "dvalue")


def attention_backward(dy, query, key, value, mask=None, scale=1.0, causal=False, need=_OF_ATTENTION):
    weights, counts = _attention_weights(query, key, mask, scale, causal)
    slopes = np.einsum("nthe,nshe->nhts", dy, value)
    of_scores = weights * (slopes - (slopes * weights).sum(axis=3, keepdims=True)) * counts * WIDE(scale)
    by_query, by_key = np.einsum("nhts,nshd->nthd", of_scores, key), np.einsum("nhts,nthd->nshd", of_scores, query)
    return _needed(need, by_query, by_key, np.einsum("nhts,nthe->nshe", weights, dy), names=_OF_ATTENTION)


ORACLES = {name: function for name, function in globals().items() if callable(function) and name in TABLE}
for _name in (*NUMBERS, "softmax", "log_softmax"):
    ORACLES[_name], ORACLES[f"{_name}_backward"] = activation(_name), derivative(_name)
ORACLES |= {name: layer_step(op) for name, op in TABLE.items() if op.module == "linear_steps"}


def call(op, given):
    """Results of an op as a dict: returned values under "0", "1", ..., updated operands under their names.

    An op without a formula here is measured by its plain loops, whose numbers are doubles.
    """
    formula = ORACLES.get(op.name)
    convert = wide if formula else (lambda array: np.array(array, np.float64))
    arguments = {
        name: convert(value) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
        for name, value in given.items()
    }
    result = (formula or backends.implementation("naive", op.module, op.name))(**arguments)
    if result is None:
        return {name: arguments[name] for name in op.inplace if arguments.get(name) is not None}
    if isinstance(result, dict):
        return result
    return dict(enumerate(result if isinstance(result, tuple) else (result,)))
