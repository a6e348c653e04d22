"""Means of what losses are made of: errors of regression, hinges, divergences and cross-entropies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.engine.protocols import Array
from fastnn.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    categorical_hinge,
    half_sse,
    hinge,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from fastnn.losses.functions import pair as float_pair
from fastnn.losses.rows import EPSILON
from fastnn.metrics.base import NamedMean, pair
from fastnn.samples import require_last, require_no_ignored


def _squared_errors(y_true: Any, y_pred: Any) -> Array:
    true, pred = pair(y_true, y_pred)
    error = np.subtract(pred, true, dtype=np.float64)
    return np.asarray(error * error)


def _cosines(y_true: Any, y_pred: Any) -> Array:
    """Cosine of the angle between two rows."""
    true, pred = (rows / np.maximum(_lengths(rows), EPSILON) for rows in float_pair(y_true, y_pred))
    return np.asarray((true * pred).sum(axis=-1))


def _lengths(rows: Array) -> Array:
    return np.asarray(np.sqrt(np.square(rows).sum(axis=-1, keepdims=True)))


def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """Correlation coefficient of the numbers of two rows, NaN where one of them is constant; ``axis`` is -1."""
    require_last(axis)
    true, pred = (rows - rows.mean(axis=-1, keepdims=True) for rows in float_pair(y_true, y_pred))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((true * pred).mean(axis=-1) / np.sqrt(np.square(true).mean(-1) * np.square(pred).mean(-1)))


def concordance_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """Lin's concordance coefficient of two rows, 1 where they are equal (Lin 1989); ``axis`` is -1.

    Twice the covariance over the sum of the variances and the squared distance of the means, plus 1e-7.
    """
    require_last(axis)
    true, pred = float_pair(y_true, y_pred)
    apart = np.square(true.mean(axis=-1) - pred.mean(axis=-1))
    covariance = ((true - true.mean(axis=-1, keepdims=True)) * (pred - pred.mean(axis=-1, keepdims=True))).mean(axis=-1)
    return np.asarray(2 * covariance / (true.var(axis=-1) + pred.var(axis=-1) + apart + EPSILON))


class MeanSquaredError(NamedMean):
    """Mean of (y_pred - y_true)^2."""

    _FUNCTION = staticmethod(mean_squared_error)
    _NAME = "mean_squared_error"
    _FUSED_FORM = "squared"


class RootMeanSquaredError(NamedMean):
    """Root of the mean of (y_pred - y_true)^2 over all samples."""

    counts_steps = False  # as in Keras: it keeps all axes

    _FUNCTION = staticmethod(_squared_errors)
    _NAME = "root_mean_squared_error"
    _FUSED_FORM = "squared"

    def result(self) -> float | Array:
        """The figure since the last reset."""
        return self._rounded(math.sqrt(self._mean()))


class MeanAbsoluteError(NamedMean):
    """Mean of abs(y_pred - y_true)."""

    _FUNCTION = staticmethod(mean_absolute_error)
    _NAME = "mean_absolute_error"
    _FUSED_FORM = "absolute"


class HalfSSE(NamedMean):
    """Half the sum of squared errors of a sample, the mean over samples; not in Keras."""

    _FUNCTION = staticmethod(half_sse)
    _NAME = "half_sse"
    _FUSED_FORM = "half_squared"


class MeanAbsolutePercentageError(NamedMean):
    """100 times the mean of abs(y_true - y_pred) / abs(y_true)."""

    _FUNCTION = staticmethod(mean_absolute_percentage_error)
    _NAME = "mean_absolute_percentage_error"


class MeanSquaredLogarithmicError(NamedMean):
    """Mean of (log(1 + y_true) - log(1 + y_pred))^2."""

    _FUNCTION = staticmethod(mean_squared_logarithmic_error)
    _NAME = "mean_squared_logarithmic_error"


class LogCoshError(NamedMean):
    """Mean of log(cosh(y_pred - y_true))."""

    _FUNCTION = staticmethod(log_cosh)
    _NAME = "logcosh"


class Poisson(NamedMean):
    """Mean of y_pred - y_true * log(y_pred): outputs are rates, targets counts."""

    _FUNCTION = staticmethod(poisson)
    _NAME = "poisson"


class KLDivergence(NamedMean):
    """Kullback-Leibler divergence of the rows of outputs from those of targets, in nats."""

    _FUNCTION = staticmethod(kl_divergence)
    _NAME = "kl_divergence"


class Hinge(NamedMean):
    """Mean of max(0, 1 - y_true * y_pred); targets are -1 and 1, or in all of a batch 0 and 1."""

    _FUNCTION = staticmethod(hinge)
    _NAME = "hinge"


class SquaredHinge(NamedMean):
    """Mean of max(0, 1 - y_true * y_pred)^2; targets are -1 and 1, or in all of a batch 0 and 1."""

    _FUNCTION = staticmethod(squared_hinge)
    _NAME = "squared_hinge"


class CategoricalHinge(NamedMean):
    """Mean of max(0, 1 + largest of the wrong outputs - the right one); targets are one-hot rows."""

    _FUNCTION = staticmethod(categorical_hinge)
    _NAME = "categorical_hinge"


class _Likeness(NamedMean):
    """What the figures share that say how much alike two rows are."""

    _DIRECTION = "up"

    def __init__(self, name: str | None = None, dtype: Any = None, axis: int = -1) -> None:
        require_last(axis)
        super().__init__(name, dtype)


class CosineSimilarity(_Likeness):
    """Mean of the cosine of the angle between the rows of targets and outputs; 0 where one is all zeros.

    1 where they are alike: the loss of this name has the opposite sign.
    """

    _FUNCTION = staticmethod(_cosines)
    _NAME = "cosine_similarity"


class PearsonCorrelation(_Likeness):
    """Mean of the correlation coefficients of the rows of targets and outputs; NaN where a row is constant."""

    _FUNCTION = staticmethod(pearson_correlation)
    _NAME = "pearson_correlation"


class ConcordanceCorrelation(_Likeness):
    """Mean of Lin's concordance coefficients of the rows of targets and outputs."""

    _FUNCTION = staticmethod(concordance_correlation)
    _NAME = "concordance_correlation"


