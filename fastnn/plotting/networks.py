"""A dense network as units and weighted lines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.plotting.figures import BLUE, GREY, ORANGE, panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_UNITS = 20  # of a layer; of more the first are drawn


def network(weights: Any, *, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None,
            values: bool = True, ax: Axes | None = None) -> Axes:  # fmt: skip
    """Draw a stack of dense layers from the left to the right: units, and a line for each weight; return the axes.

    `weights` is a model, or its kernels and biases in turn. Lines are blue for positive weights, orange and dashed for
    negative ones, wider the larger; with `values` each weight is written at its line, and each bias above its unit.
    ValueError for weights that are no such stack.
    """
    kernels, biases = _layers(weights.get_weights() if hasattr(weights, "get_weights") else weights)
    widths = [kernels[0].shape[0], *(kernel.shape[1] for kernel in kernels)]
    shown = [min(width, _MOST_UNITS) for width in widths]
    ax = panel(ax, width=2.6 * len(widths), height=max(3.0, 0.62 * max(shown)))
    places = [_column(2.2 * layer, count) for layer, count in enumerate(shown)]
    largest = max(float(np.abs(kernel).max()) for kernel in kernels) or 1.0
    for layer, kernel in enumerate(kernels):
        for row, column in np.ndindex(shown[layer], shown[layer + 1]):
            start, end, weight = places[layer][row], places[layer + 1][column], float(kernel[row, column])
            _line(ax, start, end, weight, largest)
            if values:
                _write(ax, start, end, weight, 0.2 + 0.35 * (row % 2) + 0.1 * (column % 2))
    for layer, units in enumerate(places):
        names = inputs if layer == 0 else outputs if layer == len(kernels) else None
        for unit, (x, y) in enumerate(units):
            ax.plot(x, y, "o", markersize=17, markerfacecolor="white", markeredgecolor="black", zorder=3)
            if names is not None:
                left = layer == 0
                ax.text(x - 0.2 if left else x + 0.2, y, names[unit], ha="right" if left else "left", va="center")
            if layer and values:
                ax.text(x, y + 0.24, f"{biases[layer - 1][unit]:.2f}", ha="center", fontsize=7, color=GREY, zorder=4)
        if widths[layer] > shown[layer]:
            ax.text(units[0][0], units[-1][1] - 0.45, f"{widths[layer] - shown[layer]} more", ha="center", color=GREY)
    ax.set_axis_off()
    ax.margins(0.12)
    return ax


def _layers(weights: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    arrays = [np.asarray(each) for each in weights]
    kernels, biases = arrays[::2], arrays[1::2]
    fitting = len(kernels) == len(biases) > 0 and all(
        kernel.ndim == 2 and kernel.size and bias.shape == kernel.shape[1:]
        for kernel, bias in zip(kernels, biases, strict=True)
    )
    if not fitting or any(one.shape[1] != other.shape[0] for one, other in pairwise(kernels)):
        shapes = ", ".join(str(each.shape) for each in arrays)
        raise ValueError(
            f"weights: got {shapes or checks.describe(weights)}, wants kernels and biases of dense layers in turn"
        )
    return kernels, biases


def _column(x: float, count: int) -> list[tuple[float, float]]:
    return [(x, (count - 1) / 2 - unit) for unit in range(count)]


def _line(ax: Axes, start: tuple[float, float], end: tuple[float, float], weight: float, largest: float) -> None:
    colour, style = (BLUE, "-") if weight >= 0 else (ORANGE, "--")
    share, x, y = abs(weight) / largest, (start[0], end[0]), (start[1], end[1])
    ax.plot(x, y, style, color=colour, linewidth=0.4 + 3 * share, alpha=0.35 + 0.6 * share, zorder=1)


def _write(ax: Axes, start: tuple[float, float], end: tuple[float, float], weight: float, share: float) -> None:
    x, y = (a + (b - a) * share for a, b in zip(start, end, strict=True))
    ax.text(x, y, f"{weight:.2f}", fontsize=6.5, ha="center", va="center", zorder=2,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8})  # fmt: skip
