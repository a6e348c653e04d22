"""What a run leaves behind: the report in Markdown, the figures in JSON, and the table on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.scaling import knees
from bench.scaling.curves import Curve
from bench.scaling.knees import Knee
from bench.scaling.limits import Crossing, footprint, tasks
from bench.scaling.measure import PEAK, Parts, Point
from bench.timing import figure, size_text
from fastnn.kernels.cpu import machine

Facts = Mapping[str, str]

_INTRODUCTION = f"""\
Written by `fastnn bench scaling`; run it again to renew it. Every point is a training epoch inside `fit` (float32, \
ReLU, softmax with cross-entropy, RMSprop) on made numbers: an epoch of one batch taken from a long one, the median of \
several visits in shuffled order. Per cent of the peak are the FLOP of the matrix products as the training plan counts \
them, less the products of zeros, over the time and over the peak, which is {PEAK}.

A **knee** is a point where the power law of the cost changes. The cost is the time of one core for each useful FLOP; \
the law is a broken line in logarithmic scales, and a bend must stand out from {knees.TOLERANCE:.0%} and from the \
spread of the visits.

A **limit** is computed: from the bytes that the engine lays out, the caches that the operating system reports, the \
register tile, the program's own thresholds, and the parts of a step that were measured alone. A knee is explained by \
the limits within a factor of two, or within the next point, that bend the curve like it: an overhead that is outgrown \
where the cost was falling, something that no longer fits where it then rises, work that is saved where it then rises \
less. Two costs of a step may also just add up, one falling with the batch and one not: their sum bends over a decade \
and more, and where the sum of the parts that were measured alone has a knee like the one found, the report gives it. \
Where there is neither, the report says so. The tables of limits also show what crossing each of them did to the cost, \
knee or not."""


def markdown(facts: Facts, parts: Mapping[int, Parts], sweeps: Sequence[Sequence[Curve]]) -> str:
    """The report; ``sweeps`` are the curves of each sweep, plotted in a file of its name."""
    blocks = ["# How the cost of a training step grows", _INTRODUCTION, *_warning(sweeps), *_machine(facts, parts)]
    for curves in sweeps:
        sweep = curves[0].sweep
        blocks += [f"## {sweep.name}: {sweep.what}", f"![{sweep.name}]({sweep.name}.png)"]
        blocks += [block for curve in curves for block in _curve(curve, curves)]
    return "\n\n".join(blocks) + "\n"


def as_json(facts: Facts, parts: Mapping[int, Parts], sweeps: Sequence[Sequence[Curve]]) -> dict[str, Any]:
    """All figures; times in seconds, sizes in bytes."""
    return {
        "environment": dict(facts),
        "caches": asdict(machine.caches()),
        "peak_is": PEAK,
        "parts": {str(threads): asdict(part) for threads, part in parts.items()},
        "curves": [_curve_json(curve) for curves in sweeps for curve in curves],
    }


def table(sweeps: Sequence[Sequence[Curve]]) -> str:
    """The curves as text, columns aligned."""
    rows = [["", "threads", "us a sample", "best % of peak", "knees"]]
    for curve in (curve for curves in sweeps for curve in curves):
        first, last = curve.points[0], curve.points[-1]
        span = " ... ".join(
            f"{figure(1e6 * point.seconds)} at {curve.sweep.text(point.value)}" for point in (first, last)
        )
        marked = " *" if any(point.disturbed for point in curve.points) else ""
        best = f"{100 * curve.useful_share(curve.best):.0f} at {curve.sweep.text(curve.best.value)}"
        found = "; ".join(_short(curve, knee) for knee in curve.law.knees) or "none"
        rows.append([curve.sweep.name + marked, _count(curve), span, best, found])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _short(curve: Curve, knee: Knee) -> str:
    limits = curve.near(knee) or curve.passed(knee)
    why = f" ({limits[0].limit.name})" if limits else " (sum of the parts)" * bool(curve.foreseen(knee))
    return f"{curve.sweep.text(curve.points[knee.index].value)}{why}"


# --- the report's parts ---------------------------------------------------------------------------------------------


