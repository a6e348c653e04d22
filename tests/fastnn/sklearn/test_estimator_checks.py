"""scikit-learn's own checks: of estimators at large, and the tests of those that these are written after."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn_versions import OF_EQUAL_WEIGHTS

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


# scikit-learn's tests -> (their import, which is swapped, tests of what is otherwise here, how many pass at least).
OWN_TESTS = {
    "neural_network.tests.test_mlp": ("from sklearn.neural_network import", [], 40),
    # copy_X=False allows to write to X, which is not made use of.
    "linear_model.tests.test_base": (
        "from sklearn.linear_model import LinearRegression",
        ["test_inplace_data_preprocessing"],
        50,
    ),
    # The rule of the sources, which knows no penalty, and not scikit-learn's own.
    "linear_model.tests.test_perceptron": (
        "from sklearn.linear_model import Perceptron",
        ["test_perceptron_correctness", "test_perceptron_l1_ratio"],
        3,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("tests", OWN_TESTS)
def test_scikit_learns_own_tests_pass(tests, tmp_path):
    """All but those of what is otherwise here, with the import swapped."""
    swapped, otherwise, least = OWN_TESTS[tests]
    found = importlib.util.find_spec(f"sklearn.{tests}")
    if found is None:
        pytest.skip("this scikit-learn comes without its tests")
    source = Path(found.origin).read_text(encoding="utf-8")
    assert source.count(swapped) == 1
    ours = re.sub(r"from sklearn\.\w+", "from fastnn.sklearn", swapped)
    (tmp_path / "test_swapped.py").write_text(source.replace(swapped, ours), encoding="utf-8")
    (tmp_path / "conftest.py").write_text(_CONFTEST, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "test_swapped.py"]
    command += [f"--deselect=test_swapped.py::{name}" for name in otherwise]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:]
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) >= least
    assert "test_mlp" not in tests or "skipped" not in run.stdout
