"""A dense network as a picture: a circle for each unit, a line and a number for each weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn import checks
from fastnn.plotting.figures import BLUE, GREY, ORANGE, panel, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]

_MOST_UNITS = 20  # of a layer; of more the first are drawn

# In inches: between two layers, of a unit's circle, between two numbers that stand one above the other, and around all.
_LAYERS, _RADIUS, _NUMBERS, _MARGIN = 3.4, 0.17, 0.155, 0.3

# In inches: between two units, the room for a character of their names, and how high a picture may get.
_UNITS, _CHARACTER, _HIGHEST = 0.62, 0.09, 24.0

# Where between two layers the numbers may stand.
_SHARES = np.linspace(0.12, 0.88, 153)


def network(weights: Any, *, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None,
            values: bool | None = None, digits: int = 3, ax: Axes | None = None) -> Axes:  # fmt: skip
    """Draw a stack of dense layers from the left to the right: units, and a line for each weight; return the axes.

    `weights` is a model, or its kernels and biases in turn. Lines are blue for positive weights, orange and dashed for
    negative ones, wider the larger. With `values` each weight is written at its line, to so many significant `digits`,
    and each bias above its unit; None writes them where there is room. Of layers of more than 20 units the first 20
    are drawn. ValueError for weights that are no such stack.
    """
    kernels, biases = _layers(weights.get_weights() if hasattr(weights, "get_weights") else weights)
    plan = _planned(kernels, biases, False, (inputs, outputs), values, digits)
    ax = panel(ax, width=plan.width, height=plan.height + 2 * _MARGIN)
    _draw(ax, plan)
    return ax


def network_figure(weights: Sequence[Array], *, inputs: Sequence[str], outputs: Sequence[str], caption: str,
                   values: bool | None = None, digits: int = 5) -> Figure:  # fmt: skip
    """The same as a figure that needs no display, with a caption below, and biases drawn as R draws intercepts.

    They are the weights of a unit that is always 1. ``weights`` are matrices (units + 1, units of the next layer), with
    the intercepts in the first row.
    """
    require()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kernels, biases = [matrix[1:] for matrix in weights], [matrix[0] for matrix in weights]
    plan = _planned(kernels, biases, True, (inputs, outputs), values, digits)
    figure = Figure(figsize=(plan.width, plan.height + 2 * _MARGIN + 0.3), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    _draw(axes, plan)
    axes.set(xlim=(0, plan.width), ylim=(-_MARGIN - 0.3, plan.height + _MARGIN))
    axes.text(plan.width / 2, -_MARGIN - 0.1, caption, ha="center", va="center", fontsize=11)
    return figure


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


# ------------------------------------------------------------------------------------------------- what is drawn where


@dataclass(frozen=True)
class _Plan:
    """Where units stand, in inches from the lower left corner, and what is written.

    Column by column, ``x`` and the ``heights`` from above; with ``constant`` the first unit of all columns but the last
    is always 1. ``matrices`` are the weights of lines, ``biases`` what stands above units, ``shares`` where numbers
    stand between two columns, ``more`` how many units of a layer are not drawn; ``digits`` 0 writes no numbers.
    """

    matrices: list[Array]
    biases: list[Array]
    names: tuple[Sequence[str], Sequence[str]]
    constant: bool
    more: list[int]
    heights: list[Array]
    shares: list[float]
    digits: int
    width: float
    height: float
    left: float

    def x(self, column: int) -> float:
        """Of a column's units."""
        return self.left + _RADIUS + _LAYERS * column

    def units(self, column: int) -> Array:
        """The heights of a column's units without what is always 1."""
        heights = self.heights[column]
        return heights[1:] if self.constant and column < len(self.matrices) else heights


def _planned(
    kernels: Sequence[Array],
    biases: Sequence[Array],
    constant: bool,
    names: tuple[Sequence[str] | None, Sequence[str] | None],
    values: bool | None,
    digits: int,
) -> _Plan:
    sizes = [kernels[0].shape[0], *(kernel.shape[1] for kernel in kernels)]
    shown = [min(size, _MOST_UNITS) for size in sizes]
    kept = [kernel[:rows, :columns] for kernel, (rows, columns) in zip(kernels, pairwise(shown), strict=True)]
    above = [bias[:columns] for bias, columns in zip(biases, shown[1:], strict=True)]
    matrices = [np.vstack(pair) for pair in zip(above, kept, strict=True)] if constant else kept
    counts = [*(len(matrix) for matrix in matrices), shown[-1]]
    columns = [1.0 - (np.arange(count) + 0.5) / count for count in counts]
    targets = [column[-count:] for column, count in zip(columns[1:], shown[1:], strict=True)]
    room = [_share(*each) for each in zip(columns[:-1], targets, strict=True)]
    least = min(gap for _, gap in room)
    plain = _UNITS * max(counts)
    numbered = _HIGHEST * least >= _NUMBERS if values is None else values
    height = min(_HIGHEST, max(plain, _NUMBERS / least) if numbered and least > 0 else plain)
    first, last = (
        _named(what, given, size)
        for what, given, size in zip(("inputs", "outputs"), names, sizes[:: len(kernels)], strict=True)
    )
    left, right = (_MARGIN + _CHARACTER * max(map(len, each), default=0) for each in (first, last))
    return _Plan(
        matrices, [] if constant else above, (first, last), constant,
        [size - count for size, count in zip(sizes, shown, strict=True)], [height * column for column in columns],
        [share for share, _ in room], digits if numbered else 0, left + right + _LAYERS * len(kernels) + 2 * _RADIUS,
        height, left,
    )  # fmt: skip


