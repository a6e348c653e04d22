"""Estimators for scikit-learn's users: its parameters, attributes, messages and warnings, over fastnn's kernels.

They load on first use: importing this package imports neither scikit-learn nor SciPy.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from fastnn import absent

# Public names: name -> module.
_NAMES = {
    "LinearRegression": "linear",
    "LogisticRegression": "linear",
    "MLPClassifier": "multilayer",
    "MLPRegressor": "multilayer",
    "PerfectSeparationWarning": "linear",
    "Perceptron": "perceptron",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise absent.error(__name__, name, sys._getframe(1))
    value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
