"""Losses that layers add to the model's while they compute: who calls a layer collects them.

What a layer's backward pass gives has the gradients of its penalties in it, each times the factor that the penalty has
in the whole loss: 1 but where the user's own calculation takes another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

from fastnn.kernels.contexts import setting

# Where penalties of the calls at hand go; None outside of any.
_open: ContextVar[list[Any] | None] = ContextVar("fastnn_penalties", default=None)
_factor: ContextVar[Any] = ContextVar("fastnn_penalty_factor", default=1.0)


def collected_in(found: list[Any]) -> AbstractContextManager[None]:
    """``with`` this, penalties are put into a list."""
    return setting(_open, found)


def are_collected() -> bool:
    """Whether somebody collects them."""
    return _open.get() is not None


def add(penalties: Sequence[Any]) -> None:
    """Hand penalties, numbers, to whoever collects them."""
    found = _open.get()
    if found is not None:
        found.extend(penalties)


def summed(penalties: Sequence[Any]) -> Any:
    """Their sum, and the number 0 where there are none."""
    total: Any = 0.0
    for place, penalty in enumerate(penalties):
        total = penalty if place == 0 else total + penalty
    return total


def counting(factor: Any) -> AbstractContextManager[None]:
    """``with`` this, backward passes take penalties by another factor."""
    return setting(_factor, 0.0 if factor is None else factor)


def factor() -> Any:
    """What penalties count in backward passes."""
    return _factor.get()
