"""A dense network as a picture: a circle for each unit, a line and a number for each weight. Needs matplotlib.

As in R's pictures, an intercept is the weight of a unit that is always 1; ``fastnn.plotting.network`` draws any model's
layers, with biases at their units.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn import plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]

# In inches: between two layers, of a unit's circle, between two numbers that stand one above the other, and around all.
_LAYERS, _RADIUS, _NUMBERS, _MARGIN = 3.4, 0.17, 0.155, 0.3

# In inches: between two units, the room for a character of their names, and how high a picture may get.
_UNITS, _CHARACTER, _HIGHEST = 0.62, 0.09, 24.0

# Where between two layers the numbers may stand.
_SHARES = np.linspace(0.12, 0.88, 153)


def network_figure(
    inputs: Sequence[str],
    outputs: Sequence[str],
    weights: Sequence[Array],
    error: float,
    steps: int,
    digits: int = 5,
    show_weights: bool | None = None,
) -> Figure:
    """Units in columns from left to right, over them what is always 1; error and steps below.

    ``weights`` are matrices (units + 1, units of the next layer), intercepts in the first row. Their numbers have so
    many significant ``digits``, and stand where no two of them meet; None shows them where there is room.
    """
    plotting.require()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sizes = [matrix.shape[0] - 1 for matrix in weights] + [weights[-1].shape[1]]
    columns = [_column(size, last=place == len(weights)) for place, size in enumerate(sizes)]
    lines = [(sources, targets[-size:]) for (sources, targets), size in zip(pairwise(columns), sizes[1:], strict=True)]
    room = [_share(*each) for each in lines]
    least = min(gap for _, gap in room)
    plain = _UNITS * (max(sizes) + 1)
    numbered = _HIGHEST * least >= _NUMBERS if show_weights is None else show_weights
    height = min(_HIGHEST, max(plain, _NUMBERS / least) if numbered and least > 0 else plain)
    left, right = (_MARGIN + _CHARACTER * max(map(len, names)) for names in (inputs, outputs))
    width = left + right + _LAYERS * len(weights) + 2 * _RADIUS
    figure = Figure(figsize=(width, height + 2 * _MARGIN + 0.3), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(-_MARGIN - 0.3, height + _MARGIN))
    axes.axis("off")
    places = [left + _RADIUS + _LAYERS * number for number in range(len(columns))]
    for layer, matrix in enumerate(weights):
        ends = [height * column for column in lines[layer]]
        _draw_weights(axes, matrix, places[layer], ends, room[layer][0], digits if numbered else 0)
    for layer, (x, column) in enumerate(zip(places, columns, strict=True)):
        _draw_units(axes, x, height * column, last=layer == len(weights))
    for names, x, column, align in ((inputs, places[0], columns[0][1:], -1), (outputs, places[-1], columns[-1], 1)):
        for name, y in zip(names, height * column, strict=True):
            at = x + align * (_RADIUS + 0.06)
            axes.text(at, y, name, ha="left" if align > 0 else "right", va="center", fontsize=9.5)
    axes.text(width / 2, -_MARGIN - 0.1, f"Error: {error:.6f}   Steps: {steps}", ha="center", va="center", fontsize=11)
    return figure


def _column(units: int, last: bool) -> Array:
    """Where units stand, as shares of the height from below: what is always 1 above the others, the first unit next."""
    count = units if last else units + 1
    return 1.0 - (np.arange(count) + 0.5) / count


def _share(sources: Array, targets: Array) -> tuple[float, float]:
    """At which share of the way the numbers of all lines stand furthest apart, and how far then."""
    best = (0.5, 0.0)
    for share in _SHARES:
        heights = np.sort(((1 - share) * sources[:, None] + share * targets).ravel())
        gap = float(np.diff(heights).min(initial=1.0))
        if gap > best[1]:
            best = float(share), gap
    return best


def _draw_weights(axes: Axes, matrix: Array, x: float, ends: Sequence[Array], share: float, digits: int) -> None:
    """Lines from a layer, its 1 first, to the next: the wider the larger the weight; ``digits`` 0 draws no numbers."""
    from matplotlib.collections import LineCollection

    sources, targets = ends
    largest = max(float(np.abs(matrix).max(initial=0.0)), 1e-300)
    widths = 0.4 + 1.8 * np.abs(matrix) / largest
    segments = [((x, low), (x + _LAYERS, high)) for low in sources for high in targets]
    colours = [plotting.BLUE if weight >= 0 else plotting.ORANGE for weight in matrix.ravel()]
    styles = ["-" if weight >= 0 else "--" for weight in matrix.ravel()]
    looks = {"linewidths": widths.ravel(), "colors": colours, "linestyles": styles}
    axes.add_collection(LineCollection(segments, alpha=0.55, zorder=1, **looks))
    if not digits:
        return
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.9}
    for source, row in zip(sources, matrix, strict=True):
        for target, weight in zip(targets, row, strict=True):
            place = x + share * _LAYERS, (1 - share) * source + share * target
            colour = plotting.BLUE if weight >= 0 else plotting.ORANGE
            text = f"{weight:.{digits}g}"
            axes.text(*place, text, ha="center", va="center", fontsize=7.5, color=colour, bbox=box, zorder=2)


def _draw_units(axes: Axes, x: float, heights: Array, last: bool) -> None:
    from matplotlib.patches import Circle

    for place, y in enumerate(heights):
        constant = place == 0 and not last
        edge = plotting.GREY if constant else "black"
        axes.add_patch(Circle((x, y), _RADIUS, facecolor="#F0F0F0" if constant else "white", edgecolor=edge, zorder=3))
        if constant:
            axes.text(x, y, "1", ha="center", va="center", fontsize=9.5, color=edge, zorder=4)
