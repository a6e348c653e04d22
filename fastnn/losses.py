"""Losses, under Keras's names.

The functions give one loss a sample (the mean over the last axis), for use as metrics and to look at; the classes give
the loss of a batch and its derivative, which is what training needs. ``compile`` takes a name, a function of this
module, a class or an object. A function of one's own has no derivative by itself, so it must return both:
``f(y_true, y_pred) -> (loss, gradient)`` with the gradient of the shape of ``y_pred``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import absent, checks, ops
from fastnn.configurable import Configurable, aliases, find
from fastnn.engine.data import check_finite, numeric_array
from fastnn.engine.protocols import Array, Shape

# Keras keeps probabilities this far from 0 and 1 before it takes their logarithm.
_EPSILON = 1e-7
_REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight")


def _pair(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Targets and outputs as floats of one shape; a missing last axis of length 1 is added to either."""
    pred = numeric_array("y_pred", y_pred)
    pred = pred if pred.dtype.kind == "f" else pred.astype("float32")
    true = numeric_array("y_true", y_true).astype(pred.dtype, copy=False)
    if true.ndim == pred.ndim - 1 and pred.shape[-1] == 1:
        true = true[..., np.newaxis]
    elif pred.ndim == true.ndim - 1 and true.shape[-1] == 1:
        true = true[..., 0]
    if true.shape != pred.shape:
        raise ValueError(f"y_true: got shape {true.shape}, wants {pred.shape}, the shape of y_pred")
    return true, pred


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


def binary_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0) -> Array:
    """Mean of -(t log p + (1 - t) log(1 - p)) over the last axis, in nats."""
    true, pred = _pair(y_true, y_pred)
    true = true * (1 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        losses = np.maximum(pred, 0) - pred * true + np.log1p(np.exp(-np.abs(pred)))
    else:
        p = np.clip(pred, _EPSILON, 1 - _EPSILON)
        losses = -(true * np.log(p) + (1 - true) * np.log(1 - p))
    return np.asarray(losses.mean(axis=-1))


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0
) -> Array:
    """-sum of t log p over the last axis, targets as rows of probabilities, in nats."""
    true, pred = _pair(y_true, y_pred)
    true = true * (1 - label_smoothing) + label_smoothing / true.shape[-1]
    return np.asarray(-(true * _log_probabilities(pred, from_logits)).sum(axis=-1))


def sparse_categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Array:
    """-log p[target], targets as class indices, in nats."""
    pred = numeric_array("y_pred", y_pred)
    pred = pred if pred.dtype.kind == "f" else pred.astype("float32")
    labels = class_labels("y_true", numeric_array("y_true", y_true), pred.shape[1:])
    log_p = _log_probabilities(pred, from_logits)
    return np.asarray(-np.take_along_axis(log_p, labels[..., np.newaxis], axis=-1)[..., 0])


def class_labels(name: str, y: Array, output_shape: Shape) -> Array:
    """Class indices as integers of shape (n, *output_shape[:-1]); ValueError unless whole and in [0, classes)."""
    classes = output_shape[-1]
    wanted = output_shape[:-1]
    if y.shape[1:] == (*wanted, 1):
        y = y[..., 0]
    if y.shape[1:] != wanted:
        hint = ""
        if y.shape[1:] == output_shape:
            hint = "; for one-hot rows use the loss 'categorical_crossentropy'"
        raise ValueError(f"{name}: got shape {y.shape}, wants {_text(wanted)}: one class index a sample{hint}")
    if y.dtype.kind == "f" and y.size and not (y == np.floor(y)).all():
        raise ValueError(f"{name}: got {y[y != np.floor(y)][0]}, wants class indices (whole numbers) in [0, {classes})")
    checks.class_indices(name, y, classes)
    return y.astype(np.int64, copy=False)


def _text(shape: Shape) -> str:
    return f"({', '.join(['n', *map(str, shape)])}{',' * (not shape)})"


