"""MNIST and Fashion-MNIST, which share their format."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from fastnn.datasets import _idx, fashion_mnist, mnist
from fastnn.errors import ChecksumError, DataFileError

MODULES = pytest.mark.parametrize("module", [mnist, fashion_mnist], ids=["mnist", "fashion_mnist"])


def folder_of(module) -> str:
    return module.__name__.rsplit(".", 1)[-1]


@pytest.fixture
def made(put, make, data_dir):
    """Write tiny data sets in both folders; return their arrays."""
    rng = np.random.default_rng(0)
    parts = {}
    for part, n in (("train", 5), ("t10k", 3)):
        parts[part] = rng.integers(0, 256, (n, 2, 3), np.uint8), rng.integers(0, 10, n, np.uint8)
    for folder in ("mnist", "fashion_mnist"):
        for part, (images, labels) in parts.items():
            put(data_dir, f"{folder}/{part}-images-idx3-ubyte.gz", make.idx_gz(images))
            put(data_dir, f"{folder}/{part}-labels-idx1-ubyte.gz", make.idx_gz(labels))
    return parts["train"], parts["t10k"]


@MODULES
def test_made_files(module, made, data_dir):
    loaded = module.load_data(data_dir=data_dir)
    for (x, y), (x_made, y_made) in zip(loaded, made, strict=True):
        np.testing.assert_array_equal(x, x_made, strict=True)
        np.testing.assert_array_equal(y, y_made, strict=True)
        assert x.flags.writeable
        assert y.flags.writeable


@MODULES
@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data[:-1] + b"?", lambda data: b""]
)
def test_damaged_file_is_refused_before_it_is_parsed(module, damage, made, data_dir, monkeypatch):
    monkeypatch.setattr(_idx, "parse", lambda *_: pytest.fail("parsed a file that should have been refused"))
    monkeypatch.setattr(gzip, "decompress", lambda *_: pytest.fail("decompressed it"))
    path = data_dir / folder_of(module) / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ChecksumError, match=r"train-images-idx3-ubyte\.gz is refused"):
        module.load_data(data_dir=data_dir)


@MODULES
def test_images_and_labels_that_do_not_belong_together(module, made, put, make, data_dir):
    put(data_dir, f"{folder_of(module)}/train-labels-idx1-ubyte.gz", make.idx_gz(np.zeros(4, np.uint8)))
    with pytest.raises(DataFileError, match=r"train images have shape \(5, 2, 3\), their labels \(4,\)"):
        module.load_data(data_dir=data_dir)


@MODULES
def test_real_files(module, real):
    name = folder_of(module)
    (x_train, y_train), (x_test, y_test) = module.load_data(data_dir=real(f"{name}/train-images-idx3-ubyte.gz"))
    assert (x_train.shape, x_test.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert (y_train.shape, y_test.shape) == ((60000,), (10000,))
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    if name == "mnist":
        assert y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
        assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        assert x_train.mean() == pytest.approx(255 * 0.1306604762738429, rel=1e-12)  # the mean everyone normalises by
    else:
        assert y_train[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
        assert np.bincount(y_test).tolist() == [1000] * 10
        assert x_train.mean() == pytest.approx(255 * 0.2860405969887955, rel=1e-12)


def test_path_names_kerass_npz(put, make, tmp_path):
    arrays = {
        "x_train": np.ones((2, 4, 4), np.uint8),
        "y_train": np.array([1, 2], np.uint8),
        "x_test": np.zeros((1, 4, 4), np.uint8),
        "y_test": np.array([3], np.uint8),
    }
    path = put(tmp_path, "mnist/mnist.npz", make.npz(**arrays))
    (x_train, y_train), (x_test, y_test) = mnist.load_data(path)
    for got, name in ((x_train, "x_train"), (y_train, "y_train"), (x_test, "x_test"), (y_test, "y_test")):
        np.testing.assert_array_equal(got, arrays[name], strict=True)


def test_npz_with_objects_is_not_unpickled_even_if_it_were_pinned(put, make, tmp_path):
    path = put(tmp_path, "mnist/mnist.npz", make.npz(x_train=np.array([[1], [2, 3]], dtype=object)))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        mnist.load_data(path)


def test_label_names():
    assert len(fashion_mnist.get_label_names()) == 10
    assert fashion_mnist.get_label_names()[9] == "Ankle boot"


@pytest.mark.parametrize("shape", [(0,), (7,), (3, 4), (2, 3, 4), (0, 28, 28)])
def test_idx_round_trip(shape, make):
    array = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(_idx.parse(make.idx(array), "x"), array, strict=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not start as an IDX file"),
        (b"\0\0\x08", "does not start as an IDX file"),
        (b"\1\0\x08\1\0\0\0\0", "does not start as an IDX file"),
        (b"\0\0\x0d\1\0\0\0\0", "does not start as an IDX file of unsigned bytes"),
        (b"\0\0\x08\2\0\0\0\1", "ends inside its header"),
        (b"\0\0\x08\1\0\0\0\3ab", "2 bytes of elements, its header says 3"),
        (b"\0\0\x08\1\0\0\0\1ab", "2 bytes of elements, its header says 1"),
        (b"\0\0\x08\4" + b"\xff" * 16, "0 bytes of elements, its header says 340282366604025813516997721482669850625"),
    ],
)
def test_idx_that_is_damaged(data, message):
    with pytest.raises(DataFileError, match=f"x is damaged: .*{message}"):
        _idx.parse(data, "x")
