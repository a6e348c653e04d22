"""Every op as a NumPy user writes it who minds the cost: into ``out``, no needless copies.

Parameters are the op's, and ``out`` for its last result. An op without a function here has no line against NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

NUMPY: dict[str, Callable[..., Any]] = {}


def _op(function: Callable[..., Any]) -> Callable[..., Any]:
    NUMPY[function.__name__] = function
    return function


def _of_one(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Any, out: Any) -> Any:
        return function(x, out=out)

    return run


def _of_two(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(a: Any, b: Any, out: Any) -> Any:
        return function(a, b, out=out)

    return run


# Ops that are a function of NumPy's.
_ONE = {
    "absolute": np.abs,
    "cos": np.cos,
    "exponential": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sign": np.sign,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": np.square,
    "tanh": np.tanh,
}
_TWO = {
    "add": np.add,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "subtract": np.subtract,
}
NUMPY.update({name: _of_one(function) for name, function in _ONE.items()})
NUMPY.update({name: _of_two(function) for name, function in _TWO.items()})


@_op
def matmul(a: Any, b: Any, out: Any) -> Any:
    return np.matmul(a, b, out=out)


@_op
def linear(x: Any, w: Any, b: Any, activation: str, out: Any) -> Any:
    assert activation == "relu"
    np.matmul(x, w, out=out)
    out += b
    return np.maximum(out, 0, out=out)


@_op
def linear_backward(dy: Any, x: Any, w: Any, y: Any, activation: str) -> Any:
    assert activation == "relu"
    dz = dy * (y > 0)
    return dz @ w.T, x.T @ dz, dz.sum(axis=0)


@_op
def average(a: Any, b: Any, out: Any) -> Any:
    np.add(a, b, out=out)
    out *= 0.5
    return out


@_op
def maximum_backward(dy: Any, a: Any, b: Any) -> Any:
    first = a >= b
    return dy * first, dy * ~first


@_op
def minimum_backward(dy: Any, a: Any, b: Any) -> Any:
    first = a <= b
    return dy * first, dy * ~first


@_op
def join(a: Any, b: Any, out: Any) -> Any:
    return np.concatenate((a, b), axis=1, out=out)


@_op
def global_average_pool(x: Any, out: Any) -> Any:
    return x.mean(axis=1, out=out)


@_op
def global_max_pool(x: Any, out: Any) -> Any:
    return x.max(axis=1, out=out)


@_op
def square_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.multiply(dy, x, out=out)
    out *= 2
    return out


@_op
def rsqrt(x: Any, out: Any) -> Any:
    np.sqrt(x, out=out)
    return np.divide(1, out, out=out)


@_op
def rsqrt_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.divide(y, x, out=out)
    out *= dy
    out *= -0.5
    return out


@_op
def log1p_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.add(x, 1, out=out)
    return np.divide(dy, out, out=out)


@_op
def expm1_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.add(y, 1, out=out)
    out *= dy
    return out


@_op
def sin_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.cos(x, out=out)
    out *= dy
    return out


@_op
def cos_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.sin(x, out=out)
    out *= dy
    return np.negative(out, out=out)


@_op
def sqrt_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.divide(dy, y, out=out)
    out *= 0.5
    return out


@_op
def log_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return np.divide(dy, x, out=out)


@_op
def absolute_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.sign(x, out=out)
    out *= dy
    return out


@_op
def identity(x: Any, out: Any) -> Any:
    np.copyto(out, x)
    return out


@_op
def identity_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.copyto(out, dy)
    return out


@_op
def relu(x: Any, out: Any) -> Any:
    return np.maximum(x, 0, out=out)


@_op
def relu_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return np.multiply(dy, y > 0, out=out)


@_op
def sigmoid(x: Any, out: Any) -> Any:
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)


@_op
def sigmoid_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.subtract(1, y, out=out)
    out *= y
    out *= dy
    return out


@_op
def tanh_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.multiply(y, y, out=out)
    np.subtract(1, out, out=out)
    out *= dy
    return out


@_op
def relu6(x: Any, out: Any) -> Any:
    return np.clip(x, 0, 6, out=out)


@_op
def relu6_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return np.multiply(dy, (y > 0) & (y < 6), out=out)


@_op
def bounded_relu_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return np.multiply(dy, x > 0, out=out)


@_op
def leaky_relu(x: Any, out: Any) -> Any:
    np.multiply(x, 0.2, out=out)
    return np.maximum(out, x, out=out)


@_op
def leaky_relu_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.greater(y, 0, out=out)
    out *= 0.8
    out += 0.2
    out *= dy
    return out


@_op
def elu(x: Any, out: Any) -> Any:
    """e^x - 1 is never below x."""
    np.minimum(x, 0, out=out)
    np.expm1(out, out=out)
    return np.maximum(out, x, out=out)


@_op
def elu_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.minimum(y, 0, out=out)
    out += 1
    out *= dy
    return out


_SELU_SCALE, _SELU_LOW = 1.0507009873554805, 1.7580993408473768


@_op
def selu(x: Any, out: Any) -> Any:
    np.minimum(x, 0, out=out)
    np.expm1(out, out=out)
    out *= _SELU_LOW
    out += _SELU_SCALE * np.maximum(x, 0)
    return out


@_op
def selu_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.greater(y, 0, out=out)
    out *= _SELU_SCALE - _SELU_LOW
    out += _SELU_LOW
    out += np.minimum(y, 0)
    out *= dy
    return out


@_op
def hard_sigmoid(x: Any, out: Any) -> Any:
    np.add(x, 3, out=out)
    np.clip(out, 0, 6, out=out)
    out *= 1 / 6
    return out


@_op
def hard_sigmoid_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.multiply(dy, (y > 0) & (y < 1), out=out)
    out *= 1 / 6
    return out


def _log_of_1_and_exponential(x: Any, out: Any) -> Any:
    """log(1 + e^-|x|)."""
    np.abs(x, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    return np.log1p(out, out=out)


@_op
def log_sigmoid(x: Any, out: Any) -> Any:
    _log_of_1_and_exponential(x, out)
    return np.subtract(np.minimum(x, 0), out, out=out)


@_op
def log_sigmoid_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.exp(y, out=out)
    np.subtract(1, out, out=out)
    out *= dy
    return out


@_op
def hard_tanh(x: Any, out: Any) -> Any:
    return np.clip(x, -1, 1, out=out)


@_op
def hard_tanh_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.abs(y, out=out)
    return np.multiply(dy, out < 1, out=out)


@_op
def softplus(x: Any, out: Any) -> Any:
    _log_of_1_and_exponential(x, out)
    out += np.maximum(x, 0)
    return out


@_op
def softplus_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.negative(y, out=out)
    return log_sigmoid_backward(dy, x, out, out)


@_op
def softsign(x: Any, out: Any) -> Any:
    np.abs(x, out=out)
    out += 1
    return np.divide(x, out, out=out)


@_op
def softsign_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.abs(y, out=out)
    np.subtract(1, out, out=out)
    out *= out
    out *= dy
    return out


@_op
def silu(x: Any, out: Any) -> Any:
    sigmoid(x, out)
    out *= x
    return out


def _times_sigmoid_backward(dy: Any, x: Any, slope: Any, s: Any) -> Any:
    """dy times the derivative of x s, where s is a sigmoid of something that rises by ``slope``; in place of s."""
    rest = 1 - s
    rest *= x
    rest *= slope
    rest += 1
    s *= rest
    s *= dy
    return s


@_op
def silu_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return _times_sigmoid_backward(dy, x, 1, sigmoid(x, out))


@_op
def hard_silu(x: Any, out: Any) -> Any:
    hard_sigmoid(x, out)
    out *= x
    return out


@_op
def hard_silu_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.multiply(x, 1 / 3, out=out)
    out += 0.5
    np.copyto(out, 0, where=x <= -3)
    np.copyto(out, 1, where=x >= 3)
    out *= dy
    return out


def _normal(x: Any, out: Any) -> Any:
    """The normal distribution up to x, into ``out``; e^(-x^2 / 2) beside it.

    NumPy has no error function. This is Abramowitz and Stegun's 7.1.26, which errs by 1.5e-7 at most and takes about
    half the time of SciPy's.
    """
    size = np.abs(x)
    t = np.reciprocal(1 + 0.3275911 * 0.5**0.5 * size)
    bell = np.exp(-0.5 * size * size)
    np.multiply(t, 1.061405429, out=out)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        out += coefficient
        out *= t
    out *= bell
    out *= -0.5
    out += 0.5
    np.copysign(out, x, out=out)
    out += 0.5
    return bell


@_op
def erf(x: Any, out: Any) -> Any:
    _normal(x * x.dtype.type(2**0.5), out)
    out *= 2
    out -= 1
    return out


@_op
def erf_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.multiply(x, x, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    out *= 2 / np.pi**0.5
    out *= dy
    return out


@_op
def gelu(x: Any, out: Any) -> Any:
    _normal(x, out)
    out *= x
    return out


@_op
def gelu_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    bell = _normal(x, out)
    bell *= x
    bell *= (2 * np.pi) ** -0.5
    out += bell
    out *= dy
    return out


_GELU_CUBIC, _GELU_TWICE = 0.044715, 2 * (2 / np.pi) ** 0.5


def _gelu_sigmoid(x: Any, out: Any) -> Any:
    """(1 + tanh(u)) / 2 as a sigmoid of 2 u."""
    np.multiply(x, x, out=out)
    out *= _GELU_TWICE * _GELU_CUBIC
    out += _GELU_TWICE
    out *= x
    return sigmoid(out, out)


@_op
def gelu_tanh(x: Any, out: Any) -> Any:
    _gelu_sigmoid(x, out)
    out *= x
    return out


@_op
def gelu_tanh_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    slope = x * x
    slope *= 3 * _GELU_TWICE * _GELU_CUBIC
    slope += _GELU_TWICE
    return _times_sigmoid_backward(dy, x, slope, _gelu_sigmoid(x, out))


@_op
def mish(x: Any, out: Any) -> Any:
    """tanh(log(1 + e)) is w / (w + 2) with w = e (e + 2)."""
    np.minimum(x, 20, out=out)
    np.exp(out, out=out)
    w = out + 2
    w *= out
    np.divide(w, w + 2, out=out)
    out *= x
    return out


@_op
def mish_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    """w / (w + 2) + 4 x e (e + 1) / (w + 2)^2."""
    e = np.exp(np.minimum(x, 20))
    w = e * (e + 2)
    below = w + 2
    np.add(e, 1, out=out)
    out *= e
    out *= x
    out *= 4
    out /= below
    out += w
    out /= below
    out *= dy
    return out


@_op
def exponential_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return np.multiply(dy, y, out=out)


@_op
def soft_shrink(x: Any, out: Any) -> Any:
    np.clip(x, -0.5, 0.5, out=out)
    return np.subtract(x, out, out=out)


@_op
def soft_shrink_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return np.multiply(dy, y != 0, out=out)


@_op
def hard_shrink(x: Any, out: Any) -> Any:
    np.abs(x, out=out)
    return np.multiply(x, out > 0.5, out=out)


@_op
def binary_step(x: Any, out: Any) -> Any:
    return np.greater_equal(x, 0, out=out)


@_op
def sign_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    out.fill(0)
    return out


@_op
def prelu(x: Any, alpha: Any, out: Any) -> Any:
    np.minimum(x, 0, out=out)
    out *= alpha
    out += np.maximum(x, 0)
    return out


@_op
def prelu_backward(dy: Any, x: Any, alpha: Any) -> Any:
    return np.where(x > 0, dy, alpha * dy), np.einsum("ij,ij->j", np.minimum(x, 0), dy)


@_op
def softmax(x: Any, out: Any) -> Any:
    np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= out.sum(axis=1, keepdims=True)
    return out


@_op
def softmax_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.subtract(dy, _dot(dy, y)[:, None], out=out)
    out *= y
    return out


@_op
def log_softmax(x: Any, out: Any) -> Any:
    np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    out -= np.log(np.exp(out).sum(axis=1, keepdims=True))
    return out


@_op
def log_softmax_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.exp(y, out=out)
    out *= dy.sum(axis=1, keepdims=True)
    return np.subtract(dy, out, out=out)


@_op
def softmax_cross_entropy(logits: Any, targets: Any, out: Any) -> Any:
    rows = np.arange(len(logits))
    np.subtract(logits, logits.max(axis=1, keepdims=True), out=out)
    chosen = out[rows, targets]
    np.exp(out, out=out)
    sums = out.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(sums[:, 0]) - chosen)
    out /= sums * len(out)
    out[rows, targets] -= 1 / len(out)
    return float(loss), out


# Losses: what their kernels keep probabilities, logarithms and norms away from.
_CLIP = 1e-7


def _dot(a: Any, b: Any) -> Any:
    """The products of rows with rows."""
    return np.einsum("ij,ij->i", a, b)


@_op
def mse(pred: Any, target: Any, out: Any) -> Any:
    np.subtract(pred, target, out=out)
    value = np.mean(out * out)
    out *= 2 / out.size
    return float(value), out


@_op
def mae(pred: Any, target: Any, out: Any) -> Any:
    difference = pred - target
    np.sign(difference, out=out)
    out *= 1 / out.size
    return float(np.abs(difference, out=difference).mean()), out


@_op
def half_sse(pred: Any, target: Any, out: Any) -> Any:
    np.subtract(pred, target, out=out)
    return float(np.sum(out * out)) / 2, out


@_op
def quadratic_cost(pred: Any, target: Any, out: Any) -> Any:
    value, _ = half_sse(pred, target, out)
    out *= 1 / len(out)
    return value / len(out), out


@_op
def mape(pred: Any, target: Any, out: Any) -> Any:
    difference = pred - target
    share = 100 / np.maximum(np.abs(target), _CLIP)
    np.sign(difference, out=out)
    out *= share
    share *= np.abs(difference, out=difference)
    out *= 1 / out.size
    return float(share.mean()), out


@_op
def msle(pred: Any, target: Any, out: Any) -> Any:
    p = np.maximum(pred, _CLIP)
    np.log1p(p, out=out)
    out -= np.log1p(np.maximum(target, _CLIP))
    value = np.mean(out * out)
    out *= 2 / out.size
    p += 1
    out /= p
    return float(value), out


@_op
def huber(pred: Any, target: Any, out: Any) -> Any:
    """With the difference bounded as b: b d - b^2 / 2."""
    difference = pred - target
    np.clip(difference, -1, 1, out=out)
    difference -= 0.5 * out
    difference *= out
    out *= 1 / out.size
    return float(difference.mean()), out


@_op
def log_cosh(pred: Any, target: Any, out: Any) -> Any:
    """|d| + log(1 + e^(-2 |d|)) - log 2."""
    difference = pred - target
    size = np.abs(difference)
    _log_of_1_and_exponential(2 * size, out)
    size += out
    np.tanh(difference, out=out)
    out *= 1 / out.size
    return float(size.mean() - np.log(2)), out


@_op
def hinge(pred: Any, target: Any, out: Any) -> Any:
    margin = 1 - target * pred
    np.multiply(target, margin > 0, out=out)
    out *= -1 / out.size
    return float(np.maximum(margin, 0, out=margin).mean()), out


@_op
def squared_hinge(pred: Any, target: Any, out: Any) -> Any:
    margin = 1 - target * pred
    np.maximum(margin, 0, out=margin)
    np.multiply(target, margin, out=out)
    out *= -2 / out.size
    margin *= margin
    return float(margin.mean()), out


@_op
def poisson(pred: Any, target: Any, out: Any) -> Any:
    p = pred + _CLIP
    np.divide(target, p, out=out)
    np.subtract(1, out, out=out)
    out *= 1 / out.size
    np.log(p, out=p)
    p *= target
    return float(np.mean(pred - p)), out


@_op
def half_poisson_deviance(pred: Any, target: Any, out: Any) -> Any:
    np.exp(pred, out=out)
    logarithm = np.log(np.where(target > 0, target, 1))
    value = float(np.sum(out - target * pred + target * logarithm - target)) / len(out)
    out -= target
    out *= 1 / len(out)
    return value, out


def _bernoulli(p: Any, target: Any) -> Any:
    """-(t log p + (1 - t) log(1 - p)), and its derivative."""
    slope = (p - target) / (p * (1 - p))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p)), slope


@_op
def binary_cross_entropy(pred: Any, target: Any) -> Any:
    loss, slope = _bernoulli(np.clip(pred, _CLIP, 1 - _CLIP), target)
    slope *= 1 / slope.size
    return float(loss.mean()), slope


@_op
def binary_focal_cross_entropy(pred: Any, target: Any) -> Any:
    loss, slope = _bernoulli(np.clip(pred, _CLIP, 1 - _CLIP), target)
    side = 1 - 2 * target
    wrong = target + side * pred
    slope *= wrong
    slope += 2 * side * loss
    slope *= wrong
    slope *= 1 / slope.size
    loss *= wrong * wrong
    return float(loss.mean()), slope


@_op
def cross_entropy(probs: Any, targets: Any, out: Any) -> Any:
    rows = np.arange(len(probs))
    sums, chosen = probs.sum(axis=1), probs[rows, targets]
    out[...] = (1 / (sums * len(out)))[:, None]
    out[rows, targets] -= 1 / (chosen * len(out))
    return float(-np.log(np.clip(chosen / sums, _CLIP, 1 - _CLIP)).mean()), out


@_op
def categorical_focal_cross_entropy(pred: Any, target: Any, out: Any) -> Any:
    """The derivative by the scaled probabilities q, then through the scaling."""
    sums = pred.sum(axis=1, keepdims=True)
    q = np.clip(pred / sums, _CLIP, 1 - _CLIP)
    rest, logarithm = 1 - q, np.log(q)
    loss = target * rest * rest * logarithm
    np.divide(rest, q, out=out)
    logarithm *= 2
    np.subtract(logarithm, out, out=out)
    out *= rest
    out *= target
    out -= _dot(out, q)[:, None]
    out /= sums * len(out)
    return float(-loss.sum() / len(out)), out


@_op
def kl_divergence(pred: Any, target: Any, out: Any) -> Any:
    p, t = np.clip(pred, _CLIP, 1), np.clip(target, _CLIP, 1)
    np.divide(t, p, out=out)
    value = np.vdot(t, np.log(out)) / len(out)
    out *= -1 / len(out)
    return float(value), out


@_op
def cosine_similarity(pred: Any, target: Any, out: Any) -> Any:
    """(p cos / |p| - t / |t|) / |p|."""
    sizes = np.sqrt(_dot(pred, pred)), np.sqrt(_dot(target, target))
    of_pred, of_target = (np.maximum(size, _CLIP) for size in sizes)
    cosine = _dot(pred, target) / (of_pred * of_target)
    np.multiply(pred, (cosine / (of_pred * of_pred * len(out)))[:, None], out=out)
    out -= target * (1 / (of_pred * of_target * len(out)))[:, None]
    return float(-cosine.mean()), out


@_op
def categorical_hinge(pred: Any, target: Any, out: Any) -> Any:
    rows = np.arange(len(pred))
    wrong = 1 - target
    wrong *= pred
    worst = wrong.argmax(axis=1)
    margin = np.maximum(wrong[rows, worst] - _dot(target, pred) + 1, 0)
    active = ((margin > 0) / len(out)).astype(out.dtype)
    np.multiply(target, -active[:, None], out=out)
    out[rows, worst] += active * (1 - target[rows, worst])
    return float(margin.mean()), out


@_op
def multiclass_hinge(scores: Any, targets: Any, out: Any) -> Any:
    rows = np.arange(len(scores))
    margin = scores - (scores[rows, targets] - 1)[:, None]
    np.maximum(margin, 0, out=margin)
    margin[rows, targets] = 0
    np.greater(margin, 0, out=out)
    out[rows, targets] = -out.sum(axis=1)
    out *= 1 / len(out)
    return float(margin.sum() / len(out)), out


@_op
def nll(log_probs: Any, targets: Any, out: Any) -> Any:
    rows = np.arange(len(log_probs))
    out.fill(0)
    out[rows, targets] = -1 / len(out)
    return float(-log_probs[rows, targets].mean()), out


@_op
def gather(data: Any, index: Any) -> Any:
    return data[index]


@_op
def gather_backward(dy: Any, data: Any, index: Any, out: Any) -> Any:
    out[...] = 0
    np.add.at(out, index, dy)
    return out


@_op
def embedding(indices: Any, table: Any) -> Any:
    return table[indices]


@_op
def embedding_backward(dy: Any, indices: Any, table: Any, out: Any) -> Any:
    out[...] = 0
    np.add.at(out, indices, dy)
    return out


@_op
def sequence_mean(x: Any, out: Any) -> Any:
    return x.mean(axis=1, out=out)


@_op
def sequence_max(x: Any, out: Any) -> Any:
    return x.max(axis=1, out=out)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


@_op
def simple_rnn(x: Any, kernel: Any, recurrent_kernel: Any) -> Any:
    y = x @ kernel
    h = np.zeros((len(x), len(recurrent_kernel)), x.dtype)
    for step in range(x.shape[1]):
        h = y[:, step] = np.tanh(y[:, step] + h @ recurrent_kernel)
    return y, h


@_op
def lstm(x: Any, kernel: Any, recurrent_kernel: Any) -> Any:
    gates, u = x @ kernel, len(recurrent_kernel)
    y, cells = (np.empty((*x.shape[:2], u), x.dtype) for _ in range(2))
    h = c = np.zeros((len(x), u), x.dtype)
    for step in range(x.shape[1]):
        z = gates[:, step]
        z += h @ recurrent_kernel
        z[:, : 2 * u], z[:, 2 * u : 3 * u] = _sigmoid(z[:, : 2 * u]), np.tanh(z[:, 2 * u : 3 * u])
        z[:, 3 * u :] = _sigmoid(z[:, 3 * u :])
        c = cells[:, step] = z[:, u : 2 * u] * c + z[:, :u] * z[:, 2 * u : 3 * u]
        h = y[:, step] = z[:, 3 * u :] * np.tanh(c)
    return y, h, c, gates, cells


@_op
def column_sums(x: Any, out: Any) -> Any:
    return x.sum(axis=0, out=out)


@_op
def sgd_step(w: Any, dw: Any, learning_rate: float = 0.01) -> None:
    w -= learning_rate * dw


@_op
def rmsprop_step(
    w: Any, dw: Any, mean_square: Any, learning_rate: float = 0.001, rho: float = 0.9, epsilon: float = 1e-7
) -> None:
    mean_square *= rho
    mean_square += (1 - rho) * dw * dw
    w -= learning_rate * dw / np.sqrt(mean_square + epsilon)


def linear_rmsprop_step(
    dy: Any, x: Any, w: Any, y: Any, mean_square: Any, b: Any, mean_square_b: Any, activation: str, dx: Any, dw: Any
) -> Any:
    """Of no row's bench: it has a line of its own. ``dw`` is memory for the gradient."""
    assert activation == "relu"
    dz = dy * (y > 0)
    np.matmul(dz, w.T, out=dx)
    np.matmul(x.T, dz, out=dw)
    rmsprop_step(w, dw, mean_square)
    rmsprop_step(b, dz.sum(axis=0), mean_square_b)
    return dx


@_op
def adam_step(
    w: Any,
    dw: Any,
    m: Any,
    v: Any,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> None:
    m += (1 - beta_1) * (dw - m)
    v += (1 - beta_2) * (dw * dw - v)
    rate = learning_rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    w -= float(rate) * m / (np.sqrt(v) + epsilon)


# Ops that do what another one does, with the options that lines have.
_SAME = {
    "binary_step_backward": "sign_backward",
    "bounded_relu": "relu",
    "celu": "elu",
    "celu_backward": "elu_backward",
    "hard_shrink_backward": "soft_shrink_backward",
    "threshold": "relu",
    "threshold_backward": "bounded_relu_backward",
}
NUMPY.update({name: NUMPY[other] for name, other in _SAME.items()})
