"""Windows that move along an axis: what they cover, where they are put, how many places they have.

The sizes that rows of convolution and pooling derive, and what their implementations on every backend ask as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastnn.kernels.table.row import Derivation


def reach(window: int, dilation: int = 1) -> int:
    """Numbers from the first to the last of a window whose numbers are ``dilation`` apart."""
    return (window - 1) * dilation + 1


def margins(size: int, window: int, stride: int, padding: Any, axis: int, dilation: int = 1) -> tuple[int, int]:
    """(before, after): the numbers that ``padding`` puts around an axis.

    "same" is TensorFlow's: as many as give the window ceil(size / stride) places, the odd one after.
    """
    if padding == "valid":
        return 0, 0
    if padding == "same":
        missing = max(0, (-(-size // stride) - 1) * stride + reach(window, dilation) - size)
        return missing // 2, missing - missing // 2
    before, after = padding[axis]
    return before, after


def places(size: int, window: int, stride: int, padding: Any, axis: int, dilation: int = 1) -> int:
    """How often a window fits: (before + size + after - reach) // stride + 1; 0 and less where it does not."""
    around = sum(margins(size, window, stride, padding, axis, dilation))
    return int((size + around - reach(window, dilation)) // stride + 1)


def spread(size: int, window: int, stride: int, padding: Any, axis: int, dilation: int = 1) -> int:
    """The size that so many places are of, of several the one that TensorFlow gives a transposed convolution."""
    covered = reach(window, dilation)
    if padding == "same":
        return size * stride
    if padding == "valid":
        return size * stride + max(covered - stride, 0)
    return int((size - 1) * stride + covered - sum(padding[axis]))


def spread_along(axis: int, size: str, window: str) -> Derivation:
    """The size along a spatial axis of a transposed convolution's results, by the names of x's and of the window's."""

    def derive(known: Mapping[str, Any]) -> int:
        stride, dilation = known["strides"][axis], known["dilation"][axis]
        found = spread(known[size], known[window], stride, known["padding"], axis, dilation)
        if known[window] < 1 or found < 1:
            raise ValueError(
                f"x: got the size {known[size]} along axis {axis + 1} for a window of {known[window]}, wants results "
                f"at least the size 1, not {found}"
            )
        return found

    return derive


def places_along(axis: int, size: str, window: str) -> Derivation:
    """The places along a spatial axis of x, by the names of its size and of the window's, or of its option."""

    def derive(known: Mapping[str, Any]) -> int:
        wide, dilation = known[window], known.get("dilation", (1,) * (axis + 1))[axis]
        wide = wide[axis] if isinstance(wide, tuple) else wide
        if wide < 1:
            raise ValueError(f"w: got a window of the size {wide} along axis {axis}, wants at least 1")
        found = places(known[size], wide, known["strides"][axis], known["padding"], axis, dilation)
        if found < 1:
            covered = reach(wide, dilation)
            raise ValueError(
                f"x: got the size {known[size]} along axis {axis + 1}, wants with its padding at least the {covered} "
                "that a window covers"
            )
        return found

    return derive


def as_image(array: Any) -> Any:
    """Sequences (n, w, c) as images of one row; None stays."""
    return None if array is None else array[:, None]


def options_of_images(strides: Any, padding: Any, dilation: Any) -> tuple[Any, Any, Any]:
    """Options of sequences, for images of one row."""
    around = padding if isinstance(padding, str) else ((0, 0), *padding)
    return (1, *strides), around, (1, *dilation)
