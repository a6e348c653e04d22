"""What a run leaves behind: one table of all points, and all figures as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.scaling.measure import PEAK, Curve, Point
from bench.timing import figure

_HEADER = ("sweep", "threads", "value", "us a sample", "+-", "% of peak", "x one thread")


def table(curves: Sequence[Curve], peaks: Mapping[int, float]) -> str:
    """Every point of the curves, in Markdown, columns aligned; ``peaks`` by number of threads in FLOP/s."""
    rows = [_HEADER, *(row for curve in curves for row in _rows(curve, curves, peaks))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rules = ["-" * (width - 1) + ":" for width in widths]
    lines = [
        [cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in (rows[0], rules, *rows[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(curve: Curve, curves: Sequence[Curve], peaks: Mapping[int, float]) -> Iterator[tuple[str, ...]]:
    """A row for each point of a curve; one that other processes disturbed is marked."""
    single = {point.value: point for other in curves if other.sweep == curve.sweep for point in _single(other)}
    for point in curve.points:
        alone = single.get(curve.points[0].value if curve.sweep.parameter == "threads" else point.value)
        yield (
            curve.sweep.name,
            str(point.setting.threads),
            curve.sweep.text(point.value) + " *" * point.disturbed,
            figure(1e6 * point.seconds),
            f"{point.spread:.0%}",
            f"{100 * point.share(peaks[point.setting.threads]):.1f}",
            figure(alone.seconds / point.seconds) if alone else "",
        )


def _single(curve: Curve) -> Iterator[Point]:
    """A curve's points on one thread."""
    return (point for point in curve.points if point.setting.threads == 1)


def disturbed(curves: Sequence[Curve]) -> str:
    """How many points other processes disturbed, as a sentence; nothing where there are none."""
    points = [point for curve in curves for point in curve.points]
    found = sum(point.disturbed for point in points)
    return f"Other processes took a core that {found} of the {len(points)} points needed, marked *." if found else ""


def as_json(facts: Mapping[str, str], peaks: Mapping[int, float], curves: Sequence[Curve]) -> dict[str, Any]:
    """All figures; times in seconds."""
    return {
        "environment": dict(facts),
        "peak_is": PEAK,
        "peaks": {str(threads): peak for threads, peak in peaks.items()},
        "curves": [
            {
                "sweep": curve.sweep.name,
                "parameter": curve.sweep.parameter,
                "points": [
                    {**asdict(point), "seconds": point.seconds, "share": point.share(peaks[point.setting.threads])}
                    for point in curve.points
                ],
            }
            for curve in curves
        ],
    }
