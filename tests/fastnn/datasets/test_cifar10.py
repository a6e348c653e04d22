"""CIFAR-10: records of the binary archive as Keras's arrays, nothing unpickled or unpacked."""

from __future__ import annotations

import gzip
import io
import tarfile

import numpy as np
import pytest

from fastnn.datasets import cifar10
from fastnn.errors import ChecksumError, DataFileError

NAME = "cifar10/cifar-10-binary.tar.gz"
FILES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def archive(contents):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as files:
        for name, data in contents.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(data)
            files.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def made_batches(rows=3):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(FILES), rows, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, 10, (len(FILES), rows), dtype=np.uint8)
    written = {
        name: b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels[i], images[i], strict=True))
        for i, name in enumerate(FILES)
    }
    return images, labels, written


def test_records_become_images(put, data_dir):
    images, labels, written = made_batches()
    put(data_dir, NAME, archive(dict(reversed(written.items()))))
    (x_train, y_train), (x_test, y_test) = cifar10.load_data(data_dir=data_dir)
    assert (x_train.shape, y_train.shape, x_test.shape, y_test.shape) == (
        (15, 32, 32, 3),
        (15, 1),
        (3, 32, 32, 3),
        (3, 1),
    )
    assert {array.dtype for array in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert y_train.ravel().tolist() == labels[:5].ravel().tolist()
    assert x_train[4, 2, 31].tolist() == images[1, 1, :, 2, 31].tolist()
    assert x_test[0, 0, 1].tolist() == images[5, 0, :, 0, 1].tolist()
    assert y_test[:, 0].tolist() == labels[5].tolist()


def test_real_file(real):
    (x_train, y_train), (x_test, _) = cifar10.load_data(data_dir=real(NAME))
    assert (x_train.shape, x_test.shape) == ((50000, 32, 32, 3), (10000, 32, 32, 3))
    assert np.bincount(y_train[:, 0]).tolist() == [5000] * 10


def test_missing_and_changed_files(put, data_dir):
    with pytest.raises(DataFileError, match=r"put the file at .*cifar-10-binary\.tar\.gz"):
        cifar10.load_data(data_dir=data_dir)
    path = put(data_dir, NAME, archive(made_batches()[2]))
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ChecksumError, match=r"cifar-10-binary\.tar\.gz is refused"):
        cifar10.load_data(data_dir=data_dir)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"no gzip", "damaged: not a whole gzip stream"),
        (gzip.compress(b"no archive" * 100, mtime=0), "damaged: not an archive"),
        (archive({"data_batch_1.bin": bytes(3073)}), "damaged: not an archive .*data_batch_2"),
        (archive({"data_batch_1.bin": bytes(3072)}), "3072 bytes in data_batch_1.bin, not records of 3073"),
        (archive({"data_batch_1.bin": b""}), "0 bytes in data_batch_1.bin"),
    ],
)
def test_damaged_archives(data, says, put, data_dir):
    put(data_dir, NAME, data)
    with pytest.raises(DataFileError, match=says):
        cifar10.load_data(data_dir=data_dir)


def test_label_names():
    names = cifar10.get_label_names()
    assert (len(names), names[0], names[9]) == (10, "airplane", "truck")
