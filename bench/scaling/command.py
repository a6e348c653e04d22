"""``fastnn bench scaling``: sweep, write table, figures and plots into one folder."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

import fastnn
from bench import environment
from bench.scaling import plots, report
from bench.scaling.measure import FULL, QUICK, Curve, Effort, measure, peak
from bench.scaling.sweeps import NAMES, Sweep, sweeps
from fastnn import backends, files, plotting

_DEFAULT_OUTPUT = Path("scaling")
_TABLE, _FIGURES = "table.md", "scaling.json"
_FORMATS = (".png", ".svg")

_EPILOG = f"""\
sweeps:
{{sweeps}}

Each sweep varies one thing and holds the others: 784-512-10 unless said otherwise, batch 128, no input zero, RMSprop.
It draws a curve for all threads (the variable FASTNN_NUM_THREADS limits them) and one for a single thread. Every point
is a training epoch inside fit, timed from its begin to its end: checks, conversion and compilation are not in it.

The folder then holds
  {_TABLE}       every point: time per sample, how far its visits differ, per cent of the machine's peak, how many
                 times as fast as on one thread
  <sweep>.png    time per sample and per cent of the peak; also .svg
  {_FIGURES}   all figures
Why a curve bends where it does, on one machine: bench/results/scaling/report.md.

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
        description="Measure how the cost of a training step grows.",
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
        help=f"folder for table, figures and plots; made if need be (default: {_DEFAULT_OUTPUT})",
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
    before = {threads: peak(threads) for threads in counts}
    found = {sweep.name: _measured(sweep, effort) for sweep in chosen}
    # whichever was the quieter moment shows what the machine can do
    peaks = {threads: max(early, peak(threads)) for threads, early in before.items()}
    curves = [curve for group in found.values() for curve in group]
    print(f"\n{report.table(curves, peaks)}\n")
    if text := report.disturbed(curves):
        print(text)
    folder.mkdir(exist_ok=True)
    for name, group in found.items():
        figure = plots.sweep_figure(group, peaks, f"{facts['cpu']}; fastnn {facts['commit']}")
        for suffix in _FORMATS:
            plotting.save(figure, folder / f"{name}{suffix}")
    _keep(folder / _TABLE, report.table(curves, peaks))
    _keep(folder / _FIGURES, json.dumps(report.as_json(facts, peaks, curves), indent=1))
    print(f"{perf_counter() - started:.0f} s; written to {folder}")


def _measured(sweep: Sweep, effort: Effort) -> list[Curve]:
    """The sweep's curves, with a line of progress on a terminal."""
    title = f"{sweep.name}, {sweep.parameter} {_span(sweep)}"
    visits = effort.rounds * len(sweep.threads) * len(sweep.values)
    with tqdm(desc=title, total=visits, unit="visit", disable=None) as bar:
        return measure(sweep, effort, bar.update)


def _keep(path: Path, text: str) -> None:
    files.write("--output", path, lambda file: file.write(f"{text}\n".encode()))
