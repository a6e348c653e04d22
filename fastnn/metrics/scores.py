"""Scores of the columns of outputs (n, k), from sums over all batches: F-scores and the coefficient of determination.

Weights are one a sample, (n,) or (n, 1), one an output, (n, k), or a single number for every output.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.engine.protocols import Array
from fastnn.losses.functions import pair as float_pair
from fastnn.losses.rows import EPSILON
from fastnn.metrics.base import Metric
from fastnn.metrics.confusion import quotient, spread

_AVERAGES = ("micro", "macro", "weighted")
# Distances from a mean, as a share of it, that float64 makes.
_ROUNDING = 1e-12
_AGGREGATIONS = ("uniform_average", "variance_weighted_average")


class _Columns(Metric):
    """Keeps sums by column, (sums, k)."""

    direction = "up"
    integer_targets = False

    def reset_state(self) -> None:
        """Forget all batches."""
        self._sums: Array | None = None

    def _batch(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Array, Array, Array]:
        """Targets, outputs and weights of a batch, all of (n, k); ValueError where they are not, or k changes."""
        true, pred = float_pair(y_true, y_pred)
        if pred.ndim != 2:
            raise ValueError(f"y_pred: got shape {np.shape(y_pred)}, wants (samples, outputs)")
        if self._sums is not None and pred.shape[1] != self._sums.shape[1]:
            raise ValueError(f"y_pred: got {pred.shape[1]} outputs, wants {self._sums.shape[1]}, as in batches before")
        weight = np.ones(pred.shape) if sample_weight is None else spread(sample_weight, pred.shape)
        return true.astype(np.float64), pred, weight


class FBetaScore(_Columns):
    """(1 + beta^2) * precision * recall / (beta^2 * precision + recall) of every column; targets are rows of 0 and 1.

    An output is positive where it is above ``threshold``, without one where it is the largest of its row and not 0.
    ``average``: None for one score a column, "macro" for their mean, "weighted" for that by the positive targets of
    each, "micro" for the score of all columns as one. Where what divides is 0 the score is 0.
    """

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        self.average = None if average is None else checks.one_of("average", average, _AVERAGES)
        self.beta = checks.real("beta", beta, minimum=0, open_low=True)
        given = threshold
        self.threshold = None if given is None else checks.real("threshold", given, 0, 1, open_low=True)
        self.reset_state()

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch, by its weights if it has any; an update that is refused changes nothing."""
        true, pred, weight = self._batch(y_true, y_pred, sample_weight)
        if self.threshold is None:
            # of several that are largest each counts; 1e-9 is Keras's
            positive = (pred >= pred.max(axis=-1, keepdims=True)) & (np.abs(pred) > 1e-9)
        else:
            positive = pred > self.threshold
        found, spurious, missed = positive * true, positive * (1 - true), ~positive * true
        sums = np.stack([(weight * kind).sum(axis=0) for kind in (found, spurious, missed)])
        self._sums = sums if self._sums is None else self._sums + sums

    def result(self) -> float | Array:
        """The score since the last reset, an array (k,) without ``average``; 0 before the first batch."""
        if self._sums is None:
            return 0.0
        sums = self._sums.sum(axis=1) if self.average == "micro" else self._sums
        scores = self._scores(*sums)
        if self.average == "weighted":
            targets = sums[0] + sums[2]
            return self._rounded((scores * targets).sum() / (targets.sum() + EPSILON))
        return self._rounded(scores.mean() if self.average == "macro" else scores)

    def _scores(self, found: Array, spurious: Array, missed: Array) -> Array:
        """Scores from true and false positives and false negatives; EPSILON, as Keras has it, spares zeros."""
        precision, recall = found / (found + spurious + EPSILON), found / (found + missed + EPSILON)
        square = self.beta**2
        return np.asarray((1 + square) * precision * recall / (square * precision + recall + EPSILON))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"average": self.average, "beta": self.beta, "threshold": self.threshold}
        return {**own, **super().get_config()}


class F1Score(FBetaScore):
    """2 * precision * recall / (precision + recall) of every column; arguments as those of FBetaScore."""

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(average, 1.0, threshold, name, dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: value for name, value in super().get_config().items() if name != "beta"}


class R2Score(_Columns):
    """1 - sum of squared errors / sum of squared distances of the targets from their mean, of every column.

    Of a column whose targets are all alike it is 0, or where the outputs are too 1 (Keras: NaN). ``class_aggregation``:
    "uniform_average" for the mean of the columns, "variance_weighted_average" for that by the variances of their
    targets, None for one score a column. ``num_regressors``, where not 0, is the number p of independent variables in
    the adjusted score, 1 - (1 - score) * (n - 1) / (n - p - 1); n is the number of targets, of all columns as in Keras.
    """

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = "r2_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        given = class_aggregation
        self.class_aggregation = None if given is None else checks.one_of("class_aggregation", given, _AGGREGATIONS)
        self.num_regressors = checks.integer("num_regressors", num_regressors, 0)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget all batches."""
        super().reset_state()
        self._targets = 0

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch, by its weights if it has any; an update that is refused changes nothing."""
        true, pred, weight = self._batch(y_true, y_pred, sample_weight)
        count = weight.sum(axis=0)
        mean = quotient((weight * true).sum(axis=0), count)
        spread_of, errors = ((weight * np.square(true - other)).sum(axis=0) for other in (mean, pred))
        sums = np.stack([count, mean, spread_of, errors])
        self._sums = sums if self._sums is None else _merged(self._sums, sums)
        self._targets += true.size

    def result(self) -> float | Array:
        """The score since the last reset, an array (k,) without aggregation; 0 before the first batch."""
        if self._sums is None:
            return 0.0
        count, mean, squares, errors = self._sums
        # of targets that are all alike rounding leaves some distance from their mean
        variances = np.where(squares > count * np.square(_ROUNDING * mean), squares, 0)
        scores = np.where(variances > 0, 1 - quotient(errors, variances), errors == 0)
        if self.class_aggregation == "variance_weighted_average" and variances.any():
            scores = (scores * variances).sum() / variances.sum()
        elif self.class_aggregation is not None:
            scores = scores.mean()
        return self._rounded(self._adjusted(scores) if self.num_regressors else scores)

    def _adjusted(self, scores: Array) -> Array:
        left = self._targets - self.num_regressors - 1
        if left <= 0:
            warnings.warn(
                f"{self.name}: got {self._targets} targets for num_regressors={self.num_regressors}, wants at least "
                f"{self.num_regressors + 2} to adjust the score, which is the plain one now",
                UserWarning,
                stacklevel=3,
            )
            return scores
        return np.asarray(1 - (1 - scores) * (self._targets - 1) / left)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"class_aggregation": self.class_aggregation, "num_regressors": self.num_regressors}
        return {**own, **super().get_config()}


def _merged(first: Array, second: Array) -> Array:
    """Of two sets of targets as one: weight, mean, squares around the mean (Chan et al. 1979), squares of errors."""
    (count, mean, squares, errors), (more, other, other_squares, other_errors) = first, second
    share = quotient(more, count + more)
    apart = other - mean
    squares = squares + other_squares + np.square(apart) * count * share
    return np.stack([count + more, mean + apart * share, squares, errors + other_errors])
