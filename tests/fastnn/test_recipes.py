"""The rows that the command line trains by, and how they prepare their data."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastnn import recipes
from fastnn.errors import ChecksumError, DataFileError
from fastnn.recipes import RECIPES, Data


def test_pixels():
    train = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    x_train, x_test = recipes.pixels(train, train[:1], white=16)
    np.testing.assert_array_equal(x_train, np.arange(24, dtype=np.float32).reshape(2, 12) / 16, strict=True)
    np.testing.assert_array_equal(x_test, x_train[:1], strict=True)


def test_standardized_by_the_training_rows_alone():
    rng = np.random.default_rng(0)
    train, test = rng.normal(5, 3, (50, 3)), rng.normal(-1, 9, (20, 3))
    train[:, 2] = test[:, 2] = 7  # a column that says nothing must not become NaN
    x_train, x_test = recipes.standardized(train, test)
    np.testing.assert_allclose(x_train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(x_train[:, :2].std(axis=0), 1, rtol=1e-6)
    expected = (test[:, :2] - train[:, :2].mean(axis=0)) / train[:, :2].std(axis=0)
    np.testing.assert_allclose(x_test[:, :2], expected, rtol=1e-6)
    assert not x_test[:, 2].any()
    assert x_train.dtype == x_test.dtype == np.float32


def test_multi_hot():
    texts = np.empty(3, dtype=object)
    texts[:] = [[1, 4, 1], [], [0]]
    x_train, x_test = recipes.multi_hot(texts, texts[:1], words=5)
    assert x_train.tolist() == [[0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert x_test.tolist() == [[0, 1, 0, 0, 1]]
    assert x_train.dtype == np.uint8


@pytest.mark.parametrize(("rows", "held"), [(100, 10), (25, 2), (5, 1), (2, 1)])
def test_hold_out_takes_the_last_training_rows(rows, held):
    x, y = np.arange(rows), np.arange(rows) % 3
    data = Data((x, y), (x, y)).hold_out(0.1)
    assert len(data.train[0]) == rows - held
    np.testing.assert_array_equal(np.concatenate([data.train[0], data.validation[0]]), x)
    np.testing.assert_array_equal(np.concatenate([data.train[1], data.validation[1]]), y)
    assert len(data.test[0]) == rows


@pytest.mark.parametrize("name", RECIPES)
def test_the_row_fits_its_data(name):
    recipe, folder = RECIPES[name], os.environ.get("FASTNN_DATA")
    if recipe.from_files and not (folder and any((Path(folder) / name).glob("*"))):
        pytest.skip(f"FASTNN_DATA has no {name}")
    data = recipe.data()
    for x, y in (data.train, data.test):
        assert x.shape == (len(y), recipe.inputs)
        assert np.isfinite(x).all()
        if recipe.metric == "accuracy":
            classes = max(recipe.outputs, 2)
            assert set(np.unique(y)) <= set(range(classes))
    assert len(data.train[0]) > 3 * len(data.test[0]) or name == "imdb"


def test_made_data_stand_in_for_files_that_are_not_there(monkeypatch, tmp_path):
    def missing(folder):
        raise error("imdb/imdb.npz: no copy of it that can be used")

    recipe, error = replace(RECIPES["imdb"], load=missing), DataFileError
    data = recipe.data()
    assert data.note.startswith("made data in place of files that are not there:\nimdb/imdb.npz: no copy")
    for x, y in (data.train, data.test):
        assert (x.shape, x.dtype) == ((len(y), 256), np.int32)
        assert set(np.unique(y)) == {0, 1}
        assert x.max() < 10_000
        assert (x[:, -1] != 0).all()
    assert data.hold_out(0.1).note == data.note
    with pytest.raises(DataFileError):  # of a folder that was named
        recipe.data(tmp_path)
    error = ChecksumError
    with pytest.raises(ChecksumError):
        recipe.data()
    with pytest.raises(DataFileError):
        replace(recipe, made=None).data()


def test_the_architecture_of_words():
    assert RECIPES["imdb"].architecture == "256 of 10000-16-16-1"
    assert [type(layer).__name__ for layer in RECIPES["imdb"].front()] == ["Embedding", "GlobalAveragePooling1D"]
    assert RECIPES["mnist"].front() == []


def test_the_architecture_of_images():
    recipe = RECIPES["mnist"].convolutional()
    assert recipe.architecture == "28x28-20 of 5x5-100-10"
    names = ["Reshape", "Conv2D", "MaxPooling2D", "Dropout", "Flatten"]
    assert [type(layer).__name__ for layer in recipe.front()] == names
    assert (recipe.optimizer, recipe.falling, recipe.dropout, recipe.epochs) == ("adam", 0.002, 0.5, 8)
    with pytest.raises(ValueError, match=r"wants a data set of images: digits, mnist, fashion_mnist$"):
        RECIPES["reuters"].convolutional()


@pytest.mark.parametrize(
    ("name", "architecture", "batch_size", "epochs"),
    [
        ("mnist", "784-512-10", 128, 5),
        ("fashion_mnist", "784-512-10", 128, 5),
        ("reuters", "10000-64-64-46", 512, 9),
        ("boston_housing", "13-64-64-1", None, None),
    ],
)
def test_defaults_are_the_documents(name, architecture, batch_size, epochs):
    recipe = RECIPES[name]
    assert (recipe.architecture, recipe.activation, recipe.optimizer) == (architecture, "relu", "rmsprop")
    assert batch_size in (None, recipe.batch_size)
    assert epochs in (None, recipe.epochs)
