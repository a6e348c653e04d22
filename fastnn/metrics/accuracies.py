"""Accuracies: shares of samples whose output says what the target says."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import checks
from fastnn.engine.data import numeric_array
from fastnn.engine.protocols import Array
from fastnn.metrics.base import MeanMetricWrapper, NamedMean, pair
from fastnn.samples import class_labels, rows_of_labels


def _equal(y_true: Any, y_pred: Any) -> Array:
    """1 where output and target are the same number, else 0."""
    true, pred = pair(y_true, y_pred)
    return _hits(true.astype(pred.dtype, copy=False) == pred)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """1 where an output is on the same side of ``threshold`` as the target says (above is 1), else 0."""
    limit = checks.real("threshold", threshold)
    true, pred = pair(y_true, y_pred)
    return _hits(true == (pred > limit))


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the largest output is the largest entry of the target's row, else 0."""
    true, pred = pair(y_true, y_pred)
    return _hits(true.argmax(axis=-1) == pred.argmax(axis=-1))


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the largest output is that of the target class, else 0."""
    true, pred = numeric_array("y_true", y_true), numeric_array("y_pred", y_pred)
    hits = _hits(rows_of_labels(true, pred) == pred.argmax(axis=-1)).reshape(true.shape)
    return hits[..., 0] if hits.ndim > 1 and hits.shape[-1] == 1 else hits


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where the target's class is among the ``k`` largest outputs, else 0; targets as rows."""
    true, pred = pair(y_true, y_pred)
    return _among_largest(true.argmax(axis=-1), pred, checks.positive_int("k", k))


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False) -> Array:
    """1 where the target class is among the ``k`` largest outputs, else 0; in the shape of ``y_true``.

    ``from_sorted_ids`` says that ``y_pred`` holds not outputs but class indices, that of the largest output first.
    """
    limit = checks.positive_int("k", k)
    true, pred = numeric_array("y_true", y_true), numeric_array("y_pred", y_pred)
    if checks.instance("from_sorted_ids", from_sorted_ids, bool, "True or False"):
        hits = _hits((rows_of_labels(true, pred)[..., np.newaxis] == pred[..., :limit]).any(axis=-1))
    else:
        hits = _among_largest(class_labels("y_true", true, pred.shape), pred, limit)
    return hits.reshape(true.shape)


def _among_largest(labels: Array, pred: Array, k: int) -> Array:
    score = np.take_along_axis(pred, labels[..., np.newaxis], axis=-1)
    return _hits((pred > score).sum(axis=-1) < k)


def _hits(right: Any) -> Array:
    return np.asarray(right, np.float32)


class _Share(NamedMean):
    """What they have in common."""

    _DIRECTION = "up"


class Accuracy(_Share):
    """Share of outputs that are the target itself; "accuracy" as a name means another one, by the shapes."""

    _FUNCTION = staticmethod(_equal)
    _NAME = "accuracy"
    integer_targets = None


class BinaryAccuracy(_Share):
    """Share of outputs on the right side of ``threshold``."""

    _FUNCTION = staticmethod(binary_accuracy)
    _NAME = "binary_accuracy"
    _FUSED_FORM = "binary_accuracy"
    _OPTIONS = ("threshold",)

    def __init__(self, name: str | None = None, dtype: Any = None, threshold: float = 0.5) -> None:
        self.threshold = self.fused_number = checks.real("threshold", threshold)
        super().__init__(name, dtype)


class CategoricalAccuracy(_Share):
    """Share of samples whose largest output is that of the target row's largest entry."""

    _FUNCTION = staticmethod(categorical_accuracy)
    _NAME = "categorical_accuracy"
    _FUSED_FORM = "accuracy"

    def argmax_only(self, width: int) -> bool:
        """Always."""
        return True


class SparseCategoricalAccuracy(_Share):
    """Share of samples whose largest output is that of the target class."""

    _FUNCTION = staticmethod(sparse_categorical_accuracy)
    _NAME = "sparse_categorical_accuracy"
    integer_targets = True
    _FUSED_FORM = "accuracy"

    def argmax_only(self, width: int) -> bool:
        """Always."""
        return True


class TopKCategoricalAccuracy(_Share):
    """Share of samples whose target class is among the ``k`` largest outputs; targets as rows."""

    _FUNCTION = staticmethod(top_k_categorical_accuracy)
    _NAME = "top_k_categorical_accuracy"
    _FUSED_FORM = "top_k"
    _OPTIONS = ("k",)

    def __init__(self, k: int = 5, name: str | None = None, dtype: Any = None) -> None:
        self.k = self.fused_number = checks.positive_int("k", k)
        super().__init__(name, dtype)


class SparseTopKCategoricalAccuracy(_Share):
    """Share of samples whose target class is among the ``k`` largest outputs; targets as class indices."""

    _FUNCTION = staticmethod(sparse_top_k_categorical_accuracy)
    _NAME = "sparse_top_k_categorical_accuracy"
    _FUSED_FORM = "top_k"
    _OPTIONS = ("k", "from_sorted_ids")
    integer_targets = True

    def __init__(self, k: int = 5, name: str | None = None, dtype: Any = None, from_sorted_ids: bool = False) -> None:
        self.k = self.fused_number = checks.positive_int("k", k)
        self.from_sorted_ids = checks.instance("from_sorted_ids", from_sorted_ids, bool, "True or False")
        super().__init__(name, dtype)

    def fused_form(self, width: int) -> str | None:
        """The kernels' name for this figure of a row of ``width`` outputs; they take outputs, no sorted classes."""
        return None if self.from_sorted_ids else self._FUSED_FORM


class ShapedAccuracy(MeanMetricWrapper):
    """Accuracy of the kind that the shapes of targets and outputs ask for: what compile(metrics=["accuracy"]) means.

    One output: binary; targets of fewer dimensions than the outputs: class indices; else rows.
    """

    counts_steps = True

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(_accuracy, name or "accuracy", dtype)
        self.direction = "up"
        self.fused_number = 0.5

    def argmax_only(self, width: int) -> bool:
        """Unless it is the binary one."""
        return width > 1

    def fused_form(self, width: int) -> str | None:
        """The kernels' name for this figure of a row of ``width`` outputs."""
        return "accuracy" if width > 1 else "binary_accuracy"

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype}


def _accuracy(y_true: Any, y_pred: Any) -> Array:
    true, pred = numeric_array("y_true", y_true), numeric_array("y_pred", y_pred)
    if pred.ndim < 2 or pred.shape[-1] == 1:
        return binary_accuracy(true, pred)
    sparse = true.ndim < pred.ndim or true.shape[-1] == 1
    return sparse_categorical_accuracy(true, pred) if sparse else categorical_accuracy(true, pred)
