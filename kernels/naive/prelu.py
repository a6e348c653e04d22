"""The parametric rectified linear unit, one number at a time."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.naive._lists import deliver


def prelu(x: Any, alpha: Any, *, out: Any = None) -> Any:
    """Each number beside its column's slope."""
    slopes = alpha.ravel().tolist()
    y = [v if v > 0.0 else slopes[i % len(slopes)] * v for i, v in enumerate(x.ravel().tolist())]
    return deliver(y, x.shape, x.dtype, out)


def prelu_backward(dy: Any, x: Any, alpha: Any) -> tuple[Any, Any]:
    """Each number's share of its own derivative, and of its column's slope's."""
    slopes = alpha.ravel().tolist()
    dx, dalpha = [], [0.0] * len(slopes)
    for i, (d, v) in enumerate(zip(dy.ravel().tolist(), x.ravel().tolist(), strict=True)):
        column = i % len(slopes)
        dx.append(d if v > 0.0 else slopes[column] * d)
        dalpha[column] += 0.0 if v > 0.0 else d * v
    return deliver(dx, x.shape, x.dtype), deliver(dalpha, alpha.shape, x.dtype)
