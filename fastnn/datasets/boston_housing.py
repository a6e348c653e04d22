"""Boston housing: 506 suburbs, 13 attributes, median value of homes (D. Harrison, D. L. Rubinfeld 1978; StatLib).

One attribute, "B", was built on the assumption that racial segregation raises house prices. The data set is here
because course documents train on it, not to be relied upon.
"""

from __future__ import annotations

import io
import os
import re

import numpy as np
from numpy.typing import NDArray

from fastnn.datasets import _files, _split
from fastnn.errors import DataFileError

_NPZ = "boston_housing/boston_housing.npz"  # Keras's
_TEXT = "boston_housing/housing.data"
_COLUMNS = 14
_FEATURE_NAMES = ("CRIM", "ZN", "INDUS", "CHAS", "NOX", "RM", "AGE", "DIS", "RAD", "TAX", "PTRATIO", "B", "LSTAT")


def load_data(
    path: str | os.PathLike[str] = "boston_housing.npz",
    test_split: float = 0.2,
    seed: int | None = 113,
    *,
    data_dir: str | os.PathLike[str] | None = None,
) -> tuple[_split.Split, _split.Split]:
    """Return ``(x_train, y_train), (x_test, y_test)``: float64 attributes (n, 13) and values (n,) in thousand dollars.

    Rows and their order are Keras's for the same `test_split` and `seed`; by default 404 train and 102 test.

    Parameters
    ----------
    path
        Where Keras's ``boston_housing.npz`` is kept; downloaded to there if it is missing, a relative path being one
        inside fastnn's cache. With the default name fastnn reads UCI's ``housing.data`` instead: the same rows.
    test_split
        The share of test rows, in [0, 1).
    seed
        Of the shuffle; None shuffles differently each time.
    data_dir
        The folder that holds ``boston_housing/``; the environment variable ``FASTNN_DATA`` by default.

    Raises
    ------
    DataFileError, ChecksumError
        The file is missing and cannot be downloaded, or is not the published one.
    """
    share, rng = _split.checked_test_split(test_split), _split.generator(seed)
    if _files.is_default(path, _NPZ):
        table = _parse(_files.read(_TEXT, data_dir=data_dir))
        x, y = table[:, :-1], table[:, -1]
    else:
        with np.load(io.BytesIO(_files.read_at(_NPZ, path)), allow_pickle=False) as file:
            x, y = file["x"], file["y"]
    order = np.arange(len(x))
    rng.shuffle(order)
    train, test = np.split(order, [_split.leading(len(x), share)])
    return (x[train], y[train]), (x[test], y[test])


def get_feature_names() -> tuple[str, ...]:
    """Return the names of the 13 columns."""
    return _FEATURE_NAMES


def _parse(data: bytes) -> NDArray[np.float64]:
    """Return the (rows, 14) table of whitespace-separated numbers in `data`."""
    try:
        table = np.array(re.split(rb"\s+", data.strip()), dtype=np.float64)
        return table.reshape(-1, _COLUMNS)
    except ValueError as error:
        raise DataFileError(f"{_TEXT} is damaged: not rows of {_COLUMNS} numbers ({error})") from error
