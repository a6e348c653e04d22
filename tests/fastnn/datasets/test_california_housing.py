"""California housing: Keras's rows in Keras's order, both versions."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.datasets import california_housing
from fastnn.errors import ChecksumError, DataFileError

NAME = "california_housing/california_housing.npz"


@pytest.fixture
def made(put, make, data_dir):
    x = np.arange(700)[:, None] + np.arange(8) / 10
    put(data_dir, NAME, make.npz(x=x.astype("float32"), y=np.arange(700, dtype="float32")))
    return data_dir


@pytest.mark.parametrize(("version", "rows"), [("large", 700), ("small", 600)])
def test_versions_order_and_split(version, rows, made):
    (x_train, y_train), (x_test, y_test) = california_housing.load_data(version, test_split=0.25, seed=5, data_dir=made)
    assert (len(x_train), len(x_test)) == (rows - rows // 4, rows // 4)
    order = np.arange(rows)
    np.random.RandomState(5).shuffle(order)
    assert np.concatenate([y_train, y_test]).tolist() == order.tolist()
    x = np.concatenate([x_train, x_test])
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[:, 7] - x[:, 0], 0.7, rtol=1e-4)
    np.testing.assert_array_equal(x[:, 0], order)


def test_defaults_are_kerass(made):
    assert len(california_housing.load_data(data_dir=made)[0][0]) == 560
    assert len(california_housing.get_feature_names()) == 8


def test_path_of_its_own(made, tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes((made / NAME).read_bytes())
    got, expected = california_housing.load_data("small", path), california_housing.load_data("small", data_dir=made)
    np.testing.assert_array_equal(got[0][0], expected[0][0])


def test_real_file(real):
    (x_train, _), (x_test, _) = california_housing.load_data(data_dir=real(NAME))
    assert (x_train.shape, x_test.shape) == ((16512, 8), (4128, 8))


def test_missing_and_changed_files(made, tmp_path):
    with pytest.raises(DataFileError, match="set FASTNN_DATA to a folder that holds california_housing/"):
        california_housing.load_data(data_dir=tmp_path)
    (made / NAME).write_bytes(b"other")
    with pytest.raises(ChecksumError, match=r"california_housing\.npz is refused"):
        california_housing.load_data(data_dir=made)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"version": "medium"}, ValueError, "version: got 'medium', wants one of 'large', 'small'"),
        ({"version": 600}, TypeError, "version: got int 600"),
        ({"test_split": 1}, ValueError, r"test_split: got 1\.0"),
        ({"seed": -1}, ValueError, "seed: got -1"),
        ({"path": 3}, TypeError, "path: got int 3"),
    ],
    ids=str,
)
def test_bad_arguments(arguments, error, message, made):
    with pytest.raises(error, match=message):
        california_housing.load_data(**arguments, data_dir=made)