def disturbed(sweeps: Sequence[Sequence[Curve]]) -> str:
    """How many points other processes disturbed, as a sentence; nothing where there are none."""
    points = [point for curves in sweeps for curve in curves for point in curve.points]
    found = sum(point.disturbed for point in points)
    return f"Other processes took a core that {found} of the {len(points)} points needed, marked *." if found else ""


def _warning(sweeps: Sequence[Sequence[Curve]]) -> Iterator[str]:
    if text := disturbed(sweeps):
        yield f"**{text} Knees of such curves may be theirs: run it again on a quiet machine.**"


def _machine(facts: Facts, parts: Mapping[int, Parts]) -> Iterator[str]:
    yield "## The machine"
    yield "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
    yield "Measured alone:"
    header = "threads|peak, GFLOP/s|update of a weight from L2 / L3 / memory, ns|a sample besides its products, us|"
    header += "a non-zero besides its products, ns|products of non-zeros, GFLOP/s|"
    rows = [
        [
            str(threads),
            figure(part.peak / 1e9),
            " / ".join(figure(1e9 * seconds) for seconds in part.update),
            f"{figure(1e6 * part.sample)}, mostly zeros {figure(1e6 * part.sparse_sample)}",
            figure(1e9 * part.entry),
            figure(part.sparse_peak / 1e9),
            figure(1e6 * part.step),
        ]
        for threads, part in parts.items()
    ]
    yield _table((header + "smallest step, us").split("|"), rows)


def _curve(curve: Curve, curves: Sequence[Curve]) -> Iterator[str]:
    if curve.sweep.parameter != "threads":
        yield f"### {_count(curve)} {'thread' if curve.threads == 1 else 'threads'}"
    found = curve.law.knees
    if found:
        yield "\n".join(f"- {_knee(curve, knee)}" for knee in found)
    else:
        power = _power(curve, curve.law.exponents[0])
        yield f"No knee: over all {len(curve.points)} points the cost of a useful FLOP goes as {power}."
    if curve.crossings:
        yield _limits(curve)
    yield _points(curve, curves)


def _knee(curve: Curve, knee: Knee) -> str:
    """One knee: where, how the curve bends, and what is computed to lie there."""
    point = curve.points[knee.index]
    head = (
        f"**{curve.sweep.parameter} {curve.sweep.text(point.value)}**: {figure(1e6 * point.seconds)} us a sample, "
        f"{100 * curve.useful_share(point):.0f}% of the peak. The cost of a useful FLOP goes as "
        f"{_power(curve, knee.before)} up to here, as {_power(curve, knee.after)} from here on."
    )
    why = " ".join(_reasons(curve, knee)) or "No limit that this report computes lies here."
    alone = curve.alone(point)
    costs = ", ".join(f"{name} {figure(1e6 * seconds)}" for name, seconds in alone.items())
    return f"{head} {why} Measured alone, the parts of a sample are {costs}: {figure(1e6 * sum(alone.values()))} us."


def _reasons(curve: Curve, knee: Knee) -> Iterator[str]:
    """Sentences that explain a knee; none where nothing does."""
    near = curve.near(knee)
    for crossing in near:
        yield f"At {curve.sweep.text(crossing.value)} {_crossing(crossing)}."
    if passed := [] if near else curve.passed(knee):
        behind = "; ".join(f"at {curve.sweep.text(crossing.value)} {_crossing(crossing)}" for crossing in passed)
        yield f"What raised it is behind: {behind}."
    for other in curve.foreseen(knee):
        at = curve.sweep.text(curve.points[other.index].value)
        yield (
            f"The sum of the parts measured alone bends at {at}: as {_power(curve, other.before)} up to there, as "
            f"{_power(curve, other.after)} from there on."
        )


def _crossing(crossing: Crossing) -> str:
    amount, bound = (_amount(crossing.limit.unit, side) for side in (crossing.amount, crossing.bound))
    return f"{crossing.why} ({amount} against {bound})"


