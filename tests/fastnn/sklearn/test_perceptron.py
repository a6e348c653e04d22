"""The perceptron: the rule row by row, scikit-learn's checks, what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn_versions import OF_EQUAL_WEIGHTS, failed_checks

from fastnn.sklearn import Perceptron

IRIS, SPECIES = load_iris(return_X_y=True)


def ruled(x, y, classes, epochs, eta, weights):
    """Weights, the intercept's last, by the rule in plain Python."""
    w = np.zeros((classes, x.shape[1] + 1))
    for _ in range(epochs):
        for row, label, weight in zip(np.column_stack([x, np.ones(len(x))]), y, weights, strict=True):
            for one in range(classes):
                wanted = 1 if label == one else -1
                w[one] += weight * eta * (wanted - np.sign(w[one] @ row)) * row
    return w


@pytest.mark.parametrize("stored", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_follow_the_rule(stored, classes, weighted):
    x, y = IRIS[50 * (3 - classes) :], SPECIES[50 * (3 - classes) :] - (3 - classes)
    weights = np.random.default_rng(0).integers(1, 3, len(x)) if weighted else np.ones(len(x))
    model = Perceptron(eta0=0.5, max_iter=5, tol=None, shuffle=False)
    model.fit(stored(x), y, sample_weight=weights if weighted else None)
    wanted = ruled(x, y if classes == 3 else 1 - y, classes, 5, 0.5, weights)[: 3 if classes == 3 else 1]
    np.testing.assert_allclose(np.column_stack([model.coef_, model.intercept_]), wanted, atol=1e-9)
    assert model.n_iter_ == 5


def test_it_ends_where_no_row_is_wrong():
    model = Perceptron(shuffle=False).fit(IRIS[:100], SPECIES[:100])
    assert model.score(IRIS[:100], SPECIES[:100]) == 1.0
    before = model.coef_.copy()
    model.partial_fit(IRIS[:100], SPECIES[:100])
    np.testing.assert_array_equal(model.coef_, before)


def test_epochs_one_by_one_are_those_of_a_fit():
    whole = Perceptron(max_iter=3, tol=None, shuffle=False).fit(IRIS, SPECIES)
    parts = Perceptron(shuffle=False)
    for _ in range(3):
        parts.partial_fit(IRIS, SPECIES, classes=[0, 1, 2])
    np.testing.assert_array_equal(parts.coef_, whole.coef_)
    assert parts.t_ == whole.t_ == 451


def test_early_stopping_and_too_few_epochs():
    model = Perceptron(early_stopping=True, random_state=0, n_iter_no_change=2).fit(IRIS, SPECIES)
    assert model.n_iter_ < 1000
    with pytest.warns(ConvergenceWarning, match="Maximum number of iteration reached"):
        Perceptron(max_iter=1).fit(IRIS, SPECIES)


def test_scikit_learns_checks_pass():
    """But for those that fail for its own perceptron."""
    failed, checks = failed_checks(Perceptron())
    assert [name for name in failed if not OF_EQUAL_WEIGHTS.match(name)] == []
    assert checks > 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": "l2"}, "'penalty' parameter"),
        ({"eta0": -1.0}, "'eta0' parameter"),
        ({"max_iter": 0}, "'max_iter' parameter"),
    ],
)
def test_parameters_that_are_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        Perceptron(**options).fit(IRIS, SPECIES)


def test_calls_that_are_wrong():
    with pytest.raises(ValueError, match="coef_init: got shape"):
        Perceptron().fit(IRIS, SPECIES, coef_init=np.ones((2, 4)))
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        Perceptron().partial_fit(IRIS, SPECIES)
    with pytest.raises(ValueError, match="early_stopping should be False"):
        Perceptron(early_stopping=True).partial_fit(IRIS, SPECIES, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="'balanced' is not supported"):
        Perceptron(class_weight="balanced").partial_fit(IRIS, SPECIES, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="number of classes"):
        Perceptron().fit(IRIS[:50], SPECIES[:50])
