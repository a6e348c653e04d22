"""Knees of a curve: where the power law that it follows changes, found as a broken line in logarithmic scales.

The curve is cut at measured points into pieces of power laws that meet. A further cut has to lower the sum of squared
residuals, in units of what a point may be off, by ``_PRICE`` (two more numbers are fitted: where, and the exponent).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fastnn.engine.protocols import Array

# What a point may be off without being a knee, relative; a point whose repetitions differ by more may be off by that.
TOLERANCE = 0.04

# For a normal error, chance lowers the sum by more in one curve of fifty (chi-squared of two numbers, 12 places tried).
_PRICE = 13.0
_MOST = 4


@dataclass(frozen=True)
class Knee:
    """The exponent of the curve ``before`` and ``after`` the point of index ``index``."""

    index: int
    before: float
    after: float


@dataclass(frozen=True)
class Law:
    """Exponents of the pieces, and the indices of the points where one ends and the next begins."""

    exponents: tuple[float, ...]
    cuts: tuple[int, ...] = ()

    @property
    def knees(self) -> list[Knee]:
        """The cuts at which the exponent changes by more than nothing."""
        found = zip(self.cuts, self.exponents, self.exponents[1:], strict=False)
        return [Knee(*cut) for cut in found if abs(cut[2] - cut[1]) > TOLERANCE]


def fit(x: Sequence[float], y: Sequence[float], errors: Sequence[float]) -> Law:
    """The broken power law of y (positive) over x (positive, rising, at least two); ``errors`` of y are relative."""
    u, v = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    weights = 1 / np.maximum(TOLERANCE, np.asarray(errors, float))
    # each cut takes two numbers, the first piece two: leave a point to spare
    most = min(_MOST, max(0, (len(u) - 3) // 2))
    candidates = [cuts for count in range(most + 1) for cuts in combinations(range(1, len(u) - 1), count)]
    fits = [_fit(u, v, weights, cuts) for cuts in candidates]
    best = min(range(len(fits)), key=lambda i: fits[i][0] + _PRICE * len(candidates[i]))
    return Law(tuple(float(exponent) for exponent in np.cumsum(fits[best][1])), candidates[best])


def _fit(u: Array, v: Array, weights: Array, cuts: tuple[int, ...]) -> tuple[float, Array]:
    """(Weighted sum of squared residuals, exponent of the first piece and its change at each cut)."""
    columns = [np.ones_like(u), u, *(np.maximum(0, u - u[cut]) for cut in cuts)]
    matrix = np.stack(columns, axis=1) * weights[:, None]
    solution = np.linalg.lstsq(matrix, v * weights, rcond=None)[0]
    residuals = matrix @ solution - v * weights
    return float(residuals @ residuals), solution[1:]
