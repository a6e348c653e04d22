"""Elementwise addition and activations: one number at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.kernels.naive._lists import deliver


def add(a: Any, b: Any, *, out: Any = None) -> Any:
    """A sum for each pair of elements."""
    a, b = np.broadcast_arrays(a, b)
    y = []
    for p, q in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
        y.append(p + q)
    return deliver(y, a.shape, a.dtype, out)


def _relu(x: float) -> float:
    return x if x > 0.0 or math.isnan(x) else 0.0


def _sigmoid(x: float) -> float:
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)  # exp(-x) would overflow
    return e / (1.0 + e)


# y of one x, and dx of one (dy, y).
FORWARD: dict[str, Callable[[float], float]] = {
    "identity": lambda x: x,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
}
BACKWARD: dict[str, Callable[[float, float], float]] = {
    "identity": lambda dy, y: dy,
    "relu": lambda dy, y: dy if y > 0.0 else 0.0,
    "sigmoid": lambda dy, y: dy * (y * (1.0 - y)),
    "tanh": lambda dy, y: dy * ((1.0 - y) * (1.0 + y)),
}


def _forward(name: str) -> Callable[..., Any]:
    function = FORWARD[name]

    def op(x: Any, *, out: Any = None) -> Any:
        y = [function(value) for value in x.ravel().tolist()]
        return deliver(y, x.shape, x.dtype, out)

    op.__name__ = op.__qualname__ = name
    return op


def _backward(name: str) -> Callable[..., Any]:
    function = BACKWARD[name]

    def op(dy: Any, x: Any, y: Any, *, out: Any = None) -> Any:
        dx = [function(d, value) for d, value in zip(dy.ravel().tolist(), y.ravel().tolist(), strict=True)]
        return deliver(dx, x.shape, x.dtype, out)

    op.__name__ = op.__qualname__ = f"{name}_backward"
    return op


identity, identity_backward = _forward("identity"), _backward("identity")
relu, relu_backward = _forward("relu"), _backward("relu")
sigmoid, sigmoid_backward = _forward("sigmoid"), _backward("sigmoid")
tanh, tanh_backward = _forward("tanh"), _backward("tanh")
