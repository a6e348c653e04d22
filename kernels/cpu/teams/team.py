"""Teams: threads that run one compiled function together and wait for one another inside it.

A parallel loop of Numba's starts and ends with the other threads' help; a function that has many of them is compiled
twice over and cannot choose how its threads wait. A team's function is compiled once, as it would be for one thread: it
is told which task of how many it is, takes its share of the work, and calls ``barrier.wait`` where it needs what the
others have made. It raises nothing.

The caller is task 0. The other threads never come back to Python: each waits in compiled code for a job, the address
of a function and of its arguments, awake for a moment, for the next step of a training loop is soon there, then asleep.
So a job costs neither Python's lock nor, in such a loop, the waking of a thread, which takes longer than a small step.
A team belongs to nobody between two runs, so that concurrent callers each have one of their own, and a forked child
makes itself new ones.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.cpu._arrays import aligned
from fastnn.kernels.cpu.compiler.compiling import compile_now
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.teams import threads
from fastnn.kernels.cpu.teams.barrier import (
    AWAKE,
    FAILED,
    NOTING,
    STOPPED,
    TURNS,
    WORDS,
    begin,
    end,
    exchange,
    exchange_if,
    external,
    pause,
    read,
    wait_for_end,
    write,
)

# ---------------------------------------------------------------------------------------------------------------- jobs

# What a worker and its team share, in two cache lines of int64: the worker's state, the turns of its waiting loop
# before it sleeps, the lock at which it does, and of a job the function, the record of its arguments, the task.
STATE, _AWAKE, _LOCK, FUNCTION, RECORD, TASK = range(6)
RING = 16

# A worker's states; one that is another library's thread is told to leave as well.
WAITING, _ASLEEP, CALLED, LEAVING = range(4)

# Python's own locks, which need no Python: on every system there is one that a thread can sleep at.
_ACQUIRE, _RELEASE = "fastnn.acquire", "fastnn.release"
_API = ctypes.pythonapi
_API.PyThread_allocate_lock.restype = ctypes.c_void_p
_API.PyThread_acquire_lock.argtypes = (ctypes.c_void_p, ctypes.c_int)
for _name, _function in ((_ACQUIRE, _API.PyThread_acquire_lock), (_RELEASE, _API.PyThread_release_lock)):
    llvm.add_symbol(_name, ctypes.cast(_function, ctypes.c_void_p).value)

WORDS_TYPE, RINGS_TYPE = types.Array(types.int32, 1, "C"), types.Array(types.int64, 1, "C")

_I32, _I64, _POINTER = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
_JOB = ir.FunctionType(ir.VoidType(), [_POINTER, _I64])
_NOTED = ir.FunctionType(_I64, [_POINTER, _POINTER, _I64, _I64])


def as_intrinsic(typer: Callable[..., Any]) -> Any:
    """Numba's decorator, whose own type tells type checkers of arguments that callers do not give."""
    return intrinsic(typer)


