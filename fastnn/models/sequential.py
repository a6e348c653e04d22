"""A stack of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastnn import checks, layers
from fastnn.configurable import deserialize, serialize
from fastnn.layers import Layer
from fastnn.layers.base import BatchShape
from fastnn.layers.core import InputLayer
from fastnn.models.arguments import batch_shape
from fastnn.models.base import Model


class Sequential(Model):
    """A stack of layers, each fed by the one before.

    Weights are made as soon as the input shape is known: from ``Input``, from the first layer's ``input_shape``, or
    from the first data.
    """

    def __init__(self, layers: Iterable[Layer] | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self._input: InputLayer | None = None
        if isinstance(layers, (str, bytes, Mapping)) or not (layers is None or isinstance(layers, Iterable)):
            raise TypeError(f"layers: got {checks.describe(layers)}, wants a list of layers")
        for layer in layers or ():
            self.add(layer)

    # ---------------------------------------------------------------------------------------------------- the stack

    def add(self, layer: Layer) -> None:
        """Put a layer on top; ValueError where it does not fit the ones below, which then stay as they are."""
        checks.instance("layer", layer, Layer, "a layer object such as layers.Dense(10)")
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
            if below is not None and below[1:] != layer.sample_shape:
                raise ValueError(f"input_shape: got {layer.sample_shape}, wants {below[1:]}, the shape of the Input")
            below = (None, *layer.sample_shape)
        if below is not None:
            layer.build(below)
        self._layers.append(layer)

    def pop(self) -> Layer:
        """Take the top layer off and return it."""
        if not self._layers:
            raise IndexError("pop: got a model without layers, wants at least one")
        return self._layers.pop()

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
        if self._input is None and not self._layers:
            raise ValueError("layers: got a model without layers, wants at least one")

    def _stack(self) -> list[Layer]:
        """The layers, below them the Input if there is one."""
        return [*([] if self._input is None else [self._input]), *self._layers]

    def _bottom_shape(self) -> BatchShape | None:
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
        return shape

    # ---------------------------------------------------------------------------------------------------- the weights

    def get_config(self) -> dict[str, Any]:
        """The architecture, as JSON can hold it."""
        bottom = self._bottom_shape()
        return {
            "name": self.name,
            "layers": [serialize(layer, layers.NAMES) for layer in self._stack()],
            "input_shape": None if bottom is None else list(bottom[1:]),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Sequential:
        """A new model of the architecture that ``get_config`` gave, with new weights."""
        model = cls([deserialize("layers", entry, layers.NAMES) for entry in config["layers"]], config["name"])
        if config["input_shape"] is not None and model._layers:
            model.build((None, *config["input_shape"]))
        return model
