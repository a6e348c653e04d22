"""Logistic and linear regression with scikit-learn's parameters and attributes, and summaries as R's glm and lm print.

The solvers stand over fastnn's matrix products: Newton's method where the Hessian is small, else L-BFGS; the normal
equation where it is well conditioned, else singular values.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn import linear_model
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from fastnn import ops
from fastnn.sklearn._blas import on_one_thread
from fastnn.sklearn._least_squares import LeastSquares
from fastnn.sklearn._likelihood import Fit, Likelihood, bounded_lbfgs, lbfgs, newton, proximal_newton
from fastnn.sklearn._summaries import LinearSummary, LogisticSummary, feature_names, linear_summary, logistic_summary
from fastnn.sklearn.versions import (
    DEPRECATES_PENALTY,
    StrOptions,
    check_sample_weight,
    class_weights,
    liblinear,
    validate_data,
)

Array = NDArray[Any]

# Coefficients up to which the Hessian is formed.
_NEWTON_COEFFICIENTS = 1000

# How warnings of too few iterations begin, which users' filters are by; else with the solver's or the class's name.
_NOT_CONVERGED = {
    "newton-cholesky": "Newton solver did not converge",
    "sag": "The max_iter was reached which means the coef_ did not converge",
    "saga": "The max_iter was reached which means the coef_ did not converge",
}


class PerfectSeparationWarning(ConvergenceWarning):  # type: ignore[misc]
    """The classes are separated by a plane: no coefficients maximise the likelihood."""


class LogisticRegression(linear_model.LogisticRegression):  # type: ignore[misc]
    """Logistic regression by maximum likelihood, with scikit-learn's parameters, attributes and errors.

    Minimises C * sum of sample_weight * loss + (1 - l1_ratio) / 2 * sum of coef^2 + l1_ratio * sum of |coef|, without a
    penalty for ``C=np.inf``. With up to 1000 coefficients, or ``solver="newton-cholesky"``, those of the minimum are
    found to 1e-6 whatever ``tol`` is; with more, and for "lbfgs", ``tol`` bounds the gradient of the mean loss.
    scikit-learn's "newton-cg", "sag" and "saga" have the same minimum and are taken for "auto"; "liblinear", which has
    another one, for it penalises the intercept, is scikit-learn's own fit, and alone looks at ``dual``,
    ``intercept_scaling`` and ``random_state``. Every other solver takes every ``l1_ratio``.

    ``summary()`` gives what R's ``glm(family = binomial)`` prints, for two classes and ``C=np.inf``. Where the classes
    are perfectly separated and nothing is penalised, ``PerfectSeparationWarning`` says so.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **{
            name: allowed
            for name, allowed in linear_model.LogisticRegression._parameter_constraints.items()
            if name not in ("multi_class", "penalty", "random_state", "solver")
        },
        "penalty": [StrOptions({"l1", "l2", "elasticnet", "deprecated"}), None],
        "random_state": ["random_state"],
        "solver": [StrOptions({"auto", "lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga"})],
    }

    def __init__(
        self,
        penalty: str | None = "deprecated",
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        dual: bool = False,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        intercept_scaling: float = 1,
        class_weight: Any = None,
        random_state: Any = None,
        solver: str = "auto",
        max_iter: int = 100,
        verbose: int = 0,
        warm_start: bool = False,
        n_jobs: int | None = None,
    ) -> None:
        self.penalty = penalty
        self.C = C
        self.l1_ratio = l1_ratio
        self.dual = dual
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticRegression:
        """Fit to rows X (n, features), dense or CSR, and classes y (n,); rows count by ``sample_weight`` (n,)."""
        self._validate_params()
        if own := self.solver != "liblinear":
            self._check_together()
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], order="C", accept_large_sparse=own
        )
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
                f"{self.classes_[0]!r}"
            )
        if not own:
            self._fit_liblinear(X, y, sample_weight)
            return self
        weights = self._weights(X, y, labels, sample_weight)
        total = float(len(labels) if weights is None else weights.sum())
        scaled = None if weights is None else (weights * (len(labels) / total)).astype(X.dtype)
        strength = 0.0 if self.penalty is None or np.isinf(self.C) else 1.0 / (self.C * total)
        lasso = strength * self._l1_share()
        classes = labels.astype(np.int64), scaled, len(self.classes_)
        model = Likelihood(X, *classes, strength - lasso, self.fit_intercept)
        with on_one_thread():
            found = self._minimise(model, lasso)
        self.coef_ = np.ascontiguousarray(found.W[: X.shape[1]].T)
        self.intercept_ = found.W[X.shape[1]].copy() if self.fit_intercept else np.zeros(model.columns, X.dtype)
        self.n_iter_ = np.array([found.iterations], dtype=np.int32)
        self._summary = logistic_summary(model, found, total, self._names()) if self._is_glm(model, strength) else None
        self._say(found)
        return self

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (n, classes), in the order of ``classes_``."""
        check_is_fitted(self)
        scores = np.ascontiguousarray(self.decision_function(X))
        if scores.ndim == 2:
            return np.asarray(ops.softmax(scores))
        return np.column_stack([ops.sigmoid(-scores), ops.sigmoid(scores)])

    def summary(self) -> LogisticSummary:
        """Coefficients with standard errors, z and p, deviances and AIC, as R's summary of a glm.

        Standard errors are from the inverse of the information matrix (the Hessian) at the fitted coefficients. Raises
        ValueError where a penalty has changed these (``C`` is not inf) or there are more than two classes.
        """
        check_is_fitted(self)
        if len(self.classes_) != 2:
            raise ValueError(f"summary: got a fit to {len(self.classes_)} classes, wants one to 2")
        if self._summary is None:
            raise ValueError(
                f"summary: got a fit with C={self.C}, wants C=np.inf (and up to {_NEWTON_COEFFICIENTS} coefficients): "
                "standard errors are those of coefficients without a penalty"
            )
        return self._summary

    @available_if(lambda _: hasattr(linear_model.LogisticRegression, "set_callbacks"))
    def set_callbacks(self, *callbacks: Any) -> LogisticRegression:
        """Keep callbacks, as scikit-learn from 1.9 on does; a warning says that no solver here calls them."""
        warnings.warn(
            f"Callbacks are only supported in scikit-learn's {type(self).__name__}, and will be ignored here",
            stacklevel=2,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says which solvers of its own call them
            super().set_callbacks(*callbacks)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = False
        return tags

    def _fit_liblinear(self, X: Any, y: Any, sample_weight: Any) -> None:
        """scikit-learn's own fit to two classes."""
        if len(self.classes_) > 2:
            raise ValueError(
                f"The 'liblinear' solver does not support multiclass classification: got {len(self.classes_)} classes, "
                "wants 2, another solver, or a OneVsRestClassifier of this one"
            )
        fitted = liblinear(self).fit(X, y, sample_weight)
        self.coef_, self.intercept_, self.n_iter_ = fitted.coef_, fitted.intercept_, fitted.n_iter_
        self._summary = None

    def _check_together(self) -> None:
        """ValueError for parameters that no solver here takes together, and a warning of those that do nothing so."""
        if DEPRECATES_PENALTY:
            self._warn_of_deprecated()
        if self.dual:
            raise ValueError(f"Solver {self.solver} supports only dual=False, got dual={self.dual}")
        if self.penalty == "elasticnet" and self.l1_ratio is None:
            raise ValueError("l1_ratio must be specified when penalty is elasticnet.")
        if self.penalty is None and self.C != 1.0:
            warnings.warn("Setting penalty=None will ignore the C and l1_ratio parameters", stacklevel=3)
        if self.penalty in ("l1", "l2") and 0 < (self.l1_ratio or 0) < 1:
            warnings.warn(
                f"l1_ratio parameter is only used when penalty is 'elasticnet'. Got (penalty={self.penalty})",
                stacklevel=3,
            )

    def _warn_of_deprecated(self) -> None:
        """FutureWarning for what scikit-learn will not take any more, so that code may go back to it."""
        if self.penalty != "deprecated":
            said = "'penalty' was deprecated by scikit-learn 1.8: use l1_ratio, or C=np.inf in place of penalty=None"
            warnings.warn(said, FutureWarning, stacklevel=4)
        elif self.l1_ratio is None:
            said = "'l1_ratio=None' was deprecated by scikit-learn 1.8: use a number in [0, 1]"
            warnings.warn(said, FutureWarning, stacklevel=4)
        if (self.penalty, self.l1_ratio) == ("l1", 0.0) or (self.penalty == "l2" and self.l1_ratio not in (0.0, None)):
            said = f"Inconsistent values: penalty={self.penalty} with l1_ratio={self.l1_ratio}: the penalty is taken"
            warnings.warn(said, stacklevel=4)
        if self.n_jobs is not None:
            said = f"'n_jobs' has no effect: got n_jobs={self.n_jobs}, wants None"
            warnings.warn(said, FutureWarning, stacklevel=4)

    def _is_glm(self, model: Likelihood, strength: float) -> bool:
        """Whether there is to be a summary: without a penalty."""
        return strength == 0 and model.columns == 1 and model.shape[0] <= _NEWTON_COEFFICIENTS

    def _names(self) -> list[str]:
        """Of the coefficients, the intercept's first, as far as there is one."""
        return (["(Intercept)"] if self.fit_intercept else []) + feature_names(self)

    def _weights(self, X: Any, y: Any, labels: Array, sample_weight: Any) -> Array | None:
        if sample_weight is None and self.class_weight is None:
            return None
        weights = check_sample_weight(sample_weight, X, dtype=np.float64, copy=True, ensure_non_negative=True)
        if self.class_weight is not None:
            weights *= class_weights(self.class_weight, self.classes_, y, sample_weight)[labels]
        return np.asarray(weights)

    def _l1_share(self) -> float:
        """Of the penalty, by its name or by l1_ratio."""
        return {"l1": 1.0, "l2": 0.0}.get(str(self.penalty), float(self.l1_ratio or 0.0))

    def _minimise(self, model: Likelihood, lasso: float) -> Fit:
        start = np.zeros(model.shape, model.x.dtype)
        if self.warm_start and hasattr(self, "coef_") and self.coef_.shape == (model.columns, model.x.shape[1]):
            start[: model.x.shape[1]] = self.coef_.T
            start[model.x.shape[1] :] = self.intercept_
        small = (
            start.size <= _NEWTON_COEFFICIENTS
            if self.solver not in ("lbfgs", "newton-cholesky")
            else self.solver != "lbfgs"
        )
        if lasso and small:
            return proximal_newton(model, start, lasso, self.max_iter)
        if lasso:
            return bounded_lbfgs(model, start, lasso, self.tol, self.max_iter)
        return (newton if small else lbfgs)(model, start, self.tol, self.max_iter)

    def _say(self, found: Fit) -> None:
        if found.separated:
            warnings.warn(
                f"{type(self).__name__}: the classes are perfectly separated by a linear combination of the features, "
                "so that no finite coefficients maximise the likelihood; those kept are where it was found, after "
                f"{found.iterations} iterations. A penalty (C below np.inf) has finite ones.",
                PerfectSeparationWarning,
                stacklevel=3,
            )
        elif not found.converged:
            name = type(self).__name__ if self.solver == "auto" else self.solver
            said = _NOT_CONVERGED.get(self.solver, f"{name} failed to converge")
            warnings.warn(
                f"{said} after {found.iterations} iterations: got max_iter={self.max_iter}. Increase the number of "
                "iterations, or scale the features",
                ConvergenceWarning,
                stacklevel=3,
            )