@as_intrinsic
def _acquire(typingctx, lock):
    """Sleep until somebody releases a lock."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        function = external(builder, _ACQUIRE, ir.FunctionType(_I32, [_POINTER, _I32]))
        builder.call(function, [builder.inttoptr(given[0], _POINTER), _I32(1)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@as_intrinsic
def _release(typingctx, lock):
    """Wake who sleeps at a lock."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        function = external(builder, _RELEASE, ir.FunctionType(ir.VoidType(), [_POINTER]))
        builder.call(function, [builder.inttoptr(given[0], _POINTER)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@as_intrinsic
def do(typingctx, function, record, task):
    """Call a job's function, known by its address."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        function = builder.inttoptr(given[0], _JOB.as_pointer())
        builder.call(function, [builder.inttoptr(given[1], _POINTER), given[2]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _signature(typingctx: Any, function: Any, given: Sequence[Any]) -> Any:
    """That of a part called with these types."""
    return function.get_call_type(typingctx, tuple(given), {})


def _call(context: Any, builder: Any, function: Any, kinds: Sequence[Any], values: Sequence[Any]) -> Any:
    """Emit the call of a part: whether it raised, what it returned."""
    signature = _signature(context.typing_context, function, kinds)
    compiled = function.dispatcher.get_compile_result(signature)
    context.add_linking_libs([compiled.library])
    status, result = context.call_internal_no_propagate(builder, compiled.fndesc, signature, values)
    return status.is_error, result


def _share(context: Any, builder: Any, function: Any, arguments: Any, words: Any) -> Any:
    """What takes a task's share, ``function(*arguments, words, task, tasks)``; where that raises, the team stops.

    It is emitted once in what is compiled, takes the first two by address, and returns what the function does.
    """
    name = f"{builder.function.name}.share"
    if name not in builder.module.globals:
        kinds = [*arguments, words, types.int64, types.int64]
        result = _signature(context.typing_context, function, kinds).return_type
        kind = ir.FunctionType(context.get_value_type(result), [_POINTER, _POINTER, _I64, _I64])
        share = ir.Function(builder.module, kind, name)
        share.linkage = "internal"
        inner = ir.IRBuilder(share.append_basic_block())
        held, shared = (
            inner.load(inner.bitcast(pointer, context.get_value_type(kind).as_pointer()))
            for pointer, kind in zip(share.args, (arguments, words), strict=False)
        )
        each = [inner.extract_value(held, place) for place in range(len(arguments))]
        failed, returned = _call(context, inner, function, kinds, [*each, shared, *share.args[2:]])
        data = context.make_array(words)(context, inner, shared).data
        with inner.if_then(failed, likely=False):
            for word in (FAILED, STOPPED):
                inner.store_atomic(_I32(1), inner.gep(data, [_I32(word)]), "seq_cst", 4)
        inner.ret(returned)
    return builder.module.globals[name]


def _result(typingctx: Any, function: Any, arguments: Any, words: Any) -> Any:
    """Type of what a function of ``(*arguments, words, task, tasks)`` returns."""
    return _signature(typingctx, function, [*arguments, words, types.int64, types.int64]).return_type


@as_intrinsic
def _take_share(typingctx, function, arguments, words, task, tasks):
    """``function(*arguments, words, task, tasks)``."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        share = _share(context, builder, function, arguments, words)
        kept = [builder.bitcast(cgutils.alloca_once_value(builder, value), _POINTER) for value in given[1:3]]
        return builder.call(share, [*kept, *given[3:]])

    result = _result(typingctx, function, arguments, words)
    return result(function, arguments, words, types.int64, types.int64), codegen


def _job(builder: Any, kept: Sequence[Any], emit: Callable[..., Any]) -> list[Any]:
    """Make a job of ``emit(builder, pointers to what is kept, task)``: addresses of what to call, and of its record.

    The latter is a variable of the caller's.
    """
    kind = ir.LiteralStructType([value.type for value in kept])
    record = cgutils.alloca_once(builder, kind)
    for place, value in enumerate(kept):
        builder.store(value, builder.gep(record, [_I32(0), _I32(place)]))
    job = ir.Function(builder.module, _JOB, f"{builder.function.name}.job")
    job.linkage = "internal"
    inner = ir.IRBuilder(job.append_basic_block())
    source = inner.bitcast(job.args[0], kind.as_pointer())
    emit(inner, [inner.gep(source, [_I32(0), _I32(place)]) for place in range(len(kept))], job.args[1])
    inner.ret_void()
    return [builder.ptrtoint(pointer, _I64) for pointer in (job, record)]


@as_intrinsic
def as_job(typingctx, function, arguments, words, tasks):
    """``function(arguments, words, task, tasks)`` for any task, as a job."""
    kinds = [arguments, words, types.int64, types.int64]
    _signature(typingctx, function, kinds)

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        def emit(inner: Any, kept: Sequence[Any], task: Any) -> None:
            arguments, words, tasks = map(inner.load, kept)
            _call(context, inner, function, kinds, [arguments, words, task, tasks])

        return context.make_tuple(builder, signature.return_type, _job(builder, given[1:], emit))

    return types.UniTuple(types.int64, 2)(function, arguments, words, types.int64), codegen


@as_intrinsic
def _share_as_job(typingctx, function, arguments, words, tasks):
    """``function(*arguments, words, task, tasks)`` for any task but 0, as a job; task 0 hears of its end."""
    _result(typingctx, function, arguments, words)
    last = typingctx.resolve_value_type(end)
    _signature(typingctx, last, [words])

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        share = _share(context, builder, function, arguments, words)

        def emit(inner: Any, kept: Sequence[Any], task: Any) -> None:
            pointers = [inner.bitcast(pointer, _POINTER) for pointer in kept[:2]]
            inner.call(share, [*pointers, task, inner.load(kept[2])])
            _call(context, inner, last, [words], [inner.load(kept[1])])

        return context.make_tuple(builder, signature.return_type, _job(builder, given[1:], emit))

    return types.UniTuple(types.int64, 2)(function, arguments, words, types.int64), codegen


@as_intrinsic
def _note(typingctx, function, arguments, words, into):
    """Note a call of ``function(*arguments, words, task, tasks)``: its address, the bytes of its arguments, and these.

    In place of the call's result comes one of zeros. What is noted returns 1 where the function says False, else 0.
    """
    result = _result(typingctx, function, arguments, words)

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        share, record = _share(context, builder, function, arguments, words), given[1]
        noted = ir.Function(builder.module, _NOTED, f"{builder.function.name}.noted")
        noted.linkage = "internal"
        inner = ir.IRBuilder(noted.append_basic_block())
        said = inner.call(share, noted.args)
        inner.ret(inner.zext(inner.not_(said), _I64) if result == types.boolean else _I64(0))
        data = context.make_array(signature.args[3])(context, builder, given[3]).data
        builder.store(builder.ptrtoint(noted, _I64), data)
        builder.store(_I64(context.get_abi_sizeof(record.type)), builder.gep(data, [_I64(1)]))
        builder.store(record, builder.bitcast(builder.gep(data, [_I64(2)]), record.type.as_pointer()))
        return context.get_constant_null(result)

    return result(function, arguments, words, into), codegen


@as_intrinsic
def run_noted(typingctx, slots, first, words, task, tasks):
    """A task's share of a call that was noted: its function stands in ``slots`` at ``first``, behind it its arguments.

    True where the function says that these are not right. The team is the caller's, whose ``words`` it waits by.
    """

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, given[0]).data
        function = builder.inttoptr(builder.load(builder.gep(data, [given[1]])), _NOTED.as_pointer())
        record = builder.gep(data, [builder.add(given[1], _I64(1))])
        shared = cgutils.alloca_once_value(builder, given[2])
        pointers = [builder.bitcast(each, _POINTER) for each in (record, shared)]
        wrong = builder.call(function, [*pointers, *given[3:]])
        return builder.trunc(wrong, ir.IntType(1))

    return types.boolean(slots, types.int64, words, types.int64, types.int64), codegen


@compiled_in
def _give(rings, ring, function, record, task):
    """Give a worker, whose ring begins there, a job."""
    rings[ring + FUNCTION], rings[ring + RECORD], rings[ring + TASK] = function, record, task
    if exchange(rings, ring + STATE, CALLED) == _ASLEEP:
        _release(rings[ring + _LOCK])


@compiled_in
def _hire(rings, function, record):
    """Give a job to the worker of each ring."""
    for place in range(rings.size // RING):
        _give(rings, place * RING, function, record, place + 1)


# What runs a team's function, as its task 0: of so many arguments, for Numba compiles none of any number for Python to
# call; and in one piece, for each function that is compiled takes its time, as do the parts of all kernels.
_LEAD = """
def {name}(words, rings, {arguments}):
    if read(words, NOTING) != 0:
        return note(part, ({arguments},), words, rings)
    tasks = 1 + rings.size // RING
    begin(words)
    if tasks > 1:
        job, record = share_as_job(part, ({arguments},), words, tasks)
        hire(rings, job, record)
    result = take_share(part, ({arguments},), words, 0, tasks)
    wait_for_end(tasks, words)
    if read(words, FAILED) != 0:
        raise SystemError("a task of a team has raised an error, and none may")
    return result
"""
_USED = {
    "NOTING": NOTING,
    "FAILED": FAILED,
    "RING": RING,
    "begin": begin,
    "hire": _hire,
    "note": _note,
    "read": read,
    "share_as_job": _share_as_job,
    "take_share": _take_share,
    "wait_for_end": wait_for_end,
    "__name__": __name__,
}


def led(signature: Any, function: Callable[..., Any]) -> tuple[Any, Callable[..., Any]]:
    """What runs a team's function, as its task 0: ``lead(words, rings, *arguments)``, and the signature of that.

    ``function(*arguments, words, task, tasks)`` has the ``signature`` of its own arguments and result.
    """
    name, made = _symbol(function), {**_USED, "part": compiled_in(function)}
    arguments = ", ".join(f"a{place}" for place in range(len(signature.args)))
    exec(_LEAD.format(name=name, arguments=arguments), made)
    return signature.return_type(WORDS_TYPE, RINGS_TYPE, *signature.args), made[name]


def _symbol(function: Callable[..., Any]) -> str:
    """A name that no other kernel has.

    Machine code is found by the name of its function, the types of its arguments, and a count of what its process has
    compiled: of two kernels of one name and like arguments, which two processes have compiled and a third one loads
    from the store, the second would be the first.
    """
    return re.sub(r"\W+", "_", f"{function.__module__}.{function.__qualname__}")


# ------------------------------------------------------------------------------------------------------------- workers

# Turns of its waiting loop before a worker without a job sleeps: some 300 us. Then the caller does other things.
_LINGER = 3 * AWAKE


def _serve(ring):
    """A worker's life."""
    turns = ring[_AWAKE]
    while True:
        if read(ring, STATE) == CALLED:
            write(ring, STATE, WAITING)
            do(ring[FUNCTION], ring[RECORD], ring[TASK])
            turns = ring[_AWAKE]
        elif turns > 0:
            turns -= 1
            pause(ring, STATE)
        elif exchange_if(ring, STATE, WAITING, _ASLEEP) == WAITING:
            _acquire(ring[_LOCK])


@cache
def server() -> Any:
    """``_serve``, compiled."""
    return compile_now(types.void(RINGS_TYPE), _serve)


class Team:
    """So many tasks, or fewer where the system lets no more threads start: their memory and the threads."""

    def __init__(self, tasks: int) -> None:
        crowded = tasks > 1 and tasks > threads.available()  # who waits then keeps others from what they wait for
        self.words, rings = aligned((WORDS,), np.int32), aligned((tasks - 1, RING), np.int64)
        self.words[:], rings[:] = 0, 0
        self.words[TURNS], rings[:, _AWAKE] = (0, 0) if crowded else (AWAKE, _LINGER)
        self.tasks = 1
        try:
            for ring in rings:
                ring[_LOCK] = _locked()
                threading.Thread(target=server(), args=(ring,), name="fastnn", daemon=True).start()
                self.tasks += 1
        except RuntimeError:  # threads are used up
            pass
        self.rings = rings[: self.tasks - 1].reshape(-1)


def _locked() -> int:
    lock = _API.PyThread_allocate_lock()
    if not lock or not _API.PyThread_acquire_lock(lock, 0):
        raise RuntimeError("locks are used up")
    return int(lock)


# Teams that do nothing now, by the number of tasks.
_idle: defaultdict[int, deque[Team]] = defaultdict(deque)

# Words by which a call is noted, in place of the rings behind them.
_noting = np.zeros(WORDS, np.int32)
_noting[NOTING] = 1

# Numbers that there is room for in a note.
_MOST_NOTED = 4096


def noted(lead: Callable[..., Any], arguments: Sequence[Any]) -> list[int]:
    """What ``run_noted`` takes to run a team's function on ``arguments``, which have to be kept alive for it."""
    into = np.zeros(_MOST_NOTED, np.int64)
    lead(_noting, into, *arguments)
    function, size, *record = into.tolist()
    return [function, *record[: -(-size // into.itemsize)]]


# Words and rings of a task without others, for functions that stop no team: any number of callers may use them at once.
_alone = Team(1)
ALONE = _alone.words, _alone.rings


class _Here(threading.local):
    """Of a Python thread: who lends it teams of other threads than ours, as ``openmp.Lender`` does."""

    lender: Any = None


here = _Here()


def run(lead: Callable[..., Any], tasks: int, arguments: Sequence[Any]) -> Any:
    """Run a team's function on ``arguments``, by so many tasks, or fewer where threads cannot be started.

    Returns what task 0 does.
    """
    if tasks > 1 and here.lender is not None:
        return lead(*here.lender.team(tasks), *arguments)
    try:
        team = _idle[tasks].pop()
    except IndexError:
        team = Team(tasks)
    try:
        return lead(team.words, team.rings, *arguments)
    finally:
        _idle[team.tasks].append(team)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a child has none of its parent's threads
