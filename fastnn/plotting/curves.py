"""Learning curves: loss and metrics against the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastnn.plotting.figures import BLUE, GREY, ORANGE, empty_figure, panel, require, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"training": BLUE, "validation": ORANGE}
_HIGHER_IS_BETTER = ("acc", "accuracy", "precision", "recall", "auc")
_LOG_FROM = 20.0  # times its smallest value: from here on an error is drawn on a logarithmic scale
_LABEL_DISTANCE = 0.07  # of the axis, between the names at the ends of two curves


def history_figure(history: Mapping[str, Sequence[float]], *, title: str = "", subtitle: str = "") -> Figure:
    """Return one panel a quantity of a fit's ``History.history``: training and validation against the epoch.

    The best epoch of each panel is marked: by the validation curve, or where there is none by the training curve.
    Raises ValueError if `history` is empty.
    """
    require()
    quantities = [name for name in history if not name.startswith("val_") and len(history[name])]
    if not quantities:
        raise ValueError("history: got no curves, wants the History.history of a fit of at least one epoch")
    figure, panels = empty_figure(len(quantities), title, subtitle)
    for axes, name in zip(panels, quantities, strict=True):
        curves = {"training": history[name], "validation": history.get(f"val_{name}", ())}
        _draw(axes, name, {label: curve for label, curve in curves.items() if len(curve)})
    return figure


def learning_curve(history: Any, quantity: str = "loss", *, ax: Axes | None = None) -> Axes:
    """Draw one quantity of a fit, training and validation, its best epoch marked; return the axes.

    `history` is what ``fit`` returns, or its ``history``. ValueError if it has no such quantity.
    """
    curves = getattr(history, "history", history)
    if not len(curves.get(quantity, ())):
        raise ValueError(f"quantity: got {quantity!r}, wants one of {', '.join(map(repr, curves))}")
    ax = panel(ax)
    drawn = {"training": curves[quantity], "validation": curves.get(f"val_{quantity}", ())}
    _draw(ax, quantity, {label: curve for label, curve in drawn.items() if len(curve)})
    return ax


def _draw(axes: Axes, name: str, curves: Mapping[str, Sequence[float]]) -> None:
    """Draw one panel: the curves, their names at their ends, a mark at the best epoch."""
    from matplotlib.ticker import MaxNLocator

    epochs = range(1, 1 + max(map(len, curves.values())))
    for label, curve in curves.items():
        marker = "o" if len(curve) == 1 else ""
        axes.plot(epochs[: len(curve)], curve, color=_COLOURS[label], linewidth=2, marker=marker, markersize=5)
    axes.set_xlabel("epoch")
    title = spelled(name)
    if _spans_decades(name, curves):
        axes.set_yscale("log")
        title += " (logarithmic scale)"
    axes.set_title(title, loc="left", fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(1 - (edge := 0.03 * max(len(epochs), 2)), len(epochs) + edge)
    axes.margins(y=0.12)
    tidy(axes)
    _name_ends(axes, curves)
    _mark_best(axes, name, *list(curves.items())[-1])


def _name_ends(axes: Axes, curves: Mapping[str, Sequence[float]]) -> None:
    """Write each curve's name to the right of its last point, moved apart where the ends are close."""
    places = sorted((_height(axes, curve[-1]), label) for label, curve in curves.items())
    heights = [place for place, _ in places]
    if len(heights) == 2 and (overlap := _LABEL_DISTANCE - (heights[1] - heights[0])) > 0:
        heights = [heights[0] - overlap / 2, heights[1] + overlap / 2]
    for height, (_, label) in zip(heights, places, strict=True):
        axes.annotate(
            label,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=_COLOURS[label],
            fontweight="bold",
            annotation_clip=False,
        )


def _mark_best(axes: Axes, name: str, label: str, curve: Sequence[float]) -> None:
    """Ring the best point of `curve` and write its value and epoch into the corner that learning curves leave free."""
    best, corner = (max, 0.2) if _higher_is_better(name) else (min, 0.85)
    epoch = best(range(len(curve)), key=lambda index: curve[index])
    place = (epoch + 1, curve[epoch])
    axes.plot(*place, "o", markersize=9, markerfacecolor="none", markeredgewidth=1.8, color=_COLOURS[label])
    axes.annotate(
        f"best {label}: {curve[epoch]:.4g}\nepoch {epoch + 1}",
        place,
        xytext=(0.62, corner),
        textcoords="axes fraction",
        ha="center",
        va="center",
        fontsize=9.5,
        color=GREY,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
        arrowprops={"arrowstyle": "-", "color": "#A0A0A0", "linewidth": 0.8, "shrinkB": 6},
    )


def _height(axes: Axes, value: float) -> float:
    """Return where `value` lies on the vertical axis, as a fraction of the panel's height."""
    axes.autoscale_view()  # else the limits are those of an empty panel until it is drawn
    pixels = axes.transData.transform((1.0, float(value)))
    return float(axes.transAxes.inverted().transform(pixels)[1])


def _higher_is_better(name: str) -> bool:
    return name.rsplit("_", 1)[-1] in _HIGHER_IS_BETTER


def _spans_decades(name: str, curves: Mapping[str, Sequence[float]]) -> bool:
    """Return True for an error that falls so far that a linear scale would show its first epochs only."""
    values = [value for curve in curves.values() for value in curve]
    return not _higher_is_better(name) and max(values) > _LOG_FROM * min(values) > 0


def spelled(name: str) -> str:
    """Return the name of a loss or metric in words."""
    return {"mse": "mean squared error", "mae": "mean absolute error"}.get(name, name.replace("_", " "))
