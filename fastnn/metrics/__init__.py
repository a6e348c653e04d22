"""Metrics, under Keras's names: functions that give figures of samples, and classes that average them over batches.

``compile(metrics=[...])`` takes a name, a function ``f(y_true, y_pred) -> figures``, a class or an object. "accuracy"
("acc") is the binary, categorical or sparse categorical one, by the shapes of targets and outputs.

The classes average as Keras's do: over the figures of each sample, then over samples, so that all samples count alike,
or by their weights. Samples lie along the first axis of the figures. The functions of losses take the mean of the last
axis, so arrays of one axis are one sample to them, and a batch of such counts once (reshape(-1, 1) makes each number a
sample); BinaryAccuracy and RootMeanSquaredError keep all axes and count each number.

Weights lie along the first axes of the figures: (n,) or (n, 1), one a sample; (n, t) or (n, t, 1), one a step; for
BinaryAccuracy and RootMeanSquaredError (n, k), one an output; along axes of length 1 they are repeated. A single number
weighs the batch as a whole, which then counts as one sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn import absent, checks
from fastnn.configurable import Configurable, aliases, find, undefined
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
from fastnn.samples import (
    along,
    class_labels,
    require_last,
    require_no_ignored,
    rows_of_labels,
    same_shape,
    weighed,
    weights_of,
)

SampleFunction = Callable[..., Any]


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """1 where an output is on the same side of ``threshold`` as the target says (above is 1), else 0."""
    limit = checks.real("threshold", threshold)
    true, pred = _same_shape(y_true, y_pred)
    return _hits(true == (pred > limit))


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the largest output is the largest entry of the target's row, else 0."""
    true, pred = _same_shape(y_true, y_pred)
    return _hits(true.argmax(axis=-1) == pred.argmax(axis=-1))


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the largest output is that of the target class, else 0."""
    true, pred = numeric_array("y_true", y_true), numeric_array("y_pred", y_pred)
    hits = _hits(rows_of_labels(true, pred) == pred.argmax(axis=-1)).reshape(true.shape)
    return hits[..., 0] if hits.ndim > 1 and hits.shape[-1] == 1 else hits


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where the target's class is among the ``k`` largest outputs, else 0; targets as rows."""
    true, pred = _same_shape(y_true, y_pred)
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


def _squared_errors(y_true: Any, y_pred: Any) -> Array:
    true, pred = _same_shape(y_true, y_pred)
    error = np.subtract(pred, true, dtype=np.float64)
    return np.asarray(error * error)


def _hits(right: Any) -> Array:
    return np.asarray(right, np.float32)


def _same_shape(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    return same_shape(numeric_array("y_true", y_true), numeric_array("y_pred", y_pred))


def _tally(values: Array, weight: Array | None) -> tuple[float, float]:
    """Sum over samples, each by its weight, and what divides it: their number, or the sum of their weights."""
    if not values.size:
        return 0.0, 0.0
    if weight is None:
        total = float(values.sum(dtype=np.float64)) / math.prod(values.shape[1:])
        return total, float(len(values)) if values.ndim else 1.0
    values, weight = weighed(values, weight)
    weight = np.broadcast_to(weight, values.shape[: weight.ndim])
    # a sample's figure is the mean of its values, its weight that of its weights; a single one is the batch's
    each = math.prod(values.shape[1:]) if weight.ndim else values.size
    total = float((values * along(weight, values.shape)).sum(dtype=np.float64)) / each
    return total, float(weight.sum()) / math.prod(weight.shape[1:])


class Metric(Configurable):
    """Base class: a running figure. ``direction`` is "up" where more is better, "down" where less is.

    ``dtype`` is that of the result, to which it is rounded: a Python float in any case. Without one, and in the running
    sums always, it is float64. ``integer_targets`` says whether targets are class indices, or rows; None where both
    will do.
    """

    direction: str | None = None
    integer_targets: bool | None = None
    # What the fused form wants to know: a threshold, a k.
    fused_number = 0.0

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.dtype = checks.float_dtype("dtype", dtype)
        self.name = name or type(self).__name__

    def argmax_only(self, width: int) -> bool:
        """Whether only the place of the largest of ``width`` outputs matters, so that logits do for probabilities."""
        return False

    def fused_form(self, width: int) -> str | None:
        """The kernels' name for this figure of a row of ``width`` outputs; None where it is none of theirs."""
        return None

    def take(self, total: float, count: float) -> None:
        """Take over the sum of the fused form over samples, and the number of samples or the sum of their weights."""
        raise undefined(self, "take(total, count), as it has a fused_form")

    def reset_state(self) -> None:
        """Forget all batches."""
        raise undefined(self, "reset_state()")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch, by its weights if it has any; an update that is refused changes nothing."""
        raise undefined(self, "update_state(y_true, y_pred, sample_weight=None)")

    def result(self) -> float:
        """The figure over all batches since the last reset."""
        raise undefined(self, "result() -> float")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Count one batch; the figure so far."""
        self.update_state(y_true, y_pred, sample_weight)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype}


