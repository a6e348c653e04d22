"""What the engine asks of layers, losses, metrics and optimizers, and what it offers to the trainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from fastnn.engine.wiring import Wiring, stacked
from fastnn.kernels.precision import ROUNDED

if TYPE_CHECKING:
    from fastnn.engine.data import DataSet, Source

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]
# Figures by name: floats, and arrays of metrics that give several numbers.
Logs = dict[str, Any]


class Draw(NamedTuple):
    """What names the masks of one layer in one training step: the op ``dropout`` takes it behind the rate."""

    seed: int
    step: int
    stream: int


# Whether a forward pass belongs to training; where it does, a runner says what to draw masks from.
Training = bool | Draw


class Regularizer(Protocol):
    """A penalty on an array: its value and its derivative."""

    def value_and_gradient(self, x: Array, /) -> tuple[float, Array]:
        """Penalty of ``x`` and its derivative, of the shape of ``x``."""
        ...


class Constraint(Protocol):
    """What weights become after a step."""

    def __call__(self, w: Array, /) -> Array:
        """The weights that take the place of ``w``."""
        ...


class Parameter(Protocol):
    """A weight array that lives in a layer."""

    path: str
    value: Array
    trainable: bool
    moves: bool

    @property
    def regularizer(self) -> Regularizer | None:
        """The penalty on this parameter, if any."""
        ...

    @property
    def constraint(self) -> Constraint | None:
        """What its values are brought to after every step, if anything."""
        ...


class Activation(Protocol):
    """What outputs go through."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def op(self) -> str:
        """The name of its op."""
        ...

    @property
    def numbers(self) -> tuple[float, ...]:
        """The numbers that it takes; none for the default ones."""
        ...

    @property
    def elementwise(self) -> bool:
        """Whether numbers go through it one by one, not rows as a whole."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether its derivative cannot be told from its outputs."""
        ...

    @property
    def flat(self) -> bool:
        """Whether its derivative is 0 almost everywhere, so that nothing below it learns."""
        ...

    @property
    def fusable(self) -> bool:
        """Whether kernels know it."""
        ...

    def __call__(self, x: Array) -> Array:
        """Outputs for an array of any shape."""
        ...

    def backward(self, dy: Array, x: Array, y: Array) -> Array:
        """From dL/dy: dL/dx, where y is what the activation gives for x."""
        ...


class DenseForm(NamedTuple):
    """activation(x @ kernel + bias)."""

    kernel: Parameter
    bias: Parameter | None
    activation: Activation


class ActivationForm(NamedTuple):
    """activation(x)."""

    activation: Activation


class PReLUForm(NamedTuple):
    """x where x > 0, else alpha * x: a slope for each number of a sample, or ``shared`` ones."""

    alpha: Parameter
    shared: bool


class DropForm(NamedTuple):
    """Dropout of a share of the inputs; the seed of the masks, None for the fit's."""

    rate: float
    seed: int | None


class RescaleForm(NamedTuple):
    """scale * x + offset."""

    scale: float
    offset: float


class ReshapeForm(NamedTuple):
    """The numbers of each sample as they are, in another shape."""


# How a layer describes itself to the runners that do not call it.
LayerForm = DenseForm | ActivationForm | PReLUForm | DropForm | RescaleForm | ReshapeForm


