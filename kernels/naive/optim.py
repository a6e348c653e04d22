"""Optimizer steps, a weight at a time, in place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from fastnn.kernels.naive._lists import deliver


def _numbers(w: Any, *arrays: Any) -> Iterator[tuple[float, ...]]:
    """The arrays' elements side by side; an array that was left out counts as zeros."""
    columns = [[0.0] * w.size if a is None else a.ravel().tolist() for a in (w, *arrays)]
    return zip(*columns, strict=True)


def _write(columns: Sequence[tuple[float, ...]], *arrays: Any) -> None:
    """Column i into array i."""
    for i, array in enumerate(arrays):
        if array is not None:
            deliver([row[i] for row in columns], array.shape, array.dtype, array)


def sgd_step(
    w: Any,
    dw: Any,
    velocity: Any = None,
    learning_rate: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> None:
    """w += v, v = momentum v - lr g."""
    new = []
    for x, g, v in _numbers(w, dw, velocity):
        v = momentum * v - learning_rate * g  # noqa: PLW2901 - the textbook's v
        step = momentum * v - learning_rate * g if nesterov else v
        new.append((x + step, v))
    _write(new, w, velocity)


def rmsprop_step(
    w: Any,
    dw: Any,
    mean_square: Any,
    velocity: Any = None,
    mean: Any = None,
    learning_rate: float = 0.001,
    rho: float = 0.9,
    momentum: float = 0.0,
    epsilon: float = 1e-7,
) -> None:
    """w -= lr g / sqrt(E[g^2] - E[g]^2 + epsilon)."""
    new = []
    for x, g, square, v, average in _numbers(w, dw, mean_square, velocity, mean):
        square = rho * square + (1.0 - rho) * g * g  # noqa: PLW2901
        average = rho * average + (1.0 - rho) * g if mean is not None else 0.0  # noqa: PLW2901
        v = momentum * v + learning_rate * g / math.sqrt(square - average * average + epsilon)  # noqa: PLW2901
        new.append((x - v, square, v, average))
    _write(new, w, mean_square, velocity, mean)


def adam_step(
    w: Any,
    dw: Any,
    m: Any,
    v: Any,
    step: int,
    v_max: Any = None,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> None:
    """w -= alpha m / (sqrt(v) + epsilon), alpha = lr sqrt(1 - beta_2^step) / (1 - beta_1^step)."""
    alpha = learning_rate * math.sqrt(1.0 - beta_2**step) / (1.0 - beta_1**step)
    new = []
    for x, g, first, second, largest in _numbers(w, dw, m, v, v_max):
        first += (1.0 - beta_1) * (g - first)  # noqa: PLW2901
        second += (1.0 - beta_2) * (g * g - second)  # noqa: PLW2901
        largest = max(largest, second)  # noqa: PLW2901
        scale = second if v_max is None else largest
        new.append((x - alpha * first / (math.sqrt(scale) + epsilon), first, second, largest))
    _write(new, w, m, v, v_max)
