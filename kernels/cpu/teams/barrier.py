"""Where the tasks of a team wait for one another, and the few machine instructions that this takes.

Threads that wait stay awake for a moment, since the others come soon; then they sleep, so that these get the core.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastnn.kernels.cpu.compiler.parts import compiled_in

# Words of a team's shared memory: tasks that have arrived at the barrier, how often all have passed it, how many have
# ended, how many sleep, whether to stop, whether one has failed, turns of a waiting loop before a task sleeps, and
# whether calls are noted instead of run. Each is on a cache line of its own: 128 bytes apart, for such are the lines of
# Apple's CPUs, and x86 fetches its lines of 64 bytes in pairs.
ARRIVED, PASSED, ENDED, SLEEPERS, STOPPED, FAILED, TURNS, NOTING = range(0, 256, 32)
WORDS = 256

# Tasks of equal work arrive some microseconds apart, and waking a thread that sleeps takes tens: so many turns are some
# 100 us on a Zen 5. A thread that waits longer lacks a core, which it gets sooner where the others give theirs away.
AWAKE = 3_000

# So many times they do, some milliseconds, before they sleep. Two threads that were woken on one core, of which one
# sleeps whenever the other runs, stay there, for Linux moves a thread to an idle core where two are ready to run: a
# loss of 4096x1000 took 3.9 ms on two threads, every time, where it takes 2.3 (Ice Lake).
_GIVEN_AWAY = 5_000

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


def _atomic(values: int = 0, returns: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Make of ``emit(builder, pointer, *values)`` a function of (array of integers, place, *values)."""

    def enter(emit: Callable[..., Any]) -> Any:
        def typer(typingctx: Any, words: Any, place: Any, *given: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
                data = context.make_array(signature.args[0])(context, builder, given[0]).data
                returned = emit(builder, builder.gep(data, [given[1]]), *given[2:])
                return returned if returns else context.get_dummy_value()

            return (words.dtype if returns else types.void)(words, types.int64, *[words.dtype] * values), codegen

        def two(typingctx, words, place, value, other):
            return typer(typingctx, words, place)

        def one(typingctx, words, place, value):
            return typer(typingctx, words, place)

        def none(typingctx, words, place):
            return typer(typingctx, words, place)

        return intrinsic((none, one, two)[values])

    return enter


def _bytes(word: Any) -> int:
    return int(word.type.pointee.width) // 8


@_atomic(values=1, returns=True)
def add(builder: Any, word: Any, value: Any) -> Any:
    """Add to a word; what it was."""
    return builder.atomic_rmw("add", word, value, "seq_cst")


@_atomic(values=1, returns=True)
def exchange(builder: Any, word: Any, value: Any) -> Any:
    """Write a word; what it was."""
    return builder.atomic_rmw("xchg", word, value, "seq_cst")


@_atomic(values=2, returns=True)
def exchange_if(builder: Any, word: Any, expected: Any, value: Any) -> Any:
    """Write a word if it is what is expected; what it was."""
    return builder.extract_value(builder.cmpxchg(word, expected, value, "seq_cst", "seq_cst"), 0)


@_atomic(returns=True)
def read(builder: Any, word: Any) -> Any:
    """What a word is."""
    return builder.load_atomic(word, "seq_cst", _bytes(word))


@_atomic(values=1)
def write(builder: Any, word: Any, value: Any) -> None:
    """Write a word."""
    builder.store_atomic(value, word, "seq_cst", _bytes(word))


@_atomic()
def pause(builder: Any, word: Any) -> None:
    """Tell the core that this is a waiting loop."""
    instruction = _PAUSE.get(platform.machine(), "")
    builder.call(ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), instruction, "~{memory}", True), [])


@_atomic()
def _give_away(builder: Any, word: Any) -> None:
    """Let others have the core."""
    _give_core_away(builder)


@_atomic(values=1)
def _sleep(builder: Any, word: Any, value: Any) -> None:
    """Sleep while the word has this value, and no longer than ``_SLEEP_NS``."""
    time = ir.Constant(ir.ArrayType(_I64, 2), [0, _SLEEP_NS])
    where = builder.alloca(time.type)
    builder.store(time, where)
    _system(builder, word, _FUTEX_WAIT, value, where)


