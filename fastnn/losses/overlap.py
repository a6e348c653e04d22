"""Losses of how far two sets overlap, of which numbers in [0, 1] say what belongs to them: Dice's and Tversky's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn import checks, ops
from fastnn.losses.base import Loss
from fastnn.losses.functions import pair
from fastnn.losses.rows import EPSILON
from fastnn.tape import Followed


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Any:
    """1 - 2 sum(t p) / (sum(t) + sum(p) + 1e-7): sums are over all numbers, or along ``axis``, one or several."""
    true, pred = _together(y_true, y_pred)
    both = ops.add(ops.sum(true, axis=axis), ops.sum(pred, axis=axis))
    return 1.0 - ops.sum(ops.multiply(true, pred), axis=axis) * 2.0 / (both + EPSILON)


def tversky(y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None) -> Any:
    """1 - s / (s + alpha sum(t (1 - p)) + beta sum(p (1 - t)) + 1e-7), s = sum(t p) (Salehi et al. 2017).

    Sums are over all numbers, or along ``axis``, one or several. As Keras has it ``alpha`` weighs what is missed.
    """
    true, pred = _together(y_true, y_pred)
    shared = ops.sum(ops.multiply(true, pred), axis=axis)
    missed = ops.sum(ops.multiply(ops.subtract(1.0, pred), true), axis=axis)
    wrong = ops.sum(ops.multiply(pred, ops.subtract(1.0, true)), axis=axis)
    return 1.0 - shared / (shared + missed * alpha + wrong * beta + EPSILON)


def _together(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Targets and outputs of one shape, as they are followed or as arrays of floats."""
    if not (isinstance(y_true, Followed) or isinstance(y_pred, Followed)):
        return pair(y_true, y_pred)
    if y_true.shape != y_pred.shape:
        raise ValueError(f"y_true: got shape {y_true.shape}, wants {y_pred.shape}, the shape of y_pred")
    return y_true, y_pred


class Tversky(Loss):
    """1 - s / (s + alpha missed + beta wrong): s = sum(t p), missed = sum(t (1 - p)), wrong = sum(p (1 - t)).

    Sums are over all numbers of a batch, or along ``axis``: (1, 2, 3) gives a number for each image, and the reduction
    is over these. Salehi et al. 2017.
    """

    _any_targets = False

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "tversky",
        axis: int | Sequence[int] | None = None,
        dtype: Any = None,
    ) -> None:
        self.alpha = checks.real("alpha", alpha, minimum=0)
        self.beta = checks.real("beta", beta, minimum=0)
        self.axis = _axes(axis)
        super().__init__(name, reduction, dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """A number, or one for each place of the axes that are left."""
        return _of_samples(self, tversky(y_true, y_pred, self.alpha, self.beta, self.axis))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"alpha": self.alpha, "beta": self.beta, "axis": self.axis, **super().get_config()}


class Dice(Loss):
    """1 - 2 sum(t p) / (sum(t) + sum(p)): sums over all numbers of a batch, or along ``axis`` as in ``Tversky``."""

    _any_targets = False

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice",
        axis: int | Sequence[int] | None = None,
        dtype: Any = None,
    ) -> None:
        self.axis = _axes(axis)
        super().__init__(name, reduction, dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """A number, or one for each place of the axes that are left."""
        return _of_samples(self, dice(y_true, y_pred, self.axis))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"axis": self.axis, **super().get_config()}


def _axes(axis: Any) -> int | list[int] | None:
    """``axis`` as it is written to files."""
    if isinstance(axis, (list, tuple)):
        return [checks.integer(f"axis[{place}]", each) for place, each in enumerate(axis)]
    return None if axis is None else checks.integer("axis", axis)


def _of_samples(loss: Loss, found: Any) -> Any:
    """What a loss gives: where sums were over samples, too, the other axes' numbers make one."""
    axes = loss.axis if isinstance(loss.axis, list) else [loss.axis]  # type: ignore[attr-defined]
    if 0 not in axes or not getattr(found, "ndim", 0) or not loss.reduces:
        return found
    return ops.sum(found) if loss.reduction == "sum" else ops.mean(found)
