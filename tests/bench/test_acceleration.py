"""Lines of PyTorch's training loops: which there are, and that both sides do the same work."""

from __future__ import annotations

import pytest

from bench import acceleration, suite
from bench.suite import FASTNN, PYTORCH

pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")


def test_a_line_for_each_optimizer_and_batch():
    names = [case.name for case in acceleration.cases()]
    assert len(set(names)) == len(names) == 4
    assert "16 steps of PyTorch's, 784-512-10, Adam, batch 512" in names


def test_lines_are_skipped_without_pytorch(monkeypatch):
    monkeypatch.setattr(suite, "_left_out", {PYTORCH})
    assert {case.skip for case in acceleration.cases()} == {suite.NOT_INSTALLED}


def test_both_sides_do_the_same_work(monkeypatch):
    monkeypatch.setattr(acceleration, "_WIDTHS", (20, 16, 5))
    workload = acceleration._workload("Adam", 8)
    assert set(workload.contenders) == {FASTNN, PYTORCH}
    workload.check()
    real = acceleration._loop
    monkeypatch.setattr(acceleration, "_loop", lambda *given: lambda: real(*given)() + (given[-1] is True))
    with pytest.raises(AssertionError, match="loss, fastnn and PyTorch"):
        acceleration._workload("SGD", 8).check()
