"""Deterministic divisions into training and test rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import checks

Split = tuple[NDArray[Any], NDArray[Any]]


def checked_test_split(value: float) -> float:
    """Return the share of test rows `value` as a float, or raise: a real number in [0, 1)."""
    return checks.real("test_split", value, minimum=0.0, maximum=1.0, open_high=True)


def generator(seed: int | None) -> np.random.RandomState:
    """Return NumPy's legacy generator, whose stream is frozen: a seed means the same rows in every NumPy version."""
    if seed is None:
        return np.random.RandomState()
    if checks.integer("seed", seed, minimum=0) >= 2**32:
        raise ValueError(f"seed: got {seed}, wants an integer from 0 to 2**32 - 1, or None")
    return np.random.RandomState(seed)


def stratified(x: NDArray[Any], y: NDArray[Any], test_split: float, seed: int | None) -> tuple[Split, Split]:
    """Shuffle the rows and give each class the share `test_split` of its rows (rounded) as test rows.

    Both parts come in shuffled order; the same seed always gives the same rows.
    """
    share = checked_test_split(test_split)
    order = generator(seed).permutation(len(y))
    x, y = x[order], y[order]
    counts = np.bincount(y)
    by_class = np.argsort(y, kind="stable")
    rank = np.empty_like(by_class)  # of a row among the rows of its class
    rank[by_class] = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    is_test = rank < np.floor(share * counts + 0.5)[y]
    return (x[~is_test], y[~is_test]), (x[is_test], y[is_test])


def leading(n: int, test_split: float) -> int:
    """Return how many of `n` shuffled rows train, rounded down as Keras does."""
    return math.floor(n * (1 - test_split))
