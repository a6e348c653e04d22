"""Kernels from sources: compiled for a dtype and a formula at first use, launched on the caller's current stream.

A module is ``prelude.cuh``, the structures of its kernels' arguments, what the caller puts before (formulas), and a
``.cu`` file. CuPy keeps what is compiled on disk, under a hash of all of the text. A kernel takes one structure, by
value, and is launched on a grid in one dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from struct import Struct
from threading import get_ident
from typing import Any, NamedTuple, TypeVar

import cupy
import numpy as np

from fastnn.kernels import precision
from fastnn.kernels.cuda.arguments import Span, Structure

# Contractions to fused multiply-adds are the formulas' to ask for: they give the same bits wherever they are compiled.
OPTIONS = ("-std=c++17", "--fmad=false")

# The least architecture, as CuPy writes a compute capability: that of Turing.
LEAST = 75

# Threads of a block, and blocks that a multiprocessor has at hand where a grid is as large as is useful.
THREADS = 256
BLOCK = (THREADS,)
_BLOCKS_AT_HAND = 8

# Columns from which on a row is a block's, not a warp's.
_WIDE = 1024
# Threads that share a row, at least and of the kinds that compile to other code: few, a warp, a block.
GROUPS = (4, 32, THREADS)

_REALS = {"float32": "float", "float64": "double"}


@cache
def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def header(name: str) -> str:
    """The text of a ``.cuh`` file, for what comes before a module's source."""
    return f'#line 1 "{name}"\n{_file(name)}'


def text(source: str, dtype: str, structures: Sequence[Structure], before: str = "") -> str:
    """The whole text of a module."""
    parts = [
        f"typedef {_REALS[dtype]} real;\n#define BLOCK {THREADS}\n",
        f'#line 1 "prelude.cuh"\n{_file("prelude.cuh")}',
        *(structure.source for structure in structures),
        before,
        f'#line 1 "{source}"\n{_file(source)}',
    ]
    return "".join(parts)


class Module(NamedTuple):
    """A module that launchers may ask for, for the compile gate; ``least`` is the first architecture that has it."""

    name: str
    text: str
    least: int = LEAST


class Kernel:
    """A kernel, launched as CuPy's are."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, grid: Any, block: Any, arguments: tuple[Any]) -> None:
        """Launch it."""
        asked = asked_for.get()
        if asked is not None:
            asked.append(self)
        self.function(grid, block, arguments)


class Numbered(Kernel):
    """A kernel whose numbers may be elsewhere: ``span`` says where they are in its record."""

    def __init__(self, function: Any, span: Span) -> None:
        super().__init__(function)
        self.span = span

    def __call__(self, grid: Any, block: Any, arguments: tuple[Any]) -> None:
        """Launch it, or hand it over to who takes launches."""
        asked, taker = asked_for.get(), takes_launches.get()
        if asked is not None:
            asked.append(self)
        if taker is None:
            self.function(grid, block, arguments)
        else:
            taker(self, grid, block, arguments[0])


# What is given the launches of kernels with numbers in place of the device: (kernel, grid, block, record).
Taker = Callable[[Numbered, Any, Any, Any], None]
takes_launches: ContextVar[Taker | None] = ContextVar("takes_launches", default=None)

# Where the kernels are noted that are asked for, if somebody counts them.
asked_for: ContextVar[list[Kernel] | None] = ContextVar("asked_for", default=None)


@cache
def kernel(source: str, entry: str, dtype: str, structures: tuple[Structure, ...], before: str = "") -> Any:
    """A kernel of a ``.cu`` file as CuPy launches it: ``kernel(grid, block, (record,))``.

    That is of the first structure; no other has numbers that may be elsewhere.
    """
    function = cupy.RawModule(code=text(source, dtype, structures, before), options=OPTIONS).get_function(entry)
    span = structures[0].span(dtype)
    return Kernel(function) if span is None else Numbered(function, span)


class Launch:
    """A kernel on a grid with its record, all but addresses: what a plan of one kernel holds.

    A call writes ``count`` addresses into a copy, one behind the other from the field ``first``.
    """

    def __init__(self, kernel: Any, blocks: int, record: Any, first: str, count: int) -> None:
        self._kernel, self._grid = kernel, (blocks,)
        # of no fields: NumPy copies a structure field by field, which takes longer than all else
        self._copy = record.view(np.dtype((np.void, record.itemsize))).copy
        self._offset, self._write = record.dtype.fields[first][1], Struct(f"{count}Q").pack_into

    def __call__(self, *addresses: int) -> None:
        """Launch it on these."""
        record = self._copy()
        self._write(record, self._offset, *addresses)
        self._kernel(self._grid, BLOCK, (record,))


# What is asked for in every call.
_stream, _device = cupy.cuda.get_current_stream, cupy.cuda.runtime.getDevice

# Counters of blocks that a stream has: of so many groups of blocks of a launch one each can tell who is the last.
COUNTERS = 4096
own_counters: ContextVar[Any] = ContextVar("own_counters", default=None)
_counters: dict[Any, tuple[int, Any]] = {}


def new_counters() -> Any:
    """Counters that launches share which follow one another: each leaves them 0, as it has found them."""
    return cupy.zeros((COUNTERS,), np.int32)


def counters() -> int:
    """Where those are of the current context, if it has its own, or of the current stream."""
    own = own_counters.get()
    if own is not None:
        place: int = own.data.ptr
        return place
    stream = _stream().ptr, _device(), get_ident()
    held = _counters.get(stream) or known(_counters, stream, _held_counters)
    return held[0]


def _held_counters() -> tuple[int, Any]:
    """New ones with where they are."""
    made = new_counters()
    return made.data.ptr, made


# Likenesses that a table of plans has at most.
_KNOWN = 1024

Made = TypeVar("Made")


def known(plans: dict[Any, Made], key: Any, make: Callable[[], Made]) -> Made:
    """The plan of this key, made where there is none, in a table that does not grow for ever."""
    found = plans.get(key)
    if found is None:
        if len(plans) >= _KNOWN:
            plans.clear()
        found = plans[key] = make()
    return found


def surroundings() -> tuple[int, str]:
    """What a plan is made for beside arrays: the current device, and the precision of products."""
    return _device(), precision.current()


class DeviceMemoryError(MemoryError):
    """What was asked for, and what the device has."""


def out_of_memory(error: MemoryError) -> MemoryError:
    """CuPy's error, which says what was asked for, with what the device has."""
    if isinstance(error, DeviceMemoryError):
        return error
    free, total = cupy.cuda.runtime.memGetInfo()
    device = cupy.cuda.runtime.getDevice()
    return DeviceMemoryError(f"{str(error).rstrip('.')}; free on CUDA device {device}: {free:,} of {total:,} bytes")


@cache
def _multiprocessors(device: int) -> int:
    return int(cupy.cuda.Device(device).attributes["MultiProcessorCount"])


def multiprocessors() -> int:
    """Those of the current device."""
    return _multiprocessors(cupy.cuda.runtime.getDevice())


def blocks(threads: int) -> int:
    """Blocks for so many threads that stride over a grid: no more than the device has at hand at a time."""
    most = _BLOCKS_AT_HAND * multiprocessors()
    return max(1, min(most, -(-threads // THREADS)))


def group(columns: int) -> int:
    """Threads that share a row of so many numbers: those of a block, of a warp, or so few that none has nothing."""
    if columns > _WIDE:
        return THREADS
    return min(32, max(GROUPS[0], 1 << (max(1, columns) - 1).bit_length()))
