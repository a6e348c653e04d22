"""Training steps of the layer-by-layer runner as programs: recorded where its network allows, else op by op."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn.engine.form import penalty_numbers
from fastnn.engine.placement import Batches, Placement
from fastnn.engine.protocols import Array, Layer, Network, Optimizer
from fastnn.engine.wiring import mapped
from fastnn.kernels.interrupts import held
from fastnn.programs import Program

# Batches of a size that run op by op before they are recorded, which takes as long as some steps.
OP_BY_OP = 8

# What a step gives: the loss, behind it those of heads where there are several; scores, a tuple of such for several
# heads; the gradients of the trained parameters.
Gradients = tuple[tuple[float, ...], Any, tuple[Array, ...]]


def batches_alone(placement: Placement) -> int:
    """Batches of a size that run by themselves before steps are recorded."""
    return OP_BY_OP if placement.runs_op_by_op else 0


def moving(network: Network) -> list[Array]:
    """What training passes move themselves: moving averages of layers that train, and states that go on."""
    found = (p.value for layer in network.layers if layer.trainable for p in layer.parameters if p.moves)
    return [*found, *(array for layer in network.layers for array in layer.carried)]


@contextmanager
def moving_kept(network: Network) -> Iterator[None]:
    """What moves is put back where the ``with`` block ends in an exception."""
    before = [(array, array.copy()) for array in moving(network)]
    try:
        yield
    except BaseException:
        for array, seen in before:
            array[...] = seen
        raise


class _Kept:
    """The program of a function of a network, another one whenever what that depends on has changed.

    Beside its arguments, that is: weights that are other arrays, layers that are frozen, another rate of a dropout.
    ``program`` is None where it cannot be recorded, which may turn out later.
    """

    def __init__(
        self, network: Network, function: Callable[..., Any], recordable: Callable[[Network], bool] | None = None
    ) -> None:
        self.network, self._function, self._recordable = network, function, recordable or is_recordable
        self._settings: Any = None
        self._alive: Sequence[Array] = ()  # so that no other array has the id of one of them
        self.program: Program | None = None

    def changed(self, seeds: Sequence[int], arrays: Sequence[Array] = (), *more: Any) -> bool:
        """Whether anything has; ``seeds`` are those of the layers' masks, ``more`` what else it depends on."""
        network = self.network
        losses = [head.loss and (head.loss.form, head.loss.reduction, head.weight) for head in network.judged]
        recordable = self._recordable(network)  # of a function of the user's that is known behind its first call
        settings = [recordable, list(seeds), losses, *map(_settings, network.layers)]
        settings += [*map(id, arrays), *more]
        if settings == self._settings:
            return False
        self._settings = settings
        self._alive = [*arrays, *(parameter.value for parameter in network.parameters), *moving(network)]
        self.program = Program(self._function) if recordable else None
        return True


class RecordedStep:
    """``gradients(step, x, y, sample_weight)`` of a network, replayed once some batches of a size have been run.

    ``gradients`` is called as it is, for good, where the network cannot be recorded. The gradients of a replay are
    valid until the next one; scores are a copy, since metrics may keep them.
    """

    def __init__(self, network: Network, gradients: Callable[..., Gradients], placement: Placement) -> None:
        self._gradients, self._kept, self._placement = gradients, _Kept(network, gradients), placement
        self._seen: Counter[Any] = Counter()

    def __call__(self, seeds: Sequence[int], step: int, *given: Array) -> Gradients:
        """What ``gradients`` gives for step ``step`` and these arrays; ``seeds`` are those of the layers' masks."""
        if self._kept.changed(seeds):
            self._seen.clear()
        program = self._kept.program
        if program is None:
            return self._gradients(step, *given)
        likeness = tuple(array.shape for array in given)
        self._seen[likeness] += 1
        alone = batches_alone(self._placement)
        if self._seen[likeness] <= alone:
            return self._gradients(step, *given)
        if self._seen[likeness] == alone + 1:
            return self._recorded(program, step, *given)
        losses, scores, gradients = program(step, *given)
        return losses, mapped(lambda array: array.copy(), scores), gradients

    def _recorded(self, program: Program, *given: Any) -> Gradients:
        """The first call of a likeness; whatever cannot be recorded runs again op by op, so that errors are its own."""
        try:
            with moving_kept(self._kept.network):
                results: Gradients = program(*given)
        except Exception:  # stand-ins of arrays may fail layers and losses in any way
            self._kept.program = None
            return self._gradients(*given)
        return results


