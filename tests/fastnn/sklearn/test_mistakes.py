"""Hundreds of mistakes, made with scikit-learn's estimators and with these: the same exceptions, or none in both."""

from __future__ import annotations

import warnings

import numpy as np
import pandas
import pytest
import scipy.sparse
from sklearn import linear_model, neural_network
from sklearn_versions import VERSION, WEIGHS_SAMPLES

import fastnn.sklearn

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(40, 4))
Y = (X[:, 0] > 0).astype(int)
STRINGS = np.array([["a", "b"]] * 40, dtype=object)
FRAME = pandas.DataFrame(X, columns=list("abcd"))

# Estimator -> (scikit-learn's module of it, what keeps fits short)
ESTIMATORS = {
    "MLPClassifier": (neural_network, {"max_iter": 3}),
    "MLPRegressor": (neural_network, {"max_iter": 3}),
    "LogisticRegression": (linear_model, {}),
    "LinearRegression": (linear_model, {}),
    "Perceptron": (linear_model, {"max_iter": 3}),
}
SAMPLES = {
    "NaN in X": (X * np.nan, Y),
    "inf in X": (np.where(X > 1, np.inf, X), Y),
    "NaN in y": (X, np.where(Y > 0, np.nan, 0.0)),
    "inf in y": (X, np.where(Y > 0, np.inf, 0.0)),
    "X of one dimension": (X[:, 0], Y),
    "X of three dimensions": (X[:, :, None], Y),
    "a number for X": (3, Y),
    "None for X": (None, Y),
    "a dict for X": ({"a": [1] * 40}, Y),
    "a string for X": ("abc", Y),
    "strings in X": (STRINGS, Y),
    "digits as strings in X": (np.array([["1", "2"]] * 40), Y),
    "None in X": (np.array([[None, 1.0]] * 40, dtype=object), Y),
    "dates in X": (np.zeros((40, 2), "M8[s]"), Y),
    "complex X": (X + 1j, Y),
    "no rows": (X[:0], Y[:0]),
    "no features": (X[:, :0], Y),
    "ragged rows": ([[1, 2], [3]], [0, 1]),
    "fewer y than rows": (X, Y[:-1]),
    "None for y": (X, None),
    "a number for y": (X, 1),
    "a dict for y": (X, {"a": 1}),
    "y of three dimensions": (X, np.zeros((40, 2, 2))),
    "complex y": (X, Y + 1j),
    "strings in y": (X, np.array(["a", "b"])[Y]),
    "numbers and strings in y": (X, np.array([1, "a"] * 20, dtype=object)),
    "None in y": (X, np.array([1, None] * 20, dtype=object)),
    "fractions in y": (X, X[:, 0]),
    "two columns of fractions": (X, X[:, :2]),
    "one class": (X, np.zeros(40, int)),
    "a sparse y": (X, scipy.sparse.csr_matrix(Y[:, None])),
    "NaN in a sparse X": (scipy.sparse.csr_matrix(X * np.nan), Y),
    "a complex sparse X": (scipy.sparse.csr_matrix(X + 1j), Y),
    "a sparse X of any format": (scipy.sparse.coo_matrix(X), Y),
    "names of several types": (pandas.DataFrame(X, columns=["a", 1, "b", 2]), Y),
    "strings in a frame": (pandas.DataFrame({"a": ["x"] * 40}), Y),
    "NA in a frame": (pandas.DataFrame({"a": pandas.array([1, None] * 20, dtype="Int64")}), Y),
}
WEIGHTS = {
    "too few weights": np.ones(3),
    "weights of two dimensions": np.ones((40, 2)),
    "NaN weights": np.full(40, np.nan),
    "strings for weights": np.array(["a"] * 40),
    "a string for weights": "x",
    "complex weights": np.ones(40) + 1j,
    "negative weights": -np.ones(40),
    "zero weights": np.zeros(40),
}
ASKED = {
    "other features": X[:, :3],
    "NaN": X * np.nan,
    "one row without its dimension": X[0],
    "no rows": X[:0],
    "strings": STRINGS,
    "None": None,
    "complex": X + 1j,
    "a sparse matrix": scipy.sparse.coo_matrix(X),
    "names in another order": FRAME[list("bacd")],
    "fewer names": FRAME[list("abc")],
}
CALLS = {
    "predict before fit": lambda model, first: model.predict(X),
    "predict_proba before fit": lambda model, first: model.predict_proba(X),
    "score before fit": lambda model, first: model.score(X, Y),
    "score of fewer y": lambda model, first: model.fit(X, Y).score(X, Y[:3]),
    "score of NaN": lambda model, first: model.fit(X, Y).score(X, Y * np.nan),
    "fit without y": lambda model, first: model.fit(X),
    "fit with an unknown argument": lambda model, first: model.fit(X, Y, foo=1),
    "an unknown parameter": lambda model, first: model.set_params(nope=1),
    "a request of what is no argument": lambda model, first: model.set_fit_request(foo=True),
    "a request without routing": lambda model, first: model.set_fit_request(sample_weight=True),
    "partial_fit without classes": lambda model, first: model.partial_fit(X, Y),
    "partial_fit on other features": lambda model, first: model.partial_fit(X, Y, **first).partial_fit(X[:, :3], Y),
    "partial_fit on unknown classes": lambda model, first: model.partial_fit(X, Y, **first).partial_fit(X, Y + 5),
    "partial_fit with classes that change": lambda model, first: model.partial_fit(X, Y, **first).partial_fit(
        X, Y, classes=[0, 7]
    ),
    "partial_fit without its classes": lambda model, first: model.partial_fit(X, Y, classes=[3, 4]),
    "partial_fit on NaN": lambda model, first: model.partial_fit(X * np.nan, Y, **first),
    "partial_fit on fewer y": lambda model, first: model.partial_fit(X, Y[:3], **first),
    "partial_fit with early stopping": lambda model, first: model.set_params(early_stopping=True).partial_fit(
        X, Y, **first
    ),
    "partial_fit with lbfgs": lambda model, first: model.set_params(solver="lbfgs").partial_fit(X, Y, **first),
    "partial_fit with a wrong parameter": lambda model, first: model.set_params(alpha=-1).partial_fit(X, Y, **first),
}
_NETWORKS = [
    *({"hidden_layer_sizes": value} for value in ((3, 0), -1, "abc", (2.5,), None, ("a",), [[2, 3]], 1.5, {3})),
    *({"activation": value} for value in ("sine", None, 3)),
    *({"solver": value} for value in ("foo", None, 3)),
    *({"alpha": value} for value in (-1, "a", np.nan, None, np.inf)),
    *({"batch_size": value} for value in (0, 2.5, "foo", None, 100)),
    *({"learning_rate": value} for value in ("x", 0.1)),
    *({"learning_rate_init": value} for value in (0, -1, "a", np.nan, np.inf, 1e300)),
    *({"power_t": value} for value in (-1, "a")),
    *({"max_iter": value} for value in (0, 2.5, "a")),
    *({"shuffle": value} for value in ("yes", 1, None)),
    *({"random_state": value} for value in (-1, "a", 2**40, 1.5)),
    *({"tol": value} for value in (-1, None)),
    *({"verbose": value} for value in ("a", -1)),
    *({name: "a"} for name in ("warm_start", "nesterovs_momentum", "early_stopping")),
    *({"momentum": value, "solver": "sgd"} for value in (2, -0.1)),
    *({"early_stopping": True, "validation_fraction": value} for value in (0, 1, 0.01, 0.99)),
    *({"beta_1": value} for value in (1, -1)),
    *({"beta_2": 1.0}, {"epsilon": 0}, {"max_fun": 0}, {"max_fun": 1.5}, {"loss": "foo"}),
    *({"n_iter_no_change": value} for value in (0, 2.5)),
]
PARAMETERS = {
    "MLPClassifier": _NETWORKS,
    "MLPRegressor": _NETWORKS,
    "LogisticRegression": [
        *({"C": value} for value in (-1, 0, "a", None, np.nan)),
        *({"l1_ratio": value} for value in (2, "a")),
        *({"tol": -1}, {"random_state": "a"}),
        *({name: "a"} for name in ("fit_intercept", "verbose", "warm_start", "n_jobs", "dual")),
        *({"class_weight": value} for value in ("foo", {5: 1}, {0: "a"}, [1, 2])),
        *({"solver": value} for value in ("foo", None)),
        *({"max_iter": value} for value in (-1, 2.5)),
        *({"dual": value, "solver": "lbfgs"} for value in (True, False)),
        *({"intercept_scaling": value} for value in (1, -1, "a")),
        {"penalty": "foo"},
    ],
    "LinearRegression": [
        *({name: "a"} for name in ("fit_intercept", "copy_X", "n_jobs", "positive")),
        *({"positive": 2}, {"tol": -1}),
    ],
    "Perceptron": [
        *({"alpha": value} for value in (-1, "a")),
        *({"max_iter": value} for value in (0, 1.5)),
        *({"tol": value} for value in (-1, "a")),
        *({"verbose": value} for value in (-1, "a")),
        *({"eta0": value} for value in (0, -1, "a")),
        *({"class_weight": value} for value in ("a", {7: 1}, [1])),
        *({name: "a"} for name in ("fit_intercept", "shuffle", "n_jobs", "random_state", "early_stopping")),
        *({"early_stopping": True, "validation_fraction": value} for value in (0, 1.0, 0.01)),
        *({"l1_ratio": 2}, {"penalty": "foo"}, {"n_iter_no_change": 0}, {"warm_start": "a"}),
    ],
}
# What these refuse, and scikit-learn does not.
STRICTER = {
    ("LogisticRegression", "negative weights"): "the likelihood has no maximum",
    ("MLPRegressor", "partial_fit with lbfgs"): "scikit-learn means to ask, and asks of classifiers alone",
}


