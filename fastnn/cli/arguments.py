"""What commands share: how arguments are read and refused."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from fastnn import checks
from fastnn.files import check_writable


class UsageError(Exception):
    """What was asked for cannot be done; the message is for the user."""


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, and lets `main` choose how."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def checked(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `convert` with its TypeError or ValueError as argparse wants it, which names the argument itself."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error).partition(": ")[2]) from None

    return converted


def number(kind: Callable[[str], Any], text: str) -> Any:
    """Return the number that `text` spells, or `text` itself, for the check that follows to refuse."""
    try:
        return kind(text)
    except ValueError:
        return text


def whole(flag: str, minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """Read a whole number between bounds, as argparse wants it."""

    def convert(text: str) -> int:
        value = checks.integer(flag, number(int, text), minimum)
        if maximum is not None and value > maximum:
            raise ValueError(f"{flag}: got {value}, wants at most {maximum}")
        return value

    return checked(convert)


def check_writable_path(flag: str, path: Path) -> None:
    """Raise unless `path` could be written: by making a file beside it, which permissions alone do not tell."""
    if not path.parent.is_dir():
        raise UsageError(f"argument {flag}: there is no folder {path.parent}")
    check_writable(f"argument {flag}", path)
