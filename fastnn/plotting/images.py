"""Arrays as images side by side: samples, reconstructions, weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.plotting.figures import COLOUR_MAP, panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP = 0.12  # between images, of their width


def images(
    x: Any,
    captions: Sequence[str] | None = None,
    *,
    shape: tuple[int, int] | None = None,
    columns: int | None = None,
    colour_map: str = "gray_r",
    ax: Axes | None = None,
) -> Axes:
    """Draw arrays (n, height, width), or rows (n, height * width) of this `shape`, in a grid; return the axes.

    Each has its own black and white; arrays (n, height, width, 3) are colours, from 0 to 1 or bytes. `captions` are
    written below. ValueError for what is no images, or for captions of another number.
    """
    return _grid(x, captions, shape, columns, colour_map, ax)


def weight_images(kernel: Any, shape: tuple[int, int], *, columns: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw what each unit of a layer has learned: the columns of its weights (height * width, units) as images.

    Dark is negative, light is positive, and what lies between is 0, in each image by its own largest weight.
    """
    weights = np.asarray(kernel)
    if weights.ndim != 2:
        raise ValueError(f"kernel: got {checks.describe(weights)}, wants weights (inputs, units)")
    return _grid(weights.T, None, shape, columns, COLOUR_MAP, ax, around_zero=True)


def _grid(
    x: Any,
    captions: Sequence[str] | None,
    shape: tuple[int, int] | None,
    columns: int | None,
    colour_map: str,
    ax: Axes | None,
    around_zero: bool = False,
) -> Axes:
    tiles = _as_images(np.asarray(x), shape)
    if captions is not None and len(captions) != len(tiles):
        raise ValueError(f"captions: got {len(captions)}, wants one for each of {len(tiles)} images")
    across = math.ceil(math.sqrt(len(tiles))) if columns is None else checks.positive_int("columns", columns)
    down = math.ceil(len(tiles) / across)
    line = 0.0 if captions is None else 0.2 * max(caption.count("\n") + 1 for caption in captions)
    ax = panel(ax, width=1.0 * across + 0.2, height=(1.0 + line) * down + 0.2)
    high = tiles.shape[1] / tiles.shape[2]
    for place, tile in enumerate(tiles):
        x0, y0 = (place % across) * (1 + _GAP), -(place // across) * (high + _GAP + line)
        most = max(float(np.abs(tile).max()), 1e-12) if around_zero else None
        ax.imshow(tile, extent=(x0, x0 + 1, y0 - high, y0), cmap=colour_map, interpolation="nearest",
                  vmin=most and -most, vmax=most)  # fmt: skip
        if captions is not None:
            ax.text(x0 + 0.5, y0 - high - 0.03, captions[place], ha="center", va="top", fontsize=8)
    ax.set_xlim(-_GAP, across * (1 + _GAP))
    ax.set_ylim(-down * (high + _GAP + line), _GAP)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


def _as_images(x: Any, shape: tuple[int, int] | None) -> Any:
    if shape is not None and x.ndim == 2 and x.shape[1] == math.prod(shape):
        x = x.reshape(-1, *shape)
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if not (x.ndim == 3 or (x.ndim == 4 and x.shape[3] == 3)) or x.size == 0:
        wanted = "images (n, height, width)" if shape is None else f"rows of {math.prod(shape)} numbers"
        raise ValueError(f"x: got {checks.describe(x)}, wants {wanted}")
    return x
