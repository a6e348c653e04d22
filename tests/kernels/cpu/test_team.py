"""Teams: nobody passes a barrier alone, and whatever goes wrong in one task, nobody waits for ever."""

from __future__ import annotations

import signal
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
    """Whatever an interrupt hits, the next run has all its tasks, and no worker is hired twice."""
    rng, interrupted = np.random.default_rng(0), 0
    for _ in range(400):
        with suppress(KeyboardInterrupt):
            interrupted += 1
            interrupt_after(rng.uniform(1e-6, 3e-4))
            team.run(meet, (np.zeros(3, np.int64), 20), 3)
            interrupted -= 1
            sleep(0.001)  # the timer's signal, where it was later than the run
        assert len(set(team._idle)) == len(team._idle)
        assert team.run(meet, (np.zeros(3, np.int64), 3), 3) == 3
    assert interrupted > 20


def test_an_interrupt_while_the_caller_waits_for_the_others(interrupt_after):
    """The caller's arrays are in use until the last task has ended."""
    ended = []

    def task(words, t, tasks):
        if t == 0:
            interrupt_after(0.05)
        else:
            sleep(0.2)
            ended.append(t)

    with pytest.raises(KeyboardInterrupt):
        team.run(task, (), 2)
    assert ended == [1]


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
