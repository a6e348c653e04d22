"""``fastnn info``: what fastnn runs on."""

from __future__ import annotations

import argparse
from typing import Any

from fastnn import _environment


def add(commands: Any) -> None:
    """The command, to a parser's."""
    info = commands.add_parser(
        "info",
        help="versions, CPU, instruction set and tiles in use, threads, caches, GPU; with --peak the CPU's peak",
        description="Print what fastnn runs on: what to put into a bug report or beside a measurement.",
    )
    info.set_defaults(run=_info)
    info.add_argument(
        "--peak",
        action="store_true",
        help="also measure, for a second or two, the multiply-adds of the CPU and the bandwidth of its memory, "
        "on one thread and on all",
    )


def _info(arguments: argparse.Namespace) -> int:
    rows = _environment.rows() + (_environment.peak_rows() if arguments.peak else [])
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        print(f"{name:{width}}{value}")
    return 0
