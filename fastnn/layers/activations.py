"""Layers that are an activation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from fastnn import activations, checks, configurable, constraints, initializers, ops, regularizers
from fastnn.engine.activations import LINEAR
from fastnn.engine.activations import Activation as Activation_
from fastnn.engine.protocols import (
    ActivationForm,
    Array,
    LayerForm,
    PReLUForm,
    Shape,
    Training,
)
from fastnn.layers.base import Activated, BatchShape, Layer, Parameter
from fastnn.tape import constant


class _Activating(Layer):
    """What layers share that are an activation; those of rows work along the last axis."""

    recordable = True
    supports_masking = True

    _activation = LINEAR

    @property
    def epilogue(self) -> Activation_:
        """The activation."""
        return self._activation

    def form(self) -> LayerForm | None:
        """Of a sample's numbers one by one, or of rows along its only axis."""
        flat = self.input_shape is not None and len(self.input_shape) == 2
        return ActivationForm(self._activation) if flat or self._activation.elementwise else None

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and (x, y, activation); the inputs themselves, and nothing, without ``activate``."""
        if not activate:
            return x, None
        y = self._activation(x)
        return y, (x, y, self._activation)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx."""
        if kept is None:
            return dy, ()
        x, y, activation = kept
        return activation.backward(dy, x, y), ()


class Activation(Activated, _Activating):
    """An activation as a layer of its own; softmax works along the last axis."""

    def __init__(self, activation: str, **options: Any) -> None:
        self.activation = activation
        super().__init__(**options)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"activation": activations.serialize(self.activation), **super().get_config()}


class _NamedActivation(_Activating):
    """An activation layer that says its numbers by name; ``_OPTIONS`` are those of its constructor."""

    _OPTIONS: tuple[str, ...] = ()

    def __init__(self, activation: Activation_, **options: Any) -> None:
        self._activation = activation
        super().__init__(**options)

    @property
    def activation(self) -> Activation_:
        """What the outputs go through at the end."""
        return self._activation

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**{option: getattr(self, option) for option in self._OPTIONS}, **super().get_config()}


class ReLU(_NamedActivation):
    """max(x, 0) or, by its numbers, max_value from there on, negative_slope * (x - threshold) below the threshold."""

    _OPTIONS = ("max_value", "negative_slope", "threshold")

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **options: Any
    ) -> None:
        self.max_value = None if max_value is None else checks.real("max_value", max_value, minimum=0)
        self.negative_slope = checks.real("negative_slope", negative_slope, minimum=0)
        self.threshold = checks.real("threshold", threshold, minimum=0)
        numbers = {"negative_slope": negative_slope, "max_value": max_value, "threshold": threshold}
        super().__init__(activations.get(partial(activations.relu, **numbers)), **options)


class LeakyReLU(_NamedActivation):
    """x where x > 0, else negative_slope * x."""

    _OPTIONS = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.3, **options: Any) -> None:
        self.negative_slope = checks.real("negative_slope", negative_slope, minimum=0)
        super().__init__(activations.get(partial(activations.leaky_relu, negative_slope=negative_slope)), **options)


class ELU(_NamedActivation):
    """x where x > 0, else alpha * (exp(x) - 1)."""

    _OPTIONS = ("alpha",)

    def __init__(self, alpha: float = 1.0, **options: Any) -> None:
        self.alpha = checks.real("alpha", alpha, minimum=0)
        super().__init__(activations.get(partial(activations.elu, alpha=alpha)), **options)


