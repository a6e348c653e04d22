"""Losses of classes: cross-entropies, hinges, divergences of probabilities."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fastnn import checks, ops
from fastnn.engine.data import along, check_finite, numeric_array
from fastnn.engine.protocols import Array, LossForm, Shape
from fastnn.losses import functions
from fastnn.losses.base import Loss, OpLoss, text_of
from fastnn.samples import class_labels, require_last
from fastnn.tape import kept


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
    def form(self) -> LossForm | None:
        """The kernels' name for it."""
        return LossForm("softmax_cross_entropy" if self.from_logits else "cross_entropy", mean=False)

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
    def form(self) -> LossForm | None:
        """The kernels' name for it."""
        return LossForm("bernoulli_logit" if self.from_logits else "bernoulli")

    def _even(self, width: int) -> float:
        return 0.5

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        return functions.binary_crossentropy(y_true, y_pred, self.from_logits, self.label_smoothing)

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
    _hint_for_labels = functions.HINT_FOR_LABELS

    def _check_values(self, argument: str, y: Array) -> None:
        checks.probability_rows(argument, y.reshape(-1, y.shape[-1]))

    def warn_of_outputs(self, width: int, stacklevel: int = 2) -> None:
        """Warn of a single output, by Keras's category."""
        if width == 1:
            warnings.warn(functions.ONE_OUTPUT, SyntaxWarning, stacklevel=stacklevel)

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        return functions.categorical_rows(y_true, y_pred, self.from_logits, self.label_smoothing)

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        return _cross_entropy(self.smoothed(y_true), y_pred, sample_weight, self.from_logits)


