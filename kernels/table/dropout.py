"""Dropout and its derivative, and what its kernels make of the rate."""

from __future__ import annotations

import math
from typing import Any

from fastnn.kernels.table.random import DRAWN, DRAWN_CASES
from fastnn.kernels.table.row import Real, grid, op

# The rows of dropout and its derivative.
_DROPOUT: dict[str, Any] = {
    "returns": ("n c",),
    "options": {
        "rate": Real(low=0.0, high=1.0, open_high=True),
        **DRAWN,
    },
    "cases": DRAWN_CASES,
    "variants": (
        {"rate": 0.5, "seed": 1},
        {"rate": 0.0, "seed": 1},
        {"rate": 0.1, "seed": 2**63 - 1, "step": 2**32 - 1, "stream": 3},
        {"rate": 0.999, "seed": 5 << 32, "step": 7, "stream": 2**32 - 1},
    ),
}


@op("dropout", x="n c", **_DROPOUT, bench=grid(n=(128,), c=(512,)))
def dropout(x, rate, seed, step=0, stream=0, *, out=None):
    """Inverted dropout (Srivastava et al. 2014): y = x / (1 - rate) where the mask keeps x, 0 where it drops it.

    The mask follows from seed, step and stream alone: x[i, j] is dropped where its word of Philox4x32-10 (Salmon et al.
    2011) is below rate * 2^32. The key is seed (low word, high word), the counter
    (j % 16 + 16 * (j // 64), i, step, stream), and j takes word j // 16 % 4 of the four that come out. step and stream
    are below 2^32, seed below 2^63.
    """


@op("dropout", dy="n c", **_DROPOUT)
def dropout_backward(dy, rate, seed, step=0, stream=0, *, out=None):
    """Derivative of dropout: dx = dy / (1 - rate) where the same mask keeps, 0 where it drops."""


def threshold(rate: float) -> int:
    """What a kept element's word is not below: words w < rate * 2^32 drop, which for whole w is w < its ceiling."""
    return math.ceil(rate * 2.0**32)


def scale(rate: float) -> float:
    """What kept elements are multiplied with."""
    return 1.0 / (1.0 - rate)
