"""Losses of numbers: how far outputs are from targets."""

from __future__ import annotations

from typing import Any

from fastnn import checks
from fastnn.engine.protocols import Array, LossForm, Shape
from fastnn.losses import functions
from fastnn.losses.base import OpLoss
from fastnn.samples import require_last


class MeanSquaredError(OpLoss):
    """Mean of (y_pred - y_true)^2."""

    _OP, _FORM = "mse", LossForm("squared")
    _FUNCTION = staticmethod(functions.mean_squared_error)

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_squared_error", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class MeanAbsoluteError(OpLoss):
    """Mean of abs(y_pred - y_true); derivative 0 where they agree."""

    _OP, _FORM = "mae", LossForm("absolute")
    _FUNCTION = staticmethod(functions.mean_absolute_error)

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_absolute_error", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class MeanAbsolutePercentageError(OpLoss):
    """100 times the mean of abs(y_true - y_pred) / abs(y_true); targets of 0 count as 1e-7."""

    _OP, _FORM = "mape", LossForm("absolute_percentage")
    _FUNCTION = staticmethod(functions.mean_absolute_percentage_error)

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "mean_absolute_percentage_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)


class MeanSquaredLogarithmicError(OpLoss):
    """Mean of (log(1 + y_true) - log(1 + y_pred))^2; what is below 1e-7 counts as that."""

    _OP, _FORM = "msle", LossForm("squared_logarithmic")
    _FUNCTION = staticmethod(functions.mean_squared_logarithmic_error)

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "mean_squared_logarithmic_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)


class Huber(OpLoss):
    """Mean of d^2 / 2 where abs(d) <= delta, else delta (abs(d) - delta / 2); d = y_pred - y_true."""

    _OP, _FORM, _NUMBERS = "huber", LossForm("huber"), ("delta",)
    _FUNCTION = staticmethod(functions.huber)

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "huber_loss",
        dtype: Any = None,
    ) -> None:
        self.delta = checks.real("delta", delta, minimum=0, open_low=True)
        super().__init__(name, reduction, dtype)


class LogCosh(OpLoss):
    """Mean of log(cosh(y_pred - y_true))."""

    _OP, _FORM = "log_cosh", LossForm("log_cosh")
    _FUNCTION = staticmethod(functions.log_cosh)

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "log_cosh", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class HalfSSE(OpLoss):
    """Half the sum of squared errors over the whole batch, as the textbooks' worked examples have it; not in Keras."""

    _OP, _FORM = "half_sse", LossForm("half_squared", mean=False, summed=True)
    _FUNCTION = staticmethod(functions.half_sse)

    def __init__(self, name: str = "half_sse", dtype: Any = None) -> None:
        super().__init__(name, "sum", dtype)

    def _factor(self, lead: Shape, sample_weight: Array | None) -> float:
        """The op gives the sum already."""
        return 1.0

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype}


class QuadraticCost(OpLoss):
    """Half the sum of squared errors of a sample, the mean over samples: the textbooks' cost; not in Keras."""

    _OP, _FORM = "quadratic_cost", LossForm("half_squared", mean=False)
    _FUNCTION = staticmethod(functions.quadratic_cost)
    _separable = False

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "quadratic_cost", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class Poisson(OpLoss):
    """Mean of y_pred - y_true * log(y_pred + 1e-7): outputs are rates, targets counts."""

    _OP, _FORM = "poisson", LossForm("poisson")
    _FUNCTION = staticmethod(functions.poisson)

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "poisson", dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)


class CosineSimilarity(OpLoss):
    """Minus the cosine of the angle between outputs and targets: -1 where they point the same way."""

    _OP, _FORM = "cosine_similarity", LossForm("cosine", mean=False)
    _FUNCTION = staticmethod(functions.cosine_similarity)
    _separable = False

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "cosine_similarity",
        dtype: Any = None,
    ) -> None:
        require_last(axis)
        super().__init__(name, reduction, dtype)
