"""Estimators on a device, or the host that stands in for one, against the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

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


@pytest.mark.parametrize("stored", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 70)], ids=["alike", "weighted"])
@pytest.mark.parametrize(
    ("kind", "y"),
    [(MLPClassifier, (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)), (MLPRegressor, COUNTS)],
    ids=["classes", "counts"],
)
def test_a_device_finds_the_loss_and_gradient_of_lbfgs(cupy, kind, y, stored, weights):
    x = stored(X * (np.abs(X) > 1))
    given = {**SMALL, "solver": "lbfgs", "max_iter": 6}
    cpu, cuda = (kind(**given, backend=backend).fit(x, y, sample_weight=weights) for backend in ("cpu", "cuda"))
    assert cpu.n_iter_ == cuda.n_iter_ > 3
    for one, other in zip(cpu.coefs_ + cpu.intercepts_, cuda.coefs_ + cuda.intercepts_, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-8)
    assert cpu.loss_ == pytest.approx(cuda.loss_, rel=1e-9)
