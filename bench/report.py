"""``fastnn bench``: run the groups of lines, contenders by turns; a table for each group, then one of the promises.

Several groups run one after the other, each in a process of its own: the threads that one group's libraries start, and
how these wait, must not slow what the next one measures (PyTorch's epochs took twice as long behind the kernels).

The matrix product has a bar on an AVX2 target too: that line is measured in a process of its own, where Numba compiles
for Haswell and OpenBLAS takes its Haswell kernels.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from bench import environment  # first, and alone: NumPy must not be loaded before the environment is right

if TYPE_CHECKING:
    from bench.measure import Bar, Line, Reading
    from bench.suite import Case, Gauge

_EPILOG = """\
examples:
  fastnn bench                              everything, with real data: FASTNN_DATA=DIR fastnn bench
  fastnn bench training --only reuters      the epochs of one network
  fastnn bench kernels --quick              a minute, noisier figures
  fastnn bench kernels --backend cuda       the same ops on a GPU; training: epochs there
  fastnn bench --list                       what there is

A rate is GFLOP/s where arithmetic is the limit and GB/s where memory is, from the op table's own counts; an epoch's is
the GFLOP/s of its matrix products, counted dense. "x NumPy" is the ratio of the medians with the quartiles of
neighbouring blocks, above 1 where fastnn is faster. "x naive" compares rates; plain Python gets the sizes in brackets.
A line is measured in three processes, one after the other, and the blocks of all count: on a shared machine one of them
may run while its cores share no cache.
The last table holds what the project promises beside what was found: ratios of medians, or medians of our own figures.
A contender that is not installed is named there (pip install -e '.[peers]' brings all). Lines on real data need the
variable FASTNN_DATA: a folder of data files, as for fastnn train.
How the cost grows with width, batch, depth, density and threads: fastnn bench scaling --help
What a call of each op on device arrays costs the host: fastnn bench calls --help
Networks trained as by R's neuralnet, their errors and pictures: fastnn bench neuralnet --help
The playground's epochs beside those of a page in the browser: fastnn bench playground --help
"""

# The groups of which a device runs what it can.
_ON_DEVICE = ("kernels", "training")

# The bar on the AVX2 target: the ratio to np.matmul that the project promises there.
_HASWELL_BAR = 0.95
_AVX2_LINE = "AVX2 line"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the groups that the arguments name; 0, or 1 where results disagreed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.groups) - set(_GROUPS)):
        parser.error(f"GROUP: got {', '.join(unknown)}, wants {' or '.join(_GROUPS)}")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.absolute().parent}")
    if options.backend == "cuda":
        return _on_device(options, parser)
    if importlib.util.find_spec("threadpoolctl") is None:
        parser.error("threadpoolctl is not installed: pip install -e '.[bench]'")
    if environment.prepared(options.target, threads=options.threads) != dict(os.environ):
        return environment.run_prepared("bench.report", arguments, options.target, threads=options.threads)
    if options.seconds != math.inf:
        parser.error("--seconds: got it without --backend cuda")
    chosen = {
        group: [
            item for item in _GROUPS[group].items(options) if options.only is None or options.only.search(item.name)
        ]
        for group in options.groups or _GROUPS
    }
    if options.only is not None and not any(chosen.values()):
        parser.error(f"--only: got {options.only.pattern!r}, which finds none of the lines that --list names")
    if options.list:
        print("\n".join(item.name for items in chosen.values() for item in items))
        return 0
    options.passes = options.passes or _passes_of(options.quick)
    return _run(chosen, options)


def _on_device(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """One group on a CUDA device."""
    if len(options.groups) != 1 or options.groups[0] not in _ON_DEVICE:
        parser.error(f"--backend: got cuda, wants the group {' or '.join(_ON_DEVICE)} with it")
    for name in ("passes", "threads", "target"):
        if getattr(options, name) != parser.get_default(name):
            parser.error(f"--{name}: got it beside --backend cuda, wants the backend cpu")
    from bench.cuda import command

    return command.run(options)


def _parser() -> argparse.ArgumentParser:
    groups = "\n".join(f"  {name:12}{group.what}" for name, group in _GROUPS.items())
    parser = argparse.ArgumentParser(
        prog="fastnn bench",
        description=f"Measure fastnn beside its peers and print ratios.\n\ngroups of lines:\n{groups}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"{' or '.join(_GROUPS)} (default: all)")
    parser.add_argument(
        "--backend",
        choices=("cpu", "cuda"),
        default="cpu",
        help="cuda: kernels or training on this machine's GPU, beside CuPy, PyTorch and JAX (default: cpu)",
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=float,
        default=math.inf,
        help="with --backend cuda: leave out the lines that would begin later; those that have promises come first",
    )
    parser.add_argument("--quick", action="store_true", help="fewer blocks and fewer rows: minutes, noisier figures")
    parser.add_argument(
        "--passes",
        metavar="N",
        type=_passes,
        help="processes that measure each group, one after the other; the medians are of all (default: 3; --quick: 1)",
    )
    parser.add_argument("--only", metavar="REGEX", type=_regex, help="only the lines whose name it finds")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results there too")
    parser.add_argument("--list", action="store_true", help="print the names of the lines and stop")
    parser.add_argument(
        "--threads",
        metavar="N",
        type=_threads,
        default=environment.THREADS,
        help=f"threads of every contender (default: {environment.THREADS}; the promises are for 2)",
    )
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


def _passes_of(quick: bool) -> int:
    from bench.measure import FULL, QUICK

    return (QUICK if quick else FULL).passes


def _passes(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, wants a number of at least 1")
    return int(text)


def _threads(text: str) -> int:
    cpus = os.cpu_count() or 1
    if not text.isdecimal() or not 1 <= int(text) <= cpus:
        raise argparse.ArgumentTypeError(f"got {text!r}, wants 1 to {cpus}, the CPUs of this machine")
    return int(text)


@dataclass(frozen=True)
class _Group:
    """Lines that belong together: what they show, the module of ``bench`` whose ``cases`` and ``gauges`` they are.

    The cases of some are ``quicker`` if they are asked to be, those of one that starts processes of its own for each
    reading are not measured in several passes.
    """

    what: str
    module: str
    quicker: bool = False
    in_passes: bool = True

    def items(self, options: argparse.Namespace) -> list[Case | Gauge]:
        """Its lines; nothing of the module is imported before."""
        module = importlib.import_module(f"bench.{self.module}")
        asked = (options.quick,) if self.quicker else ()
        cases = module.cases(*asked) if hasattr(module, "cases") else []
        return [*cases, *(module.gauges() if hasattr(module, "gauges") else [])]


# A group by its name on the command line; a new group is a line here.
_GROUPS = {
    "kernels": _Group("every op of the table against NumPy and plain Python, some against PyTorch", "kernels"),
    "addresses": _Group("products by size and by where operands lie, against NumPy and their neighbours", "addresses"),
    "training": _Group(
        "an epoch of the documents' networks against NumPy, PyTorch, JAX, Keras, scikit-learn", "training", quicker=True
    ),
    "loops": _Group("training loops of one's own over fastnn.ops against NumPy and PyTorch", "loops"),
    "prediction": _Group("the outputs of 10,000 MNIST images against NumPy and PyTorch", "prediction"),
    "likelihood": _Group("logistic regression against scikit-learn's fastest solver", "likelihood"),
    "sklearn": _Group("fits of scikit-learn's estimators against scikit-learn", "estimators", quicker=True),
    "torch": _Group("training loops of PyTorch's before and after fastnn.torch.accelerate", "acceleration"),
    "thinc": _Group("epochs of thinc's MNIST networks on its own ops and on fastnn's", "thinc", quicker=True),
    "adoption": _Group("small calls on arrays of NumPy, PyTorch and JAX", "adoption"),
    "startup": _Group(
        "what a fit does before its first batch, the first batch of a process, memory", "startup", in_passes=False
    ),
    "onnx": _Group("ONNX files of 100 MB, written and read", "onnx", in_passes=False),
}


def _run(chosen: dict[str, list[Case | Gauge]], options: argparse.Namespace) -> int:
    facts = environment.facts()
    print(environment.heading(facts), flush=True)
    started = perf_counter()
    results = Results()
    wanted = [group for group, items in chosen.items() if items]
    for group in wanted:
        passes = options.passes if _GROUPS[group].in_passes else 1
        found = _measured(chosen[group], options) if passes == 1 == len(wanted) else _apart(group, options, passes)
        if found.lines or found.readings:
            print(f"\n{group}, on {facts['cpu']}\n{found}", flush=True)
        results += found
    if results.bars:
        print(f"\npromised, on {facts['cpu']}\n{bars_table(results.bars)}")
    if any(line.disturbed for line in results.lines):
        print("\n* other processes took a core that this line needed")
    if not os.environ.get("FASTNN_DATA"):
        print("\nFASTNN_DATA names no folder: lines on real data are left out")
    print(f"\n{bars_met(results.bars)}{perf_counter() - started:.0f} s")
    if options.json is not None:
        written = {"environment": {**facts, **results.facts}, **results.as_json()}
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    return 1 if results.wrong else 0


@dataclass
class Results:
    """What was found: lines, readings, what could not be judged, how many lines had wrong results or none.

    ``facts`` says what else ran, and as what.
    """

    lines: list[Line] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    unjudged: list[Bar] = field(default_factory=list)
    wrong: int = 0
    facts: dict[str, str] = field(default_factory=dict)

    def __iadd__(self, other: Results) -> Results:
        self.lines += other.lines
        self.readings += other.readings
        self.unjudged += other.unjudged
        self.wrong += other.wrong
        self.facts |= other.facts
        return self

    def pool(self, other: Results) -> None:
        """Add what another process found of the same lines and readings."""
        self.lines = _pooled(self.lines, other.lines)
        self.readings = _pooled(self.readings, other.readings)
        self.wrong = max(self.wrong, other.wrong)

    def __str__(self) -> str:
        tables = [table(self.lines)] * bool(self.lines) + [readings_table(self.readings)] * bool(self.readings)
        return "\n\n".join([*tables, *(f"{name}: {fact}" for name, fact in self.facts.items())])

    @property
    def bars(self) -> list[Bar]:
        """What was promised of all of it, and whether it is met."""
        of_lines = [bar for line in self.lines for bar in line.bars()]
        of_readings = [bar for reading in self.readings for bar in reading.bars()]
        return of_lines + of_readings + self.unjudged

    def as_json(self) -> dict[str, Any]:
        """Everything as plain dictionaries."""
        return {
            "lines": [line.as_json() for line in self.lines],
            "readings": [reading.as_json() for reading in self.readings],
            "bars": [asdict(bar) for bar in self.bars],
            "unjudged": [asdict(bar) for bar in self.unjudged],
        }


def _pooled(items: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """Lines or readings with those of the same name among ``others``."""
    found = {other.name: other for other in others}
    return [item.and_also(found[item.name]) if item.name in found else item for item in items]


def _apart(group: str, options: argparse.Namespace, passes: int) -> Results:
    """Measure one group in processes of its own, as many as there are passes, one after the other."""
    more = [f"--threads={options.threads}", f"--target={options.target}", "--passes=1", *["--quick"] * options.quick]
    more += [f"--only={options.only.pattern}"] if options.only is not None else []
    results = _one_pass([group, *more], options)
    for _ in range(passes - 1):
        results.pool(_one_pass([group, *more], options))
    return results


def _one_pass(arguments: Sequence[str], options: argparse.Namespace) -> Results:
    from bench.measure import Bar, Line, Reading

    found, status = _report_of(arguments, options.target, options.threads)
    return Results(
        [Line.from_json(fields) for fields in found["lines"]],
        [Reading.from_json(fields) for fields in found["readings"]],
        [Bar(**fields) for fields in found["unjudged"]],
        status,
        {name: fact for name, fact in found["environment"].items() if name == _AVX2_LINE},
    )


def _report_of(arguments: Sequence[str], target: str, threads: int) -> tuple[dict[str, Any], int]:
    """What a report in another process writes as JSON, and its exit status; what it prints is dropped."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "report.json"
        wanted = [*arguments, f"--json={written}"]
        status = environment.run_prepared("bench.report", wanted, target, threads=threads, quiet=True)
        if not written.exists():
            raise RuntimeError(f"bench.report {' '.join(wanted)} ended with status {status} and without results")
        return json.loads(written.read_text()), status


