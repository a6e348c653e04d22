"""Arrays side by side."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.table.row import grid, op

_SIDE_BY_SIDE: dict[str, Any] = {
    "derived": {"c": lambda known: known["a"] + known["b"]},
    "cases": grid(n=(0, 1, 2, 5, 1, 33, 4, 7), a=(3, 0, 4, 17, 1000, 1, 6, 70), b=(2, 3, 1, 16, 3, 31, 5, 1)),
    "bench": grid(n=(4096,), a=(256,), b=(64,)),
}


@op("joining", a="n a", b="n b", returns=("n c",), **_SIDE_BY_SIDE)
def join(a, b, *, out=None):
    """Rows of a (n, a) and b (n, b) one behind the other: y (n, a + b). ``concatenate`` is the same along any axis."""


@op("joining", dy="n c", a="n a", b="n b", returns=("n a", "n b"), unread=("a", "b"), **_SIDE_BY_SIDE)
def join_backward(dy, a, b):
    """Gradients of ``join``: (da, db), the parts of dy's rows. Of a and b only the shapes count."""
