"""Callbacks that watch a figure of the epochs, and act where it no longer improves."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.callbacks.base import Callback
from fastnn.callbacks.rates import require_settable_rate
from fastnn.engine.protocols import Array, Logs


def direction(monitor: str, mode: str, model: Any) -> float | None:
    """1 where a larger ``monitor`` is better, -1 where a smaller one is; None where "auto" cannot tell."""
    if mode != "auto":
        return 1.0 if mode == "max" else -1.0
    name = monitor.removeprefix("val_")
    if name == "loss":
        return -1.0
    for metric in getattr(model, "metrics", ()):
        if metric.name == name and metric.direction is not None:
            return 1.0 if metric.direction == "up" else -1.0
    return 1.0 if "acc" in name else None


def single(monitor: str, figure: Any) -> float:
    """The figure, one number; ValueError for an array of a metric that gives several."""
    if np.ndim(figure):
        raise ValueError(
            f"monitor: got {monitor!r}, which is {checks.describe(figure)}, wants a single number, such as that of a "
            "metric with one threshold or an average"
        )
    return float(figure)


class _Monitor(Callback):
    """Watches the figure ``monitor`` of the epochs, and knows when one is better than another by ``min_delta``."""

    def __init__(self, monitor: str, mode: str, min_delta: float) -> None:
        super().__init__()
        self.monitor = checks.instance("monitor", monitor, str, "the name of a figure such as 'val_loss'")
        self.min_delta = abs(checks.real("min_delta", min_delta))
        self.mode = checks.one_of("mode", mode, ("auto", "min", "max"))
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.best: float | None = None
        self._direction = 0.0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start afresh, so that the object can serve several fits."""
        self._reset()

    def _current(self, logs: Logs | None) -> float | None:
        """The figure of the epoch; None, with a warning, where it has none."""
        if not self._direction:
            self._direction = self._find_direction()
        current = (logs or {}).get(self.monitor)
        if current is None:
            warn_missing(type(self).__name__, self.monitor, logs)
            return None
        return single(self.monitor, current)

    def _find_direction(self) -> float:
        sign = direction(self.monitor, self.mode, self.model)
        if sign is None:
            raise ValueError(
                f"mode: got 'auto', which cannot tell whether a high {self.monitor!r} is good, wants 'max' or 'min'"
            )
        return sign

    def _better(self, value: float, reference: float | None) -> bool:
        return reference is None or self._direction * (value - reference) > self.min_delta


class EarlyStopping(_Monitor):
    """Stop when ``monitor`` has not improved by more than ``min_delta`` for ``patience`` epochs.

    ``mode``: "min", "max", or "auto" by the metric. ``baseline``: only epochs better than this count as progress.
    ``restore_best_weights`` puts back the weights of the best epoch at the end of training, whether it was stopped or
    ran out. Epochs before ``start_from_epoch`` are not looked at.
    """

    ADDED_FIGURES = ()

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        self.patience = checks.integer("patience", patience, 0)
        self.verbose = verbose
        self.baseline = None if baseline is None else checks.real("baseline", baseline)
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = checks.integer("start_from_epoch", start_from_epoch, 0)
        super().__init__(monitor, mode, min_delta)

    def _reset(self) -> None:
        super()._reset()
        self.stopped_epoch = 0
        self.best_epoch = 0
        self.best_weights: list[Array] | None = None

    def leaves_weights(self) -> bool:
        """Unless it is to put back the best ones."""
        return not self.restore_best_weights

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare, remember, and stop training where it is time."""
        current = self._current(logs)
        if current is None:
            return
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._remember(epoch)
        self.wait += 1
        if self._better(current, self.best):
            self.best = current
            self._remember(epoch)
            if self.baseline is None or self._better(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Put back the best weights, if asked for."""
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                print(f"Restoring the weights of the best epoch, {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)

    def _remember(self, epoch: int) -> None:
        self.best_epoch = epoch
        if self.restore_best_weights:
            self.best_weights = self.model.get_weights()


class ReduceLROnPlateau(_Monitor):
    """Multiply the learning rate by ``factor`` when ``monitor`` has not improved for ``patience`` epochs.

    An improvement is one by more than ``min_delta``; ``mode``: "min", "max", or "auto" by the metric. The rate never
    falls below ``min_lr``; behind a reduction ``cooldown`` epochs do not count. The rate of every epoch is among its
    figures, as "learning_rate". TypeError before training where the optimizer follows a schedule.
    """

    ADDED_FIGURES = ("learning_rate",)

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self.factor = checks.real("factor", factor, minimum=0, maximum=1, open_high=True)
        self.patience = checks.integer("patience", patience, 0)
        self.verbose = verbose
        self.cooldown = checks.integer("cooldown", cooldown, 0)
        self.min_lr = checks.real("min_lr", min_lr, minimum=0)
        super().__init__(monitor, mode, min_delta)

    def _reset(self) -> None:
        super()._reset()
        self.cooldown_counter = 0

    def leaves_weights(self) -> bool:
        """It looks at figures only."""
        return True

    def in_cooldown(self) -> bool:
        """Whether the last reduction was so short ago that epochs do not count."""
        return self.cooldown_counter > 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start afresh; find out whether the rate can be set."""
        super().on_train_begin(logs)
        require_settable_rate(self)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add the rate to the figures of the epoch, compare, and reduce it where it is time."""
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        current = self._current(logs)
        if current is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self._better(current, self.best):
            self.best = current
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        rate = float(self.model.optimizer.learning_rate)
        if rate <= self.min_lr:
            return
        self.model.optimizer.learning_rate = reduced = max(rate * self.factor, self.min_lr)
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate is reduced to {reduced:g}")
        self.cooldown_counter = self.cooldown
        self.wait = 0


def warn_missing(who: str, monitor: str, logs: Logs | None) -> None:
    """Say that an epoch has no figure of the name ``monitor``, and which it has."""
    available = ", ".join(map(repr, logs or {}))
    warnings.warn(f"{who}: {monitor!r} is not among the figures of the epoch, which are {available}", stacklevel=3)
