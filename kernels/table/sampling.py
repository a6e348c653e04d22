"""Images (n, h, w, c) looked at through a transformation of their places: turned, moved, made larger or smaller."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.table.row import Choice, Integer, Real, grid, op

# What lies beyond an image's edges: one number, its places mirrored, again from the other side, or the edge's.
FILL_MODES = ("constant", "reflect", "wrap", "nearest")
INTERPOLATIONS = ("bilinear", "nearest")

_SAMPLED: dict[str, Any] = {
    "options": {
        "height": Integer(1, varies=False),
        "width": Integer(1, varies=False),
        "interpolation": Choice(INTERPOLATIONS),
        "fill_mode": Choice(FILL_MODES),
        "fill_value": Real(),
    },
    "derived": {"k": lambda known: 6, "p": lambda known: known["height"], "q": lambda known: known["width"]},
    "cases": grid(
        n=(0, 1, 2, 3, 5),
        h=(4, 1, 5, 4, 7),
        w=(5, 1, 4, 6, 3),
        c=(3, 1, 17, 1, 4),
        height=(3, 1, 7, 4, 2),
        width=(2, 2, 5, 6, 9),
    ),
    "bench": ({"n": 64, "h": 28, "w": 28, "c": 3, "height": 28, "width": 28},),
    "variants": (
        {},
        {"fill_mode": "reflect"},
        {"fill_mode": "wrap", "interpolation": "nearest"},
        {"fill_mode": "nearest"},
        {"fill_value": 0.5},
    ),
}


@op("sampling", x="n h w c", matrices="n k", returns=("n p q c",), **_SAMPLED)
def affine_sample2d(
    x, matrices, height, width, interpolation="bilinear", fill_mode="constant", fill_value=0.0, *, out=None
):
    """Images y (n, height, width, c) whose places are those of x (n, h, w, c) that ``matrices`` (n, 6) tell.

    y[i, r, s] is x[i] at row a r + b s + c and column d r + e s + f, where a to f are the numbers of matrices[i]:
    between four places by "bilinear" interpolation, or the "nearest" one. Beyond the edges lies what ``fill_mode``
    says: "constant", ``fill_value``; "reflect", the mirror image; "wrap", the image again; "nearest", its edge.
    """


@op("sampling", dy="n p q c", x="n h w c", matrices="n k", returns=("n h w c",), unread=("x",), **_SAMPLED)
def affine_sample2d_backward(
    dy, x, matrices, height, width, interpolation="bilinear", fill_mode="constant", fill_value=0.0, *, out=None
):
    """Gradient of ``affine_sample2d`` by x, of which only the shape counts."""
