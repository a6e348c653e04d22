"""A model's graph as a picture. Needs matplotlib (the extra ``plot``), imported when something is drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn import checks, files, plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In inches: a box and the room around it, a line of text in a box, and the margin.
_WIDTH, _BESIDE, _LINE, _BELOW, _MARGIN = 2.5, 0.35, 0.2, 0.42, 0.25


def model_figure(
    model: Any, show_shapes: bool = False, show_dtype: bool = False, show_layer_names: bool = True
) -> Figure:
    """Boxes for the calls of a model's layers, row below row, and lines from what gives to what takes.

    A layer that is called twice has two boxes; a model inside is one box.
    """
    plotting.require()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    nodes, edges = _graph(model)
    rows = _rows(nodes, edges)
    texts = {id(node): _text(node, show_shapes, show_dtype, show_layer_names) for node in nodes}
    height = _LINE * max(text.count("\n") + 1 for text in texts.values()) + 0.16
    columns = max(map(len, rows))
    size = 2 * _MARGIN + columns * (_WIDTH + _BESIDE), 2 * _MARGIN + len(rows) * (height + _BELOW) - _BELOW
    figure = Figure(figsize=size, dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.axis("off")
    places = {}
    for number, row in enumerate(rows):
        for place, node in enumerate(row):
            x = size[0] / 2 + (place - (len(row) - 1) / 2) * (_WIDTH + _BESIDE)
            places[id(node)] = x, _MARGIN + number * (height + _BELOW)
    for above, below in edges:
        _arrow(axes, places[id(above)], places[id(below)], height)
    for node in nodes:
        _box(axes, places[id(node)], height, texts[id(node)], first=node in rows[0])
    return figure


def plot_model(
    model: Any,
    to_file: str | os.PathLike[str] | None = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: float = 150,
) -> Figure:
    """Draw a built model by matplotlib into a file (.png, .svg or .pdf), or with None into none; the figure.

    Rows go from top to bottom ("TB"), and a model inside is one box: other ``rankdir`` and ``expand_nested`` are
    refused. ``dpi``: dots of the picture to the inch.
    """
    checks.one_of("rankdir", rankdir, ("TB",))
    if expand_nested:
        raise ValueError("expand_nested: got True, wants False: draw the model inside by itself")
    figure = model_figure(model, show_shapes, show_dtype, show_layer_names)
    figure.set_dpi(checks.real("dpi", dpi, minimum=1))
    if to_file is not None:
        files.check_writable("to_file", files.checked_path("to_file", to_file))
        plotting.save(figure, to_file)
    return figure


def _graph(model: Any) -> tuple[list[Any], list[tuple[Any, Any]]]:
    """The calls of a model's layers, its inputs first, and pairs of what gives and what takes."""
    ends = {(id(tensor.node), tensor.place) for tensor in model.inputs}
    found = {id(tensor.node): tensor.node for tensor in model.inputs}
    edges: dict[tuple[int, int], tuple[Any, Any]] = {}

    def visit(tensor: Any) -> None:
        if id(tensor.node) in found:
            return
        for taken in tensor.node.taken:
            visit(taken)
        found[id(tensor.node)] = tensor.node

    for output in model.outputs:
        visit(output)
    for node in found.values():
        inputs = [] if any((id(node), place) in ends for place in range(len(node.outputs))) else node.taken
        for tensor in inputs:
            edges[id(tensor.node), id(node)] = tensor.node, node
    return [*found.values()], [*edges.values()]


def _rows(nodes: Sequence[Any], edges: Sequence[tuple[Any, Any]]) -> list[list[Any]]:
    """The calls in rows, each below all that it takes from."""
    depth = {id(node): 0 for node in nodes}
    for node in nodes:  # what gives comes first
        for above, below in edges:
            if below is node:
                depth[id(node)] = max(depth[id(node)], depth[id(above)] + 1)
    rows: list[list[Any]] = [[] for _ in range(1 + max(depth.values()))]
    for node in nodes:
        rows[depth[id(node)]].append(node)
    return rows


def _text(node: Any, shapes: bool, dtype: bool, names: bool) -> str:
    kind = type(node.operation).__name__
    lines = [f"{node.operation.name} ({kind})" if names else kind]
    if shapes:
        given = ", ".join(str(tensor.shape) for tensor in node.taken)
        lines.append(f"{given} → {_shapes(node)}" if given else _shapes(node))
    if dtype:
        lines.append(node.outputs[0].dtype)
    return "\n".join(lines)


def _shapes(node: Any) -> str:
    return ", ".join(str(tensor.shape) for tensor in node.outputs)


def _box(axes: Axes, place: tuple[float, float], height: float, text: str, first: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = place
    colour = plotting.ORANGE if first else plotting.BLUE
    shape = FancyBboxPatch(
        (x - _WIDTH / 2, y), _WIDTH, height, boxstyle="round,pad=0,rounding_size=0.06", linewidth=1.2,
        edgecolor=colour, facecolor="white", zorder=2,
    )  # fmt: skip
    axes.add_patch(shape)
    longest = max(map(len, text.split("\n")))
    axes.text(x, y + height / 2, text, ha="center", va="center", fontsize=min(9, 290 / longest), zorder=3)


def _arrow(axes: Axes, above: tuple[float, float], below: tuple[float, float], height: float) -> None:
    style = {"arrowstyle": "-|>", "color": plotting.GREY, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
    if abs(above[0] - below[0]) < 1e-9 and below[1] - above[1] > height + _BELOW + 1e-9:  # past boxes in between
        style["connectionstyle"] = "arc3,rad=0.35"
    axes.annotate("", (below[0], below[1]), (above[0], above[1] + height), arrowprops=style, zorder=1)