class Loss(Configurable):
    """Base class. Subclasses give ``_batch`` (and what else differs); all give the reduction that Keras gives.

    ``reduction``: "sum_over_batch_size" (the mean over samples, whatever their weights; "mean" is the same), "sum", or
    "mean_with_sample_weight" (divided by the sum of the weights).
    """

    integer_targets = False

    def __init__(self, reduction: str = "sum_over_batch_size", name: str | None = None) -> None:
        self.reduction = checks.one_of("reduction", reduction, _REDUCTIONS)
        self.name = name or type(self).__name__

    def check_targets(self, argument: str, y: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """``y`` in the shape that batches need; ValueError where shape or values do not fit the outputs."""
        check_finite(argument, y, dtype)
        if y.ndim == len(output_shape) and output_shape[-1] == 1:
            y = y[..., np.newaxis]
        if y.shape[1:] != output_shape:
            hint = ""
            if y.shape[1:] in (output_shape[:-1], (*output_shape[:-1], 1)):
                hint = self._hint_for_labels()
            raise ValueError(f"{argument}: got shape {y.shape}, wants {_text(output_shape)}, the model's output{hint}")
        return y

    def _hint_for_labels(self) -> str:
        return ""

    def value_and_gradient(
        self, y_true: Array, y_pred: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """Loss of a batch and its derivative by ``y_pred``; both arrays of ``y_pred``'s dtype, weights (n,)."""
        value, gradient = self._batch(y_true, y_pred, sample_weight)
        factor = self._factor(y_pred, sample_weight)
        if factor == 1:
            return value, gradient
        return value * factor, gradient * gradient.dtype.type(factor)

    def _factor(self, y_pred: Array, sample_weight: Array | None) -> float:
        samples = y_pred.size // max(y_pred.shape[-1], 1)
        if self.reduction == "sum":
            return float(samples)
        if self.reduction == "mean_with_sample_weight" and sample_weight is not None:
            total = float(sample_weight.sum())
            return len(sample_weight) / total if total else 0.0
        return 1.0

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        """Mean loss over the batch, each sample's scaled by its weight, and its derivative."""
        raise NotImplementedError

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

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """The loss of ``y_pred``; arrays or nested lists, the first axis is the samples."""
        pred = numeric_array("y_pred", y_pred)
        pred = pred if pred.dtype.kind == "f" else pred.astype("float32")
        if pred.ndim == 1:
            pred = pred[:, np.newaxis]
        true = self.check_targets("y_true", numeric_array("y_true", y_true), tuple(pred.shape[1:]), pred.dtype)
        if len(true) != len(pred):
            raise ValueError(f"y_true: got {len(true)} rows, wants {len(pred)}, as many as y_pred")
        weight = None if sample_weight is None else numeric_array("sample_weight", sample_weight).astype(pred.dtype)
        if weight is not None and weight.shape != pred.shape[:1]:
            raise ValueError(f"sample_weight: got shape {weight.shape}, wants ({len(pred)},)")
        target = np.ascontiguousarray(true, dtype=np.int64 if self.integer_targets else pred.dtype)
        return self.value_and_gradient(target, pred, weight)[0]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"reduction": self.reduction, "name": self.name}


class MeanSquaredError(Loss):
    """Mean of (y_pred - y_true)^2."""

    def __init__(self, reduction: str = "sum_over_batch_size", name: str = "mean_squared_error") -> None:
        super().__init__(reduction, name)

    @property
    def fused_form(self) -> str | None:
        """Its name in the kernels."""
        return "squared"

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        result: tuple[float, Array] = ops.mse(y_pred, y_true, sample_weight)
        return result


class MeanAbsoluteError(Loss):
    """Mean of abs(y_pred - y_true); derivative 0 where they agree."""

    def __init__(self, reduction: str = "sum_over_batch_size", name: str = "mean_absolute_error") -> None:
        super().__init__(reduction, name)

    @property
    def fused_form(self) -> str | None:
        """Its name in the kernels."""
        return "absolute"

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        result: tuple[float, Array] = ops.mae(y_pred, y_true, sample_weight)
        return result


class HalfSSE(Loss):
    """Half the sum of squared errors over the whole batch, as the textbooks' worked examples have it; not in Keras."""

    def __init__(self, name: str = "half_sse") -> None:
        super().__init__(name=name)

    @property
    def fused_form(self) -> str | None:
        """Its name in the kernels."""
        return "half_squared"

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        result: tuple[float, Array] = ops.half_sse(y_pred, y_true, sample_weight)
        return result

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name}


