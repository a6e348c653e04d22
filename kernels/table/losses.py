"""Losses and penalties: their value and derivative, and which formula is whose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastnn.kernels.table.row import BATCHES, BATCHES_BENCH, ELEMENTWISE, ROWS, ROWS_BENCH, TABLE, Flag, Real, op

# The rows of losses over all elements, a weight a row.
_ELEMENTWISE_LOSS: dict[str, Any] = {
    "pred": "n ...",
    "target": "n ...",
    "sample_weight": "n",
    "returns": ("", "n ..."),
    "cases": BATCHES,
    "bench": BATCHES_BENCH,
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
    bench=ROWS_BENCH,
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


@op("losses", **_ELEMENTWISE_LOSS)
def mse(pred, target, sample_weight=None):
    """Mean squared error: (value, dpred); value = mean of weight[i] * (pred - target)^2 over all elements."""


@op("losses", **_ELEMENTWISE_LOSS)
def mae(pred, target, sample_weight=None):
    """Mean absolute error: (value, dpred); value = mean of weight[i] * |pred - target|, slope 0 at 0."""


@op("losses", **_ELEMENTWISE_LOSS)
def half_sse(pred, target, sample_weight=None):
    """Half the sum of squared errors: (value, dpred); value = 1/2 * sum of weight[i] * (pred - target)^2."""


@op("losses", **_ELEMENTWISE_LOSS)
def quadratic_cost(pred, target, sample_weight=None):
    """The textbooks' quadratic cost: (value, dpred); value = 1/(2n) * sum of weight[i] * (pred - target)^2, n rows."""


@op("losses", **_ELEMENTWISE_LOSS)
def mape(pred, target, sample_weight=None):
    """Mean absolute percentage error: (value, dpred); value = mean of weight[i] * 100 |pred - target| / |target|.

    |target| is 1e-7 at least.
    """


@op("losses", **{**_ELEMENTWISE_LOSS, "draw": {"pred": "positive", "target": "positive", "sample_weight": "positive"}})
def msle(pred, target, sample_weight=None):
    """Mean squared logarithmic error: (value, dpred); value = mean of weight[i] * (log(1 + pred) - log(1 + target))^2.

    Both are 1e-7 at least before the logarithm; derivative 0 where pred is not.
    """


@op(
    "losses",
    **{**_ELEMENTWISE_LOSS, "variants": ({}, {"sample_weight": None, "delta": 0.25})},
    options={"delta": Real(low=0.0, open_low=True)},
)
def huber(pred, target, sample_weight=None, delta=1.0):
    """Huber's loss: (value, dpred); the mean of weight[i] * (d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2)).

    d = pred - target (Huber 1964).
    """


@op("losses", **_ELEMENTWISE_LOSS)
def log_cosh(pred, target, sample_weight=None):
    """Mean of weight[i] * log(cosh(pred - target)), and its derivative: (value, dpred)."""


@op("losses", **{**_ELEMENTWISE_LOSS, "draw": {"target": "signs", "sample_weight": "positive"}})
def hinge(pred, target, sample_weight=None):
    """Hinge loss: (value, dpred); value = mean of weight[i] * max(1 - target * pred, 0), targets 1 or -1."""


@op("losses", **{**_ELEMENTWISE_LOSS, "draw": {"target": "signs", "sample_weight": "positive"}})
def squared_hinge(pred, target, sample_weight=None):
    """Squared hinge loss: (value, dpred); value = mean of weight[i] * max(1 - target * pred, 0)^2."""


@op("losses", **{**_ELEMENTWISE_LOSS, "draw": {"pred": "positive", "target": "positive", "sample_weight": "positive"}})
def poisson(pred, target, sample_weight=None):
    """Poisson loss: (value, dpred); value = mean of weight[i] * (pred - target * log(pred + 1e-7))."""


@op("losses", **{**_ELEMENTWISE_LOSS, "draw": {"target": "positive", "sample_weight": "positive"}})
def half_poisson_deviance(pred, target, sample_weight=None):
    """Half the Poisson deviance of logarithms of rates: (value, dpred), summed over a row, the mean over n rows.

    value = 1/n * sum of weight[i] * (e^pred - target * pred + target * log target - target); NaN for a target below 0.
    """


