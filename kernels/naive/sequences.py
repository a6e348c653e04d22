"""Sequences of steps, one sample, one feature, one step at a time."""

from __future__ import annotations

import math
from typing import Any

from fastnn.kernels.naive._lists import deliver


def _counting(mask: Any, n: int, t: int) -> list[list[int]]:
    """The steps of each sample that count."""
    if mask is None:
        return [list(range(t)) for _ in range(n)]
    return [[s for s, flag in enumerate(row) if flag != 0.0] for row in mask.tolist()]


def step_mask(x: Any, value: float = 0.0, *, out: Any = None) -> Any:
    """1 where any number of a step is another than ``value``."""
    wanted = [float(any(v != x.dtype.type(value) for v in step)) for sample in x.tolist() for step in sample]
    return deliver(wanted, x.shape[:2], x.dtype, out)


def mask_steps(x: Any, mask: Any, *, out: Any = None) -> Any:
    """Each step as it is, or zeros."""
    kept = [
        [step if flag != 0.0 else [0.0] * len(step) for step, flag in zip(sample, flags, strict=True)]
        for sample, flags in zip(x.tolist(), mask.tolist(), strict=True)
    ]
    return deliver(kept, x.shape, x.dtype, out)


def mask_steps_backward(dy: Any, mask: Any, *, out: Any = None) -> Any:
    """The same for the gradient."""
    return mask_steps(dy, mask, out=out)


def sequence_mean(x: Any, mask: Any = None, *, out: Any = None) -> Any:
    """Each feature's sum over the steps that count, by their number."""
    n, t, f = x.shape
    means = [
        [sum(sample[s][j] for s in steps) / max(len(steps), 1) for j in range(f)]
        for sample, steps in zip(x.tolist(), _counting(mask, n, t), strict=True)
    ]
    return deliver(means, (n, f), x.dtype, out)


def sequence_mean_backward(dy: Any, x: Any, mask: Any = None, *, out: Any = None) -> Any:
    """Each step that counts has an equal share."""
    n, t, _ = x.shape
    shares = [
        [[d / len(steps) if s in steps else 0.0 for d in row] for s in range(t)]
        for row, steps in zip(dy.tolist(), _counting(mask, n, t), strict=True)
    ]
    return deliver(shares, x.shape, x.dtype, out)


def _largest(values: list[float]) -> float:
    """The largest of some numbers, NaN where one is, 0 of none."""
    return math.nan if any(map(math.isnan, values)) else max(values, default=0.0)


def sequence_max(x: Any, mask: Any = None, *, out: Any = None) -> Any:
    """Each feature's largest number over the steps that count."""
    n, t, f = x.shape
    top = [
        [_largest([sample[s][j] for s in steps]) for j in range(f)]
        for sample, steps in zip(x.tolist(), _counting(mask, n, t), strict=True)
    ]
    return deliver(top, (n, f), x.dtype, out)


def sequence_max_backward(dy: Any, x: Any, y: Any, mask: Any = None, *, out: Any = None) -> Any:
    """The first step that has the largest number gets all."""
    n, t, f = x.shape
    dx = [[[0.0] * f for _ in range(t)] for _ in range(n)]
    rows = zip(dy.tolist(), x.tolist(), y.tolist(), _counting(mask, n, t), strict=True)
    for i, (slopes, sample, top, steps) in enumerate(rows):
        for j in range(f):
            first = next((s for s in steps if sample[s][j] == top[j]), None)
            if first is not None:
                dx[i][first][j] = slopes[j]
    return deliver(dx, x.shape, x.dtype, out)
