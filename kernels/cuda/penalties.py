"""Penalties on weights, added to their gradients and to a loss in place; what they are is ``losses.l1_l2_penalty``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.kernels.cuda import elementwise
from fastnn.kernels.cuda.losses import l1_l2_penalty

_add = vars(elementwise)["add"]  # which its table makes


def add(
    gradients: Sequence[Any],
    loss: Sequence[Any],
    weights: Sequence[Any],
    numbers: Sequence[tuple[float, float]],
    share: float,
) -> None:
    """Add ``share`` of l1 |w| + l2 w^2, (l1, l2) its ``numbers``, to the loss, and of its derivative to the gradient.

    The loss is an array () of float64, the only one of its list.
    """
    for gradient, w, (l1, l2) in zip(gradients, weights, numbers, strict=True):
        value, derivative = l1_l2_penalty(w, l1, l2)
        for whole, part in ((gradient, derivative), (loss[0], value)):
            _add(whole, part if share == 1 else elementwise.calculated("scaled", part, share), out=whole)
