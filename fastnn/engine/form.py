"""A network as the CPU kernel of an epoch runs it: stages; and what keeps a network from being run like that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastnn.engine.activations import LINEAR
from fastnn.engine.protocols import (
    Activation,
    ActivationForm,
    Array,
    DenseForm,
    DropForm,
    Layer,
    Loss,
    Metric,
    Network,
    Optimizer,
    Parameter,
    PReLUForm,
    RescaleForm,
    ReshapeForm,
)
from fastnn.kernels.formulas.activations import MOST_NUMBERS
from fastnn.kernels.table import NUMBERS


@dataclass(frozen=True)
class Drop:
    """Dropout at some place of the network, and the number of its layer; none at a rate of 0."""

    rate: float = 0.0
    layer: int = 0


@dataclass(frozen=True)
class Stage:
    """A dense layer, or none, the activation on it, and either (l1, l2) on its outputs or dropout behind that.

    Or a PReLU alone, whose slopes are in place of the bias.
    """

    activation: Activation = LINEAR
    kernel: Parameter | None = None
    bias: Parameter | None = None
    prelu: bool = False
    output_penalty: tuple[float, float] = (0.0, 0.0)
    drop: Drop = Drop()

    @property
    def parameters(self) -> tuple[Parameter | None, Parameter | None]:
        """Kernel and bias, where there are any."""
        return self.kernel, self.bias

    @property
    def penalties(self) -> list[tuple[float, float]]:
        """(l1, l2) on kernel, bias and outputs, zeros where there is none."""
        found = [p and p.regularizer and penalty_numbers(p.regularizer) for p in self.parameters]
        return [*(weights or (0.0, 0.0) for weights in found), self.output_penalty]


@dataclass(frozen=True)
class Preparation:
    """What is done to the inputs before the first stage: scale * x + offset, then dropout."""

    scale: float = 1.0
    offset: float = 0.0
    drop: Drop = Drop()


@dataclass(frozen=True)
class Form:
    """The network as the kernel runs it."""

    preparation: Preparation
    stages: Sequence[Stage]

    @property
    def skips_zeros(self) -> bool:
        """Whether zeros stay zeros up to a product, and other numbers are the same in every step."""
        before = self.preparation
        return before.offset == 0 and before.drop.rate == 0 and self.stages[0].kernel is not None


def form_of(network: Network) -> Form:
    """A stage takes the activation that follows it, then penalties on these outputs or the dropout.

    What comes twice, or behind the dropout, is a stage without weights; so is an activation whose derivative needs its
    input, which is then the outputs of the stage before.
    """
    before, stages = Preparation(), list[Stage]()
    last = len(network.layers) - 1
    for index, layer in enumerate(network.layers):
        activation: Activation = LINEAR
        match layer.form():
            case DenseForm(kernel, bias, activation):
                stages.append(Stage(LINEAR, kernel, bias))
            case ActivationForm(activation):
                pass
            case PReLUForm(alpha, _):
                stages.append(Stage(bias=alpha, prelu=True))
            case RescaleForm(scale, offset):
                before = replace(before, scale=scale * before.scale, offset=scale * before.offset + offset)
            case DropForm(rate, _) if rate > 0 and not stages and before.drop.rate == 0:
                before = replace(before, drop=Drop(rate, index))
            case DropForm(rate, _) if rate > 0:
                stages.append(replace(_taken(stages, _told_by_outputs), drop=Drop(rate, index)))
        if activation.needs_input:
            stages.append(Stage(activation))
        elif activation != LINEAR and not (index == last and network.fused_loss is not None):
            stages.append(replace(_taken(stages, lambda held: held == LINEAR), activation=activation))
        penalty = (layer.activity_regularizer and penalty_numbers(layer.activity_regularizer)) or (0.0, 0.0)
        if any(penalty):
            stage = _taken(stages, lambda _: True, penalized=True)
            l1, l2 = (a + b for a, b in zip(stage.output_penalty, penalty, strict=True))
            stages.append(replace(stage, output_penalty=(l1, l2)))
    return Form(before, stages)


def _told_by_outputs(activation: Activation) -> bool:
    """Whether outputs of which some were dropped tell the derivative of all that were not."""
    return activation.elementwise and not activation.needs_input


def _taken(stages: list[Stage], fits: Callable[[Activation], bool], penalized: bool = False) -> Stage:
    """The stage on top, taken off, if its activation ``fits`` and nothing is behind that; else a new one.

    Where it may be ``penalized``, penalties on its outputs may be there. A PReLU stays alone.
    """
    if not stages or stages[-1].prelu or not fits(stages[-1].activation):
        return Stage()
    free = stages[-1].drop.rate == 0 and (penalized or not any(stages[-1].output_penalty))
    return stages.pop() if free else Stage()


def _late_rescaling(network: Network) -> str | None:
    """The name of a layer that rescales something else than the inputs."""
    inputs = True
    for layer in network.layers:
        form = layer.form()
        if isinstance(form, RescaleForm) and not inputs:
            return layer.name
        inputs = inputs and isinstance(form, RescaleForm | ReshapeForm) and layer.activity_regularizer is None
    return None


def _layer_obstacle(layer: Layer) -> str | None:
    if layer.activity_regularizer is not None and not penalty_numbers(layer.activity_regularizer):
        return f"{layer.name} has a penalty of the user's own on its outputs"
    if any(p.regularizer is not None and not penalty_numbers(p.regularizer) for p in layer.parameters):
        return f"{layer.name} has a penalty of the user's own"
    if any(p.constraint is not None and p.trainable for p in layer.parameters):
        return f"{layer.name} has a constraint on its weights"
    return None


def penalty_numbers(regularizer: Any) -> tuple[float, float] | None:
    """(l1, l2) of a regularizer; None for one that is something else."""
    l1, l2 = getattr(regularizer, "l1", None), getattr(regularizer, "l2", None)
    return None if l1 is None or l2 is None else (float(l1), float(l2))


def obstacle(network: Network) -> str | None:
    """Why the fused runner cannot train this network, or predict with one that has no loss; None where it can."""
    return next(_obstacles(network), None)


def _obstacles(network: Network) -> Iterator[str]:
    if network.op_by_op:
        yield "it was asked for (run_eagerly)"
    if not network.is_stack:
        yield "the layers are a graph, not a stack"
        return
    yield from _obstacles_to_prediction(network)
    loss, optimizer = network.fused_loss or network.loss, network.optimizer
    if loss is not None and optimizer is not None:
        yield from _obstacles_to_training(network, loss, optimizer)


def _obstacles_to_prediction(network: Network) -> Iterator[str]:
    for layer in network.layers:
        form = layer.form()
        if form is None:
            yield f"{layer.name} takes samples of several axes, or is a layer of the user's own"
        elif isinstance(form, DenseForm | ActivationForm) and not form.activation.fusable:
            yield f"the activation of {layer.name} is a function of the user's own"
        elif isinstance(form, PReLUForm) and form.shared:
            yield f"{layer.name} shares its slopes"
    if (late := _late_rescaling(network)) is not None:
        yield f"{late} rescales what layers give, not the inputs"
    if not any(isinstance(layer.form(), DenseForm) for layer in network.layers):
        yield "there is no dense layer"


def _obstacles_to_training(network: Network, loss: Loss, optimizer: Optimizer) -> Iterator[str]:
    yield from (reason for layer in network.layers if (reason := _layer_obstacle(layer)) is not None)
    if loss.form is None:
        yield "the loss is none of the kernels'"
    width = _width(network)
    for metric in (*network.metrics, *network.weighted_metrics):
        form = metric.fused_form(width)
        if loss.integer_targets and (metric.integer_targets is False or form == "binary_accuracy"):
            yield f"the metric {metric.name!r} does not fit class indices"
        elif metric.integer_targets and not loss.integer_targets:
            yield f"the metric {metric.name!r} fits class indices only"


def _width(network: Network) -> int:
    """The number of outputs."""
    return int(network.parameters[-1].value.shape[-1])


# Losses of rows that are sums, not means over their outputs.
_SUMS = ("half_squared", "softmax_cross_entropy", "cross_entropy", "divergence", "categorical_hinge")
# Figures of the kernels that take a number of the metric's.
_NUMBERED = ("binary_accuracy", "top_k")


@dataclass(frozen=True)
class Figures:
    """Who keeps the metrics of training: the kernels, or the metrics themselves, of every batch's outputs.

    Of the kernels' there are the names and the number that goes with each; ``as_is`` says whether logits do in place of
    outputs where the loss has taken the last activation into itself.
    """

    metrics: Sequence[Metric]
    weighted: Sequence[Metric]
    forms: Sequence[tuple[str, float]]
    apart: Sequence[tuple[Metric, bool]]
    as_is: bool


def figures_of(network: Network) -> Figures:
    """How a network's metrics are kept while it is trained.

    The kernels keep none where the loss ignores a class: what they have for targets and weights is for the loss alone.
    """
    width = _width(network)
    ignores = network.loss is not None and network.loss.ignore_class is not None

    def kept(metric: Metric) -> bool:
        return not ignores and metric.fused_form(width) is not None

    plain, by_weight = (list(filter(kept, metrics)) for metrics in (network.metrics, network.weighted_metrics))
    apart = [
        (metric, weighted)
        for weighted, metrics in enumerate((network.metrics, network.weighted_metrics))
        for metric in metrics
        if not kept(metric)
    ]
    forms, as_is = _forms(network, [*plain, *by_weight], width, bool(apart))
    return Figures(plain, by_weight, forms, [(metric, bool(weighted)) for metric, weighted in apart], as_is)


def _forms(
    network: Network, metrics: Sequence[Metric], width: int, outputs: bool
) -> tuple[list[tuple[str, float]], bool]:
    """The kernels' names and numbers of metrics, and whether logits do, unless ``outputs`` are wanted anyway."""
    figures = []
    for metric in metrics:
        form = str(metric.fused_form(width))
        divisor = 1 if form in _SUMS else width
        figures.append((form, metric.fused_number if form in _NUMBERED else divisor))
    if network.fused_loss is None:
        return figures, True
    # the largest logit is the largest output, and a sigmoid above one half is a logit above 0
    half = ("binary_accuracy", 0.5) if network.layers[-1].epilogue.name == "sigmoid" else None
    if not outputs and all(figure == half or figure[0] == "accuracy" for figure in figures):
        return [(form, 0.0) for form, _ in figures], True
    return figures, False


def sizes_of(stages: Sequence[Stage]) -> tuple[int, ...]:
    """The width of the inputs, then of every stage's outputs."""
    sizes = [next(stage.kernel.value.shape[0] for stage in stages if stage.kernel is not None)]
    for stage in stages:
        sizes.append(sizes[-1] if stage.kernel is None else stage.kernel.value.shape[1])
    return tuple(sizes)


def numbers_of(stages: Sequence[Stage], dtype: np.dtype[Any]) -> Array:
    """The numbers that the stages' activations take, a row a stage."""
    numbers = np.zeros((len(stages), MOST_NUMBERS), dtype)
    for row, stage in zip(numbers, stages, strict=True):
        taken = stage.activation.numbers or tuple(NUMBERS.get(stage.activation.op, {}).values())
        row[: len(taken)] = taken
    return numbers
