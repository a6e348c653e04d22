"""Penalties on weights and outputs, with their derivatives."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.formulas.arithmetic import Arithmetic


def l1_l2(v: Arithmetic, l1: Any, l2: Any, x: Any) -> tuple[Any, Any]:
    """(l1 |x| + l2 x^2, l1 sign(x) + 2 l2 x)."""
    penalty = v.fma(v.mul(l2, x), x, v.mul(l1, v.abs(x)))
    return penalty, v.fma(v.add(l2, l2), x, v.mul(l1, v.sign(x)))
