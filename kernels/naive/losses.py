"""Losses with their derivatives, an element at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn.kernels.naive._lists import deliver
from fastnn.kernels.naive.elementwise import FORWARD
from fastnn.kernels.naive.softmax import row_weights, softmax_row, target_rows

# Keras's fuzz factor: probabilities are kept this far from 0 and 1 before the logarithm.
CLIP = 1e-7

# (loss of one element, its derivative) from (prediction, target).
Element = Callable[[float, float], tuple[float, float]]


def _sum_over(pred: Any, target: Any, sample_weight: Any, element: Element, scale: float) -> tuple[float, Any]:
    """Sum of the elements' losses times their rows' weights times ``scale``, and its derivative."""
    n = pred.shape[0]
    width = pred.size // n if n else 0
    weights = row_weights(sample_weight, n)
    value, dpred = 0.0, []
    for i, (p, t) in enumerate(zip(pred.ravel().tolist(), target.ravel().tolist(), strict=True)):
        loss, slope = element(p, t)
        weight = weights[i // width]
        value += weight * loss
        dpred.append(weight * slope * scale)
    return value * scale, deliver(dpred, pred.shape, pred.dtype)


def _squared(p: float, t: float) -> tuple[float, float]:
    return (p - t) * (p - t), 2.0 * (p - t)


def _absolute(p: float, t: float) -> tuple[float, float]:
    return abs(p - t), float((p > t) - (p < t))


def _half_squared(p: float, t: float) -> tuple[float, float]:
    return 0.5 * (p - t) * (p - t), p - t


def _bernoulli(p: float, t: float) -> tuple[float, float]:
    q = min(max(p, CLIP), 1.0 - CLIP)
    slope = (q - t) / (q * (1.0 - q)) if q == p else 0.0
    return -(t * math.log(q) + (1.0 - t) * math.log(1.0 - q)), slope


def _bernoulli_logit(z: float, t: float) -> tuple[float, float]:
    return max(z, 0.0) - z * t + math.log1p(math.exp(-abs(z))), FORWARD["sigmoid"](z) - t


def _absolute_percentage(p: float, t: float) -> tuple[float, float]:
    share = 100.0 / max(abs(t), CLIP)
    return abs(p - t) * share, ((p > t) - (p < t)) * share


def _squared_logarithmic(p: float, t: float) -> tuple[float, float]:
    d = math.log1p(max(p, CLIP)) - math.log1p(max(t, CLIP))
    return d * d, 2.0 * d / (1.0 + p) if p > CLIP else 0.0


def _huber(p: float, t: float, delta: float) -> tuple[float, float]:
    d = p - t
    if abs(d) <= delta:
        return 0.5 * d * d, d
    return delta * (abs(d) - 0.5 * delta), math.copysign(delta, d)


def _log_cosh(p: float, t: float) -> tuple[float, float]:
    size = abs(p - t)
    near = math.log1p(2.0 * math.sinh(0.5 * min(size, 30.0)) ** 2)
    return size - math.log(2.0) if size > 30.0 else near, math.tanh(p - t)


def _focal_factor(o: float, t: float, gamma: float, positive: float, negative: float) -> tuple[float, float]:
    """w (1 - p_t)^gamma and its derivative by o."""
    wrong = max(t * (1.0 - o) + (1.0 - t) * o, 1e-30)
    weight = t * positive + (1.0 - t) * negative
    return weight * wrong**gamma, weight * gamma * wrong ** (gamma - 1.0) * (1.0 - 2.0 * t)


def _bernoulli_focal(p: float, t: float, *numbers: float) -> tuple[float, float]:
    loss, slope = _bernoulli(p, t)
    factor, bend = _focal_factor(p, t, *numbers)
    return factor * loss, bend * loss + factor * slope


def _bernoulli_logit_focal(z: float, t: float, *numbers: float) -> tuple[float, float]:
    o = FORWARD["sigmoid"](z)
    loss, slope = _bernoulli_logit(z, t)
    factor, bend = _focal_factor(o, t, *numbers)
    return factor * loss, bend * o * (1.0 - o) * loss + factor * slope


def _hinge(p: float, t: float) -> tuple[float, float]:
    return (1.0 - t * p, -t) if t * p < 1.0 else (0.0, 0.0)


def _squared_hinge(p: float, t: float) -> tuple[float, float]:
    margin = max(1.0 - t * p, 0.0)
    return margin * margin, -2.0 * t * margin


def _divergence(p: float, t: float) -> tuple[float, float]:
    q, share = min(max(p, CLIP), 1.0), min(max(t, CLIP), 1.0)
    return share * math.log(share / q), -share / q if q == p else 0.0


def _poisson(p: float, t: float) -> tuple[float, float]:
    q = p + CLIP
    return p - t * math.log(q) if q > 0.0 else math.nan, 1.0 - t / q if q else -math.inf


def _half_poisson_deviance(z: float, t: float) -> tuple[float, float]:
    rate = FORWARD["exponential"](z)
    best = t * math.log(t) - t if t > 0.0 else -t if t == 0.0 else math.nan
    return rate - t * z + best, rate - t


def _likelihood(p: float, t: float) -> tuple[float, float]:
    return -t * p, -t


# The formulas' losses of one number: what they say of a prediction and a target, and their numbers.
LOSSES: dict[str, Callable[..., tuple[float, float]]] = {
    "squared": _squared,
    "half_squared": _half_squared,
    "absolute": _absolute,
    "bernoulli": _bernoulli,
    "bernoulli_logit": _bernoulli_logit,
    "absolute_percentage": _absolute_percentage,
    "squared_logarithmic": _squared_logarithmic,
    "huber": _huber,
    "log_cosh": _log_cosh,
    "bernoulli_focal": _bernoulli_focal,
    "bernoulli_logit_focal": _bernoulli_logit_focal,
    "hinge": _hinge,
    "squared_hinge": _squared_hinge,
    "divergence": _divergence,
    "poisson": _poisson,
    "likelihood": _likelihood,
    "half_poisson_deviance": _half_poisson_deviance,
}


def _of_elements(
    name: str, pred: Any, target: Any, sample_weight: Any, divisor: float, *numbers: float
) -> tuple[float, Any]:
    """The sum of a loss over all elements, each times its row's weight, by ``divisor``."""
    scale = 1.0 / divisor if divisor else 0.0
    return _sum_over(pred, target, sample_weight, lambda p, t: LOSSES[name](p, t, *numbers), scale)


