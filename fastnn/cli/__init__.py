"""The command line: ``fastnn train``, ``convert``, ``example``, ``playground``, ``info``, ``bench``: a module each.

A command's module adds it to the parser, with what runs it: ``add(commands)``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import fastnn
from fastnn.cli import bench, convert, example, info, playground, train
from fastnn.cli.arguments import Parser, UsageError
from fastnn.errors import BackendError, DivergenceError

# In the order in which the help lists them.
_COMMANDS = (train, convert, example, playground, info, bench)

_FAILED, _INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 2 after an error, 130 after Ctrl-C."""
    try:
        arguments, rest = _parser().parse_known_args(argv)
        if rest and arguments.command != "bench":
            raise UsageError(f"unrecognized arguments: {' '.join(rest)} (see fastnn {arguments.command} --help)")
        arguments.rest = rest
        status: int = arguments.run(arguments)
    except KeyboardInterrupt:
        print("\nfastnn: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except (UsageError, BackendError, DivergenceError, ImportError, MemoryError, OSError) as error:
        print(f"fastnn: error: {str(error) or type(error).__name__}", file=sys.stderr)
        return _FAILED
    return status


def _parser() -> Parser:
    parser = Parser(
        prog="fastnn",
        description="Compiled tensor kernels for training neural networks: train one, time them, see what they run on.",
        epilog="fastnn COMMAND --help explains a command. With no idea where to start: fastnn train",
    )
    parser.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    return parser
