"""Rows of a table, one after the other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.kernels.naive._lists import deliver


def gather(data: Any, index: Any, scale: float = 1 / 255, offset: float = 0.0, *, out: Any = None) -> Any:
    """Each row's numbers behind those of the row before."""
    shape = (len(index), *data.shape[1:])
    numbers = [v for i in index.tolist() for v in data[i].ravel().tolist()]
    if data.dtype == np.uint8:
        return deliver([scale * v + offset for v in numbers], shape, np.float32, out)
    return deliver(numbers, shape, data.dtype, out)


def gather_backward(dy: Any, data: Any, index: Any, *, out: Any = None) -> Any:
    """Each row of dy on what its row of data has got so far."""
    count = math.prod(data.shape[1:])
    total = [0.0] * data.size
    for i, row in zip(index.tolist(), dy.reshape(len(index), count).tolist(), strict=True):
        for j, v in enumerate(row):
            total[i * count + j] += v
    return deliver(total, data.shape, data.dtype, out)
