"""Matrix product and linear layer as triple loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.kernels.naive import elementwise, softmax
from fastnn.kernels.naive._lists import deliver
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS

Rows = list[list[float]]


def _product(a: Rows, b: Rows, n: int, k: int, m: int) -> Rows:
    y = [[0.0] * m for _ in range(n)]
    for i in range(n):
        for j in range(m):
            total = 0.0
            for l in range(k):  # noqa: E741 - the index of the textbooks
                total += a[i][l] * b[l][j]
            y[i][j] = total
    return y


def matmul(a: Any, b: Any, *, out: Any = None) -> Any:
    """Row times column for each element."""
    (n, k), m = a.shape, b.shape[1]
    return deliver(_product(a.tolist(), b.tolist(), n, k, m), (n, m), a.dtype, out)


def linear(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Any:
    """activation(x @ w + b)."""
    (n, k), m = x.shape, w.shape[1]
    z = _product(x.tolist(), w.tolist(), n, k, m)
    if b is not None:
        bias = b.tolist()
        for i in range(n):
            for j in range(m):
                z[i][j] += bias[j]
    if activation in ELEMENTWISE_ACTIVATIONS:
        y = [elementwise.forward(ELEMENTWISE_ACTIVATIONS[activation], row) for row in z]
    else:
        y = [softmax.FORWARD[activation](row) for row in z]
    return deliver(y, (n, m), x.dtype, out)


def linear_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any,
    activation: str = "linear",
    z: Any = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    *,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
) -> tuple[Any, Any, Any]:
    """dz = dy * activation'(z); dx = dz w^T, dw = x^T dz, db = sum of the rows of dz."""
    (n, k), m = x.shape, w.shape[1]
    rows = zip(dy.tolist(), (y if z is None else z).tolist(), y.tolist(), strict=True)
    if activation in ELEMENTWISE_ACTIVATIONS:
        dz = [elementwise.backward(ELEMENTWISE_ACTIVATIONS[activation], *row) for row in rows]
    else:
        dz = [softmax.BACKWARD[activation](dy_row, y_row) for dy_row, _, y_row in rows]
    of_x = _product(dz, w.T.tolist(), n, m, k) if "dx" in need else None
    of_w = _product(x.T.tolist(), dz, k, n, m) if "dw" in need else None
    of_b = _column_sums(dz, n, m) if "db" in need else None
    found, kind = ((of_x, (n, k), dx), (of_w, (k, m), dw), (of_b, (m,), db)), np.dtype(x.dtype)
    first, second, third = (None if slope is None else deliver(slope, shape, kind, out) for slope, shape, out in found)
    return first, second, third


def _column_sums(z: Any, n: int, m: int) -> list[float]:
    sums = [0.0] * m
    for i in range(n):
        for j in range(m):
            sums[j] += z[i][j]
    return sums


def column_sums(x: Any, *, out: Any = None) -> Any:
    """Row after row."""
    total = [0.0] * x.shape[1]
    for row in x.tolist():
        total = [a + b for a, b in zip(total, row, strict=True)]
    return deliver(total, (x.shape[1],), x.dtype, out)
