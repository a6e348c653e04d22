"""Launches of one call, prepared: kernels one after the other, their records end to end in one buffer.

A plan adds its kernels to a chain, each with the names of what its pointers point to: arrays of the call, or rooms that
the chain has memory for. A call writes all addresses at once, and launches one kernel after the other. The buffer is
the call's own until it is done, for threads may share a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from struct import Struct
from typing import Any, NamedTuple, Protocol

import cupy
import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arrays import WIDE

# Where rooms begin, and records.
_ROOM, _RECORD = 256, 16

# The names of the current stream's counters, and of a call's numbers: those of an optimizer's step.
COUNTERS, NUMBERS = "the counters", "the numbers"

_BYTE = np.dtype(np.uint8)

# What launches kernels: of addresses in the order of the chain's names, what else there is, and a call's numbers.
Launches = Callable[[Sequence[int], Sequence[int], bytes], None]


class Launchable(Protocol):
    """A kernel, or what is called as such: ``function`` where nobody counts or takes launches."""

    @property
    def function(self) -> Callable[..., Any]:
        """What launches it."""

    def __call__(self, grid: Any, block: Any, arguments: tuple[Any]) -> None:
        """Launch it."""


class _Link(NamedTuple):
    """A kernel on a grid with its record; ``fields`` are what calls write: place, format and name."""

    kernel: Launchable
    grid: tuple[int]
    block: tuple[int]
    record: bytes
    fields: list[tuple[int, str, str]]


class Chain:
    """Launches one after the other, of arrays by these names; ``others`` are further integers that kernels are given.

    Those that are ``shifted`` do not begin at a multiple of 16 bytes.
    """

    def __init__(self, names: Sequence[str], others: Sequence[str] = (), shifted: frozenset[str] = frozenset()) -> None:
        self._given, self._shifted = [*names, *others], shifted
        self._links: list[_Link] = []
        self._places: list[tuple[str, bool, int]] = []  # of rooms: name, whether of zeros, where
        self._sizes = {False: 0, True: 0}

    def room(self, size: int, zeros: bool = False) -> str:
        """The name of so many bytes that a call has for itself, which may hold zeros at first."""
        return self.within(size, 0, zeros=zeros)[0]

    def within(self, size: int, *offsets: int, zeros: bool = False) -> list[str]:
        """The names of places in a room, by their distances from its start."""
        start = self._sizes[zeros]
        self._sizes[zeros] += -(-size // _ROOM) * _ROOM
        names = [f"room {len(self._places) + number}" for number in range(len(offsets))]
        self._places += [(name, zeros, start + offset) for name, offset in zip(names, offsets, strict=True)]
        return names

    def is_aligned(self, name: str) -> bool:
        """Whether what has this name begins at a multiple of 16 bytes."""
        return name not in self._shifted

    def add(
        self,
        kernel: Launchable,
        blocks: int,
        record: Any,
        pointers: Mapping[str, str | Sequence[str]],
        numbers: tuple[str, int] | None = None,
        threads: int = launch.THREADS,
    ) -> None:
        """Launch a kernel, too; ``pointers`` are names by fields, ``numbers`` the field of a call's and their bytes.

        A field of several pointers takes a sequence of names. A pointer without a name stays null.
        """
        places = {field: place for field, (_, place, *_) in record.dtype.fields.items()}
        fields = []
        for field, names in pointers.items():
            each = [names] if isinstance(names, str) else names
            fields += [(places[field] + 8 * number, "Q", name) for number, name in enumerate(each) if name]
        if numbers is not None:
            fields.append((places[numbers[0]], f"{numbers[1]}s", NUMBERS))
        self._links.append(_Link(kernel, (blocks,), (threads,), record.tobytes(), sorted(fields)))

    def made(self) -> Launches:
        """What launches all of it."""
        if not self._links:
            return lambda *_: None
        used = {name for link in self._links for *_, name in link.fields}
        own = [name for name in (COUNTERS, NUMBERS) if name in used]
        places = sorted(self._places, key=lambda place: place[1])  # those of zeros behind the others
        rooms, zeros = ([at for _, of_zeros, at in places if of_zeros is kind] for kind in (False, True))
        known = {name: number for number, name in enumerate([*self._given, *(name for name, *_ in places), *own])}
        form, order, constants, starts = self._described(known)
        counted, numbered = COUNTERS in own, NUMBERS in own
        size, of_zeros = self._sizes[False], self._sizes[True]
        pick, write, free = itemgetter(*order), Struct(form).pack_into, list[Any]()
        asked_for, takes_launches, counters = launch.asked_for.get, launch.takes_launches.get, launch.counters

        def run(addresses: Sequence[int], others: Sequence[int], numbers: bytes) -> None:
            values = [*addresses, *others]
            if rooms:
                held = cupy.empty((size,), _BYTE)
                values += map(held.data.ptr.__add__, rooms)
            if zeros:
                held_zeros = cupy.zeros((of_zeros,), _BYTE)
                values += map(held_zeros.data.ptr.__add__, zeros)
            if counted:
                values.append(counters())
            if numbered:
                values.append(numbers)  # type: ignore[arg-type]  # bytes among addresses
            try:
                buffer, launches = own_buffer = free.pop()
            except IndexError:
                buffer, launches = own_buffer = self._buffer(starts)
            write(buffer, 0, *pick(values + constants))
            if asked_for() is None is takes_launches():
                for kernel, grid, block, arguments in launches:
                    kernel.function(grid, block, arguments)
            else:
                for kernel, grid, block, arguments in launches:
                    kernel(grid, block, arguments)
            free.append(own_buffer)

        return run

    def _described(self, known: Mapping[str, int]) -> tuple[str, list[int], list[Any], list[int]]:
        """How the buffer is written: the format, which values in which order, constants, and where records begin."""
        form, order, constants, starts, end = "=", list[int](), list[Any](), list[int](), 0

        def constant(part: bytes) -> None:
            nonlocal form
            if part:
                order.append(len(known) + len(constants))
                constants.append(part)
                form += f"{len(part)}s"

        for link in self._links:
            starts.append(-(-end // _RECORD) * _RECORD)
            constant(bytes(starts[-1] - end))
            done = 0
            for place, kind, name in link.fields:
                constant(link.record[done:place])
                form += kind
                order.append(known[name])
                done = place + Struct(f"={kind}").size
            constant(link.record[done:])
            end = starts[-1] + len(link.record)
        return form, order, constants, starts

    def _buffer(self, starts: Sequence[int]) -> tuple[bytearray, tuple[Any, ...]]:
        """A buffer, and what launches read of it."""
        last = self._links[-1]
        buffer = bytearray(starts[-1] + len(last.record))
        launches = [
            (link.kernel, link.grid, link.block, (_record(buffer, start, len(link.record)),))
            for link, start in zip(self._links, starts, strict=True)
        ]
        return buffer, tuple(launches)


def _record(buffer: bytearray, start: int, size: int) -> Any:
    """A part of the buffer as CuPy takes a structure."""
    return np.frombuffer(buffer, np.dtype((np.void, size)), 1, start)


class Chains:
    """Launches of arrays by these names, made by ``build`` where calls are like none before.

    That is where others of the arrays begin at multiples of 16 bytes, or ``kind`` is another one, which it is given.
    Which launches belong to addresses is remembered: a loop's come again.
    """

    def __init__(self, names: Sequence[str], build: Callable[[Chain, Any], Any], others: Sequence[str] = ()) -> None:
        self._names, self._others, self._build = tuple(names), tuple(others), build
        self._made: dict[Any, Launches] = {}
        self._at: dict[Any, Launches] = {}

    def __call__(
        self, addresses: tuple[int, ...], others: Sequence[int] = (), kind: Any = None, numbers: bytes = b""
    ) -> None:
        """Launch what there is, of arrays at these addresses."""
        made = self._at.get((kind, addresses))
        if made is None:
            made = launch.known(self._at, (kind, addresses), lambda: self.of(addresses, kind))
        made(addresses, others, numbers)

    def of(self, addresses: Sequence[int], kind: Any = None) -> Launches:
        """Those of arrays at these addresses, for callers who remember them."""
        pairs = zip(self._names, addresses, strict=True)
        shifted = frozenset(name for name, address in pairs if address % WIDE)

        def make() -> Launches:
            chain = Chain(self._names, self._others, shifted)
            self._build(chain, kind)
            return chain.made()

        return launch.known(self._made, (kind, shifted), make)
