"""The course-style scripts: on small made data always, on the real data where FASTNN_DATA has them."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import numpy as np
import pytest

from fastnn import utils
from fastnn.datasets import boston_housing, mnist, reuters

HERE = Path(__file__).parent


def run(name):
    utils.set_random_seed(0)
    return runpy.run_path(str(HERE / f"{name}_script.py"))


def made_digits(count, generator):
    """Each class is a bright band of rows, under noise."""
    labels = generator.integers(0, 10, count).astype("uint8")
    images = generator.integers(0, 60, (count, 28, 28)).astype("uint8")
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 3] = 220
    return images, labels


def made_newswires(count, generator):
    """Each topic has 20 words of its own."""
    labels = generator.integers(0, 46, count)
    newswires = np.empty(count, dtype=object)
    for index, label in enumerate(labels):
        newswires[index] = [int(word) for word in generator.integers(4 + 20 * label, 24 + 20 * label, 30)]
    return newswires, labels


def made_houses(count, generator):
    features = generator.normal(size=(count, 13)) * np.arange(1, 14) + 5
    return features, 20 + features[:, 0] + 0.5 * features[:, 5]


def test_mnist_script_on_made_data(monkeypatch, capsys):
    generator = np.random.default_rng(0)
    monkeypatch.setattr(mnist, "load_data", lambda: (made_digits(600, generator), made_digits(100, generator)))
    result = run("mnist")
    assert result["test_accuracy"] > 0.95
    assert result["network"].count_params() == 407_050
    assert set(result["history"].history) == {"loss", "accuracy"}
    assert "Epoch 5/5" in capsys.readouterr().out


def test_reuters_script_on_made_data(monkeypatch, capsys):
    generator = np.random.default_rng(0)
    data = made_newswires(2000, generator), made_newswires(200, generator)
    monkeypatch.setattr(reuters, "load_data", lambda num_words: data)
    result = run("reuters")
    assert result["test_accuracy"] > 0.9
    assert result["history"].history["val_accuracy"][-1] > 0.9
    assert result["predictions"].shape == (200, 46)
    assert "val_loss" in capsys.readouterr().out


def test_boston_housing_script_on_made_data(monkeypatch):
    generator = np.random.default_rng(0)
    monkeypatch.setattr(boston_housing, "load_data", lambda: (made_houses(400, generator), made_houses(100, generator)))
    result = run("boston_housing")
    assert result["test_mae"] < 0.5 * 3.0  # the targets' own mean absolute deviation is about 3


real = pytest.mark.skipif(not os.environ.get("FASTNN_DATA"), reason="FASTNN_DATA is not set: no real data sets here")


of_real_data = pytest.mark.parametrize(
    ("name", "figure", "low", "high"),
    [
        ("mnist", "test_accuracy", 0.975, 0.99),
        ("reuters", "test_accuracy", 0.77, 0.85),
        ("boston_housing", "test_mae", 1.5, 3.1),
    ],
)


@real
@pytest.mark.slow
@of_real_data
def test_script_on_real_data(name, figure, low, high):
    assert low < run(name)[figure] < high


@pytest.mark.parametrize("name", ["mnist", "reuters", "boston_housing"])
def test_script_is_a_keras_script(name):
    """Nothing but the import lines may tell fastnn from Keras."""
    lines = (HERE / f"{name}_script.py").read_text().splitlines()
    mentions = [line for line in lines if "fastnn" in line]
    assert all(line.startswith("from fastnn") for line in mentions)
    keras = {"from fastnn import layers, models", "from fastnn.utils import to_categorical"}
    assert set(mentions) - keras == {f"from fastnn.datasets import {name}"}