def _named(what: str, names: Sequence[str] | None, size: int) -> Sequence[str]:
    """The names of units that are drawn, if there are any."""
    if names is None:
        return []
    if len(names) != size:
        raise ValueError(f"{what}: got {len(names)} names, wants {size}, one for each unit")
    return list(names)[:_MOST_UNITS]


def _share(sources: Array, targets: Array) -> tuple[float, float]:
    """At which share of the way the numbers of all lines stand furthest apart, and how far then."""
    best = (0.5, 0.0)
    for share in _SHARES:
        heights = np.sort(((1 - share) * sources[:, None] + share * targets).ravel())
        gap = float(np.diff(heights).min(initial=1.0))
        if gap > best[1]:
            best = float(share), gap
    return best


# -------------------------------------------------------------------------------------------------------------- drawing


def _draw(ax: Axes, plan: _Plan) -> None:
    ax.set_axis_off()
    ax.set_aspect("equal")
    for layer in range(len(plan.matrices)):
        _draw_weights(ax, plan, layer)
    for column in range(len(plan.heights)):
        _draw_units(ax, plan, column)
    for names, column, side in ((plan.names[0], 0, -1), (plan.names[1], len(plan.matrices), 1)):
        for name, y in zip(names, plan.units(column), strict=bool(names)):
            at = plan.x(column) + side * (_RADIUS + 0.06)
            ax.text(at, y, name, ha="left" if side > 0 else "right", va="center", fontsize=9.5)
    ax.autoscale_view()


def _draw_weights(ax: Axes, plan: _Plan, layer: int) -> None:
    """Lines from a layer to the next: the wider the larger the weight, with numbers where these are written."""
    from matplotlib.collections import LineCollection

    matrix, x, share = plan.matrices[layer], plan.x(layer), plan.shares[layer]
    sources, targets = plan.heights[layer], plan.units(layer + 1)
    largest = max(float(np.abs(matrix).max(initial=0.0)), 1e-300)
    widths = 0.4 + 1.8 * np.abs(matrix) / largest
    segments = [((x, low), (x + _LAYERS, high)) for low in sources for high in targets]
    colours = [BLUE if weight >= 0 else ORANGE for weight in matrix.ravel()]
    styles = ["-" if weight >= 0 else "--" for weight in matrix.ravel()]
    looks = {"linewidths": widths.ravel(), "colors": colours, "linestyles": styles}
    ax.add_collection(LineCollection(segments, alpha=0.55, zorder=1, **looks))
    if not plan.digits:
        return
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.9}
    for source, row in zip(sources, matrix, strict=True):
        for target, weight in zip(targets, row, strict=True):
            place = x + share * _LAYERS, (1 - share) * source + share * target
            colour = BLUE if weight >= 0 else ORANGE
            text = f"{weight:.{plan.digits}g}"
            ax.text(*place, text, ha="center", va="center", fontsize=7.5, color=colour, bbox=box, zorder=2)


def _draw_units(ax: Axes, plan: _Plan, column: int) -> None:
    """Circles, biases above them where these are no lines, and how many more there are."""
    from matplotlib.patches import Circle

    x, heights, units = plan.x(column), plan.heights[column], plan.units(column)
    for y in heights:
        constant = len(heights) > len(units) and y == heights[0]
        edge = GREY if constant else "black"
        ax.add_patch(Circle((x, y), _RADIUS, facecolor="#F0F0F0" if constant else "white", edgecolor=edge, zorder=3))
        if constant:
            ax.text(x, y, "1", ha="center", va="center", fontsize=9.5, color=edge, zorder=4)
    if column and plan.biases and plan.digits:
        for y, bias in zip(units, plan.biases[column - 1], strict=True):
            place = x, y + _RADIUS + 0.09
            ax.text(*place, f"{bias:.{plan.digits}g}", ha="center", va="center", fontsize=7.5, color=GREY, zorder=4)
    if plan.more[column]:
        ax.text(x, units[-1] - _RADIUS - 0.12, f"{plan.more[column]} more", ha="center", va="center", color=GREY)
