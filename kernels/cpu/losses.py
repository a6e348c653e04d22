"""Losses with their derivatives in one pass.

Sums run over units of fixed size (a row where rows have weights, ``_UNIT`` elements else), each unit's sum in the
dtype, the sum of units in float64 and in order: the result does not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import prange, types
from numba.extending import register_jitable

from fastnn.kernels.cpu._arrays import Planned, contiguous, direct, in_order
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.records import CROSS_ENTROPY, FIGURES, SOFTMAX_CROSS_ENTROPY
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.losses import loss_row, penalty_row
from fastnn.kernels.cpu.simd.softmax import cross_entropy_row, label_row, probability_loss_row, softmax_row
from fastnn.kernels.table import TABLE
from fastnn.kernels.table.row import MOST_OFF, implements

_UNIT = 1024
_NS_PER_ELEMENT = 0.4

# What targets must be, by the way in which the table draws them: anything, rows of probabilities, numbers in [0, 1].
_ANYTHING, _PROBABILITIES, _IN_UNIT = range(3)
_WANTED = {"labels": _PROBABILITIES, "bits": _IN_UNIT}

# The sum of a row that the checks let pass may be a little further off by another order of its terms.
_MOST_OFF = 2 * MOST_OFF


def _loss_signature(dtype: Any) -> Any:
    size, run = types.int64, flat(dtype)
    operands = run, run, flat(types.int64), run, types.float64
    return types.float64(size, size, size, size, run, *operands, run, flat(types.float64))


@register_jitable
def _wrong(wanted, target, labels, classes):
    """Whether a label is none of the classes, or a target is not what is ``wanted``; NaN is nothing of it."""
    wrong = 0
    for i in range(labels.size):
        wrong += labels[i] < 0 or labels[i] >= classes
    if wanted == _IN_UNIT:
        for i in range(target.size):
            wrong += not (target[i] >= 0 and target[i] <= 1)
    elif wanted == _PROBABILITIES:
        for low in range(0, target.size, classes):
            total = 0.0
            for i in range(low, low + classes):
                wrong += not target[i] >= 0
                total += target[i]
            wrong += not abs(total - 1) <= _MOST_OFF
    return wrong > 0


@kernel(_loss_signature)
def _loss(MR: int, NR: int) -> Any:
    def loss(tasks, code, unit, wanted, numbers, pred, target, labels, weights, scale, dpred, sums):
        if _wrong(wanted, target, labels, unit):
            return np.nan
        for t in prange(tasks):
            for u in range(t * sums.size // tasks, (t + 1) * sums.size // tasks):
                low = u * unit
                count = min(unit, pred.size - low)
                weight = weights[u] if weights.size else pred.dtype.type(1)
                share = weight * pred.dtype.type(scale)
                p, g, goal = address(pred, low), address(dpred, low), address(target, low)
                if labels.size > 0:
                    if code == SOFTMAX_CROSS_ENTROPY:
                        sums[u] = weight * label_row(count, p, labels[u], share, g)
                        continue
                    for i in range(low, low + count):  # a row with a 1 in it, where the derivative will be
                        dpred[i] = 0
                    dpred[low + labels[u]] = 1
                    goal = g
                if code == SOFTMAX_CROSS_ENTROPY:
                    top, mass = softmax_row(count, p, share, g)
                    log_sum = top + pred.dtype.type(math.log(mass))
                    sums[u] = weight * cross_entropy_row(count, p, log_sum, goal, share, g)[0]
                elif code == CROSS_ENTROPY:
                    sums[u] = weight * probability_loss_row(count, p, goal, share, g)
                else:
                    sums[u] = weight * loss_row(code, count, p, goal, address(numbers, 0), share, g)
        total = 0.0
        for u in range(sums.size):
            total += sums[u]
        return total

    return loss


def _plan(
    op: str, name: str, divisor: float, unit: int, numbers: Sequence[float], pred: Any, target: Any, sample_weight: Any
) -> Callable[..., tuple[float, Any]]:
    """What computes the sum of one of ``FIGURES`` over units by ``divisor``, and its derivative, for such operands.

    Where labels or targets are not what the op wants, the loss is NaN: nobody needs to look at them beforehand.
    """
    shape, dtype = pred.shape, pred.dtype
    if pred.size == 0:
        return lambda *_: (0.0, np.empty(shape, dtype))
    (drawn,) = (TABLE[op].draw.get(operand, "") for operand in ("target", "targets") if operand in TABLE[op].operands)
    labelled, wanted = target.ndim < pred.ndim, _WANTED.get(drawn, _ANYTHING)
    leading = FIGURES[name], unit, _ANYTHING if labelled else wanted, np.array([*numbers, 0.0], dtype)
    compute = _loss.planned(dtype, pred.size * _NS_PER_ELEMENT, *leading)
    none, scale, units = np.empty(0, dtype), 1.0 / divisor, -(-pred.size // unit)
    no_labels, kind = np.empty(0, np.int64), np.dtype(np.int64) if labelled else dtype
    given = [pred, target] if sample_weight is None else [pred, target, sample_weight]
    plain = direct(None, *given) and target.dtype == kind

    def run(pred: Any, target: Any, sample_weight: Any = None, *_: Any) -> tuple[float, Any]:
        dpred, weights = np.empty(shape, dtype), none if sample_weight is None else sample_weight
        if not plain:
            pred, target, weights = in_order(pred), in_order(target, kind), in_order(weights)
        goal, labels = (none, target) if labelled else (target.ravel(), no_labels)
        total = compute(pred.ravel(), goal, labels, weights, scale, dpred.ravel(), np.empty(units))
        return total / divisor, dpred

    return run


@register_jitable
def penalty_share(t, tasks, size, l1, l2, w, dw, sums):
    """What task t has of a penalty of ``size`` weights: units, whose sums it leaves in ``sums``, and their derivative.

    There are ceil(size / _UNIT) of them.
    """
    units = (size + _UNIT - 1) // _UNIT
    for u in range(t * units // tasks, (t + 1) * units // tasks):
        low = u * _UNIT
        sums[u] = penalty_row(min(_UNIT, size - low), address(w, low), l1, l2, address(dw, low))


def _penalty_signature(dtype: Any) -> Any:
    return types.void(types.int64, dtype, dtype, flat(dtype), flat(dtype), flat(types.float64))


@kernel(_penalty_signature)
def _penalty(MR: int, NR: int) -> Any:
    def penalty(tasks, l1, l2, w, dw, sums):
        for t in prange(tasks):
            penalty_share(t, tasks, w.size, l1, l2, address(w, 0), address(dw, 0), address(sums, 0))

    return penalty


def of_elements(op: str, name: str, divisor: Callable[[Any], float] = lambda pred: pred.size) -> Planned:
    """The op that is a formula's sum over all elements by what ``divisor`` says of the predictions."""

    def loss(pred: Any, target: Any, sample_weight: Any = None, *options: Any) -> Callable[..., tuple[float, Any]]:
        unit = _UNIT if sample_weight is None else pred.size // max(1, pred.shape[0])
        chosen, numbers = _chosen(name, options)
        return _plan(op, chosen, divisor(pred), unit, numbers, pred, target, sample_weight)

    return Planned(implements(op, loss))