class Layer(Protocol):
    """One step of the network; it keeps its parameters and nothing of a batch."""

    name: str

    @property
    def trainable(self) -> bool:
        """Whether training changes its weights, and what of them moves."""
        ...

    @property
    def recordable(self) -> bool:
        """Whether its passes are ops of what they are given and of its parameters, and nothing else that matters."""
        ...

    @property
    def epilogue(self) -> Activation:
        """The activation that the outputs go through at the end, which ``forward`` can leave out."""
        ...

    def form(self) -> LayerForm | None:
        """What it does, where it is one of these things, to samples of the shape that it is built for; else None."""
        ...

    @property
    def activity_regularizer(self) -> Regularizer | None:
        """The penalty on the layer's outputs, if any; divided by the batch size."""
        ...

    @property
    def parameters(self) -> Sequence[Parameter]:
        """The layer's parameters, in the order of the gradients that ``backward`` returns."""
        ...

    @property
    def carried(self) -> Sequence[Array]:
        """Arrays beside its parameters that one batch leaves for the next: states."""
        ...

    @property
    def flops(self) -> int:
        """Floating-point operations of the products of one sample's forward pass."""
        ...

    @property
    def takes_mask(self) -> bool:
        """Whether ``forward`` wants, as ``mask``, which steps of its inputs count."""
        ...

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """Which steps of the outputs for x count, an array (n, t) of 0 and 1; None where all do, or nobody knows."""
        ...

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and what ``backward`` needs; without ``activate`` the activation is left out."""
        ...

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, or None where it is not needed, and the gradients of the parameters."""
        ...


class LossForm(NamedTuple):
    """A loss as the kernels know it: its name, the numbers that it takes, what becomes of a row's and a batch's.

    ``mean`` says whether the loss of a row is that of its outputs by their number, ``summed`` whether the loss of a
    batch is the sum of its rows', whatever the reduction. ``most`` is what a row's counts as at most, whatever its
    gradient.
    """

    name: str
    numbers: tuple[float, ...] = ()
    mean: bool = True
    summed: bool = False
    most: float = math.inf


