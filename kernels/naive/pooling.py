"""Pooling, one place of the window after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

from fastnn.kernels.naive._lists import deliver
from fastnn.kernels.table.windows import margins

_Window = tuple[tuple[int, int], list[tuple[int, int]]]


def _windows(shape: Any, places: Any, pool_size: Any, strides: Any, padding: Any) -> Iterator[_Window]:
    """The places of a window, with those that it covers inside of images."""
    before = [margins(shape[axis + 1], pool_size[axis], strides[axis], padding, axis)[0] for axis in (0, 1)]
    for place in product(range(places[0]), range(places[1])):
        sides = []
        for axis in (0, 1):
            start = place[axis] * strides[axis] - before[axis]
            sides.append([at for at in range(start, start + pool_size[axis]) if 0 <= at < shape[axis + 1]])
        rows, columns = sides
        yield place, list(product(rows, columns))


def _places(shape: Any, pool_size: Any, strides: Any, padding: Any) -> list[int]:
    counts = []
    for axis in (0, 1):
        around = sum(margins(shape[axis + 1], pool_size[axis], strides[axis], padding, axis))
        counts.append((shape[axis + 1] + around - pool_size[axis]) // strides[axis] + 1)
    return counts


def _zeros(shape: Any) -> Any:
    return [_zeros(shape[1:]) for _ in range(shape[0])] if shape else 0.0


def _first_largest(numbers: list[float]) -> int:
    """The place of the first of the largest numbers; of the first NaN where there is one."""
    best = 0
    for place, v in enumerate(numbers):
        if math.isnan(v):
            return place
        if v > numbers[best]:
            best = place
    return best


def _pooled(x: Any, pool_size: Any, strides: Any, padding: Any, out: Any, of: Any) -> Any:
    places = _places(x.shape, pool_size, strides, padding)
    n, c = x.shape[0], x.shape[3]
    y, numbers = _zeros((n, *places, c)), x.tolist()
    for (p, q), covered in _windows(x.shape, places, pool_size, strides, padding):
        for i, k in product(range(n), range(c)):
            y[i][p][q][k] = of([numbers[i][row][column][k] for row, column in covered])
    return deliver(y, (n, *places, c), x.dtype, out)


def max_pool2d(x: Any, pool_size: Any, strides: Any, padding: Any = "valid", *, out: Any = None) -> Any:
    """The largest of what a window covers."""
    return _pooled(x, pool_size, strides, padding, out, lambda numbers: numbers[_first_largest(numbers)])


def average_pool2d(x: Any, pool_size: Any, strides: Any, padding: Any = "valid", *, out: Any = None) -> Any:
    """The mean of what a window covers."""
    return _pooled(x, pool_size, strides, padding, out, lambda numbers: math.fsum(numbers) / len(numbers))


def max_pool2d_backward(
    dy: Any, x: Any, y: Any, pool_size: Any, strides: Any, padding: Any = "valid", *, out: Any = None
) -> Any:
    """A window's derivative goes to where its largest number is."""
    dx, slopes, numbers = _zeros(x.shape), dy.tolist(), x.tolist()
    for (p, q), covered in _windows(x.shape, dy.shape[1:3], pool_size, strides, padding):
        for i, k in product(range(x.shape[0]), range(x.shape[3])):
            row, column = covered[_first_largest([numbers[i][r][s][k] for r, s in covered])]
            dx[i][row][column][k] += slopes[i][p][q][k]
    return deliver(dx, x.shape, x.dtype, out)


def average_pool2d_backward(
    dy: Any, x: Any, pool_size: Any, strides: Any, padding: Any = "valid", *, out: Any = None
) -> Any:
    """A window's derivative is shared out evenly."""
    dx, slopes = _zeros(x.shape), dy.tolist()
    for (p, q), covered in _windows(x.shape, dy.shape[1:3], pool_size, strides, padding):
        for i, k in product(range(x.shape[0]), range(x.shape[3])):
            for row, column in covered:
                dx[i][row][column][k] += slopes[i][p][q][k] / len(covered)
    return deliver(dx, x.shape, x.dtype, out)


def _as_image(x: Any) -> tuple[Any, tuple[int, int]]:
    """Places in one column, and the window that covers them all."""
    return x.reshape(x.shape[0], x.shape[1], 1, x.shape[2]), (x.shape[1], 1)


def global_max_pool(x: Any, *, out: Any = None) -> Any:
    """One window of all places."""
    image, window = _as_image(x)
    y = max_pool2d(image, window, (1, 1))
    return deliver(y, (x.shape[0], x.shape[2]), x.dtype, out)


def global_average_pool(x: Any, *, out: Any = None) -> Any:
    """One window of all places."""
    image, window = _as_image(x)
    return deliver(average_pool2d(image, window, (1, 1)), (x.shape[0], x.shape[2]), x.dtype, out)


def global_max_pool_backward(dy: Any, x: Any, y: Any, *, out: Any = None) -> Any:
    """One window of all places."""
    image, window = _as_image(x)
    dx = max_pool2d_backward(dy[:, None, None], image, y[:, None, None], window, (1, 1))
    return deliver(dx, x.shape, x.dtype, out)


def global_average_pool_backward(dy: Any, x: Any, *, out: Any = None) -> Any:
    """One window of all places."""
    image, window = _as_image(x)
    return deliver(average_pool2d_backward(dy[:, None, None], image, window, (1, 1)), x.shape, x.dtype, out)
