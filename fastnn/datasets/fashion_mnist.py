"""Fashion-MNIST: 70,000 pictures of Zalando's articles (H. Xiao, K. Rasul, R. Vollgraf 2017; MIT licence), as MNIST."""

from __future__ import annotations

import os

from fastnn.datasets import _idx

_LABEL_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def load_data(*, data_dir: str | os.PathLike[str] | None = None) -> tuple[_idx.Split, _idx.Split]:
    """Return ``(x_train, y_train), (x_test, y_test)``.

    Images are uint8 of shape (60000, 28, 28) and (10000, 28, 28), labels uint8 of shape (60000,) and (10000,).

    Parameters
    ----------
    data_dir
        The folder that holds ``fashion_mnist/``; the environment variable ``FASTNN_DATA`` by default.

    Raises
    ------
    DataFileError, ChecksumError
        A file is missing and cannot be downloaded, or is not the published one.
    """
    return _idx.load("fashion_mnist", data_dir)


def get_label_names() -> tuple[str, ...]:
    """Return the names of the ten classes, in label order."""
    return _LABEL_NAMES
