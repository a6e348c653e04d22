"""Teams: nobody passes a barrier alone, and whatever goes wrong in one task, nobody waits for ever."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from time import sleep

import numba
import numpy as np
import pytest
from numba import types

from fastnn.kernels.cpu import team

ROUNDS = 300
AHEAD = -1


@numba.njit(
    [types.int64(types.int64[::1], types.int64, types.int32[::1], types.int64, types.int64)], nogil=True, cache=False
)
def meet(counts, rounds, words, t, tasks):
    """Rounds that all tasks made together; AHEAD if one passed a barrier before another came to it."""
    for i in range(rounds):
        counts[t] = i + 1
        if team.wait(tasks, words):
            return i
        for other in range(tasks):
            if counts[other] != i + 1:
                return AHEAD
        if team.wait(tasks, words):
            return i
    return rounds


@pytest.mark.parametrize("turns", [0, 20, 3000])
@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_nobody_passes_the_barrier_alone(tasks, turns, monkeypatch):
    """Asleep (no turns of the waiting loop), awake, and between the two."""
    monkeypatch.setattr(team, "_TURNS", turns)
    monkeypatch.setattr(team.threads, "available", lambda: tasks)
    made = []

    def task(counts, rounds, words, t, tasks):
        made.append(meet(counts, rounds, words, t, tasks))
        return t

    assert team.run(task, (np.zeros(tasks, np.int64), ROUNDS), tasks) == 0
    assert made == [ROUNDS] * tasks


def test_words_share_no_cache_line():
    words = sorted((team.ARRIVED, team.PASSED, team.SLEEPERS, team.STOPPED, team.TURNS))
    lines = np.array([*words, team.WORDS]) * np.dtype(np.int32).itemsize
    assert (np.diff(lines) >= 128).all()  # Apple's


def test_workers_are_used_again():
    def task(words, t, tasks):
        names.add(threading.current_thread().ident)

    for _ in range(20):
        names = set()
        team.run(task, (), 3)
        assert len(names) == 3
    idle = len(team._idle)
    team.run(task, (), 3)
    assert len(team._idle) == idle


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_an_error_in_one_task_ends_the_others_and_reaches_the_caller(culprit):
    left = []

    def task(counts, rounds, words, t, tasks):
        if t == culprit:
            sleep(0.02)  # the others wait at the barrier by then
            raise MemoryError("none left")
        left.append(meet(counts, rounds, words, t, tasks))

    with pytest.raises(MemoryError, match="none left"):
        team.run(task, (np.zeros(3, np.int64), ROUNDS), 3)
    assert left == [0, 0]
    assert team.run(lambda words, t, tasks: t, (), 3) == 0


@pytest.fixture
def interrupt_after():
    """Interrupt the main thread in so many seconds, as Control-C does; a process in the background ignores SIGINT."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("this system has no interval timers")

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_interrupts_at_any_time(interrupt_after):
    """All tasks run to their ends or none begins; the next run has all its tasks, and no worker is hired twice."""
    rng, interrupted = np.random.default_rng(0), 0
    for _ in range(400):
        counts = np.zeros(3, np.int64)
        with suppress(KeyboardInterrupt):
            interrupted += 1
            interrupt_after(rng.uniform(1e-6, 3e-4))
            team.run(meet, (counts, 20), 3)
            interrupted -= 1
            sleep(0.001)  # the timer's signal, where it was later than the run
        assert set(counts) in ({0}, {20})
        assert len(set(team._idle)) == len(team._idle)
        assert team.run(meet, (np.zeros(3, np.int64), 3), 3) == 3
    assert interrupted > 20


def test_an_interrupt_while_the_caller_waits_for_the_others(interrupt_after):
    """The caller's arrays are in use until the last task has ended, and nobody tells it to stop."""
    ended = []

    def task(words, t, tasks):
        if t == 0:
            interrupt_after(0.05)
        else:
            sleep(0.2)
            ended.append((t, int(words[team.STOPPED])))

    with pytest.raises(KeyboardInterrupt):
        team.run(task, (), 2)
    assert ended == [(1, 0)]


def test_fewer_tasks_where_no_thread_can_be_started(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(team, "_idle", deque())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert team.run(meet, (np.zeros(4, np.int64), ROUNDS), 4) == ROUNDS


def test_concurrent_callers_have_teams_of_their_own():
    results = []

    def caller():
        results.extend(team.run(meet, (np.zeros(2, np.int64), ROUNDS), 2) for _ in range(5))

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert results == [ROUNDS] * 20


# A process that takes itself for one of another system: it has the functions of that system's library, and no others.
FOREIGN = """
import ctypes, os, platform, sys
import numba, numpy as np
from types import SimpleNamespace
SYSTEM, MACHINE = sys.argv[1:]
given_away = 0
@ctypes.CFUNCTYPE(ctypes.c_int)
def give_away():
    global given_away
    given_away += 1
    return os.sched_yield() is None
libraries = {
    "Windows": lambda name: {"kernel32": SimpleNamespace(SwitchToThread=give_away)}[name],
    "Darwin": lambda name: {None: SimpleNamespace(sched_yield=give_away)}[name],
    "Linux": lambda name: {None: SimpleNamespace(sched_yield=give_away, syscall=None)}[name],
}
ctypes.CDLL = ctypes.WinDLL = libraries[SYSTEM]
if SYSTEM == "Windows":
    ctypes.CDLL = None
platform.system, platform.machine = lambda: SYSTEM, lambda: MACHINE
"""
BARRIER = """
import runpy
from fastnn.kernels.cpu import team
test = runpy.run_path(os.environ["TEST"])
made = []
def task(counts, words, t, tasks):
    made.append(test["meet"](counts, 30, words, t, tasks))
team._TURNS = 0  # who waits gives the core away at once
team.run(task, (np.zeros(3, np.int64),), 3)
assert made == [30] * 3, made
assert given_away > 0
"""
TRAIN = """
import fastnn
from fastnn import layers, models, utils
from fastnn.kernels.cpu import threads
threads.SERIAL_BELOW_NS = 0.0
rng = np.random.default_rng(0)
x, y = rng.standard_normal((300, 40)).astype("f"), rng.integers(0, 10, 300)
weights = []
for count in (1, 3):
    utils.set_random_seed(0)
    model = models.Sequential([layers.Dense(64, "relu", input_shape=(40,)), layers.Dense(10, "softmax")])
    model.compile("rmsprop", "sparse_categorical_crossentropy", backend="cpu")
    model.fit(x, y, batch_size=50, epochs=3, verbose=0, threads=count)
    weights.append(model.get_weights())
assert all(map(np.array_equal, *weights))
assert given_away > 0
"""
# This CPU as Windows and macOS call it, and one whose number of futex is not known.
ARM = platform.machine() in ("aarch64", "arm64", "ARM64")
SYSTEMS = [("Windows", "ARM64" if ARM else "AMD64"), ("Darwin", "arm64" if ARM else "x86_64"), ("Linux", "riscv64")]


def foreign(program, system, machine, folder):
    """Run a program as on another system; what it compiles is of no use elsewhere."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "TEST": __file__}
    command = [sys.executable, "-c", FOREIGN + program, system, machine]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(("system", "machine"), SYSTEMS)
def test_who_waits_gives_the_core_away_where_there_is_no_futex(system, machine, tmp_path):
    foreign(BARRIER, system, machine, tmp_path)


@pytest.mark.slow
def test_training_without_futex_gives_the_same_bits(tmp_path):
    foreign(TRAIN, *SYSTEMS[0], tmp_path)
