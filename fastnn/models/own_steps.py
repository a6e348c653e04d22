"""Training and evaluation by steps of the user's own, ``train_step`` and ``test_step`` of a model, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.engine import DataSet, Network
from fastnn.engine.data import Batch
from fastnn.engine.layerwise import LayerwiseRunner, divergence
from fastnn.engine.protocols import Array, Logs, StepHooks

if TYPE_CHECKING:
    from fastnn.models.compiled import CompiledModel


class OwnSteps(LayerwiseRunner):
    """Calls the model's steps; all else is as layer by layer."""

    def __init__(self, model: CompiledModel, network: Network, backend: str) -> None:
        super().__init__(network, backend)
        self._model = model

    def train_epoch(
        self, data: DataSet, batch_size: int, order: Array | None = None, epoch: int = 0, hooks: StepHooks | None = None
    ) -> Logs:
        """Train on every batch once, in ``order``; the figures are those that the last step gave."""

        def step_of(batch: Batch, step: int) -> Logs:
            logs = self._figures("train_step", self._model.train_step(self._data_of(batch)))
            if not math.isfinite(logs.get("loss", 0.0)):
                raise divergence(f"the loss is {logs['loss']}", self.network, epoch, step)
            return logs

        order = np.arange(data.rows - data.left_out) if order is None else order
        return self._over(data, batch_size, order, hooks, step_of)

    def evaluate(self, data: DataSet, batch_size: int, hooks: StepHooks | None = None) -> Logs:
        """The figures that the last step gave."""

        def step_of(batch: Batch, step: int) -> Logs:
            return self._figures("test_step", self._model.test_step(self._data_of(batch)))

        return self._over(data, batch_size, None, hooks, step_of)

    def _over(
        self,
        data: DataSet,
        batch_size: int,
        order: Array | None,
        hooks: StepHooks | None,
        step_of: Callable[[Batch, int], Logs],
    ) -> Logs:
        logs: Logs = {}
        for metric in self._model.tracked:
            metric.reset_state()
        with self._chosen():
            for step, batch in enumerate(data.batches(batch_size, order)):
                if hooks is not None:
                    hooks.begin(step)
                logs = step_of(batch, step)
                if hooks is not None and hooks.end(step, logs.copy):
                    break
        return logs

    def _data_of(self, batch: Any) -> Any:
        """A batch as Keras's steps get it: (x, y), (x, y, weights), or x where there are no targets."""
        x = self._model.as_given(batch.x)
        if batch.y is None:
            return x
        y = self._model.arranged(batch.y)
        return (x, y) if batch.sample_weight is None else (x, y, batch.sample_weight)

    def _figures(self, step: str, returned: Any) -> Logs:
        """What a step returned, as numbers by name."""
        if not isinstance(returned, Mapping):
            got = checks.describe(returned)
            raise TypeError(f"{self._model.name}: {step} returned {got}, wants a dict of figures by name")
        logs: Logs = {}
        for name, value in returned.items():
            if isinstance(value, Mapping):
                logs |= self._figures(step, value)
            else:
                found = np.asarray(getattr(value, "value", value), np.float64)
                logs[str(name)] = float(found) if found.size == 1 else found
        return logs
