"""The picture of a network: every weight's number is there, none covers another, files come out whole."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from fastnn import plotting
from fastnn.neuralnets import neuralnet

XOR = {"a": [0.0, 0, 1, 1], "b": [0.0, 1, 0, 1], "y": [0.0, 1, 1, 0]}


def drawn(sizes, **options):
    random = np.random.default_rng(0)
    weights = [random.normal(size=(a + 1, b)) * 100 for a, b in pairwise(sizes)]
    names = [[f"input {i}" for i in range(sizes[0])], [f"output {i}" for i in range(sizes[-1])]]
    said = "Error: 9.027655   Steps: 25046"
    return weights, plotting.network_figure(weights, inputs=names[0], outputs=names[1], caption=said, **options)


@pytest.mark.parametrize("sizes", [(4, 10, 3), (4, 5, 3, 3), (1, 1), (2, 1, 2)])
def test_every_number_can_be_read(sizes):
    weights, figure = drawn(sizes)
    (axes,) = figure.axes
    texts = {text.get_text(): text for text in axes.texts}
    renderer = figure.canvas.get_renderer()
    numbers = np.concatenate([matrix.ravel() for matrix in weights])
    boxes = [texts[f"{weight:.5g}"].get_window_extent(renderer) for weight in numbers]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert "Error: 9.027655   Steps: 25046" in texts
    assert {"input 0", "output 0", "1"} <= texts.keys()
    page = figure.bbox
    assert all(
        page.x0 <= box.x0 and box.x1 <= page.x1 for box in (t.get_window_extent(renderer) for t in texts.values())
    )
    assert len(axes.patches) == sum(sizes) + len(sizes) - 1


def test_numbers_are_left_out_where_there_is_no_room():
    _, figure = drawn((100, 30, 10))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(texts) == 20 + 10 + 2 + 2 + 1  # names of the units that are drawn, ones, what is left out, the caption
    assert {"80 more", "10 more", "input 19"} <= set(texts)
    _, figure = drawn((2, 2), values=False)
    assert len(figure.axes[0].texts) == 4 + 1 + 1
    assert figure.get_size_inches()[1] < 30


def test_a_picture_is_a_file(tmp_path):
    net = neuralnet("y ~ a + b", XOR, hidden=3, seed=1, rep=2)
    for name in ("net.png", "net.svg"):
        net.plot(file=tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    best = min(net.results, key=lambda result: result["error"])
    assert any(f"Error: {best['error']:.6f}" in text.get_text() for text in net.plot().axes[0].texts)
    with pytest.raises(ValueError, match="Format 'doc'"):
        net.plot(file=tmp_path / "net.doc")
    assert "0.1" not in {text.get_text() for text in net.plot(show_weights=False).axes[0].texts}
    with pytest.raises(ValueError, match="digits: got 0"):
        net.plot(digits=0)
