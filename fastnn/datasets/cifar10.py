"""CIFAR-10: 60,000 colour photographs of 10 classes, 32x32 pixels of 0 to 255 (A. Krizhevsky 2009)."""

from __future__ import annotations

import io
import os
import tarfile

import numpy as np

from fastnn.datasets import _files, _split
from fastnn.errors import DataFileError

# The binary form: the records of the pickled one, in its order, without anything to unpickle.
_ARCHIVE = "cifar10/cifar-10-binary.tar.gz"
_FOLDER = "cifar-10-batches-bin"
_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST = ("test_batch.bin",)
# A record: its class, then a plane each of red, green and blue.
_CHANNELS, _SIDE = 3, 32
_RECORD = 1 + _CHANNELS * _SIDE * _SIDE
_LABEL_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load_data(*, data_dir: str | os.PathLike[str] | None = None) -> tuple[_split.Split, _split.Split]:
    """Return ``(x_train, y_train), (x_test, y_test)``, as Keras does.

    Images are uint8 of shape (50000, 32, 32, 3) and (10000, 32, 32, 3), labels uint8 of shape (50000, 1) and
    (10000, 1).

    Parameters
    ----------
    data_dir
        The folder that holds ``cifar10/cifar-10-binary.tar.gz``; the environment variable ``FASTNN_DATA`` by default.

    Raises
    ------
    DataFileError, ChecksumError
        The file is missing and cannot be downloaded, or is not the published one.
    """
    archive = _files.gunzip(_files.read(_ARCHIVE, data_dir=data_dir), _ARCHIVE)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as files:
            train, test = (_records(files, names) for names in (_TRAIN, _TEST))
    except (tarfile.TarError, KeyError) as error:
        raise DataFileError(f"{_ARCHIVE} is damaged: not an archive of {_FOLDER} ({error})") from error
    return train, test


def get_label_names() -> tuple[str, ...]:
    """Return the names of the 10 classes, in label order."""
    return _LABEL_NAMES


def _records(files: tarfile.TarFile, names: tuple[str, ...]) -> _split.Split:
    """Return images and classes of some files of the archive, which nothing is unpacked from."""
    parts = []
    for name in names:
        file = files.extractfile(f"{_FOLDER}/{name}")
        data = b"" if file is None else file.read()
        if not data or len(data) % _RECORD:
            got = f"{len(data)} bytes in {name}"
            raise DataFileError(f"{_ARCHIVE} is damaged: {got}, not records of {_RECORD} bytes")
        parts.append(np.frombuffer(data, np.uint8).reshape(-1, _RECORD))
    records = np.concatenate(parts)
    planes = records[:, 1:].reshape(-1, _CHANNELS, _SIDE, _SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.ascontiguousarray(records[:, :1])
