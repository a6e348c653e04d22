"""What all models share: compile, fit, evaluate, predict, weights and files; Keras's names, arguments and defaults."""

from __future__ import annotations

import inspect
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from fastnn import backends, checks, layers, ops, optimizers, saving, serialization
from fastnn.callbacks.base import CallbackList, History
from fastnn.callbacks.base import checked as checked_callbacks
from fastnn.callbacks.checkpoints import require_finite_weights
from fastnn.configurable import snake_case, undefined
from fastnn.differentiation import gradients, unfollowed
from fastnn.engine import (
    DataSet,
    Network,
    Plan,
    Runner,
    index_source,
    input_source,
    make_plan,
    make_runner,
    numeric_array,
    penalties,
    seeds,
)
from fastnn.engine.activations import LINEAR
from fastnn.engine.data import DenseSource, Source, Sources, sources_of
from fastnn.engine.protocols import Array, Draw, Head, Logs, Shape, Training
from fastnn.engine.wiring import Call, Wiring, each
from fastnn.errors import DivergenceError
from fastnn.kernels.table import DTYPES
from fastnn.layers import Parameter
from fastnn.layers.base import Operation, agree, assign_all, refuse_symbols, unique_name
from fastnn.layers.calling import followed, inner, inside, learning
from fastnn.layers.symbols import BatchShape, Node, SymbolicTensor, is_symbolic
from fastnn.losses.base import AddedLoss
from fastnn.metrics import Mean, Metric
from fastnn.models.arguments import (
    BATCH_SIZE,
    PREDICTION_BATCH_SIZE,
    batch_shape,
    batch_size_of,
    by_name,
    check_precision,
    class_weight_of,
    heads_of,
    make_names_unique,
    sample_weight_of,
    warn_of_flat_activations,
)
from fastnn.models.body import Body
from fastnn.models.keras_files import is_keras_file
from fastnn.models.keras_files import weights_of as keras_weights
from fastnn.models.own_steps import OwnSteps
from fastnn.models.streams import drawn, is_stream
from fastnn.models.summaries import summary
from fastnn.optimizers import Optimizer
from fastnn.progress import Progress, progress
from fastnn.tape import Followed, calculate

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _apart(method: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """The method in a copy of the context: its backend and threads end with it, wherever it is interrupted.

    An interrupt may come between the choice of a backend and the ``try`` that takes it back.
    """

    @wraps(method)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        return copy_context().run(method, *args, **kwargs)

    return call


class _Feed:
    """What the epochs of a fit are trained on: arrays, or the batches that are drawn from a stream for each epoch."""

    def __init__(
        self, model: Model, x: Any, others: tuple[Any, Any], class_weight: Any, steps: int | None, batch_size: int
    ) -> None:
        self._model, self._class_weight = model, class_weight
        self._steps = None if steps is None else checks.positive_int("steps_per_epoch", steps)
        self._stream = x if is_stream(x) else None
        self.size = batch_size
        if self._stream is None:
            self.data = self._checked(x, *others)
            return
        if any(each is not None for each in others):
            raise ValueError("y, sample_weight: got one beside batches, wants it in these")
        self._draw()

    def _checked(self, x: Any, y: Any, sample_weight: Any) -> DataSet:
        return self._model._data_set(("x", "y", "sample_weight"), x, y, sample_weight, self._class_weight, stacklevel=8)

    def _draw(self) -> None:
        *given, self.size = drawn("x", self._stream, self._steps, "steps_per_epoch")
        self.data = self._checked(*given)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        steps = self.data.steps(self.size)
        return steps if self._steps is None else min(steps, self._steps)

    def samples(self, place: _Place, shuffle: bool, anew: bool) -> tuple[DataSet, Array | None]:
        """The samples of the next epoch and their order; of a stream other ones if ``anew``."""
        if self._stream is not None:
            if anew:
                self._draw()
            return place.samples(self.data, self.size, shuffle=False)
        samples, order = place.samples(self.data, self.size, shuffle)
        if self._steps is None:
            return samples, order
        return _shortened(samples, order, self._steps * self.size)


@dataclass
class _Place:
    """Where a fit begins: the epoch, the batches of it that are done, and what their order was drawn from."""

    runner: Runner
    epoch: int
    batches: int = 0
    generator: np.random.Generator | None = None

    def samples(self, data: DataSet, batch_size: int, shuffle: bool) -> tuple[DataSet, Array | None]:
        """The samples of the next epoch, those that are done left out, and their order; None where they come as is."""
        generator, done = self.generator or seeds.generator(), self.batches * batch_size
        self.generator, self.batches = None, 0
        order = generator.permutation(data.rows) if shuffle else None
        if not done:
            return data, order
        return data.rest(done), (np.arange(data.rows) if order is None else order)[done:]

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a copy of the model is in no fit, and a runner cannot be copied


# The classes that a file may name: layers, and models, which each enter themselves.
NAMES: dict[str, type[Any]] = {**layers.NAMES}


class Builder:
    """The calls of layers that a model comes down to, those of models inside of it included."""

    def __init__(self, inputs: int) -> None:
        self.layers: list[Any] = []
        self.calls: list[Call] = []
        self._places: dict[int, int] = {}
        self._values = inputs

    def call(self, operation: Operation, takes: Sequence[int], listed: bool = False, gives: int = 1) -> list[int]:
        """The values that a call gives, of those that it takes."""
        if isinstance(operation, Model):
            return operation.expand(self, takes)
        place = self._places.setdefault(id(operation), len(self.layers))
        if place == len(self.layers):
            self.layers.append(operation)
        values = [*range(self._values, self._values + gives)]
        self._values += gives
        self.calls.append(Call(place, tuple(takes), tuple(values), listed))
        return values


class Model(Operation):
    """Layers that are compiled, fitted, evaluated and saved together.

    ``Model(inputs, outputs)`` is the graph of layers that leads from symbolic inputs to symbolic outputs, each a tensor
    or a list or dict of such (``Functional``); a ``Sequential`` is a stack of layers. A model may itself be called on
    symbolic tensors, as a layer.

    A model of your own defines ``call(inputs)``, or ``call(inputs, training)``, over layers that ``__init__`` has put
    into its attributes, and ``fastnn.ops``; ``inputs`` is an array, or a list or dict of such, and so is what it
    returns. It is built for the first data, or by ``build``. ``self.add_loss`` adds to what is minimised, where there
    is more to it also ``self.add_weight`` with ``build(input_shape)``. A ``train_step`` or ``compute_loss`` of its own
    is called for every batch (``fastnn.gradients``).

    >>> x = layers.Input((8,))
    >>> h = layers.Dense(16, "relu")(x)
    >>> model = Model(x, layers.add([h, layers.Dense(16)(h)]))
    """

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """A graph of layers where there are inputs and outputs."""
        connected = bool(args or {"inputs", "outputs"} & options.keys())
        if cls is Model and not connected:
            raise TypeError("inputs, outputs: got none, wants symbolic tensors: Model(inputs, outputs)")
        made: Any = super().__new__(_graph_of(cls) if connected and cls.__init__ is Model.__init__ else cls)
        made._arguments = args, options
        return made

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        name: str | None = None,
        *,
        trainable: bool = True,
        dtype: str | None = None,
    ) -> None:
        if inputs is not None or outputs is not None:
            self.__class__ = _graph_of(type(self))
            NAMES["Functional"].__init__(self, inputs, outputs, name)
            return
        kind = snake_case(type(self).__name__)
        self._kind = kind if name is None else None
        self.name = name if name is not None else unique_name(kind)
        checks.instance("name", self.name, str, "a string")
        self._body = Body(self)
        self._body.dtype = checks.float_dtype("dtype", dtype)
        self._body.trainable = trainable
        self.nodes: list[Node] = []
        self.optimizer: Optimizer | None = None
        self.loss: Any = None
        self._heads: list[Head] = []
        self._metrics: list[Metric] = []
        self._weighted_metrics: list[Metric] = []
        self._backend = "auto"
        self._precision: str | None = None
        self._run_eagerly = False
        self._memory_limit: int | None = None
        self._warned_of_outputs = False
        self.stop_training = False
        self.history: History | None = None
        self._place: _Place | None = None
        self._wanted: tuple[Any, ...] | None = None
        self._loss_seen = Mean("loss")

    def __init_subclass__(cls) -> None:
        """A build of the user's own makes what is the model's own, wherever it is called."""
        super().__init_subclass__()
        cls.trains_itself = cls.trains_itself or not {"train_step", "test_step", "compute_loss"}.isdisjoint(vars(cls))
        if "build" in vars(cls) and hasattr(cls, "call"):
            cls.make_own = cls.build  # type: ignore[method-assign]
            cls.build = Model.build  # type: ignore[method-assign]

    @property
    def is_called(self) -> bool:
        """Whether it is a model with a ``call`` of the user's own, no stack and no graph of layers."""
        return type(self)._layers is Model._layers

    @property
    def input_structure(self) -> Any:
        """Shapes of a sample of the inputs as lists: one, a list of such, or a dict."""
        shapes = [[*shape[1:]] for shape in self._bottom_shapes() or []]
        if self._body.names is not None:
            return dict(zip(self._body.names, shapes, strict=True))
        return shapes if isinstance(self._body.input_shape, list) else shapes[0]

    def make_own(self, input_shape: Any) -> None:
        """What a model of the user's own has as ``build``."""

    # ---------------------------------------------------------------------------------------------------- the layers

    @property
    def built(self) -> bool:
        """Whether the weights are made."""
        return bool(self._layers) and all(layer.built for layer in self._layers)

    @built.setter
    def built(self, value: bool) -> None:
        """Nothing: layers tell it. Builds of users set it."""

    @property
    def _layers(self) -> Any:
        """The layers and models among the attributes; of stacks and graphs those that they are made of."""
        return inner(self)

    @property
    def layers(self) -> list[Any]:
        """The layers, and models that were called as layers; of a graph also its InputLayers, of a stack not."""
        return list(self._layers)

    @property
    def dtype(self) -> str | None:
        """The dtype of the layers that have one."""
        return next((layer.dtype for layer in self._layers if layer.dtype is not None), None)

    def parameter_shapes(self, input_shape: Any) -> dict[str, Shape]:
        """None of its own: its layers have them."""
        return {}

    # What it was made with.
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    # Whether steps are the user's own: by a ``train_step`` or another part of it.
    trains_itself = False
    sample_shape = None
    activity_regularizer = None
    activation = LINEAR

    @property
    def compute_dtype(self) -> np.dtype[Any]:
        """The dtype in which the model computes."""
        return np.dtype(self.dtype or DTYPES[0])

    @property
    def input_shape(self) -> Any:
        """Shape of the inputs, the batch axis as None; AttributeError while it is unknown, so ``hasattr`` can ask.

        A list of shapes where there are several inputs, and so it is with outputs.
        """
        shape = self._bottom_shape()
        if shape is None:
            raise AttributeError(f"{self.name}: the model is not built, so its input shape is unknown")
        return shape

    @property
    def output_shape(self) -> Any:
        """Shape of the outputs, the batch axis as None; AttributeError while it is unknown."""
        return self._output_shape(self.input_shape)

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """The symbolic inputs, in a list as Keras has it; AttributeError while their shapes are unknown."""
        raise AttributeError(f"{self.name}: got a model with a call of its own, which has no symbolic inputs")

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """The symbolic outputs, likewise."""
        raise AttributeError(f"{self.name}: got a model with a call of its own, which has no symbolic outputs")

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, by which a dict of data may have them."""
        return self._body.names or [f"input_{place}" for place in range(len(self._bottom_shapes() or [()]))]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, by which dicts of targets, losses and metrics may have them."""
        shapes = self._body.outputs if isinstance(self._body.outputs, list) else [()]
        return self._body.output_names or [f"output_{place}" for place in range(len(shapes))]

    def expand(self, builder: Builder, takes: Sequence[int]) -> list[int]:
        """The values that the outputs are, of those that the inputs are."""
        gives = len(self._body.outputs) if isinstance(self._body.outputs, list) else 1
        return builder.call(self._body, takes, isinstance(self._body.input_shape, list), gives)

    def feeding(self, layer: Operation) -> list[str]:
        """What the calls of a layer in this model were given, as ``name`` or ``name[place]``; nothing in a stack."""
        return []

    def wired(self) -> tuple[list[Any], Wiring]:
        """The layers, those of models inside included, and how they are connected."""
        inputs = len(self._bottom_shapes() or [()])
        builder = Builder(inputs)
        outputs = self.expand(builder, range(inputs))
        return builder.layers, Wiring(inputs, tuple(builder.calls), tuple(outputs))

    def _bottom_shapes(self) -> list[BatchShape] | None:
        """Shapes of the inputs in a list; None while they are unknown."""
        found = self._bottom_shape()
        return found if found is None or isinstance(found, list) else [found]

    def _arranged(self, outputs: Sequence[Any]) -> Any:
        """What there is for each output, in the structure in which the model has its outputs."""
        if self._body.output_names is not None:
            return dict(zip(self._body.output_names, outputs, strict=True))
        return outputs[0] if len(outputs) == 1 else [*outputs]

    def forward(self, x: Any, training: Training = False, activate: bool = True) -> tuple[Any, Any]:
        """Outputs of a batch, and what ``backward`` needs: inside of a layer that calls this model."""
        layers, wiring = self.wired()
        kept: list[Any] = []

        def run(place: int, call: Call, x: Any) -> Any:
            draw = training._replace(stream=training.stream + place) if isinstance(training, Draw) else training
            y, memory = layers[call.layer].forward(x, draw)
            kept.append(memory)
            return y

        found = wiring.forward(x if isinstance(x, (list, tuple)) else [x], run)
        return found[0] if len(found) == 1 else tuple(found), kept

    def backward(self, dy: Any, kept: Any, need_dx: bool = True) -> tuple[Any, Sequence[Any]]:
        """From dL/dy: dL/dx, and the gradients of the weights."""
        layers, wiring = self.wired()
        found: dict[int, Any] = {}

        def back(place: int, call: Call, dy: Any) -> Any:
            if all(slope is None for slope in each(dy)):
                return None
            dx, own = layers[call.layer].backward(dy, kept[place])
            for parameter, slope in zip(layers[call.layer].parameters, own, strict=True):
                before = found.get(id(parameter))
                found[id(parameter)] = slope if before is None else ops.add(before, slope)
            return dx

        values = wiring.backward(each(dy), back)
        dx = [values.get(value) for value in range(wiring.inputs)]
        gradients = [
            calculate("zeros", x=parameter.value) if found.get(id(parameter)) is None else found[id(parameter)]
            for parameter in self.weights
        ]
        return (dx[0] if len(dx) == 1 else dx), gradients

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of the outputs for inputs of ``input_shape``, both with the batch axis."""
        return self._output_shape(_checked_shape(input_shape, self._bottom_shape()))

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """The layer of that name, or at that place."""
        if (name is None) == (index is None):
            raise ValueError(f"name, index: got {name!r} and {index!r}, wants one of them")
        if index is not None:
            place = checks.integer("index", index)
            if not -len(self._layers) <= place < len(self._layers):
                raise ValueError(f"index: got {place}, wants one of the {len(self._layers)} layers")
            return self._layers[place]
        names = {layer.name: layer for layer in self._layers}
        return names[checks.one_of("name", name, names)]

    def build(self, input_shape: Any = None) -> None:
        """Make the weights for inputs of ``input_shape``, the batch axis (None) included; of several a list or dict."""
        if input_shape is None:
            raise ValueError("input_shape: got None, wants a shape such as (None, 784)")
        shapes: Any = input_shape
        if isinstance(input_shape, Mapping):
            names = [*map(str, input_shape)]
            if not self._body.built:
                self._body.names = names
            shapes = [*input_shape.values()]
        elif isinstance(input_shape, (list, tuple)) and any(isinstance(each, (list, tuple)) for each in input_shape):
            shapes = [*input_shape]
        self._body.name = self.name
        self._body.build(_checked_shape(shapes, self._body.input_shape))

    def _bottom_shape(self) -> Any:
        """Shape of the inputs, a list of such where there are several; None while it is unknown."""
        return self._body.input_shape

    def _output_shape(self, shape: Any) -> Any:
        """Shape of the outputs for inputs of ``shape``; lists of such where there are several."""
        return self._body.compute_output_shape(shape)

    def add_weight(self, *args: Any, **options: Any) -> Parameter:
        """A new weight array of the model's own, as ``Layer.add_weight`` makes it."""
        return self._body.add_weight(*args, **options)

    # ---------------------------------------------------------------------------------------------------- the weights

    @property
    def weights(self) -> list[Parameter]:
        """All parameters, layer by layer."""
        found = [*self._body.parameters, *(p for layer in self._layers for p in layer.weights)]
        return [*{id(parameter): parameter for parameter in found}.values()]

    @property
    def trainable(self) -> bool:
        """Whether any layer may learn; setting it sets every layer."""
        return any(layer.trainable for layer in self._layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self._layers:
            layer.trainable = value

    def _part_paths(self) -> None:
        """Give parameters of models inside paths of their own where others have the same."""
        counts = Counter(parameter.path for parameter in self.weights)
        for layer in self._layers:
            for parameter in layer.weights if isinstance(layer, Model) else ():
                if counts[parameter.path] > 1:
                    parameter.path = f"{layer.name}/{parameter.path}"
        for path, count in Counter(parameter.path for parameter in self.weights).items():
            if count > 1:
                raise ValueError(f"layers: got {count} weights of the name {path!r}, wants every name once")

    def get_weights(self) -> list[Array]:
        """Copies of all weight arrays: kernel, bias, kernel, bias, ..."""
        return [parameter.numpy() for parameter in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Take over ``weights``, in the order of ``get_weights``; nothing is changed unless all of them fit."""
        self._require_built("set_weights")
        assign_all(self.weights, weights)

    def count_params(self) -> int:
        """Number of weights; ValueError before the model is built."""
        self._require_built("count_params")
        return sum(parameter.value.size for parameter in self.weights)

    def _require_built(self, what: str) -> None:
        if not self.built:
            raise ValueError(
                f"{what}: the model is not built; give it an Input, call build((None, ...)) or fit it first"
            )

    # ---------------------------------------------------------------------------------------------------- compile

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        loss_weights: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        *,
        backend: str = "auto",
        precision: str | None = None,
        memory_limit: int | str | None = None,
    ) -> None:
        """Say how to train: optimizer, loss, metrics, and the backend ("auto", "cpu", "naive", "cuda").

        Where a model has several outputs, ``loss``, ``metrics``, ``weighted_metrics`` and ``loss_weights`` are lists of
        one entry an output, or dicts by the outputs' names; an output's metrics may be a list. The loss is then the sum
        of the losses, each times its weight (1 by default), and ``history`` has them as ``name_loss`` as well.

        ``run_eagerly`` makes each step op by op, so that a ``call`` of the user's runs in every one, for debugging.
        ``steps_per_execution`` and ``jit_compile`` are Keras's: what can be compiled is anyway, and a call of the
        compiled code has as many steps as take some 50 ms.

        ``metrics`` ignore sample weights, ``weighted_metrics`` count by them. ``precision`` is that of the products in
        training: "bfloat16" rounds what is multiplied to 8 bits of mantissa while weights, sums, losses and optimizer
        stay float32, at up to twice the speed on a CPU with AVX512-BF16; "auto" takes it where it can and says so once
        where it cannot; None is the dtype of the model. Evaluation and prediction use the dtype in any case.

        ``memory_limit`` is what samples may take of a device's memory, in bytes or as text such as "2GB" or "512MiB";
        None is half of what is free there. Samples that take more are brought a piece at a time while steps are at
        work. Files do not keep it. On the CPU samples stay where they are.

        Nothing is changed unless all is valid. Raises BackendError where the backend or precision named cannot serve.
        """
        limit = None if memory_limit is None else checks.memory("memory_limit", memory_limit)
        found = optimizers.get(optimizer)
        wanted = loss, loss_weights, metrics, weighted_metrics
        names = self.output_names if self._has_several_outputs else None
        later = not self._knows_outputs and any(isinstance(each, (list, tuple, Mapping)) for each in wanted[:2])
        heads = heads_of(names, *([None] * 4 if later else wanted))
        checks.instance("run_eagerly", run_eagerly, bool, "True or False")
        checks.positive_int("steps_per_execution", steps_per_execution)
        checks.one_of("jit_compile", str(jit_compile), ("auto", "True", "False", "None"))
        chosen = backends.resolve(backend)
        check_precision(precision, chosen, self.compute_dtype)
        make_names_unique([*heads])
        self.optimizer, self._backend, self._precision, self._run_eagerly = found, backend, precision, run_eagerly
        self._judge_by(heads, names is not None)
        self._wanted = None if self._knows_outputs else wanted
        self._memory_limit = limit
        self._warned_of_outputs = False
        bottom = self._bottom_shape()
        if bottom is not None and self._knows_outputs and self._layers:
            self._warn_of_outputs(self._output_shape(bottom), stacklevel=4)

    def _judge_by(self, heads: Sequence[Head], several: bool) -> None:
        """Take over how outputs are trained and judged."""
        self._heads = [*heads] if several else []
        each_loss = [head.loss for head in heads]
        self.loss = None if each_loss.count(None) == len(each_loss) else each_loss if several else each_loss[0]
        self._metrics = [metric for head in heads for metric in head.metrics]
        self._weighted_metrics = [metric for head in heads for metric in head.weighted_metrics]

    def _judge_as_built(self) -> None:
        """What compile could not know of a model with a call of its own: how many outputs there are."""
        if self._wanted is None:
            return
        wanted, several = self._wanted, self._has_several_outputs
        if several or any(isinstance(each, (list, tuple, Mapping)) for each in wanted[:2]):
            heads = heads_of(self.output_names if several else None, *wanted)
            make_names_unique(heads)
            self._judge_by(heads, several)
        self._wanted = None

    @property
    def _knows_outputs(self) -> bool:
        """Whether the outputs' names are known; those of a call are once it has been made."""
        return self._body.built or not self.is_called

    @property
    def _has_several_outputs(self) -> bool:
        return isinstance(self._body.outputs, list)

    def _may_add_losses(self) -> bool:
        """Whether a ``call`` of the user's may."""
        layers = self.wired()[0] if self._knows_outputs and self._layers else [self._body]
        return any(layer._by_call for layer in layers)

    def _judged(self) -> list[Head]:
        """What the outputs are trained and judged by; one without a name where there is one output."""
        return self._heads or [Head("", 0, self.loss, 1.0, self._metrics, self._weighted_metrics)]

    def _warn_of_outputs(self, shape: Any, stacklevel: int) -> None:
        """Say, once after compile, where a loss makes no sense of so many outputs."""
        if self._warned_of_outputs:
            return
        self._warned_of_outputs = True
        shapes = shape if isinstance(shape, list) else [shape]
        for head in self._judged():
            width = shapes[head.output][-1]
            if head.loss is not None and width is not None:
                head.loss.warn_of_outputs(width, stacklevel)

    @property
    def metrics(self) -> list[Metric]:
        """The compiled metrics, weighted ones last."""
        return [*self._metrics, *self._weighted_metrics]

    @property
    def metrics_names(self) -> list[str]:
        """Names of the figures that ``evaluate`` returns, in its order."""
        losses = [f"{head.name}_loss" for head in self._heads if head.loss is not None]
        metrics = [m.name for head in self._judged() for m in (*head.metrics, *head.weighted_metrics)]
        return ["loss", *losses, *metrics]

    # ---------------------------------------------------------------------------------------------------- own steps

    @property
    def tracked(self) -> list[Metric]:
        """The metrics that steps of the user's own count in: ``metrics``, and those of the attributes."""
        found = [*self.metrics, *(each for each in vars(self).values() if isinstance(each, Metric)), self._loss_seen]
        return [*{id(metric): metric for metric in found}.values()]

    def arranged(self, outputs: Any) -> Any:
        """What there is for outputs, an array or a tuple of such, in the structure of the outputs."""
        return self._arranged(outputs) if isinstance(outputs, tuple) else outputs

    def as_given(self, inputs: Any) -> Any:
        """Inputs, an array or a tuple of such, in the structure in which ``call`` takes them."""
        if not isinstance(inputs, tuple):
            return inputs
        return [*inputs] if self._body.names is None else dict(zip(self._body.names, inputs, strict=True))

    def train_step(self, data: Any) -> Logs:
        """One step on a batch, (x, y) or (x, y, weights); figures by name.

        One of a subclass's own is called by ``fit`` for every batch, and does what it likes: as here, it takes
        ``fastnn.gradients`` by ``self.trainable_weights`` and lets ``self.optimizer.apply`` them.
        """
        x, y, weight = (*data, None, None)[:3] if isinstance(data, tuple) else (data, None, None)
        seen: list[Any] = []

        def loss_of() -> Any:
            y_pred = self(x, training=True)
            seen.append(y_pred)
            return self.compute_loss(x, y, y_pred, weight)

        loss, found = gradients(loss_of, self.trainable_weights)
        self._compiled_optimizer.apply(found, self.trainable_weights)
        self._loss_seen.update_state(loss, None if weight is None else float(np.mean(weight)))
        return self.compute_metrics(x, y, unfollowed(seen[0]), weight)

    def test_step(self, data: Any) -> Logs:
        """The figures of one batch, without training; likewise."""
        x, y, weight = (*data, None, None)[:3] if isinstance(data, tuple) else (data, None, None)
        y_pred = self(x, training=False)
        self._loss_seen.update_state(self.compute_loss(x, y, y_pred, weight, training=False))
        return self.compute_metrics(x, y, y_pred, weight)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The compiled loss of a batch, with all penalties and what layers added."""
        total = sum(self.losses)
        for head in self._judged():
            if head.loss is not None:
                true, pred, weight = (_of_head(each, head) for each in (y, y_pred, sample_weight))
                total = total + head.loss(true, pred, weight) * head.weight
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Logs:
        """The figures so far, of the compiled metrics with this batch: ``loss`` first."""
        for head in self._judged():
            true, pred, weight = (_of_head(each, head) for each in (y, y_pred, sample_weight))
            for metric in head.metrics:
                metric.update_state(true, pred)
            for metric in head.weighted_metrics:
                metric.update_state(true, pred, weight)
        return self.get_metrics_result()

    def get_metrics_result(self) -> Logs:
        """The figures so far of all metrics, by name."""
        found = {"loss": self._loss_seen} if self._loss_seen.seen else {}
        return {name: metric.result() for name, metric in {**found, **{m.name: m for m in self.metrics}}.items()}

    def plan(self, x: Any = None, batch_size: int = BATCH_SIZE, *, threads: int | None = None) -> Plan:
        """What a fit on ``x`` would run, and why; print it. Without ``x`` the model must be built."""
        checks.positive_int("batch_size", batch_size)
        on_threads = backends.use_num_threads(threads)
        source = None if x is None else self._source("x", x)
        self._build_for(source)
        with on_threads:
            return make_plan(self._network(), self._backend, source, batch_size)

    def _network(self) -> Network:
        layers, wiring = self.wired()
        stack = wiring.is_stack and len(layers) == len(wiring.calls)
        several = bool(self._heads) and self.loss is not None
        added = AddedLoss() if self.loss is None and self.optimizer is not None else None
        return Network(
            layers,
            self.compute_dtype,
            None if several else self.loss or added,
            self.optimizer,
            [] if several else self._metrics,
            [] if several else self._weighted_metrics,
            self._precision,
            self._memory_limit,
            None if stack else wiring,
            [head for head in self._heads if several and (head.loss or head.metrics or head.weighted_metrics)],
            self._run_eagerly,
        )

    def _runner(self, source: Source, batch_size: int, training: bool = False, backend: str | None = None) -> Runner:
        """What trains this model, or without ``training`` what evaluates and predicts with it, on a ``backend``.

        What the fused runner cannot train it may evaluate all the same, and predict with.
        """
        network = self._network() if training else replace(self._network(), optimizer=None)
        if self.trains_itself:
            return OwnSteps(self, network, backends.resolve(backend or self._backend))
        return make_runner(network, make_plan(network, backend or self._backend, source, batch_size))

    # ---------------------------------------------------------------------------------------------------- train

    @_apart
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        *,
        threads: int | None = None,
    ) -> History:
        """Train on ``x`` and ``y`` for epochs ``initial_epoch`` to ``epochs``; the figures of every epoch.

        ``x`` is an array (float, int, uint or bool) or a scipy.sparse matrix. Arrays of the model's dtype and bytes are
        read where they lie, read-only or mapped from a file too (``np.load(..., mmap_mode="r")``), others are
        converted, mapped ones a few batches at a time: data may be larger than memory. Loss and metrics are those of
        the training passes themselves, the loss with all penalties. ``validation_split`` keeps the last samples, before
        shuffling, for validation. ``sample_weight`` has the shape (n,), or for outputs (n, t, k) also (n, t), a weight
        a step. A model of several inputs or outputs takes lists, tuples or dicts of such by name. Nothing is changed
        unless all arguments are valid.

        ``x`` may also be a generator or an iterator of batches (inputs, targets) or (inputs, targets, weights), of
        which an epoch takes ``steps_per_epoch``, or an object with ``len`` and ``[...]`` that has such batches, all of
        which are an epoch (``keras.utils.PyDataset``); ``validation_data`` likewise, with ``validation_steps``. Batches
        are drawn at the beginning of an epoch, which memory has to hold, are not shuffled, and are trained on in
        batches of the first one's size. Of arrays ``steps_per_epoch`` batches are an epoch.

        ``threads`` is the number of CPU threads for this call alone: other calls, of other Python threads too, keep
        that of ``get_num_threads``. Results do not depend on it.

        What a signal's handler raises, KeyboardInterrupt for Ctrl-C, ends training after some 50 ms, or after the step
        at hand where that takes longer: weights, optimizer state and ``optimizer.iterations`` are those of a whole
        step, ``history`` of the epochs before, and another ``fit`` goes on from there.
        """
        self._require_compiled("fit")
        on_threads = backends.use_num_threads(threads)
        first, last = checks.integer("initial_epoch", initial_epoch, 0), checks.integer("epochs", epochs, 0)
        every = checks.positive_int("validation_freq", validation_freq)
        checks.instance("shuffle", shuffle, (bool, np.bool_), "True or False")
        listeners = checked_callbacks(callbacks)
        show = progress(verbose)
        share = checks.real("validation_split", validation_split, minimum=0, maximum=1, open_high=True)
        size = batch_size_of("batch_size", batch_size)
        feed = _Feed(self, x, (y, sample_weight), class_weight, steps_per_epoch, size)
        size, validation_size = feed.size, batch_size_of("validation_batch_size", validation_batch_size, feed.size)
        validation_data, validation_size = _all_drawn(validation_data, validation_steps, validation_size)
        data, validation = self._validation(feed.data, share, validation_data)
        feed.data = data
        self._build_to_train(data.x)

        with on_threads:
            runner = self._runner(data.x, size, training=True)
            judge = self._judge(runner, validation, validation_size)
            self._place = place = _Place(runner, first)
            self.history = History()
            params = {
                "verbose": verbose, "epochs": last, "steps": feed.steps,
                "metrics": self._names_of_epochs(validation is not None),
                "initial_epoch": first, "validation_freq": every,
            }  # fmt: skip
            calls = CallbackList([*listeners, self.history], self, params)
            self.stop_training = False
            logs: Logs = {}
            try:
                calls.call("on_train_begin", {})
                with self._staying(runner, calls):
                    for epoch in range(place.epoch, last):
                        calls.call("on_epoch_begin", epoch, {})
                        samples, order = feed.samples(place, shuffle, anew=epoch > first)
                        show.open(f"Epoch {epoch + 1}/{last}", samples.steps(size))
                        hooks = calls.step_hooks("train", show.on_step)
                        train, validate = partial(runner.train_epoch, samples, size, order, epoch, hooks), None
                        if validation is not None and (epoch + 1) % every == 0:
                            validate = partial(self._evaluate, judge, validation, validation_size, calls, None)
                        try:
                            logs = self._epoch(epoch, train, validate)
                        except DivergenceError as error:
                            logs = self._diverged(error, validate is not None, calls, show)
                        show.close(logs)
                        calls.call("on_epoch_end", epoch, logs)
                        if self.stop_training or (self.optimizer is not None and self.optimizer.converged):
                            break
            finally:
                show.abandon()
                self._place = None
            if last:
                self._compiled_optimizer.finalize_variable_values(self.trainable_weights)
            self._end(calls, logs)
            return self.history

    def _judge(self, runner: Runner, validation: DataSet | None, batch_size: int) -> Runner:
        """What validates, by the backend that trains."""
        return runner if validation is None else self._runner(validation.x, batch_size, backend=runner.backend)

    def _names_of_epochs(self, validated: bool) -> list[str]:
        """Names of the figures of an epoch."""
        return [*self.metrics_names, *(f"val_{name}" for name in self.metrics_names if validated)]

    def _staying(self, runner: Runner, calls: CallbackList) -> AbstractContextManager[None]:
        """For the epochs of a fit: weights stay where the runner computes, where nobody looks at them between two."""
        looks = self.optimizer is None or self.optimizer.looks_at_state or not calls.leave_weights()
        return nullcontext() if looks else runner.staying()

    def _diverged(self, error: DivergenceError, validated: bool, calls: CallbackList, show: Progress) -> Logs:
        """The figures of an epoch that has diverged, where a callback takes the error."""
        show.abandon()
        calls.diverged(error)
        return dict.fromkeys(self._names_of_epochs(validated), math.nan)

    def _build_to_train(self, x: Source) -> None:
        self._build_for(x)
        warn_of_flat_activations(self.wired()[0])

    def _epoch(self, epoch: int, train: Callable[[], Logs], validate: Callable[[], Logs] | None) -> Logs:
        """The figures of an epoch and its validation, if it has one; DivergenceError where a loss is not finite."""
        logs = train()
        if validate is not None:
            logs.update((f"val_{name}", value) for name, value in validate().items())
            if not math.isfinite(logs["val_loss"]):
                rate = self.optimizer.learning_rate if self.optimizer else math.nan
                raise DivergenceError(
                    f"the validation loss is {logs['val_loss']} at epoch {epoch + 1}, after the last batch, with "
                    f"learning rate {rate:g}. A smaller learning rate or scaled inputs usually help"
                )
        return logs

    def _end(self, calls: CallbackList, logs: Logs) -> None:
        """End a fit; DivergenceError where its last update spoilt the weights, unless a callback takes it."""
        calls.call("on_train_end", logs)
        try:
            if self.history is not None and self.history.epoch:
                require_finite_weights(self, self.history.epoch[-1], "the last batch")
        except DivergenceError as error:
            calls.diverged(error)

    @_apart
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One update on one batch; its loss (before the update) and metrics as ``evaluate`` returns them."""
        self._require_compiled("train_on_batch")
        data = self._data_set(("x", "y", "sample_weight"), x, y, sample_weight, class_weight)
        self._build_for(data.x)
        runner = self._runner(data.x, data.rows, training=True)
        return _figures(runner.train_epoch(data, data.rows), return_dict)

    # ---------------------------------------------------------------------------------------------------- use

    @_apart
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        callbacks: Any = None,
        return_dict: bool = False,
        steps: int | None = None,
        *,
        threads: int | None = None,
    ) -> Any:
        """Loss (with all penalties) and metrics: a number without metrics, else a list, or with return_dict a dict.

        ``x`` and ``threads`` as in ``fit``; of batches ``steps`` are taken.
        """
        self._require_compiled("evaluate", training=False)
        on_threads = backends.use_num_threads(threads)
        size = batch_size_of("batch_size", batch_size)
        listeners = checked_callbacks(callbacks)
        show = progress(verbose)
        if is_stream(x):
            x, y, sample_weight, size = drawn("x", x, steps, "steps")
        data = self._data_set(("x", "y", "sample_weight"), x, y, sample_weight, None)
        self._build_for(data.x)
        calls = CallbackList(listeners, self, {"verbose": verbose, "epochs": 1, "steps": data.steps(size)})
        with on_threads:
            return _figures(self._evaluate(self._runner(data.x, size), data, size, calls, show), return_dict)

    def _evaluate(
        self, runner: Runner, data: DataSet, batch_size: int, calls: CallbackList, show: Progress | None
    ) -> Logs:
        calls.call("on_test_begin", {})
        if show is not None:
            show.open("Evaluate", data.steps(batch_size))
        try:
            logs = runner.evaluate(data, batch_size, calls.step_hooks("test", show.on_step if show else None))
            if show is not None:
                show.close(logs)
        finally:
            if show is not None:
                show.abandon()
        calls.call("on_test_end", logs)
        return logs

    @_apart
    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics of one batch, as ``evaluate`` returns them."""
        self._require_compiled("test_on_batch", training=False)
        data = self._data_set(("x", "y", "sample_weight"), x, y, sample_weight, None)
        self._build_for(data.x)
        return _figures(self._runner(data.x, data.rows).evaluate(data, data.rows), return_dict)

    @_apart
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        callbacks: Any = None,
        steps: int | None = None,
        *,
        threads: int | None = None,
    ) -> Any:
        """Outputs for all samples, in the model's dtype; a live line on a terminal, nothing elsewhere.

        Of batches, as ``fit`` takes them, ``steps`` are taken; what they have beside inputs is left out.

        Where no ``batch_size`` is given it is 1024 (Keras: 32). ``threads`` as in ``fit``.
        """
        on_threads = backends.use_num_threads(threads)
        size = batch_size_of("batch_size", batch_size, PREDICTION_BATCH_SIZE)
        listeners = checked_callbacks(callbacks)
        show = progress(verbose)
        if is_stream(x):
            x = drawn("x", x, steps, "steps").x
        source = self._source("x", x)
        self._build_for(source)
        if source.rows == 0:
            empty = [np.zeros((0, *shape), self.compute_dtype) for shape in self._sample_shapes_out(source)]
            return self._arranged(empty)
        batches = -(-source.rows // size)
        calls = CallbackList(listeners, self, {"verbose": verbose, "epochs": 1, "steps": batches})
        with on_threads:
            calls.call("on_predict_begin", {})
            if show.style == "bar":
                show.open("Predict", batches)
            try:
                found = self._runner(source, size).predict(source, size, calls.step_hooks("predict", show.on_step))
                if show.style == "bar":
                    show.close({})
            finally:
                show.abandon()
            calls.call("on_predict_end", {})
            return self._arranged(each(found))

    @_apart
    def predict_on_batch(self, x: Any) -> Any:
        """Outputs for one batch."""
        source = self._source("x", x)
        self._build_for(source)
        found = self._runner(source, max(source.rows, 1)).predict(source, max(source.rows, 1))
        return self._arranged(each(found))

    def __call__(self, x: Any, training: bool | None = None) -> Any:
        """Outputs for one batch; with ``training`` those of a training pass, where dropout drops.

        Of symbolic tensors the symbolic tensors that the model gives, as a layer.
        """
        if is_symbolic(x):
            if self._is_empty:
                raise ValueError("layers: got a model without layers, wants at least one (model.add)")
            if not self._knows_outputs:
                self.build(_shapes_of(x))
            found = self._connected(self._inputs_in_order("x", x), self.dtype)
            return self._arranged(found if isinstance(found, list) else [found])
        if inside() or learning(self) or _is_followed(x):
            return self._followed(x, training)
        checks.instance("training", training, (bool, type(None)), "True, False or None")
        charged: list[Any] = []
        with penalties.collected_in(charged):
            if training:
                source = self._source("x", x)
                self._build_for(source)
                y = self._arranged(each(self._runner(source, max(source.rows, 1)).outputs(source, training=True)))
            else:
                y = self.predict_on_batch(x)
        self.added_losses = charged
        return y

    def _followed(self, x: Any, training: Any) -> Any:
        """What the model gives inside of another one's call, or for gradients."""
        given = self._inputs_in_order("x", x) if self.built and not _is_followed(x) else x
        arrays = [*given.values()] if isinstance(given, Mapping) else given
        several = isinstance(arrays, (list, tuple))
        made = [_as_given(array, self.compute_dtype) for array in (arrays if several else [arrays])]
        if not self._knows_outputs:
            self._build_by_data("x", dict(zip(given, made, strict=True)) if isinstance(given, Mapping) else given)
        return self._arranged(each(followed(self, made if several else made[0], training)))

    def _inputs_in_order(self, name: str, given: Any) -> Any:
        """What is given for the inputs: for one, or in a list for several, which a dict may have by name."""
        shapes = self._bottom_shapes()
        names = self.input_names if isinstance(given, Mapping) or (shapes is not None and len(shapes) > 1) else [""]
        if len(names) > 1 or isinstance(given, Mapping):
            found = by_name(name, given, names, "input")
            return found if len(found) > 1 else found[0]
        single = isinstance(given, (list, tuple)) and len(given) == 1
        return given[0] if single and hasattr(given[0], "shape") and self._is_batch(given[0].shape) else given

    def _is_batch(self, shape: Any) -> bool:
        """Whether a batch of inputs has as many axes as a shape."""
        bottom = self._bottom_shape()
        return bottom is not None and len(shape) == len(bottom)

    # ---------------------------------------------------------------------------------------------------- data

    def _require_compiled(self, what: str, training: bool = True) -> None:
        if self._is_empty:
            raise ValueError(f"{what}: got a model without layers, wants at least one (model.add)")
        judged = self.loss is not None or self._wanted is not None or self.trains_itself or self._may_add_losses()
        if self.optimizer is None or not judged:
            missing = "an optimizer" if self.optimizer is None else "a loss"
            purpose = "trained" if training else "evaluated"
            raise ValueError(
                f"{what}: the model has to be compiled with {missing} before it is {purpose} (model.compile)"
            )

    def _source(self, name: str, x: Any) -> Source:
        """The checked input ``x``; ValueError where samples do not have the shape that the model is made for."""
        if x is None:
            raise ValueError(f"{name}: got None, wants an array of samples")
        refuse_symbols(name, x)
        if self._is_empty:
            raise ValueError("layers: got a model without layers, wants at least one (model.add)")
        if not self._knows_outputs:
            self._build_by_data(name, x)
        self._judge_as_built()
        shapes = self._bottom_shapes()
        given = x if shapes is None else self._inputs_in_order(name, x)
        if shapes is None or len(shapes) == 1:
            return self._one_source(name, given, shapes and shapes[0], 0)
        labels = self.input_names
        found = {
            label: self._one_source(f"{name}[{label!r}]", array, shape, place)
            for place, (label, array, shape) in enumerate(zip(labels, given, shapes, strict=True))
        }
        for label, source in found.items():
            rows = found[labels[0]].rows
            if source.rows != rows:
                raise ValueError(f"{name}[{label!r}]: got {source.rows} rows, wants {rows}, as many as {labels[0]!r}")
        return Sources(found)

    @property
    def _is_empty(self) -> bool:
        return not (self._layers or self.trains_itself or hasattr(self, "call"))

    def _build_by_data(self, name: str, x: Any) -> None:
        """Build for what is given as ``x``: an array, or a list, tuple or dict of such."""
        if isinstance(x, Mapping):
            self.build({label: _batch_of(f"{name}[{label!r}]", array) for label, array in x.items()})
        elif isinstance(x, (list, tuple)) and x and all(hasattr(array, "shape") for array in x):
            self.build([_batch_of(f"{name}[{place}]", array) for place, array in enumerate(x)])
        else:
            self.build(_batch_of(name, x))

    def _one_source(self, name: str, x: Any, bottom: Any, place: int) -> Source:
        """The samples of one input; integers where a layer that it feeds takes row numbers."""
        layers, wiring = self.wired()
        fed = [(layers[call.layer], call.takes.index(place)) for call in wiring.calls if place in call.takes]
        counting = next(filter(None, (_indices_of(layer, argument) for layer, argument in fed)), None)
        if counting is None:
            source: Source = input_source(name, x, self.compute_dtype)
        else:
            source = index_source(name, x, *counting)
        if isinstance(source, DenseSource) and source.sample_shape == ():
            source = DenseSource(source.array[:, np.newaxis], source.dtype, source.counts)
        if bottom is not None and not agree(source.sample_shape, bottom[1:]):
            wanted = ", ".join(["n", *("any" if size is None else str(size) for size in bottom[1:])])
            raise ValueError(
                f"{name}: got shape {(source.rows, *source.sample_shape)}, wants ({wanted}), the model's input"
            )
        return source

    def _sample_shapes_out(self, source: Source) -> list[Shape]:
        """Shapes of a sample of each output."""
        shape = self._output_shape(_shape_of(source))
        return [tuple(size or 0 for size in each[1:]) for each in (shape if isinstance(shape, list) else [shape])]

    def _build_for(self, source: Source | None) -> None:
        """Make the weights, if they are not made yet, for inputs such as ``source``."""
        if not self.built:
            self.build(None if source is None else _shape_of(source))

    def _data_set(
        self,
        names: tuple[str, str, str],
        x: Any,
        y: Any,
        sample_weight: Any,
        class_weight: Mapping[int, float] | None,
        stacklevel: int = 6,
    ) -> DataSet:
        """Samples, targets and weights, checked against the model and each other; nothing of the model is changed."""
        x_name, y_name, weight_name = names
        source = self._source(x_name, x)
        if source.rows == 0:
            raise ValueError(f"{x_name}: got no samples, wants at least one")
        if y is None and (self.loss is not None or not self._may_add_losses()):
            raise ValueError(f"{y_name}: got None, wants the targets of {x_name}")
        if y is None and not self.trains_itself:
            y = np.zeros((source.rows, 1))
        if sample_weight is not None and class_weight is not None:
            raise ValueError("class_weight, sample_weight: got both, wants one of them")
        if self.trains_itself and self.loss is None:
            return self._unjudged(source, names, y, sample_weight)
        shapes = self._sample_shapes_out(source)
        self._warn_of_outputs([(None, *shape) for shape in shapes], stacklevel)
        if self._heads and self.loss is not None:
            if class_weight is not None:
                raise ValueError("class_weight: got one for a model of several outputs, wants sample_weight by output")
            return self._of_heads(source, shapes, names, y, sample_weight)
        if isinstance(y, Mapping):
            (y,) = by_name(y_name, y, self.output_names, "output")
        outputs, loss = shapes[0], self.loss or AddedLoss()
        targets = _targets(y_name, y, source, x_name)
        targets = loss.check_targets(y_name, targets, outputs, self.compute_dtype)
        weight = None
        if sample_weight is not None:
            weight = sample_weight_of(weight_name, sample_weight, (source.rows, *outputs[:-1]), self.compute_dtype)
        elif class_weight is not None:
            weight = class_weight_of(class_weight, targets, outputs[-1])
        dtype = np.int64 if loss.integer_targets else self.compute_dtype
        return DataSet(source, targets, weight, dtype, weight_dtype=self.compute_dtype)

    def _unjudged(self, source: Source, names: tuple[str, str, str], y: Any, sample_weight: Any) -> DataSet:
        """The data set of a model whose own steps know what to make of targets, if there are any."""
        x_name, y_name, weight_name = names
        targets = None if y is None else _targets(y_name, y, source, x_name)
        weight = None
        if sample_weight is not None:
            weight = sample_weight_of(weight_name, sample_weight, (source.rows,), self.compute_dtype)
        kind = self.compute_dtype if targets is None or targets.dtype.kind == "f" else targets.dtype
        return DataSet(source, targets, weight, kind, weight_dtype=self.compute_dtype)

    def _of_heads(
        self, source: Source, shapes: Sequence[Shape], names: tuple[str, str, str], y: Any, sample_weight: Any
    ) -> DataSet:
        """The data set of a model of several outputs: targets and weights of those that are judged."""
        x_name, y_name, weight_name = names
        heads = [head for head in self._heads if head.loss is not None or head.metrics or head.weighted_metrics]
        labels = self.output_names
        used = {head.name for head in heads}
        given = dict(zip(labels, by_name(y_name, y, labels, "output", used), strict=True))
        weights = dict.fromkeys(labels, sample_weight)
        if isinstance(sample_weight, (Mapping, list, tuple)):
            weights = dict(zip(labels, by_name(weight_name, sample_weight, labels, "output", set()), strict=True))
        dtype = self.compute_dtype
        targets, kinds, factors = [], [], []
        for head in heads:
            argument, shape = f"{y_name}[{head.name!r}]", shapes[head.output]
            array = _targets(argument, given[head.name], source, x_name)
            if head.loss is not None:
                array = head.loss.check_targets(argument, array, shape, dtype)
            targets.append(array)
            kinds.append(np.int64 if head.loss is not None and head.loss.integer_targets else dtype)
            weight = weights[head.name]
            if weight is not None:
                lead = (source.rows, *shape[:-1])
                weight = sample_weight_of(f"{weight_name}[{head.name!r}]", weight, lead, dtype)
            factors.append(np.ones(source.rows, dtype) if weight is None else weight)
        weighted = any(weight is not None for weight in weights.values())
        return DataSet(source, tuple(targets), tuple(factors) if weighted else None, tuple(kinds), weight_dtype=dtype)

    def _validation(self, data: DataSet, share: float, validation_data: Any) -> tuple[DataSet, DataSet | None]:
        """The training and the validation set."""
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                got = checks.describe(validation_data)
                raise TypeError(f"validation_data: got {got}, wants (x, y) or (x, y, sample_weight)")
            x, y, weight = (*validation_data, None)[:3]
            names = ("validation_data[0]", "validation_data[1]", "validation_data[2]")
            validation = self._data_set(names, x, y, weight, None)
            shapes = validation.x.sample_shape, data.x.sample_shape
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"validation_data[0]: got samples of shape {shapes[0]}, wants {shapes[1]}, as those in x"
                )
            return data, validation
        if share == 0:
            return data, None
        row = math.floor(data.rows * (1 - share))
        if row in (0, data.rows):
            raise ValueError(
                f"validation_split: got {share}, which leaves {row} of {data.rows} samples to train on, wants a share "
                "that leaves some for training and some for validation"
            )
        return data.split(row)

    # ---------------------------------------------------------------------------------------------------- show, save

    def summary(
        self,
        line_length: int | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
    ) -> None:
        """Print a table of the layers, their output shapes and numbers of parameters.

        With ``expand_nested`` layers of models inside stand below these, with ``show_trainable`` frozen ones say so.
        """
        if line_length is not None:
            checks.positive_int("line_length", line_length, minimum=40)
        (print_fn or print)(summary(self, line_length, expand_nested, show_trainable))

    def to_json(self, **options: Any) -> str:
        """The architecture as JSON text, for ``model_from_json``; ``options`` are those of ``json.dumps``."""
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **options)

    def get_config(self) -> dict[str, Any]:
        """What ``from_config`` makes such a model of: of one of the user's own the arguments that it was made with."""
        args, options = self._arguments
        signature = inspect.signature(type(self).__init__)
        given: dict[str, Any] = {}
        for name, value in [*signature.bind(self, *args, **options).arguments.items()][1:]:
            several = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            given |= value if several else {name: value}
        try:
            json.dumps(given)
        except (TypeError, ValueError):
            raise undefined(self, "get_config(): it was made with what a file cannot hold by itself") from None
        if self._kind is None or "name" in signature.parameters:
            given["name"] = self.name
        return given

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """A new model of the architecture that ``get_config`` gave, with new weights."""
        if cls is Model or (not hasattr(cls, "call") and "layers" in config):
            return NAMES["Functional" if "inputs" in config else "Sequential"].from_config(config)
        return cls(**config)

    def save(self, filepath: Any, overwrite: bool = True) -> None:
        """Write architecture, weights, compile arguments and optimizer state to one file, ``name.safetensors``.

        Any name will do that does not promise another format (".keras", ".h5", ".pt", ...: ValueError). The file is
        whole or not there at all; what was there before stays if writing fails. It keeps owner and mode of the file
        that it replaces; what is read-only or no regular file is not replaced (``OSError``). What ``load_model`` would
        refuse is not written (ValueError): weights that are not finite, loss or metrics that are functions of the
        user's, which a file cannot hold.
        """
        saving.destination("filepath", filepath)
        saving.write(filepath, *self._contents(), overwrite)

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Write the weights alone, finite ones, to one file, under a name and in a place as ``save`` wants them."""
        saving.destination("filepath", filepath)
        saving.write(filepath, *self._contents(weights_only=True), overwrite)

    def load_weights(self, filepath: Any) -> None:
        """Take over the weights of a file that ``save_weights`` or ``save`` wrote, parameter by parameter in order.

        Or of one that Keras 3 wrote of the same architecture, ``.weights.h5`` or ``.keras``, layer by layer (needs
        h5py, the extra ``keras``); nothing but arrays is read of it.
        """
        self._require_built("load_weights")
        if is_keras_file(filepath):
            assign_all(self.weights, keras_weights(filepath, self))
            return
        tensors, _ = saving.read(filepath)
        assign_all(self.weights, serialization.weights(tensors))

    def _contents(self, weights_only: bool = False) -> tuple[dict[str, Array], dict[str, Any]]:
        """The arrays and the document that are saved; ValueError for what could not be loaded again."""
        if weights_only:
            return serialization.weights_contents(self)
        return serialization.contents(NAMES, self)

    @property
    def _compiled_optimizer(self) -> Optimizer:
        if self.optimizer is None:
            raise ValueError("optimizer: got None, wants a compiled model")
        return self.optimizer

    def _backup(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """The arrays and the document of what a fit has made of the model, and of what it will draw."""
        arrays, document = serialization.backup(self)
        mask_seeds = [] if self._place is None else self._place.runner.mask_seeds
        return arrays, {**document, "mask_seeds": mask_seeds, "generator": seeds.state()}

    def _take_backup(
        self, arrays: Mapping[str, Array], document: Mapping[str, Any], epoch: int, batches: int, drawn_from: Any
    ) -> None:
        """Let the fit that begins go on from a backup; one of ``serialization.UNFIT`` where it cannot.

        It goes on in ``epoch`` behind so many ``batches``, whose order was drawn from the state ``drawn_from``.
        """
        if self._place is None:
            raise ValueError("fit: got none that begins, wants one to go on with")
        mask_seeds = [checks.integer("mask_seeds", seed) for seed in document["mask_seeds"]]
        wanted = len(self.wired()[0])
        if len(mask_seeds) != wanted:
            raise ValueError(f"mask_seeds: got {len(mask_seeds)}, wants {wanted}, one a layer")
        seeds.in_state(document["generator"])
        order = seeds.in_state(drawn_from) if batches else None
        serialization.take_backup(self, document, arrays)
        seeds.generator().bit_generator.state = document["generator"]
        self._place.runner.mask_seeds = mask_seeds
        self._place.epoch, self._place.batches, self._place.generator = epoch, batches, order


# Classes of graphs, by the user's class that they are.
_graphs: dict[type[Any], type[Any]] = {}


def _graph_of(cls: type[Any]) -> type[Any]:
    """The class of a graph of layers that is one of the user's class, too."""
    functional = NAMES["Functional"]
    if cls is Model or issubclass(cls, functional):
        return functional if cls is Model else cls
    if cls not in _graphs:
        _graphs[cls] = type(cls.__name__, (cls, functional), {"__module__": cls.__module__, "written_as": cls})
    return _graphs[cls]


