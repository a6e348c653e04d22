"""The playground's figures: what is measured, what is printed, and when it is too little."""

from __future__ import annotations

import pytest

from bench import browser, playground
from fastnn import cli


@pytest.fixture
def figures(monkeypatch):
    """What is measured, in place of measurements."""
    found = {"epochs": 1000.0, "frames": 40.0}

    class Page:
        def quit(self):
            found["ended"] = True

    monkeypatch.setattr(browser, "started", Page)
    monkeypatch.setattr(playground, "epochs_a_second", lambda address, seconds: found["epochs"])
    monkeypatch.setattr(playground, "frames_a_second", lambda page, address, seconds: found["frames"])
    return found


@pytest.mark.parametrize(("epochs", "frames", "status"), [(1000, 40, 0), (299, 40, 1), (1000, 29, 1)])
def test_the_table(figures, epochs, frames, status, capsys):
    figures |= {"epochs": epochs, "frames": frames}
    assert cli.main(["bench", "playground", "--seconds", "0.1"]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cpu:")
    for name in playground.NETWORKS:
        (line,) = [line for line in lines if line.startswith(name)]
        assert line.removeprefix(name).split() == [f"{epochs:,}", str(frames)]
    assert figures["ended"]


@pytest.mark.parametrize(
    ("error", "said"), [(ImportError("no selenium"), "[browser]"), (OSError(browser.LACKING), browser.LACKING)]
)
def test_without_a_browser_frames_are_left_out_and_it_says_so(figures, monkeypatch, error, said, capsys):
    def started():
        raise error

    monkeypatch.setattr(browser, "started", started)
    assert playground.main([]) == 0
    out = capsys.readouterr().out
    assert said in out
    assert out.count(" -\n") == len(playground.NETWORKS)


def test_epochs_are_those_of_the_training():
    assert playground.epochs_a_second("layers=2", 0.05) > 1
