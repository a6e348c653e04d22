"""California housing: 20,640 districts of the 1990 census, 8 attributes, value of homes (R. K. Pace, R. Barry 1997)."""

from __future__ import annotations

import io
import os

import numpy as np

from fastnn import checks
from fastnn.datasets import _files, _split

_NPZ = "california_housing/california_housing.npz"
# The districts of each version, in the file's order.
_ROWS = {"large": None, "small": 600}
# The columns of Keras's file.
_FEATURE_NAMES = (
    "longitude", "latitude", "housing_median_age", "total_rooms", "total_bedrooms", "population", "households",
    "median_income",
)  # fmt: skip


def load_data(
    version: str = "large",
    path: str | os.PathLike[str] = "california_housing.npz",
    test_split: float = 0.2,
    seed: int | None = 113,
    *,
    data_dir: str | os.PathLike[str] | None = None,
) -> tuple[_split.Split, _split.Split]:
    """Return ``(x_train, y_train), (x_test, y_test)``: attributes (n, 8) and values (n,) in dollars, as published.

    Rows and their order are Keras's for the same arguments; by default 16,512 train and 4,128 test.

    Parameters
    ----------
    version
        "large", all districts, or "small", the first 600 of them.
    path
        Where ``california_housing.npz`` is kept. With the default name it is looked for in the data folder and in
        fastnn's cache; another name is a path of its own, relative to that cache, to which the file is downloaded if it
        is missing.
    test_split
        The share of test rows, in [0, 1).
    seed
        Of the shuffle; None shuffles differently each time.
    data_dir
        The folder that holds ``california_housing/``; the environment variable ``FASTNN_DATA`` by default.

    Raises
    ------
    DataFileError, ChecksumError
        The file is missing and cannot be downloaded, or is not the published one.
    """
    rows = _ROWS[checks.one_of("version", version, _ROWS)]
    share, rng = _split.checked_test_split(test_split), _split.generator(seed)
    with np.load(io.BytesIO(_files.read_either(_NPZ, path, data_dir)), allow_pickle=False) as file:
        x, y = file["x"][:rows], file["y"][:rows]
    order = np.arange(len(x))
    rng.shuffle(order)
    train, test = np.split(order, [_split.leading(len(x), share)])
    return (x[train], y[train]), (x[test], y[test])


def get_feature_names() -> tuple[str, ...]:
    """Return the names of the 8 columns."""
    return _FEATURE_NAMES
