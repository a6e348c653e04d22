"""Pictures of models: what is drawn, where, and what is refused."""

from __future__ import annotations

import pytest

from fastnn import layers, models, plotting, utils
from fastnn.diagrams import _graph, _rows, model_figure


def made():
    a, b = layers.Input((3,), name="a"), layers.Input((4,), name="b")
    shared = layers.Dense(3, name="shared")
    h = layers.Add(name="sum")([shared(a), shared(layers.Dense(3, name="first")(b))])
    return models.Model([a, b], [layers.Dense(2, name="out")(h), h])


def test_calls_are_in_rows_below_what_they_take():
    nodes, edges = _graph(made())
    rows = [[node.operation.name for node in row] for row in _rows(nodes, edges)]
    assert rows == [["a", "b"], ["shared", "first"], ["shared"], ["sum"], ["out"]]
    assert len(edges) == 6


@pytest.mark.parametrize("kind", [".png", ".svg", ".pdf"])
def test_a_picture_in_a_file(tmp_path, kind):
    path = tmp_path / f"model{kind}"
    utils.plot_model(made(), path, show_shapes=True, show_dtype=True)
    assert path.stat().st_size > 1000


def test_what_boxes_say():
    figure = model_figure(made(), show_shapes=True)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "out (Dense)\n(None, 3) → (None, 2)" in texts
    assert "a (InputLayer)\n(None, 3)" in texts
    assert len(figure.axes[0].patches) == 7
    assert "Dense" in [t.get_text() for t in model_figure(made(), show_layer_names=False).axes[0].texts]
    stack = models.Sequential([layers.Input((3,)), layers.Dense(2, name="d")])
    assert "d (Dense)" in [text.get_text() for text in utils.plot_model(stack, None).axes[0].texts]


def test_what_cannot_be_drawn_is_refused(tmp_path, monkeypatch):
    with pytest.raises(AttributeError, match="the model is not built"):
        utils.plot_model(models.Sequential([layers.Dense(2)]), None)
    monkeypatch.setattr(plotting.figures.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="a plot needs matplotlib"):
        utils.plot_model(made(), tmp_path / "model.png")


def test_other_ways_of_drawing_are_refused():
    model = models.Sequential([layers.Input((3,)), layers.Dense(2)])
    assert utils.plot_model(model, None, rankdir="TB", dpi=64).get_dpi() == 64
    with pytest.raises(ValueError, match="rankdir: got 'LR'"):
        utils.plot_model(model, None, rankdir="LR")
    with pytest.raises(ValueError, match="expand_nested: got True, wants False"):
        utils.plot_model(model, None, expand_nested=True)
