"""One side of the performance gate: a process that times lines of the fastnn that it imports, when it is told to.

``python -P -m ci.contender FD [SLOWED ...]`` answers what ``sides.Side`` asks over the pipe FD. Which fastnn it
imports, the tree's or the baseline's, is for PYTHONPATH to say; the lines are always those of the tree's ``bench``.
The ops named by SLOWED, and "epoch", take a third longer than they do.

A line on one thread is timed by the CPU's time, which a busy neighbour hardly changes; one on more threads by the
clock, since what is gained there is time. The first kind runs on one CPU, the same for both sides: CPUs of a virtual
machine differ by a third where a neighbour sits behind one of them, and each side's process would stay on its own.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import numpy as np

from bench import placing, suite, timing
from bench.suite import Case

# Calls of a reading are as many as take this long, readings of a block as many as fill it.
_READING_SECONDS = 2e-4
_BLOCK_SECONDS = 6e-3
# A call that takes longer brings its operands to the caches by itself.
_WARMED_SECONDS = 5e-3

# Modules of bench, and what to ask them for.
_SUITES: dict[str, dict[str, Any]] = {"kernels": {}, "training": {"quick": True}}
# The CPUs that this process may run on; none where the system does not say.
_CPUS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
# Lines on real data need files.
_REAL = "real rows"


class Contender:
    """The lines of this process's fastnn, one of which is measured at a time."""

    def __init__(self) -> None:
        suite.leave_out(*(name for name in suite.CONTENDERS if name != suite.FASTNN))
        self._failed: dict[str, str] = {}
        self._run: Callable[[], Any] = lambda: None
        self._threads = self._calls = self._readings = 1
        self._seconds = 0.0

    @cached_property
    def _cases(self) -> dict[str, Case]:
        found: dict[str, Case] = {}
        for name, options in _SUITES.items():
            try:
                cases = importlib.import_module(f"bench.{name}").cases(**options)
            except Exception as error:  # an older fastnn may lack anything
                self._failed[name] = suite.in_a_line(error)
            else:
                found |= {case.name: case for case in cases if not case.skip and _REAL not in case.name}
        return found

    def files(self) -> list[str]:
        """Where fastnn and its kernels are imported from."""
        import fastnn
        import fastnn.kernels

        return [str(fastnn.__file__), str(fastnn.kernels.__file__)]

    def lines(self) -> tuple[list[str], dict[str, str]]:
        """The names of the lines, and by suite why it has none."""
        return [*self._cases], self._failed

    def compile(self) -> None:
        """Compile ahead what lines would compile when they are taken."""
        import fastnn

        fastnn.warmup(["float32"])

    def take(self, name: str, threads: int, place: int) -> float:
        """Make a line's operands, which begin as ``placing.spread`` says, and call it; seconds a call."""
        import fastnn

        self._run, self._threads = lambda: None, threads
        _settle_on(_CPUS if threads > 1 else _CPUS[place % max(len(_CPUS), 1) :][:1])
        fastnn.set_num_threads(threads)
        timing.count_cpu_time(threads == 1)
        with placing.spread(place):
            self._run = self._cases[name].make().contenders[suite.FASTNN].run
        self._run()  # compiles
        self._seconds = self._timed(1)
        if self._seconds < _WARMED_SECONDS:
            self._seconds = min(self._seconds, self._timed(1))
        self._calls = max(1, int(_READING_SECONDS / self._seconds))
        self._readings = max(1, int(_BLOCK_SECONDS / (self._calls * self._seconds)))
        return self._seconds

    def block(self) -> float:
        """Seconds a call: the lower quartile of a block's readings, since what disturbs one makes it longer."""
        self._settle()
        if self._seconds < _WARMED_SECONDS:
            self._run()
        readings = sorted(self._timed(self._calls) for _ in range(self._readings))
        self._settle()
        return readings[len(readings) // 4]

    def _settle(self) -> None:
        """No thread of ours may spin while we measure, nor while the other side does."""
        if self._threads > 1:
            timing.settle()

    def _timed(self, calls: int) -> float:
        start = timing.clock()
        for _ in range(calls):
            self._run()
        return (timing.clock() - start) / calls


def _settle_on(cpus: Sequence[int]) -> None:
    """Run on these CPUs only; anywhere where the system has no say in it."""
    if cpus:
        os.sched_setaffinity(0, cpus)


class OwnFastnn(MetaPathFinder):
    """Finds the modules of the package ``fastnn`` in its own folder only.

    An editable installation would find those that an older fastnn lacks in the tree, and mix the two.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec; ModuleNotFoundError if the folder does not have it, None for other packages."""
        if fullname.partition(".")[0] != "fastnn":
            return None
        if found := PathFinder.find_spec(fullname, path, target):
            return found
        raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def slow(name: str) -> None:
    """Make an op of the CPU, or with "epoch" every epoch that is trained there, take a third longer."""
    if name == "epoch":
        from fastnn.engine.cpu import FusedRunner
        from fastnn.engine.layerwise import LayerwiseRunner

        for runner in (FusedRunner, LayerwiseRunner):
            _slow(runner, "train_epoch", _small_product())
        return
    from fastnn.kernels.table import TABLE

    _slow(importlib.import_module(f"fastnn.kernels.cpu.{TABLE[name].module}"), name, _small_product())


@cache
def _small_product() -> Callable[[], Any]:
    """What keeps the CPU busy meanwhile: 12 KiB of a product's operands, which leave the caches to the op.

    And the vector units at work: on an Ice Lake, the product 512x512x512 takes 2.1 ms behind another product, but
    2.4 ms behind 0.7 ms of anything else.
    """
    from fastnn.kernels.cpu import gemm

    a, b, c = (np.ones((32, 32), np.float32) for _ in range(3))
    return partial(gemm.matmul.plan(a, b, out=c), a, b, out=c)


def _slow(owner: Any, name: str, busy: Callable[[], Any]) -> None:
    function = getattr(owner, name)

    def slowed(run: Callable[..., Any]) -> Callable[..., Any]:
        def longer(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            result = run(*args, **kwargs)
            end = time.process_time() + (time.process_time() - start) / 3
            while time.process_time() < end:
                busy()
            return result

        return longer

    if hasattr(function, "plan"):  # it goes on planning its calls once: what then runs is slowed
        plan = function.plan
        function.plan = lambda *args, **kwargs: slowed(plan(*args, **kwargs))
    else:
        setattr(owner, name, slowed(function))


def serve(connection: Connection, contender: Contender) -> None:
    """Answer (method, arguments) with (result, None) or (None, what went wrong), and our CPU time, until it closes."""
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        answer: tuple[Any, str | None]
        try:
            answer = (getattr(contender, method)(*arguments), None)
        except Exception as error:  # told to the gate, which knows what to make of it
            answer = (None, suite.in_a_line(error))
        connection.send((*answer, time.process_time()))


def main(arguments: Sequence[str]) -> None:
    """Serve the pipe that the first argument names, the ops slowed that the others name."""
    connection, *slowed = arguments
    sys.meta_path.insert(0, OwnFastnn())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the gate is interrupted, and closes the pipe
    for name in slowed:
        slow(name)
    serve(Connection(int(connection)), Contender())


if __name__ == "__main__":
    main(sys.argv[1:])
