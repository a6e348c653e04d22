"""Teams: all tasks run, those that sleep too; whatever goes wrong in one, nobody waits for ever."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from time import sleep

import numpy as np
import pytest
from numba import types

from fastnn.kernels.cpu import jit
from fastnn.kernels.cpu.compiler import store
from fastnn.kernels.cpu.teams import barrier, team
from fastnn.kernels.cpu.teams.barrier import wait

ROUNDS = 300
AHEAD = -1
FLOAT32 = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def unkept(monkeypatch):
    """What the store has is for the sources of kernels, not for these."""
    monkeypatch.setattr(store.Entry, "load", lambda self, name, key: None)
    monkeypatch.setattr(store.Entry, "save", lambda self, name, key, data: None)


def team_kernel(function, *kinds, returns=types.void):
    """A function of arrays of int64 and numbers, run by so many tasks; what task 0 returns."""
    kernel = jit.Kernel(lambda MR, NR: function, lambda dtype: returns(*kinds))
    return lambda arguments, tasks: team.run(kernel.compiled(FLOAT32), tasks, arguments)


def _meet(counts, made, rounds, words, t, tasks):
    for i in range(rounds):
        counts[t] = i + 1
        if wait(tasks, words):
            return
        for other in range(tasks):
            if counts[other] != i + 1:
                made[t] = AHEAD
                return
        if wait(tasks, words):
            return
        made[t] = i + 1


INTEGERS = jit.flat(types.int64)
run_meet = team_kernel(_meet, INTEGERS, INTEGERS, types.int64)


def meet(tasks, rounds=ROUNDS):
    """Rounds that all tasks made together; AHEAD where one passed a barrier before another came to it."""
    counts, made = np.zeros((2, tasks), np.int64)
    run_meet((counts, made, rounds), tasks)
    return made.tolist()


@pytest.fixture
def fresh(monkeypatch):
    """Teams that are made now; afterwards those of before are back."""
    monkeypatch.setattr(team, "_idle", team.defaultdict(team.deque))


@pytest.mark.parametrize("turns", [0, 20, 3000])
@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_nobody_passes_the_barrier_alone(tasks, turns, monkeypatch, fresh):
    """Asleep (no turns of the waiting loop), awake, and between the two."""
    monkeypatch.setattr(team, "AWAKE", turns)
    monkeypatch.setattr(team.threads, "available", lambda: tasks)
    assert meet(tasks) == [ROUNDS] * tasks


@pytest.mark.parametrize("pause", [0.0, 0.0003, 0.02])
@pytest.mark.parametrize("turns", [0, 100, 9000])
def test_jobs_reach_workers_awake_and_asleep(turns, pause, monkeypatch, fresh):
    monkeypatch.setattr(team, "_LINGER", turns)
    monkeypatch.setattr(team.threads, "available", lambda: 3)
    for _ in range(30):
        assert meet(3, 2) == [2] * 3
        sleep(pause)


def _number(first, words, t, tasks):
    return first + t


run_number = team_kernel(_number, types.int64, returns=types.int64)


@pytest.mark.parametrize("tasks", [1, 3])
def test_the_result_is_that_of_task_0(tasks):
    assert run_number((7,), tasks) == 7


def test_words_share_no_cache_line():
    words = sorted(
        (
            barrier.ARRIVED,
            barrier.PASSED,
            barrier.ENDED,
            barrier.SLEEPERS,
            barrier.STOPPED,
            barrier.FAILED,
            barrier.TURNS,
        )
    )
    lines = np.array([*words, barrier.WORDS]) * np.dtype(np.int32).itemsize
    assert (np.diff(lines) >= 128).all()  # Apple's


def test_workers_are_used_again():
    meet(3)
    threads, idle = threading.active_count(), len(team._idle[3])
    for _ in range(20):
        assert meet(3) == [ROUNDS] * 3
    assert (threading.active_count(), len(team._idle[3])) == (threads, idle)


def _stop(counts, made, culprit, words, t, tasks):
    if t == culprit:
        for _ in range(1_000_000):  # the others wait at the barrier by then
            counts[t] += wait(1, words)
        words[barrier.STOPPED] = 1
        return
    wait(tasks, words)
    made[t] = 1


run_stop = team_kernel(_stop, INTEGERS, INTEGERS, types.int64)


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_a_task_that_stops_the_team_ends_the_others(culprit):
    counts, made = np.zeros((2, 3), np.int64)
    run_stop((counts, made, culprit), 3)
    assert made.tolist() == [int(task != culprit) for task in range(3)]
    assert meet(3) == [ROUNDS] * 3


def _fail(culprit, words, t, tasks):
    if t == culprit:
        raise ValueError("none may")
    wait(tasks, words)


run_fail = team_kernel(_fail, types.int64)


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_an_error_in_a_task_ends_the_others_and_is_told(culprit):
    with pytest.raises(SystemError, match="a task of a team has raised an error, and none may"):
        run_fail((culprit,), 3)
    assert meet(3) == [ROUNDS] * 3


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
    """All tasks run to their ends or none begins, and the next run has all its tasks."""
    rng, interrupted = np.random.default_rng(0), 0
    meet(3)
    for _ in range(400):
        counts, made = np.zeros((2, 3), np.int64)
        with suppress(KeyboardInterrupt):
            interrupted += 1
            interrupt_after(rng.uniform(1e-6, 3e-4))
            run_meet((counts, made, 20), 3)
            interrupted -= 1
            sleep(0.001)  # the timer's signal, where it was later than the run
        assert set(made) in ({0}, {20})
        assert len(set(team._idle[3])) == len(team._idle[3])
        assert meet(3, 3) == [3] * 3
    assert interrupted > 20


def test_fewer_tasks_where_no_thread_can_be_started(monkeypatch, fresh):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert meet(4) == [ROUNDS, 0, 0, 0]
    assert list(team._idle[1]) != []


def test_concurrent_callers_have_teams_of_their_own():
    results = []

    def caller():
        results.extend(meet(2) for _ in range(5))

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert results == [[ROUNDS] * 2] * 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_workers_of_its_own():
    program = f"""
import os, runpy
test = runpy.run_path({__file__!r})
assert test["meet"](3) == [300] * 3
child = os.fork()
if child == 0:
    os._exit(0 if test["meet"](3) == [300] * 3 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert test["meet"](3) == [300] * 3
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


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
from fastnn.kernels.cpu.teams import team
team.AWAKE = 0  # who waits gives the core away at once
test = runpy.run_path(os.environ["TEST"])
assert test["meet"](3, 30) == [30] * 3
assert given_away > 0
"""
TRAIN = """
import fastnn
from fastnn import layers, models, utils
from fastnn.kernels.cpu.teams import threads
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
