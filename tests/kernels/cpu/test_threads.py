"""Threads: how many, and callers that fork or call from several threads at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import fastnn
from fastnn.kernels.cpu import threads

PREAMBLE = """
import os, sys, threading
import numpy as np
import fastnn
from fastnn import ops
fastnn.set_num_threads(2)
rng = np.random.default_rng(0)
a, b = rng.standard_normal((256, 256)), rng.standard_normal((256, 256))
expected = a @ b
def work():
    assert np.allclose(ops.matmul(a, b), expected)
    assert np.allclose(ops.tanh(a), np.tanh(a))
"""
FORK = """
work()
for _ in range(3):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
work()
"""
CALLERS = """
work()
failures = []
def caller():
    try:
        for _ in range(50):
            work()
    except BaseException as error:
        failures.append(error)
callers = [threading.Thread(target=caller) for _ in range(4)]
[c.start() for c in callers]
[c.join() for c in callers]
assert not failures, failures
"""
LAYERS = ("omp", "workqueue", "tbb")


def run(program, layer):
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + program], env=environment, capture_output=True, text=True, check=False
    )


def installed(layer):
    """Whether Numba has this threading layer here."""
    done = run("work()", layer)
    return done.returncode == 0 or "threading layer" not in done.stderr.lower()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("program", [FORK, CALLERS], ids=["fork", "callers"])
def test_forked_and_concurrent_callers(program, layer):
    if program == FORK and not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    if not installed(layer):
        pytest.skip(f"Numba's threading layer {layer} is not installed")
    done = run(program, layer)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setitem(threads._state, "threads", 0)


def test_environment_variable(fresh, monkeypatch):
    monkeypatch.setenv("FASTNN_NUM_THREADS", "3")
    assert fastnn.get_num_threads() == 3


@pytest.mark.parametrize("value", ["0", "-1", "two", ""])
def test_bad_environment_variable(fresh, monkeypatch, value):
    monkeypatch.setenv("FASTNN_NUM_THREADS", value)
    with pytest.raises(ValueError, match=r"FASTNN_NUM_THREADS: got .*, wants an integer of at least 1"):
        fastnn.get_num_threads()


def test_default_respects_affinity_and_quota(fresh, monkeypatch):
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_cgroup_cpus", lambda: 1)
    assert fastnn.get_num_threads() == 1
    monkeypatch.setitem(threads._state, "threads", 0)
    monkeypatch.setattr(threads, "_cgroup_cpus", lambda: 64)
    if hasattr(os, "sched_getaffinity"):
        assert fastnn.get_num_threads() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-2, ValueError), (1.5, TypeError), ("2", TypeError)])
def test_bad_number_of_threads(value, error):
    with pytest.raises(error, match=r"threads: got .* wants an integer of at least 1"):
        fastnn.set_num_threads(value)


def test_small_work_stays_serial(monkeypatch):
    monkeypatch.setitem(threads._state, "threads", 4)
    assert threads.count(threads.SERIAL_BELOW_NS - 1) == 1
    assert threads.count(threads.SERIAL_BELOW_NS + 1) == 4
