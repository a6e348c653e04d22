"""Losses with their derivatives in one pass.

Sums run over units of fixed size (a row where rows have weights, ``_UNIT`` elements else), each unit's sum in the
dtype, the sum of units in float64 and in order: the result does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange, types

from fastnn.kernels.cpu._arrays import contiguous
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.losses import loss_row, penalty_row
from fastnn.kernels.cpu.simd.softmax import probability_loss_row
from fastnn.kernels.cpu.softmax import targets_for_kernel, targets_signature, weights_for_kernel
from fastnn.kernels.formulas.losses import LOSS_CODES

_UNIT = 1024
_NS_PER_ELEMENT = 0.4


def _loss_signature(dtype: Any) -> Any:
    size, run = types.int64, flat(dtype, readonly=True)
    return types.void(size, size, run, run, run, dtype, flat(dtype), flat(types.float64), size)


@kernel(_loss_signature)
def _loss(MR: int, NR: int) -> Any:
    def loss(code, unit, pred, target, weights, scale, dpred, sums, tasks):
        for t in prange(tasks):
            for u in range(t * sums.size // tasks, (t + 1) * sums.size // tasks):
                low = u * unit
                count = min(unit, pred.size - low)
                weight = weights[u] if weights.size else pred.dtype.type(1)
                p, g = address(pred, low), address(dpred, low)
                sums[u] = weight * loss_row(code, count, p, address(target, low), scale * weight, g)

    return loss


def _penalty_signature(dtype: Any) -> Any:
    return types.void(flat(dtype, readonly=True), dtype, dtype, flat(dtype), flat(types.float64), types.int64)


@kernel(_penalty_signature)
def _penalty(MR: int, NR: int) -> Any:
    unit = _UNIT

    def penalty(w, l1, l2, dw, sums, tasks):
        for t in prange(tasks):
            for u in range(t * sums.size // tasks, (t + 1) * sums.size // tasks):
                low = u * unit
                sums[u] = penalty_row(min(unit, w.size - low), address(w, low), l1, l2, address(dw, low))

    return penalty


def _elementwise_loss(name: str, pred: Any, target: Any, sample_weight: Any, mean: bool) -> tuple[float, Any]:
    """Sum or mean of one of the formulas' ``LOSSES``, and its derivative."""
    dpred = np.empty(pred.shape, pred.dtype)
    if pred.size == 0:
        return 0.0, dpred
    unit = _UNIT if sample_weight is None else pred.size // pred.shape[0]
    sums = np.empty(-(-pred.size // unit))
    scale = 1.0 / pred.size if mean else 1.0
    weights = weights_for_kernel(sample_weight, pred.dtype)
    operands = contiguous(pred), contiguous(target), weights, pred.dtype.type(scale), dpred.reshape(-1), sums
    _loss(pred.dtype, pred.size * _NS_PER_ELEMENT, LOSS_CODES[name], unit, *operands)
    return float(sums.sum()) * scale, dpred


def mse(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Mean of squares."""
    return _elementwise_loss("squared", pred, target, sample_weight, mean=True)


def mae(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Mean of absolute values."""
    return _elementwise_loss("absolute", pred, target, sample_weight, mean=True)


def half_sse(pred: Any, target: Any, sample_weight: Any = None) -> tuple[float, Any]:
    """Half the sum of squares."""
    return _elementwise_loss("half_squared", pred, target, sample_weight, mean=False)


def binary_cross_entropy(
    pred: Any, target: Any, sample_weight: Any = None, from_logits: bool = False
) -> tuple[float, Any]:
    """Mean over elements, of probabilities or of logits."""
    name = "bernoulli_logit" if from_logits else "bernoulli"
    return _elementwise_loss(name, pred, target, sample_weight, mean=True)


def l1_l2_penalty(w: Any, l1: float = 0.0, l2: float = 0.0) -> tuple[float, Any]:
    """Sum over elements."""
    dw = np.empty(w.shape, w.dtype)
    sums = np.empty(-(-w.size // _UNIT))
    kind = w.dtype.type
    _penalty(w.dtype, w.size * _NS_PER_ELEMENT, contiguous(w), kind(l1), kind(l2), dw.reshape(-1), sums)
    return float(sums.sum()), dw


@kernel(targets_signature)
def _cross_entropy(MR: int, NR: int) -> Any:
    def cross_entropy(probs, labels, targets, weights, dprobs, losses, tasks):
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
        operands = np.ascontiguousarray(probs), labels, rows, weights, dprobs, losses
        _cross_entropy(probs.dtype, probs.size * 2.0, *operands)
    return (float(losses.sum()) / n if n else 0.0), dprobs
