"""A sweep as a picture: time per sample and per cent of the peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench import timing
from bench.scaling.measure import Curve
from bench.scaling.sweeps import Sweep
from fastnn.plotting import BLUE, ORANGE, empty_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (BLUE, ORANGE)
_LABEL_SHARE = 0.08  # of the axis, that a number below it takes


def sweep_figure(curves: Sequence[Curve], peaks: Mapping[int, float], subtitle: str) -> Figure:
    """Return the two panels of a sweep; ``curves`` are those of all threads and of one."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    sweep = curves[0].sweep
    figure, (left, right) = empty_figure(2, f"{sweep.name}: {sweep.what}", subtitle)
    for curve, colour in zip(curves, _COLOURS, strict=False):
        seconds = [1e6 * point.seconds for point in curve.points]
        shares = [100 * point.share(peaks[point.setting.threads]) for point in curve.points]
        for axes, heights in ((left, seconds), (right, shares)):
            axes.plot(sweep.values, heights, ".-", color=colour, linewidth=2, label=_name(curve))
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: timing.figure(value)))
    left.set_title("time per sample, us (logarithmic scale)", loc="left", fontsize=11)
    right.set_title("% of the peak", loc="left", fontsize=11)
    right.set_ylim(0, max(105, 1.05 * right.dataLim.y1))
    for axes in (left, right):
        _scale(axes, sweep)
        tidy(axes)
    left.legend(frameon=False, fontsize=8.5)
    return figure


def _name(curve: Curve) -> str:
    if curve.sweep.parameter == "threads":
        return "measured"
    return f"{curve.threads} threads" if curve.threads > 1 else "1 thread"


def _scale(axes: Axes, sweep: Sweep) -> None:
    """A logarithmic axis of the sweep's values; those that there is room for are written below it."""
    axes.set_xscale("log")
    axes.minorticks_off()
    shown = list(sweep.values[:1])
    room = (sweep.values[-1] / shown[0]) ** _LABEL_SHARE
    for value in sweep.values:
        if value >= room * shown[-1]:
            shown.append(value)
    axes.set_xticks(shown, [sweep.text(value) for value in shown], fontsize=8.5)
    axes.set_xlabel(sweep.parameter)
