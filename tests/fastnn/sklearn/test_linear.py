"""Logistic and linear regression: coefficients against other solvers, R's tables, bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy import sparse, stats
from sklearn import linear_model
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn_versions import elastic_net, failed_checks

import fastnn
from fastnn import ops
from fastnn.sklearn import LinearRegression, LogisticRegression, PerfectSeparationWarning
from fastnn.sklearn._likelihood import Likelihood
from fastnn.sklearn.versions import DEPRECATES_PENALTY

IRIS, SPECIES = load_iris(return_X_y=True)
# Two species that two lengths do not separate, for coefficients that there are.
MIXED, WHICH = np.ascontiguousarray(IRIS[50:, :2]), SPECIES[50:]


@pytest.mark.parametrize("estimator", [LogisticRegression(), LogisticRegression(solver="lbfgs"), LinearRegression()])
def test_scikit_learns_checks_pass(estimator):
    failed, checks = failed_checks(estimator)
    assert failed == set()
    assert checks > 40


def likeliest(x, y, intercept=True, weights=None):
    """The maximum-likelihood coefficients by plain Newton steps in long doubles, the intercept first."""
    a = np.column_stack([np.ones(len(x)), x]) if intercept else x
    a, w = a.astype(np.longdouble), np.zeros(a.shape[1], np.longdouble)
    weights = np.ones(len(x)) if weights is None else weights
    for _ in range(30):
        p = 1 / (1 + np.exp(-(a @ w)))
        information = (a * (weights * p * (1 - p))[:, None]).T @ a
        w += np.linalg.solve(information.astype(float), (a.T @ (weights * (y - p))).astype(float))
    return w.astype(float), np.linalg.inv(information.astype(float))


def of(model):
    return np.r_[model.intercept_, np.ravel(model.coef_)]


@pytest.mark.parametrize("solver", ["auto", "newton-cholesky", "lbfgs"])
@pytest.mark.parametrize("stored", [np.asarray, sparse.csr_matrix])
def test_coefficients_are_the_likeliest(solver, stored):
    model = LogisticRegression(C=np.inf, solver=solver, tol=1e-9, max_iter=500).fit(stored(MIXED), WHICH)
    wanted, _ = likeliest(MIXED, WHICH == 2)
    np.testing.assert_allclose(of(model), wanted, rtol=1e-6)


def test_coefficients_are_the_likeliest_whatever_tol():
    model = LogisticRegression(C=np.inf, tol=1.0).fit(MIXED, WHICH)
    np.testing.assert_allclose(of(model), likeliest(MIXED, WHICH == 2)[0], rtol=1e-6)


def test_many_rows_begin_with_a_part_of_them():
    random = np.random.default_rng(0)
    x = random.normal(size=(6000, 5))
    y = random.random(6000) < 1 / (1 + np.exp(-(x @ np.arange(5) / 3 - 0.5)))
    model = LogisticRegression(C=np.inf).fit(x, y)
    np.testing.assert_allclose(of(model), likeliest(x, y)[0], rtol=1e-7)
    weights = random.integers(0, 3, size=6000)
    model = LogisticRegression(C=np.inf).fit(x, y, weights)
    np.testing.assert_allclose(of(model), likeliest(x, y, weights=weights)[0], rtol=1e-7)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("options", [{}, {"C": 0.1}, {"fit_intercept": False}, {"class_weight": "balanced"}])
def test_penalised_coefficients_are_scikit_learns(classes, options):
    x, y = (IRIS, SPECIES) if classes == 3 else (MIXED, WHICH)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, size=len(x))
    ours = LogisticRegression(**options).fit(x, y, weights)
    theirs = linear_model.LogisticRegression(tol=1e-10, max_iter=10_000, solver="lbfgs", **options)
    theirs.fit(x, y, weights)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-6)
    assert ours.coef_.shape == theirs.coef_.shape
    assert ours.n_iter_.shape == theirs.n_iter_.shape


@pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_coefficients_under_an_l1_penalty_are_scikit_learns(classes, ratio):
    x, y = (IRIS, SPECIES) if classes == 3 else (MIXED, WHICH)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    ours = LogisticRegression(C=0.2, l1_ratio=ratio).fit(scaled, y)
    reached = {"solver": "saga", "tol": 1e-12, "max_iter": 100_000}
    theirs = linear_model.LogisticRegression(C=0.2, **elastic_net(ratio), **reached).fit(scaled, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(scaled), theirs.predict_proba(scaled), atol=1e-6)
    assert ratio < 1 or (ours.coef_ == 0).any()
    named = LogisticRegression({0.5: "elasticnet", 1.0: "l1"}[ratio], C=0.2, l1_ratio=ratio).fit(scaled, y)
    np.testing.assert_array_equal(named.coef_, ours.coef_)


@pytest.mark.parametrize("stored", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("classes", [2, 3])
def test_many_coefficients_under_an_l1_penalty(classes, stored):
    """The subgradient is that of a minimum: ``lasso`` against the sign where a coefficient is not 0, else within."""
    random = np.random.default_rng(8)
    x = random.normal(size=(300, 1200)) * (random.random((300, 1200)) < 0.2)
    y = (x[:, 0] + x[:, 1] > 0).astype(int) + (classes == 3) * (x[:, 2] > 0.3)
    ours = LogisticRegression(C=1.0, l1_ratio=0.8, tol=1e-7, max_iter=5000).fit(stored(x), y)
    lasso, ridge = 0.8 / 300, 0.2 / 300
    columns = 1 if classes == 2 else classes
    model = Likelihood(x, y.astype(np.int64), None, classes, ridge, True)
    W = np.vstack([ours.coef_.T, ours.intercept_])
    slope = model.gradient(W)[1]
    chosen = ours.coef_.T != 0
    assert 5 < chosen.sum() < 0.5 * chosen.size
    np.testing.assert_allclose(slope[:-1][chosen], -lasso * np.sign(ours.coef_.T[chosen]), atol=2e-7)
    assert np.abs(slope[:-1]).max() <= lasso + 2e-7
    np.testing.assert_allclose(slope[-1], np.zeros(columns), atol=2e-7)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_faint_l1_penalty_where_columns_depend_on_one_another(classes):
    """Descent by one coefficient after the other would take thousands of sweeps along what the loss is flat in."""
    random = np.random.default_rng(9)
    x = random.normal(size=(300, 6))
    x = np.column_stack([x, x @ random.normal(size=(6, 4))])
    y = (x[:, 0] + random.normal(size=300) > 0).astype(int) + (classes == 3) * (x[:, 1] > 0.5)
    ours = LogisticRegression(C=1e5, l1_ratio=1.0, fit_intercept=False).fit(x, y)
    model = Likelihood(x, y.astype(np.int64), None, classes, 0.0, False)
    slope, lasso = model.gradient(np.ascontiguousarray(ours.coef_.T))[1], 1 / (1e5 * 300)
    chosen = ours.coef_.T != 0
    assert 0 < chosen.sum() <= 6 * (classes - 1 + (classes == 3))
    np.testing.assert_allclose(slope[chosen], -lasso * np.sign(ours.coef_.T[chosen]), atol=1e-2 * lasso)
    assert np.abs(slope).max() <= (1 + 1e-2) * lasso


def test_solvers_agree_under_an_l1_penalty():
    scaled = (IRIS - IRIS.mean(axis=0)) / IRIS.std(axis=0)
    newton, lbfgs = (
        LogisticRegression(C=0.2, l1_ratio=1.0, solver=solver, tol=1e-9, max_iter=5000).fit(scaled, SPECIES)
        for solver in ("newton-cholesky", "lbfgs")
    )
    np.testing.assert_allclose(lbfgs.coef_, newton.coef_, atol=1e-6)
    assert ((lbfgs.coef_ == 0) == (newton.coef_ == 0)).all()
    again = LogisticRegression(C=0.2, l1_ratio=1.0, solver="lbfgs", tol=1e-9, max_iter=5000, warm_start=True)
    again.coef_, again.intercept_ = newton.coef_, newton.intercept_
    assert again.fit(scaled, SPECIES).n_iter_[0] <= 2 < lbfgs.n_iter_[0]


@pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning")
def test_no_penalty_is_spelled_as_in_older_versions():
    wanted = of(LogisticRegression(C=np.inf).fit(MIXED, WHICH))
    np.testing.assert_array_equal(of(LogisticRegression(penalty=None).fit(MIXED, WHICH)), wanted)
    assert not np.allclose(of(LogisticRegression("l2").fit(MIXED, WHICH)), wanted, rtol=1e-2)


def test_gradient_descent_reaches_the_same_coefficients_and_cost():
    """The source's exercise: of 50 rows the deviance is 2 * 50 times the mean cost."""
    x, y = MIXED[25:75], (WHICH[25:75] == 2).astype(float)[:, None]
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    w, b = np.zeros((2, 1)), np.zeros(1)

    @fastnn.program
    def step(x, y):
        cost, (dw, db) = fastnn.gradients(
            lambda w, b: ops.binary_cross_entropy(ops.linear(x, w, b), y, from_logits=True)[0], (w, b)
        )
        ops.sgd_step([w, b], [dw, db], learning_rate=2.0)
        return cost

    for _ in range(5000):
        cost = step(scaled, y)
    model = LogisticRegression(C=np.inf).fit(scaled, y[:, 0])
    np.testing.assert_allclose(np.r_[b, w[:, 0]], of(model), atol=1e-6)
    assert model.summary().deviance == pytest.approx(2 * 50 * cost, rel=1e-9)


