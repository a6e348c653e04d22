"""The losses of scikit-learn's networks, for training: means by the sample weights of a batch."""

from __future__ import annotations

from typing import Any

from fastnn.engine.protocols import Array, LossForm
from fastnn.losses import BinaryCrossentropy, QuadraticCost, SparseCategoricalCrossentropy
from fastnn.losses.base import Loss, OpLoss

_WEIGHTED = "mean_with_sample_weight"


class HalfPoissonDeviance(OpLoss):
    """e^z - t z + t log t - t, summed over the outputs z, which are logarithms of rates."""

    _OP, _FORM = "half_poisson_deviance", LossForm("half_poisson_deviance", mean=False)


class SummedCrossentropy(BinaryCrossentropy):
    """-(t log p + (1 - t) log(1 - p)), summed over the outputs."""

    @property
    def form(self) -> LossForm | None:
        """The kernels' name for it."""
        form = super().form
        return form and form._replace(mean=False)

    def _batch(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> tuple[float, Array]:
        value, gradient = super()._batch(y_true, y_pred, sample_weight)
        width = y_pred.shape[-1]
        return (value, gradient) if width == 1 else (value * width, gradient * gradient.dtype.type(width))


def objective(loss: str, out_activation: str, outputs: int) -> Loss:
    """The loss that goes with a last activation; gradients are those of its sum over the outputs.

    So is the figure that is reported, but of squared errors: that is half the mean over the outputs.
    """
    made: Loss
    match loss, out_activation:
        case "log_loss", "softmax":
            made = SparseCategoricalCrossentropy(reduction=_WEIGHTED)
        case "log_loss", _:
            made = SummedCrossentropy(reduction=_WEIGHTED)
        case "poisson", _:
            made = HalfPoissonDeviance("half_poisson_deviance", _WEIGHTED)
        case _:
            made = QuadraticCost(_WEIGHTED)
            made.figure_scale = 1 / outputs
    return made


def targets(loss: Loss, y: Array, dtype: Any) -> Array:
    """Rows of targets as the loss takes them: classes by number, or rows of the dtype."""
    return y.argmax(axis=1) if loss.integer_targets else y.astype(dtype, copy=False)
