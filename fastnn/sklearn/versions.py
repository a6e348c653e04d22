"""What scikit-learn calls differently from version to version, and what of it other libraries' estimators stand on.

``fit_context`` validates parameters by the estimator's ``_parameter_constraints``; these and the constraints have an
underscore in scikit-learn, and are the documented way to its messages all the same.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

from sklearn import linear_model
from sklearn.base import _fit_context as fit_context
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.multiclass import _check_partial_fit_first_call as is_first_partial_fit
from sklearn.utils.optimize import _check_optimize_result as check_optimize_result
from sklearn.utils.validation import _check_sample_weight

try:
    from sklearn.utils.validation import validate_data

    _NOT_NEGATIVE = "ensure_non_negative"
except ImportError:  # before 1.6 it is a method
    _NOT_NEGATIVE = "only_non_negative"

    def validate_data(estimator: Any, *data: Any, **how: Any) -> Any:
        """Check the input of an estimator, and note or compare its features."""
        return estimator._validate_data(*data, **how)


_BALANCES_WEIGHTS = "sample_weight" in inspect.signature(compute_class_weight).parameters


def check_sample_weight(given: Any, X: Any, *, ensure_non_negative: bool = False, **how: Any) -> Any:
    """Weights (n,) of the rows of X, ones for None, or one number for all."""
    return _check_sample_weight(given, X, **{_NOT_NEGATIVE: ensure_non_negative}, **how)


def class_weights(class_weight: Any, classes: Any, y: Any, sample_weight: Any = None) -> Any:
    """Weights (classes,); "balanced" ones are by ``sample_weight``, in versions before 1.7 by numbers of rows."""
    weighted = {"sample_weight": sample_weight} if class_weight == "balanced" and _BALANCES_WEIGHTS else {}
    return compute_class_weight(class_weight, classes=classes, y=y, **weighted)


# From 1.8 on a logistic regression's penalty is by l1_ratio and C alone, and n_jobs does nothing.
DEPRECATES_PENALTY = linear_model.LogisticRegression().penalty == "deprecated"

_OF_LIBLINEAR = (
    "penalty", "C", "l1_ratio", "dual", "tol", "fit_intercept", "intercept_scaling", "class_weight", "random_state",
    "solver", "max_iter", "verbose", "n_jobs",
)  # fmt: skip


def liblinear(estimator: Any) -> Any:
    """scikit-learn's own logistic regression with an estimator's parameters."""
    given = {name: getattr(estimator, name) for name in _OF_LIBLINEAR}
    if not DEPRECATES_PENALTY and given["penalty"] == "deprecated":
        named = {0.0: "l2", 1.0: "l1"}.get(float(estimator.l1_ratio or 0.0), "elasticnet")
        given["penalty"] = None if math.isinf(estimator.C) else named
    return linear_model.LogisticRegression(**given)


__all__ = [
    "DEPRECATES_PENALTY",
    "Interval",
    "Options",
    "StrOptions",
    "check_optimize_result",
    "check_sample_weight",
    "class_weights",
    "fit_context",
    "is_first_partial_fit",
    "liblinear",
    "validate_data",
]