def test_summary_is_that_of_a_glm():
    model = LogisticRegression(C=np.inf).fit(MIXED, WHICH)
    summary = model.summary()
    wanted, covariance = likeliest(MIXED, WHICH == 2)
    table = summary.coefficients
    assert table.names == ("(Intercept)", "x1", "x2")
    np.testing.assert_allclose(table.estimate, wanted, rtol=1e-7)
    np.testing.assert_allclose(table.std_error, np.sqrt(covariance.diagonal()), rtol=1e-6)
    np.testing.assert_allclose(table.statistic, table.estimate / table.std_error)
    np.testing.assert_allclose(table.p_value, 2 * stats.norm.sf(np.abs(table.statistic)), rtol=1e-9)
    p = model.predict_proba(MIXED)[np.arange(100), (WHICH == 2).astype(int)]
    assert summary.deviance == pytest.approx(-2 * np.log(p).sum(), rel=1e-9)
    assert summary.null_deviance == pytest.approx(200 * np.log(2), rel=1e-12)
    assert summary.aic == pytest.approx(summary.deviance + 6)
    assert (summary.df_residual, summary.df_null) == (97, 99)
    text = str(summary)
    for part in ("(Intercept)", "Std. Error", "Pr(>|z|)", "Residual deviance: 110.326 on 97", "AIC: 116.326", "***"):
        assert part in text


