"""A training step of the layer-by-layer runner as a program: recorded where its network allows, else op by op."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fastnn.engine.form import penalty_numbers
from fastnn.engine.protocols import Array, Layer, Network
from fastnn.programs import Program

# Batches of a size that run op by op before they are recorded, which takes as long as some steps.
OP_BY_OP = 8

# What a step gives: loss, scores, the gradients of the trained parameters.
Gradients = tuple[float, Array, tuple[Array, ...]]


class RecordedStep:
    """``gradients(step, x, y, sample_weight)`` of a network, replayed once some batches of a size have been run.

    ``gradients`` is called as it is, for good, where the network cannot be recorded. What it depends on beside its
    arguments is compared with what was recorded at every call: weights that are other arrays, layers that are frozen,
    another rate of a dropout. The gradients of a replay are valid until the next one; scores are a copy, since metrics
    may keep them.
    """

    def __init__(self, network: Network, gradients: Callable[..., Gradients]) -> None:
        self._network, self._gradients = network, gradients
        self._settings: Any = None
        self._values: Sequence[Array] = ()  # alive, so that no other array has the id of one of them
        self._seen: Counter[Any] = Counter()
        self._program: Program | None = None

    def __call__(self, seeds: Sequence[int], step: int, *given: Array) -> Gradients:
        """What ``gradients`` gives for step ``step`` and these arrays; ``seeds`` are those of the layers' masks."""
        network, loss = self._network, self._network.loss
        settings = [list(seeds), loss and (loss.form, loss.reduction), *map(_settings, network.layers)]
        if settings != self._settings:
            self._settings, self._program = settings, None
            self._values = [parameter.value for parameter in network.parameters]
            self._seen.clear()
            if is_recordable(network):
                self._program = Program(self._gradients)
        if self._program is None:
            return self._gradients(step, *given)
        likeness = len(given), given[0].shape
        self._seen[likeness] += 1
        if self._seen[likeness] <= OP_BY_OP:
            return self._gradients(step, *given)
        if self._seen[likeness] == OP_BY_OP + 1:
            return self._recorded(self._program, step, *given)
        loss, scores, gradients = self._program(step, *given)
        return loss, scores.copy(), gradients

    def _recorded(self, program: Program, *given: Any) -> Gradients:
        """The first call of a likeness; whatever cannot be recorded runs again op by op, so that errors are its own."""
        try:
            results: Gradients = program(*given)
        except Exception:  # stand-ins of arrays may fail layers and losses in any way
            self._program = None
            return self._gradients(*given)
        return results


def is_recordable(network: Network) -> bool:
    """Whether nothing in a training step can be the user's own Python, whose effects a replay would leave out."""
    loss = network.fused_loss or network.loss
    penalties = [p.regularizer for p in network.parameters] + [layer.activity_regularizer for layer in network.layers]
    return (
        loss is not None
        and loss.form is not None
        and all(layer.recordable and layer.activation.fusable for layer in network.layers)
        and all(penalty is None or penalty_numbers(penalty) is not None for penalty in penalties)
    )


def _settings(layer: Layer) -> Any:
    """What a layer's passes depend on beside their arguments, as something to compare."""
    own = [
        (id(p.value), p.trainable, p.regularizer and (p.regularizer, penalty_numbers(p.regularizer)))
        for p in layer.parameters
    ]
    penalty = layer.activity_regularizer
    return layer.form(), layer.activation, penalty and (penalty, penalty_numbers(penalty)), own
