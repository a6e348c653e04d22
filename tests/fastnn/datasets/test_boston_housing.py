"""Boston housing: Keras's rows in Keras's order."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.datasets import boston_housing
from fastnn.errors import ChecksumError, DataFileError

NAME = "boston_housing/housing.data"


@pytest.fixture
def made(put, data_dir):
    """Write ten rows whose numbers say where they came from, in the file's layout; return its folder."""
    table = np.arange(10)[:, None] + np.arange(14) / 100
    text = "\n".join(" " + "  ".join(f"{value:.2f}" for value in row) for row in table) + "\n "
    put(data_dir, NAME, text.encode())
    return data_dir


def test_made_file(made):
    (x_train, y_train), (x_test, y_test) = boston_housing.load_data(data_dir=made)
    assert (x_train.shape, y_train.shape, x_test.shape, y_test.shape) == ((8, 13), (8,), (2, 13), (2,))
    x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    order = np.arange(10)
    np.random.RandomState(113).shuffle(order)
    np.testing.assert_allclose(x, order[:, None] + np.arange(13) / 100, rtol=0, atol=1e-12)
    np.testing.assert_allclose(y, order + 0.13, rtol=0, atol=1e-12)
    assert x.dtype == y.dtype == np.float64


@pytest.mark.parametrize(("test_split", "n_train"), [(0, 10), (0.0, 10), (0.25, 7), (0.99, 0)])
def test_split_rounds_the_training_rows_down(test_split, n_train, made):
    (x_train, _), (x_test, _) = boston_housing.load_data(test_split=test_split, data_dir=made)
    assert (len(x_train), len(x_test)) == (n_train, 10 - n_train)


def test_seed_makes_the_order(made):
    first, again, other = (boston_housing.load_data(seed=seed, data_dir=made)[0][1].tolist() for seed in (3, 3, 4))
    assert first == again != other
    assert len(boston_housing.load_data(seed=None, data_dir=made)[0][1]) == 8


def test_real_file(real):
    """The first rows are those that Keras's documentation and its users' notebooks print."""
    (x_train, y_train), (x_test, y_test) = boston_housing.load_data(data_dir=real(NAME))
    assert (x_train.shape, x_test.shape) == ((404, 13), (102, 13))
    assert x_train[0].tolist() == [1.23247, 0, 8.14, 0, 0.538, 6.142, 91.7, 3.9769, 4, 307, 21, 396.9, 18.72]
    assert y_train[:10].tolist() == [15.2, 42.3, 50, 21.1, 17.7, 18.5, 11.3, 15.6, 15.6, 14.4]
    assert x_test[0].tolist() == [18.0846, 0, 18.1, 0, 0.679, 6.434, 100, 1.8347, 24, 666, 20.2, 27.25, 29.05]
    assert y_test[0] == 7.2


def test_path_names_kerass_npz(put, make, tmp_path):
    path = put(tmp_path, "boston_housing/boston_housing.npz", make.npz(x=np.eye(13)[:5], y=np.arange(5.0)))
    (x_train, y_train), (x_test, y_test) = boston_housing.load_data(path, 0.4)
    assert (x_train.shape, x_test.shape) == ((3, 13), (2, 13))
    for row, value in zip([*x_train, *x_test], [*y_train, *y_test], strict=True):
        assert row[int(value)] == 1


def test_wrong_checksum_is_refused_before_it_is_parsed(made, monkeypatch):
    monkeypatch.setattr(boston_housing, "_parse", lambda _: pytest.fail("parsed a file that should have been refused"))
    (made / NAME).write_bytes((made / NAME).read_bytes() + b" ")
    with pytest.raises(ChecksumError, match=r"housing\.data is refused"):
        boston_housing.load_data(data_dir=made)


@pytest.mark.parametrize("text", [b"1 2 3", b"", b"1 2 3 4 5 6 7 8 9 10 11 12 13 fourteen"])
def test_damaged_text(text, put, data_dir):
    put(data_dir, NAME, text)
    with pytest.raises(DataFileError, match="damaged: not rows of 14 numbers"):
        boston_housing.load_data(data_dir=data_dir)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"test_split": 1.0}, ValueError, r"test_split: got 1\.0, wants a finite number at least 0 and below 1"),
        ({"test_split": -0.1}, ValueError, r"test_split: got -0\.1"),
        ({"test_split": float("nan")}, ValueError, "test_split: got nan"),
        ({"test_split": "0.2"}, TypeError, "test_split: got str '0.2'"),
        ({"seed": -1}, ValueError, "seed: got -1, wants an integer of at least 0"),
        ({"seed": 2**32}, ValueError, "seed: got 4294967296"),
        ({"seed": 1.0}, TypeError, "seed: got float 1.0"),
    ],
)
def test_bad_arguments(arguments, error, message, made):
    with pytest.raises(error, match=message):
        boston_housing.load_data(**arguments, data_dir=made)


def test_feature_names():
    assert len(boston_housing.get_feature_names()) == 13
