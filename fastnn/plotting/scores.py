"""How well classes are told apart: confusion matrix and ROC curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.plotting.figures import COLOUR_MAP, GREY, line_style, panel, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_WRITTEN = 30  # classes of which every count is written into its square
_MOST_LETTERS = 30  # of all names together, beside one another without being turned


def confusion_matrix(
    y_true: Any, y_pred: Any, *, labels: Sequence[str] | None = None, normalize: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw how often a class (a row) was taken for which (a column); return the axes.

    `y_true` and `y_pred` are class indices (n,); `normalize` writes shares of each row in place of counts. Colours are
    these shares, the lighter the larger. ValueError where they do not fit each other or `labels`.
    """
    true, pred = (_classes(name, given) for name, given in (("y_true", y_true), ("y_pred", y_pred)))
    if true.shape != pred.shape:
        raise ValueError(f"y_pred: got {pred.shape[0]} classes, wants one for each of {true.shape[0]} in y_true")
    found = int(max(true.max(), pred.max())) + 1
    classes = found if labels is None else len(labels)
    if found > classes:
        raise ValueError(f"labels: got {classes}, wants at least {found}, one for each class")
    counts = np.bincount(true * classes + pred, minlength=classes * classes).reshape(classes, classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax = panel(ax, width=2 + 0.42 * min(classes, _MOST_WRITTEN), height=1.6 + 0.38 * min(classes, _MOST_WRITTEN))
    ax.imshow(shares, cmap=COLOUR_MAP, vmin=0, vmax=1)
    names = [str(each) for each in (range(classes) if labels is None else labels)]
    ax.set_xticks(range(classes), names, rotation=45 if max(map(len, names)) * classes > _MOST_LETTERS else 0)
    ax.set_yticks(range(classes), names)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    if classes <= _MOST_WRITTEN:
        for row, column in np.ndindex(classes, classes):
            said = f"{shares[row, column]:.2f}" if normalize else f"{counts[row, column]:d}"
            colour = "black" if shares[row, column] > 0.55 else "white"
            ax.text(column, row, said, ha="center", va="center", fontsize=8, color=colour)
    return ax


def roc_curve(y_true: Any, y_score: Any, *, label: str = "", ax: Axes | None = None) -> Axes:
    """Draw the share of hits against that of false alarms over all thresholds of the score; return the axes.

    `y_true` (n,) holds 0 and 1, `y_score` (n,) a number for each, the higher the more likely 1. The area under the
    curve is in the legend. ValueError where there are not both classes, or scores that are not finite.
    """
    true, score = _classes("y_true", y_true), np.asarray(y_score, float).reshape(-1)
    if not np.isfinite(score).all() or score.shape != true.shape:
        raise ValueError(f"y_score: got {checks.describe(score)}, wants {len(true)} finite numbers")
    if set(np.unique(true)) != {0, 1}:
        raise ValueError(f"y_true: got the classes {np.unique(true).tolist()}, wants both 0 and 1")
    alarms, hits = _rates(true, score)
    area = float(np.sum(np.diff(alarms) * (hits[1:] + hits[:-1]) / 2))
    ax = panel(ax)
    if not ax.lines:
        ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    named = f"{label}: " if label else ""
    ax.plot(alarms, hits, linewidth=2, label=f"{named}area {area:.3f}", **line_style(len(ax.lines) - 1))
    ax.set_xlabel("share of false alarms")
    ax.set_ylabel("share of hits")
    ax.set_aspect("equal")
    ax.legend(loc="lower right", edgecolor="none", framealpha=1)
    tidy(ax)
    return ax


def _rates(true: Any, score: Any) -> tuple[Any, Any]:
    """False alarms and hits at each threshold from none on; equal scores count at once."""
    order = np.argsort(-score, kind="stable")
    last = np.r_[np.flatnonzero(np.diff(score[order])), len(order) - 1]
    hits = np.cumsum(true[order])[last]
    alarms = last + 1 - hits
    return np.r_[0, alarms / alarms[-1]], np.r_[0, hits / hits[-1]]


def _classes(name: str, given: Any) -> Any:
    found = np.asarray(given)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1 or not found.size or found.dtype.kind not in "iufb" or not _whole(found):
        raise ValueError(f"{name}: got {checks.describe(found)}, wants class indices (n,)")
    if found.min() < 0:
        raise ValueError(f"{name}: got {found.min()}, wants class indices from 0 on")
    return found.astype(int)


def _whole(found: Any) -> bool:
    return bool(np.isfinite(found).all() and (found == np.floor(found)).all())