def mistakes(name):
    """(what is wrong, a call with an estimator that makes the mistake, the estimator's parameters)."""
    first = {} if name == "MLPRegressor" else {"classes": [0, 1]}
    yield from ((wrong, lambda model, given=given: model.fit(*given), {}) for wrong, given in SAMPLES.items())
    if WEIGHS_SAMPLES or not name.startswith("MLP"):
        for wrong, weights in WEIGHTS.items():
            yield wrong, lambda model, weights=weights: model.fit(X, Y, sample_weight=weights), {}
    for wrong, asked in ASKED.items():
        fitted_on = FRAME if isinstance(asked, pandas.DataFrame) else X
        yield (
            f"predict of {wrong}",
            lambda model, given=fitted_on, asked=asked: model.fit(given, Y).predict(asked),
            {},
        )
    yield from ((wrong, lambda model, call=call: call(model, first), {}) for wrong, call in CALLS.items())
    yield from ((str(given), lambda model: model.fit(X, Y), given) for given in PARAMETERS[name])


def outcome(module, name, call, parameters):
    """The exception, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call(getattr(module, name)(**{**ESTIMATORS[name][1], **parameters}))
        except Exception as error:  # whichever it is, the other one is to be the same
            return error
    return None


@pytest.mark.skipif(VERSION < (1, 9), reason="what scikit-learn says to some of them has changed")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_mistakes_raise_what_scikit_learn_raises(name):
    made, disagreements = 0, []
    for wrong, call, parameters in mistakes(name):
        if (name, wrong) in STRICTER:
            continue
        theirs, ours = (outcome(module, name, call, parameters) for module in (ESTIMATORS[name][0], fastnn.sklearn))
        made += theirs is not None
        # a TypeError for NumPy's private kinds of it
        if not (type(theirs) is type(ours) or (ours is not None and isinstance(theirs, type(ours)))):
            disagreements.append((wrong, theirs, ours))
    assert disagreements == []
    assert made >= 50


@pytest.mark.parametrize(("name", "wrong"), STRICTER)
def test_what_scikit_learn_lets_pass_is_refused(name, wrong):
    ((call, parameters),) = [(call, given) for each, call, given in mistakes(name) if each == wrong]
    assert isinstance(outcome(fastnn.sklearn, name, call, parameters), (ValueError, AttributeError))
