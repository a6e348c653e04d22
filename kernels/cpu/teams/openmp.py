"""Teams of another library's threads: those that GNU's OpenMP keeps for a thread which has worked in parallel.

Threads of OpenMP stay awake for milliseconds behind each piece of work, and keep a team of ours from their cores: two
libraries that take turns in one loop wait for one another most of the time, 5 to 40 ms a step on two cores. So the
loop's kernels may run on the other library's threads: a region of OpenMP is opened when the first kernel wants a team,
its threads serve as workers, and it is closed when the caller is done.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types

from fastnn.kernels.cpu._arrays import aligned
from fastnn.kernels.cpu.compiler.compiling import compile_now
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.teams import team
from fastnn.kernels.cpu.teams.barrier import AWAKE, TURNS, WORDS, add, external, linger, read, write

# What compiled code calls by name, of the library that was named first.
_SYMBOLS = {
    "fastnn.openmp_start": "GOMP_parallel_start",
    "fastnn.openmp_end": "GOMP_parallel_end",
    "fastnn.openmp_threads": "omp_get_num_threads",
}
_START, _END, _THREADS = _SYMBOLS

_I32, _I64, _POINTER = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()


@team.as_intrinsic
def _start(typingctx, function, record, threads):
    """Open a region of so many threads: all but the caller begin with the function, known by its address."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        start = external(builder, _START, ir.FunctionType(ir.VoidType(), [_POINTER, _POINTER, _I32]))
        function, record = (builder.inttoptr(each, _POINTER) for each in given[:2])
        builder.call(start, [function, record, builder.trunc(given[2], _I32)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@team.as_intrinsic
def _end(typingctx):
    """Close it: the others have returned from their function."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.call(external(builder, _END, ir.FunctionType(ir.VoidType(), [])), [])
        return context.get_dummy_value()

    return types.void(), codegen


@team.as_intrinsic
def _threads(typingctx):
    """How many there are in the region."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        count = external(builder, _THREADS, ir.FunctionType(_I32, []))
        return builder.sext(builder.call(count, []), _I64)

    return types.int64(), codegen


@compiled_in
def _serve(arguments, words, task, tasks):
    """A thread's part in a region: jobs, as a worker of the team does them, until it is to leave.

    OpenMP gives it no number: it takes the next ring.
    """
    rings, come = arguments
    ring = rings[add(come, 0, 1) * team.RING :]
    turns = AWAKE
    while True:
        state = read(ring, team.STATE)
        if state == team.CALLED:
            write(ring, team.STATE, team.WAITING)
            team.do(ring[team.FUNCTION], ring[team.RECORD], ring[team.TASK])
            turns = AWAKE
        elif state == team.LEAVING:
            return
        else:
            turns = linger(ring, team.STATE, turns)


def _open(words, rings, come):
    """Open a region of a thread for each ring and the caller, and wait until all have read what they need.

    ``come`` counts them; they may be fewer.
    """
    tasks = 1 + rings.size // team.RING
    for ring in range(0, rings.size, team.RING):
        write(rings, ring + team.STATE, team.WAITING)
    write(come, 0, 0)
    function, record = team.as_job(_serve, (rings, come), words, tasks)
    _start(function, record, tasks)
    threads, turns = _threads(), AWAKE
    while read(come, 0) < threads - 1:
        turns = linger(come, 0, turns)


def _close(rings):
    """Let the threads leave the region."""
    for ring in range(0, rings.size, team.RING):
        write(rings, ring + team.STATE, team.LEAVING)
    _end()


class _Region:
    """What the threads of a region share: a team's memory, a ring for each but the caller, how many have come."""

    def __init__(self, tasks: int) -> None:
        self.words, self.rings = aligned((WORDS,), np.int32), aligned(((tasks - 1) * team.RING,), np.int64)
        self.words[:], self.rings[:] = 0, 0
        self.words[TURNS] = AWAKE
        self.come = np.zeros(1, np.int64)


class Lender:
    """``with`` it, kernels that this thread calls have teams of a library's threads, from the first that wants one.

    ``path`` is that of GNU's OpenMP, which the library has loaded; the first one that is named serves all. Regions have
    as many threads as ``count`` says: each time the same, for OpenMP starts and ends threads where that changes.
    A thread's lender is its own, and is not entered twice.
    """

    def __init__(self, path: str, count: Callable[[], int]) -> None:
        self._open, self._close = _compiled(path)
        self._count = count
        self._regions: dict[int, _Region] = {}
        self._now: _Region | None = None

    def team(self, tasks: int) -> tuple[Any, Any]:
        """Words and rings of a team of so many tasks, or fewer where the library has fewer threads."""
        threads = self._count()
        if threads < 2:
            return team.ALONE
        if self._now is None:
            if threads not in self._regions:
                self._regions[threads] = _Region(threads)
            region = self._regions[threads]
            self._open(region.words, region.rings, region.come)
            self._now = region
        held = self._now
        return held.words, held.rings[: min(tasks - 1, int(held.come[0])) * team.RING]

    def __enter__(self) -> None:
        team.here.lender = self

    def __exit__(self, *_: object) -> None:
        team.here.lender = None
        if self._now is not None:
            self._close(self._now.rings)
            self._now = None


@cache
def _compiled(path: str) -> tuple[Any, Any]:
    """``_open`` and ``_close``, for the library at a path."""
    library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
    for name, function in _SYMBOLS.items():
        llvm.add_symbol(name, ctypes.cast(getattr(library, function), ctypes.c_void_p).value)
    opened = compile_now(types.void(team.WORDS_TYPE, team.RINGS_TYPE, team.RINGS_TYPE), _open)
    return opened, compile_now(types.void(team.RINGS_TYPE), _close)
