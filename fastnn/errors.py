"""The exceptions that are fastnn's own; everything else a caller gets wrong raises TypeError or ValueError.

And what the messages about a package that is missing say alike.
"""

from __future__ import annotations


def installing(*extras: str) -> str:
    """The commands that bring the packages of one of these extras.

    They name the checkout: the ``fastnn`` of the public index is somebody else's, and ours is not on it.
    """
    commands = " or ".join(f'pip install ".[{extra}]"' for extra in extras)
    return f"{commands} in fastnn's checkout"


class BackendError(RuntimeError):
    """A backend was asked for by name and cannot serve; the message says why and lists those that can."""


class DivergenceError(ArithmeticError):
    """Training produced a loss or weights that are not finite; the message names epoch, batch and learning rate."""


class DataFileError(OSError):
    """A data file is missing and could not be fetched; the message names it, the places tried and the ways out."""


class ChecksumError(DataFileError):
    """A data file's SHA-256 is not the published one: the file was refused before anything in it was parsed."""
