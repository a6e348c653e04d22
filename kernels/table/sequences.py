"""Sequences of steps (n, t, f), some of them masked: what is left out, and what of the others counts."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.table.row import Real, grid, op

_STEPS: dict[str, Any] = {
    "cases": grid(n=(0, 2, 1, 1, 3, 5, 2, 17), t=(2, 0, 1, 3, 2, 4, 7, 12), f=(3, 2, 1, 4, 3, 1, 33, 67)),
    "bench": ({"n": 128, "t": 100, "f": 64},),
}
_MASKED: dict[str, Any] = {**_STEPS, "variants": ({}, {"mask": None}), "draw": {"mask": "mask"}}


@op("sequences", x="n t f", returns=("n t",), options={"value": Real()}, **_STEPS)
def step_mask(x, value=0.0, *, out=None):
    """Which steps of x (n, t, f) count: 1 where any of a step's numbers is not ``value``, else 0, (n, t)."""


@op("sequences", x="n t f", mask="n t", returns=("n t f",), **{**_MASKED, "variants": ({},)})
def mask_steps(x, mask, *, out=None):
    """x (n, t, f) with zeros in the steps whose mask (n, t) is 0."""


@op("sequences", dy="n t f", mask="n t", returns=("n t f",), **{**_MASKED, "variants": ({},)})
def mask_steps_backward(dy, mask, *, out=None):
    """Gradient of ``mask_steps`` by x: dy with zeros in the steps whose mask is 0."""


@op("sequences", x="n t f", mask="n t", returns=("n f",), **_MASKED)
def sequence_mean(x, mask=None, *, out=None):
    """Mean over the steps of x (n, t, f), of those whose mask (n, t) is not 0: y (n, f); zeros where there are none."""


@op("sequences", dy="n f", x="n t f", mask="n t", returns=("n t f",), unread=("x",), **_MASKED)
def sequence_mean_backward(dy, x, mask=None, *, out=None):
    """Gradient of ``sequence_mean`` by x, of which only the shape counts: dy by the number of steps that count."""


@op("sequences", x="n t f", mask="n t", returns=("n f",), **_MASKED)
def sequence_max(x, mask=None, *, out=None):
    """Largest numbers over the steps of x (n, t, f), of those whose mask (n, t) is not 0: y (n, f).

    Zeros where there are no such steps; NaN where one of them has it.
    """


@op(
    "sequences",
    dy="n f",
    x="n t f",
    y="n f",
    mask="n t",
    returns=("n t f",),
    **{**_MASKED, "draw": {"mask": "mask", "y": "largest"}},
)
def sequence_max_backward(dy, x, y, mask=None, *, out=None):
    """Gradient of ``sequence_max`` by x: dy where x first is y, the result, among the steps that count, else 0."""