@_atomic()
def _wake(builder: Any, word: Any) -> None:
    """Wake all that sleep at the word."""
    _system(builder, word, _FUTEX_WAKE, _I32(2**31 - 1), ir.Constant(_I64.as_pointer(), None))


def _system(builder: Any, word: Any, operation: int, value: Any, time: Any) -> None:
    """A futex's operation on a word; without futex, to wait is to give the core away."""
    number = _futex()
    if number is not None:
        nothing = ir.Constant(_I64.as_pointer(), None)
        syscall = external(builder, _SYSCALL, ir.FunctionType(_I64, [_I64], var_arg=True))
        builder.call(syscall, [_I64(number), word, _I32(operation), value, time, nothing, _I32(0)])
    elif operation == _FUTEX_WAIT:
        _give_core_away(builder)


def _give_core_away(builder: Any) -> None:
    builder.call(external(builder, _YIELD, ir.FunctionType(_I32, [])), [])


def external(builder: Any, name: str, kind: Any) -> Any:
    """A function outside of what is compiled, by name."""
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


def _futex() -> int | None:
    return _FUTEX.get((platform.system(), platform.machine()))


def _prepare() -> None:
    """Let compiled code find the system's function for waiting, and LLVM read the instruction of ``pause``."""
    llvm.initialize_native_asmparser()
    if platform.system() == "Windows":
        functions = {_YIELD: ctypes.WinDLL("kernel32").SwitchToThread}  # type: ignore[attr-defined]
    else:
        functions = {_YIELD: ctypes.CDLL(None).sched_yield}
    if _futex() is not None:
        functions[_SYSCALL] = ctypes.CDLL(None).syscall
    for name, function in functions.items():
        llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)


_prepare()


@compiled_in
def begin(words):
    """Make the words ready for a run: the one before may have been stopped with some tasks at the barrier."""
    for word in (ARRIVED, ENDED, STOPPED, FAILED):
        write(words, word, 0)


@compiled_in
def wait(tasks, words):
    """Wait for all tasks; True if the team was told to stop: its function must return then."""
    if tasks > 1:
        passed = read(words, PASSED)
        if add(words, ARRIVED, 1) == tasks - 1:
            write(words, ARRIVED, 0)
            add(words, PASSED, 1)
            _wake_sleepers(words, PASSED)
        turns = words[TURNS]
        while read(words, PASSED) == passed and read(words, STOPPED) == 0:
            turns = _rest(words, PASSED, passed, turns)
    return read(words, STOPPED) != 0


@compiled_in
def end(words):
    """Tell task 0 that a task has ended, whose last act this is."""
    add(words, ENDED, 1)
    _wake_sleepers(words, ENDED)


@compiled_in
def wait_for_end(tasks, words):
    """Wait, as task 0, until all others have ended."""
    turns = words[TURNS]
    ended = read(words, ENDED)
    while ended < tasks - 1:
        turns = _rest(words, ENDED, ended, turns)
        ended = read(words, ENDED)


@compiled_in
def linger(words, place, turns):
    """A turn of a waiting loop that does not sleep: awake for so many that are left, then giving the core away."""
    if turns > 0:
        pause(words, place)
        return turns - 1
    _give_away(words, place)
    return turns


@compiled_in
def _rest(words, place, value, turns):
    """A turn of a waiting loop, of so many that are left; behind the last it sleeps while a word has this value."""
    if turns > 0:
        pause(words, place)
        return turns - 1
    if turns > -_GIVEN_AWAY and words[TURNS] > 0:
        _give_away(words, place)
        return turns - 1
    add(words, SLEEPERS, 1)
    _sleep(words, place, value)
    add(words, SLEEPERS, -1)
    return turns


@compiled_in
def _wake_sleepers(words, place):
    if read(words, SLEEPERS) > 0:
        _wake(words, place)
