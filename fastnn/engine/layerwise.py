"""The layer-by-layer runner: any network on any backend through ``fastnn.ops``, the reference for the fused ones.

On the CPU training steps become programs where the network allows (``recorded``), many of them by one call where
nobody looks at the batches in between: the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from fastnn import backends, ops
from fastnn.engine import recorded, seeds
from fastnn.engine.activations import LINEAR
from fastnn.engine.data import Batch, DataSet, Source
from fastnn.engine.pace import Pace
from fastnn.engine.placement import Batches, Placement, on_host, placed
from fastnn.engine.protocols import (
    Array,
    Draw,
    DropForm,
    Layer,
    Logs,
    Metric,
    Network,
    Optimizer,
    Regularizer,
    StepHooks,
)
from fastnn.engine.recorded import RecordedStep, RecordedSteps
from fastnn.errors import DivergenceError


class RunningFigures:
    """Loss and metrics over the batches of one epoch: every batch counts by its number of samples."""

    def __init__(self, network: Network, fused: bool) -> None:
        self._activation = network.layers[-1].activation if fused and network.layers else LINEAR
        self._metrics = network.metrics
        self._weighted_metrics = network.weighted_metrics
        self._loss = 0.0
        self._rows = 0
        for metric in (*self._metrics, *self._weighted_metrics):
            metric.reset_state()

    def update(self, loss: float, rows: int, y: Any, sample_weight: Array | None, scores: Any) -> None:
        """Count one batch; ``scores`` are logits where the loss is fused, else outputs."""
        self.lose(loss, rows)
        for metric, weighted in self.metrics:
            metric.update_state(y, self.outputs(metric, scores), sample_weight if weighted else None)

    def lose(self, loss: float, rows: int) -> None:
        """Count the loss of a batch."""
        self._loss += loss * rows
        self._rows += rows

    @property
    def metrics(self) -> list[tuple[Metric, bool]]:
        """All metrics, and whether they count by weights."""
        return [*((metric, False) for metric in self._metrics), *((metric, True) for metric in self._weighted_metrics)]

    def outputs(self, metric: Metric, scores: Any) -> Any:
        """What a metric wants of scores, wherever they lie."""
        # the largest logit is the largest probability, so such metrics do without the activation
        as_is = self._activation == LINEAR or metric.argmax_only(scores.shape[-1])
        return scores if as_is else self._activation(scores)

    def logs(self) -> Logs:
        """The figures so far, by name."""
        figures = {"loss": self._loss / self._rows if self._rows else 0.0}
        figures.update((metric.name, metric.result()) for metric, _ in self.metrics)
        return figures


@dataclass(frozen=True)
class Epoch:
    """Samples of an epoch in their order, which batches are made of, and the figures so far."""

    number: int
    data: DataSet
    batch_size: int
    order: Array
    batches: Batches
    figures: RunningFigures

    def rows(self, step: int, steps: int = 1) -> Array:
        """The samples of so many batches from ``step`` on."""
        return self.order[step * self.batch_size : (step + steps) * self.batch_size]

    def count(self, rows: Array, losses: Array, scores: Array | None) -> None:
        """Count the batches of these samples, with scores where metrics want them."""
        for batch, loss in enumerate(losses.tolist()):
            some = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            y, weight = (None, None) if scores is None else self.data.labels(rows[some])
            self.figures.update(loss, rows[some].size, y, weight, None if scores is None else scores[some])


def added(loss: Any, penalty: Any) -> Any:
    """The loss itself where there is no penalty: on a device a number more is a launch more."""
    return loss if type(penalty) is float and penalty == 0 else loss + penalty


def divergence(what: str, network: Network, epoch: int, step: int) -> DivergenceError:
    """The error of a batch that must not be trained on; ``epoch`` and ``step`` count from 0."""
    rate = network.optimizer.learning_rate if network.optimizer else math.nan
    return DivergenceError(
        f"{what} at epoch {epoch + 1}, batch {step + 1}, with learning rate {rate:g}; the weights are those of the "
        "batch before. A smaller learning rate or scaled inputs usually help"
    )


def in_strides(steps: int, hooks: StepHooks | None, some: Callable[[int, int], int], logs: Callable[[], Logs]) -> None:
    """Go through so many batches: ``some(step, most)`` takes up to ``most`` from ``step`` on, and says how many.

    One by one where callbacks listen to every one, until one of them stops it.
    """
    step, stopped = 0, False
    while step < steps and not stopped:
        most = steps - step
        if hooks is not None and hooks.every_batch:
            hooks.begin(step)
            most = 1
        step += some(step, most)
        stopped = hooks is not None and hooks.end(step - 1, logs)


class LayerwiseRunner:
    """Runs a network one layer and one op at a time, or what was recorded of that."""

    def __init__(self, network: Network, backend: str, placement: Placement | None = None) -> None:
        self.network = network
        self.backend = backend
        self._placement = placement or on_host(programs=backend == "cpu")
        self._fused = network.fused_loss
        self._loss = self._fused or network.loss
        trained = [any(parameter.trainable for parameter in layer.parameters) for layer in network.layers]
        self._trained = [parameter for parameter in network.parameters if parameter.trainable]
        # No gradient flows below the first layer that learns.
        self._first = trained.index(True) if any(trained) else len(trained)
        self._mask_seeds: list[int] | None = None
        self._recorded: RecordedStep | None = None
        self._together: RecordedSteps | None = None
        self._pace, self._alone = Pace(), 0  # steps made one by one

    @property
    def mask_seeds(self) -> list[int]:
        """By layer, the seed of its masks: its own, or one for this fit, which is drawn only if a layer needs it."""
        if self._mask_seeds is None:
            forms = [layer.form() for layer in self.network.layers]
            own = [form.seed if isinstance(form, DropForm) else None for form in forms]
            asked = any(isinstance(form, DropForm) and form.rate > 0 and form.seed is None for form in forms)
            fit = seeds.draw_seed() if asked or None in forms else 0
            self._mask_seeds = [fit if seed is None else seed for seed in own]
        return self._mask_seeds

    @mask_seeds.setter
    def mask_seeds(self, value: list[int]) -> None:
        self._mask_seeds = value

    def staying(self) -> AbstractContextManager[None]:
        """For a ``with`` block in which nobody looks at weights or state: they may stay where the runner computes."""
        return nullcontext()

    def train_epoch(
        self, data: DataSet, batch_size: int, order: Array | None = None, epoch: int = 0, hooks: StepHooks | None = None
    ) -> Logs:
        """Train on every batch once, in ``order``; the figures are those of the training passes.

        Raises DivergenceError when a loss or gradient is not finite, before any weight is updated with it.
        """
        order = np.arange(data.rows - data.left_out) if order is None else order
        batches = self._placement.batches(data, order, batch_size)
        samples = Epoch(epoch, data, batch_size, order, batches, self.figures())
        with self._chosen():
            in_strides(data.steps(batch_size), hooks, partial(self._train_some, samples), samples.figures.logs)
        return samples.figures.logs()

    def _train_some(self, samples: Epoch, step: int, most: int) -> int:
        """Train on up to ``most`` batches from ``step`` on; on how many."""
        started = perf_counter()
        steps = min(most, self._pace.amount) if self._alone >= recorded.batches_alone(self._placement) else 1
        made = self._train_together(samples, step, steps) if steps > 1 else 0
        if not made:
            made = self._train_alone(samples, step)
        self._pace.measured(made, perf_counter() - started)
        return made

    def _train_alone(self, samples: Epoch, step: int) -> int:
        """Train on one batch."""
        optimizer, rows = self._optimizer, samples.rows(step)
        batch = samples.batches.alone(step)
        loss, scores, gradients = self.gradients(batch)
        self._stop_if_diverged(loss, gradients, samples.number, step)
        # before the update: a metric that does not fit changes nothing
        samples.count(rows, np.array([loss]), scores)
        self._apply(optimizer, gradients)
        self._alone += 1
        return 1

    def _train_together(self, samples: Epoch, step: int, steps: int) -> int:
        """Train on up to so many batches, or on none; on how many."""
        if not self._placement.programs or samples.data.y is None:
            return 0
        if self._together is None:
            self._together = RecordedSteps(self.network, self._optimizer, self._gradients, self._placement)
        results = self._together(self.mask_seeds, samples.batches, step, steps, samples.batch_size)
        if results is None:
            return 0
        losses, scores = results
        self._count(samples, step, losses, scores)
        return len(losses)

    def _count(self, samples: Epoch, step: int, losses: Array, scores: Any) -> None:
        """Count these batches from ``step`` on; there are scores where metrics want them."""
        samples.count(samples.rows(step, len(losses)), losses, scores)

    def _chosen(self) -> AbstractContextManager[None]:
        """The backend of ordinary arrays."""
        return backends.use_backend(self.backend)

    def _apply(self, optimizer: Optimizer, gradients: Sequence[Array]) -> None:
        """Update the trained parameters."""
        optimizer.apply(gradients, self._trained)

    @property
    def _optimizer(self) -> Optimizer:
        if self.network.optimizer is None:
            raise RuntimeError("a network without an optimizer cannot be trained")
        return self.network.optimizer

    def evaluate(self, data: DataSet, batch_size: int, hooks: StepHooks | None = None) -> Logs:
        """Loss and metrics over all batches, weights untouched."""
        figures = self.figures()
        with self._chosen():
            for step, batch in enumerate(data.batches(batch_size)):
                if hooks is not None:
                    hooks.begin(step)
                given = placed(batch, self._placement)
                scores, _, penalty, _ = self._forward(given.x)
                loss = float(self.loss(given, scores) + penalty + self.weight_penalty())
                figures.update(loss, batch.rows, batch.y, batch.sample_weight, self._placement.read(scores))
                if hooks is not None and hooks.end(step, figures.logs):
                    break
        return figures.logs()

    def predict(self, x: Source, batch_size: int, hooks: StepHooks | None = None) -> Array:
        """Outputs for all samples."""
        if x.rows == 0:
            return self.outputs(x, training=False)
        parts: list[Array] = []
        with self._chosen():
            for step, batch in enumerate(DataSet(x).batches(batch_size)):
                if hooks is not None:
                    hooks.begin(step)
                parts.append(self._outputs(batch.x, training=False))
                if hooks is not None and hooks.end(step, dict):
                    break
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def outputs(self, x: Source, training: bool) -> Array:
        """Outputs for all samples as one batch; in ``training`` layers draw masks, as calls outside any fit do."""
        with self._chosen():
            return self._outputs(x.batch(slice(0, x.rows)), training)

    def _outputs(self, x: Array, training: bool) -> Array:
        return self._placement.read(self._passed(self._placement.put(x), training))

    def _passed(self, x: Array, training: bool = False) -> Array:
        """What comes out of the last layer."""
        x = self._given(x)
        for layer in self.network.layers:
            x, _ = layer.forward(x, training)
        return x

    def gradients(self, batch: Batch) -> tuple[float, Array, Sequence[Array]]:
        """Loss of a batch with all penalties, its scores, and the gradients of the trained parameters in order.

        The gradients are valid until the next call, and lie where the runner's arrays do.
        """
        made = self.network.optimizer.iterations if self.network.optimizer else 0
        given = [array for array in placed(batch, self._placement)[:3] if array is not None]
        step = made % 2**32  # the op has 32 bits for it
        if not self._placement.programs or batch.y is None:
            loss, scores, gradients = self._gradients(step, *given)
        else:
            if self._recorded is None:  # here, for it refers to this runner: a prediction leaves no circle behind
                self._recorded = RecordedStep(self.network, self._gradients, self._placement)
            loss, scores, gradients = self._recorded(self.mask_seeds, step, *given)
        return float(loss), self._placement.read(scores), gradients

    def _gradients(
        self, step: int, x: Array, y: Array | None = None, sample_weight: Array | None = None
    ) -> tuple[float, Array, tuple[Array, ...]]:
        """The same in step ``step``, by which masks are drawn; also of what stands for arrays in a program."""
        scores, kept, penalty, activity = self._forward(x, step)
        loss, dy = self._score(y, scores, sample_weight)
        gradients: list[Array] = []
        layers: Iterable[tuple[int, Layer]] = reversed(list(enumerate(self.network.layers)))
        for index, layer in layers:
            if index < self._first:
                break
            if activity[index] is not None:
                dy = ops.add(dy, activity[index])
            dx, own = layer.backward(dy, kept[index], need_dx=index > self._first)
            gradients[:0] = [g for g, p in zip(own, layer.parameters, strict=True) if p.trainable]
            if dx is not None:
                dy = dx
        return added(added(loss, penalty), self._add_weight_penalties(gradients)), scores, tuple(gradients)

    def _stop_if_diverged(self, loss: float, gradients: Sequence[Array], epoch: int, step: int) -> None:
        names = (parameter.path for parameter in self._trained)
        finite = self._placement.all_finite
        bad = next((name for name, g in zip(names, gradients, strict=True) if not finite([g])), None)
        if math.isfinite(loss) and bad is None:
            return
        what = f"the gradient of {bad} is not finite" if math.isfinite(loss) else f"the loss is {loss}"
        raise divergence(what, self.network, epoch, step)

    def _forward(self, x: Array, step: int | None = None) -> tuple[Array, list[Any], float, list[Array | None]]:
        """Scores, what each layer keeps for its backward pass, the activity penalty and its gradient by layer.

        Of the training pass in step ``step``; without one, of no training.
        """
        x = self._given(x)
        kept: list[Any] = []
        gradients: list[Array | None] = []
        penalty = 0.0
        last = len(self.network.layers) - 1
        for index, layer in enumerate(self.network.layers):
            samples = max(x.shape[0], 1)
            activated = not (self._fused is not None and index == last)
            training = step is not None and Draw(self.mask_seeds[index], step, index)
            x, memory = layer.forward(x, training, activate=activated)
            kept.append(memory)
            gradient = None
            if layer.activity_regularizer is not None:
                value, gradient = self._penalty(layer.activity_regularizer, x)
                penalty += value / samples
                gradient = gradient / gradient.dtype.type(samples)
            gradients.append(gradient)
        return x, kept, penalty, gradients

    def _given(self, x: Array) -> Array:
        """Inputs of a batch as layers take them."""
        return x

    def figures(self) -> RunningFigures:
        """The figures of an epoch, of no batch yet."""
        return RunningFigures(self.network, self._fused is not None)

    def loss(self, batch: Batch, scores: Array) -> float:
        """Loss of a batch without penalties; ``scores`` are logits where loss and last activation are fused."""
        return self._score(batch.y, scores, batch.sample_weight)[0]

    def _score(self, y: Array | None, scores: Array, sample_weight: Array | None) -> tuple[float, Array]:
        if self._loss is None or y is None:
            raise RuntimeError("a network without a loss, or a batch without targets, cannot be scored")
        return self._loss.value_and_gradient(y, scores, sample_weight)

    def _penalty(self, penalty: Regularizer, x: Array) -> tuple[float, Array]:
        """A penalty on an array, and its derivative."""
        return penalty.value_and_gradient(x)

    def weight_penalty(self) -> float:
        """The sum of the trained parameters' penalties."""
        penalties = ((p.regularizer, p.value) for p in self._trained)
        return sum(self._penalty(penalty, value)[0] for penalty, value in penalties if penalty is not None)

    def _add_weight_penalties(self, gradients: Sequence[Array]) -> float:
        """Add each trained parameter's penalty to its gradient, in place; the sum of the penalties."""
        total = 0.0
        for gradient, parameter in zip(gradients, self._trained, strict=True):
            if parameter.regularizer is not None:
                value, derivative = self._penalty(parameter.regularizer, parameter.value)
                ops.add(gradient, derivative, out=gradient)
                total += value
        return total