def _limits(curve: Curve) -> str:
    header = ["limit", "crossed at", "amount there", "bound", "cost of a useful FLOP, from half to twice there"]
    rows = [
        [
            crossing.limit.name,
            curve.sweep.text(crossing.value),
            _amount(crossing.limit.unit, crossing.amount),
            _amount(crossing.limit.unit, crossing.bound),
            f"x {curve.effect(crossing):.2f}",
        ]
        for crossing in curve.crossings
    ]
    return _table(header, rows)


def _points(curve: Curve, curves: Sequence[Curve]) -> str:
    sparse = curve.sweep.parameter == "density"
    header = [curve.sweep.parameter, "us a sample", "+-", "% of peak", *(["zeros counted"] if sparse else [])]
    header += ["x one thread", "parts alone, us", "weights and state, a core", "inputs to gradients", "everything"]
    return _table(header, [_point(curve, curves, point, sparse) for point in curve.points])


def _point(curve: Curve, curves: Sequence[Curve], point: Point, sparse: bool) -> list[str]:
    bytes_ = footprint(point.setting)
    sizes = bytes_.of_a_core(tasks(point.setting)), bytes_.inputs + bytes_.entries + bytes_.activations
    return [
        curve.sweep.text(point.value) + " *" * point.disturbed,
        figure(1e6 * point.seconds),
        f"{point.spread:.0%}",
        f"{100 * curve.useful_share(point):.1f}",
        *([f"{100 * curve.share(point):.1f}"] if sparse else []),
        _speedup(curve, curves, point),
        figure(1e6 * sum(curve.alone(point).values())),
        *(f"{size_text(size)} ({_level(size)})" for size in (*sizes, bytes_.everything)),
    ]


def _speedup(curve: Curve, curves: Sequence[Curve], point: Point) -> str:
    """How many times as fast as on one thread; nothing where that was not measured."""
    if curve.sweep.parameter == "threads":
        single = curve.points[0]
    else:
        single = next(other for other in curves[-1].points if other.value == point.value)
    return figure(single.seconds / point.seconds) if single.setting.threads == 1 else ""


def _curve_json(curve: Curve) -> dict[str, Any]:
    return {
        "sweep": curve.sweep.name,
        "parameter": curve.sweep.parameter,
        "threads": None if curve.sweep.parameter == "threads" else curve.threads,
        "points": [
            {
                **asdict(point),
                "share": curve.share(point),
                "useful_share": curve.useful_share(point),
                "alone": curve.alone(point),
                "bytes": asdict(footprint(point.setting)),
            }
            for point in curve.points
        ],
        "exponents": curve.law.exponents,
        "knees": [
            {
                "value": curve.points[knee.index].value,
                "before": knee.before,
                "after": knee.after,
                "near": [crossing.limit.name for crossing in curve.near(knee)],
                "passed": [crossing.limit.name for crossing in curve.passed(knee)],
                "foreseen": [curve.points[other.index].value for other in curve.foreseen(knee)],
            }
            for knee in curve.law.knees
        ],
        "limits": [
            {
                "name": crossing.limit.name,
                "value": crossing.value,
                "unit": crossing.limit.unit,
                "amount": crossing.amount,
                "bound": crossing.bound,
                "effect": curve.effect(crossing),
            }
            for crossing in curve.crossings
        ],
    }


# --- figures as text ------------------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _power(curve: Curve, exponent: float) -> str:
    return f"{curve.sweep.parameter}^{exponent:.2f}"


def _count(curve: Curve) -> str:
    return f"1-{curve.threads}" if curve.sweep.parameter == "threads" else str(curve.threads)


def _amount(unit: str, value: float) -> str:
    if unit == "B":
        return size_text(value)
    if unit == "s":
        return f"{figure(1e6 * value)} us"
    return f"{100 * value:.3g}%" if unit == "share" else f"{figure(value)} {unit}"


def _level(size: float) -> str:
    """The smallest cache that holds so many bytes."""
    caches = machine.caches()
    levels = (("L1", caches.l1), ("L2", caches.l2), ("L3", caches.l3))
    return next((name for name, held in levels if size <= held), "memory")
