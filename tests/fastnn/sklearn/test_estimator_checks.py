"""scikit-learn's own checks: of estimators at large, and the tests of the two that these are written after."""

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

# The import that is swapped, and the seed that scikit-learn's conftest gives.
_THEIRS, _OURS = "from sklearn.neural_network import", "from fastnn.sklearn import"
_CONFTEST = "import pytest\n\n\n@pytest.fixture\ndef global_random_seed():\n    return 42\n"


ESTIMATORS = [MLPClassifier(), MLPRegressor(), LogisticRegression(), LinearRegression(), Perceptron()]


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS)
def test_estimators_are_scikit_learns(estimator, check):
    if isinstance(estimator, Perceptron) and OF_EQUAL_WEIGHTS.match(check.func.__name__):
        pytest.xfail("rows change the weights in turn")
    check(estimator)


@pytest.mark.slow
def test_scikit_learns_own_tests_pass(tmp_path):
    """Of the networks, all of them, with the import swapped."""
    found = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    if found is None:
        pytest.skip("this scikit-learn comes without its tests")
    source = Path(found.origin).read_text(encoding="utf-8")
    assert source.count(_THEIRS) == 1
    (tmp_path / "test_swapped.py").write_text(source.replace(_THEIRS, _OURS), encoding="utf-8")
    (tmp_path / "conftest.py").write_text(_CONFTEST, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "test_swapped.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:]
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) >= 40
    assert "skipped" not in run.stdout
