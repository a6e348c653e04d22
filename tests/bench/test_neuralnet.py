"""``fastnn bench neuralnet``: the table and the pictures; and both sides of the likelihood's line."""

from __future__ import annotations

import pytest

from bench import likelihood, neuralnet
from bench.suite import FASTNN, SKLEARN


def test_a_folder_of_results(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    assert neuralnet.main(["--output", str(tmp_path), "--seeds", "1"]) == 0
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == table.strip()
    assert table.count("Threshold reached in 1 of 1") == 2
    assert "MNIST" not in table
    assert {path.name for path in tmp_path.iterdir()} == {"table.md", "iris-10.png", "iris-5-3.png"}


def test_both_sides_of_the_likelihood_have_equal_losses():
    pytest.importorskip("sklearn")
    workload = likelihood.workload(2000, 5)
    assert set(workload.contenders) == {FASTNN, SKLEARN}
    workload.check()
    assert [case.at_least for case in likelihood.cases()] == [{SKLEARN: 1.0}]
