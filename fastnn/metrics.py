"""Metrics, under Keras's names: functions that give one figure a sample, and classes that average it over batches.

``compile(metrics=[...])`` takes a name, a function ``f(y_true, y_pred) -> one figure a sample``, a class or an object.
"accuracy" ("acc") is the binary, categorical or sparse categorical one, by the shapes of targets and outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn import absent, checks
from fastnn.configurable import Configurable, aliases, find
from fastnn.engine.data import numeric_array
from fastnn.engine.protocols import Array
from fastnn.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    half_sse,
    mean_absolute_error,
    mean_squared_error,
    sparse_categorical_crossentropy,
)

SampleFunction = Callable[..., Any]


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """Share, over the last axis, of outputs on the same side of ``threshold`` as the target says (above is 1)."""
    true, pred = _same_shape(numeric_array("y_true", y_true), numeric_array("y_pred", y_pred))
    return np.asarray((true == (pred > threshold)).mean(axis=-1))


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the largest output is the largest entry of the target's row, else 0."""
    true, pred = _same_shape(numeric_array("y_true", y_true), numeric_array("y_pred", y_pred))
    return np.asarray(true.argmax(axis=-1) == pred.argmax(axis=-1), dtype=np.float64)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the largest output is that of the target class, else 0."""
    pred = numeric_array("y_pred", y_pred)
    return np.asarray(_labels(y_true, pred) == pred.argmax(axis=-1), dtype=np.float64)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where the target's class is among the ``k`` largest outputs, else 0; targets as rows."""
    true, pred = _same_shape(numeric_array("y_true", y_true), numeric_array("y_pred", y_pred))
    return sparse_top_k_categorical_accuracy(true.argmax(axis=-1), pred, k)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where the target class is among the ``k`` largest outputs, else 0."""
    pred = numeric_array("y_pred", y_pred)
    score = np.take_along_axis(pred, _labels(y_true, pred)[..., np.newaxis].astype(np.int64), axis=-1)
    return np.asarray((pred > score).sum(axis=-1) < k, dtype=np.float64)


def _labels(y_true: Any, pred: Array) -> Array:
    true = numeric_array("y_true", y_true)
    if true.ndim == pred.ndim and true.shape[-1] == 1:
        true = true[..., 0]
    if true.shape != pred.shape[:-1]:
        raise ValueError(f"y_true: got shape {true.shape}, wants {pred.shape[:-1]}, one class index a row of y_pred")
    return true


def _same_shape(true: Array, pred: Array) -> tuple[Array, Array]:
    if true.ndim == pred.ndim - 1 and pred.shape[-1] == 1:
        true = true[..., np.newaxis]
    if true.shape != pred.shape:
        raise ValueError(f"y_true: got shape {true.shape}, wants {pred.shape}, the shape of y_pred")
    return true, pred


class Metric(Configurable):
    """Base class: a running figure. ``direction`` is "up" where more is better, "down" where less is.

    ``integer_targets`` says whether targets are class indices, or rows; None where both will do.
    """

    direction: str | None = None
    integer_targets: bool | None = None
    # What the fused form wants to know: a threshold, a k.
    fused_number = 0.0

    def __init__(self, name: str | None = None) -> None:
        self.name = name or type(self).__name__

    def argmax_only(self, width: int) -> bool:
        """Whether only the place of the largest of ``width`` outputs matters, so that logits do for probabilities."""
        return False

    def fused_form(self, width: int) -> str | None:
        """The kernels' name for this figure of a row of ``width`` outputs; None where it is none of theirs."""
        return None

    def take(self, total: float, count: float) -> None:
        """Take over the sum of the fused form over samples, and the number of samples or the sum of their weights."""
        raise NotImplementedError

    def reset_state(self) -> None:
        """Forget all batches."""
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch, each sample by its weight."""
        raise NotImplementedError

    def result(self) -> float:
        """The figure over all batches since the last reset."""
        raise NotImplementedError

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Count one batch; the figure so far."""
        self.update_state(y_true, y_pred, sample_weight)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name}


