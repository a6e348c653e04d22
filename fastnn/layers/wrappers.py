"""Layers around other layers, whose weights are theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from fastnn import checks, configurable
from fastnn.engine.protocols import Array, Shape
from fastnn.layers.base import BatchShape, Layer

# What a wrapper may be around, by the names that files have for them: ``fastnn.layers`` enters them.
KINDS: dict[str, type[Layer]] = {}


class Wrapper(Layer):
    """What such layers share: weights are one inner layer's behind the other's, under paths of their names."""

    @property
    def wrapped(self) -> Sequence[Layer]:
        """The inner layers, in the order of their weights."""
        raise configurable.undefined(self, "wrapped")

    def inner_shape(self, input_shape: Any) -> BatchShape:
        """The shape of what the inner layers are given."""
        raise configurable.undefined(self, "inner_shape(input_shape)")

    @property
    def flops(self) -> int:
        """Those of all inner layers."""
        return sum(layer.flops for layer in self.wrapped)

    @property
    def carried(self) -> list[Array]:
        """Those of all inner layers."""
        return [array for layer in self.wrapped for array in layer.carried]

    def make_parameters(self, input_shape: Any) -> None:
        """Those of the inner layers."""
        for layer in self.wrapped:
            layer.build(self.inner_shape(input_shape))

    def parameter_shapes(self, input_shape: Any) -> dict[str, Shape]:
        """By the layers' names and the weights'."""
        inner = self.inner_shape(input_shape)
        return {
            f"{layer.name}/{name}": shape
            for layer in self.wrapped
            for name, shape in layer.parameter_shapes(inner).items()
        }

    def _take_parameters(self, input_shape: Any, values: Sequence[Array]) -> None:
        inner, left = self.inner_shape(input_shape), [*values]
        for layer in self.wrapped:
            count = len(layer.parameter_shapes(inner))
            layer.build(inner, left[:count])
            del left[:count]

    def _fits(self, input_shape: Any) -> bool:
        return all(layer._fits(self.inner_shape(input_shape)) for layer in self.wrapped)


class TimeDistributed(Wrapper):
    """A layer at every step of (n, t, ...): its outputs are (n, t, ...), of the same weights at all steps."""

    supports_masking = True

    def __init__(self, layer: Layer, **options: Any) -> None:
        self.layer = checks.instance("layer", layer, Layer, "a layer")
        if layer.sample_shape is not None:
            options.setdefault("input_shape", layer.sample_shape)
        options.setdefault("dtype", layer.dtype)
        super().__init__(**options)
        self.recordable = layer.recordable

    @property
    def wrapped(self) -> Sequence[Layer]:
        """The layer."""
        return [self.layer]

    @property
    def indices(self) -> int | None:
        """Those of the layer."""
        found: int | None = self.layer.indices
        return found

    def inner_shape(self, input_shape: Any) -> BatchShape:
        """Without the steps; ValueError for samples that have none."""
        if isinstance(input_shape, list) or len(input_shape) < 3:
            got = input_shape if isinstance(input_shape, list) else tuple(input_shape)
            raise ValueError(f"{self.name}: got input shape {got}, wants (None, steps, ..., features)")
        return (input_shape[0], *input_shape[2:])

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        """That of the layer's outputs, with the steps."""
        first, *rest = self.layer.compute_output_shape(self.inner_shape(input_shape))
        return (first, input_shape[1], *rest)

    def call(self, inputs: Any, training: Any = False) -> Any:
        """All steps are samples of the layer."""
        n, t = inputs.shape[:2]
        y = self.layer(inputs.reshape(n * t, *inputs.shape[2:]), training=training)
        return y.reshape(n, t, *y.shape[1:])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"layer": configurable.serialize(self.layer, KINDS), **super().get_config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The layer whose ``get_config`` gave ``config``."""
        return cls(**{**config, "layer": configurable.deserialize("layer", config["layer"], KINDS)})
