"""Arrays side by side, row by row."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.naive._lists import deliver


def join(a: Any, b: Any, *, out: Any = None) -> Any:
    """One row behind the other."""
    rows = [one + other for one, other in zip(a.tolist(), b.tolist(), strict=True)]
    return deliver(rows, (a.shape[0], a.shape[1] + b.shape[1]), a.dtype, out)


def join_backward(dy: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """Rows cut in two."""
    at, rows = a.shape[1], dy.tolist()
    return deliver([row[:at] for row in rows], a.shape, dy.dtype), deliver(
        [row[at:] for row in rows], b.shape, dy.dtype
    )
