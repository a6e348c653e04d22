"""``fastnn example``: the course's examples."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fastnn import checks, examples, files, plotting
from fastnn.cli.arguments import UsageError, check_writable_path, checked, whole


def add(commands: Any) -> None:
    """The command, to a parser's."""
    example = commands.add_parser(
        "example",
        help="run one of the course's examples: figures, and a picture",
        description="Run an example, print its figures and draw its picture. Each is a short script of the package: "
        "fastnn/examples.",
        epilog="\n".join(["examples:", *(f"  {name:24}{examples.title(name)}" for name in examples.NAMES)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    example.set_defaults(run=_example)
    example.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        type=checked(lambda text: checks.one_of("NAME", text, examples.NAMES)),
        help="which one",
    )
    example.add_argument("--list", action="store_true", help="print the examples' names, and what they show")
    example.add_argument(
        "--out", metavar="DIR", type=Path, default=Path(), help="where the picture goes (default: here)"
    )
    example.add_argument("--seed", metavar="N", type=whole("--seed", 0, 2**32 - 1), default=0, help="default: 0")


def _example(arguments: argparse.Namespace) -> int:
    if arguments.list:
        for name in examples.NAMES:
            print(f"{name:24}{examples.title(name)}")
        return 0
    if arguments.name is None:
        raise UsageError("argument NAME: got none, wants an example (see fastnn example --list)")
    plotting.require()
    files.make_folder("argument --out", arguments.out)
    check_writable_path("--out", arguments.out / f"{arguments.name}.png")
    examples.run(arguments.name, arguments.out, arguments.seed)
    print(f"drawn in {arguments.out.resolve()}")
    return 0
