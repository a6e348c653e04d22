"""Lines of thinc's networks: which there are, and that both sides do the same work."""

from __future__ import annotations

import numpy as np
import pytest

from bench import suite, thinc
from bench.suite import FASTNN, THINC


def test_bars_are_on_real_data_only(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    made = thinc.cases()
    assert len(made) == len(thinc._NETWORKS)
    assert not any(case.at_least for case in made)
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    real = [case for case in thinc.cases(quick=True) if case.name.endswith("real rows")]
    assert [case.at_least for case in real] == list(thinc._NETWORKS.values())


def test_lines_say_what_they_lack():
    suite.leave_out(THINC)
    try:
        assert {case.skip for case in thinc.cases()} == {suite.NOT_INSTALLED}
    finally:
        suite._left_out.discard(THINC)


@pytest.mark.parametrize("units", thinc._NETWORKS)
def test_both_sides_end_at_the_same_weights(units, monkeypatch):
    pytest.importorskip("thinc", reason="thinc is not installed: pip install '.[peers]'")
    rng = np.random.default_rng(0)
    rows = rng.random((300, 784), np.float32), rng.integers(0, 10, 300)
    workload = thinc._workload(units, lambda: rows)
    assert set(workload.contenders) == {FASTNN, THINC}
    workload.check()
    for contender in workload.contenders.values():
        contender.run()
    real = thinc._Side.epoch

    def wrong(side, shuffle=True):
        real(side, shuffle)
        if side.model.ops.name == "fastnn":
            side.model.layers[-1].get_param("b")[0] += 0.1 * thinc._RATE

    monkeypatch.setattr(thinc._Side, "epoch", wrong)
    with pytest.raises(AssertionError, match="weights"):
        workload.check()
