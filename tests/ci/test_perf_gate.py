"""What the gate decides, on figures made up; that it catches a kernel slowed on purpose is ``.ci/run``'s self-test."""

from __future__ import annotations

import numpy as np
import pytest

from ci import perf_gate
from ci.perf_gate import MARGIN, MARGIN_WIDE, Floors, Result
from fastnn import backends, ops

STORED = {
    "avx512": {"cpu": "this", "ratios": {"mse, 1 thread": 4.0, "add, 2 threads": 2.0, "epoch x, 1 thread": 6.0}},
    "avx2": {"cpu": "other", "ratios": {"mse, 1 thread": 3.0}},
}


@pytest.mark.parametrize(
    ("level", "cpu", "baseline", "margin", "note"),
    [
        ("avx512", "this", 4.0, MARGIN, None),
        ("avx2", "this", 3.0, MARGIN_WIDE, "the avx2 baseline was made on another CPU"),
        ("neon", "this", 3.0, MARGIN_WIDE, "no baseline for neon"),
    ],
)
def test_floors_of_this_level_of_another_cpu_and_of_an_unknown_level(level, cpu, baseline, margin, note):
    floors = perf_gate.floors_for(STORED, level, cpu)
    assert floors.floor("mse, 1 thread") == pytest.approx(baseline * (1 - margin))
    assert (floors.note is None) == (note is None)
    assert note is None or note in floors.note


FLOORS = perf_gate.floors_for(STORED, "avx512", "this")


@pytest.mark.parametrize(
    ("name", "result", "expected"),
    [
        ("mse, 1 thread", Result(4.0 * (1 - MARGIN)), "ok"),
        ("mse, 1 thread", Result(4.0 * (1 - MARGIN) - 0.01), "SLOW"),
        ("mse, 1 thread", Result(1.0, others=0.5), "SLOW"),
        ("add, 2 threads", Result(2.0 * (1 - MARGIN_WIDE)), "ok"),
        ("add, 2 threads", Result(2.0 * (1 - MARGIN_WIDE) - 0.01), "SLOW"),
        ("add, 2 threads", Result(0.1, others=1.0), "not judged"),
        ("epoch x, 1 thread", Result(6.0 * (1 - MARGIN_WIDE)), "ok"),
        ("epoch x, 1 thread", Result(6.0 * (1 - MARGIN_WIDE) - 0.01), "SLOW"),
        ("new, 1 thread", Result(0.1), "no baseline"),
    ],
)
def test_verdict(monkeypatch, name, result, expected):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert perf_gate.verdict(name, result, FLOORS) == expected


def test_a_failing_line_is_measured_again_and_its_best_attempt_counts():
    name = "mse, 1 thread"
    assert perf_gate.measured(iter([Result(4.1), Result(9.0)]), name, FLOORS) == Result(4.1, attempts=1)
    assert perf_gate.measured(iter([Result(1.0), Result(3.9), Result(9.0)]), name, FLOORS) == Result(3.9, attempts=2)
    assert perf_gate.measured(iter([Result(1.0), Result(2.0), Result(1.5)]), name, FLOORS) == Result(2.0, attempts=3)


def test_slow_lines_fail_the_gate_and_are_named(monkeypatch, capsys):
    results = {"mse, 1 thread": Result(1.0, attempts=3), "new, 1 thread": Result(2.0)}
    monkeypatch.setattr(perf_gate, "here", lambda: FLOORS)
    monkeypatch.setattr(perf_gate, "lines", list)
    monkeypatch.setattr(perf_gate, "measure_all", lambda lines, floors: results)
    assert perf_gate.gate() == 1
    out = capsys.readouterr().out
    assert "SLOW: mse, 1 thread" in out
    assert "after 3 attempts" in out
    del results["mse, 1 thread"]
    assert perf_gate.gate() == 0


def test_a_slowed_kernel_does_its_work_twice_and_is_put_back(monkeypatch):
    from fastnn.kernels.cpu import losses

    calls = []
    real = losses.mse
    monkeypatch.setattr(losses, "mse", lambda *args, **kwargs: calls.append(1) or real(*args, **kwargs))
    counted = losses.mse
    x = np.ones((2, 3), np.float32)
    with perf_gate.slowed("mse"):
        assert ops.mse(x, 2 * x)[0] == 1.0
    assert len(calls) == 2
    assert losses.mse is counted
    assert ops.mse(x, 2 * x)[0] == 1.0
    assert len(calls) == 3
    backends.forget()


def test_the_baseline_in_the_repository_is_usable():
    stored = perf_gate.load()
    assert stored
    for kept in stored.values():
        assert {f"{perf_gate._SLOWED}, 1 thread", f"{perf_gate._CONTROL}, 1 thread"} <= set(kept["ratios"])
        assert all(ratio > 0 for ratio in kept["ratios"].values())


def test_the_self_tests_lines_are_gated():
    names = {line.case.name for line in perf_gate.lines() if line.threads == 1}
    assert {perf_gate._SLOWED, perf_gate._CONTROL} <= names


def test_floor_of_an_unknown_line():
    assert Floors({}, 0.1).floor("new, 1 thread") is None
