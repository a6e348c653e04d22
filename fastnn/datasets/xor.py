"""XOR, made: the corners of a square, labelled 1 where the signs differ. No line separates the classes."""

from __future__ import annotations

import numpy as np

from fastnn import checks
from fastnn.datasets import _split

_CORNERS = np.array([(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)])


def load_data(
    n: int = 1000, noise: float = 0.3, test_split: float = 0.2, seed: int | None = 113
) -> tuple[_split.Split, _split.Split]:
    """Return ``(x_train, y_train), (x_test, y_test)``: float64 points (n, 2), int64 labels (n,).

    The n points lie on the corners (+-1, +-1) in turn, each moved by Gaussian noise; a point keeps its corner's label.
    ``load_data(4, noise=0, test_split=0)`` is the textbook's XOR: each corner once, and no test points.

    Parameters
    ----------
    n
        How many points in all.
    noise
        Standard deviation of the noise on each coordinate; 0 leaves the points on the corners. At 0.3 about one point
        in 600 lies on the wrong side of an axis, so that no classifier can be expected to get it right.
    test_split
        The share of each class that becomes test points, in [0, 1).
    seed
        Of the noise and the shuffle; None gives different points each time.
    """
    n = checks.positive_int("n", n)
    noise = checks.real("noise", noise, minimum=0.0)
    corners = _CORNERS[np.arange(n) % 4]
    x = corners + noise * _split.generator(seed).standard_normal((n, 2))
    y = (corners[:, 0] != corners[:, 1]).astype(np.int64)
    return _split.stratified(x, y, test_split, seed)
