"""A stack of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastnn import checks
from fastnn.configurable import deserialize, serialize
from fastnn.layers.base import Operation, agree, within
from fastnn.layers.core import InputLayer
from fastnn.layers.symbols import BatchShape, Node, SymbolicTensor
from fastnn.models.arguments import batch_shape
from fastnn.models.base import NAMES, Model
from fastnn.models.structure import Builder


class Sequential(Model):
    """A stack of layers, each fed by the one before.

    Weights are made as soon as the input shape is known: from ``Input``, from the first layer's ``input_shape``, or
    from the first data.
    """

    _layers: Any = ()

    def __init__(self, layers: Iterable[Any] | None = None, name: str | None = None) -> None:
        if isinstance(name, Operation):
            raise TypeError("layers: got layers one by one, wants a list of them: Sequential([first, second])")
        super().__init__(name=name)
        self._layers = []
        self._traced: list[SymbolicTensor] = []
        self._input: InputLayer | None = None
        if isinstance(layers, (str, bytes, Mapping)) or not (layers is None or isinstance(layers, Iterable)):
            raise TypeError(f"layers: got {checks.describe(layers)}, wants a list of layers")
        for layer in layers or ():
            self.add(layer)

    # ---------------------------------------------------------------------------------------------------- the stack

    def add(self, layer: Any) -> None:
        """Put a layer, or a model, on top; ValueError where it does not fit the ones below, which stay as they are."""
        if isinstance(layer, SymbolicTensor) and isinstance(layer.node.operation, InputLayer):
            layer = layer.node.operation
        checks.instance("layer", layer, Operation, "a layer object such as layers.Dense(10)")
        if layer is self:
            raise ValueError(f"layer: got the model {self.name!r} itself, wants another one")
        if isinstance(layer, InputLayer):
            if self._layers or self._input is not None:
                raise ValueError("layer: got an InputLayer on top of other layers, wants it first")
            self._input = layer
            return
        names = {other.name for other in self._layers}
        layer.avoid_names(names)
        if layer.name in names:
            raise ValueError(f"layer: got a second layer of the name {layer.name!r}, wants every name once")
        known = {other.dtype for other in self._layers if other.dtype is not None}
        if layer.dtype is not None and known - {layer.dtype}:
            raise ValueError(
                f"layer: got {layer.name!r} of dtype {layer.dtype}, wants {known.pop()} as the layers below"
            )
        below = self._top_shape()
        if not self._layers and layer.sample_shape is not None:
            if below is not None and not agree(below[1:], layer.sample_shape):
                raise ValueError(f"input_shape: got {layer.sample_shape}, wants {below[1:]}, the shape of the Input")
            below = (None, *layer.sample_shape)
        if below is not None:
            layer.build(below)
        self._layers.append(layer)
        self._part_paths()
        self._trace()

    def pop(self) -> Any:
        """Take the top layer off and return it."""
        if not self._layers:
            raise IndexError("pop: got a model without layers, wants at least one")
        layer = self._layers.pop()
        if len(self._traced) > len(self._layers) + 1:
            dropped = self._traced.pop()
            layer.nodes = [node for node in layer.nodes if node is not dropped.node]
        return layer

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Make the weights for inputs of ``input_shape``, the batch axis (None) included."""
        if input_shape is None:
            input_shape = self._bottom_shape()
        if input_shape is None:
            raise ValueError("input_shape: got None, wants a shape such as (None, 784), or an Input as the first layer")
        shape: BatchShape = (None, *batch_shape(input_shape, self._bottom_shape())[1:])
        self._output_shape(shape)
        for layer in self._layers:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self._part_paths()
        self._trace()
        if self._input is None and not self._layers:
            raise ValueError("layers: got a model without layers, wants at least one")

    def _trace(self) -> None:
        """Call the layers on symbolic tensors, as far as shapes are known, for those who ask what they give."""
        bottom = self._bottom_shape()
        if bottom is None:
            return
        if not self._traced:
            first = self._stack()[0]
            source = self._input or InputLayer([size or 1 for size in bottom[1:]], name=first.name)
            self._traced.append(SymbolicTensor(bottom, str(self.compute_dtype), first.name, source.nodes[0]))
        for layer in self._layers[len(self._traced) - 1 :]:
            node = Node(
                layer, self._traced[-1], [layer.compute_output_shape(self._traced[-1].shape)], self._traced[-1].dtype
            )
            layer.nodes.append(node)
            self._traced.append(node.outputs[0])

    @property
    def input_names(self) -> list[str]:
        """The name of the input, by which a dict of data may have it."""
        return [tensor.name for tensor in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """The name of the output, likewise."""
        return [tensor.name for tensor in self.outputs]

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """The symbolic input, in a list as Keras has it; AttributeError while its shape is unknown."""
        return [self.input]

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """The symbolic output, likewise."""
        return [self.output]

    @property
    def input(self) -> SymbolicTensor:
        """The symbolic input; AttributeError while its shape is unknown."""
        self.input_shape  # noqa: B018 - says so
        self._trace()
        return self._traced[0]

    @property
    def output(self) -> SymbolicTensor:
        """The symbolic output, likewise."""
        self.input_shape  # noqa: B018 - says so
        self._trace()
        return self._traced[-1]

    def expand(self, builder: Builder, takes: Sequence[int]) -> list[int]:
        """The values that the outputs are, of those that the inputs are."""
        values = [*takes]
        for layer in self._layers:
            values = builder.call(layer, values)
        return values

    def _stack(self) -> list[Any]:
        """The layers, below them the Input if there is one."""
        return [*([] if self._input is None else [self._input]), *self._layers]

    def _bottom_shape(self) -> Any:
        if self._input is not None:
            return self._input.output_shape
        if not self._layers:
            return None
        first = self._layers[0]
        if first.input_shape is not None:
            return first.input_shape
        return None if first.sample_shape is None else (None, *first.sample_shape)

    def _top_shape(self) -> BatchShape | None:
        bottom = self._bottom_shape()
        return None if bottom is None else self._output_shape(bottom)

    def _output_shape(self, shape: BatchShape) -> BatchShape:
        for layer in self._layers:
            shape = layer.compute_output_shape(shape)
            if isinstance(shape, list):
                raise ValueError(f"layers: got {layer.name!r} of several outputs, which Model(inputs, outputs) takes")
        return shape

    # ---------------------------------------------------------------------------------------------------- the weights

    def get_config(self) -> dict[str, Any]:
        """The architecture, as JSON can hold it."""
        bottom = self._bottom_shape()
        return {
            "name": self.name,
            "layers": [serialize(layer, NAMES) for layer in self._stack()],
            "input_shape": None if bottom is None else list(bottom[1:]),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Sequential:
        """A new model of the architecture that ``get_config`` gave, with new weights."""
        with within(config["name"]):
            model = cls([deserialize("layers", entry, NAMES) for entry in config["layers"]], config["name"])
            if config["input_shape"] is not None and model._layers:
                model.build((None, *config["input_shape"]))
        return model


NAMES["Sequential"] = Sequential