class PReLU(Layer):
    """x where x > 0, else alpha * x, alpha being learned (He et al. 2015).

    alpha has a sample's shape, of length 1 along ``shared_axes`` (counted from 1: 0 is the batch's).
    """

    recordable = True

    def __init__(
        self,
        alpha_initializer: Any = "zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Sequence[int] | int | None = None,
        **options: Any,
    ) -> None:
        self.alpha_initializer = initializers.get(alpha_initializer, "alpha_initializer")
        self.alpha_regularizer = regularizers.get(alpha_regularizer, "alpha_regularizer")
        self.alpha_constraint = constraints.get(alpha_constraint, "alpha_constraint")
        axes = [] if shared_axes is None else [shared_axes] if isinstance(shared_axes, int) else list(shared_axes)
        self.shared_axes = [checks.integer(f"shared_axes[{i}]", axis, 1) for i, axis in enumerate(axes)]
        super().__init__(**options)
        self.dtype = self.dtype or "float32"

    def form(self) -> LayerForm | None:
        """Slopes along the only axis of a sample."""
        if self.input_shape is None or len(self.input_shape) != 2:
            return None
        return PReLUForm(self.alpha, self.alpha.shape != self.input_shape[1:])

    @property
    def alpha(self) -> Parameter:
        """The slopes; ValueError before the layer is built."""
        if not self.built:
            raise ValueError(f"{self.name}: the layer is not built, so it has no weights yet")
        return self.parameters[0]

    def parameter_shapes(self, input_shape: BatchShape) -> dict[str, Shape]:
        """The shape of a sample, but for the shared axes."""
        sizes = enumerate(input_shape[1:], 1)
        return {"alpha": tuple(1 if axis in self.shared_axes else size or 0 for axis, size in sizes)}

    def make_parameters(self, input_shape: BatchShape) -> None:
        """The slopes as their initializer draws them."""
        (shape,) = self.parameter_shapes(input_shape).values()
        drawn = initializers.first_weights(self.alpha_initializer, "alpha_initializer", shape, self.dtype)
        self._take_parameters(input_shape, [drawn])

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of the inputs; ValueError where they lack a shared axis, or have one of unknown length."""
        sizes = tuple(input_shape)
        if any(axis >= len(sizes) for axis in self.shared_axes) or len(sizes) < 2 or None in sizes[1:]:
            wants = (
                f"axes {self.shared_axes} of samples of known sizes" if self.shared_axes else "samples of known sizes"
            )
            raise ValueError(f"{self.name}: got input shape {sizes}, wants {wants}")
        return sizes

    def _fits(self, input_shape: BatchShape) -> bool:
        """Whether the slopes that were made are those of this shape."""
        return self.parameter_shapes(input_shape) == {"alpha": self.alpha.shape}

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and the inputs."""
        rows = self._rows(x)
        y: Array = ops.prelu(rows, self._slopes(rows)).reshape(x.shape)
        return y, x

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, and the gradient of the slopes."""
        rows = self._rows(kept)
        dx, dalpha = ops.prelu_backward(self._rows(dy), rows, self._slopes(rows))
        first = kept.ndim - rows.ndim + 1  # of the axes that are none of more samples
        stretched = [axis - first for axis in self.shared_axes if axis >= first]
        summed = ops.sum(dalpha, axis=stretched, keepdims=True) if stretched else dalpha
        return dx.reshape(kept.shape), (summed.reshape(self.alpha.shape),)

    def _rows(self, x: Array) -> Array:
        """A batch of more samples, where the first axes of each share their slopes."""
        count = 1
        while count in self.shared_axes:
            count += 1
        rows: Array = x.reshape(math.prod(x.shape[:count]), *x.shape[count:])
        return rows

    def _slopes(self, rows: Array) -> Array:
        """Those of each sample, stretched along the other axes that share them."""
        shape = tuple(rows.shape[1:])
        alpha = self.alpha.value.reshape(self.alpha.shape[len(self.alpha.shape) - len(shape) :])
        slopes: Array = alpha if alpha.shape == shape else ops.multiply(alpha, constant(1.0, rows, shape))
        return slopes

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "alpha_initializer": initializers.serialize(self.alpha_initializer),
            "alpha_regularizer": configurable.serialize(self.alpha_regularizer, regularizers.NAMES),
            "alpha_constraint": configurable.serialize(self.alpha_constraint, constraints.NAMES),
            "shared_axes": self.shared_axes or None,
            **super().get_config(),
        }


class Softmax(_NamedActivation):
    """exp(x) over its sum along ``axis`` of a batch, the last one or another but the first.

    Keras's ``mask`` is not supported.
    """

    recordable = True

    _OPTIONS = ("axis",)

    def __init__(self, axis: int = -1, **options: Any) -> None:
        self.axis = checks.integer("axis", axis)
        if self.axis == 0:
            raise ValueError("axis: got 0, the axis of the batch, wants that of a sample's numbers")
        super().__init__(Activation_("softmax"), **options)

    def form(self) -> LayerForm | None:
        """Along a sample's only axis."""
        flat = self.input_shape is not None and len(self.input_shape) == 2
        return ActivationForm(self._activation) if flat and self.axis in (-1, 1) else None

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of the inputs; ValueError where they have no such axis."""
        if not -len(input_shape) < self.axis < len(input_shape):
            raise ValueError(f"{self.name}: got input shape {tuple(input_shape)}, wants an axis {self.axis} of samples")
        return tuple(input_shape)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and these again; the inputs themselves, and nothing, without ``activate``."""
        if not activate:
            return x, None
        y = self._turned(self._activation(self._turned(x)))
        return y, y

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx."""
        if kept is None:
            return dy, ()
        y = self._turned(kept)
        return self._turned(self._activation.backward(self._turned(dy), y, y)), ()

    def _turned(self, x: Array) -> Array:
        """The axis and the last one exchanged."""
        axes = [*range(x.ndim)]
        axes[self.axis], axes[-1] = axes[-1], axes[self.axis]
        found: Array = x if axes[-1] == x.ndim - 1 else ops.identity(x.transpose(*axes))
        return found
