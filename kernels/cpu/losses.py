"""Losses with their derivatives in one pass.

Sums run over units of fixed size (a row where rows have weights, ``_UNIT`` elements else), each unit's sum in the
dtype, the sum of units in float64 and in order: the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import prange, types

from fastnn.kernels.cpu._arrays import contiguous, in_order
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.losses import LOSS_ROW_CODES, loss_row, penalty_row
from fastnn.kernels.cpu.simd.softmax import probability_loss_row
from fastnn.kernels.cpu.softmax import targets_for_kernel, targets_signature, weights_for_kernel
from fastnn.kernels.table.row import implements

_UNIT = 1024
_NS_PER_ELEMENT = 0.4


def _loss_signature(dtype: Any) -> Any:
    size, run = types.int64, flat(dtype)
    return types.void(size, size, size, run, run, run, run, dtype, run, flat(types.float64))


@kernel(_loss_signature)
def _loss(MR: int, NR: int) -> Any:
    def loss(tasks, code, unit, numbers, pred, target, weights, scale, dpred, sums):
        for t in prange(tasks):
            for u in range(t * sums.size // tasks, (t + 1) * sums.size // tasks):
                low = u * unit
                count = min(unit, pred.size - low)
                weight = weights[u] if weights.size else pred.dtype.type(1)
                p, g = address(pred, low), address(dpred, low)
                goal, taken = address(target, low), address(numbers, 0)
                sums[u] = weight * loss_row(code, count, p, goal, taken, scale * weight, g)

    return loss


def _penalty_signature(dtype: Any) -> Any:
    return types.void(types.int64, flat(dtype), dtype, dtype, flat(dtype), flat(types.float64))


@kernel(_penalty_signature)
def _penalty(MR: int, NR: int) -> Any:
    unit = _UNIT

    def penalty(tasks, w, l1, l2, dw, sums):
        for t in prange(tasks):
            for u in range(t * sums.size // tasks, (t + 1) * sums.size // tasks):
                low = u * unit
                sums[u] = penalty_row(min(unit, w.size - low), address(w, low), l1, l2, address(dw, low))

    return penalty


def _of_elements(
    name: str, pred: Any, target: Any, sample_weight: Any, divisor: float, *numbers: float
) -> tuple[float, Any]:
    """The sum of one of the formulas' ``LOSSES`` by ``divisor``, and its derivative."""
    unit = _UNIT if sample_weight is None else pred.size // max(1, pred.shape[0])
    return _by_units(name, pred, target, sample_weight, divisor, unit, numbers)


def _of_rows(name: str, pred: Any, targets: Any, sample_weight: Any, *numbers: float) -> tuple[float, Any]:
    """The mean over rows of a loss of ``LOSS_ROW_CODES``, and its derivative."""
    if targets.ndim < pred.ndim:
        rows = np.zeros(pred.shape, pred.dtype)
        rows[np.arange(len(rows)), targets] = 1
        targets = rows
    return _by_units(name, pred, targets, sample_weight, pred.shape[0], pred.shape[1], numbers)


