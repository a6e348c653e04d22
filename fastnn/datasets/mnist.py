"""MNIST: 70,000 hand-written digits (Y. LeCun, C. Cortes, C. J. C. Burges), 28x28 pixels of 0 to 255."""

from __future__ import annotations

import io
import os

import numpy as np

from fastnn.datasets import _files, _idx

_NPZ = "mnist/mnist.npz"


def load_data(
    path: str | os.PathLike[str] = "mnist.npz", *, data_dir: str | os.PathLike[str] | None = None
) -> tuple[_idx.Split, _idx.Split]:
    """Return ``(x_train, y_train), (x_test, y_test)``.

    Images are uint8 of shape (60000, 28, 28) and (10000, 28, 28), labels uint8 of shape (60000,) and (10000,).

    Parameters
    ----------
    path
        Where Keras's ``mnist.npz`` is kept; downloaded to there if it is missing, a relative path being one inside
        fastnn's cache. With the default name fastnn reads the four published IDX files instead: the same arrays.
    data_dir
        The folder that holds ``mnist/``; the environment variable ``FASTNN_DATA`` by default.

    Raises
    ------
    DataFileError, ChecksumError
        A file is missing and cannot be downloaded, or is not the published one.
    """
    if _files.is_default(path, _NPZ):
        return _idx.load("mnist", data_dir)
    with np.load(io.BytesIO(_files.read_at(_NPZ, path)), allow_pickle=False) as arrays:
        return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
