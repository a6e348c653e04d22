"""``fastnn bench``: run the suites, contenders by turns, and print one table with ratios.

The matrix product has bars to meet, and one of them on an AVX2 target: that line is measured in a process of its own,
where Numba compiles for Haswell and OpenBLAS takes its Haswell kernels.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from bench import environment  # first, and alone: NumPy must not be loaded before the environment is right

if TYPE_CHECKING:
    from bench.measure import Line
    from bench.suite import Case

_EPILOG = """\
A rate is GFLOP/s where arithmetic is the limit and GB/s where memory is, from the op table's own counts; an epoch's is
the GFLOP/s of its matrix products, counted dense. "x NumPy" is the ratio of the medians with the quartiles of
neighbouring blocks, above 1 where fastnn is faster. "x naive" compares rates; plain Python gets the sizes in brackets.
How the cost grows with width, batch, depth, density and threads: fastnn bench scaling --help
"""

# The bar on the AVX2 target, and the ratio to np.matmul that the project promises there.
_HASWELL_BAR = 0.7


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suites that the arguments name; 0, or 1 where results disagreed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.suites) - set(_SUITES)):
        parser.error(f"SUITE: got {', '.join(unknown)}, wants {' or '.join(_SUITES)}")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.absolute().parent}")
    if importlib.util.find_spec("threadpoolctl") is None:
        parser.error("threadpoolctl is not installed: pip install -e '.[bench]'")
    if environment.prepared(options.target) != dict(os.environ):
        return environment.run_prepared("bench.report", arguments, options.target)
    chosen = [case for case in _cases(options) if options.only is None or options.only.search(case.name)]
    if options.list:
        print("\n".join(case.name for case in chosen))
        return 0
    return _run(chosen, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastnn bench", description="Run the benchmark suites and print one table with ratios.", epilog=_EPILOG
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{' or '.join(_SUITES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer blocks and fewer rows: a minute, noisier figures")
    parser.add_argument("--only", metavar="REGEX", type=_regex, help="only the lines whose name it finds")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results there too")
    parser.add_argument("--list", action="store_true", help="print the names of the lines and stop")
    parser.add_argument(
        "--target",
        choices=environment.TARGETS,
        default="host",
        help="what Numba and OpenBLAS run as: this machine at its best, or both as a Haswell",
    )
    return parser


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"got {text!r}, wants a regular expression ({error})") from error


def _kernels(_: argparse.Namespace) -> list[Case]:
    from bench import kernels

    return kernels.cases()


def _training(options: argparse.Namespace) -> list[Case]:
    from bench import training

    return training.cases(options.quick)


# A suite by its name on the command line; a new suite is a line here.
_SUITES: dict[str, Callable[[argparse.Namespace], list[Case]]] = {"kernels": _kernels, "training": _training}


def _cases(options: argparse.Namespace) -> list[Case]:
    return [case for name in options.suites or _SUITES for case in _SUITES[name](options)]


def _run(chosen: list[Case], options: argparse.Namespace) -> int:
    from bench.measure import FULL, QUICK, measure

    facts = environment.facts()
    print("\n".join(f"{name + ':':10}{fact}" for name, fact in facts.items()), flush=True)
    started = perf_counter()
    lines, wrong = [], 0
    for number, case in enumerate(chosen, 1):
        _progress(f"{number}/{len(chosen)} {case.name}")
        try:
            lines.append(measure(case, QUICK if options.quick else FULL))
        except AssertionError as error:
            wrong += 1
            print(f"{case.name}: results disagree, not timed: {error}", file=sys.stderr)
        if options.target == "host":
            lines += _on_haswell(case, options)
    _progress("")
    print(f"\n{table(lines)}\n")
    if any(line.disturbed for line in lines):
        print("* other processes took a core that this line needed")
    print(f"{bars(lines)}{perf_counter() - started:.0f} s")
    if options.json is not None:
        results = {"environment": facts, "lines": [line.as_json() for line in lines]}
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if wrong else 0


def _on_haswell(case: Case, options: argparse.Namespace) -> list[Line]:
    """The matmul bar's line once more, both sides on AVX2, where this machine has more than that."""
    from dataclasses import replace

    from bench.kernels import MATMUL_BAR
    from bench.measure import Line
    from fastnn.kernels.cpu import machine

    if case.name != MATMUL_BAR or machine.isa().name != "avx512":
        return []
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "haswell.json"
        wanted = ["kernels", "--target=haswell", f"--only=^{re.escape(case.name)}$", f"--json={results}"]
        environment.run_prepared("bench.report", wanted + ["--quick"] * options.quick, "haswell", quiet=True)
        found = json.loads(results.read_text())
    print(f"AVX2 line: {found['environment']['fastnn']}; {found['environment']['blas']}", flush=True)
    lines = [Line.from_json(fields) for fields in found["lines"]]
    return [replace(line, name=f"{line.name}, AVX2", at_least=_HASWELL_BAR) for line in lines]


def table(lines: Sequence[Line]) -> str:
    """The lines as text, columns aligned; a contender that no line has gets no column."""
    from bench.suite import CONTENDERS, FASTNN

    columns = [name for name in CONTENDERS if any(name in line.rates for line in lines)]
    rivals = [name for name in columns if name != FASTNN]
    rows = [["", "", *columns, "a call", *(f"x {name}" for name in reversed(rivals)), "bar"]]
    rows += [[*_cells(line, columns, rivals[::-1])] for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in aligned)


def _cells(line: Line, columns: Sequence[str], rivals: Sequence[str]) -> list[str]:
    from bench.suite import FASTNN, NAIVE
    from bench.timing import figure

    def rate(name: str) -> str:
        if name not in line.rates:
            return ""
        note = f" ({line.notes[name]})" if name in line.notes else ""
        return f"{figure(line.rates[name])}{note}"

    def times(name: str) -> str:
        if name not in line.ratios:
            return ""
        return figure(line.ratios[name].median) if name == NAIVE else str(line.ratios[name])

    bar = "" if line.at_least is None else f"{'met' if line.bar_met else 'MISSED'}: {line.at_least:g}"
    return [
        f"{line.name}{' *' if line.disturbed else ''}",
        line.unit,
        *map(rate, columns),
        _duration(line.seconds[FASTNN]),
        *map(times, rivals),
        bar,
    ]


def _duration(seconds: float) -> str:
    from bench.timing import figure

    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{figure(seconds / scale)} {unit}"
    return f"{figure(seconds / 1e-6)} us"


def bars(lines: Sequence[Any]) -> str:
    """One sentence on the promises among the lines, or nothing."""
    promised = [line for line in lines if line.at_least is not None]
    if not promised:
        return ""
    met = sum(line.bar_met for line in promised)
    return f"{met} of {len(promised)} bars met. "


def _progress(text: str) -> None:
    """What is being measured, on a terminal only, in place."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
