"""Learning curves: what is drawn, and that a file is whole or not there."""

from __future__ import annotations

import struct

import pytest

from fastnn import plotting

pytest.importorskip("matplotlib")

HISTORY = {
    "loss": [1.0, 0.5, 0.3, 0.2],
    "accuracy": [0.5, 0.7, 0.8, 0.9],
    "val_loss": [0.9, 0.6, 0.5, 0.55],
    "val_accuracy": [0.5, 0.75, 0.72, 0.74],
}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_one_panel_a_quantity_with_both_curves_named():
    figure = plotting.history_figure(HISTORY, title="digits 64-64-10", subtitle="relu")
    assert [axes.get_title("left") for axes in figure.axes] == ["loss", "accuracy"]
    for axes, name in zip(figure.axes, ("loss", "accuracy"), strict=True):
        assert axes.get_xlabel() == "epoch"
        training, validation, _ = axes.lines
        assert list(training.get_xdata()) == [1, 2, 3, 4]
        assert list(training.get_ydata()) == HISTORY[name]
        assert list(validation.get_ydata()) == HISTORY[f"val_{name}"]
        assert training.get_color() != validation.get_color()
        assert {"training", "validation"} <= set(texts(axes))


def test_best_epoch_is_the_lowest_loss_and_the_highest_accuracy():
    loss, accuracy = plotting.history_figure(HISTORY).axes
    for axes, epoch, value in ((loss, 3, 0.5), (accuracy, 2, 0.75)):
        ring = axes.lines[-1]
        assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (epoch, value)
        assert f"best validation: {value:g}\nepoch {epoch}" in texts(axes)


@pytest.mark.parametrize("size", [None, (9, 2.4), (7, 8)])
def test_a_heading_and_what_is_below_it_do_not_meet(size):
    figure, panels = plotting.empty_figure(2, "784-512-10", "pqgy", size=size)
    figure.draw_without_rendering()
    below = next(text for text in figure.texts if text.get_text() == "pqgy").get_window_extent()
    heading = figure._suptitle.get_window_extent()
    first_line = heading.y1 - (heading.height / 2)
    assert below.y1 <= first_line + 1
    assert max(axes.get_window_extent().y1 for axes in panels) < below.y0


def test_panels_in_rows():
    figure, panels = plotting.empty_figure(6, "", columns=3)
    figure.draw_without_rendering()
    corners = [axes.get_position() for axes in panels]
    assert corners[0].y0 > corners[3].y1
    assert corners[0].x1 < corners[1].x0


def test_training_alone():
    (axes,) = plotting.history_figure({"loss": [3.0, 2.0, 2.5]}).axes
    assert "best training: 2\nepoch 2" in texts(axes)


@pytest.mark.parametrize(
    ("history", "scale"),
    [
        ({"loss": [500.0, 30.0, 5.0]}, "log"),
        ({"loss": [9.0, 3.0, 1.0]}, "linear"),
        ({"loss": [9.0, 0.0]}, "linear"),
        ({"loss": [9.0, 5.0], "val_loss": [8.0, 0.1]}, "log"),
        ({"accuracy": [0.01, 0.99]}, "linear"),
    ],
)
def test_an_error_that_falls_far_is_on_a_logarithmic_scale(history, scale):
    (axes,) = plotting.history_figure(history).axes
    assert axes.get_yscale() == scale
    assert ("logarithmic" in axes.get_title("left")) == (scale == "log")


@pytest.mark.parametrize("curve", [[3.0, 2.0, 1.0], [300.0, 20.0, 1.0]])
def test_a_name_is_level_with_the_end_of_its_curve(curve):
    (axes,) = plotting.history_figure({"loss": curve}).axes
    axes.figure.draw_without_rendering()
    (name,) = [text for text in axes.texts if text.get_text() == "training"]
    end = axes.transAxes.inverted().transform(axes.transData.transform((3, curve[-1])))
    assert name.xy[1] == pytest.approx(end[1], abs=1e-6)


def test_names_at_close_ends_are_moved_apart():
    (axes,) = plotting.history_figure({"loss": [1.0, 0.5], "val_loss": [1.1, 0.5001]}).axes
    heights = [text.xy[1] for text in axes.texts if text.get_text() in ("training", "validation")]
    assert abs(heights[0] - heights[1]) == pytest.approx(0.07)


@pytest.mark.parametrize("history", [{}, {"loss": []}, {"val_loss": [1.0]}])
def test_nothing_to_draw(history):
    with pytest.raises(ValueError, match="history: got no curves"):
        plotting.history_figure(history)


@pytest.mark.parametrize("epochs", [1, 2])
def test_png_of_few_epochs(epochs, tmp_path):
    path = tmp_path / "curves.png"
    plotting.save(plotting.history_figure({name: curve[:epochs] for name, curve in HISTORY.items()}), path)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert width > 1200
    assert height > 500
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_other_formats(suffix, tmp_path):
    path = tmp_path / f"curves{suffix}"
    plotting.save(plotting.history_figure(HISTORY), path)
    assert path.read_bytes()[:5] in (b"<?xml", b"%PDF-")


def test_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "curves.png"
    path.write_text("the old one")

    class Full:
        def savefig(self, file, format):  # noqa: A002 - matplotlib's name
            file.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        plotting.save(Full(), path)
    assert path.read_text() == "the old one"
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError, match="path: got a folder, wants the name of a file"):
        plotting.save(plotting.history_figure(HISTORY), tmp_path)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "\.\[plot\]" in fastnn.s checkout'):
        plotting.history_figure(HISTORY)


def test_pyplot_is_left_alone():
    import sys

    before = set(sys.modules)
    plotting.history_figure(HISTORY)
    assert "matplotlib.pyplot" not in set(sys.modules) - before
