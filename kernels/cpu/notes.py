"""Notes of what an op would run: its calls of kernels, while these are noted in place of being run.

An op that is planned and called where notes are taken writes down what it would call its kernels with. So programs have
instructions of ops without a word of these about them (``lowering``), as long as kernels do all the work.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Note(NamedTuple):
    """A call of a kernel for a dtype on ``arguments``, and one core's work for it."""

    kernel: Any
    dtype: Any
    nanoseconds: float
    arguments: tuple[Any, ...]


@dataclass
class Notes:
    """Calls in their order, and the scratch memory that they were given."""

    calls: list[Note] = field(default_factory=list)
    scratch: list[Any] = field(default_factory=list)


class _Here(threading.local):
    notes: Notes | None = None


_here = _Here()


@contextmanager
def taking() -> Iterator[Notes]:
    """Note calls inside a ``with`` block, in this thread, and run none."""
    before, _here.notes = _here.notes, Notes()
    try:
        yield _here.notes
    finally:
        _here.notes = before


def taken() -> bool:
    """Whether notes are taken here."""
    return _here.notes is not None


def take(kernel: Any, dtype: Any, nanoseconds: float, arguments: tuple[Any, ...]) -> bool:
    """Note a call. True, as of a kernel that finds nothing wrong with its operands."""
    assert _here.notes is not None
    _here.notes.calls.append(Note(kernel, dtype, nanoseconds, arguments))
    return True


def keep(scratch: Any) -> Any:
    """Note scratch memory, and return it."""
    assert _here.notes is not None
    _here.notes.scratch.append(scratch)
    return scratch