@op(
    "losses",
    pred="n ...",
    target="n ...",
    sample_weight="n",
    returns=("", "n ..."),
    options={"gamma": Real(low=0.0), "positive": Real(low=0.0), "negative": Real(low=0.0), "from_logits": Flag()},
    cases=BATCHES,
    bench=BATCHES_BENCH,
    variants=(
        {},
        {"sample_weight": None, "gamma": 1.5, "positive": 0.25, "negative": 0.75},
        {"from_logits": True, "pred": "logits", "gamma": 3.0},
    ),
    draw={"pred": "unit", "target": "bits", "sample_weight": "positive"},
)
def binary_focal_cross_entropy(
    pred, target, sample_weight=None, gamma=2.0, positive=1.0, negative=1.0, from_logits=False
):
    """Binary focal loss: (loss, dpred), binary cross-entropy times what makes easy cases count less (Lin et al. 2017).

    The mean over all elements, each row scaled by its weight, of w (1 - q)^gamma * -(t log p + (1 - t) log(1 - p)),
    q = t p + (1 - t) (1 - p), w = positive * t + negative * (1 - t). Probabilities are clipped as in
    ``binary_cross_entropy``; on logits p = sigmoid(pred).
    """


# The rows of losses of a row, summed over its elements, as a mean over rows: targets of the shape of the predictions.
_ROW_LOSS: dict[str, Any] = {
    "pred": "n c",
    "target": "n c",
    "sample_weight": "n",
    "returns": ("", "n c"),
    "cases": ROWS,
    "bench": ROWS_BENCH,
    "variants": ({}, {"sample_weight": None}),
}


@op("losses", **_ROW_LOSS, draw={"pred": "probabilities", "target": "probabilities", "sample_weight": "positive"})
def kl_divergence(pred, target, sample_weight=None):
    """Kullback-Leibler divergence: (value, dpred); value = 1/n * sum of weight[i] * target * log(target / pred).

    Both are kept in [1e-7, 1]; derivative 0 where that acts on pred.
    """


@op("losses", **_ROW_LOSS, draw={"sample_weight": "positive"})
def cosine_similarity(pred, target, sample_weight=None):
    """Minus the cosine of the angle of each row with its target: (value, dpred), the mean of weight[i] * -cos.

    The norms are 1e-7 at least.
    """


@op("losses", **_ROW_LOSS, draw={"target": "one_hot", "sample_weight": "positive"})
def categorical_hinge(pred, target, sample_weight=None):
    """Hinge loss of classes against the strongest wrong one: (value, dpred).

    The mean over rows of weight[i] * max(0, largest of (1 - target) pred - sum of target pred + 1).
    """


@op(
    "losses",
    scores="n c",
    targets="n | n c",
    sample_weight="n",
    returns=("", "n c"),
    cases=ROWS,
    bench=ROWS_BENCH,
    variants=({}, {"sample_weight": None}, {"targets": "one_hot"}),
    draw={"targets": "labels", "sample_weight": "positive"},
)
def multiclass_hinge(scores, targets, sample_weight=None):
    """Hinge loss summed over all wrong classes (Weston and Watkins 1999): (value, dscores).

    The mean over rows of weight[i] * sum over j != y of max(0, s[j] - s[y] + 1); targets are class indices y, or rows
    with a 1 at y and 0 elsewhere.
    """


@op(
    "losses",
    log_probs="n c",
    targets="n | n c",
    sample_weight="n",
    returns=("", "n c"),
    cases=ROWS,
    bench=ROWS_BENCH,
    variants=({}, {"sample_weight": None}, {"targets": "rows"}),
    draw={"targets": "labels", "sample_weight": "positive"},
)
def nll(log_probs, targets, sample_weight=None):
    """Negative log-likelihood of logarithms of probabilities (``log_softmax``): (loss, dlog_probs).

    The mean over rows of weight[i] * -sum over j of t[i, j] * log_probs[i, j], t the target as a row.
    """


