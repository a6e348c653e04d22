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
def add(a: Any, b: Any, out: Any) -> Any:
    return np.add(a, b, out=out)


@_op
def relu(x: Any, out: Any) -> Any:
    return np.maximum(x, 0, out=out)


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
def tanh(x: Any, out: Any) -> Any:
    return np.tanh(x, out=out)


@_op
def tanh_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    np.multiply(y, y, out=out)
    np.subtract(1, out, out=out)
    out *= dy
    return out


@_op
def softmax(x: Any, out: Any) -> Any:
    np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= out.sum(axis=1, keepdims=True)
    return out


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


@_op
def binary_cross_entropy(pred: Any, target: Any) -> Any:
    p = np.clip(pred, 1e-7, 1 - 1e-7)
    loss = -np.mean(target * np.log(p) + (1 - target) * np.log(1 - p))
    return float(loss), (p - target) / (p * (1 - p)) / p.size


@_op
def mse(pred: Any, target: Any) -> Any:
    difference = pred - target
    return float(np.mean(difference * difference)), difference * (2 / difference.size)


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
