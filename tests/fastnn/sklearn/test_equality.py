"""Coefficients, loss curves and predictions are scikit-learn's, over drawn settings."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn_versions import WEIGHS_SAMPLES

import fastnn.sklearn

SETTINGS = 60
EPOCHS = 20
# As far as coefficients may be from scikit-learn's. They are units of the last place away, L-BFGS's thousands of them.
TOLERANCE = 1e-6


def drawn(seed):
    """(class, parameters, X, y, sample weights) of a setting; every solver and activation comes in turns."""
    rng = np.random.default_rng(seed)
    solver, activation = ("sgd", "adam", "lbfgs")[seed % 3], ("identity", "logistic", "tanh", "relu")[seed % 4]
    kind = ("MLPClassifier", "MLPRegressor")[rng.integers(2)]
    rows, features, outputs = int(rng.integers(40, 200)), int(rng.integers(2, 12)), int(rng.integers(1, 5))
    X = rng.normal(size=(rows, features)) * (rng.random((rows, features)) < 0.6)
    hidden = tuple(rng.integers(1, 20, rng.integers(0, 4)).tolist())
    parameters = {
        "hidden_layer_sizes": hidden,
        "solver": solver,
        "activation": activation,
        "alpha": float(rng.choice([0, 1e-4, 0.3])),
        "batch_size": ("auto", 1, 7, 32)[rng.integers(4)],
        "learning_rate": ("constant", "invscaling", "adaptive")[rng.integers(3)],
        "learning_rate_init": float(rng.choice([1e-3, 1e-2])),
        "power_t": float(rng.uniform(0.1, 0.6)),
        "momentum": float(rng.choice([0, 0.5, 0.9])),
        "nesterovs_momentum": bool(rng.integers(2)),
        "beta_1": float(rng.choice([0.9, 0.5])),
        "beta_2": float(rng.choice([0.999, 0.9])),
        "epsilon": float(rng.choice([1e-8, 1e-3])),
        "shuffle": bool(rng.integers(4)),
        "early_stopping": bool(rng.integers(4) == 0),
        "tol": float(rng.choice([1e-4, 0.05])),
        "n_iter_no_change": int(rng.choice([2, 10])),
        "max_iter": EPOCHS,
        "random_state": int(rng.integers(1000)),
    }
    if kind == "MLPRegressor":
        parameters["loss"] = ("squared_error", "poisson")[rng.integers(2)]
        y = rng.poisson(1.5, (rows, outputs)).astype(float)
        y = y[:, 0] if outputs == 1 else y
    elif outputs == 1:
        y = (rng.random((rows, 3)) < 0.5).astype(int)  # several labels
    else:
        y = rng.integers(0, outputs, rows)
    weights = rng.uniform(0.1, 3, rows) if rng.integers(3) == 0 else None
    return kind, parameters, scipy.sparse.csr_matrix(X) if rng.integers(3) == 0 else X, y, weights


def fitted(module, kind, parameters, X, y, weights):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        weighted = {} if weights is None else {"sample_weight": weights}
        return getattr(module, kind)(**parameters).fit(X, y, **weighted)


@pytest.mark.parametrize("seed", range(SETTINGS))
def test_coefficients_are_scikit_learns(seed):
    kind, parameters, X, y, weights = drawn(seed)
    if not WEIGHS_SAMPLES and (weights is not None or parameters.pop("loss", "squared_error") != "squared_error"):
        pytest.skip("this scikit-learn has neither sample weights nor other losses")
    ours, theirs = (fitted(module, kind, parameters, X, y, weights) for module in (fastnn.sklearn, neural_network))
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.t_ == theirs.t_
    for got, wanted in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=TOLERANCE)
    predict = "predict_proba" if kind == "MLPClassifier" else "predict"
    np.testing.assert_allclose(getattr(ours, predict)(X), getattr(theirs, predict)(X), rtol=0, atol=TOLERANCE)
    if parameters["solver"] != "lbfgs":
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=TOLERANCE)
        assert ours.validation_scores_ == theirs.validation_scores_ or np.allclose(
            ours.validation_scores_, theirs.validation_scores_
        )
        assert ours.best_validation_score_ == pytest.approx(theirs.best_validation_score_)
        assert ours.best_loss_ == pytest.approx(theirs.best_loss_)


def test_settings_have_all_that_is_promised():
    """Of what the settings draw nothing is missing by chance."""
    found = [drawn(seed) for seed in range(SETTINGS)]
    parameters = [each for _, each, *_ in found]
    for name, values in {
        "solver": 3,
        "activation": 4,
        "learning_rate": 3,
        "momentum": 3,
        "nesterovs_momentum": 2,
        "early_stopping": 2,
        "batch_size": 4,
        "alpha": 3,
    }.items():
        assert len({each[name] for each in parameters if each["solver"] == "sgd" or name in ("solver",)}) == values, (
            name
        )
    assert {each["loss"] for each in parameters if "loss" in each} == {"squared_error", "poisson"}
    assert {scipy.sparse.issparse(X) for _, _, X, _, _ in found} == {True, False}
    assert {weights is None for *_, weights in found} == {True, False}
    assert {np.ndim(y) for _, _, _, y, _ in found} == {1, 2}


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fits_are_scikit_learns(kind, solver):
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(90, 4)), rng.integers(0, 3, 90)
    given = {"classes": [0, 1, 2]} if kind == "MLPClassifier" else {}
    estimators = [
        getattr(module, kind)(hidden_layer_sizes=(6,), solver=solver, learning_rate="invscaling", random_state=4)
        for module in (fastnn.sklearn, neural_network)
    ]
    for part in range(6):
        some = slice(10 * part, 30 + 10 * part)
        for estimator in estimators:
            estimator.partial_fit(X[some], y[some], **given)
    ours, theirs = estimators
    for got, wanted in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12)
    assert ours.t_ == theirs.t_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_goes_on_as_scikit_learns():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(90, 4)), rng.integers(0, 3, 90)
    ours, theirs = (
        module.MLPClassifier(hidden_layer_sizes=(6,), warm_start=True, random_state=4, max_iter=5).fit(X, y).fit(X, y)
        for module in (fastnn.sklearn, neural_network)
    )
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-12)
    assert ours.n_iter_ == theirs.n_iter_ == 5


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_float32_stays_float32():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(300, 4)).astype(np.float32), rng.normal(size=300)
    ours, theirs = (
        module.MLPRegressor(hidden_layer_sizes=(6,), random_state=4, max_iter=10).fit(X, y)
        for module in (fastnn.sklearn, neural_network)
    )
    assert ours.coefs_[0].dtype == ours.predict(X).dtype == np.float32
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_certain_and_wrong_counts_as_in_scikit_learn(solver, classes, dtype):
    """Probabilities below an epsilon count as that."""
    rng = np.random.default_rng(1)
    X, y = (1e3 * rng.normal(size=(60, 4))).astype(dtype), rng.integers(0, classes, 60)
    given = {"hidden_layer_sizes": (5,), "solver": solver, "max_iter": 1, "random_state": 4, "learning_rate_init": 1e-9}
    ours, theirs = (module.MLPClassifier(**given).fit(X, y) for module in (fastnn.sklearn, neural_network))
    limit = -np.log(np.finfo(dtype).eps)
    probabilities = theirs.predict_proba(X).astype(float)[np.arange(60), y]
    assert probabilities.min() < np.exp(-limit)
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-5)
