"""The layer-by-layer runner: any network on any backend through ``fastnn.ops``, the reference for the fused ones.

On the CPU training steps become programs where the network allows (``recorded``), many of them by one call where
nobody looks at the batches in between: the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from time import perf_counter
from typing import Any

import numpy as np

from fastnn import backends, ops
from fastnn.engine import penalties, recorded, seeds
from fastnn.engine.activations import LINEAR
from fastnn.engine.data import Batch, DataSet, Source, along
from fastnn.engine.masks import Masks
from fastnn.engine.pace import Pace
from fastnn.engine.placement import Batches, Placement, on_host, placed
from fastnn.engine.protocols import (
    Activation,
    Array,
    Draw,
    DropForm,
    Logs,
    Loss,
    Metric,
    Network,
    Optimizer,
    Regularizer,
    Shape,
    StepHooks,
)
from fastnn.engine.recorded import Gradients, RecordedStep, RecordedSteps
from fastnn.engine.wiring import Call, each, mapped
from fastnn.errors import DivergenceError
from fastnn.tape import calculate


class RunningFigures:
    """Losses and metrics over the batches of one epoch: every batch counts by its number of samples.

    Of several heads there is the loss of all, and one of each.
    """

    def __init__(self, network: Network) -> None:
        self._heads = network.judged
        self._activations = [_left_out(network, head.output) for head in self._heads]
        self._names = ["loss", *(f"{head.name}_loss" for head in network.heads if head.loss is not None)]
        self._losses = [0.0] * len(self._names)
        self._rows = 0
        for head in self._heads:
            for metric in (*head.metrics, *head.weighted_metrics):
                metric.reset_state()

    def update(self, losses: Sequence[float], rows: int, y: Any, sample_weight: Any, scores: Any) -> None:
        """Count one batch; ``scores`` are logits where a loss takes them, else outputs: of heads, as targets are.

        Behind them are masks of steps, one of each head, where there is any.
        """
        self.lose(losses, rows)
        if scores is None:
            return
        weights = each(sample_weight) if sample_weight is not None else [None] * len(self._heads)
        for metric, weighted, head in self.metrics:
            self.judge(metric, head, each(y)[head], each(scores), weights[head] if weighted else None)

    def judge(self, metric: Metric, head: int, y: Array, scores: Sequence[Array], weight: Array | None) -> None:
        """Let a metric count a batch of its head, by weights and by the mask of the outputs where it looks at it."""
        found, masks = self.outputs(metric, head, scores[head]), scores[len(self._heads) :]
        if masks and metric.counts_steps:
            weight = _of_steps(masks[head], weight, found.shape[:-1])
        metric.update_state(y, found, weight)

    def lose(self, losses: Sequence[float], rows: int) -> None:
        """Count the losses of a batch."""
        self._losses = [total + loss * rows for total, loss in zip(self._losses, losses, strict=True)]
        self._rows += rows

    @property
    def metrics(self) -> list[tuple[Metric, bool, int]]:
        """All metrics, whether they count by weights, and the place of their head."""
        return [
            (metric, bool(weighted), place)
            for place, head in enumerate(self._heads)
            for weighted, metrics in enumerate((head.metrics, head.weighted_metrics))
            for metric in metrics
        ]

    def outputs(self, metric: Metric, head: int, scores: Any) -> Any:
        """What a metric wants of the scores of its head, wherever they lie."""
        # the largest logit is the largest probability, so such metrics do without the activation
        as_is = self._activations[head] == LINEAR or metric.argmax_only(scores.shape[-1])
        return scores if as_is else self._activations[head](scores)

    def logs(self) -> Logs:
        """The figures so far, by name."""
        means = [total / self._rows if self._rows else 0.0 for total in self._losses]
        figures: Logs = dict(zip(self._names, means, strict=True))
        for head in self._heads:
            figures.update((metric.name, metric.result()) for metric in (*head.metrics, *head.weighted_metrics))
        return figures


def _of_steps(mask: Array, weight: Array | None, lead: Shape) -> Array | None:
    """Weights of steps (n, t) that count by a mask of such; those of samples where the outputs have no steps."""
    if mask.shape != lead:
        return weight
    return mask if weight is None else mask * along(weight, mask.shape)


def _left_out(network: Network, output: int) -> Activation:
    """The activation that scores lack: that of the outputs where their loss takes the logits."""
    if output not in network.fused_losses:
        return LINEAR
    return network.layers[network.graph.calls[network.graph.only_outputs()[output]].layer].epilogue


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

    def count(self, rows: Array, losses: Array, scores: Any) -> None:
        """Count the batches of these samples, a row of losses each, with scores where metrics want them."""
        for batch, found in enumerate(losses.tolist()):
            some = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            y, weight = (None, None) if scores is None else self.data.labels(rows[some])
            of_batch = None if scores is None else mapped(itemgetter(some), scores)
            self.figures.update(found, rows[some].size, y, weight, of_batch)


def added(loss: Any, penalty: Any) -> Any:
    """The loss itself where there is no penalty: on a device a number more is a launch more."""
    return loss if type(penalty) is float and penalty == 0 else loss + penalty


def _both(one: Any, other: Any) -> Any:
    """The gradient of a parameter in two calls of its layer; None where it is not trained."""
    return None if one is None else ops.add(one, other)


def _all_count(y: Array) -> Array:
    """A mask by which all rows count."""
    ones: Array = ops.exponential(calculate("zeros", x=y, shape=(y.shape[0], 1)))
    return ones


def scaled(x: Array, factor: float) -> Array:
    """x times ``factor``; also of what stands for an array in a program."""
    found: Array = calculate("scaled", x=x, factor=factor)
    return found


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
        self._graph, fused = network.graph, network.fused_losses
        self._heads = [replace(head, loss=fused.get(head.output, head.loss)) for head in network.judged]
        # Calls of which a loss takes the logits.
        self._on_logits = {place for output, place in self._graph.only_outputs().items() if output in fused}
        learns = [any(parameter.trainable for parameter in layer.parameters) for layer in network.layers]
        self._trained = [parameter for parameter in network.parameters if parameter.trainable]
        # No gradient flows to values that do not depend on a layer that learns.
        self._learned = self._graph.behind({place for place, does in enumerate(learns) if does})
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

    def staying(self, alone: bool = True) -> AbstractContextManager[None]:
        """For a ``with`` block in which nobody looks at weights or state: they may stay where the runner computes.

        ``alone`` says that nothing happens there but its epochs: no other runner of the network works meanwhile, and
        nothing is waited for, so that signals may be put off until an epoch looks for them.
        """
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
        one_by_one = self._alone < recorded.batches_alone(self._placement) or self._optimizer.forgets
        steps = 1 if one_by_one else min(most, self._pace.amount)
        # On a device one step is made as many are: fused sums have another order, and time may not decide on bits.
        made = self._train_together(samples, step, steps) if steps > 1 or not self._placement.runs_op_by_op else 0
        if not made:
            made = self._train_alone(samples, step)
        self._pace.measured(made, perf_counter() - started)
        return made

    def _train_alone(self, samples: Epoch, step: int) -> int:
        """Train on one batch."""
        optimizer, rows = self._optimizer, samples.rows(step)
        batch = samples.batches.alone(step)
        with recorded.moving_kept(self.network):
            losses, scores, gradients = self._pass(batch)
            self._stop_if_diverged(losses[0], gradients, samples.number, step)
            # before the update: a metric that does not fit changes nothing
            samples.count(rows, np.array([losses]), scores)
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
                outputs, masks, _, penalty, _ = self._forward(each(given.x))
                losses, _ = self._scores(outputs, given.y, given.sample_weight, masks)
                losses = [float(losses[0] + penalty + self.weight_penalty()), *map(float, losses[1:])]
                scores = mapped(self._placement.read, self._judged(outputs, masks))
                figures.update(losses, batch.rows, batch.y, batch.sample_weight, scores)
                if hooks is not None and hooks.end(step, figures.logs):
                    break
        return figures.logs()

    def predict(self, x: Source, batch_size: int, hooks: StepHooks | None = None) -> Any:
        """Outputs for all samples."""
        if x.rows == 0:
            return self.outputs(x, training=False)
        parts: list[Any] = []
        with self._chosen():
            for step, batch in enumerate(DataSet(x).batches(batch_size)):
                if hooks is not None:
                    hooks.begin(step)
                parts.append(self._outputs(batch.x, training=False))
                if hooks is not None and hooks.end(step, dict):
                    break
        return parts[0] if len(parts) == 1 else mapped(lambda *arrays: np.concatenate(arrays), *parts)

    def outputs(self, x: Source, training: bool) -> Any:
        """Outputs for all samples as one batch; in ``training`` layers draw masks, as calls outside any fit do."""
        with self._chosen():
            return self._outputs(x.batch(slice(0, x.rows)), training)

    def _outputs(self, x: Any, training: bool) -> Any:
        found = self._passed(*map(self._placement.put, each(x)), training=training)
        return mapped(self._placement.read, found)

    def _passed(self, *inputs: Array, training: bool = False) -> Any:
        """What comes out at the end, a tuple of several outputs."""
        layers, masks = self.network.layers, Masks()
        outputs = self._graph.forward(
            [*map(self._given, inputs)],
            lambda _, call, x: masks.passed(layers[call.layer], call, x, training)[0],
        )
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def gradients(self, batch: Batch) -> tuple[float, Any, Sequence[Array]]:
        """Loss of a batch with all penalties, its scores, and the gradients of the trained parameters in order.

        The gradients are valid until the next call, and lie where the runner's arrays do.
        """
        losses, scores, gradients = self._pass(batch)
        return losses[0], scores, gradients

    def _pass(self, batch: Batch) -> tuple[list[float], Any, Sequence[Array]]:
        """The same, behind the loss those of heads where there are several."""
        made = self.network.optimizer.iterations if self.network.optimizer else 0
        parts = [each(part) for part in placed(batch, self._placement)[:3]]
        given = [array for part in parts for array in part if array is not None]
        step = made % 2**32  # the op has 32 bits for it
        if not self._placement.programs or batch.y is None:
            losses, scores, gradients = self._gradients(step, *given)
        else:
            if self._recorded is None:  # here, for it refers to this runner: a prediction leaves no circle behind
                self._recorded = RecordedStep(self.network, self._gradients, self._placement)
            losses, scores, gradients = self._recorded(self.mask_seeds, step, *given)
        return [*map(float, losses)], mapped(self._placement.read, scores), gradients

    def _gradients(self, step: int, *given: Array) -> Gradients:
        """The same in step ``step``, by which masks are drawn; also of what stands for arrays in a program.

        ``given`` are inputs, then targets of every head, then weights of every head or none.
        """
        inputs, heads = self._graph.inputs, len(self._heads)
        y, weights = given[inputs : inputs + heads], given[inputs + heads :]
        outputs, masks, kept, penalty, activity = self._forward(given[:inputs], step)
        losses, slopes = self._scores(outputs, y, weights or None, masks)
        gradients = self._backward(slopes, kept, activity)
        share = self._penalty_share(given[0].shape[0], weights)
        loss = self._penalized(self._figure(losses[0]), penalty, gradients, share)
        return (loss, *losses[1:]), self._judged(outputs, masks), tuple(gradients)

    def _backward(self, slopes: Sequence[Any], kept: Sequence[Any], activity: Sequence[Any]) -> list[Array]:
        """The gradients of the trained parameters in order, from those of outputs and what the forward pass kept."""
        layers, found = self.network.layers, dict[int, list[Any]]()

        def back(place: int, call: Call, dy: Any) -> Any:
            if self._learned.isdisjoint(call.gives):
                return None
            if activity[place] is not None:
                dy = activity[place] if dy is None else ops.add(dy, activity[place])
            memory, charged = kept[place]
            if not charged and all(slope is None for slope in each(dy)):
                return None
            dx, own = layers[call.layer].backward(dy, memory, need_dx=not self._learned.isdisjoint(call.takes))
            before = found.get(call.layer)
            found[call.layer] = [*own] if before is None else [*map(_both, before, own)]
            return dx

        self._graph.backward(slopes, back)
        gradients = []
        for place, layer in enumerate(layers):
            own = found.get(place) or [calculate("zeros", x=parameter.value) for parameter in layer.parameters]
            gradients += [g for g, p in zip(own, layer.parameters, strict=True) if p.trainable]
        return gradients

    def _stop_if_diverged(self, loss: float, gradients: Sequence[Array], epoch: int, step: int) -> None:
        names = (parameter.path for parameter in self._trained)
        finite = self._placement.all_finite
        bad = next((name for name, g in zip(names, gradients, strict=True) if not finite([g])), None)
        if math.isfinite(loss) and bad is None:
            return
        what = f"the gradient of {bad} is not finite" if math.isfinite(loss) else f"the loss is {loss}"
        raise divergence(what, self.network, epoch, step)

    def _forward(
        self, inputs: Sequence[Array], step: int | None = None
    ) -> tuple[list[Array], list[Any], list[Any], float, list[Array | None]]:
        """Outputs or logits, their masks, what calls keep for backward passes, their penalty, activities' gradients.

        What a call keeps comes with whether its layer has added to the penalty itself, so that it has a gradient
        whatever becomes of its outputs. Of the training pass in step ``step``; without one, of no training.
        """
        kept: list[Any] = []
        gradients: list[Array | None] = []
        penalty, masks = 0.0, Masks()

        def run(place: int, call: Call, x: Any) -> Any:
            nonlocal penalty
            layer, samples = self.network.layers[call.layer], max((x[0] if call.listed else x).shape[0], 1)
            training = step is not None and Draw(self.mask_seeds[call.layer], step, place)
            charged: list[Any] = []
            with penalties.collected_in(charged):
                y, memory = masks.passed(layer, call, x, training, place not in self._on_logits)
            kept.append((memory, bool(charged)))
            if charged:
                penalty = added(penalties.summed(charged), penalty)
            gradient = None
            if layer.activity_regularizer is not None:
                value, gradient = self._penalty(layer.activity_regularizer, y)
                penalty += value / samples
                gradient = gradient / gradient.dtype.type(samples)
            gradients.append(gradient)
            return y

        outputs = self._graph.forward([*map(self._given, inputs)], run)
        return outputs, masks.of(self._graph.outputs), kept, penalty, gradients

    def _given(self, x: Array) -> Array:
        """Inputs of a batch as layers take them."""
        return x

    def figures(self) -> RunningFigures:
        """The figures of an epoch, of no batch yet."""
        return RunningFigures(self.network)

    def loss(self, batch: Batch, scores: Array) -> float:
        """Loss of a batch without penalties; ``scores`` are logits where loss and last activation are fused."""
        return self._scores([scores], batch.y, batch.sample_weight)[0][0]

    def _judged(self, outputs: Sequence[Any], masks: Sequence[Any]) -> Any:
        """Of the outputs those that heads look at, behind them masks where there are any; a tuple of several."""
        places = [head.output for head in self._heads] if self.network.heads else [0]
        if any(masks[place] is not None for place in places):
            found = [_all_count(outputs[place]) if masks[place] is None else masks[place] for place in places]
            return (*(outputs[place] for place in places), *found)
        return tuple(outputs[place] for place in places) if self.network.heads else outputs[0]

    def _scores(
        self, outputs: Sequence[Array], y: Any, sample_weight: Any, masks: Sequence[Any] = ()
    ) -> tuple[list[float], list[Any]]:
        """The loss, behind it those of heads where there are several, and the derivative by every output.

        ``masks`` of outputs, where they are known, say which steps count.
        """
        if y is None or not self.network.has_loss:
            raise RuntimeError("a network without a loss, or a batch without targets, cannot be scored")
        weights = [None] * len(self._heads) if sample_weight is None else each(sample_weight)
        losses: list[float] = []
        slopes: list[Any] = [None] * len(outputs)
        for head, true, weight in zip(self._heads, each(y), weights, strict=True):
            if head.loss is not None:
                mask = masks[head.output] if masks else None
                value, slope = self._score(head.loss, true, outputs[head.output], weight, mask)
                losses.append(value)
                slopes[head.output] = slope if head.weight == 1 else scaled(slope, head.weight)
        if not self.network.heads:
            return losses, slopes
        trained = [head for head in self._heads if head.loss is not None]
        shares = [loss * head.weight for loss, head in zip(losses, trained, strict=True)]
        return [sum(shares[1:], shares[0]), *losses], slopes

    def _score(
        self, loss: Loss, y: Array, scores: Array, sample_weight: Array | None, mask: Array | None
    ) -> tuple[float, Array]:
        """A loss and its derivative."""
        if mask is None:
            return loss.value_and_gradient(y, scores, sample_weight)
        return loss.masked(y, scores, mask, sample_weight)

    def _penalty(self, penalty: Regularizer, x: Array) -> tuple[float, Array]:
        """A penalty on an array, and its derivative."""
        return penalty.value_and_gradient(x)

    def weight_penalty(self) -> float:
        """The sum of the trained parameters' penalties."""
        penalties = ((p.regularizer, p.value) for p in self._trained)
        return sum(self._penalty(penalty, value)[0] for penalty, value in penalties if penalty is not None)

    def _figure(self, loss: Any) -> Any:
        """What is reported of a loss."""
        scale = 1.0 if self.network.loss is None else self.network.loss.figure_scale
        return loss if scale == 1 else loss * scale

    def _penalty_share(self, rows: int, weights: Sequence[Array]) -> float:
        """What penalties on weights are multiplied by, of a batch of so many samples.

        The sum of the samples' weights is no op: a step that has some is not recorded.
        """
        if not self.network.averaged_penalties:
            return 1.0
        total = float(weights[0].sum()) if weights else rows
        return 1 / total if total else 0.0

    def _penalized(self, loss: Any, penalty: Any, gradients: Sequence[Array], share: float) -> Any:
        """The loss with a penalty, and with ``share`` of those on weights, which gradients get theirs of in place."""
        return added(loss, added(penalty, self._add_weight_penalties(gradients, share)))

    def _add_weight_penalties(self, gradients: Sequence[Array], share: float) -> float:
        """Add ``share`` of each trained parameter's penalty to its gradient, in place; the sum of these shares."""
        total = 0.0
        for gradient, parameter in zip(gradients, self._trained, strict=True):
            if parameter.regularizer is not None:
                value, derivative = self._penalty(parameter.regularizer, parameter.value)
                ops.add(gradient, derivative if share == 1 else scaled(derivative, share), out=gradient)
                total += value if share == 1 else value * share
        return total
