"""Losses as functions: one number a sample, what they say of the last axis of targets and outputs.

Most are made of ops (``rows``) where targets or outputs are followed.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.engine.data import numeric_array
from fastnn.engine.protocols import Array
from fastnn.losses import rows
from fastnn.losses.rows import EPSILON, or_followed
from fastnn.samples import class_labels, require_last, same_shape


def floats(name: str, value: Any, dtype: str | None = None) -> Array:
    """``value`` in ``dtype``; without one as it is if it is float32 or wider, else as float32."""
    array = numeric_array(name, value)
    if dtype is None and array.dtype.kind == "f" and array.dtype.itemsize >= np.dtype(np.float32).itemsize:
        return array
    return array.astype(dtype or np.float32, copy=False)


def pair(y_true: Any, y_pred: Any, hint: str = "") -> tuple[Array, Array]:
    """Targets and outputs as floats of one dtype and shape; ``hint`` ends the message where sizes differ."""
    pred = floats("y_pred", y_pred)
    return same_shape(numeric_array("y_true", y_true).astype(pred.dtype, copy=False), pred, hint)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return log_p


def _log_probabilities(y_pred: Array, from_logits: bool) -> Array:
    if from_logits:
        return _log_softmax(y_pred)
    scaled = y_pred / y_pred.sum(axis=-1, keepdims=True)
    log_p: Array = np.log(np.clip(scaled, EPSILON, 1 - EPSILON))
    return log_p


@or_followed(rows.squares)
def mean_squared_error(y_true: Any, y_pred: Any) -> Array:
    """Mean of (y_pred - y_true)^2 over the last axis."""
    true, pred = pair(y_true, y_pred)
    return np.asarray(np.square(pred - true).mean(axis=-1))


@or_followed(rows.distances)
def mean_absolute_error(y_true: Any, y_pred: Any) -> Array:
    """Mean of abs(y_pred - y_true) over the last axis."""
    true, pred = pair(y_true, y_pred)
    return np.asarray(np.abs(pred - true).mean(axis=-1))


def half_sse(y_true: Any, y_pred: Any) -> Array:
    """Half the sum of (y_pred - y_true)^2 over the last axis."""
    true, pred = pair(y_true, y_pred)
    return np.asarray(0.5 * np.square(pred - true).sum(axis=-1))


@or_followed(rows.bernoulli)
def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    """Mean of -(t log p + (1 - t) log(1 - p)) over the last axis, in nats; ``axis`` is -1."""
    require_last(axis)
    true, pred = pair(y_true, y_pred)
    true = true * (1 - label_smoothing) + 0.5 * label_smoothing
    return np.asarray(_bernoulli(true, pred, from_logits).mean(axis=-1))


def _bernoulli(true: Array, pred: Array, from_logits: bool) -> Array:
    """-(t log p + (1 - t) log(1 - p)) of each number."""
    if from_logits:
        return np.asarray(np.maximum(pred, 0) - pred * true + np.log1p(np.exp(-np.abs(pred))))
    p = np.clip(pred, EPSILON, 1 - EPSILON)
    return np.asarray(-(true * np.log(p) + (1 - true) * np.log(1 - p)))


HINT_FOR_LABELS = "; for class indices use the loss 'sparse_categorical_crossentropy', or utils.to_categorical"


ONE_OUTPUT = (
    "the categorical cross-entropy of one output is 0 whatever that is, so nothing can be learned from it: use "
    "'binary_crossentropy', or give the last layer one output a class"
)


@or_followed(rows.categorical)
def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    """-sum of t log p over the last axis, targets as rows of probabilities, in nats; ``axis`` is -1.

    Warns of a single output, by Keras's category.
    """
    require_last(axis)
    true, pred = pair(y_true, y_pred, HINT_FOR_LABELS)
    if pred.shape[-1] == 1:
        warnings.warn(ONE_OUTPUT, SyntaxWarning, stacklevel=3)
    return categorical_rows(true, pred, from_logits, label_smoothing)


def categorical_rows(true: Array, pred: Array, from_logits: bool, label_smoothing: float) -> Array:
    """``categorical_crossentropy`` of rows of one shape."""
    true = true * (1 - label_smoothing) + label_smoothing / true.shape[-1]
    return np.asarray(-(true * _log_probabilities(pred, from_logits)).sum(axis=-1))


@or_followed(rows.sparse_categorical)
def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Array:
    """-log p[target], targets as class indices, in nats, 0 where that is ``ignore_class``; ``axis`` is -1."""
    require_last(axis)
    pred = floats("y_pred", y_pred)
    labels, counted = without_ignored("y_true", numeric_array("y_true", y_true), pred.shape, ignore_class)
    log_p = _log_probabilities(pred, from_logits)
    losses = np.asarray(-np.take_along_axis(log_p, labels[..., np.newaxis], axis=-1)[..., 0])
    return losses if counted is None else np.where(counted, losses, 0).astype(losses.dtype)


def without_ignored(
    name: str, y: Array, shape: tuple[int, ...], ignore_class: int | None, wanted: str | None = None
) -> tuple[Array, Array | None]:
    """(class indices, which of them count); 0 stands for those to be ignored. None where all count."""
    if ignore_class is None:
        return class_labels(name, y, shape, wanted), None
    counted = y != checks.integer("ignore_class", ignore_class)
    labels = class_labels(name, np.where(counted, y, 0), shape, wanted)
    return labels, counted.reshape(labels.shape)


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """Mean of w (1 - p_t)^gamma times the binary cross-entropy over the last axis, in nats; ``axis`` is -1.

    p_t is the probability of what is true; w is 1, or ``alpha`` for 1 and 1 - ``alpha`` for 0 in balance.
    """
    require_last(axis)
    true, pred = pair(y_true, y_pred)
    true = true * (1 - label_smoothing) + 0.5 * label_smoothing
    losses = _bernoulli(true, pred, from_logits)
    p = 1 / (1 + np.exp(-pred)) if from_logits else pred
    wrong = true * (1 - p) + (1 - true) * p
    weight = true * alpha + (1 - true) * (1 - alpha) if apply_class_balancing else 1
    return np.asarray((weight * wrong**gamma * losses).mean(axis=-1))


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: Any = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """-sum of alpha t (1 - p)^gamma log p over the last axis, in nats; ``alpha`` may be one a class, ``axis`` is -1."""
    require_last(axis)
    true, pred = pair(y_true, y_pred, HINT_FOR_LABELS)
    true = true * (1 - label_smoothing) + label_smoothing / true.shape[-1]
    log_p = np.log(np.clip(np.exp(_log_probabilities(pred, from_logits)), EPSILON, 1 - EPSILON))
    share = np.asarray(alpha, true.dtype) * true
    return np.asarray(-(share * (1 - np.exp(log_p)) ** gamma * log_p).sum(axis=-1))


@or_followed(rows.percentages)
def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Array:
    """100 times the mean of abs(y_true - y_pred) / abs(y_true) over the last axis; targets of 0 count as 1e-7."""
    true, pred = pair(y_true, y_pred)
    return np.asarray(100 * np.abs((true - pred) / np.maximum(np.abs(true), EPSILON)).mean(axis=-1))


@or_followed(rows.logarithmic)
def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Array:
    """Mean of (log(1 + y_true) - log(1 + y_pred))^2 over the last axis; what is below 1e-7 counts as that."""
    true, pred = pair(y_true, y_pred)
    ratio = np.log1p(np.maximum(pred, EPSILON)) - np.log1p(np.maximum(true, EPSILON))
    return np.asarray(np.square(ratio).mean(axis=-1))


def quadratic_cost(y_true: Any, y_pred: Any) -> Array:
    """Half the sum of (y_pred - y_true)^2 over the last axis."""
    return half_sse(y_true, y_pred)


@or_followed(rows.huber)
def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Array:
    """Mean over the last axis of d^2 / 2 up to abs(d) = delta, else delta (abs(d) - delta / 2); d = y_pred - y_true."""
    true, pred = pair(y_true, y_pred)
    size = np.abs(pred - true)
    return np.asarray(np.where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta)).mean(axis=-1))


@or_followed(rows.log_cosh)
def log_cosh(y_true: Any, y_pred: Any) -> Array:
    """Mean of log(cosh(y_pred - y_true)) over the last axis."""
    true, pred = pair(y_true, y_pred)
    error = pred - true
    return np.asarray((np.logaddexp(error, -error) - math.log(2)).mean(axis=-1))


@or_followed(rows.poisson)
def poisson(y_true: Any, y_pred: Any) -> Array:
    """Mean of y_pred - y_true * log(y_pred + 1e-7) over the last axis; outputs are rates, NaN where one is negative."""
    true, pred = pair(y_true, y_pred)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((pred - true * np.log(pred + EPSILON)).mean(axis=-1))


@or_followed(rows.divergence)
def kl_divergence(y_true: Any, y_pred: Any) -> Array:
    """Sum of y_true * log(y_true / y_pred) over the last axis, in nats; both are kept within [1e-7, 1]."""
    true, pred = (np.clip(each, EPSILON, 1) for each in pair(y_true, y_pred))
    return np.asarray((true * np.log(true / pred)).sum(axis=-1))


@or_followed(rows.cosines)
def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """Minus the cosine of the angle between rows along the last axis; norms are 1e-7 at least, ``axis`` is -1."""
    require_last(axis)
    true, pred = pair(y_true, y_pred)
    norms = (np.maximum(np.sqrt(np.square(each).sum(axis=-1)), EPSILON) for each in (true, pred))
    return np.asarray(-(true * pred).sum(axis=-1) / np.multiply(*norms))


def hinge(y_true: Any, y_pred: Any) -> Array:
    """Mean of max(0, 1 - y_true * y_pred) over the last axis; targets are -1 and 1, or all of them 0 and 1."""
    return np.asarray(_margins(y_true, y_pred).mean(axis=-1))


def squared_hinge(y_true: Any, y_pred: Any) -> Array:
    """Mean of max(0, 1 - y_true * y_pred)^2 over the last axis; targets are -1 and 1, or all of them 0 and 1."""
    return np.asarray(np.square(_margins(y_true, y_pred)).mean(axis=-1))


def _margins(y_true: Any, y_pred: Any) -> Array:
    """How far each output is from the right side of the margin."""
    true, pred = pair(y_true, y_pred)
    return np.asarray(np.maximum(1 - signs(true) * pred, 0))


def signs(true: Array) -> Array:
    """Targets of which all are 0 and 1 as -1 and 1; others as they are."""
    return 2 * true - 1 if ((true == 0) | (true == 1)).all() else true


def categorical_hinge(y_true: Any, y_pred: Any) -> Array:
    """max(0, 1 + largest of the wrong outputs - the right one) of each row; targets are one-hot rows."""
    true, pred = pair(y_true, y_pred, HINT_FOR_LABELS)
    right, wrong = (true * pred).sum(axis=-1), ((1 - true) * pred).max(axis=-1)
    return np.asarray(np.maximum(wrong - right + 1, 0))


def multiclass_hinge(y_true: Any, y_pred: Any) -> Array:
    """Sum over the wrong classes j of max(0, s_j - s_y + 1) of each row of scores; targets are class indices y."""
    pred = floats("y_pred", y_pred)
    labels = class_labels("y_true", numeric_array("y_true", y_true), pred.shape)[..., np.newaxis]
    margins = np.maximum(pred - np.take_along_axis(pred, labels, axis=-1) + 1, 0)
    np.put_along_axis(margins, labels, 0, axis=-1)
    return np.asarray(margins.sum(axis=-1))


def negative_log_likelihood(y_true: Any, y_pred: Any) -> Array:
    """-y_pred[target] of each row of logarithms of probabilities (``log_softmax``); targets are class indices."""
    pred = floats("y_pred", y_pred)
    labels = class_labels("y_true", numeric_array("y_true", y_true), pred.shape)
    return np.asarray(-np.take_along_axis(pred, labels[..., np.newaxis], axis=-1)[..., 0])
