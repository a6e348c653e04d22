"""The library's one source of randomness: initial weights, the order of samples and masks are drawn from it."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import numpy as np

from fastnn.kernels.contexts import setting

_generator = np.random.default_rng()

# What draws in its place in the current context (thread or task).
_aside: ContextVar[np.random.Generator | None] = ContextVar("fastnn_generator", default=None)


def generator() -> np.random.Generator:
    """The generator that everything random draws from."""
    return _aside.get() or _generator


def reset(seed: int) -> None:
    """Start the generator again from ``seed``."""
    global _generator  # noqa: PLW0603 - one generator a process is what this module is for
    _generator = np.random.default_rng(seed)


def state() -> dict[str, Any]:
    """All that follows from the generator, as JSON can hold it."""
    return dict(generator().bit_generator.state)


def in_state(state: Any) -> np.random.Generator:
    """A generator that draws what this one drew from ``state`` on; ValueError for anything that ``state`` did not give.

    This one stays as it is.
    """
    made = copy.deepcopy(generator())
    try:
        made.bit_generator.state = state
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"got a state that no generator of this kind can be in ({error})") from error
    return made


def untouched() -> AbstractContextManager[None]:
    """Draw from a copy of the generator, in this thread and ``with`` block; other threads draw from it as ever."""
    return setting(_aside, copy.deepcopy(generator()))


def drawing(own: np.random.Generator) -> AbstractContextManager[None]:
    """Draw from ``own`` in this thread and ``with`` block; other threads draw from the one that all share as ever."""
    return setting(_aside, own)


def draw_seed() -> int:
    """A seed for an object that keeps a stream of its own."""
    return int(generator().integers(2**63))