def _measured(items: Sequence[Case | Gauge], options: argparse.Namespace) -> Results:
    """Measure one group, item by item."""
    from bench.measure import FULL, QUICK, measure, read, skipped
    from bench.suite import Case
    from fastnn.errors import BackendError

    effort = QUICK if options.quick else FULL
    results = Results()
    for number, item in enumerate(items, 1):
        progress(f"{number}/{len(items)} {item.name}")
        try:
            if item.skip:
                results.unjudged += skipped(item, item.skip)
            elif isinstance(item, Case):
                results.lines.append(measure(item, effort))
                results += _on_haswell(item, options)
            else:
                results.readings.append(read(item, effort))
        except AssertionError as error:
            results.wrong += 1
            print(f"{item.name}: results disagree, not timed: {error}", file=sys.stderr)
        except (BackendError, OSError) as error:  # no such instruction, no such file
            results.unjudged += skipped(item, str(error).partition("\n")[0])
        except RuntimeError as error:
            results.wrong += 1
            print(f"{item.name}: not measured: {error}", file=sys.stderr)
    progress("")
    return results


def _on_haswell(case: Case, options: argparse.Namespace) -> Results:
    """The matmul bar's line once more, both sides on AVX2, where this machine has more than that."""
    from dataclasses import replace

    from bench.kernels import MATMUL_BAR
    from bench.measure import Line
    from bench.suite import NUMPY
    from fastnn.kernels.cpu.compiler import machine

    if options.target != "host" or case.name != MATMUL_BAR or machine.isa().name != "avx512":
        return Results()
    wanted = ["kernels", "--target=haswell", f"--threads={options.threads}", f"--only=^{re.escape(case.name)}$"]
    wanted += ["--passes=1"]
    found, _ = _report_of([*wanted, *["--quick"] * options.quick], "haswell", options.threads)
    lines = [Line.from_json(fields) for fields in found["lines"]]
    lines = [replace(line, name=f"{line.name}, AVX2", at_least={NUMPY: _HASWELL_BAR}) for line in lines]
    facts = {_AVX2_LINE: f"{found['environment']['fastnn']}; {found['environment']['blas']}"}
    return Results(lines, facts=facts)