@op(
    "losses",
    pred="n c",
    target="n c",
    sample_weight="n",
    returns=("", "n c"),
    options={"gamma": Real(low=0.0), "from_logits": Flag()},
    cases=ROWS,
    bench=ROWS_BENCH,
    variants=({}, {"sample_weight": None, "gamma": 1.5}, {"from_logits": True, "pred": "logits"}),
    draw={"pred": "probabilities", "target": "probabilities", "sample_weight": "positive"},
)
def categorical_focal_cross_entropy(pred, target, sample_weight=None, gamma=2.0, from_logits=False):
    """Categorical focal loss (Lin et al. 2017): (loss, dpred).

    The mean over rows of weight[i] * -sum over j of target[i, j] (1 - q[i, j])^gamma log q[i, j], where q are the
    probabilities scaled to sum to 1 and clipped as in ``cross_entropy``, or on logits softmax(pred) clipped likewise.
    """


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


@op(
    "losses",
    x="...",
    returns=("", "..."),
    options={"share": Real()},
    cases=ELEMENTWISE,
    variants=({}, {"share": 0.25}, {"share": -2.0}),
)
def total(x, share=1.0):
    """A share of the sum of all numbers: (value, dx); value = share * sum of x, dx = share everywhere."""


# The formulas of losses that are sums over all elements, and over rows, by the op.
_OF_ELEMENTS = {
    "mse": "squared",
    "mae": "absolute",
    "mape": "absolute_percentage",
    "msle": "squared_logarithmic",
    "huber": "huber",
    "log_cosh": "log_cosh",
    "hinge": "hinge",
    "squared_hinge": "squared_hinge",
    "poisson": "poisson",
    "half_poisson_deviance": "half_poisson_deviance",
    "binary_cross_entropy": "bernoulli",
    "binary_focal_cross_entropy": "bernoulli_focal",
    "half_sse": "half_squared",
    "quadratic_cost": "half_squared",
}
_OF_ROWS = {
    "cross_entropy": "cross_entropy",
    "categorical_focal_cross_entropy": "focal",
    "kl_divergence": "divergence",
    "cosine_similarity": "cosine",
    "categorical_hinge": "categorical_hinge",
    "multiclass_hinge": "multiclass_hinge",
    "nll": "likelihood",
    "softmax_cross_entropy": "softmax_cross_entropy",
}
LOSSES = (*_OF_ELEMENTS, *_OF_ROWS)
# What losses are called that have a name of their own for logits.
_OF_LOGITS = {"bernoulli": "bernoulli_logit", "bernoulli_focal": "bernoulli_logit_focal", "focal": "softmax_focal"}
# What divides such a sum: the number of elements, or of rows, but for these.
_DIVIDED_BY: dict[str, Callable[[Any], float]] = {
    "half_sse": lambda pred: 1,
    "quadratic_cost": lambda pred: pred.shape[0],
    "half_poisson_deviance": lambda pred: pred.shape[0],
}
# What targets must be, by the way in which they are drawn: anything, rows of probabilities, numbers in [0, 1].
ANYTHING, PROBABILITIES, IN_UNIT = range(3)
_WANTED = {"labels": PROBABILITIES, "bits": IN_UNIT}


class Described(NamedTuple):
    """A loss of predictions: its formula, whether a row is one loss, what targets must be, numbers, what divides it."""

    formula: str
    of_rows: bool
    wanted: int
    numbers: Sequence[float]
    divisor: float


def described(op: str, pred: Any, target: Any, options: Sequence[Any]) -> Described:
    """What the op computes of operands with these shapes."""
    of_rows = op in _OF_ROWS
    name, numbers = _chosen(_OF_ROWS[op] if of_rows else _OF_ELEMENTS[op], options)
    rows = pred.shape[0] if pred.shape else 1
    (drawn,) = (TABLE[op].draw.get(operand, "") for operand in ("target", "targets") if operand in TABLE[op].operands)
    wanted = ANYTHING if target.ndim < pred.ndim else _WANTED.get(drawn, ANYTHING)
    divided_by = _DIVIDED_BY.get(op, lambda pred: rows if of_rows else pred.size)
    return Described(name, of_rows, wanted, numbers, divided_by(pred))


def _chosen(name: str, options: Sequence[Any]) -> tuple[str, Sequence[float]]:
    """The name of a loss, which may be of logits, as its last option says then, and its numbers."""
    if name not in _OF_LOGITS:
        return name, options
    *numbers, from_logits = options
    return _OF_LOGITS[name] if from_logits else name, numbers