class MeanMetricWrapper(Metric):
    """The mean of ``fn(y_true, y_pred, **kwargs)`` over samples."""

    def __init__(self, fn: SampleFunction, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name or getattr(fn, "__name__", type(fn).__name__))
        self._fn = fn
        self._kwargs = kwargs
        self.direction = _DIRECTIONS.get(fn)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget all batches."""
        self._total = 0.0
        self._count = 0.0

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch, each sample by its weight."""
        values = np.asarray(self._fn(y_true, y_pred, **self._kwargs))
        if sample_weight is None:
            self._total += float(values.sum(dtype=np.float64))
            self._count += values.size
            return
        weight = numeric_array("sample_weight", sample_weight).astype(np.float64)
        weight = np.broadcast_to(weight.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
        self._total += float((values * weight).sum())
        self._count += float(weight.sum())

    def take(self, total: float, count: float) -> None:
        """Take over the sum of the fused form over samples, and the number of samples or the sum of their weights."""
        self._total, self._count = total, count

    def result(self) -> float:
        """The mean since the last reset; 0 before the first batch."""
        return self._total / self._count if self._count else 0.0

    def get_config(self) -> dict[str, Any]:
        """A function cannot be written to a file."""
        raise ValueError(
            f"metrics: got the function {self.name!r}, which a model file cannot hold; wants a metric of fastnn's"
        )


class _NamedMean(MeanMetricWrapper):
    """A mean of a function of this module; subclasses say which."""

    _FUNCTION: SampleFunction
    _NAME: str
    _FUSED_FORM: str | None = None
    integer_targets: bool | None = False

    def fused_form(self, width: int) -> str | None:
        """The kernels' name for this figure of a row of ``width`` outputs; None where it is none of theirs."""
        return self._FUSED_FORM

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(type(self)._FUNCTION, name or self._NAME, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, **self._kwargs}


class BinaryAccuracy(_NamedMean):
    """Share of outputs on the right side of ``threshold``."""

    _FUNCTION = staticmethod(binary_accuracy)
    _NAME = "binary_accuracy"
    _FUSED_FORM = "binary_accuracy"

    def __init__(self, name: str | None = None, threshold: float = 0.5) -> None:
        super().__init__(name, threshold=checks.real("threshold", threshold, minimum=0, maximum=1))
        self.fused_number = threshold


class CategoricalAccuracy(_NamedMean):
    """Share of samples whose largest output is that of the target row's largest entry."""

    _FUNCTION = staticmethod(categorical_accuracy)
    _NAME = "categorical_accuracy"
    _FUSED_FORM = "accuracy"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)

    def argmax_only(self, width: int) -> bool:
        """Always."""
        return True


class SparseCategoricalAccuracy(_NamedMean):
    """Share of samples whose largest output is that of the target class."""

    _FUNCTION = staticmethod(sparse_categorical_accuracy)
    _NAME = "sparse_categorical_accuracy"
    integer_targets = True
    _FUSED_FORM = "accuracy"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)

    def argmax_only(self, width: int) -> bool:
        """Always."""
        return True


class TopKCategoricalAccuracy(_NamedMean):
    """Share of samples whose target class is among the ``k`` largest outputs; targets as rows."""

    _FUNCTION = staticmethod(top_k_categorical_accuracy)
    _NAME = "top_k_categorical_accuracy"
    _FUSED_FORM = "top_k"

    def __init__(self, k: int = 5, name: str | None = None) -> None:
        super().__init__(name, k=checks.positive_int("k", k))
        self.fused_number = k


class SparseTopKCategoricalAccuracy(_NamedMean):
    """Share of samples whose target class is among the ``k`` largest outputs; targets as class indices."""

    _FUNCTION = staticmethod(sparse_top_k_categorical_accuracy)
    _NAME = "sparse_top_k_categorical_accuracy"
    _FUSED_FORM = "top_k"
    integer_targets = True

    def __init__(self, k: int = 5, name: str | None = None) -> None:
        super().__init__(name, k=checks.positive_int("k", k))
        self.fused_number = k


class MeanSquaredError(_NamedMean):
    """Mean of (y_pred - y_true)^2."""

    _FUNCTION = staticmethod(mean_squared_error)
    _NAME = "mean_squared_error"
    _FUSED_FORM = "squared"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)


class RootMeanSquaredError(MeanSquaredError):
    """Root of the mean of (y_pred - y_true)^2 over all samples."""

    _NAME = "root_mean_squared_error"

    def result(self) -> float:
        """The figure since the last reset."""
        return math.sqrt(super().result())


class MeanAbsoluteError(_NamedMean):
    """Mean of abs(y_pred - y_true)."""

    _FUNCTION = staticmethod(mean_absolute_error)
    _NAME = "mean_absolute_error"
    _FUSED_FORM = "absolute"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)


class HalfSSE(_NamedMean):
    """Half the sum of squared errors of a sample, the mean over samples; not in Keras."""

    _FUNCTION = staticmethod(half_sse)
    _NAME = "half_sse"
    _FUSED_FORM = "half_squared"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)


