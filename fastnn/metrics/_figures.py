"""Figures of rows under the names that Keras gives to functions of losses: (y_true, y_pred), of the last axis.

Targets and outputs are brought to one shape as the functions of ``fastnn.losses`` do, and the arithmetic is done in
the dtype of the outputs, float32 where that is none of floating-point numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.engine.protocols import Array
from fastnn.metrics.base import pair

# Keras keeps what it divides by, or takes the logarithm of, this far from 0.
EPSILON = 1e-7


def floats(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Targets and outputs of one shape and dtype, float32 or float64."""
    true, pred = pair(y_true, y_pred)
    dtype = np.float64 if pred.dtype == np.float64 else np.float32
    return true.astype(dtype, copy=False), pred.astype(dtype, copy=False)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Array:
    """100 times the mean of abs(y_true - y_pred) / abs(y_true) over the last axis; targets of 0 count as 1e-7."""
    true, pred = floats(y_true, y_pred)
    return np.asarray(100 * np.abs((true - pred) / np.maximum(np.abs(true), EPSILON)).mean(axis=-1))


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Array:
    """Mean of (log(1 + y_true) - log(1 + y_pred))^2 over the last axis; what is below 1e-7 counts as that."""
    true, pred = floats(y_true, y_pred)
    ratio = np.log1p(np.maximum(pred, EPSILON)) - np.log1p(np.maximum(true, EPSILON))
    return np.asarray(np.square(ratio).mean(axis=-1))


def log_cosh(y_true: Any, y_pred: Any) -> Array:
    """Mean of log(cosh(y_pred - y_true)) over the last axis."""
    true, pred = floats(y_true, y_pred)
    error = pred - true
    return np.asarray((np.logaddexp(error, -error) - math.log(2)).mean(axis=-1))


def poisson(y_true: Any, y_pred: Any) -> Array:
    """Mean of y_pred - y_true * log(y_pred + 1e-7) over the last axis; outputs are rates, NaN where one is negative."""
    true, pred = floats(y_true, y_pred)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((pred - true * np.log(pred + EPSILON)).mean(axis=-1))


def kl_divergence(y_true: Any, y_pred: Any) -> Array:
    """Sum of y_true * log(y_true / y_pred) over the last axis, in nats; both are kept within [1e-7, 1]."""
    true, pred = (np.clip(rows, EPSILON, 1) for rows in floats(y_true, y_pred))
    return np.asarray((true * np.log(true / pred)).sum(axis=-1))


def hinge(y_true: Any, y_pred: Any) -> Array:
    """Mean of max(0, 1 - y_true * y_pred) over the last axis; targets are -1 and 1, or all of them 0 and 1."""
    return np.asarray(_margins(y_true, y_pred).mean(axis=-1))


def squared_hinge(y_true: Any, y_pred: Any) -> Array:
    """Mean of max(0, 1 - y_true * y_pred)^2 over the last axis; targets are -1 and 1, or all of them 0 and 1."""
    return np.asarray(np.square(_margins(y_true, y_pred)).mean(axis=-1))


def _margins(y_true: Any, y_pred: Any) -> Array:
    """How far each output is from the right side of the margin."""
    true, pred = floats(y_true, y_pred)
    signs = 2 * true - 1 if ((true == 0) | (true == 1)).all() else true
    return np.asarray(np.maximum(1 - signs * pred, 0))


def categorical_hinge(y_true: Any, y_pred: Any) -> Array:
    """max(0, 1 + largest of the wrong outputs - the right one) of each row; targets are one-hot rows."""
    true, pred = floats(y_true, y_pred)
    right, wrong = (true * pred).sum(axis=-1), ((1 - true) * pred).max(axis=-1)
    return np.asarray(np.maximum(wrong - right + 1, 0))
