"""Digits, iris and XOR: no files of the user's, the same rows for the same seed for ever."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fastnn.datasets import _files, _split, digits, iris, reviews, xor

MODULES = pytest.mark.parametrize("module", [digits, iris, xor], ids=["digits", "iris", "xor"])


def test_digits():
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    assert (x_train.shape, x_test.shape) == ((1438, 8, 8), (359, 8, 8))
    assert (x_train.dtype, y_train.dtype) == (np.uint8, np.uint8)
    x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    assert (x.min(), x.max()) == (0, 16)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert x.sum(dtype=np.int64) == 561718  # scikit-learn's load_digits().data.sum()


def test_iris():
    (x_train, y_train), (x_test, y_test) = iris.load_data()
    assert (x_train.shape, x_test.shape) == ((120, 4), (30, 4))
    assert (x_train.dtype, y_train.dtype) == (np.float64, np.int64)
    x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    np.testing.assert_allclose(x[y == 0].mean(axis=0), [5.006, 3.428, 1.462, 0.246], rtol=0, atol=1e-12)  # Fisher 1936
    np.testing.assert_allclose(x[y == 2].mean(axis=0), [6.588, 2.974, 5.552, 2.026], rtol=0, atol=1e-12)
    assert len(iris.get_feature_names()) == 4
    assert iris.get_label_names() == ("setosa", "versicolor", "virginica")


def test_xor_corners():
    (x, y), (x_test, y_test) = xor.load_data(4, noise=0, test_split=0)
    assert {(*point, label) for point, label in zip(x.tolist(), y.tolist(), strict=True)} == {
        (-1, -1, 0),
        (-1, 1, 1),
        (1, -1, 1),
        (1, 1, 0),
    }
    assert (x_test.shape, y_test.shape) == ((0, 2), (0,))


def test_xor_noise():
    (x, y), (x_test, y_test) = xor.load_data()
    assert (x.shape, x_test.shape) == ((800, 2), (200, 2))
    away = np.abs(x) - 1
    assert away.std() == pytest.approx(0.3, rel=0.1)
    assert np.mean((x[:, 0] * x[:, 1] < 0) == y) > 0.99
    assert np.bincount(y_test).tolist() == [100, 100]


@MODULES
def test_same_seed_same_rows(module):
    first, again, other = (module.load_data(seed=seed)[0][0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    module.load_data(seed=None)


# The default split must never change: published results rest on it.
@pytest.mark.parametrize(
    ("module", "digest"),
    [(digits, "f224167a56a40c1f"), (iris, "5e0bcb67a8db47c5")],
    ids=["digits", "iris"],
)
def test_default_split_is_frozen(module, digest):
    train, test = module.load_data()
    assert hashlib.sha256(b"".join(array.tobytes() for array in (*train, *test))).hexdigest()[:16] == digest


@MODULES
@pytest.mark.parametrize("test_split", [0, 0.1, 0.5, 0.9])
def test_every_class_gives_its_share_and_no_row_is_lost(module, test_split):
    (x_train, y_train), (x_test, y_test) = module.load_data(test_split=test_split)
    total, test = np.bincount(np.concatenate([y_train, y_test])), np.bincount(y_test, minlength=y_train.max() + 1)
    assert np.abs(test - test_split * total).max() <= 0.5
    rows = np.concatenate([x_train, x_test]).reshape(total.sum(), -1)
    whole = module.load_data(test_split=0)[0][0].reshape(total.sum(), -1)
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(whole, axis=0))


def test_rows_keep_their_labels_and_are_shuffled():
    x = np.arange(90)
    (x_train, y_train), (x_test, y_test) = _split.stratified(x, x // 30, 0.2, 0)
    np.testing.assert_array_equal(x_train // 30, y_train)
    np.testing.assert_array_equal(x_test // 30, y_test)
    assert np.any(np.diff(y_train) < 0)
    assert np.any(np.diff(y_test) < 0)


@MODULES
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"test_split": 1}, ValueError, r"test_split: got 1\.0, wants"),
        ({"test_split": -0.2}, ValueError, r"test_split: got -0\.2"),
        ({"test_split": None}, TypeError, "test_split: got NoneType"),
        ({"seed": -5}, ValueError, "seed: got -5"),
        ({"seed": 0.5}, TypeError, "seed: got float"),
    ],
)
def test_bad_arguments(module, arguments, error, message):
    with pytest.raises(error, match=message):
        module.load_data(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "n: got 0, wants an integer of at least 1"),
        ({"n": 10.0}, TypeError, "n: got float 10.0"),
        ({"noise": -0.1}, ValueError, r"noise: got -0\.1, wants a finite number at least 0"),
        ({"noise": float("inf")}, ValueError, "noise: got inf"),
        ({"noise": "much"}, TypeError, "noise: got str 'much'"),
    ],
)
def test_bad_arguments_of_xor(arguments, error, message):
    with pytest.raises(error, match=message):
        xor.load_data(**arguments)


def test_shipped_files_say_whose_they_are():
    note = (_files.resources.files("fastnn.datasets") / "data" / "LICENSE-DATA.md").read_text(encoding="utf-8")
    assert "digits.csv.gz" in note
    assert "iris.csv" in note
    assert "CC BY 4.0" in note


def test_reviews():
    (x, y), (x_test, y_test) = reviews.load_data(1000)
    assert (len(x), len(x_test)) == (800, 200)
    assert (x.dtype, y.dtype) == (object, np.int64)
    assert np.bincount(y_test).tolist() == [100, 100]
    assert all(type(word) is int for word in x[0])
    assert {text[0] for text in x} == {1}
    assert min(map(len, x)) - 1 >= 20
    assert max(map(len, x)) - 1 <= 200
    ranks = np.concatenate([text[1:] for text in x])
    assert (ranks.min(), ranks.max() < 10_000) == (4, True)
    said = [np.bincount(np.concatenate([t[1:] for t in x[y == label]]), minlength=360)[60:360] for label in (0, 1)]
    told = (said[1] - said[0]).reshape(-1, 2).sum(axis=0)
    assert told[0] < -1000 < 1000 < told[1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "n: got 0"),
        ({"num_words": 399}, ValueError, "num_words: got 399, wants an integer of at least 400"),
        ({"maxlen": 9}, ValueError, "maxlen: got 9, wants an integer of at least 10"),
    ],
)
def test_bad_arguments_of_reviews(arguments, error, message):
    with pytest.raises(error, match=message):
        reviews.load_data(**arguments)
