"""What all pictures share: matplotlib asked for, colours, panels, files."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn import checks, files
from fastnn.errors import installing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")

# Okabe and Ito's palette: told apart with every kind of colour vision, and in print.
BLUE, ORANGE, GREY, GREEN, SKY, PURPLE = "#0072B2", "#D55E00", "#5A5A5A", "#009E73", "#56B4E9", "#CC79A7"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, GREY)
_DASHES = ("-", "--", "-.", ":", (0, (6, 1.5)), (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (1.5, 3)))

# For numbers: from dark to light, so that they survive without colours.
COLOUR_MAP = "cividis"

# Marks of classes, beside their colours.
MARKERS = "o^sDvPX*<>"


def require() -> None:
    """Raise ImportError, with the command that helps, unless matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError(f"a plot needs matplotlib, which is not installed: {installing('plot')}")


def line_style(place: int) -> dict[str, Any]:
    """Return the colour and the dashes of a curve by its place among others: 42 places differ, neighbours in both."""
    return {"color": SERIES[place % len(SERIES)], "linestyle": _DASHES[place % len(_DASHES)]}


def panel(ax: Axes | None, *, width: float = 5.0, height: float = 4.2) -> Axes:
    """Return `ax`, or where it is None the axes of a new figure of pyplot's, of so many inches.

    TypeError for what is no ``Axes``, such as a figure or an array of several.
    """
    require()
    from matplotlib.axes import Axes

    if ax is not None:
        if not isinstance(ax, Axes):
            raise TypeError(f"ax: got {checks.describe(ax)}, wants a matplotlib Axes")
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


def empty_figure(
    panels: int, title: str, subtitle: str = "", *, size: tuple[float, float] | None = None, columns: int | None = None
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure under a heading, drawn without a display, and its panels side by side.

    `size` is its width and height in inches; without, panels are a little wider than high. Of more than `columns`
    panels there are rows, which these have to fill.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, wspace=0.06)
    width, height = (0.6 + 4.9 * panels, 4.4) if size is None else size
    figure = Figure(figsize=(width, height), dpi=150, layout=layout)
    FigureCanvasAgg(figure)
    heading = figure.suptitle(title, x=0.015, ha="left", fontsize=13, fontweight="bold")
    if subtitle:
        heading.set_text(f"{title}\n")
        figure.text(0.015, 1 - 0.374 / height, subtitle, ha="left", va="top", fontsize=10, color=GREY)
    across = panels if columns is None else columns
    return figure, list(figure.subplots(panels // across, across, squeeze=False).ravel())


def tidy(axes: Axes) -> None:
    """Leave of a panel's frame what is read: horizontal lines behind the curves, the left and the lower axis."""
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=GREY, labelcolor="black", length=3)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write `figure` to `path` in the format of its suffix, whole or not at all."""
    target = files.checked_path("path", path)
    files.write("path", target, lambda file: figure.savefig(file, format=target.suffix[1:].lower() or None))
