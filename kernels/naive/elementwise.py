"""Elementwise addition and activations: one number at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.kernels.naive._lists import deliver
from fastnn.kernels.table import NUMBERS
from fastnn.kernels.table.row import implements


def _larger(p: float, q: float) -> float:
    return p if p >= q or math.isnan(p) else q


def _smaller(p: float, q: float) -> float:
    return p if p <= q or math.isnan(p) else q


# What is made of two numbers.
_PAIRS: dict[str, Callable[[float, float], float]] = {
    "add": lambda p, q: p + q,
    "subtract": lambda p, q: p - q,
    "multiply": lambda p, q: p * q,
    "divide": lambda p, q: float(np.float64(p) / np.float64(q)),
    "average": lambda p, q: (p + q) / 2,
    "maximum": _larger,
    "minimum": _smaller,
}


def _pair_op(name: str) -> Callable[..., Any]:
    """One pair after the other."""

    def pair(a: Any, b: Any, *, out: Any = None) -> Any:
        a, b = np.broadcast_arrays(a, b)
        y = []
        for p, q in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
            y.append(_PAIRS[name](p, q))
        return deliver(y, a.shape, a.dtype, out)

    return implements(name, pair)


def _choice_backward_op(name: str) -> Callable[..., Any]:
    """A number's derivative goes to the one of the pair that it is."""

    def backward(dy: Any, a: Any, b: Any) -> tuple[Any, Any]:
        dy, a, b = np.broadcast_arrays(dy, a, b)
        da, db = [], []
        for d, p, q in zip(dy.ravel().tolist(), a.ravel().tolist(), b.ravel().tolist(), strict=True):
            first = p == q or _PAIRS[name](p, q) is p
            da.append(d if first else 0.0)
            db.append(0.0 if first else d)
        return deliver(da, dy.shape, dy.dtype), deliver(db, dy.shape, dy.dtype)

    return implements(f"{name}_backward", backward)


globals().update({name: _pair_op(name) for name in _PAIRS})
globals().update({f"{name}_backward": _choice_backward_op(name) for name in ("maximum", "minimum")})


def _relu(x: float) -> float:
    return x if x > 0.0 or math.isnan(x) else 0.0


def _sigmoid(x: float) -> float:
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)  # exp(-x) would overflow
    return e / (1.0 + e)


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _bounded(x: float, low: float, high: float) -> float:
    return x if math.isnan(x) else min(max(x, low), high)


def _bounded_relu(x: float, slope: float, most: float, threshold: float) -> float:
    if x >= most:
        return most
    if x >= threshold or math.isnan(x):
        return x
    return slope * (x - threshold) if slope else 0.0


def _bounded_relu_slope(x: float, slope: float, most: float, threshold: float) -> float:
    if x > threshold:
        return 1.0 if x < most else 0.0
    return slope


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x))) if x == x else x  # noqa: PLR0124 - NaN


def _softsign(x: float) -> float:
    return math.copysign(1.0, x) if math.isinf(x) else x / (1.0 + abs(x))


def _gated(x: float, gate: float) -> float:
    """x times a gate that goes to 0 faster than x to minus infinity."""
    return x * gate if gate else -0.0


def _silu_slope(x: float) -> float:
    s = _sigmoid(x)
    return s + _gated(x, s * (1.0 - s))


def _hard_sigmoid(x: float) -> float:
    return _bounded(x + 3.0, 0.0, 6.0) / 6.0


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


def _gelu_slope(x: float) -> float:
    return _normal(x) + _gated(x, math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi))


def _gelu_tanh(x: float) -> float:
    u = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)
    return _gated(x, _sigmoid(2.0 * u))


def _gelu_tanh_slope(x: float) -> float:
    scale = math.sqrt(2.0 / math.pi)
    s = _sigmoid(2.0 * scale * (x + 0.044715 * x * x * x))
    bell = s * (1.0 - s)
    return s + (x * bell * 2.0 * scale * (1.0 + 3.0 * 0.044715 * x * x) if bell else 0.0)


