"""Resilient propagation without weight backtracking, weight by weight, and the weight that balances all others."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.naive._lists import deliver


def rprop_minus_step(
    w: Any,
    dw: Any,
    step_size: Any,
    gradient: Any,
    balance: str = "none",
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    step_min: float = 1e-6,
    step_max: float = 50.0,
    delta: float = 1e-6,
) -> None:
    """w -= sign(g) * size, of a size that grows while g keeps its sign."""
    slopes, sizes = dw.ravel().tolist(), step_size.ravel().tolist()
    for i, before in enumerate(gradient.ravel().tolist()):
        if slopes[i] * before > 0.0:
            sizes[i] = min(sizes[i] * eta_plus, step_max)
        elif slopes[i] * before < 0.0:
            sizes[i] = max(sizes[i] * eta_minus, step_min)
    moving = [i for i, g in enumerate(slopes) if g != 0.0]
    if balance != "none" and moving:
        one = min(moving, key=lambda i: abs(slopes[i]) if balance == "gradient" else sizes[i])
        total = sum(sizes[i] * slopes[i] for i in moving if i != one) + delta
        sizes[one] = min(max(-total / slopes[one], step_min), step_max)
    moved = [
        x - size if g > 0.0 else x + size if g < 0.0 else x
        for x, g, size in zip(w.ravel().tolist(), slopes, sizes, strict=True)
    ]
    for values, array in ((moved, w), (sizes, step_size), (slopes, gradient)):
        deliver(values, array.shape, array.dtype, array)