def _checked_shape(shape: Any, wanted: Any) -> Any:
    """A shape of inputs, or a list of such, checked."""
    if not isinstance(shape, list):
        return batch_shape(shape, wanted)
    known = wanted if isinstance(wanted, list) and len(wanted) == len(shape) else [None] * len(shape)
    return [batch_shape(each, other) for each, other in zip(shape, known, strict=True)]


def _shapes_of(x: Any) -> Any:
    """Shapes of symbolic tensors, in the structure that these are given in."""
    if isinstance(x, Mapping):
        return {name: each.shape for name, each in x.items()}
    return [each.shape for each in x] if isinstance(x, (list, tuple)) else x.shape


def _batch_of(name: str, x: Any) -> BatchShape:
    """The shape of batches of what is given as data: numbers are samples of one number."""
    shape = x.shape if hasattr(x, "shape") else numeric_array(name, x).shape
    return (None, *(shape[1:] or (1,)))


def _indices_of(layer: Any, argument: int) -> tuple[int, str] | None:
    """How many rows there are where a layer takes row numbers, and the name of who does; None where it takes others."""
    if isinstance(layer, Body):
        return layer.row_numbers.get(argument)
    return None if layer.indices is None else (layer.indices, layer.name)


def _of_head(given: Any, head: Head) -> Any:
    """What of several outputs, in a list or a dict, is a head's."""
    if isinstance(given, Mapping):
        return given[head.name]
    return given[head.output] if isinstance(given, (list, tuple)) else given


