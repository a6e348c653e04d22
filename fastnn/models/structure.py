"""What a model is made of: its layers and models, how they are connected, and all their weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import checks, ops
from fastnn.configurable import snake_case
from fastnn.engine.activations import LINEAR
from fastnn.engine.protocols import Array, Draw, Shape, Training
from fastnn.engine.wiring import Call, Wiring, each
from fastnn.kernels.table import DTYPES
from fastnn.layers import Parameter
from fastnn.layers.base import Operation, assign_all, unique_name
from fastnn.layers.calling import inner
from fastnn.layers.symbols import BatchShape, Node, SymbolicTensor
from fastnn.models.arguments import (
    batch_shape,
    by_name,
)
from fastnn.models.body import Body
from fastnn.tape import calculate


class Builder:
    """The calls of layers that a model comes down to, those of models inside of it included."""

    def __init__(self, inputs: int) -> None:
        self.layers: list[Any] = []
        self.calls: list[Call] = []
        self._places: dict[int, int] = {}
        self._values = inputs

    def call(self, operation: Operation, takes: Sequence[int], listed: bool = False, gives: int = 1) -> list[int]:
        """The values that a call gives, of those that it takes."""
        if isinstance(operation, ModelStructure):
            return operation.expand(self, takes)
        place = self._places.setdefault(id(operation), len(self.layers))
        if place == len(self.layers):
            self.layers.append(operation)
        values = [*range(self._values, self._values + gives)]
        self._values += gives
        self.calls.append(Call(place, tuple(takes), tuple(values), listed))
        return values


class ModelStructure(Operation):
    """The layers of a model, how they are connected, and their weights."""

    # What it was made with.
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    # Whether steps are the user's own: by a ``train_step`` or another part of it.
    trains_itself = False
    sample_shape = None
    activity_regularizer = None
    epilogue = LINEAR

    def __init__(self, name: str | None, trainable: bool, dtype: str | None) -> None:
        kind = snake_case(type(self).__name__)
        self._kind = kind if name is None else None
        self.name = name if name is not None else unique_name(kind)
        checks.instance("name", self.name, str, "a string")
        self._body = Body(self)
        self._body.dtype = checks.float_dtype("dtype", dtype)
        self._body.trainable = trainable
        self.nodes: list[Node] = []

    @property
    def is_called(self) -> bool:
        """Whether it is a model with a ``call`` of the user's own, no stack and no graph of layers."""
        return type(self)._layers is ModelStructure._layers

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

    @property
    def compute_dtype(self) -> np.dtype[Any]:
        """The dtype in which the model computes."""
        return np.dtype(self.dtype or DTYPES[0])

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

    def feeding(self, layer: Operation) -> list[str]:
        """What the calls of a layer in this model were given, as ``name`` or ``name[place]``; nothing in a stack."""
        return []

    def wired(self) -> tuple[list[Any], Wiring]:
        """The layers, those of models inside included, and how they are connected."""
        inputs = len(self._bottom_shapes() or [()])
        builder = Builder(inputs)
        outputs = self.expand(builder, range(inputs))
        return builder.layers, Wiring(inputs, tuple(builder.calls), tuple(outputs))

    def expand(self, builder: Builder, takes: Sequence[int]) -> list[int]:
        """The values that the outputs are, of those that the inputs are."""
        gives = len(self._body.outputs) if isinstance(self._body.outputs, list) else 1
        return builder.call(self._body, takes, isinstance(self._body.input_shape, list), gives)

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

    def add_weight(self, *args: Any, **options: Any) -> Parameter:
        """A new weight array of the model's own, as ``Layer.add_weight`` makes it."""
        return self._body.add_weight(*args, **options)

    # ---------------------------------------------------------------------------------------------------- in and out

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

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of the outputs for inputs of ``input_shape``, both with the batch axis."""
        return self._output_shape(_checked_shape(input_shape, self._bottom_shape()))

    def _bottom_shape(self) -> Any:
        """Shape of the inputs, a list of such where there are several; None while it is unknown."""
        return self._body.input_shape

    def _bottom_shapes(self) -> list[BatchShape] | None:
        """Shapes of the inputs in a list; None while they are unknown."""
        found = self._bottom_shape()
        return found if found is None or isinstance(found, list) else [found]

    def _output_shape(self, shape: Any) -> Any:
        """Shape of the outputs for inputs of ``shape``; lists of such where there are several."""
        return self._body.compute_output_shape(shape)

    @property
    def _knows_outputs(self) -> bool:
        """Whether the outputs' names are known; those of a call are once it has been made."""
        return self._body.built or not self.is_called

    @property
    def _has_several_outputs(self) -> bool:
        return isinstance(self._body.outputs, list)

    @property
    def _is_empty(self) -> bool:
        return not (self._layers or self.trains_itself or hasattr(self, "call"))

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

    def _arranged(self, outputs: Sequence[Any]) -> Any:
        """What there is for each output, in the structure in which the model has its outputs."""
        if self._body.output_names is not None:
            return dict(zip(self._body.output_names, outputs, strict=True))
        return outputs[0] if len(outputs) == 1 else [*outputs]

    def arranged(self, outputs: Any) -> Any:
        """What there is for outputs, an array or a tuple of such, in the structure of the outputs."""
        return self._arranged(outputs) if isinstance(outputs, tuple) else outputs

    def as_given(self, inputs: Any) -> Any:
        """Inputs, an array or a tuple of such, in the structure in which ``call`` takes them."""
        if not isinstance(inputs, tuple):
            return inputs
        return [*inputs] if self._body.names is None else dict(zip(self._body.names, inputs, strict=True))

    # ---------------------------------------------------------------------------------------------------- as a layer

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
            for parameter in layer.weights if isinstance(layer, ModelStructure) else ():
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


def _checked_shape(shape: Any, wanted: Any) -> Any:
    """A shape of inputs, or a list of such, checked."""
    if not isinstance(shape, list):
        return batch_shape(shape, wanted)
    known = wanted if isinstance(wanted, list) and len(wanted) == len(shape) else [None] * len(shape)
    return [batch_shape(each, other) for each, other in zip(shape, known, strict=True)]
