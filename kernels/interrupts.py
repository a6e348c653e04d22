"""Interrupts: put off while what must change together has changed in part, or where they would be lost.

Python runs the handlers of signals in its main thread, between any two of its own operations: Ctrl-C raises
KeyboardInterrupt wherever the program happens to be, a handler of the user's (a time limit, a job that is told to end)
whatever it likes. A compiled call is not broken into, so signals wait for its end anyway; ``held`` lets them wait a
little longer.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # beneath `signal`, whose enums make 0.5 us of a swap 12 (Ice Lake)
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, ClassVar

Handler = Callable[[int, FrameType | None], Any]

# What a program may set handlers for, but for the real-time signals, of which there are as many again.
_SIGNALS = sorted(number for number in signal.valid_signals() if number < getattr(signal, "SIGRTMIN", signal.NSIG))


class held:  # noqa: N801 - reads as what it is in a `with` statement
    """``with held() as interrupts``: the handlers of signals that come meanwhile run at its end, once each.

    ``interrupts.pending`` is empty as long as none has come. Inside another one it does nothing: they run at the end of
    the outermost. Neither does it in any thread but the main one, in which alone handlers run, nor for signals that no
    Python function handles.
    """

    _outermost: ClassVar[held | None] = None

    def __init__(self) -> None:
        self.pending: dict[int, FrameType | None] = {}
        self._handlers: dict[int, Handler] = {}
        self._over = False

    def __enter__(self) -> held:
        if threading.get_ident() != threading.main_thread().ident:
            return self
        if held._outermost is not None:
            return held._outermost
        try:
            held._outermost = self
            found = zip(_SIGNALS, map(_signal.getsignal, _SIGNALS), strict=True)
            self._handlers = {number: handler for number, handler in found if callable(handler)}
            for number in self._handlers:
                _signal.signal(number, self._note)
        except BaseException:  # from the handler of one that is still as it was
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if held._outermost is self:
            try:
                self._end()
            finally:
                self.deliver()

    def _end(self) -> None:
        """Let signals be handled as before."""
        held._outermost = None
        try:
            self._put_back(iter(self._handlers.items()))
        finally:
            self._over = True

    def _put_back(self, handlers: Iterator[tuple[int, Handler]]) -> None:
        """All of them, whatever one that is in its place again raises."""
        for number, handler in handlers:
            try:
                _signal.signal(number, handler)
            finally:
                self._put_back(handlers)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Put a signal off; but handle one that comes when all is over, for two interrupts kept its handler away."""
        if self._over:
            self._handlers[number](number, frame)
        else:
            self.pending.setdefault(number, frame)

    def deliver(self) -> None:
        """Run the handlers that were put off, all of them whatever one raises."""
        if self.pending:
            number, frame = self.pending.popitem()
            try:
                self._handlers[number](number, frame)
            finally:
                self.deliver()


def _after_fork() -> None:
    """In the child of another thread, which did not hold anything, signals are handled."""
    if held._outermost is not None:
        held._outermost._end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
