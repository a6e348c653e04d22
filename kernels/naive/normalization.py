"""Normalisation, one number at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastnn.kernels.naive._lists import deliver


def _given(weights: Any, count: int, default: float) -> list[float]:
    """Of each column; ``default`` where there is none."""
    return [default] * count if weights is None else weights.tolist()


def _moments(numbers: Sequence[float]) -> tuple[float, float]:
    """Mean and biased variance; zeros of no numbers."""
    n = max(1, len(numbers))
    mean = math.fsum(numbers) / n
    return mean, math.fsum((v - mean) ** 2 for v in numbers) / n


def _results(dx: Any, dgamma: Any, dbeta: Any, like: Any, need: Sequence[str]) -> tuple[Any, ...]:
    """Those that are needed, as arrays."""
    columns = (like.shape[1],)
    found = {"dx": (dx, like.shape), "dgamma": (dgamma, columns), "dbeta": (dbeta, columns)}
    return tuple(
        deliver(values, shape, like.dtype) if name in need else None for name, (values, shape) in found.items()
    )


def batch_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    moving_mean: Any = None,
    moving_variance: Any = None,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
) -> tuple[Any, Any, Any]:
    """Column by column."""
    n, c = x.shape
    scales, shifts = _given(gamma, c, 1.0), _given(beta, c, 0.0)
    y = [[0.0] * c for _ in range(n)]
    means, rstds = [], []
    for j, column in enumerate(x.T.tolist()):
        mean, variance = _moments(column)
        means.append(mean)
        rstds.append(1 / math.sqrt(variance + epsilon))
        for i, v in enumerate(column):
            y[i][j] = scales[j] * (v - mean) * rstds[j] + shifts[j]
        for moving, new in ((moving_mean, mean), (moving_variance, variance)):
            if moving is not None and n > 0:
                moving[j] = momentum * float(moving[j]) + (1 - momentum) * new
    return deliver(y, (n, c), x.dtype), deliver(means, (c,), x.dtype), deliver(rstds, (c,), x.dtype)


def batch_norm_backward(
    dy: Any, x: Any, mean: Any, rstd: Any, gamma: Any = None, need: Sequence[str] = ("dx", "dgamma", "dbeta")
) -> tuple[Any, ...]:
    """Column by column, with the share that the batch's figures have."""
    return _backward(dy, x, mean.tolist(), rstd.tolist(), gamma, need, figures_move=True)


def batch_norm_inference(
    x: Any, moving_mean: Any, moving_variance: Any, gamma: Any = None, beta: Any = None, epsilon: float = 1e-3, *,
    out: Any = None,
) -> Any:  # fmt: skip
    """Row by row."""
    c = x.shape[1]
    scales, shifts, means = _given(gamma, c, 1.0), _given(beta, c, 0.0), moving_mean.tolist()
    roots = [math.sqrt(v + epsilon) for v in moving_variance.tolist()]
    y = [[scales[j] * (v - means[j]) / roots[j] + shifts[j] for j, v in enumerate(row)] for row in x.tolist()]
    return deliver(y, x.shape, x.dtype, out)


def batch_norm_inference_backward(
    dy: Any,
    x: Any,
    moving_mean: Any,
    moving_variance: Any,
    gamma: Any = None,
    epsilon: float = 1e-3,
    need: Sequence[str] = ("dx", "dgamma", "dbeta"),
) -> tuple[Any, ...]:
    """Column by column."""
    rstds = [1 / math.sqrt(v + epsilon) for v in moving_variance.tolist()]
    return _backward(dy, x, moving_mean.tolist(), rstds, gamma, need, figures_move=False)


def _backward(
    dy: Any, x: Any, means: Sequence[float], rstds: Sequence[float], gamma: Any, need: Sequence[str], figures_move: bool
) -> tuple[Any, ...]:
    n, c = x.shape
    scales = _given(gamma, c, 1.0)
    dx = [[0.0] * c for _ in range(n)]
    dgamma, dbeta = [], []
    for j, (slopes, column) in enumerate(zip(dy.T.tolist(), x.T.tolist(), strict=True)):
        z = [(v - means[j]) * rstds[j] for v in column]
        dgamma.append(math.fsum(d * v for d, v in zip(slopes, z, strict=True)))
        dbeta.append(math.fsum(slopes))
        for i, (d, v) in enumerate(zip(slopes, z, strict=True)):
            moved = (dbeta[j] + v * dgamma[j]) / n if figures_move else 0.0
            dx[i][j] = scales[j] * rstds[j] * (d - moved)
    return _results(dx, dgamma, dbeta, x, need)


def layer_norm(x: Any, gamma: Any = None, beta: Any = None, epsilon: float = 1e-3, *, out: Any = None) -> Any:
    """Row by row."""
    c = x.shape[1]
    scales, shifts = _given(gamma, c, 1.0), _given(beta, c, 0.0)
    y = []
    for row in x.tolist():
        mean, variance = _moments(row)
        root = math.sqrt(variance + epsilon)
        y.append([scales[j] * (v - mean) / root + shifts[j] for j, v in enumerate(row)])
    return deliver(y, x.shape, x.dtype, out)


def layer_norm_backward(
    dy: Any, x: Any, gamma: Any = None, epsilon: float = 1e-3, need: Sequence[str] = ("dx", "dgamma", "dbeta")
) -> tuple[Any, ...]:
    """Row by row, each of which adds its share to the weights' gradients."""
    c = x.shape[1]
    scales = _given(gamma, c, 1.0)
    dx, dgamma, dbeta = [], [0.0] * c, [0.0] * c
    for slopes, row in zip(dy.tolist(), x.tolist(), strict=True):
        mean, variance = _moments(row)
        rstd = 1 / math.sqrt(variance + epsilon)
        z = [(v - mean) * rstd for v in row]
        g = [scale * d for scale, d in zip(scales, slopes, strict=True)]
        first, second = math.fsum(g) / c, math.fsum(a * b for a, b in zip(g, z, strict=True)) / c
        dx.append([rstd * (a - first - b * second) for a, b in zip(g, z, strict=True)])
        for j, (d, v) in enumerate(zip(slopes, z, strict=True)):
            dgamma[j] += d * v
            dbeta[j] += d
    return _results(dx, dgamma, dbeta, x, need)
