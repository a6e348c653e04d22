"""The estimators among scikit-learn's tools, what they have beyond its own, and what they say to bad input."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pandas
import pytest
import scipy.sparse
import sklearn
import sklearn.utils.metadata_routing
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn_versions import WEIGHS_SAMPLES

import fastnn.sklearn
from fastnn import activations, ops, optimizers
from fastnn.engine.data import SparseSource
from fastnn.errors import BackendError
from fastnn.kernels.cpu.compiler import machine
from fastnn.sklearn import MLPClassifier, MLPRegressor, networks

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

GENERATOR = np.random.default_rng(5)
X = GENERATOR.normal(size=(90, 4))
LABELS = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 1)
NUMBERS = X @ [1.0, -2.0, 0.5, 0.0] + 1
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 8, "random_state": 0, "learning_rate_init": 0.01}

BOTH = [(MLPClassifier, LABELS), (MLPRegressor, NUMBERS)]
each_kind = pytest.mark.parametrize(("kind", "y"), BOTH, ids=["classifier", "regressor"])


def same(one, other):
    pairs = zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True)
    return all((a == b).all() for a, b in pairs)


# ------------------------------------------------------------------------------------------------- scikit-learn's tools


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_parameters_are_scikit_learns_and_a_few_more(kind):
    theirs = getattr(neural_network, kind.__name__)().get_params()
    ours = kind().get_params()
    assert list(theirs.items() - ours.items()) == []
    newer = set() if WEIGHS_SAMPLES else {"loss"} & ours.keys()
    assert ours.keys() - theirs.keys() == {"dropout", "backend", "precision"} | newer


@each_kind
def test_attributes_are_scikit_learns(kind, y):
    theirs = getattr(neural_network, kind.__name__)(**SMALL).fit(X, y)
    ours = kind(**SMALL).fit(X, y)
    public = {name for name in vars(theirs) if name.endswith("_")}
    assert public == {name for name in vars(ours) if name.endswith("_")}
    assert ours.out_activation_ == theirs.out_activation_
    assert (ours.n_layers_, ours.n_outputs_, ours.n_features_in_) == (3, theirs.n_outputs_, 4)


@each_kind
def test_clones_and_pickles(kind, y):
    fitted = kind(**SMALL).fit(X, y)
    assert not hasattr(clone(fitted), "coefs_")
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.predict(X) == fitted.predict(X)).all()
    given = {"classes": np.unique(LABELS)} if kind is MLPClassifier else {}
    assert same(again.partial_fit(X, y, **given), fitted.partial_fit(X, y, **given))  # the solver's state is in it
    stream = io.BytesIO()
    joblib.dump(fitted, stream)
    stream.seek(0)
    assert same(joblib.load(stream), fitted)


def test_a_pickle_of_a_solver_object():
    fitted = MLPRegressor(solver=optimizers.RMSprop(0.01, momentum=0.5), **SMALL).fit(X, NUMBERS)
    assert same(pickle.loads(pickle.dumps(fitted)), fitted)


@each_kind
def test_a_pickle_in_another_process(kind, y, tmp_path):
    """One that has not trained, nor imported anything: its predictions have the same bits."""
    fitted = kind(**SMALL).fit(X, y)
    (tmp_path / "fitted").write_bytes(pickle.dumps((fitted, X)))
    program = (
        "import pickle, sys, numpy; model, x = pickle.load(open('fitted', 'rb')); numpy.save('y', model.predict(x))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), fitted.predict(X))


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_a_grid_search_on_every_backend_of_joblib(backend):
    search = GridSearchCV(MLPClassifier(**SMALL), {"alpha": [1e-4, 0.1], "solver": ["adam", "sgd"]}, cv=2, n_jobs=2)
    with warnings.catch_warnings(), joblib.parallel_backend(backend):
        warnings.simplefilter("ignore")
        search.fit(X, LABELS)
        alone = GridSearchCV(MLPClassifier(**SMALL), search.param_grid, cv=2).fit(X, LABELS)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


def test_a_pipeline_is_scored():
    scores = cross_val_score(make_pipeline(StandardScaler(), MLPRegressor(solver="lbfgs", random_state=0)), X, NUMBERS)
    assert scores.min() > 0.9


@each_kind
def test_data_frames_and_their_names(kind, y):
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    fitted = kind(**SMALL).fit(frame, pandas.Series(y))
    assert list(fitted.feature_names_in_) == ["a", "b", "c", "d"]
    assert same(fitted, kind(**SMALL).fit(X, y))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        fitted.predict(X)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[["b", "a", "c", "d"]])


def test_a_pipeline_whose_output_is_set_hands_names_on():
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    pipeline = make_pipeline(StandardScaler(), MLPRegressor(**SMALL)).set_output(transform="pandas")
    fitted = pipeline.fit(frame, NUMBERS)
    assert list(fitted[-1].feature_names_in_) == ["a", "b", "c", "d"]
    scaled = StandardScaler().fit_transform(frame)
    assert same(fitted[-1], MLPRegressor(**SMALL).fit(scaled, NUMBERS))
    np.testing.assert_array_equal(
        pipeline.predict(frame), fitted[-1].predict(pandas.DataFrame(scaled, columns=list("abcd")))
    )


def test_several_labels():
    y = (X[:, :3] > [0.0, 0.5, -0.5]).astype(int)
    theirs, ours = (module.MLPClassifier(**SMALL).fit(X, y) for module in (neural_network, fastnn.sklearn))
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-9)
    assert ours.score(X, y) == theirs.score(X, y)
    assert (ours.out_activation_, ours.n_outputs_) == ("logistic", 3)
    stored = MLPClassifier(**SMALL).fit(X, scipy.sparse.csr_matrix(y))
    assert same(stored, ours)
    assert scipy.sparse.issparse(stored.predict(X))
    np.testing.assert_array_equal(stored.predict(X).toarray(), ours.predict(X))


def test_a_warm_start_keeps_to_its_classes():
    fitted = MLPClassifier(**SMALL, warm_start=True).fit(X, LABELS)
    before = [coef.copy() for coef in fitted.coefs_]
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same classes"):
        fitted.fit(X, LABELS + 1)
    assert all((a == b).all() for a, b in zip(before, fitted.coefs_, strict=True))
    assert fitted.fit(X, LABELS).t_ == 2 * 8 * len(X)
    cold = MLPClassifier(**SMALL).fit(X, LABELS).fit(X, LABELS + 1)
    assert cold.t_ == 8 * len(X)


def test_classes_of_a_first_partial_fit_are_routed():
    with sklearn.config_context(enable_metadata_routing=True):
        asking = MLPClassifier(**SMALL).set_partial_fit_request(classes=True, sample_weight=True)
        routed = sklearn.utils.metadata_routing.get_routing_for_object(asking)
        assert routed.consumes("partial_fit", ["classes", "sample_weight", "other"]) == {"classes", "sample_weight"}
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
            GridSearchCV(MLPClassifier(**SMALL), {"alpha": [1e-4]}, cv=2).fit(X, LABELS, sample_weight=np.ones(len(X)))


def test_classes_may_be_strings():
    names = np.array(["one", "two", "three"], dtype=object)[LABELS]
    fitted = MLPClassifier(**SMALL).fit(X, names)
    assert set(fitted.predict(X)) <= {"one", "two", "three"}
    np.testing.assert_allclose(fitted.predict_proba(X).sum(axis=1), 1)
    np.testing.assert_allclose(fitted.predict_log_proba(X), np.log(fitted.predict_proba(X)))


def test_sample_weights_are_routed():
    with sklearn.config_context(enable_metadata_routing=True):
        asking = MLPRegressor(**SMALL).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        weights = np.linspace(0.1, 2, len(X))
        search = GridSearchCV(asking, {"alpha": [1e-4]}, cv=2).fit(X, NUMBERS, sample_weight=weights)
    assert same(search.best_estimator_, MLPRegressor(**SMALL).fit(X, NUMBERS, sample_weight=weights))


def test_sparse_inputs_stay_sparse(monkeypatch):
    """No batch, and no prediction, makes them dense."""

    def refused(*_):
        raise AssertionError("made dense")

    monkeypatch.setattr(SparseSource, "batch", refused)
    for matrix in (scipy.sparse.csr_matrix, scipy.sparse.csr_array, scipy.sparse.csc_matrix):
        made = scipy.sparse.random(300, 40, 0.05, random_state=0, dtype=np.float32, format="csr")
        y = np.asarray(made.sum(axis=1)).ravel()
        for solver in ("sgd", "adam", "lbfgs"):
            fitted = MLPRegressor(**{**SMALL, "solver": solver}).fit(matrix(made), y)
            dense = fitted.predict(made.toarray())
            for rows in (slice(0, 5), slice(0, 300)):
                np.testing.assert_allclose(fitted.predict(matrix(made)[rows]), dense[rows], rtol=1e-4, atol=1e-5)


def test_wrong_parameters_are_refused_as_scikit_learn_does():
    for wrong in (
        {"solver": "newton"},
        {"alpha": -1},
        {"batch_size": 0},
        {"activation": "sine"},
        {"learning_rate": "fast"},
        {"momentum": 2},
        {"backend": "tpu"},
        {"precision": "float16"},
        {"dropout": 1.0},
        {"max_iter": 0},
    ):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"The '{name}' parameter of MLPClassifier must be"):
            MLPClassifier(**wrong).fit(X, LABELS)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hidden_layer_sizes": (3, 0)}, r"hidden_layer_sizes must be > 0, got \[3, 0\]"),
        (
            {"hidden_layer_sizes": (3, 4), "activation": ("relu",)},
            "activation: got 1 values, wants one, or one for each",
        ),
        ({"hidden_layer_sizes": (3, 4), "dropout": (0.1,)}, "dropout: got 1 values"),
        ({"dropout": (1.5,)}, "dropout: got 1.5, wants numbers in"),
        ({"activation": ("sine",)}, "activation: got 'sine'"),
    ],
)
def test_wrong_layers_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**parameters).fit(X, LABELS)


def test_wrong_data_are_refused_as_scikit_learn_does():
    with pytest.raises(ValueError, match="NaN"):
        MLPRegressor().fit(np.full_like(X, np.nan), NUMBERS)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        MLPRegressor().fit(X, NUMBERS[:-1])
    with pytest.raises(NotFittedError):
        MLPRegressor().predict(X)
    fitted = MLPRegressor(**SMALL).fit(X, NUMBERS)
    with pytest.raises(ValueError, match="X has 3 features, but MLPRegressor is expecting 4"):
        fitted.predict(X[:, :3])
    with pytest.raises(ValueError, match="validation_data: got something else"):
        MLPRegressor(**SMALL).fit(X, NUMBERS, validation_data=X)
    with pytest.raises(ValueError, match="for the solver 'lbfgs'"):
        MLPRegressor(**{**SMALL, "solver": "lbfgs"}).fit(X, NUMBERS, validation_data=(X, NUMBERS))
    with pytest.raises(AttributeError, match="partial_fit"):
        _ = MLPRegressor(solver="lbfgs").partial_fit


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
def test_warnings_are_scikit_learns():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(8\) reached and the optimization hasn't"):
        MLPRegressor(**SMALL).fit(X, NUMBERS)
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
        MLPRegressor(**{**SMALL, "solver": "lbfgs"}).fit(X, NUMBERS)
    with pytest.warns(DataConversionWarning), pytest.warns(ConvergenceWarning):
        MLPRegressor(**SMALL).fit(X, NUMBERS[:, np.newaxis])
    with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger than sample size"):
        MLPRegressor(**SMALL, batch_size=1000).fit(X, NUMBERS)


def test_a_fit_tells_of_its_epochs(capsys):
    told = []
    for module in (neural_network.MLPRegressor, MLPRegressor):
        module(**{**SMALL, "max_iter": 50}, verbose=True, early_stopping=True, tol=1.0, n_iter_no_change=2).fit(
            X, NUMBERS
        )
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert "Validation score" in told[0]


def test_a_fit_that_diverges_ends_as_scikit_learns():
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        MLPRegressor(solver="sgd", learning_rate_init=1e3, max_iter=30).fit(1e3 * X, NUMBERS)


def test_an_interrupt_keeps_what_was_learned(monkeypatch):
    real, made = networks.Training.epoch, []

    def epoch(self, order):
        made.append(real(self, order))
        if len(made) == 3:
            raise KeyboardInterrupt
        return made[-1]

    monkeypatch.setattr(networks.Training, "epoch", epoch)
    monkeypatch.setattr("fastnn.sklearn.multilayer.Training.epoch", epoch)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        fitted = MLPRegressor(**SMALL).fit(X, NUMBERS)
    assert fitted.n_iter_ == 2
    assert np.isfinite(fitted.predict(X)).all()


# --------------------------------------------------------------------------------------------------------------- beyond


def test_an_activation_for_each_layer():
    parameters = {**SMALL, "hidden_layer_sizes": (5, 6, 7)}
    uniform = MLPRegressor(**parameters, activation=("tanh", "tanh", "tanh")).fit(X, NUMBERS)
    assert same(uniform, MLPRegressor(**parameters, activation="tanh").fit(X, NUMBERS))
    mixed = MLPRegressor(**parameters, activation=("gelu", activations.mish, "logistic")).fit(X, NUMBERS)
    h = ops.gelu(X @ mixed.coefs_[0] + mixed.intercepts_[0])
    h = ops.mish(h @ mixed.coefs_[1] + mixed.intercepts_[1])
    h = ops.sigmoid(h @ mixed.coefs_[2] + mixed.intercepts_[2])
    np.testing.assert_allclose(mixed.predict(X), (h @ mixed.coefs_[3] + mixed.intercepts_[3]).ravel(), rtol=1e-12)
    many = np.tile(X, (4, 1))  # packed weights
    np.testing.assert_allclose(mixed.predict(many)[: len(X)], mixed.predict(X), rtol=1e-12)


@pytest.mark.parametrize("name", ["rmsprop", "adamw", "lion", "nadam", "adagrad"])
def test_any_optimizer_by_name_and_as_an_object(name):
    by_name = MLPRegressor(**SMALL, solver=name).fit(X, NUMBERS)
    made = optimizers.get(name)
    made.learning_rate = SMALL["learning_rate_init"]
    assert same(by_name, MLPRegressor(**SMALL, solver=made).fit(X, NUMBERS))
    assert made.iterations == 0  # a copy of it was trained with
    assert not made.state


def test_a_schedule_and_clipping_of_a_solver():
    schedule = optimizers.schedules.ExponentialDecay(0.05, 10, 0.5)
    fitted = MLPRegressor(**{**SMALL, "max_iter": 60}, solver=optimizers.SGD(schedule, clipnorm=1.0)).fit(X, NUMBERS)
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]


def test_dropout_is_drawn_from_the_random_state():
    plain, one, again = (MLPRegressor(**SMALL, dropout=rate).fit(X, NUMBERS) for rate in (0.0, (0.5,), 0.5))
    assert same(one, again)
    assert not same(one, plain)
    assert not same(one, MLPRegressor(**{**SMALL, "random_state": 1}, dropout=0.5).fit(X, NUMBERS))


def test_a_validation_set_of_ones_own():
    held_out, y_held = GENERATOR.normal(size=(30, 4)), GENERATOR.integers(0, 3, 30)
    watched = MLPClassifier(**SMALL).fit(X, LABELS, validation_data=(held_out, y_held))
    assert same(watched, MLPClassifier(**SMALL).fit(X, LABELS))  # it is looked at, no more
    assert len(watched.validation_scores_) == watched.n_iter_
    assert watched.validation_scores_[-1] == watched.score(held_out, y_held)
    stopped = MLPClassifier(**{**SMALL, "max_iter": 100}, early_stopping=True, n_iter_no_change=3)
    stopped.fit(X, LABELS, validation_data=(held_out, y_held, np.ones(30)))
    assert stopped.n_iter_ < 100
    assert stopped.best_validation_score_ == stopped.score(held_out, y_held) == max(stopped.validation_scores_)


@each_kind
def test_the_naive_backend_agrees(kind, y):
    parameters = {**SMALL, "max_iter": 2, "batch_size": 25}
    weights = np.linspace(0.5, 1.5, 40)
    cpu, naive = (
        kind(**parameters, backend=backend, alpha=0.1).fit(X[:40], y[:40], sample_weight=weights)
        for backend in ("cpu", "naive")
    )
    for one, other in zip(cpu.coefs_, naive.coefs_, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
    np.testing.assert_allclose(cpu.loss_curve_, naive.loss_curve_, rtol=1e-10)


@each_kind
def test_an_activation_of_ones_own_goes_layer_by_layer_to_the_same(kind, y):
    """What has a kernel and what has not; with sample weights, a penalty and a short last batch."""

    def own(x):
        return ops.tanh(x)

    parameters = {**SMALL, "batch_size": 20, "alpha": 0.1}
    weights = np.linspace(0.5, 1.5, len(X))
    for given in ({}, {"sample_weight": weights}):
        one, other = (kind(**parameters, activation=each).fit(X, y, **given) for each in ("tanh", own))
        for coef, wanted in zip(other.coefs_, one.coefs_, strict=True):
            np.testing.assert_allclose(coef, wanted, rtol=0, atol=1e-12)
        np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-12)


def test_a_backend_or_precision_that_cannot_serve_is_refused():
    if not machine.bfloat16_pairs():
        with pytest.raises(BackendError, match="precision: got 'bfloat16'"):
            MLPRegressor(**SMALL, precision="bfloat16").fit(X.astype(np.float32), NUMBERS)
    with pytest.raises(BackendError, match="float64"):
        MLPRegressor(**SMALL, precision="bfloat16").fit(X, NUMBERS)
    fallen_back = MLPRegressor(**SMALL, precision="auto").fit(X, NUMBERS)
    assert same(fallen_back, MLPRegressor(**SMALL).fit(X, NUMBERS))


@pytest.mark.parametrize("threads", [2, 4])
def test_any_number_of_threads_gives_the_same_bits(threads):
    wide = GENERATOR.normal(size=(600, 50)).astype(np.float32)
    y = wide[:, 0]
    parameters = {**SMALL, "hidden_layer_sizes": (64, 64)}
    one = MLPRegressor(**parameters)
    with fastnn.backends.use_num_threads(1):
        one.fit(wide, y)
    with fastnn.backends.use_num_threads(threads):
        assert same(MLPRegressor(**parameters).fit(wide, y), one)


def test_importing_the_package_is_cheap():
    program = (
        "import fastnn.sklearn, sys; print([each for each in ('sklearn', 'scipy', 'numba') if each in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
