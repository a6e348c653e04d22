"""Losses with their derivatives, an element at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn.kernels.naive._lists import deliver
from fastnn.kernels.naive.elementwise import FORWARD
from fastnn.kernels.naive.softmax import row_weights, target_rows

# Keras's fuzz factor: probabilities are kept this far from 0 and 1 before the logarithm.
CLIP = 1e-7

# (loss of one element, its derivative) from (prediction, target).
Element = Callable[[float, float], tuple[float, float]]


def _sum_over(pred: Any, target: Any, sample_weight: Any, element: Element, scale: float) -> tuple[float, Any]:
    """Sum of the elements' losses times their rows' weights times ``scale``, and its derivative."""
    n = pred.shape[0]
    width = pred.size // n if n else 0
    weights = row_weights(sample_weight, n)
    value, dpred = 0.0, []
    for i, (p, t) in enumerate(zip(pred.ravel().tolist(), target.ravel().tolist(), strict=True)):
        loss, slope = element(p, t)
        weight = weights[i // width]
        value += weight * loss
        dpred.append(weight * slope * scale)
    return value * scale, deliver(dpred, pred.shape, pred.dtype)


def _mean(size: int) -> float:
    return 1.0 / size if size else 0.0


def _squared(p: float, t: float) -> tuple[float, float]:
    return (p - t) * (p - t), 2.0 * (p - t)


def _absolute(p: float, t: float) -> tuple[float, float]:
    return abs(p - t), float((p > t) - (p < t))


def _half_squared(p: float, t: float) -> tuple[float, float]:
    return 0.5 * (p - t) * (p - t), p - t


def _bernoulli(p: float, t: float) -> tuple[float, float]:
    q = min(max(p, CLIP), 1.0 - CLIP)
    slope = (q - t) / (q * (1.0 - q)) if q == p else 0.0
    return -(t * math.log(q) + (1.0 - t) * math.log(1.0 - q)), slope


def _bernoulli_logit(z: float, t: float) -> tuple[float, float]:
    return max(z, 0.0) - z * t + math.log1p(math.exp(-abs(z))), FORWARD["sigmoid"](z) - t


def mse(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Mean of (p - t)^2."""
    return _sum_over(pred, target, sample_weight, _squared, _mean(pred.size))


def mae(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Mean of |p - t|."""
    return _sum_over(pred, target, sample_weight, _absolute, _mean(pred.size))


def half_sse(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Sum of (p - t)^2 / 2."""
    return _sum_over(pred, target, sample_weight, _half_squared, 1.0)


def binary_cross_entropy(
    pred: Any, target: Any, sample_weight: Any = None, from_logits: bool = False
) -> tuple[float, Any]:
    """Mean of -(t log p + (1 - t) log(1 - p))."""
    element = _bernoulli_logit if from_logits else _bernoulli
    return _sum_over(pred, target, sample_weight, element, _mean(pred.size))


def cross_entropy(probs: Any, targets: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """-sum t log q a row, q = clip(p / sum p); by the quotient rule dL/dp[j] = (g[j] - sum of g p / s) / s."""
    n, c = probs.shape
    loss, dprobs = 0.0, []
    rows = zip(probs.tolist(), target_rows(targets, c), row_weights(sample_weight, n), strict=True)
    for p, t, weight in rows:
        total = sum(p) or math.nan  # a row of zeros has no probabilities to scale
        g = []
        for value, share in zip(p, t, strict=True):
            scaled = value / total
            q = min(max(scaled, CLIP), 1.0 - CLIP)
            loss -= weight * share * math.log(q)
            g.append(-weight * share / (n * q) if q == scaled else 0.0)
        dot = sum(slope * value for slope, value in zip(g, p, strict=True)) / total
        dprobs.append([(slope - dot) / total for slope in g])
    return (loss / n if n else 0.0), deliver(dprobs, probs.shape, probs.dtype)


def l1_l2_penalty(w: Any, l1: float = 0.0, l2: float = 0.0) -> tuple[float, Any]:
    """Sum of l1 |w| + l2 w^2."""
    value, dw = 0.0, []
    for x in w.ravel().tolist():
        value += l1 * abs(x) + l2 * x * x
        dw.append(l1 * ((x > 0) - (x < 0)) + 2.0 * l2 * x)
    return value, deliver(dw, w.shape, w.dtype)
