"""Random numbers from counters: the words of Philox, and what uniform and normal numbers are of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn.kernels.table.row import Integer, Option, Real, Rule, grid, op

# What words follow from, of every op that draws.
DRAWN: dict[str, Option] = {
    "seed": Integer(low=0, high=2**63 - 1),
    "step": Integer(low=0, high=2**32 - 1),
    "stream": Integer(low=0, high=2**32 - 1),
}

# Columns around the 16 that share a vector and the 64 that share a counter.
DRAWN_CASES = grid(n=(0, 1, 1, 2, 5, 7, 33, 64, 3, 4), c=(3, 0, 1, 15, 17, 63, 64, 65, 1000, 130))

_RANDOM: dict[str, Any] = {
    "returns": ("n c",),
    "unread": ("like",),
    "cases": DRAWN_CASES,
    "bench": grid(n=(128,), c=(512,)),
}


@op(
    "random",
    like="n c",
    options={**DRAWN, "minval": Real(), "maxval": Real()},
    rules=(Rule("maxval", "no less than minval", lambda given: given["maxval"] >= given["minval"]),),
    variants=(
        {"seed": 1},
        {"seed": 2**63 - 1, "step": 2**32 - 1, "stream": 3, "minval": -2.0},
        {"seed": 5 << 32, "stream": 2**32 - 1, "maxval": 3.5},
    ),
    **_RANDOM,
)
def random_uniform(like, seed, step=0, stream=0, minval=0.0, maxval=1.0, *, out=None):
    """Numbers spread evenly over [minval, maxval), of the shape and dtype of ``like``, which is not read.

    y = minval + (maxval - minval) u, where u is the upper 24 bits of a word, over 2^24. The word of y[i, j] is that by
    which ``dropout`` decides about x[i, j]: word j // 16 % 4 of the four that come out of Philox4x32-10 (Salmon et al.
    2011) with the key seed (low word, high word) and the counter (j % 16 + 16 * (j // 64), i, step, stream). step and
    stream are below 2^32, seed below 2^63.
    """


@op(
    "random",
    like="n c",
    options={**DRAWN, "mean": Real(), "stddev": Real(low=0.0)},
    variants=(
        {"seed": 1},
        {"seed": 2**63 - 1, "step": 2**32 - 1, "stream": 3, "mean": -2.0},
        {"seed": 5 << 32, "stream": 2**32 - 1, "stddev": 0.25},
    ),
    **_RANDOM,
)
def random_normal(like, seed, step=0, stream=0, mean=0.0, stddev=1.0, *, out=None):
    """Numbers of a normal distribution, of the shape and dtype of ``like``, which is not read.

    Box and Muller's (1958), of two words each two: y = mean + stddev sqrt(-2 log u) cos(2 pi t), and the other with the
    sine, for u = (w + 1/2) / 2^32 of the first word and t = v / 2^32 of the second one. Words are those of
    ``random_uniform``; columns j and j + 16 of each run of 32 share theirs.
    """


# By op, what its last two options make of numbers, a word's upper 24 bits or normal ones: y = first + second * number.
NUMBERS: dict[str, Callable[[float, float], tuple[float, float]]] = {
    "random_uniform": lambda minval, maxval: (minval, math.ldexp(maxval - minval, -24)),
    "random_normal": lambda mean, stddev: (mean, stddev),
}
