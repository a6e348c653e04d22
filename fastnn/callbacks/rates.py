"""Callbacks that set the learning rate."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from fastnn import checks
from fastnn.callbacks.base import Callback
from fastnn.engine.protocols import Logs


class LearningRateScheduler(Callback):
    """Set the learning rate before every epoch to ``schedule(epoch, learning_rate)`` or ``schedule(epoch)``.

    TypeError before training where the optimizer follows a schedule of its own.
    """

    ADDED_FIGURES = ("learning_rate",)

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            raise TypeError(f"schedule: got {checks.describe(schedule)}, wants a function of (epoch, learning_rate)")
        self.schedule = schedule
        self.verbose = verbose

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Find out whether the rate can be set."""
        require_settable_rate(self)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Ask the schedule, set the rate."""
        optimizer = self.model.optimizer
        arguments = (epoch, optimizer.learning_rate) if _takes_two(self.schedule) else (epoch,)
        optimizer.learning_rate = checks.real("schedule's learning rate", self.schedule(*arguments), minimum=0)
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {optimizer.learning_rate:g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add the rate to the figures of the epoch."""
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


def require_settable_rate(callback: Callback) -> None:
    """TypeError unless a callback can set the learning rate of its model's optimizer."""
    schedule = callback.model.optimizer.schedule
    if schedule is not None:
        raise TypeError(
            f"{type(callback).__name__}: got an optimizer whose learning rate follows {type(schedule).__name__}, wants "
            "one made with a number, which can be set"
        )


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a function that cannot be inspected gets what Keras gives first
        return True
    return True
