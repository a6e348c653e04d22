"""The command line: ``fastnn train``, ``convert``, ``example``, ``playground``, ``info``, ``bench``: a module each.

A command's module adds it to the parser, with what runs it: ``add(commands)``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import fastnn
from fastnn.cli import bench, convert, example, info, playground, train
from fastnn.cli.arguments import Parser, UsageError
from fastnn.errors import BackendError, DivergenceError

# In the order in which the help lists them.
_COMMANDS = (train, convert, example, playground, info, bench)

_FAILED, _INTERRUPTED, _UNREAD = 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 2 after an error, 130 after Ctrl-C, 141 where nobody reads on."""
    try:
        arguments, rest = _parser().parse_known_args(argv)
        if rest and arguments.command != "bench":
            raise UsageError(f"unrecognized arguments: {' '.join(rest)} (see fastnn {arguments.command} --help)")
        arguments.rest = rest
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\nfastnn: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # `head`, say, has read what it wanted; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNREAD
    except (UsageError, BackendError, DivergenceError, ImportError, MemoryError, OSError) as error:
        print(f"fastnn: error: {_told(error)}", file=sys.stderr)
        return _FAILED
    return status


def _told(error: Exception) -> str:
    """What an error says; one of the operating system's without its number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return str(error) or type(error).__name__


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
