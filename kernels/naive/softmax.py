"""Softmax and its cross-entropy, a row at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn.kernels.naive._lists import deliver
from fastnn.kernels.table.row import implements


def softmax_row(x: list[float]) -> list[float]:
    """exp(x - max) over its sum; the shift changes nothing but keeps exp from overflowing."""
    top = max(x)
    e = [math.exp(value - top) for value in x]
    total = sum(e)
    return [value / total for value in e]


def softmax_row_backward(dy: list[float], y: list[float]) -> list[float]:
    """y * (dy - sum of dy * y)."""
    dot = sum(d * value for d, value in zip(dy, y, strict=True))
    return [value * (d - dot) for d, value in zip(dy, y, strict=True)]


def log_softmax_row(x: list[float]) -> list[float]:
    """x - max - log(sum of exp(x - max))."""
    top = max(x)
    log_sum = math.log(sum(math.exp(value - top) for value in x))
    return [value - top - log_sum for value in x]


def log_softmax_row_backward(dy: list[float], y: list[float]) -> list[float]:
    """Dy - exp(y) * sum of dy."""
    total = sum(dy)
    return [d - math.exp(value) * total for d, value in zip(dy, y, strict=True)]


# The activations of rows.
FORWARD = {"softmax": softmax_row, "log_softmax": log_softmax_row}
BACKWARD = {"softmax": softmax_row_backward, "log_softmax": log_softmax_row_backward}


def target_rows(targets: Any, classes: int) -> list[list[float]]:
    """Targets as rows of probabilities: class indices become one-hot rows."""
    if targets.ndim == 2:
        rows: list[list[float]] = targets.tolist()
        return rows
    return [[1.0 if j == label else 0.0 for j in range(classes)] for label in targets.tolist()]


def row_weights(sample_weight: Any, n: int) -> list[float]:
    """The weight of each row: 1 without sample_weight."""
    return [1.0] * n if sample_weight is None else sample_weight.tolist()


def _forward(name: str) -> Callable[..., Any]:
    def op(x: Any, *, out: Any = None) -> Any:
        return deliver([FORWARD[name](row) for row in x.tolist()], x.shape, x.dtype, out)

    return implements(name, op)


def _backward(name: str) -> Callable[..., Any]:
    def op(dy: Any, x: Any, y: Any, *, out: Any = None) -> Any:
        dx = [BACKWARD[name](*pair) for pair in zip(dy.tolist(), y.tolist(), strict=True)]
        return deliver(dx, x.shape, x.dtype, out)

    return implements(f"{name}_backward", op)


softmax, softmax_backward = _forward("softmax"), _backward("softmax")
log_softmax, log_softmax_backward = _forward("log_softmax"), _backward("log_softmax")


def softmax_cross_entropy(logits: Any, targets: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """-sum t (x - max - log sum exp(x - max)) a row, and (p sum(t) - t) / n, both times the row's weight."""
    n, c = logits.shape
    loss, dlogits = 0.0, []
    rows = zip(logits.tolist(), target_rows(targets, c), row_weights(sample_weight, n), strict=True)
    for x, t, weight in rows:
        top = max(x)
        log_sum = math.log(sum(math.exp(value - top) for value in x))
        for value, share in zip(x, t, strict=True):
            if share:
                loss -= weight * share * (value - top - log_sum)
        mass = sum(t)
        dlogits.append([weight * (p * mass - share) / n for p, share in zip(softmax_row(x), t, strict=True)])
    return (loss / n if n else 0.0), deliver(dlogits, logits.shape, logits.dtype)
