"""Images (n, h, w, c) made larger or smaller: by zeros around them, by what is cut off, by numbers that repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastnn.kernels.table.row import Derivation, Integers, Padding, Rule, grid, op

_SIZES: dict[str, Any] = {
    "cases": grid(n=(0, 1, 2, 1, 3, 2), h=(4, 5, 4, 9, 5, 7), w=(5, 4, 6, 5, 7, 8), c=(3, 1, 17, 16, 4, 33)),
    "bench": grid(n=(64,), h=(28,), w=(28,), c=(64,)),
}


def _in_numbers(name: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda given: not isinstance(given[name], str)


def _beside(size: str, axis: int, around: str, sign: int) -> Derivation:
    """A size with what is around it, or without."""

    def derive(known: Mapping[str, Any]) -> int:
        around_it = known[around]
        changed: int = known[size] + (0 if isinstance(around_it, str) else sign * sum(around_it[axis]))
        if changed < 0:
            raise ValueError(f"{around}: got {around_it[axis]} along axis {axis + 1}, wants {known[size]} at most")
        return changed

    return derive


def _around(name: str, sign: int, second: Any) -> dict[str, Any]:
    """What rows have in common that take numbers around both axes."""
    return {
        "options": {name: Padding(2)},
        "derived": {"p": _beside("h", 0, name, sign), "q": _beside("w", 1, name, sign)},
        "rules": (Rule(name, "numbers, for both axes, for each, or pairs of such", _in_numbers(name)),),
        "variants": ({name: ((1, 2), (0, 3))}, {name: second}),
        **_SIZES,
    }


@op("resizing", x="n h w c", returns=("n p q c",), **_around("padding", 1, ((0, 0), (1, 1))))
def zero_pad2d(x, padding=((1, 1), (1, 1)), *, out=None):
    """Zeros around both axes of images x (n, h, w, c): ``padding`` of them, or (rows, columns), or pairs of such.

    A pair says how many come before and how many behind.
    """


@op("resizing", x="n h w c", returns=("n p q c",), **_around("cropping", -1, ((1, 0), (0, 0))))
def crop2d(x, cropping=((1, 1), (1, 1)), *, out=None):
    """Images x (n, h, w, c) without what ``zero_pad2d`` would put there: numbers as it takes them, from either side."""


_UPSAMPLE: dict[str, Any] = {
    "options": {"size": Integers(2, low=1)},
    "derived": {
        "p": lambda known: known["h"] * known["size"][0],
        "q": lambda known: known["w"] * known["size"][1],
    },
    "variants": ({"size": (2, 2)}, {"size": (3, 1)}),
    **_SIZES,
}


@op("resizing", x="n h w c", returns=("n p q c",), **_UPSAMPLE)
def upsample2d(x, size=(2, 2), *, out=None):
    """Every number of images x (n, h, w, c) size[0] x size[1] times: y[:, i, j] = x[:, i // size[0], j // size[1]]."""


@op("resizing", dy="n p q c", x="n h w c", returns=("n h w c",), unread=("x",), **_UPSAMPLE)
def upsample2d_backward(dy, x, size=(2, 2), *, out=None):
    """Gradient of ``upsample2d`` by x, of which only the shape counts: the sums of the blocks of dy."""
