"""Losses and penalties: their value and derivative."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.table.row import BATCHES, BATCHES_BENCH, ELEMENTWISE, ROWS, Flag, Real, op

# The rows of losses over all elements, a weight a row.
_ELEMENTWISE_LOSS: dict[str, Any] = {
    "pred": "n ...",
    "target": "n ...",
    "sample_weight": "n",
    "returns": ("", "n ..."),
    "cases": BATCHES,
    "variants": ({}, {"sample_weight": None}),
    "draw": {"sample_weight": "positive"},
}


@op(
    "losses",
    probs="n c",
    targets="n | n c",
    sample_weight="n",
    returns=("", "n c"),
    cases=ROWS,
    variants=({}, {"sample_weight": None}, {"targets": "rows"}, {"targets": "rows", "sample_weight": None}),
    draw={"probs": "probabilities", "targets": "labels", "sample_weight": "positive"},
)
def cross_entropy(probs, targets, sample_weight=None):
    """Categorical cross-entropy of probabilities: (loss, dprobs).

    With s = sum over j of probs[i, j], q = clip(probs / s, 1e-7, 1 - 1e-7) and t the target as a row, loss = 1/n * sum
    over i of weight[i] * -sum over j of t[i, j] * log q[i, j] (Keras's rescaling and clipping; where the clip acts, the
    derivative is 0). Fused with softmax it is ``softmax_cross_entropy``, which is faster and more accurate.
    """


@op(
    "losses",
    pred="n ...",
    target="n ...",
    sample_weight="n",
    returns=("", "n ..."),
    options={"from_logits": Flag()},
    cases=BATCHES,
    bench=BATCHES_BENCH,
    variants=({}, {"sample_weight": None}, {"from_logits": True, "pred": "logits"}),
    draw={"pred": "unit", "target": "bits", "sample_weight": "positive"},
)
def binary_cross_entropy(pred, target, sample_weight=None, from_logits=False):
    """Binary cross-entropy: (loss, dpred), the mean over all elements, each row scaled by its weight.

    On probabilities p = clip(pred, 1e-7, 1 - 1e-7): -(t log p + (1 - t) log(1 - p)), derivative 0 where the clip acts.
    On logits z: max(z, 0) - z t + log(1 + exp(-|z|)), derivative sigmoid(z) - t. Targets lie in [0, 1].
    """


@op("losses", **_ELEMENTWISE_LOSS, bench=BATCHES_BENCH)
def mse(pred, target, sample_weight=None):
    """Mean squared error: (value, dpred); value = mean of weight[i] * (pred - target)^2 over all elements."""


@op("losses", **_ELEMENTWISE_LOSS)
def mae(pred, target, sample_weight=None):
    """Mean absolute error: (value, dpred); value = mean of weight[i] * |pred - target|, slope 0 at 0."""


@op("losses", **_ELEMENTWISE_LOSS)
def half_sse(pred, target, sample_weight=None):
    """Half the sum of squared errors: (value, dpred); value = 1/2 * sum of weight[i] * (pred - target)^2."""


@op(
    "losses",
    w="...",
    returns=("", "..."),
    options={"l1": Real(low=0.0), "l2": Real(low=0.0)},
    cases=ELEMENTWISE,
    variants=({"l1": 0.01, "l2": 0.1}, {"l2": 0.5}, {"l1": 0.5}, {}),
)
def l1_l2_penalty(w, l1=0.0, l2=0.0):
    """Weight penalty: (value, dw); value = l1 * sum |w| + l2 * sum w^2, dw = l1 * sign(w) + 2 * l2 * w."""
