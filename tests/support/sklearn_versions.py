"""What tests against scikit-learn need to know of its version."""

from __future__ import annotations

import re
import warnings
from unittest import SkipTest

import sklearn
from sklearn.utils.estimator_checks import check_estimator

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
# Networks' fits take sample weights, and regressors a loss.
WEIGHS_SAMPLES = VERSION >= (1, 7)
# Checks, by the names they have had, that hold for no rule which rows change the weights by in turn: a row of weight 2
# is no row that comes twice, and one of weight 0 takes a place in the order.
OF_EQUAL_WEIGHTS = re.compile("check_sample_weights?_(equivalence|invariance)")


def failed_checks(estimator):
    """Names of scikit-learn's checks that an estimator fails, and how many there are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if VERSION >= (1, 6):
            found = check_estimator(estimator, on_fail=None, on_skip=None)
            return {each["check_name"] for each in found if each["status"] == "failed"}, len(found)
        checks = list(check_estimator(estimator, generate_only=True))
        return {check.func.__name__ for each, check in checks if not _passes(each, check)}, len(checks)


def _passes(estimator, check):
    try:
        check(estimator)
    except SkipTest:
        return True
    except Exception:  # whatever a check runs into, it has failed
        return False
    return True


def elastic_net(ratio):
    """How a logistic regression of scikit-learn's is told that ``ratio`` of the penalty is absolute values."""
    return {"l1_ratio": ratio} if VERSION >= (1, 8) else {"l1_ratio": ratio, "penalty": "elasticnet"}