def mse(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Mean of (p - t)^2."""
    return _of_elements("squared", pred, target, sample_weight, pred.size)


def mae(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Mean of |p - t|."""
    return _of_elements("absolute", pred, target, sample_weight, pred.size)


def half_sse(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Sum of (p - t)^2 / 2."""
    return _of_elements("half_squared", pred, target, sample_weight, 1.0)


def quadratic_cost(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Sum of (p - t)^2 / 2, by the number of rows."""
    return _of_elements("half_squared", pred, target, sample_weight, pred.shape[0])


def mape(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Mean of 100 |p - t| / |t|."""
    return _of_elements("absolute_percentage", pred, target, sample_weight, pred.size)


def msle(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Mean of (log(1 + p) - log(1 + t))^2."""
    return _of_elements("squared_logarithmic", pred, target, sample_weight, pred.size)


def huber(pred: Any, target: Any, sample_weight: Any = None, delta: float = 1.0) -> tuple[float, Any]:
    """Mean of squares up to delta, of lines beyond."""
    return _of_elements("huber", pred, target, sample_weight, pred.size, delta)


def log_cosh(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Mean of log(cosh(p - t))."""
    return _of_elements("log_cosh", pred, target, sample_weight, pred.size)


def hinge(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Mean of max(1 - t p, 0)."""
    return _of_elements("hinge", pred, target, sample_weight, pred.size)


def squared_hinge(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Mean of max(1 - t p, 0)^2."""
    return _of_elements("squared_hinge", pred, target, sample_weight, pred.size)


def poisson(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Mean of p - t log p."""
    return _of_elements("poisson", pred, target, sample_weight, pred.size)


def half_poisson_deviance(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Sum of e^z - t z + t log t - t, by the number of rows."""
    return _of_elements("half_poisson_deviance", pred, target, sample_weight, pred.shape[0])


def binary_cross_entropy(
    pred: Any, target: Any, sample_weight: Any = None, from_logits: bool = False
) -> tuple[float, Any]:
    """Mean of -(t log p + (1 - t) log(1 - p))."""
    name = "bernoulli_logit" if from_logits else "bernoulli"
    return _of_elements(name, pred, target, sample_weight, pred.size)


def binary_focal_cross_entropy(
    pred: Any,
    target: Any,
    sample_weight: Any = None,
    gamma: float = 2.0,
    positive: float = 1.0,
    negative: float = 1.0,
    from_logits: bool = False,
) -> tuple[float, Any]:
    """Mean of w (1 - p_t)^gamma times the binary cross-entropy."""
    name = "bernoulli_logit_focal" if from_logits else "bernoulli_focal"
    return _of_elements(name, pred, target, sample_weight, pred.size, gamma, positive, negative)


# The loss of a row of predictions with its row of targets, and its derivative.
Row = Callable[[list[float], list[float]], tuple[float, list[float]]]


def _of_rows(pred: Any, targets: Any, sample_weight: Any, row: Row) -> tuple[float, Any]:
    """The mean over rows of a loss of each, times its weight."""
    n, c = pred.shape
    value, dpred = 0.0, []
    rows = zip(pred.tolist(), target_rows(targets, c), row_weights(sample_weight, n), strict=True)
    for p, t, weight in rows:
        loss, slopes = row(p, t)
        value += weight * loss
        dpred.append([weight * slope / n for slope in slopes])
    return (value / n if n else 0.0), deliver(dpred, pred.shape, pred.dtype)


def _summed(name: str) -> Row:
    """A row's loss as the sum of those of its numbers."""

    def row(p: list[float], t: list[float]) -> tuple[float, list[float]]:
        pairs = [LOSSES[name](*pair) for pair in zip(p, t, strict=True)]
        return sum(loss for loss, _ in pairs), [slope for _, slope in pairs]

    return row


def kl_divergence(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Sum of t log(t / p) a row."""
    return _of_rows(pred, target, sample_weight, _summed("divergence"))


def nll(log_probs: Any, targets: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """-sum of t log p a row."""
    return _of_rows(log_probs, targets, sample_weight, _summed("likelihood"))


def cosine_similarity(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """-p t / (|p| |t|) a row; its derivative is (p cos / |p| - t / |t|) / |p|."""

    def row(p: list[float], t: list[float]) -> tuple[float, list[float]]:
        p_norm, t_norm = (max(math.sqrt(sum(x * x for x in vector)), CLIP) for vector in (p, t))
        cosine = sum(a * b for a, b in zip(p, t, strict=True)) / (p_norm * t_norm)
        return -cosine, [(a * cosine / p_norm - b / t_norm) / p_norm for a, b in zip(p, t, strict=True)]

    return _of_rows(pred, target, sample_weight, row)


def categorical_hinge(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """max(0, largest of (1 - t) p - sum of t p + 1) a row."""

    def row(p: list[float], t: list[float]) -> tuple[float, list[float]]:
        wrong = [(1.0 - b) * a for a, b in zip(p, t, strict=True)]
        worst = wrong.index(max(wrong))
        loss = max(0.0, wrong[worst] - sum(a * b for a, b in zip(p, t, strict=True)) + 1.0)
        slopes = [(1.0 - b) * (j == worst) - b if loss > 0.0 else 0.0 for j, b in enumerate(t)]
        return loss, slopes

    return _of_rows(pred, target, sample_weight, row)


def multiclass_hinge(scores: Any, targets: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Sum over j != y of max(0, s_j - s_y + 1) a row."""

    def row(s: list[float], t: list[float]) -> tuple[float, list[float]]:
        y = t.index(max(t))
        margins = [0.0 if j == y else max(0.0, score - s[y] + 1.0) for j, score in enumerate(s)]
        slopes = [float(margin > 0.0) for margin in margins]
        slopes[y] = -sum(slopes)
        return sum(margins), slopes

    return _of_rows(scores, targets, sample_weight, row)


def categorical_focal_cross_entropy(
    pred: Any, target: Any, sample_weight: Any = None, gamma: float = 2.0, from_logits: bool = False
) -> tuple[float, Any]:
    """-sum of t (1 - q)^gamma log q a row, q = p / sum p or softmax(z), clipped."""

    def row(p: list[float], t: list[float]) -> tuple[float, list[float]]:
        mass = sum(p)
        shares = softmax_row(p) if from_logits else [value / mass for value in p]
        loss, slopes = 0.0, []
        for q, part in zip(shares, t, strict=True):
            kept = min(max(q, CLIP), 1.0 - CLIP)
            power, bend = (1.0 - kept) ** gamma, gamma * (1.0 - kept) ** (gamma - 1.0)
            loss -= part * power * math.log(kept)
            slopes.append(part * (bend * math.log(kept) - power / kept) if kept == q else 0.0)
        dot = sum(slope * q for slope, q in zip(slopes, shares, strict=True))
        outer = shares if from_logits else [1.0 / mass] * len(p)
        return loss, [(slope - dot) * factor for slope, factor in zip(slopes, outer, strict=True)]

    return _of_rows(pred, target, sample_weight, row)


def cross_entropy(probs: Any, targets: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """-sum t log q a row, q = clip(p / sum p); by the quotient rule dL/dp[j] = (g[j] - sum of g p / s) / s."""
    n, c = probs.shape
    loss, dprobs = 0.0, []
    rows = zip(probs.tolist(), target_rows(targets, c), row_weights(sample_weight, n), strict=True)
    for p, t, weight in rows:
        total = sum(p) or math.nan  # a row of zeros has no probabilities to scale
        g = []
        for value, share in zip(p, t, strict=True):
            scaled = value / total
            q = min(max(scaled, CLIP), 1.0 - CLIP)
            loss -= weight * share * math.log(q)
            g.append(-weight * share / (n * q) if q == scaled else 0.0)
        dot = sum(slope * value for slope, value in zip(g, p, strict=True)) / total
        dprobs.append([(slope - dot) / total for slope in g])
    return (loss / n if n else 0.0), deliver(dprobs, probs.shape, probs.dtype)


def l1_l2_penalty(w: Any, l1: float = 0.0, l2: float = 0.0) -> tuple[float, Any]:
    """Sum of l1 |w| + l2 w^2."""
    value, dw = 0.0, []
    for x in w.ravel().tolist():
        value += l1 * abs(x) + l2 * x * x
        dw.append(l1 * ((x > 0) - (x < 0)) + 2.0 * l2 * x)
    return value, deliver(dw, w.shape, w.dtype)


def total(x: Any, share: float = 1.0) -> tuple[float, Any]:
    """One number after the other."""
    value = 0.0
    for number in x.ravel().tolist():
        value += share * number
    return value, deliver([share] * x.size, x.shape, x.dtype)
