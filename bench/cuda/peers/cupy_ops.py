"""Ops as a CuPy user writes them who minds the cost: into ``out``, and fused where CuPy can fuse.

``table(xp)`` makes them for an array module: CuPy, or NumPy, which fuses nothing, for their test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

_ALPHA = 0.044715
_SCALE = math.sqrt(2 / math.pi)
_FIRST_RATE = 0.001 * math.sqrt(1 - 0.999) / (1 - 0.9)  # Adam's, with the corrections of its first step


def table(xp: Any) -> dict[str, Callable[..., Any]]:
    """The functions by name."""
    fused = xp.fuse() if hasattr(xp, "fuse") else lambda function: function
    listed = [*_products(xp), *_activations(xp, fused), *_rows(xp), *_steps(xp, fused)]
    return {function.__name__: function for function in listed}


def _products(xp: Any) -> list[Callable[..., Any]]:
    def matmul(a: Any, b: Any, out: Any) -> Any:
        return xp.matmul(a, b, out=out)

    def linear(x: Any, w: Any, b: Any, activation: str, out: Any) -> Any:
        """Three calls."""
        assert activation == "relu"
        xp.matmul(x, w, out=out)
        xp.add(out, b, out=out)
        return xp.maximum(out, 0, out=out)

    def linear_backward(dy: Any, x: Any, w: Any, y: Any, activation: str) -> Any:
        assert activation == "relu"
        dz = dy * (y > 0)
        return dz @ w.T, x.T @ dz, dz.sum(axis=0)

    return [matmul, linear, linear_backward]


def _activations(xp: Any, fused: Any) -> list[Callable[..., Any]]:
    @fused
    def sigmoid_of(x: Any) -> Any:
        return 1 / (1 + xp.exp(-x))

    @fused
    def silu_of(x: Any) -> Any:
        return x / (1 + xp.exp(-x))

    @fused
    def gelu_tanh_of(x: Any) -> Any:
        return 0.5 * x * (1 + xp.tanh(_SCALE * (x + _ALPHA * x * x * x)))

    @fused
    def relu_slope(dy: Any, y: Any) -> Any:
        return xp.where(y > 0, dy, 0)

    @fused
    def sigmoid_slope(dy: Any, y: Any) -> Any:
        return dy * y * (1 - y)

    @fused
    def tanh_slope(dy: Any, y: Any) -> Any:
        return dy * (1 - y * y)

    def add(a: Any, b: Any, out: Any) -> Any:
        return xp.add(a, b, out=out)

    def relu(x: Any, out: Any) -> Any:
        return xp.maximum(x, 0, out=out)

    def tanh(x: Any, out: Any) -> Any:
        return xp.tanh(x, out=out)

    def exponential(x: Any, out: Any) -> Any:
        return xp.exp(x, out=out)

    # a fused function makes its result
    def sigmoid(x: Any) -> Any:
        return sigmoid_of(x)

    def silu(x: Any) -> Any:
        return silu_of(x)

    def gelu_tanh(x: Any) -> Any:
        return gelu_tanh_of(x)

    def relu_backward(dy: Any, y: Any) -> Any:
        return relu_slope(dy, y)

    def sigmoid_backward(dy: Any, y: Any) -> Any:
        return sigmoid_slope(dy, y)

    def tanh_backward(dy: Any, y: Any) -> Any:
        return tanh_slope(dy, y)

    return [
        *(add, relu, tanh, exponential, sigmoid, silu, gelu_tanh),
        *(relu_backward, sigmoid_backward, tanh_backward),
    ]


def _rows(xp: Any) -> list[Callable[..., Any]]:
    def softmax(x: Any, out: Any) -> Any:
        xp.subtract(x, x.max(axis=1, keepdims=True), out=out)
        xp.exp(out, out=out)
        return xp.divide(out, out.sum(axis=1, keepdims=True), out=out)

    def softmax_cross_entropy(logits: Any, targets: Any) -> Any:
        shifted = logits - logits.max(axis=1, keepdims=True)
        dlogits = xp.exp(shifted)
        total = dlogits.sum(axis=1, keepdims=True)
        rows = xp.arange(len(targets))
        loss = (xp.log(total[:, 0]) - shifted[rows, targets]).mean()
        dlogits /= total * len(targets)
        dlogits[rows, targets] -= 1 / len(targets)
        return loss, dlogits

    def mse(pred: Any, target: Any) -> Any:
        difference = pred - target
        loss = xp.square(difference).mean()
        difference *= 2 / difference.size
        return loss, difference

    def gather(data: Any, index: Any, out: Any) -> Any:
        return xp.take(data, index, axis=0, out=out)

    return [softmax, softmax_cross_entropy, mse, gather]


def _steps(xp: Any, fused: Any) -> list[Callable[..., Any]]:
    """Optimizers' steps, with the ops' defaults."""

    @fused
    def sgd(w: Any, dw: Any) -> None:
        w -= 0.01 * dw

    @fused
    def rmsprop(w: Any, dw: Any, mean_square: Any) -> None:
        mean_square *= 0.9
        mean_square += 0.1 * dw * dw
        w -= 0.001 * dw / xp.sqrt(mean_square + 1e-7)

    @fused
    def adam(w: Any, dw: Any, m: Any, v: Any) -> None:
        m *= 0.9
        m += 0.1 * dw
        v *= 0.999
        v += 0.001 * dw * dw
        w -= _FIRST_RATE * m / (xp.sqrt(v) + 1e-7)

    def sgd_step(w: Any, dw: Any) -> None:
        sgd(w, dw)

    def rmsprop_step(w: Any, dw: Any, mean_square: Any) -> None:
        rmsprop(w, dw, mean_square)

    def adam_step(w: Any, dw: Any, m: Any, v: Any, step: int) -> None:
        assert step == 1
        adam(w, dw, m, v)

    return [sgd_step, rmsprop_step, adam_step]