def table(lines: Sequence[Line]) -> str:
    """The lines as text, columns aligned; a contender that no line has gets no column."""
    from bench.suite import CONTENDERS

    columns = [name for name in CONTENDERS if any(name in line.rates for line in lines)]
    rivals = [name for name in reversed(columns) if name not in {line.ours for line in lines}]
    limits = ["of limit"] * any(line.limit is not None for line in lines)
    rows = [["", "", *columns, *limits, "a call", *(f"x {name}" for name in rivals)]]
    rows += [[*_cells(line, columns, bool(limits), rivals)] for line in lines]
    return _aligned(rows, left=2)


def readings_table(readings: Sequence[Reading]) -> str:
    """The readings as text."""
    return _aligned([[reading.name, str(reading), reading.unit] for reading in readings], left=1)


def bars_table(bars: Sequence[Bar]) -> str:
    """What was promised, as text: line, against whom, what was found, what was asked, met or not."""
    verdicts = {True: "met", False: "NOT MET", None: "not measured"}
    rows = [["", "against", "found", "asked", ""]]
    rows += [[bar.job, bar.against, bar.found, bar.asked, verdicts[bar.met]] for bar in bars]
    return _aligned(rows, left=5)


def _aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    """Columns of equal width, the first ``left`` of them flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in aligned)


def _cells(line: Line, columns: Sequence[str], limits: bool, rivals: Sequence[str]) -> list[str]:
    from bench.suite import NAIVE
    from bench.timing import duration, figure

    def rate(name: str) -> str:
        if name not in line.rates:
            return ""
        note = f" ({line.notes[name]})" if name in line.notes else ""
        return f"{figure(line.rates[name])}{note}"

    def times(name: str) -> str:
        if name not in line.ratios:
            return ""
        return figure(line.ratios[name].median) if name == NAIVE else str(line.ratios[name])

    return [
        line.label,
        line.unit,
        *map(rate, columns),
        *[f"{line.share:.0%}" if line.share is not None else ""] * limits,
        duration(line.seconds[line.ours]),
        *map(times, rivals),
    ]


def bars_met(bars: Sequence[Bar]) -> str:
    """One sentence on the promises, or nothing."""
    judged = [bar for bar in bars if bar.met is not None]
    return f"{sum(bar.met is True for bar in judged)} of {len(judged)} bars met. " if bars else ""


def progress(text: str) -> None:
    """What is being measured: on a terminal in place, elsewhere a line each."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
