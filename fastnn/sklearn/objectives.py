"""The losses of scikit-learn's networks, for training: means by the sample weights of a batch.

scikit-learn keeps probabilities an epsilon of their dtype from 0 before it takes their logarithms, for the figure
alone: the gradient stays what it is. Here losses are of logits, and what they count as at most is -log(epsilon). Those
of several labels, and outside of the compiled epochs of dense layers all, count in full.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.engine.protocols import Array, LossForm
from fastnn.losses import BinaryCrossentropy, QuadraticCost, SparseCategoricalCrossentropy
from fastnn.losses.base import Loss, OpLoss

_WEIGHTED = "mean_with_sample_weight"


def most(dtype: Any) -> float:
    """What the loss of a probability counts as at most."""
    return -math.log(np.finfo(dtype).eps)


class HalfPoissonDeviance(OpLoss):
    """e^z - t z + t log t - t, summed over the outputs z, which are logarithms of rates."""

    _OP, _FORM = "half_poisson_deviance", LossForm("half_poisson_deviance", mean=False)


class ClassCrossentropy(SparseCategoricalCrossentropy):
    """-log p[target], which counts as ``most`` at most."""

    @property
    def form(self) -> LossForm | None:
        """The kernels' name for it."""
        form = super().form
        return form and form._replace(most=most(self.dtype))


class LabelCrossentropy(BinaryCrossentropy):
    """-(t log p + (1 - t) log(1 - p)), summed over the outputs; of a single one it counts as ``most`` at most."""

    def __init__(self, outputs: int = 1, **options: Any) -> None:
        self.outputs = outputs
        super().__init__(**options)

    @property
    def form(self) -> LossForm | None:
        """The kernels' name for it."""
        form = super().form
        return form and form._replace(mean=False, most=most(self.dtype) if self.outputs == 1 else math.inf)

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        value, gradient = super()._batch(y_true, y_pred, sample_weight)
        width = self.outputs
        return (value, gradient) if width == 1 else (value * width, gradient * gradient.dtype.type(width))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"outputs": self.outputs, **super().get_config()}


def objective(loss: str, out_activation: str, outputs: int, dtype: Any) -> Loss:
    """The loss that goes with a last activation; gradients are those of its sum over the outputs.

    So is the figure that is reported, but of squared errors: that is half the mean over the outputs.
    """
    made: Loss
    match loss, out_activation:
        case "log_loss", "softmax":
            made = ClassCrossentropy(reduction=_WEIGHTED, dtype=str(dtype))
        case "log_loss", _:
            made = LabelCrossentropy(outputs, reduction=_WEIGHTED, dtype=str(dtype))
        case "poisson", _:
            made = HalfPoissonDeviance("half_poisson_deviance", _WEIGHTED)
        case _:
            made = QuadraticCost(_WEIGHTED)
            made.figure_scale = 1 / outputs
    return made


def targets(loss: Loss, y: Array, dtype: Any) -> Array:
    """Rows of targets as the loss takes them: classes by number, or rows of the dtype."""
    return y.argmax(axis=1) if loss.integer_targets else y.astype(dtype, copy=False)


def beyond(loss: Loss, logits: Array, y: Array, sample_weight: Array | None) -> float:
    """How much of the mean loss of all samples is beyond what it counts as at most."""
    limit = most(logits.dtype)
    if isinstance(loss, ClassCrossentropy):
        gap = logits.max(axis=1) - np.take_along_axis(logits, y[:, np.newaxis], axis=1)[:, 0]
        if gap.max(initial=0) + math.log(logits.shape[1]) <= limit:
            return 0.0
        rest = np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
        excess = np.maximum(gap + np.log(rest) - limit, 0)
    elif isinstance(loss, LabelCrossentropy):
        gap = logits * (1 - 2 * y)  # how far on the wrong side
        if gap.max(initial=0) + math.log(2) <= limit:
            return 0.0
        excess = np.maximum(np.logaddexp(0, gap) - limit, 0).sum(axis=1)
    else:
        return 0.0
    return float(np.average(excess, weights=sample_weight))
