"""Functions of one and of two numbers: activations, what a network answers over a plane, paths of a descent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.plotting.figures import BLUE, COLOUR_MAP, MARKERS, ORANGE, panel, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 200  # places of a surface
_MARGIN = 0.08  # around the points, of their width
_MOST_BESIDE = 5  # names of classes in a line of the legend


def activation(
    function: Callable[[Any], Any],
    derivative: Callable[[Any], Any] | None = None,
    *,
    span: tuple[float, float] = (-5, 5),
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a function of arrays over `span`, and its derivative dashed; return the axes.

    Without `derivative` its slope between neighbouring places is drawn.
    """
    x = np.linspace(*span, 1001)
    y = np.asarray(function(x))
    slope = np.gradient(y, x) if derivative is None else np.asarray(derivative(x))
    ax = panel(ax)
    ax.plot(x, y, color=BLUE, linewidth=2, label="f(x)")
    ax.plot(x, slope, color=ORANGE, linewidth=2, linestyle="--", label="f'(x)")
    ax.set_title(title if title is not None else getattr(function, "__name__", ""), loc="left", fontsize=11)
    ax.legend(frameon=False, fontsize=8)
    tidy(ax)
    return ax


def decision_surface(
    predict: Any,
    x: Any,
    y: Any = None,
    *,
    labels: Sequence[str] | None = None,
    boundary: float | None = 0.5,
    ax: Axes | None = None,
) -> Axes:
    """Draw what a model answers over the plane of two features, and the points (n, 2) it is about; return the axes.

    `predict` is a model, or a function of points (m, 2): one output is drawn as it is, the lighter the larger, with a
    line where it is `boundary`; of several the most probable class, with lines between the classes. `y` (n,) are the
    points' classes, named by `labels` above the panel. ``figure.colorbar(ax.images[0], ax=ax)`` adds the scale.
    ValueError unless there are two features, and a label and a class for each.
    """
    points = np.asarray(x)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"x: got {checks.describe(points)}, wants points (n, 2)")
    classes = np.unique(_fitting("y", y, len(points))) if y is not None else ()
    if labels is not None and len(labels) != len(classes):
        raise ValueError(f"labels: got {len(labels)}, wants one for each of {len(classes)} classes in y")
    ax = panel(ax)
    low, high = points.min(axis=0), points.max(axis=0)
    edge = _MARGIN * np.maximum(high - low, 1e-12)
    columns, rows = (np.linspace(*ends, _ACROSS) for ends in zip(low - edge, high + edge, strict=True))
    grid = np.stack([each.ravel() for each in np.meshgrid(columns, rows)], axis=1).astype(points.dtype)
    answers = np.asarray(_answers(predict, grid)).reshape(len(grid), -1)
    several = answers.shape[1] > 1
    heights = (answers.argmax(axis=1) if several else answers[:, 0]).reshape(_ACROSS, _ACROSS)
    ax.imshow(heights, extent=(columns[0], columns[-1], rows[0], rows[-1]), origin="lower", aspect="auto",
              cmap=COLOUR_MAP, interpolation="nearest" if several else "bilinear", alpha=0.8,
              vmin=0 if several else None, vmax=answers.shape[1] - 1 if several else None)  # fmt: skip
    wanted = np.arange(answers.shape[1] - 1) + 0.5 if several else () if boundary is None else (boundary,)
    crossed = [level for level in wanted if heights.min() < level < heights.max()]
    if crossed:
        ax.contour(columns, rows, heights, levels=crossed, colors="black", linewidths=1.2)
    for place, label in enumerate(classes):
        named = str(label) if labels is None else labels[place]
        chosen = points[np.asarray(y).reshape(-1) == label]
        ax.scatter(chosen[:, 0], chosen[:, 1], s=32, marker=MARKERS[place % len(MARKERS)], label=named, **_style(place))
    if y is not None:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, frameon=False, fontsize=9,
                  ncols=min(len(classes), _MOST_BESIDE), handletextpad=0.1, columnspacing=1)  # fmt: skip
    return ax


def _fitting(name: str, given: Any, count: int) -> Any:
    found = np.asarray(given).reshape(-1)
    if len(found) != count:
        raise ValueError(f"{name}: got {checks.describe(np.asarray(given))}, wants a class for each of {count} points")
    return found


def descent(f: Callable[[Any], float], path: Any, *, ax: Axes | None = None) -> Axes:
    """Draw a function of one or two numbers, and the places (steps, 1 or 2) that a descent has been at."""
    places = np.asarray(path, float)
    if places.ndim != 2 or places.shape[1] not in (1, 2):
        raise ValueError(f"path: got {checks.describe(places)}, wants places (steps, 1) or (steps, 2)")
    ax = panel(ax)
    reach = 1.15 * max(float(np.abs(places).max()), 1e-12)
    along = np.linspace(-reach, reach, _ACROSS)
    if places.shape[1] == 1:
        ax.plot(along, [f(np.array([at])) for at in along], color=BLUE, linewidth=2)
        ax.plot(places[:, 0], [f(at) for at in places], color=ORANGE, marker="o", markersize=4, linewidth=1)
        ax.set_xlabel("x")
        ax.set_ylabel("f(x)")
        tidy(ax)
    else:
        heights = [[f(np.array([x, y])) for x in along[::4]] for y in along[::4]]
        ax.contourf(along[::4], along[::4], heights, levels=20, cmap=COLOUR_MAP)
        ax.plot(*places.T, color="white", marker="o", markersize=4, markeredgecolor="black", linewidth=1.2)
        ax.set_xlabel("x1")
        ax.set_ylabel("x2")
        ax.set_aspect("equal")
    return ax


def _answers(predict: Any, grid: Any) -> Any:
    if not hasattr(predict, "predict"):
        return predict(grid)
    quiet = {"verbose": 0} if hasattr(predict, "compile") else {}
    return predict.predict(grid, **quiet)


def _style(place: int) -> dict[str, Any]:
    """Classes in turn white with a black edge, and black with a white one."""
    return {"color": ("white", "black")[place % 2], "edgecolors": ("black", "white")[place % 2], "linewidths": 0.7}
