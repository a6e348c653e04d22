"""Losses, under Keras's names.

The functions give one loss a sample: what they say of the last axis, so (n, k) gives (n,), (n, t, k) gives (n, t), and
arrays of one axis are one sample. The classes reduce that to the loss of a batch and know its derivative, which is what
training needs. ``compile`` takes a name, a function of this module, a class or an object. A function of one's own has
no derivative by itself, so it must return both: ``f(y_true, y_pred) -> (loss, gradient)`` with the gradient of the
shape of ``y_pred``.

Where one array lacks a last axis of length 1 that the other one has, the two are brought together as in Keras: (n,)
gets it, an array of more axes loses it. Sizes that still differ are an error (Keras broadcasts).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import absent, checks, ops
from fastnn.configurable import Configurable, aliases, find, undefined
from fastnn.engine.data import check_finite, numeric_array
from fastnn.engine.protocols import Array, Shape
from fastnn.samples import (
    along,
    class_labels,
    require_last,
    require_no_ignored,
    same_shape,
    total_weight,
    weighed,
    weights_of,
)

# Keras keeps probabilities this far from 0 and 1 before it takes their logarithm.
_EPSILON = 1e-7
# What is less work than a class.
_OR_A_FUNCTION = "a loss may also be a function f(y_true, y_pred) -> (loss, gradient)"
_REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none")


def _floats(name: str, value: Any, dtype: str | None = None) -> Array:
    """``value`` in ``dtype``; without one as it is if it is float32 or wider, else as float32."""
    array = numeric_array(name, value)
    if dtype is None and array.dtype.kind == "f" and array.dtype.itemsize >= np.dtype(np.float32).itemsize:
        return array
    return array.astype(dtype or np.float32, copy=False)


def _pair(y_true: Any, y_pred: Any, hint: str = "") -> tuple[Array, Array]:
    """Targets and outputs as floats of one dtype and shape; ``hint`` ends the message where sizes differ."""
    pred = _floats("y_pred", y_pred)
    return same_shape(numeric_array("y_true", y_true).astype(pred.dtype, copy=False), pred, hint)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return log_p


def _log_probabilities(y_pred: Array, from_logits: bool) -> Array:
    if from_logits:
        return _log_softmax(y_pred)
    scaled = y_pred / y_pred.sum(axis=-1, keepdims=True)
    log_p: Array = np.log(np.clip(scaled, _EPSILON, 1 - _EPSILON))
    return log_p


def mean_squared_error(y_true: Any, y_pred: Any) -> Array:
    """Mean of (y_pred - y_true)^2 over the last axis."""
    true, pred = _pair(y_true, y_pred)
    return np.asarray(np.square(pred - true).mean(axis=-1))


def mean_absolute_error(y_true: Any, y_pred: Any) -> Array:
    """Mean of abs(y_pred - y_true) over the last axis."""
    true, pred = _pair(y_true, y_pred)
    return np.asarray(np.abs(pred - true).mean(axis=-1))


def half_sse(y_true: Any, y_pred: Any) -> Array:
    """Half the sum of (y_pred - y_true)^2 over the last axis."""
    true, pred = _pair(y_true, y_pred)
    return np.asarray(0.5 * np.square(pred - true).sum(axis=-1))


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    """Mean of -(t log p + (1 - t) log(1 - p)) over the last axis, in nats; ``axis`` is -1."""
    require_last(axis)
    true, pred = _pair(y_true, y_pred)
    true = true * (1 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        losses = np.maximum(pred, 0) - pred * true + np.log1p(np.exp(-np.abs(pred)))
    else:
        p = np.clip(pred, _EPSILON, 1 - _EPSILON)
        losses = -(true * np.log(p) + (1 - true) * np.log(1 - p))
    return np.asarray(losses.mean(axis=-1))


_HINT_FOR_LABELS = "; for class indices use the loss 'sparse_categorical_crossentropy', or utils.to_categorical"


_ONE_OUTPUT = (
    "the categorical cross-entropy of one output is 0 whatever that is, so nothing can be learned from it: use "
    "'binary_crossentropy', or give the last layer one output a class"
)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    """-sum of t log p over the last axis, targets as rows of probabilities, in nats; ``axis`` is -1.

    Warns of a single output, by Keras's category.
    """
    require_last(axis)
    true, pred = _pair(y_true, y_pred, _HINT_FOR_LABELS)
    if pred.shape[-1] == 1:
        warnings.warn(_ONE_OUTPUT, SyntaxWarning, stacklevel=2)
    return _categorical_rows(true, pred, from_logits, label_smoothing)


def _categorical_rows(true: Array, pred: Array, from_logits: bool, label_smoothing: float) -> Array:
    true = true * (1 - label_smoothing) + label_smoothing / true.shape[-1]
    return np.asarray(-(true * _log_probabilities(pred, from_logits)).sum(axis=-1))


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: None = None, axis: int = -1
) -> Array:
    """-log p[target], targets as class indices, in nats; ``ignore_class`` is None, ``axis`` -1."""
    require_no_ignored(ignore_class)
    require_last(axis)
    pred = _floats("y_pred", y_pred)
    labels = class_labels("y_true", numeric_array("y_true", y_true), pred.shape)
    log_p = _log_probabilities(pred, from_logits)
    return np.asarray(-np.take_along_axis(log_p, labels[..., np.newaxis], axis=-1)[..., 0])


def _text(shape: Shape) -> str:
    return f"({', '.join(['n', *map(str, shape)])}{',' * (not shape)})"


class Loss(Configurable):
    """Base class. Subclasses give ``_rows`` and ``_batch`` (and what else differs); all reduce as Keras does.

    ``reduction``: "sum_over_batch_size" (the mean over samples, whatever their weights; "mean" is the same), "sum",
    "mean_with_sample_weight" (the sum divided by that of the weights as they were given), or None ("none"): the loss of
    every sample, which nothing can be trained on. ``dtype`` is that in which a direct call computes, by default that of
    ``y_pred``; training computes in the model's.

    Called as ``loss(y_true, y_pred, sample_weight)`` it gives a float, without reduction an array. Weights are a single
    number, or an array along the first axes of the samples' losses; (n,) or (n, 1) for (n,), (n, t) or (n, t, 1) for
    (n, t). Other than in Keras (n,) is one weight a sample for losses (n, t) too, arrays of one axis are n samples if
    they come with n weights, and targets that cannot be meant are refused: NaN and infinity, class indices or
    probabilities out of range, rows of probabilities that do not sum to 1.
    """

    integer_targets = False
    # Whether the loss of a row is a mean or sum over its outputs, so that each output may as well be a sample.
    _separable = True
    # What ends the message where targets look like class indices.
    _hint_for_labels = ""

    def __init__(
        self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None
    ) -> None:
        self.name = name or type(self).__name__
        self.reduction = None if reduction is None else checks.one_of("reduction", reduction, _REDUCTIONS)
        self.dtype = checks.float_dtype("dtype", dtype)

    @property
    def reduces(self) -> bool:
        """Whether the loss of a batch is one number."""
        return self.reduction not in (None, "none")

    def check_targets(self, argument: str, y: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """``y`` in the shape that batches need; ValueError where shape or values do not fit the outputs."""
        check_finite(argument, y, dtype)
        if y.ndim == len(output_shape) and output_shape[-1] == 1:
            y = y[..., np.newaxis]
        if y.shape[1:] != output_shape:
            hint = ""
            if y.shape[1:] in (output_shape[:-1], (*output_shape[:-1], 1)):
                hint = self._hint_for_labels
            raise ValueError(f"{argument}: got shape {y.shape}, wants {_text(output_shape)}, the model's output{hint}")
        self._check_values(argument, y)
        return y

    def _check_values(self, argument: str, y: Array) -> None:
        """Raise unless finite targets of the shape of the outputs are such as this loss can be meant for."""

    def warn_of_outputs(self, width: int, stacklevel: int = 2) -> None:
        """Warn where rows of ``width`` outputs make no sense to this loss."""

    def value_and_gradient(
        self, y_true: Array, y_pred: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """Loss of a batch and its derivative by ``y_pred``, (n, ..., k).

        Arrays of ``y_pred``'s dtype; weights along its first axes, such as (n,), or (n, t) for (n, t, k).
        """
        lead = y_pred.shape[:-1]
        rows = y_pred.reshape(math.prod(lead), y_pred.shape[-1])
        true = y_true.reshape(-1) if self.integer_targets else y_true.reshape(rows.shape)
        weight = None
        if sample_weight is not None:
            weight = np.broadcast_to(along(sample_weight, lead), lead).flatten()
        value, gradient = self._batch(true, rows, weight)
        factor = self._factor(lead, sample_weight)
        if factor != 1:
            value, gradient = value * factor, gradient * gradient.dtype.type(factor)
        return value, gradient.reshape(y_pred.shape)

    def _factor(self, lead: Shape, sample_weight: Array | None) -> float:
        """What makes the reduction out of a mean over samples."""
        if self.reduction == "sum":
            return float(math.prod(lead))
        if self.reduction == "mean_with_sample_weight" and sample_weight is not None:
            total = total_weight(sample_weight, lead)
            return math.prod(lead) / total if total else 0.0
        return 1.0

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        """Mean loss over rows of outputs, each row's scaled by its weight, and its derivative."""
        raise undefined(self, f"_batch(y_true, y_pred, sample_weight) -> (loss, gradient); {_OR_A_FUNCTION}")

    def _samples(self, y_true: Array, y_pred: Array) -> Array:
        """The loss of every sample; ValueError where the targets do not fit."""
        true, pred = _pair(y_true, y_pred, self._hint_for_labels)
        self._check_values("y_true", true)
        return self._rows(true, pred)

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        """The loss of every row of outputs, for targets of the same shape."""
        raise undefined(self, f"_rows(y_true, y_pred) -> the loss of every row; {_OR_A_FUNCTION}")

    def logits_form(self, activation: str) -> Loss | None:
        """The loss that on the activation's input equals this one on its output; None where there is none."""
        return None

    @property
    def fused_form(self) -> str | None:
        """The kernels' name for the loss of a row of smoothed targets; None where it is none of theirs."""
        return None

    def smoothed(self, y_true: Array) -> Array:
        """The rows that outputs are compared with: ``y_true`` itself where nothing is smoothed."""
        return y_true

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of ``y_pred``, a float, or without reduction an array; arrays or nested lists.

        Infinite or NaN, without a warning, where outputs are or numbers grow too large.
        """
        pred, true = _floats("y_pred", y_pred, self.dtype), numeric_array("y_true", y_true)
        check_finite("y_true", true, pred.dtype)
        weight = None if sample_weight is None else weights_of(sample_weight)
        if self._separable and weight is not None and pred.ndim == true.ndim == 1 < weight.size == pred.size:
            pred, true, weight = pred[:, np.newaxis], true[:, np.newaxis], weight.reshape(-1)
        self.warn_of_outputs(pred.shape[-1], stacklevel=3)
        with np.errstate(all="ignore"):
            return self._reduced(self._samples(true, pred), weight)

    def _reduced(self, values: Array, weight: Array | None) -> Any:
        weighted, divisor = values, float(values.size)
        if weight is not None:
            values, weight = weighed(values, weight)
            weighted = values * along(weight, values.shape)
            if self.reduction == "mean_with_sample_weight":
                divisor = total_weight(weight, values.shape)
        if not self.reduces:
            return np.asarray(weighted, values.dtype)
        total = float(weighted.sum(dtype=np.float64))
        if self.reduction == "sum" or values.ndim == 0:
            return total
        return total / divisor if divisor else 0.0

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"reduction": self.reduction, "name": self.name, "dtype": self.dtype}


class MeanSquaredError(Loss):
    """Mean of (y_pred - y_true)^2."""

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_squared_error", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)

    @property
    def fused_form(self) -> str | None:
        """Its name in the kernels."""
        return "squared"

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        return mean_squared_error(y_true, y_pred)

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        result: tuple[float, Array] = ops.mse(y_pred, y_true, sample_weight)
        return result


class MeanAbsoluteError(Loss):
    """Mean of abs(y_pred - y_true); derivative 0 where they agree."""

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_absolute_error", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)

    @property
    def fused_form(self) -> str | None:
        """Its name in the kernels."""
        return "absolute"

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        return mean_absolute_error(y_true, y_pred)

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        result: tuple[float, Array] = ops.mae(y_pred, y_true, sample_weight)
        return result


class HalfSSE(Loss):
    """Half the sum of squared errors over the whole batch, as the textbooks' worked examples have it; not in Keras."""

    def __init__(self, name: str = "half_sse", dtype: Any = None) -> None:
        super().__init__(name, "sum", dtype)

    @property
    def fused_form(self) -> str | None:
        """Its name in the kernels."""
        return "half_squared"

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        return half_sse(y_true, y_pred)

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        result: tuple[float, Array] = ops.half_sse(y_pred, y_true, sample_weight)
        return result

    def _factor(self, lead: Shape, sample_weight: Array | None) -> float:
        """The op gives the sum already."""
        return 1.0

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype}


