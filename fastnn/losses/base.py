"""What losses share: reductions, checks of targets, and functions of the user's as losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from fastnn import checks, ops
from fastnn.configurable import Configurable, undefined
from fastnn.differentiation import joined, vjp
from fastnn.engine.data import along, check_finite, numeric_array
from fastnn.engine.protocols import Array, LossForm, Shape
from fastnn.losses.functions import floats, pair
from fastnn.samples import total_weight, weighed, weights_of
from fastnn.tape import Followed, Traced, calculate

# What is less work than a class.
_OR_A_FUNCTION = "a loss may also be a function f(y_true, y_pred) of fastnn.ops, or one -> (loss, gradient)"
# Less than any weights that count together.
_LEAST_COUNT = 1e-20
_REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none")


def text_of(shape: Shape) -> str:
    """The shape of n samples, for messages."""
    return f"({', '.join(['n', *map(str, shape)])}{',' * (not shape)})"


class Loss(Configurable):
    """Base class; all reduce as Keras does.

    A loss of your own defines ``call(y_true, y_pred)`` over ``fastnn.ops``, which gives a number a sample, or one for
    all; its gradient is derived, and targets may have any shape. fastnn's give ``_rows`` and ``_batch``, and what else
    differs.

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
    # The class whose samples do not count.
    ignore_class: int | None = None
    # What the loss is multiplied by where training reports it; gradients are those of the loss itself.
    figure_scale = 1.0
    # Whether the loss of a row is a mean or sum over its outputs, so that each output may as well be a sample.
    _separable = True
    # What ends the message where targets look like class indices.
    _hint_for_labels = ""

    # Whether subclasses define ``call``, and whether targets may have any shape.
    _by_call = False
    _any_targets = False

    def __init_subclass__(cls) -> None:
        """One with ``call`` has its gradient derived; a ``__call__`` of its own may stand in its place."""
        super().__init_subclass__()
        knows_gradient = (cls._batch, cls.value_and_gradient) != (Loss._batch, Loss.value_and_gradient)
        if "__call__" in vars(cls) and not knows_gradient and not cls._by_call:
            cls.call = cls.__call__  # type: ignore[method-assign]
        cls._by_call = cls._by_call or "call" in vars(cls)
        cls._any_targets = vars(cls).get("_any_targets", cls._by_call)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of every sample, or a number, made of ``fastnn.ops``."""
        raise undefined(self, f"call(y_true, y_pred) over fastnn.ops; {_OR_A_FUNCTION}")

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
        if y.shape[1:] != output_shape and not self._any_targets:
            hint = ""
            if y.shape[1:] in (output_shape[:-1], (*output_shape[:-1], 1)):
                hint = self._hint_for_labels
            raise ValueError(
                f"{argument}: got shape {y.shape}, wants {text_of(output_shape)}, the model's output{hint}"
            )
        self._check_values(argument, y)
        return y

    def _check_values(self, argument: str, y: Array) -> None:
        """Raise unless finite targets of the shape of the outputs are such as this loss can be meant for."""

    def _followed(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Any:
        """The loss of outputs that are followed for gradients, or a program's; of such targets, too."""
        if isinstance(y_true, Traced):
            return self._of_both(y_true, y_pred, sample_weight)
        pred = y_pred.value if isinstance(y_pred, Traced) else y_pred
        true = y_true
        if not isinstance(true, Followed):
            true = self.check_targets("y_true", numeric_array("y_true", true), tuple(pred.shape[1:]), pred.dtype)
            true = np.ascontiguousarray(true, np.int64 if self.integer_targets else pred.dtype)
        weight = None if sample_weight is None else np.asarray(sample_weight, pred.dtype)
        value, slope = self.value_and_gradient(true, pred, weight)
        if not isinstance(y_pred, Traced):
            return value
        return joined(value, {"y_pred": y_pred}, lambda dy: {"y_pred": calculate("scaled", x=slope, factor=dy)})

    def _of_both(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Any:
        """The same by ops that know derivatives by targets, too."""
        values = self.call(y_true, y_pred) if self._by_call else self._rows(y_true, y_pred)
        size, total = math.prod(values.shape), 1.0 if self.reduction == "sum" else math.prod(values.shape)
        if sample_weight is not None:
            weight = np.asarray(sample_weight, y_pred.dtype)
            values = ops.multiply(values, np.broadcast_to(along(weight, values.shape), values.shape).copy())
            if self.reduction == "mean_with_sample_weight":
                total = total_weight(weight, values.shape)
        if not self.reduces:
            return values
        return ops.sum(values) * (1.0 / total if size and total else 0.0)

    def warn_of_outputs(self, width: int, stacklevel: int = 2) -> None:
        """Warn where rows of ``width`` outputs make no sense to this loss."""

    def value_and_gradient(
        self, y_true: Array, y_pred: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """Loss of a batch and its derivative by ``y_pred``, (n, ..., k).

        Arrays of ``y_pred``'s dtype; weights along its first axes, such as (n,), or (n, t) for (n, t, k).
        """
        if self._by_call:
            return derived(self, self.call, y_true, y_pred, sample_weight)
        factor = self._factor(y_pred.shape[:-1], sample_weight)
        return self._of_samples(y_true, y_pred, sample_weight, factor)

    def masked(
        self, y_true: Array, y_pred: Array, mask: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """The same of the steps that a mask (n, t) of 0 and 1 names, for outputs (n, t, k): means are over these.

        Where outputs have no such steps it says nothing.
        """
        if self._by_call:
            return derived(self, self.call, y_true, y_pred, sample_weight, mask)
        lead = y_pred.shape[:-1]
        if mask.shape != lead:
            return self.value_and_gradient(y_true, y_pred, sample_weight)
        weight = steps_weights(self.reduction, mask, sample_weight)
        return self._of_samples(y_true, y_pred, weight, float(math.prod(lead)) if self.reduction == "sum" else 1.0)

    def _of_samples(
        self, y_true: Array, y_pred: Array, sample_weight: Array | None, factor: float
    ) -> tuple[float, Array]:
        """The mean over samples, by their weights, times a factor, and its derivative."""
        lead = y_pred.shape[:-1]
        rows = y_pred.reshape(math.prod(lead), y_pred.shape[-1])
        true = y_true.reshape(-1) if self.integer_targets else y_true.reshape(rows.shape)
        weight = sample_weight
        if weight is not None:
            weight = weight if weight.shape == lead else np.broadcast_to(along(weight, lead), lead)
            weight = weight.reshape(-1)
        value, gradient = self._batch(true, rows, weight)
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
        true, pred = pair(y_true, y_pred, self._hint_for_labels)
        self._check_values("y_true", true)
        return np.asarray(self.call(true.astype(pred.dtype), pred)) if self._by_call else self._rows(true, pred)

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        """The loss of every row of outputs, for targets of the same shape."""
        raise undefined(self, f"_rows(y_true, y_pred) -> the loss of every row; {_OR_A_FUNCTION}")

    def logits_form(self, activation: str) -> Loss | None:
        """The loss that on the activation's input equals this one on its output; None where there is none."""
        return None

    @property
    def form(self) -> LossForm | None:
        """The kernels' name for the loss of a row of smoothed targets; None where it is none of theirs."""
        return None

    @property
    def made_of_ops(self) -> bool:
        """Whether ``value_and_gradient`` is ops, wherever its arrays lie: one that looks at targets is not."""
        return (self.form is not None and self.ignore_class is None) or self._by_call

    def smoothed(self, y_true: Array) -> Array:
        """The rows that outputs are compared with: ``y_true`` itself where nothing is smoothed."""
        return y_true

    def shares(self, y_true: Array, batch_size: int, dtype: Any) -> Array | None:
        """What ``ignore_class`` makes of the weights of samples in batches of so many: factors, None without one."""
        return None

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of ``y_pred``, a float, or without reduction an array; arrays or nested lists.

        Infinite or NaN, without a warning, where outputs are or numbers grow too large.
        """
        if isinstance(y_pred, Followed) or isinstance(y_true, Traced):
            return self._followed(y_true, y_pred, sample_weight)
        pred, true = floats("y_pred", y_pred, self.dtype), numeric_array("y_true", y_true)
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


class AddedLoss(Loss):
    """No loss of outputs: what layers add is all that there is."""

    @property
    def made_of_ops(self) -> bool:
        """It calls none that matters."""
        return True

    def check_targets(self, argument: str, y: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Any finite numbers."""
        check_finite(argument, y, dtype)
        return y

    def value_and_gradient(
        self, y_true: Array, y_pred: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """0, of any outputs."""
        return 0.0, calculate("zeros", x=y_pred)


class OpLoss(Loss):
    """A loss of the kernels': what subclasses say of it, and its arguments, by name."""

    # The op, the kernels' name for the loss of a row, the function of samples, and the numbers that all of them take.
    _OP: ClassVar[str]
    _FORM: ClassVar[LossForm]
    _FUNCTION: ClassVar[Callable[..., Array]]
    _NUMBERS: ClassVar[tuple[str, ...]] = ()

    def _numbers(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in self._NUMBERS}

    @property
    def form(self) -> LossForm | None:
        """The kernels' name for it, with its numbers."""
        return self._FORM._replace(numbers=tuple(self._numbers().values()))

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        return type(self)._FUNCTION(y_true, y_pred, **self._numbers())

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        targets = self.smoothed(y_true)
        result: tuple[float, Array] = getattr(ops, self._OP)(y_pred, targets, sample_weight, **self._numbers())
        return result

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**self._numbers(), **super().get_config()}


def steps_weights(reduction: str | None, mask: Array, sample_weight: Array | None) -> Array:
    """Weights of steps (n, t) by a mask of such, and those of samples or steps: in means they grow by what is left out.

    A mean is then one over the steps that count, or where the reduction says so over their weights.
    """
    weight = mask
    if sample_weight is not None:
        weight = ops.multiply(mask, along(sample_weight, mask.shape))
    if reduction == "sum":
        return weight
    counted = ops.total(weight if reduction == "mean_with_sample_weight" else mask)[0]
    # no step at all has weights of 0, whatever they are multiplied by
    grown: Array = calculate("scaled", x=weight, factor=float(math.prod(mask.shape)) / (counted + _LEAST_COUNT))
    return grown


class FunctionLoss(Loss):
    """A function of the user's, ``f(y_true, y_pred)``, for targets of any shape.

    It is made of ``fastnn.ops`` and returns a number, or an array of a number a sample or more whose mean is meant: its
    gradient is derived. Or it returns ``(loss, gradient)``, made in any way. Sample weights take such an array.
    """

    _any_targets = True

    def __init__(self, function: Callable[[Array, Array], Any]) -> None:
        super().__init__(name=getattr(function, "__name__", type(function).__name__))
        self.function = function
        self._gives_gradient: bool | None = None  # found out at the first call

    @property
    def made_of_ops(self) -> bool:
        """Whether its gradient is derived from ops."""
        return self._gives_gradient is False

    def value_and_gradient(
        self, y_true: Array, y_pred: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """What the function gives for a batch; ValueError with weights, TypeError where that cannot be trained on."""
        if self._gives_gradient is False:
            return derived(self, self.function, y_true, y_pred, sample_weight)
        result = self.function(y_true, y_pred)
        if not isinstance(result, tuple):
            self._gives_gradient = False
            return derived(self, self.function, y_true, y_pred, sample_weight)
        if len(result) != 2:
            raise TypeError(f"loss: {self.name!r} returned {checks.describe(result)}, wants a pair (loss, gradient)")
        if sample_weight is not None:
            raise ValueError(f"sample_weight: got weights, wants None: the function {self.name!r} takes none")
        self._gives_gradient = True
        value, gradient = float(result[0]), np.ascontiguousarray(result[1], dtype=y_pred.dtype)
        if gradient.shape != y_pred.shape:
            raise ValueError(f"loss: {self.name!r} returned a gradient of shape {gradient.shape}, wants {y_pred.shape}")
        return value, gradient

    def masked(
        self, y_true: Array, y_pred: Array, mask: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """The same of the steps that count, where the function gives the loss of each and not its own gradient."""
        if self._gives_gradient is None:
            self.value_and_gradient(y_true, y_pred)
        if self._gives_gradient:
            return self.value_and_gradient(y_true, y_pred, sample_weight)
        return derived(self, self.function, y_true, y_pred, sample_weight, mask)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss that the function gives."""
        if isinstance(y_pred, Followed):
            return self._followed(y_true, y_pred, sample_weight)
        return float(self.value_and_gradient(*pair(y_true, y_pred), sample_weight)[0])

    def get_config(self) -> dict[str, Any]:
        """A function cannot be written to a file."""
        raise ValueError(
            f"loss: got the function {self.name!r}, which a model file cannot hold; wants a loss of fastnn's"
        )


def derived(
    loss: Loss,
    function: Callable[[Any, Any], Any],
    y_true: Array,
    y_pred: Array,
    sample_weight: Array | None,
    mask: Array | None = None,
) -> tuple[float, Array]:
    """The number that a function of ops gives, or the mean of its numbers, and the derivative that its ops have.

    Numbers count by their samples' weights, those of steps (n, t) by a mask; ``loss.reduction`` may want their sum.
    """
    y, pull = vjp(lambda found: function(y_true, found), (y_pred,))
    shape = getattr(y, "shape", ())
    if not (isinstance(y, (float, int)) or hasattr(y, "shape")) or (shape and shape[0] != y_pred.shape[0]):
        wants = "a number made by fastnn.ops, or one a sample, or a pair (loss, gradient)"
        raise TypeError(f"loss: {loss.name!r} returned {checks.describe(y)}, wants {wants}")
    if sample_weight is not None and not shape:
        raise ValueError(f"sample_weight: got weights, wants None: {loss.name!r} gives one number, not one a sample")
    if mask is not None and mask.shape == shape[: mask.ndim]:
        sample_weight = steps_weights(loss.reduction, mask, sample_weight)
    share = 1.0 if loss.reduction == "sum" or not shape else 1.0 / math.prod(shape)
    if sample_weight is None:
        (slope,) = pull((_share(shape, y.dtype, share) if shape else 1.0,))
        value = ops.total(y, share)[0] if shape else y
    else:
        weight = sample_weight.reshape(*sample_weight.shape, *(1,) * (len(shape) - sample_weight.ndim))
        whole = ops.multiply(_share(shape, y.dtype, share), weight)
        (slope,) = pull((whole,))
        value = ops.total(ops.multiply(y, whole))[0]
    if slope is None:
        raise TypeError(f"loss: {loss.name!r} returned what does not depend on y_pred by fastnn.ops")
    return value, slope


@lru_cache(maxsize=64)
def _share(shape: Shape, dtype: Any, share: float) -> Array:
    """The derivative of a mean: always the same array, so that programs find it where it was."""
    return np.full(shape, share, dtype)
