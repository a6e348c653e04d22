"""Callbacks that write down the figures of the epochs."""

from __future__ import annotations

import csv
import errno
import io
import os
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import checks, files
from fastnn.callbacks.base import Callback
from fastnn.engine.protocols import Logs

# What stands for a figure that an epoch does not have.
_MISSING = "NA"


class CSVLogger(Callback):
    """Write the figures of every epoch as a row of a CSV file, below a row of their names.

    The columns are "epoch" (from 0) and the figures of the first epoch in the order of their names; where there is none
    of a validation among them, a column for each of the validation follows. A figure that an epoch lacks is "NA", one
    without a column is left out. With ``append`` rows are added to those of a file, under its columns; else it begins
    anew with each fit. The file's folder is made where there is none.

    A file that cannot be written is an OSError before the first epoch. Where the disk is full later, training goes on,
    a warning tells, and the rows are written with those of the next epoch for which there is room.
    """

    ADDED_FIGURES = ()

    def __init__(self, filename: Any, separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = str(files.checked_path("filename", filename))
        self.sep = checks.instance("separator", separator, str, "one character")
        if len(separator) != 1 or separator in '\r\n"':
            raise ValueError(f"separator: got {separator!r}, wants one character that ends neither a line nor a text")
        self.append = checks.instance("append", append, bool, "True or False")
        self._reset()

    def _reset(self) -> None:
        self.keys: list[str] | None = None
        self._unwritten = b""

    def leaves_weights(self) -> bool:
        """It looks at figures only."""
        return True

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin the file, or read the columns of the one that is there."""
        self._reset()
        path = Path(self.filename)
        files.make_folder("filename", path.parent)
        try:
            with open(path, "a+b" if self.append else "wb") as file:
                if self.append:
                    self._go_on(file)
        except OSError as error:
            raise _unwritable(error, self.filename) from error

    def _go_on(self, file: Any) -> None:
        """Take the columns of a file that has some; what is added begins on a line of its own."""
        file.seek(0)
        header = file.readline().decode("utf-8", "replace")
        if not header:
            return
        names = next(csv.reader([header], delimiter=self.sep), [])
        if names[:1] != ["epoch"]:
            raise ValueError(
                f"filename: got {self.filename!r}, whose first line is {header[:60]!r}, wants a file of a CSVLogger "
                f"with the separator {self.sep!r}, or append=False"
            )
        self.keys = names[1:]
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            self._unwritten = b"\r\n"

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add the row of the epoch."""
        figures = logs or {}
        if self.keys is None:
            self.keys = _columns(figures)
            self._unwritten += self._line(["epoch", *self.keys])
        self._unwritten += self._line([epoch, *(_cell(figures.get(key, _MISSING)) for key in self.keys)])
        try:
            self._write()
        except OSError as error:
            warnings.warn(f"{_unwritable(error, self.filename)}; training goes on", UserWarning, stacklevel=2)

    def _line(self, cells: Sequence[Any]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter=self.sep).writerow(cells)
        return text.getvalue().encode()

    def _write(self) -> None:
        """Add what is not written yet, all of it or nothing."""
        with open(self.filename, "ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                if file.write(self._unwritten) != len(self._unwritten):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise
        self._unwritten = b""


def _columns(figures: Logs) -> list[str]:
    """The names of the figures, and of those that a validation may bring later."""
    names = sorted(figures)
    return names if any(name.startswith("val_") for name in names) else [*names, *(f"val_{name}" for name in names)]


def _cell(value: Any) -> Any:
    """A figure as a cell: several numbers in brackets."""
    if isinstance(value, str) or not isinstance(value, Iterable) or (isinstance(value, np.ndarray) and not value.ndim):
        return value
    return f'"[{", ".join(map(str, value))}]"'


def _unwritable(error: OSError, filename: str) -> OSError:
    reason = f"filename: the figures cannot be written ({error.strerror or error})"
    return OSError(error.errno or errno.EIO, reason, filename)
