"""The library's one source of randomness: initial weights, the order of samples and masks are drawn from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_generator = np.random.default_rng()


def generator() -> np.random.Generator:
    """The generator that everything random draws from."""
    return _generator


def reset(seed: int) -> None:
    """Start the generator again from ``seed``."""
    global _generator  # noqa: PLW0603 - one generator a process is what this module is for
    _generator = np.random.default_rng(seed)


@contextmanager
def untouched() -> Iterator[None]:
    """Leave the generator, at the end of a ``with`` block, in the state that it had at its start."""
    kept = _generator.bit_generator.state
    try:
        yield
    finally:
        _generator.bit_generator.state = kept


def draw_seed() -> int:
    """A seed for an object that keeps a stream of its own."""
    return int(_generator.integers(2**63))
