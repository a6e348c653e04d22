"""Losses of rows made of ``fastnn.ops``: what the functions give for outputs or targets that are followed.

So they can be a part of what ``fastnn.gradients`` or a program follows: a loss of one's own, or a ``compute_loss``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any

import numpy as np

from fastnn import ops
from fastnn.samples import require_last
from fastnn.tape import Followed

# Keras keeps what it divides by, or takes the logarithm of, this far from 0, and probabilities from 1.
EPSILON = 1e-7


def or_followed(formula: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function of targets and outputs that is this formula, of the same arguments, where one of them is followed."""

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = signature(function)

        @wraps(function)
        def loss(*given: Any, **options: Any) -> Any:
            bound = parameters.bind(*given, **options)
            true, pred = (bound.arguments.pop(name) for name in ("y_true", "y_pred"))
            if not (isinstance(true, Followed) or isinstance(pred, Followed)):
                return function(*given, **options)
            require_last(bound.arguments.pop("axis", -1))
            return formula(*_pair(true, pred), **bound.arguments)

        return loss

    return decorated


def _pair(true: Any, pred: Any) -> tuple[Any, Any]:
    """Both as they are followed, or as arrays of the other's dtype; targets with or without a last axis of length 1."""
    if not isinstance(pred, Followed):
        pred = np.asarray(pred, true.dtype)
    if not isinstance(true, Followed):
        labels = np.asarray(true)
        true = labels if labels.dtype.kind in "iu" and labels.ndim < pred.ndim else labels.astype(pred.dtype)
    if true.ndim + 1 == pred.ndim and pred.shape[-1] == 1:
        true = true.reshape(*true.shape, 1)
    return true, pred


def _same(true: Any, pred: Any) -> Any:
    """Targets of the outputs' shape; ValueError for others, which ops would stretch."""
    if true.shape != pred.shape:
        raise ValueError(f"y_true: got shape {true.shape}, wants {pred.shape}, the shape of y_pred")
    return true if isinstance(true, Followed) or true.dtype == pred.dtype else true.astype(pred.dtype)


def _mean(of_numbers: Callable[..., Any]) -> Callable[..., Any]:
    """The formula of rows that is the mean over the last axis of one of numbers."""

    def of_rows(true: Any, pred: Any, **options: Any) -> Any:
        return ops.mean(of_numbers(_same(true, pred), pred, **options), axis=-1)

    return of_rows


def _bernoulli(true: Any, pred: Any, from_logits: bool = False, label_smoothing: float = 0.0) -> Any:
    if label_smoothing:
        true = true * (1 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        return ops.softplus(pred) - pred * true
    p = ops.clip(pred, EPSILON, 1 - EPSILON)
    return -(ops.multiply(true, ops.log(p)) + ops.multiply(ops.subtract(1.0, true), ops.log(ops.subtract(1.0, p))))


def _huber(true: Any, pred: Any, delta: float = 1.0) -> Any:
    size = ops.abs(ops.subtract(pred, true))
    near = ops.minimum(size, delta)
    return ops.square(near) * 0.5 + (size - near) * delta


def _log_cosh(true: Any, pred: Any) -> Any:
    size = ops.abs(ops.subtract(pred, true))
    return size + ops.softplus(size * -2.0) - math.log(2)


def _percentage(true: Any, pred: Any) -> Any:
    return ops.abs(ops.divide(ops.subtract(true, pred), ops.maximum(ops.abs(true), EPSILON))) * 100.0


def _logarithmic(true: Any, pred: Any) -> Any:
    logs = (ops.log(ops.maximum(each, EPSILON) + 1.0) for each in (pred, true))
    return ops.square(ops.subtract(*logs))


squares = _mean(lambda true, pred: ops.square(ops.subtract(pred, true)))
distances = _mean(lambda true, pred: ops.abs(ops.subtract(pred, true)))
percentages = _mean(_percentage)
logarithmic = _mean(_logarithmic)
bernoulli = _mean(_bernoulli)
huber = _mean(_huber)
log_cosh = _mean(_log_cosh)
poisson = _mean(lambda true, pred: ops.subtract(pred, ops.multiply(true, ops.log(pred + EPSILON))))


def categorical(true: Any, pred: Any, from_logits: bool = False, label_smoothing: float = 0.0) -> Any:
    """-sum of t log p."""
    true = _same(true, pred)
    if label_smoothing:
        true = true * (1 - label_smoothing) + label_smoothing / true.shape[-1]
    return -ops.sum(ops.multiply(true, _log_probabilities(pred, from_logits)), axis=-1)


def sparse_categorical(true: Any, pred: Any, from_logits: bool = False, ignore_class: int | None = None) -> Any:
    """-log p[target], 0 where that is ``ignore_class``."""
    labels = true.reshape(*pred.shape[:-1])
    # an index that is out of range, such as -1, is a row of zeros
    one_hot = ops.one_hot(ops.cast(labels, "int64"), pred.shape[-1], dtype=str(pred.dtype))
    if ignore_class is not None:
        one_hot = ops.multiply(one_hot, ops.expand_dims(ops.cast(ops.not_equal(labels, ignore_class), pred.dtype), -1))
    return categorical(one_hot, pred, from_logits)


def _log_probabilities(pred: Any, from_logits: bool) -> Any:
    if from_logits:
        return ops.log_softmax(pred)
    return ops.log(ops.clip(ops.divide(pred, ops.sum(pred, axis=-1, keepdims=True)), EPSILON, 1 - EPSILON))


def divergence(true: Any, pred: Any) -> Any:
    """Sum of t log(t / p)."""
    true, pred = (ops.clip(rows, EPSILON, 1.0) for rows in (_same(true, pred), pred))
    return ops.sum(ops.multiply(true, ops.log(ops.divide(true, pred))), axis=-1)


def cosines(true: Any, pred: Any) -> Any:
    """Minus the cosine of the angle between rows."""
    true, pred = (ops.normalize(rows, axis=-1, epsilon=EPSILON) for rows in (_same(true, pred), pred))
    return -ops.sum(ops.multiply(true, pred), axis=-1)
