"""Images made larger or smaller, one row of channels after the other."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.naive._lists import deliver


def zero_pad2d(x: Any, padding: Any = ((1, 1), (1, 1)), *, out: Any = None) -> Any:
    """Zeros, and x in their midst."""
    (n, h, w, c), ((top, bottom), (left, right)) = x.shape, padding
    height, width, numbers = top + h + bottom, left + w + right, x.tolist()
    y = [[[[0.0] * c for _ in range(width)] for _ in range(height)] for _ in range(n)]
    for i in range(n):
        for row in range(h):
            for column in range(w):
                y[i][top + row][left + column] = numbers[i][row][column]
    return deliver(y, (n, height, width, c), x.dtype, out)


def crop2d(x: Any, cropping: Any = ((1, 1), (1, 1)), *, out: Any = None) -> Any:
    """What is left."""
    (n, h, w, c), ((top, bottom), (left, right)) = x.shape, cropping
    y = [[row[left : w - right] for row in image[top : h - bottom]] for image in x.tolist()]
    return deliver(y, (n, h - top - bottom, w - left - right, c), x.dtype, out)


def upsample2d(x: Any, size: Any = (2, 2), *, out: Any = None) -> Any:
    """Each place's number from where it came."""
    (n, h, w, c), (down, across), numbers = x.shape, size, x.tolist()
    y = [
        [[image[row // down][column // across] for column in range(w * across)] for row in range(h * down)]
        for image in numbers
    ]
    return deliver(y, (n, h * down, w * across, c), x.dtype, out)


def upsample2d_backward(dy: Any, x: Any, size: Any = (2, 2), *, out: Any = None) -> Any:
    """Each place's derivative added to where its number came from."""
    (n, h, w, c), (down, across) = x.shape, size
    dx = [[[[0.0] * c for _ in range(w)] for _ in range(h)] for _ in range(n)]
    for i, image in enumerate(dy.tolist()):
        for row, line in enumerate(image):
            for column, channels in enumerate(line):
                total = dx[i][row // down][column // across]
                for k, slope in enumerate(channels):
                    total[k] += slope
    return deliver(dx, x.shape, x.dtype, out)