class _Crossentropy(Loss):
    """What the cross-entropies share."""

    _ACTIVATION = "softmax"

    def __init__(
        self, from_logits: bool, label_smoothing: float, axis: int, reduction: str | None, name: str, dtype: Any
    ) -> None:
        super().__init__(name, reduction, dtype)
        require_last(axis)
        self.from_logits = checks.instance("from_logits", from_logits, bool, "True or False")
        self.label_smoothing = checks.real("label_smoothing", label_smoothing, minimum=0, maximum=1)

    def logits_form(self, activation: str) -> Loss | None:
        """The same loss on logits, if the last activation is the one that makes this loss's probabilities."""
        if self.from_logits or activation != self._ACTIVATION:
            return None
        return type(self).from_config({**self.get_config(), "from_logits": True})

    @property
    def fused_form(self) -> str | None:
        """Its name in the kernels."""
        return "softmax_cross_entropy" if self.from_logits else "cross_entropy"

    def smoothed(self, y_true: Array) -> Array:
        """The rows that outputs are compared with: a share of ``label_smoothing`` of each is spread evenly."""
        if not self.label_smoothing:
            return y_true
        return y_true * (1 - self.label_smoothing) + self.label_smoothing * self._even(y_true.shape[-1])

    def _even(self, width: int) -> float:
        """The probability that an outcome has if all are alike."""
        return 1 / width

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"from_logits": self.from_logits, "label_smoothing": self.label_smoothing}
        return {**own, **super().get_config()}


