"""Scaled dot-product attention: steps of one sequence as means of the steps of another."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.table.row import Flag, Real, Subset, grid, op, product

# The score of a step that does not count.
FAR_BELOW = -1e9

GRADIENTS = ("dquery", "dkey", "dvalue")
_SHAPES: dict[str, Any] = {"query": "n t h d", "key": "n s h d", "value": "n s h e", "mask": "n t s"}
_ALL: dict[str, Any] = {
    "cases": grid(
        n=(0, 2, 1, 1, 2, 3, 1, 2, 1),
        t=(2, 0, 1, 3, 5, 4, 65, 7, 33),
        s=(3, 2, 1, 4, 3, 7, 34, 1, 70),
        h=(2, 1, 1, 1, 2, 3, 1, 2, 2),
        d=(4, 3, 1, 2, 5, 4, 17, 16, 3),
        e=(4, 2, 1, 3, 5, 2, 16, 33, 4),
    ),
    "bench": grid(n=(32, 8), t=(64, 512), s=(64, 512), h=(4, 8), d=(16, 64), e=(16, 64)),
    "draw": {"mask": "mask"},
}
_OPTIONS: dict[str, Any] = {"scale": Real(), "causal": Flag()}


@op(
    "attention",
    **_SHAPES,
    returns=("n t h e",),
    options=_OPTIONS,
    flops=lambda n, t, s, h, d, e: 2 * n * h * t * s * (d + e),
    variants=({}, *product(mask=(None,), causal=(False, True), scale=(0.25,)), {"causal": True}),
    **_ALL,
)
def attention(query, key, value, mask=None, scale=1.0, causal=False, *, out=None):
    """Scaled dot-product attention of h heads: y = softmax(scale * query @ key^T) @ value. Vaswani et al. 2017.

    query is (n, t, h, d), key is (n, s, h, d), value is (n, s, h, e), y is (n, t, h, e): heads lie beside one another
    in each step. Where ``mask`` (n, t, s) is 0, or with ``causal`` behind the query, a step of the values does not
    count for it: its score is -1e9, of all heads. The weights are not kept.
    """


@op(
    "attention",
    dy="n t h e",
    **_SHAPES,
    returns=("n t h d", "n s h d", "n s h e"),
    options={**_OPTIONS, "need": Subset(GRADIENTS)},
    flops=lambda n, t, s, h, d, e: 2 * n * h * t * s * (3 * d + 2 * e),
    variants=({}, *product(mask=(None,), causal=(False, True), scale=(0.25,)), {"need": ("dkey",)}),
    **_ALL,
)
def attention_backward(dy, query, key, value, mask=None, scale=1.0, causal=False, need=GRADIENTS):
    """Gradients of ``attention``: (dquery, dkey, dvalue); what is not in ``need`` is None.

    With the weights p, made anew, and g = dy @ value^T: ds = scale * p * (g - sum of g * p along the values), dquery =
    ds @ key, dkey = ds^T @ query, dvalue = p^T @ dy.
    """