def test_summary_names_the_columns_of_a_frame():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(MIXED, columns=["length", "width"])
    summary = LogisticRegression(C=np.inf, fit_intercept=False).fit(frame, WHICH).summary()
    assert summary.coefficients.names == ("length", "width")
    assert summary.null_deviance == pytest.approx(200 * np.log(2))


@pytest.mark.parametrize(
    ("model", "rows", "message"),
    [
        (LogisticRegression(), slice(50, 150), r"got a fit with C=1.0, wants C=np.inf"),
        (LogisticRegression(C=np.inf), slice(0, 150), r"got a fit to 3 classes, wants one to 2"),
    ],
)
def test_summaries_that_there_are_not(model, rows, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = clone(model).fit(IRIS[rows, :2], SPECIES[rows])
    with pytest.raises(ValueError, match=message):
        model.summary()
    with pytest.raises(NotFittedError):
        clone(model).summary()


@pytest.mark.parametrize("solver", ["newton-cholesky", "lbfgs"])
@pytest.mark.parametrize("classes", [2, 3])
def test_perfect_separation_is_said(solver, classes):
    x = np.random.default_rng(2).normal(size=(60, 2))
    y = (x[:, 0] > 0).astype(int) + (classes == 3) * (x[:, 0] > 1)
    x[:, 0] += y
    with pytest.warns(PerfectSeparationWarning, match="perfectly separated"):
        LogisticRegression(C=np.inf, solver=solver, max_iter=200).fit(x, y)
    LogisticRegression(C=100.0, solver=solver, max_iter=1000).fit(x, y)


def test_separation_but_for_ties_is_said():
    x = np.array([[-2.0], [-1.0], [0.0], [0.0], [1.0], [2.0]])
    with pytest.warns(PerfectSeparationWarning):
        LogisticRegression(C=np.inf).fit(x, [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ("auto", "LogisticRegression failed to converge"),
        ("lbfgs", "lbfgs failed to converge"),
        ("liblinear", "Liblinear failed to converge"),
        ("newton-cg", "newton-cg failed to converge after 1 iterations: got max_iter=1. Increase the number of iter"),
        ("newton-cholesky", "Newton solver did not converge after 1 iterations"),
        ("sag", "The max_iter was reached which means the coef_ did not converge"),
        ("saga", "The max_iter was reached which means the coef_ did not converge"),
    ],
)
def test_too_few_iterations_are_said(solver, message):
    """In words that filters for scikit-learn's warnings find."""
    with pytest.warns(ConvergenceWarning, match=message):
        LogisticRegression(max_iter=1, solver=solver, tol=1e-15).fit(MIXED, WHICH)


@pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning", "ignore:Inconsistent values")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": None, "C": 4.0}, "Setting penalty=None will ignore the C"),
        ({"penalty": "l2", "l1_ratio": 0.5}, "l1_ratio parameter is only used when penalty is 'elasticnet'"),
    ],
)
def test_parameters_that_do_nothing_are_said(options, message):
    with pytest.warns(UserWarning, match=message):
        fitted = LogisticRegression(**options).fit(MIXED, WHICH)
    same = {"C": np.inf} if options["penalty"] is None else {}
    np.testing.assert_array_equal(fitted.coef_, LogisticRegression(**same).fit(MIXED, WHICH).coef_)


