"""Teams: threads that run one compiled function together and wait for one another inside it.

A parallel loop of Numba's starts and ends with the other threads' help; a function that has many of them is compiled
twice over and cannot choose how its threads wait. A team's function is compiled once, as it would be for one thread: it
is told which task of how many it is, takes its share of the work, and calls ``wait`` where it needs what the others
have made. Threads belong to nobody between two runs, so that concurrent callers each have a team of their own, and a
forked child makes itself new ones.
"""

from __future__ import annotations

import ctypes
import operator
import os
import platform
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastnn.kernels.cpu import threads
from fastnn.kernels.cpu._arrays import aligned
from fastnn.kernels.cpu.parts import compiled_in

# ------------------------------------------------------------------------------------------------------------- barrier

# Words of a team's shared memory: tasks that have arrived at the barrier, how often all have passed it, tasks that
# sleep there, whether to stop, and turns of the waiting loop before a task sleeps. Each is on a cache line of its own:
# 128 bytes apart, for such are the lines of Apple's CPUs, and x86 fetches its lines of 64 bytes in pairs.
ARRIVED, PASSED, SLEEPERS, STOPPED, TURNS = range(0, 160, 32)
WORDS = 160

# Tasks of equal work arrive some microseconds apart, and waking a thread that sleeps takes tens: so many turns are some
# 100 us on a Zen 5. A thread that waits longer lacks a core, which it gets sooner where the others sleep.
_TURNS = 3_000

_I32, _I64 = ir.IntType(32), ir.IntType(64)
# Architectures go by the names that Linux, macOS and Windows have for them.
_PAUSE = {"x86_64": "pause", "AMD64": "pause", "aarch64": "isb", "arm64": "isb", "ARM64": "isb"}
# The number of the system call futex where threads sleep by it, and its operations on memory of one process. Elsewhere
# a thread that waits gives the core away again and again, and nobody has to be woken.
_FUTEX = {("Linux", "x86_64"): 202, ("Linux", "aarch64"): 98}
_FUTEX_WAIT, _FUTEX_WAKE = 128, 129
_SLEEP_NS = 50_000_000  # then a sleeper looks whether it is to stop
# What compiled code calls by name: the C library's ``syscall``, or the function that gives the core away.
_SYSCALL, _YIELD = "fastnn.syscall", "fastnn.yield"


def _atomic(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make of ``emit(builder, pointer, *values)`` a function of (array of int32, place, *values)."""

    def enter(emit: Callable[..., Any]) -> Any:
        def typer(typingctx: Any, words: Any, place: Any, *values: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
                data = context.make_array(signature.args[0])(context, builder, given[0]).data
                returned = emit(builder, builder.gep(data, [given[1]]), *given[2:])
                return context.get_dummy_value() if result is types.void else returned

            return result(words, types.int64, *arguments), codegen

        def one(typingctx, words, place, value):
            return typer(typingctx, words, place, value)

        def none(typingctx, words, place):
            return typer(typingctx, words, place)

        return intrinsic(one if arguments else none)

    return enter


@_atomic(types.int32, types.int32)
def _add(builder: Any, word: Any, value: Any) -> Any:
    """Add to a word; what it was."""
    return builder.atomic_rmw("add", word, value, "seq_cst")


@_atomic(types.int32)
def _read(builder: Any, word: Any) -> Any:
    return builder.load_atomic(word, "seq_cst", 4)


@_atomic(types.void, types.int32)
def _write(builder: Any, word: Any, value: Any) -> None:
    builder.store_atomic(value, word, "seq_cst", 4)


@_atomic(types.void)
def _pause(builder: Any, word: Any) -> None:
    """Tell the core that this is a waiting loop."""
    instruction = _PAUSE.get(platform.machine(), "")
    builder.call(ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), instruction, "~{memory}", True), [])


@_atomic(types.void, types.int32)
def _sleep(builder: Any, word: Any, value: Any) -> None:
    """Sleep while the word has this value, and no longer than ``_SLEEP_NS``."""
    time = ir.Constant(ir.ArrayType(_I64, 2), [0, _SLEEP_NS])
    where = builder.alloca(time.type)
    builder.store(time, where)
    _system(builder, word, _FUTEX_WAIT, value, where)


@_atomic(types.void)
def _wake(builder: Any, word: Any) -> None:
    """Wake all that sleep at the word."""
    _system(builder, word, _FUTEX_WAKE, _I32(2**31 - 1), ir.Constant(_I64.as_pointer(), None))


def _system(builder: Any, word: Any, operation: int, value: Any, time: Any) -> None:
    """A futex's operation on a word; without futex, to wait is to give the core away."""
    number = _futex()
    if number is not None:
        nothing = ir.Constant(_I64.as_pointer(), None)
        syscall = _external(builder, _SYSCALL, ir.FunctionType(_I64, [_I64], var_arg=True))
        builder.call(syscall, [_I64(number), word, _I32(operation), value, time, nothing, _I32(0)])
    elif operation == _FUTEX_WAIT:
        builder.call(_external(builder, _YIELD, ir.FunctionType(_I32, [])), [])


def _external(builder: Any, name: str, kind: Any) -> Any:
    """A function outside of what is compiled, by name."""
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


def _futex() -> int | None:
    return _FUTEX.get((platform.system(), platform.machine()))


def _prepare() -> None:
    """Let compiled code find the system's function for waiting, and LLVM read the instruction of ``_pause``."""
    llvm.initialize_native_asmparser()
    if _futex() is not None:
        name, function = _SYSCALL, ctypes.CDLL(None).syscall
    elif platform.system() == "Windows":
        name, function = _YIELD, ctypes.WinDLL("kernel32").SwitchToThread  # type: ignore[attr-defined]
    else:
        name, function = _YIELD, ctypes.CDLL(None).sched_yield
    llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)