class _Crossentropy(Loss):
    """What the cross-entropies share."""

    _ACTIVATION = "softmax"

    def __init__(self, from_logits: bool, label_smoothing: float, reduction: str, name: str) -> None:
        super().__init__(reduction, name)
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
        reduction: str = "sum_over_batch_size",
        name: str = "binary_crossentropy",
    ) -> None:
        super().__init__(from_logits, label_smoothing, reduction, name)

    def check_targets(self, argument: str, y: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """``y`` in the shape of the outputs; ValueError unless in [0, 1]."""
        y = super().check_targets(argument, y, output_shape, dtype)
        checks.within_unit(argument, y)
        return y

    @property
    def fused_form(self) -> str | None:
        """Its name in the kernels."""
        return "bernoulli_logit" if self.from_logits else "bernoulli"

    def _even(self, width: int) -> float:
        return 0.5

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
        reduction: str = "sum_over_batch_size",
        name: str = "categorical_crossentropy",
    ) -> None:
        super().__init__(from_logits, label_smoothing, reduction, name)

    def check_targets(self, argument: str, y: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """``y`` in the shape of the outputs; ValueError unless rows of probabilities that sum to 1."""
        y = super().check_targets(argument, y, output_shape, dtype)
        checks.probability_rows(argument, y.reshape(-1, output_shape[-1]))
        return y

    def _hint_for_labels(self) -> str:
        return "; for class indices use the loss 'sparse_categorical_crossentropy', or utils.to_categorical"

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        return _cross_entropy(
            self.smoothed(y_true).reshape(-1, y_true.shape[-1]), y_pred, sample_weight, self.from_logits
        )


class SparseCategoricalCrossentropy(_Crossentropy):
    """-log p[target]; targets are class indices."""

    integer_targets = True

    def __init__(
        self,
        from_logits: bool = False,
        reduction: str = "sum_over_batch_size",
        name: str = "sparse_categorical_crossentropy",
    ) -> None:
        super().__init__(from_logits, 0.0, reduction, name)

    def check_targets(self, argument: str, y: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """``y`` as class indices; ValueError unless in [0, classes)."""
        check_finite(argument, y, dtype)
        return class_labels(argument, y, output_shape)

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        return _cross_entropy(y_true.reshape(-1), y_pred, sample_weight, self.from_logits)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"from_logits": self.from_logits, "reduction": self.reduction, "name": self.name}


def _cross_entropy(
    targets: Array, y_pred: Array, sample_weight: Array | None, from_logits: bool
) -> tuple[float, Array]:
    rows = y_pred.reshape(-1, y_pred.shape[-1])
    if sample_weight is not None and len(rows) != len(sample_weight):
        sample_weight = np.repeat(sample_weight, len(rows) // len(sample_weight))
    op = ops.softmax_cross_entropy if from_logits else ops.cross_entropy
    value, gradient = op(rows, targets, sample_weight)
    return value, gradient.reshape(y_pred.shape)


class FunctionLoss(Loss):
    """A function of the user's: ``f(y_true, y_pred) -> (loss, gradient)``; it takes no sample weights."""

    def __init__(self, function: Callable[[Array, Array], tuple[float, Array]]) -> None:
        super().__init__(name=getattr(function, "__name__", type(function).__name__))
        self.function = function

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        if sample_weight is not None:
            raise ValueError(f"sample_weight: got weights, wants None: the function {self.name!r} takes none")
        result = self.function(y_true, y_pred)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"loss: {self.name!r} returned {checks.describe(result)}, wants a pair (loss, gradient)")
        value, gradient = float(result[0]), np.ascontiguousarray(result[1], dtype=y_pred.dtype)
        if gradient.shape != y_pred.shape:
            raise ValueError(f"loss: {self.name!r} returned a gradient of shape {gradient.shape}, wants {y_pred.shape}")
        return value, gradient

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