@pytest.mark.skipif(not DEPRECATES_PENALTY, reason="this scikit-learn deprecates none of them")
@pytest.mark.parametrize(
    ("options", "category", "message"),
    [
        ({"penalty": "l2"}, FutureWarning, "'penalty' was deprecated"),
        ({"l1_ratio": None}, FutureWarning, "'l1_ratio=None' was deprecated"),
        ({"n_jobs": 2}, FutureWarning, "'n_jobs' has no effect: got n_jobs=2"),
        ({"penalty": "l1"}, UserWarning, "Inconsistent values: penalty=l1 with l1_ratio=0.0"),
        ({"penalty": "l2", "l1_ratio": 1.0}, UserWarning, "Inconsistent values: penalty=l2 with l1_ratio=1.0"),
    ],
)
def test_parameters_that_scikit_learn_deprecates_are_said(options, category, message):
    for solver in ("auto", "saga"):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            LogisticRegression(solver=solver, **options).fit(MIXED, WHICH)
        found = [each for each in said if message in str(each.message)]
        assert [each.category for each in found] == [category]
        assert found[0].filename == __file__


@pytest.mark.parametrize("options", [{}, {"l1_ratio": 1.0}, {"dual": True, "C": 0.1}, {"C": 0.1}])
@pytest.mark.parametrize("stored", [np.asarray, sparse.csr_matrix])
def test_liblinear_is_scikit_learns(stored, options):
    names = {0.0: "l2", 1.0: "l1"}
    of_version = {} if DEPRECATES_PENALTY else {"penalty": names[options.get("l1_ratio", 0.0)]}
    given = {
        "solver": "liblinear",
        "intercept_scaling": 5.0,
        "class_weight": "balanced",
        "max_iter": 2000,
        "tol": 1e-9,
        "random_state": 3,
        **options,
    }
    weights = np.random.default_rng(1).uniform(0.5, 2.0, size=len(MIXED))
    ours = LogisticRegression(**given).fit(stored(MIXED), WHICH, weights)
    theirs = linear_model.LogisticRegression(**given, **of_version).fit(stored(MIXED), WHICH, weights)
    for name in ("coef_", "intercept_", "n_iter_", "classes_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(MIXED), theirs.predict_proba(MIXED), rtol=1e-6)
    with pytest.raises(ValueError, match="got a fit with C="):
        ours.summary()


def test_liblinear_is_for_two_classes_and_narrow_indices():
    model = LogisticRegression(solver="liblinear")
    with pytest.raises(ValueError, match="does not support multiclass classification: got 3 classes, wants 2"):
        model.fit(IRIS, SPECIES)
    wide = sparse.csr_matrix(MIXED)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    with pytest.raises(ValueError, match="32-bit"):
        model.fit(wide, WHICH)


@pytest.mark.skipif(not hasattr(linear_model.LogisticRegression, "set_callbacks"), reason="none in this scikit-learn")
def test_callbacks_are_said_to_be_ignored():
    with pytest.warns(UserWarning, match="will be ignored here"):
        LogisticRegression().set_callbacks().fit(MIXED, WHICH)


@pytest.mark.parametrize(
    "estimator", [LogisticRegression(), LogisticRegression(solver="lbfgs", max_iter=1000), LinearRegression()]
)
def test_sparse_matrices_may_have_64_bit_indices(estimator):
    stored = sparse.csr_matrix(IRIS)
    wide = stored.copy()
    wide.indices, wide.indptr = stored.indices.astype(np.int64), stored.indptr.astype(np.int64)
    wanted = clone(estimator).fit(stored, SPECIES).coef_
    np.testing.assert_array_equal(estimator.fit(wide, SPECIES).coef_, wanted)
    assert wide.indices.dtype == np.int64


@pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"C": -1.0}, "'C' parameter"),
        ({"tol": -1.0}, "'tol' parameter"),
        ({"l1_ratio": 1.5}, "'l1_ratio' parameter"),
        ({"penalty": "l3"}, "'penalty' parameter"),
        ({"solver": "newton"}, "'solver' parameter"),
        ({"solver": "liblinear", "C": np.inf}, "not supported for the liblinear solver"),
        ({"solver": "liblinear", "l1_ratio": 0.5}, "Only 'saga' solver supports elasticnet"),
        ({"max_iter": -1}, "'max_iter' parameter"),
        ({"class_weight": "even"}, "'class_weight' parameter"),
        ({"dual": True}, "supports only dual=False"),
        ({"penalty": "elasticnet", "l1_ratio": None}, "l1_ratio must be specified"),
    ],
)
def test_parameters_that_are_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        LogisticRegression(**options).fit(MIXED, WHICH)


