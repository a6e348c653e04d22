"""Rosenblatt's perceptron with scikit-learn's parameters, attributes and errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn import linear_model
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from fastnn import ops, programs
from fastnn.sklearn.versions import check_sample_weight, is_first_partial_fit, validate_data

Array = NDArray[Any]


class Perceptron(linear_model.Perceptron):  # type: ignore[misc]
    """The perceptron: w += eta0 * (y - sign(w.x)) * x for one row after the other (Rosenblatt 1958).

    y is 1 or -1, and sign(0) is 0; an intercept is the weight of an x of 1. More than two classes have a perceptron
    each, against all others. Weights of rows or classes scale the change. Rows go by in an order that is shuffled for
    every epoch; it ends with the first one without a mistake, or, unless ``tol`` is None, when the share of mistakes
    has not fallen by ``tol`` for ``n_iter_no_change`` epochs.

    scikit-learn's parameters, attributes and errors, whose own rule steps half as far, and by eta0 * y * x where w.x is
    0. Its penalties are refused by a ValueError: the rule has none.
    """

    classes_: Array
    coef_: Array
    intercept_: Array
    t_: float

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **linear_model.Perceptron._parameter_constraints,
        "penalty": [None],
    }

    def fit(
        self, X: Any, y: Any, coef_init: Any = None, intercept_init: Any = None, sample_weight: Any = None
    ) -> Perceptron:
        """Fit to rows X (n, features), dense or CSR, and classes y (n,), from these weights or from zeros."""
        self._validate_params()
        if not (self.warm_start and hasattr(self, "classes_")):
            for name in ("classes_", "coef_", "intercept_", "t_"):
                self.__dict__.pop(name, None)
        X, y, classes = self._checked(X, y, reset=True)
        self._begin(classes, X, coef_init, intercept_init)
        if len(classes) < 2:
            raise ValueError(f"The number of classes has to be greater than one; got {len(classes)} class")
        weights = self._weights(X, y, sample_weight)
        random = check_random_state(self.random_state)
        rows, held = np.arange(len(y)), None
        if self.early_stopping:
            rows, held = train_test_split(rows, test_size=self.validation_fraction, random_state=random, stratify=y)
        self._train(X, y, weights, rows, held, random)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Perceptron:
        """One epoch; the first call is given all ``classes`` that later ones may have."""
        self._validate_params()
        if self.early_stopping:
            raise ValueError("early_stopping should be False with partial_fit")
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit. In order to use 'balanced' weights, use "
                "compute_class_weight('balanced', classes=classes, y=y) and pass the weights as class_weight."
            )
        first = not hasattr(self, "classes_")
        X, y, found = self._checked(X, y, reset=first)
        is_first_partial_fit(self, classes)
        if (unknown := np.setdiff1d(found, self.classes_)).size:
            raise ValueError(f"y: got the classes {unknown.tolist()}, wants some of {self.classes_.tolist()}")
        if first:
            self._begin(self.classes_, X, None, None)
        epoch, weights = self._epoch(X, y, self._weights(X, y, sample_weight))
        order = check_random_state(self.random_state).permutation(len(y)) if self.shuffle else np.arange(len(y))
        epoch(order)
        self._keep(weights, 1, len(y))
        return self

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[Any, Array, Array]:
        """X and y as arrays, and the classes among y."""
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], order="C", reset=reset,
            accept_large_sparse=False,
        )  # fmt: skip
        classes = np.unique(y)
        check_classification_targets(y)
        return X, y, classes

    def _weights(self, X: Any, y: Array, sample_weight: Any) -> Array | None:
        """Of each row; None for ones."""
        if sample_weight is None and self.class_weight is None:
            return None
        weights = check_sample_weight(sample_weight, X, dtype=X.dtype, copy=True)
        if self.class_weight is not None:
            scale = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
            weights = weights * scale[np.searchsorted(self.classes_, y)].astype(X.dtype)
        return np.asarray(weights)

    def _begin(self, classes: Array, X: Any, coef: Any, intercept: Any) -> None:
        """Weights to begin with: those that are given, those there are, or zeros."""
        columns, features = (1 if len(classes) <= 2 else len(classes)), X.shape[1]
        kept = getattr(self, "coef_", None) is not None and np.array_equal(classes, self.classes_)
        self.classes_ = classes
        for name, given, shape in (("coef_", coef, (columns, features)), ("intercept_", intercept, (columns,))):
            value = given if given is not None else getattr(self, name) if kept else np.zeros(shape)
            value = np.array(value, X.dtype)
            if value.size != np.prod(shape):
                raise ValueError(f"{name[:-1]}_init: got shape {value.shape}, wants {shape}")
            setattr(self, name, value.reshape(shape))
        if not kept:
            self.t_ = 1.0

    def _epoch(self, X: Any, y: Array, weights: Array | None) -> tuple[Callable[[Array], float], list[Array]]:
        """What takes rows in an order once and gives the share of mistakes; the weights that it changes."""
        one_each = np.arange(len(self.classes_)) if len(self.classes_) > 2 else np.array([1])
        numbers = np.searchsorted(self.classes_, y)
        targets = np.where(numbers[:, None] == one_each, 1.0, -1.0).astype(X.dtype)
        w, b = np.ascontiguousarray(self.coef_.T), self.intercept_.copy()
        trained = [w, b] if self.fit_intercept else [w]

        def step(x: Any, t: Array, *scale: Array) -> float:
            signs = ops.sign(ops.linear(x, w, b))
            wrong = ops.subtract(signs, t)
            slope = ops.multiply(wrong, scale[0]) if scale else wrong
            slopes = ops.linear_backward(slope, x, w, signs, need=("dw", "db"))
            ops.sgd_step(trained, list(slopes[1 : 1 + len(trained)]), learning_rate=self.eta0)
            mistakes, _ = ops.mae(signs, t)
            return mistakes

        data = (X, targets) if weights is None else (X, targets, weights[:, None])
        recorded = programs.program(step)
        return lambda order: float(np.mean(recorded.repeat(data, order, 1))) / 2, trained

    def _train(self, X: Any, y: Array, weights: Array | None, rows: Array, held: Array | None, random: Any) -> None:
        epoch, trained = self._epoch(X, y, weights)
        best, without = np.inf, 0
        for number in range(1, self.max_iter + 1):
            mistakes = epoch(random.permutation(rows) if self.shuffle else rows)
            self._keep(trained, number, len(rows))
            if self.verbose:
                print(f"-- Epoch {number}\nmistakes: {mistakes:.6f} of all rows")
            judged = mistakes if held is None else 1.0 - self.score(X[held], y[held])
            without = without + 1 if self.tol is not None and judged > best - self.tol else 0
            best = min(best, judged)
            if mistakes == 0 or without >= self.n_iter_no_change:
                return
        if self.tol is not None:
            warnings.warn(
                "Maximum number of iteration reached before convergence. Consider increasing max_iter to improve the "
                "fit.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _keep(self, trained: list[Array], epochs: int, rows: int) -> None:
        self.coef_ = np.ascontiguousarray(trained[0].T)
        self.intercept_ = trained[1].copy() if self.fit_intercept else self.intercept_
        self.n_iter_ = epochs
        self.t_ += rows