class MeanMetricWrapper(Metric):
    """The mean of ``fn(y_true, y_pred, **kwargs)`` over samples, those along the first axis of what it gives."""

    def __init__(self, fn: SampleFunction, name: str | None = None, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(dtype, name or getattr(fn, "__name__", type(fn).__name__))
        self._fn = fn
        self._kwargs = kwargs
        self.direction = _DIRECTIONS.get(fn)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget all batches."""
        self._total = 0.0
        self._count = 0.0

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch, by its weights if it has any; an update that is refused changes nothing."""
        values = self._values(y_true, y_pred)
        total, count = _tally(values, None if sample_weight is None else weights_of(sample_weight))
        self._total, self._count = self._total + total, self._count + count

    def _values(self, y_true: Any, y_pred: Any) -> Array:
        """The function's figures; TypeError where it returned something else."""
        returned = self._fn(y_true, y_pred, **self._kwargs)
        try:
            values = np.asarray(returned)
        except ValueError:
            values = np.empty(0, object)
        if values.dtype.kind not in "fiub":
            raise TypeError(f"metrics: {self.name!r} returned {checks.describe(returned)}, wants a number a sample")
        return values

    def take(self, total: float, count: float) -> None:
        """Take over the sum of the fused form over samples, and the number of samples or the sum of their weights."""
        self._total, self._count = total, count

    def result(self) -> float:
        """The mean since the last reset; 0 before the first batch."""
        return self._rounded(self._mean())

    def _mean(self) -> float:
        return self._total / self._count if self._count else 0.0

    def _rounded(self, figure: float) -> float:
        return figure if self.dtype is None else float(np.dtype(self.dtype).type(figure))

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
    # The attributes, set before, that the function takes too.
    _OPTIONS: tuple[str, ...] = ()
    integer_targets: bool | None = False

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        options = {option: getattr(self, option) for option in self._OPTIONS}
        super().__init__(type(self)._FUNCTION, name or self._NAME, dtype, **options)
        self.direction = "up" if "Accuracy" in type(self).__name__ else "down"

    def fused_form(self, width: int) -> str | None:
        """The kernels' name for this figure of a row of ``width`` outputs; None where it is none of theirs."""
        return self._FUSED_FORM

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype, **self._kwargs}


class BinaryAccuracy(_NamedMean):
    """Share of outputs on the right side of ``threshold``."""

    _FUNCTION = staticmethod(binary_accuracy)
    _NAME = "binary_accuracy"
    _FUSED_FORM = "binary_accuracy"
    _OPTIONS = ("threshold",)

    def __init__(self, name: str | None = None, dtype: Any = None, threshold: float = 0.5) -> None:
        self.threshold = self.fused_number = checks.real("threshold", threshold)
        super().__init__(name, dtype)


class CategoricalAccuracy(_NamedMean):
    """Share of samples whose largest output is that of the target row's largest entry."""

    _FUNCTION = staticmethod(categorical_accuracy)
    _NAME = "categorical_accuracy"
    _FUSED_FORM = "accuracy"

    def argmax_only(self, width: int) -> bool:
        """Always."""
        return True


class SparseCategoricalAccuracy(_NamedMean):
    """Share of samples whose largest output is that of the target class."""

    _FUNCTION = staticmethod(sparse_categorical_accuracy)
    _NAME = "sparse_categorical_accuracy"
    integer_targets = True
    _FUSED_FORM = "accuracy"

    def argmax_only(self, width: int) -> bool:
        """Always."""
        return True


class TopKCategoricalAccuracy(_NamedMean):
    """Share of samples whose target class is among the ``k`` largest outputs; targets as rows."""

    _FUNCTION = staticmethod(top_k_categorical_accuracy)
    _NAME = "top_k_categorical_accuracy"
    _FUSED_FORM = "top_k"
    _OPTIONS = ("k",)

    def __init__(self, k: int = 5, name: str | None = None, dtype: Any = None) -> None:
        self.k = self.fused_number = checks.positive_int("k", k)
        super().__init__(name, dtype)


class SparseTopKCategoricalAccuracy(_NamedMean):
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


class MeanSquaredError(_NamedMean):
    """Mean of (y_pred - y_true)^2."""

    _FUNCTION = staticmethod(mean_squared_error)
    _NAME = "mean_squared_error"
    _FUSED_FORM = "squared"


class RootMeanSquaredError(_NamedMean):
    """Root of the mean of (y_pred - y_true)^2 over all samples."""

    _FUNCTION = staticmethod(_squared_errors)
    _NAME = "root_mean_squared_error"
    _FUSED_FORM = "squared"

    def result(self) -> float:
        """The figure since the last reset."""
        return self._rounded(math.sqrt(self._mean()))


class MeanAbsoluteError(_NamedMean):
    """Mean of abs(y_pred - y_true)."""

    _FUNCTION = staticmethod(mean_absolute_error)
    _NAME = "mean_absolute_error"
    _FUSED_FORM = "absolute"


class HalfSSE(_NamedMean):
    """Half the sum of squared errors of a sample, the mean over samples; not in Keras."""

    _FUNCTION = staticmethod(half_sse)
    _NAME = "half_sse"
    _FUSED_FORM = "half_squared"


class _Crossentropy(_NamedMean):
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