@pytest.mark.parametrize("estimator", [LogisticRegression(), LinearRegression()])
def test_data_that_are_wrong(estimator):
    for x, y in (([[np.nan], [1.0]], [0, 1]), ([[1.0], [2.0]], [0]), ([1.0, 2.0], [0, 1])):
        with pytest.raises(ValueError, match=r"NaN|inconsistent|2D array"):
            estimator.fit(x, y)
    with pytest.raises(ValueError, match="Negative values in"):
        estimator.fit(MIXED, WHICH, -np.ones(100))


def test_derivatives_are_those_of_the_loss():
    random = np.random.default_rng(3)
    for classes in (2, 4):
        labels = random.integers(0, classes, 30)
        model = Likelihood(random.normal(size=(30, 3)), labels, random.uniform(0.5, 2, 30), classes, 0.3, True)
        W = random.normal(size=model.shape)
        value, gradient, hessian = model.hessian(W)
        assert value == model.value(W)
        for place in range(W.size):
            step = np.zeros(W.size)
            step[place] = 1e-5
            step = step.reshape(W.T.shape).T
            rise = (model.value(W + step) - model.value(W - step)) / 2e-5
            turn = (model.gradient(W + step)[1] - model.gradient(W - step)[1]) / 2e-5
            assert rise == pytest.approx(gradient.T.ravel()[place], abs=1e-8)
            np.testing.assert_allclose(turn.T.ravel(), hessian[place], atol=1e-8)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_bits_are_those_of_any_number_of_threads(threads):
    x = np.random.default_rng(4).normal(size=(5000, 40))
    y = x[:, 0] + np.random.default_rng(5).normal(size=5000) > 0
    before = fastnn.get_num_threads()
    fastnn.set_num_threads(1)
    wanted = LogisticRegression().fit(x, y)
    fastnn.set_num_threads(threads)
    try:
        np.testing.assert_array_equal(LogisticRegression().fit(x, y).coef_, wanted.coef_)
    finally:
        fastnn.set_num_threads(before)


# --------------------------------------------------------------------------------------------------- linear regression