def _by_units(
    name: str, pred: Any, target: Any, sample_weight: Any, divisor: float, unit: int, numbers: Sequence[float]
) -> tuple[float, Any]:
    dpred = np.empty(pred.shape, pred.dtype)
    if pred.size == 0:
        return 0.0, dpred
    sums, kind = np.empty(-(-pred.size // unit)), pred.dtype
    weights, taken = weights_for_kernel(sample_weight, kind), np.array([*numbers, 0.0], kind)
    operands = contiguous(pred), contiguous(target), weights, kind.type(1.0 / divisor), dpred.reshape(-1), sums
    _loss(kind, pred.size * _NS_PER_ELEMENT, LOSS_ROW_CODES[name], unit, taken, *operands)
    return float(sums.sum()) / divisor, dpred


def _of_every_element(op: str, name: str, divisor: Callable[[Any], float]) -> Callable[..., tuple[float, Any]]:
    """The op that is a formula's sum over all elements by what ``divisor`` says of the predictions."""

    def loss(pred: Any, target: Any, sample_weight: Any = None, *numbers: float) -> tuple[float, Any]:
        return _of_elements(name, pred, target, sample_weight, divisor(pred), *numbers)

    return implements(op, loss)


def _of_every_row(op: str, name: str) -> Callable[..., tuple[float, Any]]:
    """The op that is the mean over rows of a loss of ``LOSS_ROW_CODES``; class indices become rows."""

    def loss(pred: Any, targets: Any, sample_weight: Any = None) -> tuple[float, Any]:
        return _of_rows(name, pred, targets, sample_weight)

    return implements(op, loss)


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
}
_MEANS_OF_ROWS = {
    "kl_divergence": "divergence",
    "cosine_similarity": "cosine",
    "categorical_hinge": "categorical_hinge",
    "multiclass_hinge": "multiclass_hinge",
    "nll": "likelihood",
}
globals().update({op: _of_every_element(op, name, lambda pred: pred.size) for op, name in _MEANS.items()})
globals().update({op: _of_every_row(op, name) for op, name in _MEANS_OF_ROWS.items()})
half_sse = _of_every_element("half_sse", "half_squared", lambda pred: 1)
quadratic_cost = _of_every_element("quadratic_cost", "half_squared", len)


def binary_cross_entropy(
    pred: Any, target: Any, sample_weight: Any = None, from_logits: bool = False
) -> tuple[float, Any]:
    """Mean over elements, of probabilities or of logits."""
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
    """Mean over elements, of probabilities or of logits."""
    name = "bernoulli_logit_focal" if from_logits else "bernoulli_focal"
    return _of_elements(name, pred, target, sample_weight, pred.size, gamma, positive, negative)


def categorical_focal_cross_entropy(
    pred: Any, target: Any, sample_weight: Any = None, gamma: float = 2.0, from_logits: bool = False
) -> tuple[float, Any]:
    """Mean over rows, of probabilities or of logits."""
    return _of_rows("softmax_focal" if from_logits else "focal", pred, target, sample_weight, gamma)


def l1_l2_penalty(w: Any, l1: float = 0.0, l2: float = 0.0) -> tuple[float, Any]:
    """Sum over elements."""
    dw = np.empty(w.shape, w.dtype)
    sums = np.empty(-(-w.size // _UNIT))
    kind = w.dtype.type
    _penalty(w.dtype, w.size * _NS_PER_ELEMENT, contiguous(w), kind(l1), kind(l2), dw.reshape(-1), sums)
    return float(sums.sum()), dw


@kernel(targets_signature)
def _cross_entropy(MR: int, NR: int) -> Any:
    def cross_entropy(tasks, probs, labels, targets, weights, dprobs, losses):
        n, c = probs.shape
        for t in prange(tasks):
            for i in range(t * n // tasks, (t + 1) * n // tasks):
                weight = weights[i] if weights.size else probs.dtype.type(1)
                target = slope = address(dprobs, i * c)
                if labels.size:
                    dprobs[i] = 0
                    dprobs[i, labels[i]] = 1
                else:
                    target = address(targets, i * c)
                scale = weight / probs.dtype.type(n)
                losses[i] = weight * probability_loss_row(c, address(probs, i * c), target, scale, slope)

    return cross_entropy


def cross_entropy(probs: Any, targets: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Of probabilities, one row after the other."""
    n = probs.shape[0]
    dprobs = np.empty(probs.shape, probs.dtype)
    losses = np.empty(n)
    if probs.size:
        labels, rows = targets_for_kernel(targets, probs.dtype)
        weights = weights_for_kernel(sample_weight, probs.dtype)
        operands = in_order(probs), labels, rows, weights, dprobs, losses
        _cross_entropy(probs.dtype, probs.size * 2.0, *operands)
    return (float(losses.sum()) / n if n else 0.0), dprobs
