"""Attention, one head of one sample at a time: the scores, their softmax, the sums that they weigh."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.naive._lists import deliver
from fastnn.kernels.naive.softmax import softmax_row, softmax_row_backward
from fastnn.kernels.table.attention import FAR_BELOW, GRADIENTS


def _dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _weights(q: Any, k: Any, mask: Any, scale: float, causal: bool) -> list[list[float]]:
    """Of the steps k for each of the steps q of a head, with the mask of the sample."""
    return [
        softmax_row([scale * _dot(a, b) if _counts(mask, causal, i, j) else FAR_BELOW for j, b in enumerate(k)])
        for i, a in enumerate(q)
    ]


def _counts(mask: Any, causal: bool, i: int, j: int) -> bool:
    return not (causal and j > i) and (mask is None or mask[i][j] != 0.0)


def _heads(query: Any, key: Any, mask: Any) -> Any:
    """Places of samples and heads, with the sample's mask."""
    for sample in range(query.shape[0]):
        for head in range(query.shape[2]):
            if query.shape[1] and key.shape[1]:
                yield sample, head, None if mask is None else mask[sample].tolist()


def attention(
    query: Any, key: Any, value: Any, mask: Any = None, scale: float = 1.0, causal: bool = False, *, out: Any = None
) -> Any:
    """Each query's mean of the values."""
    n, t, h, _ = query.shape
    y = np.zeros((n, t, h, value.shape[3]))
    for sample, head, counted in _heads(query, key, mask):
        q, k, v = (each[sample, :, head].tolist() for each in (query, key, value))
        for i, weights in enumerate(_weights(q, k, counted, scale, causal)):
            y[sample, i, head] = [_dot(weights, [row[c] for row in v]) for c in range(value.shape[3])]
    return deliver(y, y.shape, query.dtype, out)


def attention_backward(
    dy: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    scale: float = 1.0,
    causal: bool = False,
    need: Any = GRADIENTS,
) -> Any:
    """Through the sums, the softmax and the scores, one query after the other."""
    dq, dk, dv = (np.zeros(each.shape) for each in (query, key, value))
    for sample, head, counted in _heads(query, key, mask):
        q, k, v, slopes = (each[sample, :, head].tolist() for each in (query, key, value, dy))
        for i, weights in enumerate(_weights(q, k, counted, scale, causal)):
            of_scores = softmax_row_backward([_dot(slopes[i], row) for row in v], weights)
            for j, (weight, of_score) in enumerate(zip(weights, of_scores, strict=True)):
                for c in range(len(q[i]) if _counts(counted, causal, i, j) else 0):
                    dq[sample, i, head, c] += scale * of_score * k[j][c]
                    dk[sample, j, head, c] += scale * of_score * q[i][c]
                for c in range(len(v[j])):
                    dv[sample, j, head, c] += weight * slopes[i][c]
    made = {"dquery": dq, "dkey": dk, "dvalue": dv}
    return tuple(deliver(each, each.shape, query.dtype) if name in need else None for name, each in made.items())
