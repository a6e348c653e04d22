"""The pictures of the scaling report, drawn from the figures that its run has saved."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import timing
from bench.scaling.sweeps import sweeps
from fastnn import plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Mapping[str, Any]

_COLOURS = (plotting.BLUE, plotting.ORANGE)


def scaling(source: Path, folder: Path) -> list[Path]:
    """A picture in ``folder`` of each sweep that ``source`` has: time per sample, and per cent of the peak."""
    saved = json.loads(source.read_text(encoding="utf-8"))
    what = {sweep.name: sweep.what for sweep in sweeps(2)}
    names = dict.fromkeys(curve["sweep"] for curve in saved["curves"])
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names:
        curves = [curve for curve in saved["curves"] if curve["sweep"] == name]
        title = f"{name}: {what[name]}" if name in what else name
        subtitle = f"{saved['environment']['cpu']}; fastnn {saved['environment']['commit']}; rings: where it bends"
        figure, (left, right) = plotting.empty_figure(2, title, subtitle)
        _draw(left, curves, "seconds", 1e6)
        _draw(right, curves, "share", 100)
        left.set_yscale("log")
        left.yaxis.set_major_formatter(lambda value, _: timing.figure(value))
        left.yaxis.set_minor_formatter("")
        left.set_title("time per sample, us (logarithmic scale)", loc="left", fontsize=11)
        right.set_title("% of the peak", loc="left", fontsize=11)
        right.set_ylim(0, 105)
        left.legend(frameon=False, fontsize=8.5)
        paths.append(folder / f"{name}.png")
        plotting.save(figure, paths[-1])
    return paths


def _draw(axes: Axes, curves: Sequence[Curve], quantity: str, factor: float) -> None:
    """The curves of all threads and of one; a ring at each bend, thin lines where something outgrows its place."""
    for curve, colour in zip(curves, _COLOURS, strict=False):
        heights = {point["value"]: factor * point[quantity] for point in curve["points"]}
        axes.plot([*heights], [*heights.values()], ".-", color=colour, linewidth=2, label=_name(curve))
        bends = [bend["value"] for bend in curve["knees"]]
        axes.plot(bends, [heights[value] for value in bends], "o", color=colour, markersize=10, fillstyle="none")
    for limit in curves[0]["limits"]:
        axes.axvline(limit["value"], color=plotting.GREY, linewidth=0.6, zorder=0)
    values = [point["value"] for point in curves[0]["points"]]
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(values[::2], [timing.figure(value) for value in values[::2]], fontsize=8.5)
    axes.set_xlabel(curves[0]["parameter"])
    plotting.tidy(axes)


def _name(curve: Curve) -> str:
    if curve["threads"] is None:
        return "measured"
    return f"{curve['threads']} threads" if curve["threads"] > 1 else "1 thread"
