"""``fastnn bench scaling``: sweep, find the knees, write report, figures and plots into one folder."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import fastnn
from bench import environment
from bench.scaling import plots, report
from bench.scaling.curves import Curve
from bench.scaling.measure import DTYPE, FULL, QUICK, Effort, Parts, expected_seconds, measure, parts, peak
from bench.scaling.sweeps import NAMES, Setting, Sweep, sweeps
from fastnn import backends, plotting

_DEFAULT_OUTPUT = Path("scaling")
_REPORT, _FIGURES = "report.md", "scaling.json"
_FORMATS = (".png", ".svg")

_EPILOG = f"""\
sweeps:
{{sweeps}}

Each sweep varies one thing and holds the others: 784-512-10 unless said otherwise, batch 128, no input zero, RMSprop.
It draws a curve for all threads (the variable FASTNN_NUM_THREADS limits them) and one for a single thread. Every point
is a training epoch inside fit, timed from its begin to its end: checks, conversion and compilation are not in it.

The folder then holds
  {_REPORT}      each knee of each curve beside the limits computed for this machine: bytes against caches, times
                 against times, the program's thresholds; and all points in tables
  <sweep>.png    time per sample and per cent of the peak, knees ringed, limits as thin lines; also .svg
  {_FIGURES}   all figures

It takes about five minutes on two cores. Other work on the machine shows: points that it disturbed are marked *.

examples:
  fastnn bench scaling --quick              a first look in half a minute, noisy
  fastnn bench scaling                      everything, into the folder {_DEFAULT_OUTPUT}
  fastnn bench scaling width batch          two of the sweeps
  FASTNN_NUM_THREADS=4 fastnn bench scaling --output four-threads
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sweeps that the arguments name; 0."""
    parser = _parser()
    options = parser.parse_args(argv)
    if unknown := [name for name in options.sweeps if name not in NAMES]:
        parser.error(f"SWEEP: got {', '.join(unknown)}, wants {' or '.join(NAMES)}")
    try:
        plotting.require()
        _check_folder(options.output)
        backends.resolve("cpu")
    except (ImportError, OSError, fastnn.errors.BackendError) as error:
        parser.error(str(error))
    named = [sweep for sweep in sweeps(fastnn.get_num_threads()) if sweep.name in (options.sweeps or NAMES)]
    chosen = [sweep for sweep in named if len(sweep.values) > 1]
    if not chosen:
        parser.error(f"SWEEP: got {', '.join(options.sweeps)}, which has one value on this machine's one thread")
    if options.quick:
        chosen = [sweep.quick() for sweep in chosen]
    _run(chosen, QUICK if options.quick else FULL, options.output)
    return 0


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {sweep.name:10}{_span(sweep)}: {sweep.what}" for sweep in sweeps(fastnn.get_num_threads()))
    parser = argparse.ArgumentParser(
        prog="fastnn bench scaling",
        description="Measure how the cost of a training step grows, find where its growth changes, and say why.",
        epilog=_EPILOG.replace("{sweeps}", listed),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help=f"{', '.join(NAMES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a few points of each sweep, visited once")
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=_DEFAULT_OUTPUT,
        help=f"folder for report, figures and plots; made if need be (default: {_DEFAULT_OUTPUT})",
    )
    return parser


def _span(sweep: Sweep) -> str:
    return f"{sweep.text(sweep.values[0])} to {sweep.text(sweep.values[-1])}"


def _check_folder(folder: Path) -> None:
    """Raise OSError unless files can be written into the folder, or it can be made: by making one, which is removed."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--output: {folder} is a file, wants a folder")
    if not folder.exists() and not folder.absolute().parent.is_dir():
        raise FileNotFoundError(f"--output: there is no folder {folder.absolute().parent}")
    try:
        with tempfile.TemporaryFile(dir=folder if folder.exists() else folder.absolute().parent):
            pass
    except OSError as error:
        raise OSError(f"--output: {folder} cannot be written: {error.strerror or error}") from error


def _run(chosen: Sequence[Sweep], effort: Effort, folder: Path) -> None:
    facts = environment.facts(with_blas=False)
    print(environment.heading(facts), flush=True)
    started = perf_counter()
    counts = sorted({sweep.at(value, t).threads for sweep in chosen for t in sweep.threads for value in sweep.values})
    print("measuring the parts of a step alone", flush=True)
    alone = {threads: parts(threads) for threads in counts}
    progress = _Progress(chosen, effort, alone)
    found = []
    for sweep in chosen:
        progress.begin(sweep)
        points = measure(sweep, effort, progress.visited)
        found.append([Curve(sweep, threads, points[threads], alone) for threads in sweep.threads])
        progress.end()
    # whichever was the quieter moment shows what the machine can do
    alone.update({threads: replace(part, peak=max(part.peak, peak(DTYPE, threads))) for threads, part in alone.items()})
    print(f"\n{report.table(found)}\n")
    if text := report.disturbed(found):
        print(text)
    folder.mkdir(exist_ok=True)
    for curves in found:
        figure = plots.sweep_figure(curves, f"{facts['cpu']}; fastnn {facts['commit']}")
        for suffix in _FORMATS:
            plotting.save(figure, folder / f"{curves[0].sweep.name}{suffix}")
    _keep(folder / _REPORT, report.markdown(facts, alone, found))
    _keep(folder / _FIGURES, json.dumps(report.as_json(facts, alone, found), indent=1) + "\n")
    print(f"{perf_counter() - started:.0f} s; the knees explained in {folder / _REPORT}")


def _keep(path: Path, text: str) -> None:
    """Write a file: to another one beside it, then renamed."""
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


class _Progress:
    """A line for each sweep; the time left from what the visits so far took against what they were expected to."""

    def __init__(self, chosen: Sequence[Sweep], effort: Effort, alone: dict[int, Parts]) -> None:
        self._sweeps, self._effort, self._alone = list(chosen), effort, alone
        self._left = sum(map(self._expected, chosen))
        self._done, self._spent = 0.0, 0.0
        self._number, self._visit, self._visits = 0, 0, 0
        self._clock = perf_counter()

    def _expected(self, sweep: Sweep) -> float:
        settings = [sweep.at(value, threads) for threads in sweep.threads for value in sweep.values]
        return self._effort.rounds * sum(map(self._expected_visit, settings))

    def _expected_visit(self, setting: Setting) -> float:
        return expected_seconds(setting, self._effort, self._alone[setting.threads].peak)

    def begin(self, sweep: Sweep) -> None:
        """Say what comes."""
        self._number, self._visit = self._number + 1, 0
        self._visits = self._effort.rounds * len(sweep.threads) * len(sweep.values)
        self._clock = perf_counter()
        self._title = f"{self._number}/{len(self._sweeps)} {sweep.name}, {sweep.parameter} {_span(sweep)}"
        self._show()

    def visited(self, setting: Setting) -> None:
        """Count a visit."""
        now, expected = perf_counter(), self._expected_visit(setting)
        self._spent, self._clock = self._spent + now - self._clock, now
        self._done, self._left = self._done + expected, self._left - expected
        self._visit += 1
        self._show()

    def end(self) -> None:
        """Leave the line behind."""
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        print(self._line(), flush=True)

    def _show(self) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{self._line()}", end="", file=sys.stderr, flush=True)

    def _line(self) -> str:
        left = self._left * (self._spent / self._done if self._done else 1.0)
        minutes, seconds = divmod(max(0, round(left)), 60)
        visits = f"visit {self._visit} of {self._visits}"
        return f"{self._title}: {visits}, {self._spent:.0f} s, about {minutes}:{seconds:02} left"