class SparseCategoricalCrossentropy(_Crossentropy):
    """-log p[target]; targets are class indices. Samples of ``ignore_class`` count nothing, in means neither."""

    integer_targets = True
    _separable = False

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        self.ignore_class = None if ignore_class is None else checks.integer("ignore_class", ignore_class)
        super().__init__(from_logits, 0.0, axis, reduction, name, dtype)

    def check_targets(self, argument: str, y: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """``y`` as class indices; ValueError unless in [0, classes) or to be ignored."""
        check_finite(argument, y, dtype)
        shape = (len(y), *output_shape)
        labels, counted = functions.without_ignored(argument, y, shape, self.ignore_class, text_of(output_shape[:-1]))
        return labels if self.ignore_class is None else np.where(np.asarray(counted), labels, self.ignore_class)

    def value_and_gradient(
        self, y_true: Array, y_pred: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """Loss of a batch and its derivative by ``y_pred``, (n, ..., k)."""
        if self.ignore_class is None:
            return super().value_and_gradient(y_true, y_pred, sample_weight)
        labels, counted = functions.without_ignored("y_true", y_true, y_pred.shape, self.ignore_class)
        weight = self._counting(np.asarray(counted), sample_weight, y_pred.dtype)
        return super().value_and_gradient(labels, y_pred, weight)

    def masked(
        self, y_true: Array, y_pred: Array, mask: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """The same of the steps that a mask names, those of the class to be ignored left out, too."""
        if self.ignore_class is None or mask.shape != y_pred.shape[:-1]:
            return super().masked(y_true, y_pred, mask, sample_weight)
        labels, counted = functions.without_ignored("y_true", y_true, y_pred.shape, self.ignore_class)
        return super().masked(labels, y_pred, mask * np.asarray(counted).reshape(mask.shape), sample_weight)

    def shares(self, y_true: Array, batch_size: int, dtype: Any) -> Array | None:
        """What ``ignore_class`` makes of the weights of samples in batches of so many: factors, None without one."""
        return None if self.ignore_class is None else self._shares(y_true != self.ignore_class, batch_size, dtype)

    def _shares(self, counted: Array, batch_size: int, dtype: Any) -> Array:
        """Factors that are 0 where nothing counts, and in means grow by what that leaves out of a batch."""
        if self.reduction not in ("sum_over_batch_size", "mean") or not counted.any():
            return counted.astype(dtype)
        samples = counted.reshape(len(counted) if counted.ndim else 1, -1)
        firsts = np.arange(0, len(samples), batch_size)
        sizes = np.diff(firsts, append=len(samples))
        found = np.add.reduceat(np.count_nonzero(samples, axis=1), firsts)
        growth = np.repeat(sizes * samples.shape[1] / np.maximum(found, 1), sizes)
        return (samples * growth[:, np.newaxis]).astype(dtype).reshape(counted.shape)

    def _counting(self, counted: Array, weight: Array | None, dtype: Any) -> Array:
        """The weights of one batch, with those at 0 that do not count."""
        share = self._shares(counted, counted.size, dtype)
        return share if weight is None else share * along(weight, counted.shape)

    def _samples(self, y_true: Array, y_pred: Array) -> Array:
        return functions.sparse_categorical_crossentropy(y_true, y_pred, self.from_logits, self.ignore_class)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of ``y_pred``, a float, or without reduction an array; arrays or nested lists."""
        if self.ignore_class is None:
            return super().__call__(y_true, y_pred, sample_weight)
        pred, true = functions.floats("y_pred", y_pred, self.dtype), numeric_array("y_true", y_true)
        _, counted = functions.without_ignored("y_true", true, pred.shape, self.ignore_class)
        weight = None if sample_weight is None else np.asarray(sample_weight, pred.dtype)
        return super().__call__(true, pred, self._counting(np.asarray(counted), weight, pred.dtype))

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        return _cross_entropy(y_true, y_pred, sample_weight, self.from_logits)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"from_logits": self.from_logits, "ignore_class": self.ignore_class, **Loss.get_config(self)}


def _cross_entropy(
    targets: Array, y_pred: Array, sample_weight: Array | None, from_logits: bool
) -> tuple[float, Array]:
    op = ops.softmax_cross_entropy if from_logits else ops.cross_entropy
    result: tuple[float, Array] = op(y_pred, targets, sample_weight)
    return result


class BinaryFocalCrossentropy(BinaryCrossentropy):
    """Binary cross-entropy of which easy cases count less: times (1 - p_t)^gamma, p_t the probability of what is true.

    With ``apply_class_balancing`` also times ``alpha`` for targets of 1, 1 - ``alpha`` for those of 0.
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        self.apply_class_balancing = checks.instance(
            "apply_class_balancing", apply_class_balancing, bool, "True or False"
        )
        self.alpha = checks.real("alpha", alpha, minimum=0, maximum=1)
        self.gamma = checks.real("gamma", gamma, minimum=0)
        super().__init__(from_logits, label_smoothing, axis, reduction, name, dtype)

    def _numbers(self) -> tuple[float, float, float]:
        """Gamma, and the weights of targets of 1 and of 0."""
        return (self.gamma, self.alpha, 1 - self.alpha) if self.apply_class_balancing else (self.gamma, 1.0, 1.0)

    @property
    def form(self) -> LossForm | None:
        """The kernels' name for it."""
        return LossForm("bernoulli_logit_focal" if self.from_logits else "bernoulli_focal", self._numbers())

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        balance = self.apply_class_balancing, self.alpha, self.gamma
        return functions.binary_focal_crossentropy(y_true, y_pred, *balance, self.from_logits, self.label_smoothing)

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        target = self.smoothed(y_true)
        result: tuple[float, Array] = ops.binary_focal_cross_entropy(
            y_pred, target, sample_weight, *self._numbers(), from_logits=self.from_logits
        )
        return result

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"apply_class_balancing": self.apply_class_balancing, "alpha": self.alpha, "gamma": self.gamma}
        return {**own, **super().get_config()}


class CategoricalFocalCrossentropy(CategoricalCrossentropy):
    """-sum of alpha t (1 - p)^gamma log p: classes that are told easily count less; ``alpha`` may be one a class."""

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        each = alpha if isinstance(alpha, (list, tuple, np.ndarray)) else [alpha]
        checked = [checks.real("alpha", number, minimum=0) for number in each]
        self.alpha: float | list[float] = checked if each is alpha else checked[0]
        self.gamma = checks.real("gamma", gamma, minimum=0)
        super().__init__(from_logits, label_smoothing, axis, reduction, name, dtype)

    @property
    def form(self) -> LossForm | None:
        """The kernels' name for it; ``alpha`` is in the targets."""
        return LossForm("softmax_focal" if self.from_logits else "focal", (self.gamma,), mean=False)

    def smoothed(self, y_true: Array) -> Array:
        """The rows that outputs are compared with, times ``alpha``."""
        rows = super().smoothed(y_true)
        if isinstance(self.alpha, float):
            return rows * self.alpha
        each = np.asarray(self.alpha, rows.dtype)
        result: Array = ops.multiply(rows, kept(("alpha", *self.alpha, rows.dtype), rows, lambda: each))
        return result

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        options = self.gamma, self.from_logits, self.label_smoothing
        return functions.categorical_focal_crossentropy(y_true, y_pred, self.alpha, *options)

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        target = self.smoothed(y_true)
        result: tuple[float, Array] = ops.categorical_focal_cross_entropy(
            y_pred, target, sample_weight, self.gamma, self.from_logits
        )
        return result

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"alpha": self.alpha, "gamma": self.gamma, **super().get_config()}


# What makes the least y (y - 1) of a target that is neither 0 nor 1 larger than 1.
_BEYOND_ONE = 1e30


class _Hinge(OpLoss):
    """What hinge losses of signs share."""

    def smoothed(self, y_true: Array) -> Array:
        """Targets of which all are 0 and 1 as -1 and 1: y + (y - 1) s, s = 1 - min(1, 1e30 max |y (y - 1)|).

        So nobody has to look at a device's targets, nor a program at the next batch's.
        """
        less = ops.subtract(y_true, 1.0)
        off = ops.max(ops.abs(ops.multiply(y_true, less)), keepdims=True)
        are_bits = ops.subtract(1.0, ops.minimum(ops.multiply(off, _BEYOND_ONE), 1.0))
        signs: Array = ops.add(y_true, ops.multiply(less, are_bits))
        return signs


class Hinge(_Hinge):
    """Mean of max(0, 1 - y_true * y_pred); targets are -1 and 1, or all of them 0 and 1."""

    _OP, _FORM = "hinge", LossForm("hinge")
    _FUNCTION = staticmethod(functions.hinge)

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "hinge", dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)