class Loss(Protocol):
    """The function that training minimises; its figure, without penalties, is ``figure_scale`` times its value."""

    integer_targets: bool
    reduction: str | None
    ignore_class: int | None
    figure_scale: float

    @property
    def form(self) -> LossForm | None:
        """The kernels' name for the loss of a row of smoothed targets; None where it is none of theirs."""
        ...

    @property
    def made_of_ops(self) -> bool:
        """Whether ``value_and_gradient`` is ops, wherever its arrays lie."""
        ...

    def smoothed(self, y_true: Array) -> Array:
        """The rows that outputs are compared with: ``y_true`` itself where nothing is smoothed."""
        ...

    def shares(self, y_true: Array, batch_size: int, dtype: Any) -> Array | None:
        """What ``ignore_class`` makes of the weights of samples in batches of so many: factors, None without one."""
        ...

    def value_and_gradient(
        self, y_true: Array, y_pred: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """Loss of a batch and its derivative by ``y_pred``."""
        ...

    def masked(
        self, y_true: Array, y_pred: Array, mask: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """The same of the steps that a mask (n, t) names, for outputs (n, t, k)."""
        ...

    def logits_form(self, activation: str) -> Loss | None:
        """The loss that on the activation's input equals this one on its output; None where there is none."""
        ...


class Metric(Protocol):
    """A running figure over batches; class indices or rows as targets, None where both will do."""

    name: str
    integer_targets: bool | None
    # Whether it is a mean of figures, which a mask of steps weighs.
    counts_steps: bool

    @property
    def fused_number(self) -> float:
        """What the fused form wants to know: a threshold, a k; 0 where it wants nothing."""
        ...

    def fused_form(self, width: int) -> str | None:
        """The kernels' name for this figure of a row of ``width`` outputs; None where it is none of theirs."""
        ...

    def take(self, total: float, count: float) -> None:
        """Take over the sum of the fused form over samples, and the number of samples or the sum of their weights."""
        ...

    def count(self, values: Array, sample_weight: Array | None = None) -> None:
        """Count what the fused form gives for each sample of a batch."""
        ...

    def argmax_only(self, width: int) -> bool:
        """Whether only the place of the largest of ``width`` outputs matters, so that logits do for probabilities."""
        ...

    def reset_state(self) -> None:
        """Forget all batches."""
        ...

    def update_state(self, y_true: Array, y_pred: Array, sample_weight: Array | None = None) -> None:
        """Count one batch."""
        ...

    def result(self) -> Any:
        """The figure over all batches since the last reset: a float, or an array where it is of several numbers."""
        ...


class Optimizer(Protocol):
    """The rule that turns gradients into new weights."""

    iterations: int
    state: dict[str, dict[str, Array]]
    use_ema: bool

    @property
    def learning_rate(self) -> float:
        """The step size in use."""
        ...

    @property
    def schedule(self) -> object | None:
        """What gives the step size of every step; None where it is a number."""
        ...

    def rates(self, first: int, count: int) -> Array:
        """The step sizes of ``count`` steps from step ``first`` on, in float64; steps count from 0."""
        ...

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state arrays that a step works on, as its op has them."""
        ...

    @property
    def state_slots(self) -> tuple[str, ...]:
        """Names of the state arrays that each parameter has: those of a step, and the average if it is asked for."""
        ...

    def averaging(self, first: int, count: int) -> Array:
        """For each of ``count`` steps the share of the average that stays, and whether it takes the weights' place."""
        ...

    @property
    def looks_at_state(self) -> bool:
        """Whether it asks its state after every epoch if there is anything left to learn."""
        ...

    @property
    def forgets(self) -> bool:
        """Whether a gradient that is not finite may leave nothing behind the next step: steps are made one by one."""
        ...

    @property
    def rule(self) -> tuple[str, dict[str, Any]]:
        """The op that makes a step, and its options."""
        ...

    @property
    def clipping(self) -> tuple[str, float] | None:
        """The kind of clipping and its limit; None where gradients stay as they are."""
        ...

    def decay_of(self, path: str) -> float:
        """The share of a parameter's weights that goes before a step of rate 1."""
        ...

    def build(self, parameters: Sequence[Any]) -> None:
        """Make the state of parameters that have none."""
        ...

    def made_of_ops(self, parameters: Sequence[Any]) -> bool:
        """Whether ``apply`` calls nothing but ops for these parameters, wherever their arrays lie."""
        ...

    def recordable(self, parameters: Sequence[Any], clips: bool = False) -> bool:
        """Whether a program may record ``step`` of ``clipped`` gradients; ``clips`` says that it records clipping."""
        ...

    def clipped(self, gradients: Sequence[Array]) -> Sequence[Array]:
        """The gradients that a step is made by."""
        ...

    def step(self, gradients: Sequence[Array], parameters: Sequence[Any], rate: float, number: int) -> None:
        """Update every parameter in place, with the step size ``rate``, the ``number``-th time, counted from 1."""
        ...

    def apply(self, gradients: Sequence[Array], parameters: Sequence[Any]) -> None:
        """One step: update every parameter in place; the gradients are valid until the next step."""
        ...


@dataclass(frozen=True)
class Head:
    """What one output is trained and judged by: its name and place, its loss, how much that counts, its metrics."""

    name: str
    output: int
    loss: Any
    weight: float = 1.0
    metrics: Sequence[Any] = ()
    weighted_metrics: Sequence[Any] = ()


@dataclass(frozen=True)
class Network:
    """What a runner runs: the layers, how they are connected, and for training the loss, metrics and optimizer.

    Without a ``wiring`` layers are a stack. Where there are several outputs ``heads`` say what those are trained by, in
    place of ``loss``, ``metrics`` and ``weighted_metrics``. ``precision`` is that of the products in training:
    "tf32", "bfloat16", or None for the dtype; "auto" leaves it to the plan. ``memory_limit`` is what samples may take
    of a device's memory, in bytes. ``op_by_op`` wants steps that are not compiled. With ``averaged_penalties`` training
    divides penalties on weights by the number of the batch's samples, or by the sum of their weights, as it does the
    loss.
    """

    layers: Sequence[Layer]
    dtype: np.dtype[Any]
    loss: Loss | None = None
    optimizer: Optimizer | None = None
    metrics: Sequence[Metric] = ()
    weighted_metrics: Sequence[Metric] = ()
    precision: str | None = None
    memory_limit: int | None = None
    wiring: Wiring | None = None
    heads: Sequence[Head] = ()
    op_by_op: bool = False
    averaged_penalties: bool = False

    @property
    def graph(self) -> Wiring:
        """How the layers are connected."""
        return stacked(len(self.layers)) if self.wiring is None else self.wiring

    @property
    def is_stack(self) -> bool:
        """Whether each layer is fed by the one before, and no output but the last one's is looked at."""
        return not self.heads and self.graph.is_stack

    @property
    def judged(self) -> Sequence[Head]:
        """What outputs are trained and judged by: a head without a name where there is one output."""
        return self.heads or [Head("", 0, self.loss, 1.0, self.metrics, self.weighted_metrics)]

    @property
    def has_loss(self) -> bool:
        """Whether there is something to train for."""
        return any(head.loss is not None for head in self.judged)

    @property
    def products(self) -> str:
        """The format of the numbers that training multiplies; sums and weights are of the dtype."""
        return self.precision if self.precision in ROUNDED else str(self.dtype)

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, layer by layer."""
        return [parameter for layer in self.layers for parameter in layer.parameters]

    @property
    def fused_loss(self) -> Loss | None:
        """The loss that takes the last layer's logits in place of its outputs; None where there is no such loss."""
        return next(iter(self.fused_losses.values()), None) if not self.heads else None

    @property
    def fused_losses(self) -> dict[int, Loss]:
        """By output, the losses that take the logits behind it in its place.

        Whatever else looks at the outputs, another layer or a penalty, needs them: then nothing is fused.
        """
        found: dict[int, Loss] = {}
        places = self.graph.only_outputs()
        for head in self.judged:
            if head.loss is None or head.output not in places:
                continue
            layer = self.layers[self.graph.calls[places[head.output]].layer]
            on_logits = head.loss.logits_form(layer.epilogue.name)
            if on_logits is not None and layer.activity_regularizer is None:
                found[head.output] = on_logits
        return found


class StepHooks(Protocol):
    """What a runner calls around every batch, where someone listens.

    Without ``every_batch`` only the progress line listens: a runner may then call ``end`` alone, for some batches only,
    and need not have the weights at hand.
    """

    every_batch: bool

    def begin(self, step: int) -> None:
        """Before batch ``step``."""
        ...

    def end(self, step: int, logs: Callable[[], Logs]) -> bool:
        """After batch ``step``; ``logs()`` gives the running figures. True stops the epoch."""
        ...


class Runner(Protocol):
    """Runs a network; between its calls, but inside of ``staying``, parameters hold ordinary arrays of their values."""

    backend: str

    @property
    def mask_seeds(self) -> list[int]:
        """By layer, the seed of its masks; may be set before the first epoch."""
        ...

    @mask_seeds.setter
    def mask_seeds(self, value: list[int]) -> None: ...

    def staying(self, alone: bool = True) -> AbstractContextManager[None]:
        """For a ``with`` block in which nobody looks at weights or state: they may stay where the runner computes.

        ``alone`` says that nothing happens there but its epochs: no other runner of the network works meanwhile, and
        nothing is waited for, so that signals may be put off until an epoch looks for them.
        """
        ...

    def train_epoch(
        self, data: DataSet, batch_size: int, order: Array | None = None, epoch: int = 0, hooks: StepHooks | None = None
    ) -> Logs:
        """Train on every batch once, in ``order``; the figures are those of the training passes."""
        ...

    def evaluate(self, data: DataSet, batch_size: int, hooks: StepHooks | None = None) -> Logs:
        """Loss and metrics over all batches, weights untouched."""
        ...

    def predict(self, x: Source, batch_size: int, hooks: StepHooks | None = None) -> Any:
        """Outputs for all samples."""
        ...

    def outputs(self, x: Source, training: bool) -> Any:
        """Outputs for all samples as one batch, of a training pass if asked for."""
        ...
