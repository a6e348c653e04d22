"""``fastnn playground``: a page in the browser."""

from __future__ import annotations

import argparse
from typing import Any

from fastnn.cli.arguments import UsageError, whole


def add(commands: Any) -> None:
    """The command, to a parser's."""
    playground = commands.add_parser(
        "playground",
        help="build a small network in the browser and watch it train",
        description="Serve a page, to this machine alone, on which a small network is built and watched while it "
        "trains: problems, features, layers, losses, optimizers, regularisation, noise. It needs no network.",
        epilog="The page's address holds what is set: it can be kept, and given here to begin with, as in\n"
        "  fastnn playground 'problem=spiral&layers=8,8&activation=relu'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    playground.set_defaults(run=_playground)
    playground.add_argument(
        "state", nargs="?", default="", metavar="STATE", help="what to begin with: an address of the page, or its end"
    )
    playground.add_argument(
        "--port", metavar="N", type=whole("--port", 0, 65535), default=0, help="default: a free one"
    )
    playground.add_argument("--no-browser", action="store_true", help="only print the address")


def _playground(arguments: argparse.Namespace) -> int:
    from fastnn.playground import serve

    try:
        serve(arguments.port, arguments.state, open_browser=not arguments.no_browser)
    except (TypeError, ValueError) as error:
        raise UsageError(f"argument STATE: {error}") from error
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"argument --port: got {arguments.port} ({reason}), wants a port that is free") from error
    return 0
