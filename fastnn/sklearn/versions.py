"""What scikit-learn calls differently from version to version, and what of it other libraries' estimators stand on.

``fit_context`` validates parameters by the estimator's ``_parameter_constraints``; these and the constraints have an
underscore in scikit-learn, and are the documented way to its messages all the same.
"""

from __future__ import annotations

from typing import Any

from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.multiclass import _check_partial_fit_first_call as is_first_partial_fit
from sklearn.utils.optimize import _check_optimize_result as check_optimize_result
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before 1.6 it is a method

    def validate_data(estimator: Any, *data: Any, **how: Any) -> Any:
        """Check the input of an estimator, and note or compare its features."""
        return estimator._validate_data(*data, **how)


__all__ = [
    "Interval",
    "Options",
    "StrOptions",
    "check_optimize_result",
    "check_sample_weight",
    "fit_context",
    "is_first_partial_fit",
    "validate_data",
]
