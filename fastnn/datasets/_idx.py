"""The IDX format of MNIST and its successors: big-endian sizes, then unsigned bytes."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from fastnn.datasets import _files
from fastnn.errors import DataFileError

_UNSIGNED_BYTE = 0x08  # the only element type these data sets use

Split = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def parse(data: bytes, name: str) -> NDArray[np.uint8]:
    """Return the array of the IDX bytes `data`: two zero bytes, a type, the rank, a 32-bit size an axis, the elements.

    Raises DataFileError if the header is not one of unsigned bytes or the length does not match it.
    """
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTE:
        raise DataFileError(f"{name} is damaged: does not start as an IDX file of unsigned bytes")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DataFileError(f"{name} is damaged: ends inside its header")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", count=data[3], offset=4))
    if len(data) - start != (wanted := int(np.prod(shape, dtype=object))):
        raise DataFileError(f"{name} is damaged: {len(data) - start} bytes of elements, its header says {wanted}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()  # a copy: frombuffer is read-only


def load(folder: str, data_dir: str | os.PathLike[str] | None) -> tuple[Split, Split]:
    """Return ``(x_train, y_train), (x_test, y_test)`` of the MNIST-like data set whose files lie in `folder`."""
    return _split(folder, "train", data_dir), _split(folder, "t10k", data_dir)


def _split(folder: str, which: str, data_dir: str | os.PathLike[str] | None) -> Split:
    images, labels = (
        parse(_files.gunzip(_files.read(name, data_dir=data_dir), name), name)
        for name in (f"{folder}/{which}-images-idx3-ubyte.gz", f"{folder}/{which}-labels-idx1-ubyte.gz")
    )
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataFileError(f"{folder}: {which} images have shape {images.shape}, their labels {labels.shape}")
    return images, labels
