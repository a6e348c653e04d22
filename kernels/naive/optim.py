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


def adagrad_step(w: Any, dw: Any, accumulator: Any, learning_rate: float = 0.001, epsilon: float = 1e-7) -> None:
    """w -= lr g / sqrt(sum of g^2 + epsilon)."""
    new = []
    for x, g, total in _numbers(w, dw, accumulator):
        total += g * g  # noqa: PLW2901
        new.append((x - learning_rate * g / math.sqrt(total + epsilon), total))
    _write(new, w, accumulator)


def adadelta_step(
    w: Any,
    dw: Any,
    mean_square: Any,
    mean_moved: Any,
    learning_rate: float = 0.001,
    rho: float = 0.95,
    epsilon: float = 1e-7,
) -> None:
    """w -= lr d, d = g RMS(d) / RMS(g), of the d before and the g so far."""
    new = []
    for x, g, square, moved in _numbers(w, dw, mean_square, mean_moved):
        square = rho * square + (1.0 - rho) * g * g  # noqa: PLW2901
        step = g * math.sqrt(moved + epsilon) / math.sqrt(square + epsilon)
        new.append((x - learning_rate * step, square, rho * moved + (1.0 - rho) * step * step))
    _write(new, w, mean_square, mean_moved)


def adamax_step(
    w: Any,
    dw: Any,
    m: Any,
    norm: Any,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> None:
    """w -= lr / (1 - beta_1^step) m / (max of the |g|, fading + epsilon)."""
    new = []
    for x, g, first, largest in _numbers(w, dw, m, norm):
        first += (1.0 - beta_1) * (g - first)  # noqa: PLW2901
        largest = max(beta_2 * largest, abs(g))  # noqa: PLW2901
        new.append((x - learning_rate * first / ((1.0 - beta_1**step) * (largest + epsilon)), first, largest))
    _write(new, w, m, norm)


def nadam_step(
    w: Any,
    dw: Any,
    m: Any,
    v: Any,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> None:
    """w -= lr (u' m / (1 - P u') + (1 - u) g / (1 - P)) / (sqrt(v / (1 - beta_2^step)) + epsilon).

    u and u' are the momenta of this step and the next, P the product of all up to this one.
    """
    momenta = [beta_1 * (1.0 - 0.5 * 0.96**t) for t in range(1, step + 2)]
    product = math.prod(momenta[:-1])
    now, after = momenta[-2:]
    new = []
    for x, g, first, second in _numbers(w, dw, m, v):
        first += (1.0 - beta_1) * (g - first)  # noqa: PLW2901
        second += (1.0 - beta_2) * (g * g - second)  # noqa: PLW2901
        mean = after * first / (1.0 - product * after) + (1.0 - now) * g / (1.0 - product)
        root = math.sqrt(second / (1.0 - beta_2**step))
        new.append((x - learning_rate * mean / (root + epsilon), first, second))
    _write(new, w, m, v)


def lion_step(w: Any, dw: Any, m: Any, learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.99) -> None:
    """w -= lr sign(beta_1 m + (1 - beta_1) g)."""
    new = []
    for x, g, mean in _numbers(w, dw, m):
        drawn = beta_1 * mean + (1.0 - beta_1) * g
        side = (drawn > 0.0) - (drawn < 0.0)
        new.append((x - learning_rate * side, beta_2 * mean + (1.0 - beta_2) * g))
    _write(new, w, m)


def ftrl_step(
    w: Any,
    dw: Any,
    accumulator: Any,
    linear: Any,
    learning_rate: float = 0.001,
    learning_rate_power: float = -0.5,
    l1_regularization_strength: float = 0.0,
    l2_regularization_strength: float = 0.0,
    l2_shrinkage_regularization_strength: float = 0.0,
    beta: float = 0.0,
) -> None:
    """w = (clip(z, -l1, l1) - z) / (n^p / lr + 2 l2 + beta / lr), of the sums n of g^2 and z."""
    power, l1 = -learning_rate_power, l1_regularization_strength
    new = []
    for x, g, n, z in _numbers(w, dw, accumulator, linear):
        total = n + g * g
        sigma = (total**power - n**power) / learning_rate
        z += g + 2.0 * l2_shrinkage_regularization_strength * x - sigma * x  # noqa: PLW2901
        pull = total**power / learning_rate + 2.0 * l2_regularization_strength + beta / learning_rate
        new.append(((max(-l1, min(l1, z)) - z) / pull, total, z))
    _write(new, w, accumulator, linear)


def rprop_step(
    w: Any,
    dw: Any,
    step_size: Any,
    change: Any,
    gradient: Any,
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    step_min: float = 1e-6,
    step_max: float = 50.0,
) -> None:
    """w += change, of a size that grows while g keeps its sign; undone where g has turned."""
    new = []
    for x, g, size, before, _ in _numbers(w, dw, step_size, change, gradient):
        if before * g > 0.0:
            new.append((x - before, max(size * eta_minus, step_min), 0.0, g))
            continue
        if before * g < 0.0:
            size = min(size * eta_plus, step_max)  # noqa: PLW2901
        move = -size if g > 0.0 else size if g < 0.0 else 0.0
        new.append((x + move, size, move, g))
    _write(new, w, step_size, change, gradient)


def heavy_ball_step(
    w: Any,
    dw: Any,
    velocity: Any,
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> None:
    """w -= lr v, v = momentum v + (1 - dampening) g."""
    new = []
    for x, g, v in _numbers(w, dw, velocity):
        v = momentum * v + (1.0 - dampening) * g  # noqa: PLW2901
        new.append((x - learning_rate * (g + momentum * v if nesterov else v), v))
    _write(new, w, velocity)


def rmsprop_root_step(
    w: Any,
    dw: Any,
    mean_square: Any,
    velocity: Any = None,
    mean: Any = None,
    learning_rate: float = 0.01,
    rho: float = 0.99,
    momentum: float = 0.0,
    epsilon: float = 1e-8,
) -> None:
    """w -= lr g / (sqrt(E[g^2] - E[g]^2) + epsilon)."""
    new = []
    for x, g, square, v, average in _numbers(w, dw, mean_square, velocity, mean):
        square = rho * square + (1.0 - rho) * g * g  # noqa: PLW2901
        average = rho * average + (1.0 - rho) * g if mean is not None else 0.0  # noqa: PLW2901
        v = momentum * v + g / (math.sqrt(square - average * average) + epsilon)  # noqa: PLW2901
        new.append((x - learning_rate * v, square, v, average))
    _write(new, w, mean_square, velocity, mean)


def adagrad_root_step(w: Any, dw: Any, accumulator: Any, learning_rate: float = 0.01, epsilon: float = 1e-10) -> None:
    """w -= lr g / (sqrt(sum of g^2) + epsilon)."""
    new = []
    for x, g, total in _numbers(w, dw, accumulator):
        total = total + g * g  # noqa: PLW2901
        new.append((x - learning_rate * g / (math.sqrt(total) + epsilon), total))
    _write(new, w, accumulator)