def _mish_slope(x: float) -> float:
    t = math.tanh(_softplus(x))
    return t + _gated(x, (1.0 - t * t) * _sigmoid(x))


def _soft_shrink(x: float, threshold: float) -> float:
    if abs(x) > threshold or math.isnan(x):
        return x - math.copysign(threshold, x)
    return 0.0


def _sign(x: float) -> float:
    return x if x == 0.0 or math.isnan(x) else math.copysign(1.0, x)


def _log(x: float) -> float:
    if x == 0.0:
        return -math.inf
    return math.log(x) if x > 0.0 else math.nan


def _log1p(x: float) -> float:
    if x == -1.0:
        return -math.inf
    return math.log1p(x) if x > -1.0 else math.nan


def _expm1(x: float) -> float:
    try:
        return math.expm1(x)
    except OverflowError:
        return math.inf


def _rsqrt(x: float) -> float:
    if x == 0.0:
        return math.copysign(math.inf, x)
    return 1.0 / math.sqrt(x) if x > 0.0 else math.nan


def _of_angle(function: Callable[[float], float]) -> Callable[[float], float]:
    """Sine or cosine; infinity has none."""
    return lambda x: math.nan if math.isinf(x) else function(x)


# Self-normalising networks' alpha and scale (Klambauer et al. 2017).
_ALPHA, _SCALE = 1.6732632423543772, 1.0507009873554805