class BinaryCrossentropy(_NamedMean):
    """Mean of the binary cross-entropy."""

    _FUNCTION = staticmethod(binary_crossentropy)
    _NAME = "binary_crossentropy"
    _FUSED_FORM, _FUSED_FORM_OF_LOGITS = "bernoulli", "bernoulli_logit"

    def __init__(self, name: str | None = None, from_logits: bool = False, label_smoothing: float = 0.0) -> None:
        super().__init__(name, from_logits=from_logits, label_smoothing=label_smoothing)

    def fused_form(self, width: int) -> str | None:
        """The kernels' name for this figure of a row of ``width`` outputs; none of theirs with smoothed labels."""
        if self._kwargs["label_smoothing"]:
            return None
        return self._FUSED_FORM_OF_LOGITS if self._kwargs["from_logits"] else self._FUSED_FORM


class CategoricalCrossentropy(BinaryCrossentropy):
    """Mean of the categorical cross-entropy; targets as rows."""

    _FUNCTION = staticmethod(categorical_crossentropy)
    _NAME = "categorical_crossentropy"
    _FUSED_FORM, _FUSED_FORM_OF_LOGITS = "cross_entropy", "softmax_cross_entropy"


class SparseCategoricalCrossentropy(_NamedMean):
    """Mean of the categorical cross-entropy; targets as class indices."""

    _FUNCTION = staticmethod(sparse_categorical_crossentropy)
    _NAME = "sparse_categorical_crossentropy"
    integer_targets = True

    def fused_form(self, width: int) -> str | None:
        """The kernels' name for this figure of a row of ``width`` outputs."""
        return "softmax_cross_entropy" if self._kwargs["from_logits"] else "cross_entropy"

    def __init__(self, name: str | None = None, from_logits: bool = False) -> None:
        super().__init__(name, from_logits=from_logits)


_CLASSES: tuple[type[_NamedMean], ...] = (
    *(BinaryAccuracy, CategoricalAccuracy, SparseCategoricalAccuracy),
    *(TopKCategoricalAccuracy, SparseTopKCategoricalAccuracy),
    *(MeanSquaredError, RootMeanSquaredError, MeanAbsoluteError, HalfSSE),
    *(BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy),
)

# The functions that stand for classes when they are given to compile (the root of a mean is none of a sample).
_BY_FUNCTION: dict[SampleFunction, type[Metric]] = {
    cls._FUNCTION: cls for cls in _CLASSES if cls is not RootMeanSquaredError
}

_DIRECTIONS: dict[SampleFunction, str] = {
    function: "up" if "Accuracy" in cls.__name__ else "down" for function, cls in _BY_FUNCTION.items()
}


class ShapedAccuracy(MeanMetricWrapper):
    """Accuracy of the kind that the shapes of targets and outputs ask for: what compile(metrics=["accuracy"]) means.

    One output: binary; targets of fewer dimensions than the outputs: class indices; else rows.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(_accuracy, name or "accuracy")
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
        return {"name": self.name}


def _accuracy(y_true: Any, y_pred: Any) -> Array:
    true, pred = numeric_array("y_true", y_true), numeric_array("y_pred", y_pred)
    if pred.ndim < 2 or pred.shape[-1] == 1:
        return binary_accuracy(true, pred)
    sparse = true.ndim < pred.ndim or true.shape[-1] == 1
    return sparse_categorical_accuracy(true, pred) if sparse else categorical_accuracy(true, pred)


NAMES: dict[str, type[Metric]] = aliases(
    _CLASSES,
    accuracy=ShapedAccuracy,
    acc=ShapedAccuracy,
    mse=MeanSquaredError,
    MSE=MeanSquaredError,
    mae=MeanAbsoluteError,
    MAE=MeanAbsoluteError,
    bce=BinaryCrossentropy,
    BCE=BinaryCrossentropy,
)
# The names in configs: "accuracy" is written as the class that it makes.
CONFIG_NAMES = {**NAMES, ShapedAccuracy.__name__: ShapedAccuracy}


def get(identifier: Any, argument: str = "metrics") -> Metric:
    """The metric that ``identifier`` means; a name given becomes the metric's name, a class name its default name."""
    if callable(identifier) and not isinstance(identifier, (type, Metric)):
        cls = _BY_FUNCTION.get(identifier)
        return MeanMetricWrapper(identifier) if cls is None else cls()
    metric = find(argument, identifier, Metric, CONFIG_NAMES if isinstance(identifier, Mapping) else NAMES)
    if isinstance(identifier, str) and identifier != type(metric).__name__:
        metric.name = identifier
    return metric


__all__ = ["MeanMetricWrapper", "Metric", "get", *(c.__name__ for c in _CLASSES), *(f.__name__ for f in _BY_FUNCTION)]
absent.explain(__name__)
