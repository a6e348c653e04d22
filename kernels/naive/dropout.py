"""Dropout: one number at a time, each with a random word of its own."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.naive._lists import deliver
from fastnn.kernels.naive.random import word


def dropout(x: Any, rate: Any, seed: Any, step: Any = 0, stream: Any = 0, *, out: Any = None) -> Any:
    """A word for each number."""
    y = []
    for i, row in enumerate(x.tolist()):
        for j, value in enumerate(row):
            dropped = word(i, j, seed, step, stream) < rate * 2**32
            y.append(0.0 if dropped else value / (1.0 - rate))
    return deliver(y, x.shape, x.dtype, out)


def dropout_backward(dy: Any, rate: Any, seed: Any, step: Any = 0, stream: Any = 0, *, out: Any = None) -> Any:
    """The derivative is the function: it is linear in x."""
    return dropout(dy, rate, seed, step, stream, out=out)
