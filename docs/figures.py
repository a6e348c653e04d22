"""The pictures of what was measured, drawn from the figures that the runs have saved.

The README's has to lie in the repository: ``python -m docs.figures`` draws it anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import timing
from bench.scaling.sweeps import sweeps
from docs import measured
from fastnn import plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Mapping[str, Any]

_COLOURS = (plotting.BLUE, plotting.ORANGE)

# The README's, which a clone has to hold.
SPEED = Path(__file__).parent / "pages" / "pictures" / "speed.png"

# Networks whose epochs the picture of all libraries compares: how their lines begin and end, and what they are called.
_EPOCHS = {
    "MNIST, 784-512-10, batch 128": ("epoch mnist,", "real rows"),
    "Reuters, 10000-64-64-46, batch 512": ("epoch reuters,", "real rows"),
    "Boston, 13-64-64-1, batch 1": ("epoch boston_housing,", "real rows"),
}
_MOST_BARS = 7  # that there is room for, so that bars are as wide in all panels


def drawn(folder: Path) -> dict[str, Path]:
    """All pictures, drawn into ``folder``: their files by their paths in the site."""
    folder.mkdir(parents=True, exist_ok=True)
    return {f"scaling/{path.name}": path for path in scaling(measured.SCALING / "scaling.json", folder)}


def speed(path: Path) -> None:
    """Times of an epoch in each library, of the suite's networks on real data: a panel for each, shortest first."""
    suite = measured.suite()
    subtitle = f"{suite['environment']['cpu']}, float32; fastnn {suite['environment']['commit']}"
    figure, panels = plotting.empty_figure(len(_EPOCHS), "Milliseconds of an epoch inside a fit", subtitle)
    for axes, (title, (begin, end)) in zip(panels, _EPOCHS.items(), strict=True):
        (line,) = [each for each in suite["lines"] if each["name"].startswith(begin) and each["name"].endswith(end)]
        ours = 1000 * line["seconds"][measured.OURS]
        times = {name: ours * line["ratios"][name]["median"] for name in measured.PEERS if name in line["ratios"]}
        shown = sorted({"fastnn": ours, **times}.items(), key=lambda item: -item[1])
        colours = [plotting.BLUE if name == "fastnn" else plotting.GREY for name, _ in shown]
        bars = axes.barh([name for name, _ in shown], [time for _, time in shown], color=colours, height=0.6)
        axes.bar_label(bars, [timing.figure(time) for _, time in shown], padding=3, fontsize=9)
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks([])
        axes.margins(x=0.15)
        axes.set_ylim(len(shown) - _MOST_BARS - 0.5, len(shown) - 0.5)
    plotting.save(figure, path)


def scaling(source: Path, folder: Path) -> list[Path]:
    """A picture in ``folder`` of each sweep that ``source`` has: time per sample, and per cent of the peak."""
    saved = json.loads(source.read_text(encoding="utf-8"))
    what = {sweep.name: sweep.what for sweep in sweeps(2)}
    names = dict.fromkeys(curve["sweep"] for curve in saved["curves"])
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


if __name__ == "__main__":
    speed(SPEED)
