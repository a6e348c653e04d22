"""Fisher's irises: 150 flowers of three species, four lengths each. Ships with fastnn (data/LICENSE-DATA.md)."""

from __future__ import annotations

import io

import numpy as np

from fastnn.datasets import _files, _split

_FEATURE_NAMES = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
_LABEL_NAMES = ("setosa", "versicolor", "virginica")


def load_data(test_split: float = 0.2, seed: int | None = 113) -> tuple[_split.Split, _split.Split]:
    """Return ``(x_train, y_train), (x_test, y_test)``: float64 lengths (n, 4) in centimetres, int64 species (n,).

    Parameters
    ----------
    test_split
        The share of each species that becomes test rows, in [0, 1); 0.2 gives 120 training and 30 test rows.
    seed
        Of the shuffle; the same seed gives the same rows in every version, None different ones each time.
    """
    table = np.loadtxt(io.StringIO(_files.read_shipped("iris.csv").decode("ascii")), delimiter=",", skiprows=1)
    return _split.stratified(np.ascontiguousarray(table[:, :4]), table[:, 4].astype(np.int64), test_split, seed)


def get_feature_names() -> tuple[str, ...]:
    """Return the names of the four columns."""
    return _FEATURE_NAMES


def get_label_names() -> tuple[str, ...]:
    """Return the names of the three species, in label order."""
    return _LABEL_NAMES