_prepare()


@compiled_in
def wait(tasks, words):
    """Wait for all tasks; True if the team was told to stop: its function must return then."""
    if tasks > 1:
        passed = _read(words, PASSED)
        if _add(words, ARRIVED, 1) == tasks - 1:
            _write(words, ARRIVED, 0)
            _add(words, PASSED, 1)
            if _read(words, SLEEPERS) > 0:
                _wake(words, PASSED)
        turns = words[TURNS]
        while _read(words, PASSED) == passed and _read(words, STOPPED) == 0:
            if turns > 0:
                turns -= 1
                _pause(words, PASSED)
            else:
                _add(words, SLEEPERS, 1)
                _sleep(words, PASSED, passed)
                _add(words, SLEEPERS, -1)
    return _read(words, STOPPED) != 0


# ------------------------------------------------------------------------------------------------------------- threads


class _Worker:
    """A thread that waits for jobs."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._work, name="fastnn", daemon=True).start()

    def _work(self) -> None:
        while True:
            self.jobs.get()()


# Workers without a job.
_idle: deque[_Worker] = deque()


def _hire(wanted: int) -> list[_Worker]:
    """So many workers, or fewer where the system lets no more threads start."""
    workers: list[_Worker] = []
    while len(workers) < wanted:
        try:
            workers.append(_idle.pop() if _idle else _Worker())
        except IndexError:  # another caller was quicker
            continue
        except RuntimeError:
            break
    return workers


def run(function: Callable[..., Any], arguments: Sequence[Any], tasks: int) -> Any:
    """``function(*arguments, words, task, tasks)`` for every task at the same time; what task 0 returns.

    ``words`` is the memory that ``wait`` needs. Where threads cannot be started, there are fewer tasks.

    An error in one task stops the others at their next ``wait``. What else is raised in the caller's thread meanwhile,
    by Ctrl-C say, stops nobody: all tasks come to their ends, and then it goes on.
    """
    workers = _hire(tasks - 1)
    tasks = 1 + len(workers)
    words = aligned((WORDS,), np.int32)
    words[:] = 0
    words[TURNS] = _TURNS if tasks <= threads.available() else 0
    ended: list[BaseException | None] = []
    bell: SimpleQueue[None] = SimpleQueue()

    def job(worker: _Worker, task: int) -> None:
        error = None
        try:
            function(*arguments, words, task, tasks)
        except BaseException as raised:  # handed to the caller
            words[STOPPED] = 1
            error = raised
        _idle.append(worker)
        ended.append(error)
        bell.put(None)

    orders = [partial(worker.jobs.put, partial(job, worker, task)) for task, worker in enumerate(workers, 1)]
    results: list[Any] = []
    try:
        # one call that runs no Python: an interrupt comes before all jobs are handed out, or after task 0 has ended
        results.extend(map(operator.call, [*orders, partial(function, *arguments, words, 0, tasks)]))
        interrupt = _wait_for(len(workers), ended, bell)
    except BaseException:
        handed_out = min(len(results), len(workers))
        if len(results) <= len(workers):  # task 0 has not come to its end
            words[STOPPED] = 1
        _wait_for(handed_out, ended, bell)
        _idle.extend(workers[handed_out:])
        raise
    for error in (interrupt, *ended):
        if error is not None:
            raise error
    return results[-1]


def _wait_for(count: int, ended: Sequence[Any], bell: SimpleQueue[None]) -> BaseException | None:
    """Wait until so many jobs have ended, whatever is raised meanwhile, for they use the caller's arrays; return that.

    An interrupt may come with a ring of the bell in hand: what has ended is counted, not the rings.
    """
    interrupt = None
    while len(ended) < count:
        try:
            bell.get()
        except BaseException as raised:
            interrupt = interrupt or raised
    return interrupt


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a child has none of its parent's threads