def _is_followed(x: Any) -> bool:
    given = x.values() if isinstance(x, Mapping) else x if isinstance(x, (list, tuple)) else [x]
    return any(isinstance(array, Followed) for array in given)


def _as_given(array: Any, dtype: Any) -> Any:
    """An array as a model's call takes it: floating-point numbers in its dtype."""
    if isinstance(array, Followed):
        return array
    found = numeric_array("x", array)
    return found.astype(dtype, copy=False) if found.dtype.kind in "fub" else found


def _all_drawn(validation_data: Any, steps: int | None, batch_size: int) -> tuple[Any, int]:
    """Validation data, and the batches' size: those of a stream are drawn."""
    if not is_stream(validation_data):
        return validation_data, batch_size
    *given, size = drawn("validation_data", validation_data, steps, "validation_steps")
    return tuple(given), size


def _shortened(data: DataSet, order: Array | None, rows: int) -> tuple[DataSet, Array | None]:
    """An epoch of no more than so many samples."""
    left = data.rows - data.left_out
    if rows >= left:
        return data, order
    return data.rest(data.rows - rows), (np.arange(left) if order is None else order)[:rows]


def _shape_of(source: Source) -> Any:
    """Shape of a batch of a source, or a list of those of several."""
    shapes: list[BatchShape] = [(None, *each.sample_shape) for each in sources_of(source)]
    return shapes if isinstance(source, Sources) else shapes[0]


def _targets(y_name: str, y: Any, source: Source, x_name: str) -> Array:
    """Targets as an array, as many as samples."""
    targets = numeric_array(y_name, y)
    if len(targets) != source.rows:
        raise ValueError(f"{y_name}: got {len(targets)} rows, wants {source.rows}, as many as {x_name}")
    return targets


def _figures(logs: Logs, return_dict: bool) -> Any:
    if return_dict:
        return logs
    values = list(logs.values())
    return values if len(values) > 1 else values[0]
