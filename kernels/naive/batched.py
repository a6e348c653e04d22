"""Products of many matrices, one after the other."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.naive._lists import deliver


def batch_matmul(a: Any, b: Any, *, out: Any = None) -> Any:
    """Row times column for each element of each product."""
    (s, n, k), m = a.shape, b.shape[2]
    left, right = a.tolist(), b.tolist()
    y = [[[0.0] * m for _ in range(n)] for _ in range(s)]
    for sample in range(s):
        for i in range(n):
            for j in range(m):
                total = 0.0
                for l in range(k):  # noqa: E741 - the index of the textbooks
                    total += left[sample][i][l] * right[sample][l][j]
                y[sample][i][j] = total
    return deliver(y, (s, n, m), a.dtype, out)