class BinaryCrossentropy(_Crossentropy):
    """-(t log p + (1 - t) log(1 - p)), the mean over all outputs; targets in [0, 1]."""

    _ACTIVATION = "sigmoid"

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, label_smoothing, axis, reduction, name, dtype)

    def _check_values(self, argument: str, y: Array) -> None:
        checks.within_unit(argument, y)

    @property
    def fused_form(self) -> str | None:
        """Its name in the kernels."""
        return "bernoulli_logit" if self.from_logits else "bernoulli"

    def _even(self, width: int) -> float:
        return 0.5

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        return binary_crossentropy(y_true, y_pred, self.from_logits, self.label_smoothing)

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        target = self.smoothed(y_true)
        result: tuple[float, Array] = ops.binary_cross_entropy(y_pred, target, sample_weight, self.from_logits)
        return result


class CategoricalCrossentropy(_Crossentropy):
    """-sum of t log p; targets are rows of probabilities, mostly one-hot. Rows of p are scaled to sum to 1."""

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, label_smoothing, axis, reduction, name, dtype)

    _separable = False
    _hint_for_labels = _HINT_FOR_LABELS

    def _check_values(self, argument: str, y: Array) -> None:
        checks.probability_rows(argument, y.reshape(-1, y.shape[-1]))

    def warn_of_outputs(self, width: int, stacklevel: int = 2) -> None:
        """Warn of a single output, by Keras's category."""
        if width == 1:
            warnings.warn(_ONE_OUTPUT, SyntaxWarning, stacklevel=stacklevel)

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        return _categorical_rows(y_true, y_pred, self.from_logits, self.label_smoothing)

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        return _cross_entropy(self.smoothed(y_true), y_pred, sample_weight, self.from_logits)


