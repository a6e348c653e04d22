"""The numbers of captured launches: in a table in the device's memory, from run to run others.

A launch that is captured points there in place of the numbers that it has by value (see ``arguments.py``). What they
are is found by making the call once more without launching anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import cupy
import numpy as np

from fastnn.kernels.contexts import setting
from fastnn.kernels.cuda.arrays import address
from fastnn.kernels.cuda.launch import Numbered, takes_launches

# Numbers of a launch begin at a multiple of so many bytes.
_ALIGNED = 16


class OtherLaunchesError(Exception):
    """A call launches something else than when it was captured."""


class _Slot(NamedTuple):
    """A launch whose numbers are in the table, and where they begin."""

    kernel: Numbered
    grid: Any
    start: int


class Table:
    """The numbers of launches, by the number of their call: on the host, and on the device for the graph to read."""

    def __init__(self) -> None:
        self._slots: dict[int, list[_Slot]] = {}
        self._size = 0
        self._host, self._device = np.zeros(0, np.uint8), cupy.empty((0,), np.uint8)

    def has(self, call: int) -> bool:
        """Whether launches of a call have numbers here."""
        return bool(self._slots[call])

    def start(self, call: int) -> int:
        """Where the numbers of a call's first launch begin."""
        return self._slots[call][0].start

    def make(self) -> None:
        """Room for all that was noted."""
        self._host, self._device = np.zeros(self._size, np.uint8), cupy.empty((self._size,), np.uint8)

    @property
    def host(self) -> Any:
        """The numbers that were read last."""
        return self._host

    def alone(self) -> Any:
        """Those that the graph reads, behind zeros, as turns that there is only one of are given theirs."""
        return cupy.concatenate([cupy.zeros(self._device.shape, np.uint8), self._device]).reshape(2, -1)

    @property
    def device(self) -> Any:
        """The numbers that the graph reads."""
        return self._device

    @contextmanager
    def noting(self, call: int) -> Iterator[None]:
        """Launches of the call get a place, and are launched as they are."""
        slots = self._slots[call] = []

        def take(kernel: Numbered, grid: Any, block: Any, record: Any) -> None:
            slots.append(_Slot(kernel, grid, self._size))
            self._size += -(-kernel.span.size // _ALIGNED) * _ALIGNED
            kernel.function(grid, block, (record,))

        with setting(takes_launches, take):
            yield

    @contextmanager
    def pointing(self, call: int) -> Iterator[None]:
        """Launches of the call are pointed to their numbers here."""

        def take(slot: _Slot, block: Any, record: Any) -> None:
            pointed, at = record.copy(), slot.kernel.span.pointer
            pointed.view(np.uint8)[at : at + 8].view(np.uint64)[0] = address(self._device) + slot.start
            slot.kernel.function(slot.grid, block, (pointed,))

        with self._by_slot(call, take):
            yield

    def write(self, call: int, numbers: bytes) -> None:
        """These are the numbers of each launch of the call."""
        for slot in self._slots[call]:
            self._host[slot.start : slot.start + len(numbers)] = np.frombuffer(numbers, np.uint8)

    @contextmanager
    def reading(self, call: int) -> Iterator[None]:
        """Launches of the call leave their numbers here, and are not launched."""

        def take(slot: _Slot, block: Any, record: Any) -> None:
            offset, size, _ = slot.kernel.span
            self._host[slot.start : slot.start + size] = record.view(np.uint8)[offset : offset + size]

        with self._by_slot(call, take):
            yield

    @contextmanager
    def _by_slot(self, call: int, take: Callable[[_Slot, Any, Any], None]) -> Iterator[None]:
        """Launches of a call are taken with their slots, in their order."""
        waiting = list(reversed(self._slots[call]))

        def of_slot(kernel: Numbered, grid: Any, block: Any, record: Any) -> None:
            if not waiting or waiting[-1][:2] != (kernel, grid):
                raise OtherLaunchesError
            take(waiting.pop(), block, record)

        with setting(takes_launches, of_slot):
            yield
        if waiting:
            raise OtherLaunchesError