# y of one x and the activation's numbers.
FORWARD: dict[str, Callable[..., float]] = {
    "identity": lambda x: x,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
    "relu6": lambda x: _bounded(x, 0.0, 6.0),
    "bounded_relu": _bounded_relu,
    "leaky_relu": lambda x, slope: x if x > 0.0 else slope * x,
    "elu": lambda x, alpha: x if x > 0.0 else alpha * math.expm1(x),
    "celu": lambda x, alpha: x if x > 0.0 else alpha * math.expm1(x / alpha),
    "selu": lambda x: _SCALE * (x if x > 0.0 else _ALPHA * math.expm1(x)),
    "hard_sigmoid": _hard_sigmoid,
    "log_sigmoid": lambda x: -_softplus(-x),
    "hard_tanh": lambda x: _bounded(x, -1.0, 1.0),
    "softplus": _softplus,
    "softsign": _softsign,
    "silu": lambda x: _gated(x, _sigmoid(x)),
    "hard_silu": lambda x: _gated(x, _hard_sigmoid(x)),
    "gelu": lambda x: _gated(x, _normal(x)),
    "gelu_tanh": _gelu_tanh,
    "mish": lambda x: _gated(x, math.tanh(_softplus(x))),
    "exponential": _exp,
    "threshold": lambda x, threshold, default: x if x > threshold or math.isnan(x) else default,
    "soft_shrink": _soft_shrink,
    "hard_shrink": lambda x, threshold: x if abs(x) > threshold or math.isnan(x) else 0.0,
    "binary_step": lambda x: x if math.isnan(x) else float(x >= 0.0),
    "sign": _sign,
    "square": lambda x: x * x,
    "sqrt": lambda x: math.sqrt(x) if x >= 0.0 else math.nan,
    "log": _log,
    "absolute": abs,
    "rsqrt": _rsqrt,
    "log1p": _log1p,
    "expm1": _expm1,
    "erf": math.erf,
    "sin": _of_angle(math.sin),
    "cos": _of_angle(math.cos),
}
# f'(x) from x, y and the activation's numbers: the derivative as its definition has it, whatever the other one is for.
SLOPE: dict[str, Callable[..., float]] = {
    "identity": lambda x, y: 1.0,
    "relu": lambda x, y: float(y > 0.0),
    "sigmoid": lambda x, y: y * (1.0 - y),
    "tanh": lambda x, y: (1.0 - y) * (1.0 + y),
    "relu6": lambda x, y: float(0.0 < y < 6.0),
    "bounded_relu": lambda x, y, *numbers: _bounded_relu_slope(x, *numbers),
    "leaky_relu": lambda x, y, slope: 1.0 if y > 0.0 else slope,
    "elu": lambda x, y, alpha: 1.0 if y > 0.0 else y + alpha,
    "celu": lambda x, y, alpha: 1.0 if y > 0.0 else y / alpha + 1.0,
    "selu": lambda x, y: _SCALE if y > 0.0 else y + _SCALE * _ALPHA,
    "hard_sigmoid": lambda x, y: 1.0 / 6.0 if 0.0 < y < 1.0 else 0.0,
    "log_sigmoid": lambda x, y: -math.expm1(y),
    "hard_tanh": lambda x, y: float(-1.0 < y < 1.0),
    "softplus": lambda x, y: -math.expm1(-y),
    "softsign": lambda x, y: (1.0 - abs(y)) ** 2,
    "silu": lambda x, y: _silu_slope(x),
    "hard_silu": lambda x, y: 0.0 if x <= -3.0 else 1.0 if x >= 3.0 else x / 3.0 + 0.5,
    "gelu": lambda x, y: _gelu_slope(x),
    "gelu_tanh": lambda x, y: _gelu_tanh_slope(x),
    "mish": lambda x, y: _mish_slope(x),
    "exponential": lambda x, y: y,
    "threshold": lambda x, y, threshold, default: float(x > threshold),
    "soft_shrink": lambda x, y, threshold: float(y != 0.0),
    "hard_shrink": lambda x, y, threshold: float(y != 0.0),
    "binary_step": lambda x, y: 0.0,
    "sign": lambda x, y: 0.0,
    "square": lambda x, y: 2.0 * x,
    "sqrt": lambda x, y: 0.5 / y if y else math.copysign(math.inf, y),
    "log": lambda x, y: 1.0 / x if x else math.copysign(math.inf, x),
    "absolute": lambda x, y: _sign(x),
    "rsqrt": lambda x, y: -0.5 * y * y * y,
    "log1p": lambda x, y: 1.0 / (1.0 + x) if x != -1.0 else math.inf,
    "expm1": lambda x, y: y + 1.0,
    "erf": lambda x, y: 2.0 / math.sqrt(math.pi) * math.exp(-x * x),
    "sin": lambda x, y: _of_angle(math.cos)(x),
    "cos": lambda x, y: -_of_angle(math.sin)(x),
}


def forward(name: str, values: list[float], *numbers: float) -> list[float]:
    """y = f(x) for each number of a list; without ``numbers`` the activation's default ones."""
    function, numbers = FORWARD[name], numbers or tuple(NUMBERS[name].values())
    return [function(x, *numbers) for x in values]


def backward(name: str, dy: list[float], x: list[float], y: list[float], *numbers: float) -> list[float]:
    """dx = dy f'(x) for each number; without ``numbers`` the activation's default ones."""
    slope, numbers = SLOPE[name], numbers or tuple(NUMBERS[name].values())
    return [d * slope(a, b, *numbers) for d, a, b in zip(dy, x, y, strict=True)]


def _forward(name: str) -> Callable[..., Any]:
    def op(x: Any, *numbers: float, out: Any = None) -> Any:
        return deliver(forward(name, x.ravel().tolist(), *numbers), x.shape, x.dtype, out)

    return implements(name, op)


def _backward(name: str) -> Callable[..., Any]:
    def op(dy: Any, x: Any, y: Any, *numbers: float, out: Any = None) -> Any:
        dx = backward(name, *(array.ravel().tolist() for array in (dy, x, y)), *numbers)
        return deliver(dx, x.shape, x.dtype, out)

    return implements(f"{name}_backward", op)


for _name in FORWARD:
    globals()[_name], globals()[f"{_name}_backward"] = _forward(_name), _backward(_name)
