"""Lines of scikit-learn's estimators: which there are, and that both sides do the same work."""

from __future__ import annotations

import numpy as np
import pytest

from bench import estimators, suite
from bench.suite import FASTNN, SKLEARN


def test_bars_are_on_real_data_only(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    made = estimators.cases()
    assert made
    assert not any(case.at_least for case in made)
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    real = [case for case in estimators.cases() if "real" in case.name]
    assert len(real) == len(estimators._JOBS)
    assert sum(bool(case.at_least) for case in real) == 3
    assert all(bool(case.at_least) != ("float64" in case.name) for case in real)
    assert len({case.name for case in real}) == len(real)


@pytest.mark.parametrize("job", estimators._JOBS, ids=lambda job: f"{job.dataset} {job.dtype}")
def test_both_sides_end_at_the_same_loss(job, monkeypatch):
    recipe, rng = estimators.RECIPES[job.dataset], np.random.default_rng(0)
    x = (rng.random((60, recipe.inputs)) * (rng.random((60, recipe.inputs)) < 0.1)).astype(np.float32)
    y = rng.integers(0, recipe.outputs, 60) if job.estimator == "MLPClassifier" else x[:, 0]
    workload = estimators._workload(job, lambda: (x, y))
    assert set(workload.contenders) == {FASTNN} | ({SKLEARN} if suite.installed(SKLEARN) else set())
    workload.check()
    real = estimators._fit

    def wrong(module, *given):
        fitted = real(module, *given)
        fitted.loss_ += module == "fastnn.sklearn"
        return fitted

    monkeypatch.setattr(estimators, "_fit", wrong)
    with pytest.raises(AssertionError, match="loss, fastnn against scikit-learn"):
        estimators._workload(job, lambda: (x, y)).check()
