"""Made problems of two numbers: points in the square from -6 to 6, each with a label or a value from -1 to 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastnn import checks
from fastnn.engine.protocols import Array

SIDE = 6.0

# A problem's points (n, 2) and what is to be learned of each, (n,): a label, -1 or 1, or a value between.
_Drawn = tuple[Array, Array]


@dataclass(frozen=True)
class Problem:
    """How points are drawn; ``noise`` is 0 to 1, and moves labels' points, or the points that values are found at."""

    title: str
    regression: bool
    draw: Callable[[np.random.Generator, int, float], _Drawn]


def points(name: str, count: int = 500, noise: float = 0.0, seed: int = 0) -> _Drawn:
    """``count`` points (count, 2) of the problem of this name, and their labels or values (count,), float32.

    >>> x, y = points("xor", 500, noise=0.1, seed=0)
    """
    problem = PROBLEMS[checks.one_of("name", name, PROBLEMS)]
    x, y = problem.draw(np.random.default_rng(seed), checks.positive_int("count", count), noise)
    return x.astype(np.float32), y.astype(np.float32)


def _labels(count: int) -> Array:
    """Half of them 1."""
    return np.where(np.arange(count) < count // 2, 1.0, -1.0)


def _square(rng: np.random.Generator, count: int, side: float = SIDE) -> Array:
    return rng.uniform(-side, side, (count, 2))


def _xor(rng: np.random.Generator, count: int, noise: float) -> _Drawn:
    """1 where the signs are equal; a gap along the axes, which noise closes."""
    x = _square(rng, count, SIDE - 1)
    x += 0.3 * np.where(x > 0, 1.0, -1.0)
    moved = x + rng.uniform(-SIDE, SIDE, x.shape) * noise
    return x, np.where(moved[:, 0] * moved[:, 1] >= 0, 1.0, -1.0)


def _circle(rng: np.random.Generator, count: int, noise: float) -> _Drawn:
    """A disc, and a ring around it."""
    inner = _labels(count) > 0
    radius = np.where(inner, rng.uniform(0, 2.5, count), rng.uniform(3.5, 5, count))
    angle = rng.uniform(0, 2 * np.pi, count)
    x = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    moved = x + rng.uniform(-5, 5, x.shape) * noise
    return x, np.where(np.hypot(*moved.T) < 2.5, 1.0, -1.0)


def _gaussians(rng: np.random.Generator, count: int, noise: float) -> _Drawn:
    """Two clouds."""
    labels = _labels(count)
    return 2 * labels[:, np.newaxis] + rng.normal(0, 0.7 + 5 * noise, (count, 2)), labels


def _spiral(rng: np.random.Generator, count: int, noise: float) -> _Drawn:
    """Two arms of a spiral."""
    labels = _labels(count)
    along = rng.uniform(0, 1, count)
    angle = 3.5 * np.pi * along + np.where(labels > 0, 0, np.pi)
    x = 5 * along[:, np.newaxis] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return x + rng.uniform(-2, 2, x.shape) * noise, labels


def _moons(rng: np.random.Generator, count: int, noise: float) -> _Drawn:
    """Two half circles, each with its end inside the other."""
    labels = _labels(count)
    angle = rng.uniform(0, np.pi, count)
    up = np.stack([3 * np.cos(angle) - 1.5, 3 * np.sin(angle) - 0.75], axis=1)
    x = np.where(labels[:, np.newaxis] > 0, up, -up)
    return x + rng.normal(0, 0.1 + 2 * noise, x.shape), labels


def _plane(rng: np.random.Generator, count: int, noise: float) -> _Drawn:
    """(x1 + x2) / 12."""
    x = _square(rng, count)
    return x, np.clip((x + rng.uniform(-SIDE, SIDE, x.shape) * noise).sum(axis=1) / (2 * SIDE), -1, 1)


def _hills(rng: np.random.Generator, count: int, noise: float) -> _Drawn:
    """Three hills above, three valleys below: the highest or deepest that is near decides."""
    tops = np.array([(-4, 2.5), (0, 2.5), (4, 2.5), (-4, -2.5), (0, -2.5), (4, -2.5)])
    signs = np.array([1.0, -1, 1, -1, 1, -1])
    x = _square(rng, count)
    moved = x + rng.uniform(-SIDE, SIDE, x.shape) * noise
    distance = np.hypot(*(moved[:, np.newaxis] - tops).transpose(2, 0, 1))
    heights = signs * np.clip(1 - distance / 2, 0, 1)
    return x, heights[np.arange(count), np.abs(heights).argmax(axis=1)]


PROBLEMS = {
    "xor": Problem("XOR", False, _xor),
    "circle": Problem("circle", False, _circle),
    "gaussians": Problem("Gaussians", False, _gaussians),
    "spiral": Problem("spiral", False, _spiral),
    "moons": Problem("moons", False, _moons),
    "plane": Problem("plane", True, _plane),
    "hills": Problem("Gaussian hills", True, _hills),
}

# What a network is given of a point: how it is written, and what it is of the coordinates.
FEATURES: dict[str, Callable[[Array, Array], Array]] = {
    "x1": lambda x1, x2: x1,
    "x2": lambda x1, x2: x2,
    "x1^2": lambda x1, x2: x1 * x1,
    "x2^2": lambda x1, x2: x2 * x2,
    "x1*x2": lambda x1, x2: x1 * x2,
    "sin(x1)": lambda x1, x2: np.sin(x1),
    "sin(x2)": lambda x1, x2: np.sin(x2),
}


def features(x: Array, names: tuple[str, ...] | list[str]) -> Array:
    """The features of these names of points (n, 2), as columns (n, len(names))."""
    chosen = [FEATURES[checks.one_of("names", name, FEATURES)] for name in names]
    return np.stack([of(x[:, 0], x[:, 1]) for of in chosen], axis=1)
