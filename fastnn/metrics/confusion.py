"""Figures of confusion: how many outputs above a threshold are right, and what follows from these counts.

Targets are 0 (negative) or anything else (positive) and have the shape of the outputs; an output is positive where it
is above the threshold. Counts are sums of weights over all batches, in float64, so that figures are those of all
samples and no means of batches. Where what divides is 0, as in batches without a positive, a quotient is 0.

Weights lie along the first axes of the outputs: (n,) or (n, 1), one a sample, (n, k), one an output; along axes of
length 1 they are repeated, and a single number weighs every output of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.configurable import snake_case
from fastnn.engine.data import along, numeric_array
from fastnn.engine.protocols import Array, Shape
from fastnn.losses.functions import pair as float_pair
from fastnn.losses.rows import EPSILON
from fastnn.metrics.base import Metric
from fastnn.samples import weighed, weights_of

# Rows of counts.
TP, FP, TN, FN = range(4)


def spread(sample_weight: Any, shape: Shape) -> Array:
    """Weights as float64, one for every number of an array of ``shape``; ValueError where they do not fit."""
    values, weight = weighed(np.broadcast_to(0.0, shape), weights_of(sample_weight))
    return np.broadcast_to(along(weight, values.shape), values.shape).reshape(shape)


def quotient(part: Any, whole: Any) -> Array:
    """``part / whole`` of numbers or arrays, 0 where ``whole`` is."""
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.not_equal(whole, 0)))


def counts(positive: Array, pred: Array, weight: Array | None, thresholds: Array) -> Array:
    """Sums of weights, (4, thresholds, k): of true and false positives, true and false negatives.

    Arrays of (n, k); ``thresholds`` ascend. An output that is NaN is above none of them.
    """
    bins, labels = len(thresholds) + 1, pred.shape[1]
    # how many thresholds an output is above: a histogram of that, summed up from either end, has all the counts
    above = np.searchsorted(thresholds.astype(pred.dtype), pred)
    above[np.isnan(pred)] = 0
    cells = (above + bins * np.arange(labels)) * 2 + positive
    sums = np.bincount(cells.ravel(), None if weight is None else weight.ravel(), 2 * bins * labels)
    histogram = sums.reshape(labels, bins, 2).transpose(2, 1, 0)
    beyond = histogram[:, ::-1].cumsum(axis=1)[:, -2::-1]
    within = histogram.cumsum(axis=1)[:, :-1]
    return np.stack([beyond[1], beyond[0], within[0], within[1]]).astype(np.float64)


class _Confusion(Metric):
    """Keeps counts at ``thresholds``; ``top_k`` leaves the largest outputs of a row alone, ``class_id`` one column."""

    integer_targets = False
    top_k: int | None = None
    class_id: int | None = None

    def __init__(self, thresholds: Sequence[float], name: str | None, dtype: Any) -> None:
        super().__init__(dtype, name or snake_case(type(self).__name__))
        self.thresholds = list(thresholds)
        order = np.argsort(self.thresholds, kind="stable")
        self._ascending, self._places = np.array(self.thresholds)[order], np.argsort(order)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget all batches."""
        self._counts = np.zeros((4, len(self.thresholds), 1))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch, by its weights if it has any; an update that is refused changes nothing."""
        true, pred = float_pair(y_true, y_pred)
        weight = None if sample_weight is None else spread(sample_weight, pred.shape)
        if self.top_k is not None:
            pred = _largest(pred, self.top_k)
        if self.class_id is not None:
            true, pred, weight = (_column(array, self.class_id) for array in (true, pred, weight))
        self._count(true, pred, weight)

    def _count(self, true: Array, pred: Array, weight: Array | None) -> None:
        """Add the counts of arrays of one shape."""
        positive, column = (true != 0).reshape(-1, 1), pred.reshape(-1, 1)
        self._counts = self._counts + counts(positive, column, weight, self._ascending)[:, self._places]

    def _figure(self, figures: Array) -> float | Array:
        """What ``result`` gives of one number a threshold: that number where there is one threshold."""
        return self._rounded(figures[0] if len(figures) == 1 else figures)


def _largest(pred: Array, k: int) -> Array:
    """``pred`` with minus infinity in place of all but the ``k`` largest of each row; of equal ones the first count."""
    kept = np.argsort(-pred, axis=-1, kind="stable")[..., :k]
    largest = np.full_like(pred, -np.inf)
    np.put_along_axis(largest, kept, np.take_along_axis(pred, kept, axis=-1), axis=-1)
    return largest


def _column(array: Array | None, class_id: int) -> Any:
    """The outputs of one class; ValueError where there are none."""
    if array is None:
        return None
    if array.ndim < 2 or class_id >= array.shape[-1]:
        raise ValueError(f"class_id: got {class_id}, wants a column of y_pred, whose shape is {array.shape}")
    return array[..., class_id]


def _thresholds(value: Any, default: float = 0.5) -> list[float]:
    """One threshold or several, within [0, 1]; without any ``default``."""
    if value is None:
        return [default]
    if not np.ndim(value):
        return [checks.real("thresholds", value, minimum=0, maximum=1)]
    if not len(value):
        raise ValueError("thresholds: got none, wants at least one")
    return [checks.real(f"thresholds[{place}]", each, minimum=0, maximum=1) for place, each in enumerate(value)]


def _given(value: Any, thresholds: list[float]) -> Any:
    """The argument ``thresholds`` as JSON can hold it: None, a number, a list."""
    return None if value is None else thresholds if np.ndim(value) else thresholds[0]


class _Count(_Confusion):
    """One of the counts."""

    _ROW: int

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(_thresholds(thresholds), name, dtype)
        self.init_thresholds = _given(thresholds, self.thresholds)

    def result(self) -> float | Array:
        """The count since the last reset, an array where there are several thresholds."""
        return self._figure(self._counts[self._ROW, :, 0])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"thresholds": self.init_thresholds, **super().get_config()}


class TruePositives(_Count):
    """Number of outputs above a threshold, 0.5 or those given, of a positive target, or the sum of weights."""

    _ROW = TP


class FalsePositives(_Count):
    """Number of outputs above a threshold, 0.5 or those given, of a target of 0, or the sum of weights."""

    _ROW = FP


class TrueNegatives(_Count):
    """Number of outputs not above a threshold, 0.5 or those given, of a target of 0, or the sum of weights."""

    _ROW = TN


class FalseNegatives(_Count):
    """Number of outputs not above a threshold, 0.5 or those given, of a positive target, or the sum of weights."""

    _ROW = FN


class _Share(_Confusion):
    """True positives as a share of those and of another count."""

    direction = "up"
    _OTHER: int

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.top_k = None if top_k is None else checks.positive_int("top_k", top_k)
        self.class_id = None if class_id is None else checks.integer("class_id", class_id, 0)
        super().__init__(_thresholds(thresholds, 0.5 if top_k is None else _LOWEST), name, dtype)
        self.init_thresholds = _given(thresholds, self.thresholds)

    def result(self) -> float | Array:
        """The share since the last reset, an array where there are several thresholds."""
        found = self._counts[TP, :, 0]
        return self._figure(quotient(found, found + self._counts[self._OTHER, :, 0]))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"thresholds": self.init_thresholds, "top_k": self.top_k, "class_id": self.class_id}
        return {**own, **super().get_config()}


# The threshold that the largest outputs are above in any case.
_LOWEST = -1e10


class Precision(_Share):
    """Share of the positive outputs whose target is positive.

    Positive outputs are those above each of ``thresholds`` (0.5). With ``top_k`` they are among the largest ``top_k``
    of their row too, and above any threshold unless one is given. ``class_id`` is the column that alone counts.
    """

    _OTHER = FP


class Recall(_Share):
    """Share of the positive targets whose output is positive; arguments as those of Precision."""

    _OTHER = FN


def _rates(counted: Array) -> dict[str, Array]:
    """What is made of counts (4, ...), by the names of the arguments below."""
    tp, fp, tn, fn = counted
    return {
        "sensitivity": quotient(tp, tp + fn),
        "specificity": quotient(tn, tn + fp),
        "recall": quotient(tp, tp + fn),
        "precision": quotient(tp, tp + fp),
    }


class _Constrained(_Confusion):
    """The best of one rate over all evenly spread thresholds at which another is at least so high; 0 where none is."""

    direction = "up"
    _BEST: str
    _BOUND: str

    def __init__(self, bound: float, num_thresholds: int, class_id: int | None, name: str | None, dtype: Any) -> None:
        self.value = checks.real(self._BOUND, bound, minimum=0, maximum=1)
        self.num_thresholds = checks.positive_int("num_thresholds", num_thresholds)
        self.class_id = None if class_id is None else checks.integer("class_id", class_id, 0)
        super().__init__([0.5] if self.num_thresholds == 1 else _even(self.num_thresholds), name, dtype)

    def _count(self, true: Array, pred: Array, weight: Array | None) -> None:
        super()._count(true, pred if self.num_thresholds == 1 else np.clip(pred, 0, 1), weight)

    def result(self) -> float | Array:
        """The rate over all batches since the last reset."""
        rates = _rates(self._counts[:, :, 0])
        return self._rounded(np.max(rates[self._BEST], where=rates[self._BOUND] >= self.value, initial=0))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {self._BOUND: self.value, "num_thresholds": self.num_thresholds, "class_id": self.class_id}
        return {**own, **super().get_config()}


def _even(number: int) -> list[float]:
    """So many thresholds from 0 to 1."""
    return [place / (number - 1) for place in range(number)]


class SensitivityAtSpecificity(_Constrained):
    """Highest share of the positive targets found, with at least the share ``specificity`` of the negative ones kept.

    Looked for over ``num_thresholds`` thresholds from 0 to 1, for outputs within [0, 1]; ``class_id`` as in Precision.
    """

    _BEST, _BOUND = "sensitivity", "specificity"

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(specificity, num_thresholds, class_id, name, dtype)
        self.specificity = self.value


class SpecificityAtSensitivity(_Constrained):
    """Highest share of the negative targets kept, with at least the share ``sensitivity`` of the positive ones found.

    Looked for over ``num_thresholds`` thresholds from 0 to 1, for outputs within [0, 1]; ``class_id`` as in Precision.
    """

    _BEST, _BOUND = "specificity", "sensitivity"

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)
        self.sensitivity = self.value


class PrecisionAtRecall(_Constrained):
    """Highest precision with a recall of at least ``recall``.

    Looked for over ``num_thresholds`` thresholds from 0 to 1, for outputs within [0, 1]; ``class_id`` as in Precision.
    """

    _BEST, _BOUND = "precision", "recall"

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(recall, num_thresholds, class_id, name, dtype)
        self.recall = self.value


class RecallAtPrecision(_Constrained):
    """Highest recall with a precision of at least ``precision``.

    Looked for over ``num_thresholds`` thresholds from 0 to 1, for outputs within [0, 1]; ``class_id`` as in Precision.
    """

    _BEST, _BOUND = "recall", "precision"

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(precision, num_thresholds, class_id, name, dtype)
        self.precision = self.value


# ------------------------------------------------------------------------------------------------- areas under curves


def _roc(counted: Array) -> tuple[Array, Array]:
    """False positives as a share of the negative targets, true ones as one of the positive targets."""
    tp, fp, tn, fn = counted
    return quotient(fp, fp + tn), quotient(tp, tp + fn)


def _precision_recall(counted: Array) -> tuple[Array, Array]:
    """Recall and precision."""
    rates = _rates(counted)
    return rates["recall"], rates["precision"]


def _gains(counted: Array) -> tuple[Array, Array]:
    """Gains in recall, none below 0, and in precision, over calling everything positive (Flach and Kull 2015)."""
    tp, fp, tn, fn = counted
    odds = quotient(tp + fn, tn + fp)
    recall = np.where(tp == 0, 0.0, 1 - odds * quotient(fn, tp))
    return np.maximum(recall, 0.0), np.where(tp == 0, 1.0, 1 - odds * quotient(fp, tp))


_CURVES: dict[str, Callable[[Array], tuple[Array, Array]]] = {"ROC": _roc, "PR": _precision_recall, "PRGAIN": _gains}

# The height of a curve between two thresholds, from its heights there.
_HEIGHTS: dict[str, Callable[[Array, Array], Array]] = {
    "interpolation": lambda left, right: (left + right) / 2,
    "minoring": np.minimum,
    "majoring": np.maximum,
}


def _area(counted: Array, curve: str, summation_method: str) -> Array:
    """Area under a curve through counts (4, thresholds, k), (k,)."""
    if (curve, summation_method) == ("PR", "interpolation"):
        return _interpolated(counted)
    x, y = _CURVES[curve](counted)
    heights = _HEIGHTS[summation_method](y[:-1], y[1:])
    return np.asarray(((x[:-1] - x[1:]) * heights).sum(axis=0))


def _interpolated(counted: Array) -> Array:
    """Area under precision over recall, true positives linear in the positives in between (Davis and Goadrich 2006)."""
    found, positives = counted[TP], counted[TP] + counted[FP]
    more, more_positives = found[:-1] - found[1:], positives[:-1] - positives[1:]
    slope = quotient(more, np.maximum(more_positives, 0))
    intercept = found[1:] - slope * positives[1:]
    both = (positives[:-1] > 0) & (positives[1:] > 0)
    ratio = np.divide(positives[:-1], positives[1:], out=np.ones(more.shape), where=both)
    return np.asarray(quotient(slope * (more + intercept * np.log(ratio)), found[1:] + counted[FN, 1:]).sum(axis=0))


class AUC(_Confusion):
    """Area under a curve through ``num_thresholds`` thresholds from 0 to 1, or through those given and both ends.

    ``curve``: "ROC", true over false positive rate; "PR", precision over recall; "PRGAIN", the gains in both.
    ``summation_method``: "interpolation" between thresholds, or the lower ("minoring") or higher ("majoring") height
    of each two. Outputs are probabilities, what is outside [0, 1] counts as 0 or 1; ``from_logits`` says that their
    sigmoids are meant.

    ``multi_label``: outputs (n, k) are k figures of their own, of which the mean counts, by ``label_weights``, (k,),
    where there are any; ``num_labels`` says beforehand how many there are. Without it all outputs are one, each
    weighed by ``label_weights``.
    """

    direction = "up"

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Any = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ) -> None:
        self._inner = None if thresholds is None else sorted(_thresholds(thresholds))
        inner = _even(checks.integer("num_thresholds", num_thresholds, 2))[1:-1] if self._inner is None else self._inner
        self.curve = checks.one_of("curve", curve.upper() if isinstance(curve, str) else curve, _CURVES)
        method = summation_method.lower() if isinstance(summation_method, str) else summation_method
        self.summation_method = checks.one_of("summation_method", method, _HEIGHTS)
        self.multi_label = checks.instance("multi_label", multi_label, bool, "True or False")
        if num_labels is not None and not self.multi_label:
            raise ValueError(f"num_labels: got {num_labels} without multi_label, wants None, or multi_label=True")
        self.num_labels = None if num_labels is None else checks.positive_int("num_labels", num_labels)
        self.label_weights = None if label_weights is None else _label_weights(label_weights)
        self.from_logits = checks.instance("from_logits", from_logits, bool, "True or False")
        # a little outside, so that everything is above the lowest and nothing above the highest
        super().__init__([-EPSILON, *inner, 1 + EPSILON], name, dtype)
        self.num_thresholds = len(self.thresholds)

    def _count(self, true: Array, pred: Array, weight: Array | None) -> None:
        self._check_labels(pred)
        if self.from_logits:
            pred = 0.5 + 0.5 * np.tanh(0.5 * pred.astype(np.float64))
        pred = np.clip(pred, 0, 1)
        if self.multi_label:
            self._counts = self._counts + counts(true != 0, pred, weight, self._ascending)
            return
        if self.label_weights is not None:
            weight = self.label_weights * np.ones(pred.shape) if weight is None else self.label_weights * weight
        super()._count(true, pred, weight)

    def _check_labels(self, pred: Array) -> None:
        """Raise unless the outputs are as many as there are labels, or weights of such."""
        known = self.num_labels or (self._counts.shape[2] if self._counts.any() else None)
        weights = None if self.label_weights is None else len(self.label_weights)
        if self.multi_label and pred.ndim != 2:
            raise ValueError(f"y_pred: got shape {pred.shape}, wants (samples, labels), as multi_label says")
        if self.multi_label and known not in (None, pred.shape[1]):
            raise ValueError(f"y_pred: got {pred.shape[1]} labels, wants {known}")
        if weights not in (None, pred.shape[-1]):
            raise ValueError(f"label_weights: got {weights} weights, wants {pred.shape[-1]}, one a column of y_pred")

    def result(self) -> float | Array:
        """The area since the last reset; of several labels the mean."""
        areas = _area(self._counts, self.curve, self.summation_method)
        if not self.multi_label or self.label_weights is None:
            return self._rounded(areas.mean())
        return self._rounded(quotient((areas * self.label_weights).sum(), self.label_weights.sum()))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "thresholds": self._inner,
            "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": None if self.label_weights is None else self.label_weights.tolist(),
            "from_logits": self.from_logits,
        }
        return {**own, **super().get_config()}


def _label_weights(value: Any) -> Array:
    """Weights of labels, (k,), none below 0."""
    weights = numeric_array("label_weights", value).astype(np.float64)
    if weights.ndim != 1 or not (weights >= 0).all():
        raise ValueError(f"label_weights: got {checks.describe(value)}, wants one number a label, none below 0")
    return weights
