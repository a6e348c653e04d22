"""Each example on small settings: its figures are what it says, and its picture is not blank."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pictures
import pytest

from fastnn import cli, examples

pytest.importorskip("matplotlib")

# Of each example bounds of its figures on small settings: (name of a figure, least, most).
FIGURES = {
    "naive-against-compiled": [("compiled", 5, np.inf), ("NumPy", 5, np.inf)],
    "activations": [("sigmoid", 0.196612, 0.196612), ("relu", 1, 1), ("softsign", 0.25, 0.25)],
    "gradient-descent": [
        ("x^2, rate 0.1", 0, 1e-6),
        ("x1^2 + x2^2, rate 0.1", 0, 1e-6),
        ("x^2, rate 0.95: to and fro", 4 * 0.9**25, 4 * 0.9**25),
    ],
    "random-search": [("gradient descent", 0, 0.8), ("random search", 1.5, 3)],
    "backprop-by-hand": [("largest difference", 0, 1e-8), ("errors of the sources", 3, 3)],
    "xor": [("perceptron", 0.25, 0.75), ("2-4-1", 1, 1)],
    "iris": [
        ("4-10-3 error", 0, 5),
        ("4-5-3-3 error", 0, 5),
        ("4-10-3 right", 140, 150),
        ("4-5-3-3 right", 140, 150),
    ],
    "boston": [("MAE of 4 folds", 1.8, 3.6), ("test MAE", 1.8, 4), ("test MSE of two features", 14, 30)],
    "mnist-15": [("accuracy", 0.8, 0.95)],
    "mnist-512": [("accuracy", 0.85, 0.98)],
    "mnist-conv": [("accuracy", 0.85, 0.99)],
    "reuters": [("epochs", 2, 8), ("accuracy", 0.55, 0.85)],
    "bankruptcy": [("fastnn 30", 0.8, 0.99), ("fastnn 64-32-16", 0.8, 0.99), ("random forest", 0.8, 0.99)],
    "overfitting": [("512 units, least", 0.1, 0.5), ("4 units, least", 0.8, 2.3)],
    "autoencoder": [("network", 0.01, 0.05), ("mean", 0.06, 0.09)],
}

# What needs files of data, or another library.
_OF_FILES = ("boston", "mnist-15", "mnist-512", "mnist-conv", "reuters", "bankruptcy")
_OF_SKLEARN = ("boston", "bankruptcy")
_LONG = ("iris", "boston", "mnist-conv", "reuters", "bankruptcy")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in _LONG else name for name in examples.NAMES]
)
def test_an_example(name, tmp_path, capsys):
    if name in _OF_FILES and not os.environ.get("FASTNN_DATA"):
        pytest.skip("FASTNN_DATA names no folder of data files")
    if name in _OF_SKLEARN:
        pytest.importorskip("sklearn")
    found = examples.run(name, tmp_path / "pictures", 0, quick=True)
    for figure, least, most in FIGURES[name]:
        slack = 1e-6 * abs(most) if least == most else 0
        assert least - slack <= found[figure] <= most + slack, figure
    assert len(capsys.readouterr().out) > 40
    drawn = sorted((tmp_path / "pictures").iterdir())
    assert [path.suffix for path in drawn] == [".png"] * (2 if name == "iris" else 1)
    for path in drawn:
        _check_picture(path)


def _check_picture(path: Path) -> None:
    seen = pictures.pixels(path)
    assert min(seen.shape[:2]) > 200
    assert pictures.colours(seen) > 20
    assert (seen.std(axis=(0, 1)) > 0.02 * 255).all()


def test_every_example_is_tested_and_has_a_title():
    assert FIGURES.keys() == set(examples.NAMES)
    assert all(examples.title(name).endswith(".") for name in examples.NAMES)


def test_the_command(tmp_path, capsys):
    assert cli.main(["example", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in examples.NAMES)
    assert cli.main(["example", "gradient-descent", "--out", str(tmp_path)]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    assert (tmp_path / "gradient-descent.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["example"], "argument NAME: got none"),
        (["example", "xro"], "did you mean 'xor'"),
        (["example", "xor", "--seed", "-1"], "argument --seed"),
    ],
)
def test_bad_commands(arguments, said, capsys):
    assert cli.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["example", "gradient-descent", "--out", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err


def test_data_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    assert cli.main(["example", "bankruptcy", "--out", str(tmp_path)]) == 2
    assert "data_rounded9.csv" in capsys.readouterr().err
