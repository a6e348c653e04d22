"""Estimators on a device, or the host that stands in for one, against the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

GENERATOR = np.random.default_rng(2)
X = GENERATOR.normal(size=(70, 6))
COUNTS = GENERATOR.poisson(1.5, (70, 2)).astype(float)
SMALL = {
    "hidden_layer_sizes": (5,),
    "activation": "tanh",
    "max_iter": 3,
    "batch_size": 20,
    "random_state": 1,
    "alpha": 0.2,
}


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 70)], ids=["alike", "weighted"])
@pytest.mark.parametrize(
    ("kind", "y", "given"),
    [
        (MLPClassifier, (X[:, 0] > 0).astype(int) + (X[:, 1] > 1), {}),
        (MLPClassifier, (X[:, :3] > 0).astype(int), {"solver": "sgd"}),
        (MLPRegressor, COUNTS, {}),
        (MLPRegressor, COUNTS, {"loss": "poisson"}),
    ],
    ids=["classes", "labels", "squares", "counts"],
)
def test_a_device_trains_to_the_same(cupy, kind, y, given, weights):
    cpu, cuda = (
        kind(**SMALL, **given, backend=backend).fit(X, y, sample_weight=weights) for backend in ("cpu", "cuda")
    )
    for one, other in zip(cpu.coefs_ + cpu.intercepts_, cuda.coefs_ + cuda.intercepts_, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)
    np.testing.assert_allclose(cpu.loss_curve_, cuda.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(cpu.predict(X[:9]), cuda.predict(X[:9]), rtol=1e-9)


def test_lbfgs_is_the_hosts(cupy):
    with pytest.raises(ValueError, match="backend: got 'cuda' for the solver 'lbfgs'"):
        MLPRegressor(solver="lbfgs", backend="cuda").fit(X, COUNTS)
