"""Threads: how many, and callers that fork or call from several threads at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

import fastnn
from fastnn.kernels.cpu.teams import threads

PREAMBLE = """
import os, sys, threading
import numpy as np
import fastnn
from fastnn import layers, models, ops, utils
from fastnn.kernels.cpu.teams import threads
fastnn.set_num_threads(2)
rng = np.random.default_rng(0)
a, b = rng.standard_normal((256, 256)), rng.standard_normal((256, 256))
expected = a @ b
def work():
    assert np.allclose(ops.matmul(a, b), expected)
    assert np.allclose(ops.tanh(a), np.tanh(a))
x = rng.standard_normal((300, 40)).astype("f")
sparse, labels = np.where(x > 1.5, x, 0), rng.integers(0, 10, 300)
def model(seed=0, hidden=64):
    utils.set_random_seed(seed)
    built = models.Sequential([layers.Dense(hidden, "relu", input_shape=(40,)), layers.Dense(10, "softmax")])
    built.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return built
def trained(built, x=x, **options):
    losses = built.fit(x, labels, batch_size=128, epochs=3, shuffle=False, verbose=0, **options).history["loss"]
    return [np.array(losses), *built.get_weights(), built.predict(x)]
def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
"""
FORK = """
work()
for _ in range(3):
    in_child(work)
work()
"""
FORK_THEN_TRAIN = """
work()
threads.SERIAL_BELOW_NS = 0.0
def train():
    assert same(trained(model()), expected)
expected = trained(model(), threads=1)
in_child(train)
train()
in_child(train)
train()
in_child(lambda: in_child(train))
"""
NUMBER_OF_THREADS = """
work()
threads.SERIAL_BELOW_NS = 0.0
for inputs in (x, sparse):
    for hidden in (64, 384):  # with AVX-512, 6 panels, which 2 and 3 threads share, not 4
        one = trained(model(hidden=hidden), inputs, threads=1)
        for count in (2, 3, 4):
            assert same(trained(model(hidden=hidden), inputs, threads=count), one), count
"""
FITS = """
work()
threads.SERIAL_BELOW_NS = 0.0
sys.setswitchinterval(1e-5)
expected = [trained(model(seed), threads=1) for seed in range(4)]
built = [model(seed) for seed in range(4)]
got = [None] * 4
def fit(i):
    got[i] = trained(built[i], threads=None if i < 2 else i)
callers = [threading.Thread(target=fit, args=(i,)) for i in range(4)]
[c.start() for c in callers]
while any(c.is_alive() for c in callers):  # the number changes all the time
    for count in (1, 4, 2, 3):
        fastnn.set_num_threads(count)
assert all(same(a, b) for a, b in zip(got, expected))
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
PROGRAMS = {
    "fork": PREAMBLE + FORK,
    "fork then train": PREAMBLE + FORK_THEN_TRAIN,
    "callers": PREAMBLE + CALLERS,
    "fits": PREAMBLE + FITS,
    "number of threads": PREAMBLE + NUMBER_OF_THREADS,
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_forked_and_concurrent_callers(program):
    if program.startswith("fork") and not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    done = subprocess.run([sys.executable, "-c", PROGRAMS[program]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(threads, "_default", 0)


def test_environment_variable(fresh, monkeypatch):
    monkeypatch.setenv("FASTNN_NUM_THREADS", "3")
    assert fastnn.get_num_threads() == 3


@pytest.mark.parametrize("value", ["0", "-1", "two", "", "²", "٣", "1.5", "9" * 5000])
def test_bad_environment_variable(fresh, monkeypatch, value):
    monkeypatch.setenv("FASTNN_NUM_THREADS", value)
    with pytest.raises(ValueError, match=r"FASTNN_NUM_THREADS: got .*, wants an integer of at least 1"):
        fastnn.get_num_threads()


def test_default_respects_affinity_and_quota(fresh, monkeypatch):
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_cgroup_cpus", lambda: 1)
    assert fastnn.get_num_threads() == 1
    monkeypatch.setattr(threads, "_default", 0)
    monkeypatch.setattr(threads, "_cgroup_cpus", lambda: 64)
    if hasattr(os, "sched_getaffinity"):
        assert fastnn.get_num_threads() == len(os.sched_getaffinity(0))


def test_a_system_without_affinity_counts_its_cpus(fresh, monkeypatch):
    """As Windows and macOS are, which have no control groups either."""
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(threads.Path, "read_text", lambda path: (_ for _ in ()).throw(FileNotFoundError(path)))
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert fastnn.get_num_threads() == 6
    monkeypatch.setattr(threads, "_default", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert fastnn.get_num_threads() == 1


LINES = "12:cpuset:/\n4:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::{path}\n"


@pytest.mark.parametrize(
    ("path", "files", "cpus"),
    [
        ("/", {}, None),
        ("/", {"cpu.max": "max 100000"}, None),
        ("/", {"cpu.max": "300000 100000"}, 3),
        ("/a/b", {"a/b/cpu.max": "150000 100000"}, 2),
        ("/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 1),
        ("/a", {"a/b/cpu.max": "100000 100000"}, None),
        ("/a", {"a/cpu.max": "400000 100000", "cpu.max": "200000 100000"}, 2),
        ("/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("/a", {"cpu/a/cpu.cfs_quota_us": "250000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 3),
        ("/hidden", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "50000"}, 2),
        ("/", {"cpu.max": "nonsense"}, None),
        ("/", {"cpu.max": "some 100000"}, None),
    ],
)
def test_quotas_of_control_groups(path, files, cpus, tmp_path):
    """Both versions: a group's own quota, that of a group around it, and a container's, whose path is not its own."""
    for name, text in {"proc/self/cgroup": LINES.format(path=path), **files}.items():
        file = tmp_path / (name if name.startswith("proc") else f"sys/fs/cgroup/{name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert threads._cgroup_cpus(tmp_path) == (cpus or 1 << 16)


def test_no_control_groups(tmp_path):
    assert threads._cgroup_cpus(tmp_path) == 1 << 16


def test_override_ends_with_its_block_and_stays_in_its_thread():
    usual, seen = fastnn.get_num_threads(), []
    with threads.use_num_threads(usual + 1):
        with threads.use_num_threads(None):
            assert fastnn.get_num_threads() == usual + 1
        other = threading.Thread(target=lambda: seen.append(fastnn.get_num_threads()))
        other.start()
        other.join()
    assert [fastnn.get_num_threads(), *seen] == [usual, usual]


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-2, ValueError), (1.5, TypeError), ("2", TypeError)])
def test_bad_number_of_threads(value, error):
    with pytest.raises(error, match=r"threads: got .* wants an integer of at least 1"):
        fastnn.set_num_threads(value)


def test_small_work_stays_serial(monkeypatch):
    monkeypatch.setattr(threads, "_default", 4)
    assert threads.count(threads.SERIAL_BELOW_NS - 1) == 1
    assert threads.count(threads.SERIAL_BELOW_NS + 1) == 4