class RecordedSteps:
    """Whole steps of a network, ``gradients(draw, x, y, sample_weight)`` and the update by them, many by one call.

    Either all of them are made, or none is: then weights and state are as they were, and it is for somebody else to
    make them one by one, until what the steps depend on changes. So it is where they cannot be recorded, where one
    raises, and where a loss, a weight or a part of the state is not finite any more.
    """

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        gradients: Callable[..., Gradients],
        placement: Placement,
    ) -> None:
        self._network, self._optimizer, self._gradients, self._placement = network, optimizer, gradients, placement
        self._kept = _Kept(network, self._step)
        self._trained = [parameter for parameter in network.parameters if parameter.trainable]
        self._scored = any(head.metrics or head.weighted_metrics for head in network.judged)
        self._arrays: list[Array] = []
        self._before: list[Array] = []

    def __call__(
        self, seeds: Sequence[int], batches: Batches, step: int, steps: int, batch_size: int
    ) -> tuple[Array, Any] | None:
        """Train on up to so many ``batches`` from ``step`` on; their losses, a row a batch, and scores for metrics.

        Scores lie where the runner's arrays do, until the next call. None where no step was made. An interrupt waits
        for the last one.
        """
        steps = min(steps, batches.at_hand(step)) if self._ready(seeds) else 0
        if steps == 0:
            return None
        for array, before in zip(self._arrays, self._before, strict=True):
            before[...] = array
        with held():
            results = self._trained_on(batches, step, steps, batch_size)
            if results is None:
                self._kept.program = None
                for array, before in zip(self._arrays, self._before, strict=True):
                    array[...] = before
        return results

    @property
    def launches(self) -> int:
        """Of kernels by a step, counted on a device; 0 where none has been made."""
        return 0 if self._kept.program is None else self._kept.program.launches

    @property
    def reasons(self) -> Sequence[str]:
        """Why these are more than the fewest."""
        return () if self._kept.program is None else self._kept.program.reasons

    def _ready(self, seeds: Sequence[int]) -> bool:
        """Whether there is a program of steps as they are now."""
        optimizer = self._optimizer
        optimizer.build(self._trained)
        states = [optimizer.state[parameter.path] for parameter in self._trained]
        arrays = [array for state in states for array in state.values()]
        name, options = optimizer.rule
        fixed = {key: value for key, value in options.items() if key not in ("learning_rate", "step")}
        fixed["clipping"] = optimizer.clipping
        fixed["decays"] = [optimizer.decay_of(parameter.path) for parameter in self._trained]
        recordable = optimizer.recordable(self._trained, self._placement.clips)
        if self._kept.changed(seeds, arrays, name, fixed, recordable):
            self._arrays = [*(parameter.value for parameter in self._trained), *moving(self._network), *arrays]
            self._before = [array.copy() for array in self._arrays]
        return recordable and self._kept.program is not None

    def _trained_on(self, batches: Batches, step: int, steps: int, batch_size: int) -> tuple[Array, Any] | None:
        optimizer, program = self._optimizer, self._kept.program
        assert program is not None
        made = optimizer.iterations
        numbers = made + np.arange(steps)
        try:
            given = batches.together(step, steps)
            each = {"draw": numbers % 2**32, "number": numbers + 1, "rate": optimizer.rates(made, steps)}
            losses, scores = program.repeat(given.arrays, given.rows, batch_size, each=each, join=True)
            given.meanwhile()
        except Exception:  # whatever that is, it will be raised by the step that it belongs to
            return None
        losses = np.stack([self._placement.read(each) for each in losses], axis=1)
        if not (np.isfinite(losses).all() and self._placement.all_finite(self._arrays)):
            return None
        optimizer.iterations += steps
        return losses, scores

    def _step(self, *given: Array, draw: int, number: int, rate: float) -> tuple[tuple[float, ...], Any]:
        losses, scores, gradients = self._gradients(draw, *given)
        self._optimizer.step(self._optimizer.clipped(gradients), self._trained, rate, number)
        return losses, scores if self._scored else None


class RecordedPasses:
    """``function(x, y, sample_weight)`` of the batches of a network that is not trained, many by one call."""

    def __init__(
        self, network: Network, function: Callable[..., Any], recordable: Callable[[Network], bool] | None = None
    ) -> None:
        self._kept = _Kept(network, function, recordable)

    def __call__(self, batches: Batches, step: int, steps: int, batch_size: int) -> Any:
        """What the function gives for up to so many batches from ``step`` on, one behind another.

        None where they are for somebody else to pass one by one, as for steps.
        """
        self._kept.changed(())
        program, steps = self._kept.program, min(steps, batches.at_hand(step))
        if program is None or steps == 0:
            return None
        try:
            given = batches.together(step, steps)
            results = program.repeat(given.arrays, given.rows, batch_size, join=True)
            given.meanwhile()
        except Exception:  # it will be raised by the batch that it belongs to
            self._kept.program = None
            return None
        return results


def layers_are_recordable(network: Network) -> bool:
    """Whether no layer can be the user's own Python."""
    return all(layer.recordable and layer.epilogue.fusable for layer in network.layers)


def is_recordable(network: Network) -> bool:
    """Whether nothing in a training step can be the user's own Python, whose effects a replay would leave out."""
    fused = network.fused_losses
    losses = [fused.get(head.output, head.loss) for head in network.judged if head.loss is not None]
    penalties = [p.regularizer for p in network.parameters] + [layer.activity_regularizer for layer in network.layers]
    return (
        network.has_loss
        and not network.op_by_op
        and all(loss is not None and loss.made_of_ops for loss in losses)
        and layers_are_recordable(network)
        and all(penalty is None or penalty_numbers(penalty) is not None for penalty in penalties)
    )


def _settings(layer: Layer) -> Any:
    """What a layer's passes depend on beside their arguments, as something to compare."""
    own = [
        (id(p.value), p.trainable, p.regularizer and (p.regularizer, penalty_numbers(p.regularizer)))
        for p in layer.parameters
    ]
    penalty, carried = layer.activity_regularizer, [*map(id, layer.carried)]
    penalized = penalty and (penalty, penalty_numbers(penalty))
    return layer.trainable, layer.form(), layer.epilogue, penalized, own, carried