class SquaredHinge(_Hinge):
    """Mean of max(0, 1 - y_true * y_pred)^2; targets are -1 and 1, or all of them 0 and 1."""

    _OP, _FORM = "squared_hinge", LossForm("squared_hinge")
    _FUNCTION = staticmethod(functions.squared_hinge)

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "squared_hinge", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class CategoricalHinge(OpLoss):
    """max(0, 1 + largest of the wrong outputs - the right one); targets are one-hot rows."""

    _OP, _FORM = "categorical_hinge", LossForm("categorical_hinge", mean=False)
    _FUNCTION = staticmethod(functions.categorical_hinge)
    _separable = False
    _hint_for_labels = functions.HINT_FOR_LABELS

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "categorical_hinge", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class KLDivergence(OpLoss):
    """Sum of y_true * log(y_true / y_pred), both kept within [1e-7, 1]: rows of probabilities."""

    _OP, _FORM = "kl_divergence", LossForm("divergence", mean=False)
    _FUNCTION = staticmethod(functions.kl_divergence)
    _separable = False

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "kl_divergence", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class _OfLabels(OpLoss):
    """What losses of scores and class indices share."""

    integer_targets = True
    _separable = False

    def check_targets(self, argument: str, y: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """``y`` as class indices; ValueError unless in [0, classes)."""
        check_finite(argument, y, dtype)
        return class_labels(argument, y, (len(y), *output_shape), text_of(output_shape[:-1]))

    def _samples(self, y_true: Array, y_pred: Array) -> Array:
        return type(self)._FUNCTION(y_true, y_pred)


class MulticlassHinge(_OfLabels):
    """Sum over the wrong classes j of max(0, s_j - s_y + 1); targets are class indices y. Not in Keras."""

    _OP, _FORM = "multiclass_hinge", LossForm("multiclass_hinge", mean=False)
    _FUNCTION = staticmethod(functions.multiclass_hinge)

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "multiclass_hinge", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class NegativeLogLikelihood(_OfLabels):
    """-y_pred[target], outputs being logarithms of probabilities ("log_softmax"). Not in Keras."""

    _OP, _FORM = "nll", LossForm("likelihood", mean=False)
    _FUNCTION = staticmethod(functions.negative_log_likelihood)

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "negative_log_likelihood",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
