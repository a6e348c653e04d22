"""scikit-learn's own checks: of estimators at large, and the tests of those that these are written after."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn_versions import OF_EQUAL_WEIGHTS, VERSION

from fastnn.sklearn import LinearRegression, LogisticRegression, MLPClassifier, MLPRegressor, Perceptron

# The seed that scikit-learn's conftest gives.
_CONFTEST = "import pytest\n\n\n@pytest.fixture\ndef global_random_seed():\n    return 42\n"


ESTIMATORS = [MLPClassifier(), MLPRegressor(), LogisticRegression(), LinearRegression(), Perceptron()]


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS)
def test_estimators_are_scikit_learns(estimator, check):
    if isinstance(estimator, Perceptron) and OF_EQUAL_WEIGHTS.match(check.func.__name__):
        pytest.xfail("rows change the weights in turn")
    check(estimator)


# scikit-learn's tests -> (what of theirs is from here, tests of what is otherwise here, how many pass at least).
OWN_TESTS = {
    "neural_network.tests.test_mlp": (["MLPClassifier", "MLPRegressor"], [], 40),
    # copy_X=False allows to write to X, which is not made use of.
    "linear_model.tests.test_base": (["LinearRegression"], ["test_inplace_data_preprocessing"], 50),
    # The rule of the sources, which knows no penalty, and not scikit-learn's own.
    "linear_model.tests.test_perceptron": (
        ["Perceptron"],
        ["test_perceptron_correctness", "test_perceptron_l1_ratio"],
        3,
    ),
    "linear_model.tests.test_logistic": (
        ["LogisticRegression"],
        [
            # All solvers but liblinear have the L1 penalty.
            "test_check_solver_option[LogisticRegression]",
            # "sag" and "saga" take indices of 64 bits.
            "test_large_sparse_matrix[csr_matrix-sag",
            "test_large_sparse_matrix[csr_array-sag",
            # Steps correct the inverse of a Hessian, which a new fit begins without: cut short, two are not one.
            "test_warm_start_newton_solver",
            # A singular Hessian has a pseudo-inverse, and needs no other solver.
            "test_newton_cholesky_fallback_to_lbfgs",
            # Callbacks are ignored, which is said.
            "test_logistic_regression_callback_support",
        ],
        150,
    ),
}
# Of estimators that are scikit-learn's all the same, by their names.
THEIRS = "not LogisticRegressionCV and not logistic_cv and not multinomial_cv and not lr_cv and not regressioncv"


@pytest.mark.slow
@pytest.mark.parametrize("tests", OWN_TESTS)
def test_scikit_learns_own_tests_pass(tests, tmp_path):
    """All but those of what is otherwise here, with the import swapped."""
    names, otherwise, least = OWN_TESTS[tests]
    if tests.endswith("logistic") and VERSION < (1, 8):
        pytest.skip("the tests before 1.8 are of multi_class, too")
    found = importlib.util.find_spec(f"sklearn.{tests}")
    if found is None:
        pytest.skip("this scikit-learn comes without its tests")
    source = Path(found.origin).read_text(encoding="utf-8")
    package, _, _ = tests.partition(".")
    theirs = rf"^from sklearn\.{package} import (?:.*, )?{', '.join(names)}(?:,.*)?$"
    ours = f"from fastnn.sklearn import {', '.join(names)}"
    swapped, times = re.subn(theirs, rf"\g<0>\n{ours}", source, flags=re.MULTILINE)
    assert times == 1
    (tmp_path / "test_swapped.py").write_text(swapped, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(_CONFTEST, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "test_swapped.py"]
    command += ["-k", THEIRS, *(f"--deselect=test_swapped.py::{name}" for name in otherwise)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:]
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) >= least
    assert "test_mlp" not in tests or "skipped" not in run.stdout
