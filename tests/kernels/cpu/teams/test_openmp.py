"""Kernels on the threads of GNU's OpenMP: the same bits, and everything left as it was."""

from __future__ import annotations

import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastnn import get_num_threads, ops, set_num_threads
from fastnn.kernels.cpu.teams import team

NAME = "libgomp.so.1"


@pytest.fixture(scope="module")
def openmp():
    try:
        ctypes.CDLL(NAME)
    except OSError:
        pytest.skip("GNU's OpenMP is not installed")
    from fastnn.kernels.cpu.teams import openmp

    return openmp


@pytest.fixture(autouse=True)
def _four_threads():
    before = get_num_threads()
    set_num_threads(4)
    yield
    set_num_threads(before)


A, B = (np.random.default_rng(seed).standard_normal((300, 400), dtype=np.float32) for seed in range(2))


def test_the_bits_are_those_of_a_team_of_ours(openmp):
    wanted = ops.matmul(A, B.T)
    for threads in (1, 2, 3, 4, 2):
        lender = openmp.Lender(NAME, lambda threads=threads: threads)
        for _ in range(3):
            with lender:
                assert np.array_equal(ops.matmul(A, B.T), wanted)
                assert np.array_equal(ops.tanh(A), ops.tanh(A.copy()))
                assert np.array_equal(ops.matmul(A, B.T), wanted)


def test_teams_are_of_as_many_as_are_wanted_and_have_come(openmp):
    lender = openmp.Lender(NAME, lambda: 3)
    with lender:
        for tasks in (2, 3, 4):
            _, rings = lender.team(tasks)
            assert 1 + rings.size // team.RING == min(tasks, 3)
        first = lender._now
    with lender:
        lender.team(2)
        assert lender._now is first


def test_no_thread_of_ours_is_started(openmp, monkeypatch):
    monkeypatch.setattr(team, "Team", None)
    monkeypatch.setattr(team, "_idle", None)
    before = threading.active_count()
    with openmp.Lender(NAME, lambda: 2):
        ops.matmul(A, B.T)
    assert threading.active_count() == before


def test_it_ends_with_the_block(openmp):
    lender = openmp.Lender(NAME, lambda: 2)

    def fails():
        with lender:
            ops.matmul(A, B.T)
            assert team.here.lender is lender
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fails()
    assert team.here.lender is None
    assert lender._now is None


def test_each_thread_has_its_own(openmp):
    wanted = ops.matmul(A, B.T)

    def run(_):
        lender = openmp.Lender(NAME, lambda: 2)
        results = []
        for _ in range(20):
            with lender:
                results.append(np.array_equal(ops.matmul(A, B.T), wanted))
        return all(results)

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(run, range(6)))


def test_what_is_not_loaded_is_refused(openmp):
    with pytest.raises(OSError, match="libgomp-nowhere"):
        openmp.Lender("libgomp-nowhere.so.1", lambda: 2)
