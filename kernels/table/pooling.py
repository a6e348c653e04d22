"""Pooling of images (n, h, w, c), channels last: the largest number, or the mean, of each place of a window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastnn.kernels.table.row import Integers, Padding, Rule, grid, op
from fastnn.kernels.table.windows import places_along


def _case(n: int, h: int, w: int, c: int, pool: Any, strides: Any, padding: Any) -> dict[str, Any]:
    return {"n": n, "h": h, "w": w, "c": c, "pool_size": pool, "strides": strides, "padding": padding}


# Windows that leave gaps, meet and overlap, at the edges and inside; channels around a vector's length.
_CASES = (
    _case(0, 4, 4, 3, (2, 2), (2, 2), "valid"),
    _case(1, 1, 1, 1, (1, 1), (1, 1), "valid"),
    _case(2, 4, 6, 3, (2, 2), (2, 2), "valid"),
    _case(1, 7, 5, 17, (3, 2), (1, 2), "same"),
    _case(3, 5, 5, 16, (3, 3), (2, 2), "same"),
    _case(2, 6, 7, 1, (2, 3), (3, 4), "valid"),
    _case(1, 5, 6, 33, (3, 3), (1, 1), ((1, 2), (2, 0))),
    _case(2, 3, 2, 2, (5, 5), (2, 3), "same"),
    _case(2, 9, 8, 70, (2, 2), (2, 2), "same"),
    _case(2, 4, 4, 4, (2, 2), (2, 2), "valid"),
    _case(2, 12, 11, 20, (3, 3), (2, 1), "valid"),
)
_BENCH = (_case(128, 24, 24, 20, (2, 2), (2, 2), "valid"), _case(64, 28, 28, 64, (3, 3), (2, 2), "same"))


def _less_than_window(given: Mapping[str, Any]) -> bool:
    """Whether every place of the window has a number of x in it."""
    padding = given["padding"]
    return isinstance(padding, str) or all(
        max(around) < window for around, window in zip(padding, given["pool_size"], strict=True)
    )


# The window, what it moves by, what is put around: of all pools.
_POOL: dict[str, Any] = {
    "options": {"pool_size": Integers(2, low=1), "strides": Integers(2, low=1), "padding": Padding(2)},
    "derived": {"p": places_along(0, "h", "pool_size"), "q": places_along(1, "w", "pool_size")},
    "rules": (Rule("padding", "less than the window on every side", _less_than_window),),
    "cases": _CASES,
    "bench": _BENCH,
}


@op("pooling", x="n h w c", returns=("n p q c",), **_POOL)
def max_pool2d(x, pool_size, strides, padding="valid", *, out=None):
    """The largest number of each place of a window (pool_size) in x (n, h, w, c), moved by ``strides``: (n, p, q, c).

    ``padding`` is "valid", "same" or numbers around both axes, and is never the largest. NaN in a window stays.
    """


@op("pooling", dy="n p q c", x="n h w c", y="n p q c", returns=("n h w c",), draw={"y": "pooled"}, **_POOL)
def max_pool2d_backward(dy, x, y, pool_size, strides, padding="valid", *, out=None):
    """Gradient of ``max_pool2d`` by x, y its result: dy goes to the first of the largest numbers, row by row.

    What several windows share gets the sum.
    """


@op("pooling", x="n h w c", returns=("n p q c",), **_POOL)
def average_pool2d(x, pool_size, strides, padding="valid", *, out=None):
    """The mean of each place of a window (pool_size) in x (n, h, w, c), moved by ``strides``: (n, p, q, c).

    ``padding`` is "valid", "same" or numbers around both axes; means are those of the numbers of x alone.
    """


@op("pooling", dy="n p q c", x="n h w c", returns=("n h w c",), unread=("x",), **_POOL)
def average_pool2d_backward(dy, x, pool_size, strides, padding="valid", *, out=None):
    """Gradient of ``average_pool2d`` by x, of which only the shape counts: each number's shares of dy, added up."""


_GLOBAL: dict[str, Any] = {
    "cases": grid(n=(0, 1, 2, 3, 5, 4), s=(3, 1, 7, 49, 10, 30), c=(3, 1, 16, 33, 4, 70)),
    "bench": grid(n=(64,), s=(49,), c=(512,)),
}


@op("pooling", x="n s c", returns=("n c",), **_GLOBAL)
def global_max_pool(x, *, out=None):
    """The largest of all numbers of each channel: y (n, c) of x (n, s, c), s places in any order, at least one."""


@op("pooling", dy="n c", x="n s c", y="n c", returns=("n s c",), draw={"y": "pooled"}, **_GLOBAL)
def global_max_pool_backward(dy, x, y, *, out=None):
    """Gradient of ``global_max_pool`` by x, y its result: dy goes to the first of the largest numbers."""


@op("pooling", x="n s c", returns=("n c",), **_GLOBAL)
def global_average_pool(x, *, out=None):
    """The mean of all numbers of each channel: y (n, c) of x (n, s, c), s places in any order, at least one."""


@op("pooling", dy="n c", x="n s c", returns=("n s c",), unread=("x",), **_GLOBAL)
def global_average_pool_backward(dy, x, *, out=None):
    """Gradient of ``global_average_pool`` by x, of which only the shape counts: dy / s for each of s places."""