class LinearRegression(linear_model.LinearRegression):  # type: ignore[misc]
    """Ordinary least squares with scikit-learn's parameters, attributes and errors.

    It solves the normal equation X^T X w = X^T y of centred columns, and once more of what that leaves; where columns
    depend on one another, or almost, it takes the singular values of X, and of all solutions the shortest one.
    ``summary()`` gives what R's ``lm`` prints. ``positive=True`` is scikit-learn's own fit.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = linear_model.LinearRegression._parameter_constraints

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearRegression:
        """Fit to rows X (n, features), dense or CSR, and y (n,) or (n, targets); rows count by ``sample_weight``."""
        self._validate_params()
        self._summary = None
        if self.positive:
            super().fit(X, y, sample_weight)
            return self
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            y_numeric=True,
            multi_output=True,
            order="C",
        )
        X = X if X.dtype == np.float32 else X.astype(np.float64, copy=False)
        weights = None
        if sample_weight is not None:
            weights = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        flat = y.ndim == 1
        system = LeastSquares.of(X, y.reshape(len(y), -1), weights, self.fit_intercept)
        with on_one_thread():
            coefficients, self.rank_, self.singular_ = system.solve()
        intercepts = system.y_mean - system.x_mean @ coefficients
        self.coef_ = (coefficients[:, 0] if flat else np.ascontiguousarray(coefficients.T)).astype(X.dtype)
        if self.fit_intercept:
            self.intercept_ = X.dtype.type(intercepts[0]) if flat else intercepts.astype(X.dtype)
        else:
            self.intercept_ = 0.0
        if flat:
            self._summary = linear_summary(system, coefficients, intercepts, self.rank_, self._names())
        return self

    def summary(self) -> LinearSummary:
        """Coefficients with standard errors, t and p, residual error, R^2 and F, as R's summary of an lm.

        Raises ValueError for several targets, ``positive=True``, or where rows leave no degree of freedom.
        """
        check_is_fitted(self)
        if self._summary is None:
            raise ValueError("summary: got a fit of several targets or with positive=True, wants one target")
        if self._summary.df_residual <= 0:
            raise ValueError(f"summary: got a fit of {self._summary.rows} rows, wants more than there are coefficients")
        return self._summary

    def _names(self) -> list[str]:
        return (["(Intercept)"] if self.fit_intercept else []) + feature_names(self)
