"""A sweep as a picture: time per sample and per cent of the peak, knees ringed, limits as thin lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench import timing
from bench.scaling.curves import Curve
from fastnn.plotting import BLUE, GREY, ORANGE, empty_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (BLUE, ORANGE)
_LABEL_SHARE = 0.08  # of the axis, that a number below it takes
_NEIGHBOURS = 1.12  # limits closer than this factor share a line


def sweep_figure(curves: Sequence[Curve], subtitle: str) -> Figure:
    """Return the two panels of a sweep; ``curves`` are those of all threads and of one."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    sweep = curves[0].sweep
    figure, (left, right) = empty_figure(2, f"{sweep.name}: {sweep.what}", subtitle)
    for curve, colour in zip(curves, _COLOURS, strict=False):
        name = _name(curve)
        _draw(left, curve, [1e6 * point.seconds for point in curve.points], colour, name)
        _draw(right, curve, [100 * curve.useful_share(point) for point in curve.points], colour, name)
        x = [point.value for point in curve.points]
        alone = [1e6 * sum(curve.alone(point).values()) for point in curve.points]
        left.plot(x, alone, color=colour, linewidth=1, linestyle=":", label=f"{name}, its parts alone")
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: timing.figure(value)))
    left.set_title("time per sample, us (logarithmic scale)", loc="left", fontsize=11)
    right.set_title("% of the peak", loc="left", fontsize=11)
    right.set_ylim(0, max(105, 1.05 * right.dataLim.y1))
    for axes in (left, right):
        _scale(axes, curves[0])
        tidy(axes)
    _limits(right, curves[0])
    left.legend(frameon=False, fontsize=8.5)
    return figure


def _name(curve: Curve) -> str:
    if curve.sweep.parameter == "threads":
        return "measured"
    return f"{curve.threads} threads" if curve.threads > 1 else "1 thread"


def _draw(axes: Axes, curve: Curve, heights: Sequence[float], colour: str, name: str) -> None:
    """One curve, with a ring around each knee."""
    x = [point.value for point in curve.points]
    axes.plot(x, heights, ".-", color=colour, linewidth=2, label=name)
    at = [knee.index for knee in curve.law.knees]
    rings = axes.plot([x[i] for i in at], [heights[i] for i in at], "o", color=colour, markersize=10)
    rings[0].set(markerfacecolor="none", markeredgewidth=1.6)


def _scale(axes: Axes, curve: Curve) -> None:
    """A logarithmic axis of the sweep's values; those that there is room for are written below it."""
    sweep = curve.sweep
    axes.set_xscale("log")
    axes.minorticks_off()
    shown = list(sweep.values[:1])
    room = (sweep.values[-1] / shown[0]) ** _LABEL_SHARE
    for value in sweep.values:
        if value >= room * shown[-1]:
            shown.append(value)
    axes.set_xticks(shown, [sweep.text(value) for value in shown], fontsize=8.5)
    axes.set_xlabel(f"{sweep.parameter}; rings: knees")


def _limits(axes: Axes, curve: Curve) -> None:
    """A thin line at each limit, named along it; neighbours share one."""
    groups: list[tuple[float, list[str]]] = []
    for crossing in curve.crossings:
        if groups and crossing.value < _NEIGHBOURS * groups[-1][0]:
            groups[-1][1].append(crossing.limit.name)
        else:
            groups.append((crossing.value, [crossing.limit.name]))
    for value, names in groups:
        axes.axvline(value, color="#B0B0B0", linewidth=0.8, zorder=0)
        label = {"rotation": 90, "ha": "right", "va": "bottom", "fontsize": 7, "color": GREY}
        axes.text(value, 2, "; ".join(names), label)
