"""One side of the gate: its lines, how they are timed, how they are slowed, and its answers."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import threading

import numpy as np
import pytest

import fastnn
from bench import suite, timing
from ci import contender, perf_gate
from ci.contender import Contender
from fastnn import backends, ops
from fastnn.engine.cpu import FusedRunner
from fastnn.kernels.cases import draw
from fastnn.kernels.cpu import losses
from fastnn.kernels.table import TABLE


@pytest.fixture
def side(monkeypatch):
    monkeypatch.setattr(suite, "_left_out", set())
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    threads, cpus = fastnn.get_num_threads(), os.sched_getaffinity(0)
    yield Contender()
    timing.count_cpu_time(False)
    fastnn.set_num_threads(threads)
    os.sched_setaffinity(0, cpus)


def test_lines_are_ours_on_made_data(side, monkeypatch, tmp_path):
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    names, failed = side.lines()
    assert failed == {}
    assert {"matmul 128x784x512", "adam_step 1000000"} <= set(names)
    assert sum(name.startswith("epoch ") for name in names) == 8
    assert not suite.installed(suite.NUMPY)
    assert suite.installed(suite.FASTNN)


def test_lines_that_cannot_be_imported_are_told(side, monkeypatch):
    monkeypatch.setattr(contender, "_SUITES", {"kernels": {}, "training": {"fast": True}})
    names, failed = side.lines()
    assert "mse 100x100" in names
    assert failed == {"training": "TypeError: cases() got an unexpected keyword argument 'fast'"}


def test_files_are_those_imported(side):
    assert side.files() == [fastnn.__file__, fastnn.kernels.__file__]


@pytest.mark.parametrize(("threads", "of_the_cpu"), [(1, True), (2, False)])
def test_a_line_is_timed_by_the_cpu_on_one_thread_and_by_the_clock_on_more(side, threads, of_the_cpu):
    seconds = side.take("softmax 128x10", threads, 3)
    assert timing._watch.of_the_cpu is of_the_cpu
    assert fastnn.get_num_threads() == threads
    assert 0 < seconds < 1
    assert 0 < side.block() < 1


@pytest.mark.parametrize(("threads", "place", "cpus"), [(1, 0, {4}), (1, 1, {7}), (1, 2, {4}), (2, 0, {4, 7})])
def test_a_line_on_one_thread_stays_on_a_cpu_which_its_place_chooses(side, monkeypatch, threads, place, cpus):
    chosen = []
    monkeypatch.setattr(contender, "_CPUS", [4, 7])
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cpus: chosen.append((process, set(cpus))))
    side.take("softmax 128x10", threads, place)
    assert chosen == [(0, cpus)]


def test_where_the_system_has_no_say_in_it_a_line_runs_anywhere(side, monkeypatch):
    monkeypatch.setattr(contender, "_CPUS", [])
    monkeypatch.delattr(os, "sched_setaffinity")
    assert side.take("softmax 128x10", 1, 1) > 0
    monkeypatch.undo()


def test_operands_lie_where_it_is_told(side):
    side.take("softmax 128x10", 1, 3)
    addresses = {array.ctypes.data % 4096 for array in side._run.keywords.values() if isinstance(array, np.ndarray)}
    assert addresses == {3 * 64, 16 * 64}


def test_a_block_is_the_lower_quartile_of_its_readings(side, monkeypatch):
    readings = iter([9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    side._readings = 8
    monkeypatch.setattr(side, "_timed", lambda calls: next(readings))
    assert side.block() == 3.0


def test_a_long_call_is_not_made_once_more_to_warm_up(side, monkeypatch):
    runs = []
    monkeypatch.setattr(side, "_run", lambda: runs.append(1))
    monkeypatch.setattr(side, "_seconds", 1.0)
    side.block()
    assert len(runs) == 1
    monkeypatch.setattr(side, "_seconds", 1e-3)
    side.block()
    assert len(runs) == 3


@pytest.fixture
def cpu_time(monkeypatch):
    """The CPU's time, made up: it goes on by a hundredth of a second whenever it is asked for."""
    now = [0.0]

    def read():
        now[0] += 0.01
        return now[0]

    monkeypatch.setattr(contender.time, "process_time", read)
    return now


def test_an_op_slowed_takes_a_third_longer(monkeypatch, cpu_time):
    def work(*args, **kwargs):
        cpu_time[0] += 30
        return "result"

    monkeypatch.setattr(losses, "mse", work)
    contender.slow("mse")
    assert losses.mse() == "result"
    assert cpu_time[0] == pytest.approx(40, abs=0.1)


@pytest.mark.parametrize("name", [name for name in perf_gate._SLOWED if name != "epoch"])
def test_a_planned_op_slowed_plans_its_calls_once(monkeypatch, cpu_time, name):
    op, planned = TABLE[name], []
    real = getattr(importlib.import_module(f"fastnn.kernels.cpu.{op.module}"), name)
    monkeypatch.setattr(
        real, "plan", lambda *args, plan=real.plan, **kwargs: planned.append(1) or plan(*args, **kwargs)
    )
    contender.slow(name)
    backends.forget()
    try:
        given = draw(op, op.cases[-1], op.variants[0], "float32", np.random.default_rng(0))
        for _ in range(3):
            before = cpu_time[0]
            getattr(ops, name)(**given)
            assert cpu_time[0] > before
        assert len(planned) == 1
    finally:
        monkeypatch.undo()
        backends.forget()


def test_epochs_slowed_take_a_third_longer(monkeypatch, cpu_time):
    def work(self):
        cpu_time[0] += 3

    monkeypatch.setattr(FusedRunner, "train_epoch", work)
    contender.slow("epoch")
    FusedRunner.train_epoch(None)
    assert cpu_time[0] == pytest.approx(4, abs=0.1)


class Answering:
    def double(self, number):
        return 2 * number

    def fail(self):
        raise ValueError("bad\nin many lines")


def test_answers_are_results_or_what_went_wrong_until_the_pipe_closes():
    ours, theirs = multiprocessing.Pipe()
    server = threading.Thread(target=contender.serve, args=(theirs, Answering()))
    server.start()
    answers = []
    for request in (("double", (4,)), ("fail", ()), ("double", ()), ("double", (5,))):
        ours.send(request)
        answers.append(ours.recv())
    ours.close()
    server.join(timeout=10)
    assert not server.is_alive()
    results, failures, cpu_seconds = zip(*answers, strict=True)
    assert results == (8, None, None, 10)
    assert failures[:2] == (None, "ValueError: bad")
    assert failures[2].startswith("TypeError: ")
    assert failures[3] is None
    assert all(seconds > 0 for seconds in cpu_seconds)