class _Crossentropy(NamedMean):
    """What the cross-entropies share."""

    _FUSED_FORM_OF_LOGITS: str
    _OPTIONS: tuple[str, ...] = ("from_logits", "label_smoothing")

    def __init__(
        self, name: str | None, dtype: Any, from_logits: bool, label_smoothing: float = 0.0, axis: int = -1
    ) -> None:
        require_last(axis)
        self.from_logits = checks.instance("from_logits", from_logits, bool, "True or False")
        self.label_smoothing = checks.real("label_smoothing", label_smoothing, minimum=0, maximum=1)
        super().__init__(name, dtype)

    def fused_form(self, width: int) -> str | None:
        """The kernels' name for this figure of a row of ``width`` outputs; none of theirs with smoothed labels."""
        if self.label_smoothing:
            return None
        return self._FUSED_FORM_OF_LOGITS if self.from_logits else self._FUSED_FORM


class BinaryCrossentropy(_Crossentropy):
    """Mean of the binary cross-entropy."""

    _FUNCTION = staticmethod(binary_crossentropy)
    _NAME = "binary_crossentropy"
    _FUSED_FORM, _FUSED_FORM_OF_LOGITS = "bernoulli", "bernoulli_logit"

    def __init__(
        self, name: str | None = None, dtype: Any = None, from_logits: bool = False, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(name, dtype, from_logits, label_smoothing)


class CategoricalCrossentropy(_Crossentropy):
    """Mean of the categorical cross-entropy; targets as rows."""

    _FUNCTION = staticmethod(categorical_crossentropy)
    _NAME = "categorical_crossentropy"
    _FUSED_FORM, _FUSED_FORM_OF_LOGITS = "cross_entropy", "softmax_cross_entropy"

    def __init__(
        self,
        name: str | None = None,
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
    ) -> None:
        super().__init__(name, dtype, from_logits, label_smoothing, axis)


class SparseCategoricalCrossentropy(_Crossentropy):
    """Mean of the categorical cross-entropy; targets as class indices."""

    _FUNCTION = staticmethod(sparse_categorical_crossentropy)
    _NAME = "sparse_categorical_crossentropy"
    _FUSED_FORM, _FUSED_FORM_OF_LOGITS = "cross_entropy", "softmax_cross_entropy"
    _OPTIONS = ("from_logits",)
    integer_targets = True

    def __init__(
        self,
        name: str | None = None,
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: None = None,
        axis: int = -1,
    ) -> None:
        require_no_ignored(ignore_class)
        super().__init__(name, dtype, from_logits, axis=axis)
