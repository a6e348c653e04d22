"""Progress: a live line on a terminal, plain lines elsewhere, nothing when silent."""

from __future__ import annotations

import io

import numpy as np
import pytest

from fastnn import callbacks, layers, models, progress

X = np.random.default_rng(0).normal(size=(40, 3))
LABELS = np.arange(40) % 3


def small():
    model = models.Sequential([layers.Dense(3, "softmax", input_shape=(3,))])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize(("verbose", "lines"), [(0, 0), (1, 3), (2, 3), ("auto", 3)])
def test_plain_progress_is_one_line_an_epoch(capsys, verbose, lines):
    small().fit(X, LABELS, epochs=3, validation_split=0.2, verbose=verbose)
    captured = capsys.readouterr()
    out = captured.out.splitlines()
    assert len(out) == lines
    assert captured.err == ""
    for number, line in enumerate(out, start=1):
        assert line.startswith(f"Epoch {number}/3 - ")
        for part in ("ms/step", "loss: ", "accuracy: ", "val_loss: ", "val_accuracy: "):
            assert part in line


class Terminal(io.StringIO):
    """Standard output that claims to be a terminal."""

    def isatty(self):
        return True


def test_live_progress_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    model = small()
    model.fit(X, LABELS, epochs=2, batch_size=10, verbose="auto")
    model.evaluate(X, LABELS)
    model.predict(X)
    text = terminal.getvalue()
    assert "\r" in text
    finished = [line for line in text.replace("\r", "\n").splitlines() if "4/4" in line]
    assert len(finished) >= 2
    assert all("loss: " in line and "accuracy: " in line for line in finished)
    assert "Evaluate" in text
    assert "Predict" in text
    assert "\x1b[A" not in text  # one line, nothing above it is touched


def test_progress_line_ends_when_training_fails(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)

    def fail(epoch, logs):
        raise RuntimeError("from a callback")

    with pytest.raises(RuntimeError, match="from a callback"):
        small().fit(X, LABELS, verbose=1, callbacks=[callbacks.LambdaCallback(on_train_batch_end=fail)])
    assert terminal.getvalue().endswith("\n")


def test_plain_line_of_an_evaluation(capsys):
    model = small()
    model.evaluate(X, LABELS)
    model.predict(X)
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 1
    assert out[0].startswith("Evaluate - ")
    assert "loss: " in out[0]


def test_figures():
    assert (
        progress.figures({"loss": 1.23456, "mae": 0.000123456, "none": 0.0})
        == "loss: 1.2346 - mae: 0.0001235 - none: 0"
    )
    assert progress.figures({"recall": np.array([0.25, 0.5])}) == "recall: 0.3750"


def test_silence_costs_no_hooks():
    silent = progress.progress(0)
    assert silent.on_step is None
    silent.open("Epoch 1/1", 3)
    silent.close({"loss": 1.0})
