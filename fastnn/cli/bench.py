"""``fastnn bench``: the repository's benchmarks."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import fastnn
from fastnn.cli.arguments import UsageError

# Benchmarks that are a command of their own, by name; bench.report serves the others.
_BENCHES = {
    "calls": "bench.cuda.calls",
    "neuralnet": "bench.neuralnet",
    "playground": "bench.playground",
    "scaling": "bench.scaling.command",
}


def add(commands: Any) -> None:
    """The command, to a parser's; its arguments are those of the benchmarks."""
    commands.add_parser(
        "bench",
        help="measure fastnn beside NumPy and other libraries (in a checkout of the repository)",
        description="Run the benchmark suite of the repository that this command is run in.",
        add_help=False,
    ).set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    """Hand over to ``bench/`` of the checkout that fastnn, or the working folder, belongs to; it is not installed."""
    for root in (Path(fastnn.__file__).parents[1], Path.cwd()):
        if (root / "bench" / "report.py").is_file() and (root / "kernels" / "table").is_dir():
            sys.path.insert(0, str(root))
            own = [name for name in arguments.rest[:1] if name in _BENCHES]
            module = _BENCHES[own[0]] if own else "bench.report"
            return importlib.import_module(module).main(arguments.rest[len(own) :]) or 0
    raise UsageError(
        "the benchmarks are not installed: clone fastnn's repository and run fastnn bench inside the clone"
    )
