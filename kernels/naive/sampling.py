"""Images looked at through a transformation of their places, one place after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

from fastnn.kernels.naive._lists import deliver


def _inside(place: int, size: int, fill_mode: str) -> int | None:
    """The place of an image that stands for one beyond its edges; None where a number does."""
    if 0 <= place < size:
        return place
    if fill_mode == "nearest":
        return 0 if place < 0 else size - 1
    if fill_mode == "wrap":
        return place % size
    if fill_mode == "reflect":
        place %= 2 * size
        return place if place < size else 2 * size - 1 - place
    return None


def _corners(row: float, column: float, interpolation: str) -> Iterator[tuple[int, int, float]]:
    """The places that a number is made of, and their shares."""
    if interpolation == "nearest":
        yield math.floor(row + 0.5), math.floor(column + 0.5), 1.0
        return
    top, left = math.floor(row), math.floor(column)
    for i, down in ((top, 1.0 - (row - top)), (top + 1, row - top)):
        for j, across in ((left, 1.0 - (column - left)), (left + 1, column - left)):
            yield i, j, down * across


def _sources(
    matrices: Any, sizes: tuple[int, int], wanted: tuple[int, int], interpolation: str, fill_mode: str
) -> Iterator[tuple[int, int, int, int | None, int | None, float]]:
    """(image, row, column) of each number of the result, with a place (row, column) that it is made of, and its share.

    The row or the column is None where a number stands for what lies beyond the edges.
    """
    for image, (a, b, c, d, e, f) in enumerate(matrices.tolist()):
        for r, s in product(*map(range, wanted)):
            for i, j, share in _corners(a * r + b * s + c, d * r + e * s + f, interpolation):
                yield image, r, s, _inside(i, sizes[0], fill_mode), _inside(j, sizes[1], fill_mode), share


def affine_sample2d(
    x: Any,
    matrices: Any,
    height: int,
    width: int,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    *,
    out: Any = None,
) -> Any:
    """Each place's number from where it comes."""
    (n, h, w, c), images = x.shape, x.tolist()
    y = [[[[0.0] * c for _ in range(width)] for _ in range(height)] for _ in range(n)]
    for image, r, s, i, j, share in _sources(matrices, (h, w), (height, width), interpolation, fill_mode):
        for k in range(c):
            seen = fill_value if i is None or j is None else images[image][i][j][k]
            y[image][r][s][k] += share * seen
    return deliver(y, (n, height, width, c), x.dtype, out)


def affine_sample2d_backward(
    dy: Any,
    x: Any,
    matrices: Any,
    height: int,
    width: int,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    *,
    out: Any = None,
) -> Any:
    """Each place's derivative added to where its number came from."""
    (n, h, w, c), slopes = x.shape, dy.tolist()
    dx = [[[[0.0] * c for _ in range(w)] for _ in range(h)] for _ in range(n)]
    for image, r, s, i, j, share in _sources(matrices, (h, w), (height, width), interpolation, fill_mode):
        if i is not None and j is not None:
            for k in range(c):
                dx[image][i][j][k] += share * slopes[image][r][s][k]
    return deliver(dx, x.shape, x.dtype, out)