class SparseCategoricalCrossentropy(_Crossentropy):
    """-log p[target]; targets are class indices."""

    integer_targets = True
    _separable = False

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        require_no_ignored(ignore_class)
        super().__init__(from_logits, 0.0, axis, reduction, name, dtype)

    def check_targets(self, argument: str, y: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """``y`` as class indices; ValueError unless in [0, classes)."""
        check_finite(argument, y, dtype)
        return class_labels(argument, y, (len(y), *output_shape), _text(output_shape[:-1]))

    def _samples(self, y_true: Array, y_pred: Array) -> Array:
        return sparse_categorical_crossentropy(y_true, y_pred, self.from_logits)

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        return _cross_entropy(y_true, y_pred, sample_weight, self.from_logits)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"from_logits": self.from_logits, **Loss.get_config(self)}


def _cross_entropy(
    targets: Array, y_pred: Array, sample_weight: Array | None, from_logits: bool
) -> tuple[float, Array]:
    op = ops.softmax_cross_entropy if from_logits else ops.cross_entropy
    result: tuple[float, Array] = op(y_pred, targets, sample_weight)
    return result


class FunctionLoss(Loss):
    """A function of the user's: ``f(y_true, y_pred) -> (loss, gradient)``; it takes no sample weights."""

    def __init__(self, function: Callable[[Array, Array], tuple[float, Array]]) -> None:
        super().__init__(name=getattr(function, "__name__", type(function).__name__))
        self.function = function

    def value_and_gradient(
        self, y_true: Array, y_pred: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """What the function gives for a batch; ValueError with weights, or where that is no loss and gradient."""
        if sample_weight is not None:
            raise ValueError(f"sample_weight: got weights, wants None: the function {self.name!r} takes none")
        result = self.function(y_true, y_pred)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"loss: {self.name!r} returned {checks.describe(result)}, wants a pair (loss, gradient)")
        value, gradient = float(result[0]), np.ascontiguousarray(result[1], dtype=y_pred.dtype)
        if gradient.shape != y_pred.shape:
            raise ValueError(f"loss: {self.name!r} returned a gradient of shape {gradient.shape}, wants {y_pred.shape}")
        return value, gradient

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """The loss that the function gives."""
        return self.value_and_gradient(*_pair(y_true, y_pred), sample_weight)[0]

    def get_config(self) -> dict[str, Any]:
        """A function cannot be written to a file."""
        raise ValueError(
            f"loss: got the function {self.name!r}, which a model file cannot hold; wants a loss of fastnn's"
        )


# The functions that stand for classes when they are given to compile.
_BY_FUNCTION: dict[Callable[..., Any], type[Loss]] = {
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    half_sse: HalfSSE,
    binary_crossentropy: BinaryCrossentropy,
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
}

NAMES = aliases(
    _BY_FUNCTION.values(),
    half_sse=HalfSSE,
    mse=MeanSquaredError,
    MSE=MeanSquaredError,
    mae=MeanAbsoluteError,
    MAE=MeanAbsoluteError,
    bce=BinaryCrossentropy,
    BCE=BinaryCrossentropy,
)


def get(identifier: Any, argument: str = "loss") -> Loss:
    """The loss that ``identifier`` means: a name, a function, a class, an object or a config."""
    if callable(identifier) and not isinstance(identifier, (type, Loss)):
        cls = _BY_FUNCTION.get(identifier)
        return FunctionLoss(identifier) if cls is None else cls()
    return find(argument, identifier, Loss, NAMES)


__all__ = ["Loss", "get", *(cls.__name__ for cls in _BY_FUNCTION.values()), *(f.__name__ for f in _BY_FUNCTION)]
absent.explain(__name__)