@pytest.mark.parametrize("stored", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", [(), (2,)])
def test_linear_coefficients_solve_the_normal_equation(stored, intercept, weighted, targets):
    random = np.random.default_rng(6)
    x, y = random.normal(size=(80, 4)) + 3.0, random.normal(size=(80, *targets))
    weights = random.uniform(0.1, 3.0, size=80) if weighted else None
    model = LinearRegression(fit_intercept=intercept).fit(stored(x), y, weights)
    a = np.column_stack([np.ones(80), x]) if intercept else x
    by_row = np.eye(80) if weights is None else np.diag(weights)
    solution = np.linalg.solve(a.T @ by_row @ a, a.T @ by_row @ y)
    np.testing.assert_allclose(model.coef_, solution[intercept:].T, rtol=1e-9, atol=1e-11)
    if intercept:
        np.testing.assert_allclose(model.intercept_, solution[0], rtol=1e-9)
    theirs = linear_model.LinearRegression(fit_intercept=intercept).fit(stored(x), y, weights)
    np.testing.assert_allclose(model.coef_, theirs.coef_, rtol=1e-5)
    assert model.coef_.shape == theirs.coef_.shape
    assert model.rank_ == 4
    np.testing.assert_allclose(model.predict(stored(x)), theirs.predict(stored(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stored", [np.asarray, sparse.csr_matrix])
def test_linear_coefficients_where_columns_depend_on_one_another_are_the_shortest(stored):
    random = np.random.default_rng(7)
    x = random.normal(size=(50, 3))
    x = np.column_stack([x, x[:, 0] - 2 * x[:, 1], np.ones(50)])
    y = random.normal(size=50)
    model = LinearRegression().fit(stored(x), y)
    wanted = linear_model.LinearRegression().fit(x, y)
    np.testing.assert_allclose(model.coef_, wanted.coef_, atol=1e-9)
    assert model.rank_ == wanted.rank_ == 3
    wide = LinearRegression().fit(stored(x[:4]), y[:4])
    np.testing.assert_allclose(wide.coef_, linear_model.LinearRegression().fit(x[:4], y[:4]).coef_, atol=1e-9)


def test_almost_dependent_columns_keep_their_digits():
    """A Hilbert-like design of condition 1e7, whose Gram matrix has 1e14."""
    x = np.vander(np.linspace(0.5, 1.5, 60), 8)[:, :-1]
    y = x @ np.arange(1.0, 8.0)
    model = LinearRegression().fit(x, y)
    np.testing.assert_allclose(model.coef_, np.arange(1.0, 8.0), rtol=1e-6)


def test_summary_is_that_of_an_lm():
    x, y = IRIS[:, :3], IRIS[:, 3]
    summary = LinearRegression().fit(x, y).summary()
    a = np.column_stack([np.ones(150), x])
    w = np.linalg.solve(a.T @ a, a.T @ y)
    left = ((y - a @ w) ** 2).sum()
    error = np.sqrt(left / 146 * np.linalg.inv(a.T @ a).diagonal())
    np.testing.assert_allclose(summary.coefficients.estimate, w, rtol=1e-9)
    np.testing.assert_allclose(summary.coefficients.std_error, error, rtol=1e-8)
    np.testing.assert_allclose(summary.coefficients.p_value, 2 * stats.t.sf(np.abs(w / error), 146), rtol=1e-6)
    explained = 1 - left / ((y - y.mean()) ** 2).sum()
    assert summary.r_squared == pytest.approx(explained, rel=1e-12)
    assert summary.adjusted_r_squared == pytest.approx(1 - (1 - explained) * 149 / 146, rel=1e-12)
    assert summary.f_statistic == pytest.approx(explained / 3 / (1 - explained) * 146, rel=1e-9)
    assert summary.sigma == pytest.approx(np.sqrt(left / 146), rel=1e-12)
    text = str(summary)
    for part in (
        "t value",
        "Residual standard error: 0.191967 on 146",
        "R-squared: 0.93785",
        "F-statistic: 734.389 on 3",
    ):
        assert part in text


def test_summaries_of_least_squares_that_there_are_not():
    with pytest.raises(ValueError, match="wants one target"):
        LinearRegression().fit(IRIS[:, :2], IRIS[:, 2:]).summary()
    with pytest.raises(ValueError, match="wants one target"):
        LinearRegression(positive=True).fit(IRIS[:, :2], IRIS[:, 2]).summary()
    with pytest.raises(ValueError, match="got a fit of 3 rows"):
        LinearRegression().fit(IRIS[:3, :2], IRIS[:3, 2]).summary()