def of_rows(op: str, name: str) -> Planned:
    """The op that is the mean over rows of a loss of rows; the labels of its targets stand for rows with a 1."""

    def loss(pred: Any, targets: Any, sample_weight: Any = None, *options: Any) -> Callable[..., tuple[float, Any]]:
        chosen, numbers = _chosen(name, options)
        return _plan(op, chosen, pred.shape[0], pred.shape[1], numbers, pred, targets, sample_weight)

    return Planned(implements(op, loss))


# What losses are called that have a name of their own for logits.
_OF_LOGITS = {"bernoulli": "bernoulli_logit", "bernoulli_focal": "bernoulli_logit_focal", "focal": "softmax_focal"}


def _chosen(name: str, options: Sequence[Any]) -> tuple[str, Sequence[float]]:
    """The name of a loss, which may be of logits, as its last option says then, and its numbers."""
    if name not in _OF_LOGITS:
        return name, options
    *numbers, from_logits = options
    return _OF_LOGITS[name] if from_logits else name, numbers


# Means over all elements, and over rows, by the op.
_MEANS = {
    "mse": "squared",
    "mae": "absolute",
    "mape": "absolute_percentage",
    "msle": "squared_logarithmic",
    "huber": "huber",
    "log_cosh": "log_cosh",
    "hinge": "hinge",
    "squared_hinge": "squared_hinge",
    "poisson": "poisson",
    "binary_cross_entropy": "bernoulli",
    "binary_focal_cross_entropy": "bernoulli_focal",
}
_MEANS_OF_ROWS = {
    "cross_entropy": "cross_entropy",
    "categorical_focal_cross_entropy": "focal",
    "kl_divergence": "divergence",
    "cosine_similarity": "cosine",
    "categorical_hinge": "categorical_hinge",
    "multiclass_hinge": "multiclass_hinge",
    "nll": "likelihood",
}
globals().update({op: of_elements(op, name) for op, name in _MEANS.items()})
globals().update({op: of_rows(op, name) for op, name in _MEANS_OF_ROWS.items()})
half_sse = of_elements("half_sse", "half_squared", lambda pred: 1)
quadratic_cost = of_elements("quadratic_cost", "half_squared", len)


@Planned
def l1_l2_penalty(w: Any, l1: float = 0.0, l2: float = 0.0) -> Callable[..., tuple[float, Any]]:
    """Sum over elements."""
    shape, dtype, units = w.shape, w.dtype, -(-w.size // _UNIT)
    compute = _penalty.planned(dtype, w.size * _NS_PER_ELEMENT, dtype.type(l1), dtype.type(l2))

    def run(w: Any, *_: Any) -> tuple[float, Any]:
        dw, sums = np.empty(shape, dtype), np.empty(units)
        compute(contiguous(w), dw.reshape(-1), sums)
        return float(sums.sum()), dw

    return run
