"""Layers that bring numbers to a common scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import checks, configurable, constraints, initializers, ops, regularizers
from fastnn.engine.data import check_finite, numeric_array
from fastnn.engine.protocols import Array, Shape, Training
from fastnn.layers.base import BatchShape, Layer, Parameter
from fastnn.tape import constant

# Keras's: the least standard deviation that Normalization divides by.
LEAST_DEVIATION = 1e-7


class _Scaled(Layer):
    """What normalisations have that scale and move: gamma and beta, ones and zeros at first, or left out."""

    def __init__(
        self,
        axis: int | Sequence[int],
        epsilon: float,
        center: bool,
        scale: bool,
        beta_initializer: Any,
        gamma_initializer: Any,
        beta_regularizer: Any,
        gamma_regularizer: Any,
        beta_constraint: Any,
        gamma_constraint: Any,
        **options: Any,
    ) -> None:
        self.axis = axis
        self.epsilon = checks.real("epsilon", epsilon, minimum=0)
        if self.epsilon == 0:
            raise ValueError("epsilon: got 0, wants a number above 0")
        self.center = checks.instance("center", center, bool, "True or False")
        self.scale = checks.instance("scale", scale, bool, "True or False")
        self.beta_initializer = initializers.get(beta_initializer, "beta_initializer")
        self.gamma_initializer = initializers.get(gamma_initializer, "gamma_initializer")
        self.beta_regularizer = regularizers.get(beta_regularizer, "beta_regularizer")
        self.gamma_regularizer = regularizers.get(gamma_regularizer, "gamma_regularizer")
        self.beta_constraint = constraints.get(beta_constraint, "beta_constraint")
        self.gamma_constraint = constraints.get(gamma_constraint, "gamma_constraint")
        super().__init__(**options)
        self.dtype = self.dtype or "float32"

    def _normalized(self, input_shape: BatchShape) -> Shape:
        """The shape of gamma and beta."""
        raise NotImplementedError

    def parameter_shapes(self, input_shape: BatchShape) -> dict[str, Shape]:
        """Those of gamma and beta, of which either may be left out."""
        shape = self._normalized(input_shape)
        return {name: shape for name, there in (("gamma", self.scale), ("beta", self.center)) if there}

    def make_parameters(self, input_shape: BatchShape) -> None:
        """Each as its initializer draws it."""
        shapes = self.parameter_shapes(input_shape)
        arguments = {name: f"{name}_initializer" for name in shapes}
        values = [
            initializers.first_weights(getattr(self, argument), argument, shapes[name], self.dtype)
            for name, argument in arguments.items()
        ]
        self._take_parameters(input_shape, values)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of the inputs; ValueError where they have no such axes."""
        self._normalized(input_shape)
        return tuple(input_shape)

    def _fits(self, input_shape: BatchShape) -> bool:
        """Whether the parameters that were made are those of this shape."""
        found = {parameter.name: parameter.shape for parameter in self.parameters}
        return self.parameter_shapes(input_shape) == found

    def order(self, rank: int) -> list[int]:
        """The axes of inputs with those last that are normalised by numbers of their own, or together."""
        last = sorted(axis % rank for axis in _several(self.axis))
        return [axis for axis in range(rank) if axis not in last] + last

    def _turned(self, x: Any) -> Any:
        """Inputs with their axes in that order."""
        order = self.order(x.ndim)
        return x if order == [*range(x.ndim)] else ops.permute(x, order)

    def _back(self, y: Any) -> Any:
        """What has its axes in that order with those of the inputs."""
        order = self.order(y.ndim)
        return y if order == [*range(y.ndim)] else ops.permute(y, np.argsort(order).tolist())

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of this name; None where there is none."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def _value(self, name: str) -> Array | None:
        """Its numbers, in one dimension."""
        found = self.parameter(name)
        return None if found is None else found.value.reshape(-1)

    def _needed(self, need_dx: bool) -> tuple[str, ...]:
        """The gradients that a backward pass is to find."""
        trained = (f"d{parameter.name}" for parameter in self.parameters if parameter.trainable)
        return ("dx",) * need_dx + tuple(trained)

    def _gradients(self, dgamma: Array | None, dbeta: Array | None) -> Sequence[Any]:
        """Those of the parameters in their order: None of one that is not trained."""
        found = {"gamma": dgamma, "beta": dbeta}
        gradients = ((parameter, found.get(parameter.name)) for parameter in self.parameters)
        return [None if each is None else each.reshape(parameter.shape) for parameter, each in gradients]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "axis": self.axis if isinstance(self.axis, int) else list(self.axis),
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": initializers.serialize(self.beta_initializer),
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
            "beta_regularizer": configurable.serialize(self.beta_regularizer, regularizers.NAMES),
            "gamma_regularizer": configurable.serialize(self.gamma_regularizer, regularizers.NAMES),
            "beta_constraint": constraints.serialize(self.beta_constraint),
            "gamma_constraint": constraints.serialize(self.gamma_constraint),
            **super().get_config(),
        }


class BatchNormalization(_Scaled):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta along an ``axis`` (Ioffe and Szegedy 2015).

    Training takes mean and biased variance of the batch, over all other axes, and moves ``moving_mean`` and
    ``moving_variance`` towards them: momentum * moving + (1 - momentum) * the batch's. Everything else takes these, and
    so does a layer whose ``trainable`` is False. Weights in Keras's order: gamma, beta, moving_mean, moving_variance.
    Masks, ``synchronized`` and ``renorm``, with which ``renorm_momentum`` goes, are not supported.
    """

    recordable = True
    moving = ("moving_mean", "moving_variance")

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: Any = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **options: Any,
    ) -> None:
        if synchronized:
            raise ValueError("synchronized: got True, wants False: a batch is not shared out between devices")
        if renorm or renorm_clipping:
            raise ValueError("renorm: got True, wants False: batches are normalised by their own figures alone")
        self.momentum = checks.real("momentum", momentum, minimum=0, maximum=1)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer, "moving_mean_initializer")
        self.moving_variance_initializer = initializers.get(moving_variance_initializer, "moving_variance_initializer")
        weights = beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer
        limits = beta_constraint, gamma_constraint
        super().__init__(checks.integer("axis", axis), epsilon, center, scale, *weights, *limits, **options)

    def _normalized(self, input_shape: BatchShape) -> Shape:
        return _sizes_along(self.name, self.axis, input_shape)

    def parameter_shapes(self, input_shape: BatchShape) -> dict[str, Shape]:
        """(channels,) each: gamma, beta, of which either may be left out, moving_mean, moving_variance."""
        return super().parameter_shapes(input_shape) | dict.fromkeys(self.moving, self._normalized(input_shape))

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and (x, mean, rstd) for ``backward``: by moving figures where those are None."""
        turned = self._turned(x)
        rows = turned.reshape(-1, turned.shape[-1])
        gamma, beta, mean, variance = map(self._value, ("gamma", "beta", *self.moving))
        kept: Any = (rows, None, None)
        if training and self.trainable:
            y, *figures = ops.batch_norm(rows, gamma, beta, mean, variance, self.momentum, self.epsilon)
            kept = (rows, *figures)
        else:
            y = ops.batch_norm_inference(rows, mean, variance, gamma, beta, self.epsilon)
        return self._back(y.reshape(*turned.shape)), kept

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, and the gradients of gamma and beta; None of what moves."""
        x, mean, rstd = kept
        slopes = self._turned(dy)
        rows, gamma, need = slopes.reshape(*x.shape), self._value("gamma"), self._needed(need_dx)
        if mean is None:
            mean, variance = map(self._value, self.moving)
            dx, *own = ops.batch_norm_inference_backward(rows, x, mean, variance, gamma, self.epsilon, need)
        else:
            dx, *own = ops.batch_norm_backward(rows, x, mean, rstd, gamma, need)
        return self._back(dx.reshape(*slopes.shape)) if need_dx else None, self._gradients(*own)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "momentum": self.momentum,
            "moving_mean_initializer": initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": initializers.serialize(self.moving_variance_initializer),
            **super().get_config(),
        }


class LayerNormalization(_Scaled):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, by each sample's own figures (Ba et al. 2016).

    Mean and biased variance are those along ``axis``, or several axes; gamma and beta have their sizes.
    """

    recordable = True
    supports_masking = True

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **options: Any,
    ) -> None:
        weights = beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer
        super().__init__(
            _axes("axis", axis), epsilon, center, scale, *weights, beta_constraint, gamma_constraint, **options
        )

    def _normalized(self, input_shape: BatchShape) -> Shape:
        return _sizes_along(self.name, self.axis, input_shape)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and the inputs as rows of what is normalised together."""
        turned = self._turned(x)
        rows = turned.reshape(-1, math.prod(self._normalized((None, *x.shape[1:]))))
        y: Array = ops.layer_norm(rows, self._value("gamma"), self._value("beta"), self.epsilon)
        return self._back(y.reshape(*turned.shape)), rows

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, and the gradients of gamma and beta."""
        slopes = self._turned(dy)
        rows, need = slopes.reshape(*kept.shape), self._needed(need_dx)
        dx, *own = ops.layer_norm_backward(rows, kept, self._value("gamma"), self.epsilon, need)
        return self._back(dx.reshape(*slopes.shape)) if need_dx else None, self._gradients(*own)


class GroupNormalization(_Scaled):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, by each sample's figures (Wu and He 2018).

    The size of ``axis``, the channels, is parted into ``groups`` of neighbours; mean and biased variance are those of a
    group at all places together. gamma and beta have a number for each channel. -1 groups are one for each channel.
    """

    supports_masking = True

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **options: Any,
    ) -> None:
        self.groups = checks.integer("groups", groups)
        if self.groups < 1 and self.groups != -1:
            raise ValueError(f"groups: got {groups}, wants an integer of at least 1, or -1 for one a channel")
        weights = beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer
        limits = beta_constraint, gamma_constraint
        super().__init__(checks.integer("axis", axis), epsilon, center, scale, *weights, *limits, **options)

    def _normalized(self, input_shape: BatchShape) -> Shape:
        (channels,) = _sizes_along(self.name, self.axis, input_shape)
        if channels % abs(self.groups):
            raise ValueError(f"{self.name}: got {channels} channels, wants a multiple of its {self.groups} groups")
        return (channels,)

    def call(self, inputs: Any) -> Any:
        """What is left of each group's mean, over its deviation, and scaled."""
        x = self._turned(inputs)
        maps = x.reshape(x.shape[0], -1, x.shape[-1])
        centered = ops.subtract(maps, self._of_groups(maps))
        root = ops.sqrt(ops.add(self._of_groups(ops.square(centered)), self.epsilon))
        y, gamma, beta = ops.divide(centered, root), self.parameter("gamma"), self.parameter("beta")
        y = y if gamma is None else ops.multiply(y, gamma)
        return self._back((y if beta is None else ops.add(y, beta)).reshape(*x.shape))

    def _of_groups(self, maps: Any) -> Any:
        """The means of maps (n, places, channels) in each group, for each of its channels (n, 1, channels)."""
        n, _, channels = maps.shape
        together = 1 if self.groups == -1 else channels // self.groups
        of_channels = ops.mean(maps, axis=1).reshape(n, -1, together)
        means = ops.mean(of_channels, axis=2, keepdims=True)
        return ops.multiply(means, constant(1.0, means, (1, 1, together))).reshape(n, 1, channels)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"groups": self.groups, **super().get_config()}


class RMSNormalization(Layer):
    """y = scale * x / sqrt(mean of x^2 + epsilon) along ``axis``, or several axes (Zhang and Sennrich 2019)."""

    supports_masking = True

    def __init__(self, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, **options: Any) -> None:
        self.axis = _axes("axis", axis)
        self.epsilon = checks.real("epsilon", epsilon, minimum=0)
        super().__init__(**options)
        self.dtype = self.dtype or "float32"

    def parameter_shapes(self, input_shape: BatchShape) -> dict[str, Shape]:
        """That of the scale: the sizes along the axes."""
        return {"scale": _sizes_along(self.name, self.axis, input_shape)}

    def make_parameters(self, input_shape: BatchShape) -> None:
        """Ones."""
        self._take_parameters(input_shape, [np.ones(self.parameter_shapes(input_shape)["scale"], self.dtype)])

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of the inputs; ValueError where they have no such axes."""
        self.parameter_shapes(input_shape)
        return tuple(input_shape)

    def _fits(self, input_shape: BatchShape) -> bool:
        """Whether the scale is that of this shape."""
        return self.parameter_shapes(input_shape)["scale"] == self.parameters[0].shape

    def call(self, inputs: Any) -> Any:
        """The quotients, scaled."""
        (scale,), rank = self.parameters, len(inputs.shape)
        axes = sorted(each % rank for each in _several(self.axis))
        root = ops.sqrt(ops.add(ops.mean(ops.square(inputs), axis=axes, keepdims=True), self.epsilon))
        sizes = [inputs.shape[axis] if axis in axes else 1 for axis in range(axes[0], rank)]
        return ops.multiply(ops.divide(inputs, root), ops.reshape(scale, sizes) if sizes != [*scale.shape] else scale)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"axis": self.axis, "epsilon": self.epsilon, **super().get_config()}


class UnitNormalization(Layer):
    """x over its Euclidean norm along ``axis``, or several axes, of at least 1e-12: vectors of length 1."""

    supports_masking = True

    def __init__(self, axis: int | Sequence[int] = -1, **options: Any) -> None:
        self.axis = _axes("axis", axis)
        super().__init__(**options)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of the inputs; ValueError where they have no such axes."""
        _sizes_along(self.name, self.axis, input_shape)
        return tuple(input_shape)

    def call(self, inputs: Any) -> Any:
        """The quotients."""
        return ops.normalize(inputs, self.axis, epsilon=1e-12)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"axis": self.axis, **super().get_config()}


def _axes(name: str, axis: Any) -> int | list[int]:
    """``axis`` as an integer or a list of integers that are not the batch's."""
    if isinstance(axis, (list, tuple)):
        found = [checks.integer(f"{name}[{place}]", each) for place, each in enumerate(axis)]
    else:
        found = [checks.integer(name, axis)]
    if not found or 0 in found:
        raise ValueError(f"{name}: got {checks.describe(axis)}, wants axes of a sample: 0 is that of the batch")
    return found if isinstance(axis, (list, tuple)) else found[0]


def _several(axis: int | Sequence[int]) -> Sequence[int]:
    """Axes, of which one may be given as it is."""
    return [axis] if isinstance(axis, int) else axis


def _sizes_along(layer: str, axis: int | Sequence[int], input_shape: BatchShape) -> Shape:
    """The sizes of these axes in their order; ValueError unless samples have them, each once, of known sizes."""
    axes, rank = _several(axis), len(input_shape)
    places = sorted(axis % rank if -rank < axis < rank else 0 for axis in axes)
    sizes = tuple(input_shape[place] or 0 for place in places)
    if 0 in places or 0 in sizes or len({*places}) < len(places):
        got = f"input shape {tuple(input_shape)} with axis={axes[0] if len(axes) == 1 else [*axes]}"
        raise ValueError(f"{layer}: got {got}, wants such axes of samples, each once, of known sizes")
    return sizes


def _last_axes(layer: str, axis: int | Sequence[int], input_shape: BatchShape) -> Shape:
    """The sizes of these axes; ValueError unless they are the last ones, of known sizes."""
    axes, sizes, rank = _several(axis), _sizes_along(layer, axis, input_shape), len(input_shape)
    if min(each % rank for each in axes) != rank - len(axes):
        got = f"input shape {tuple(input_shape)} with axis={axis if isinstance(axis, int) else list(axis)}"
        raise ValueError(f"{layer}: got {got}, wants the last axes of samples, of known sizes")
    return sizes


class Normalization(Layer):
    """y = (x - mean) / sqrt(variance), by figures that ``adapt`` finds, or that are given; ``invert`` undoes it.

    The figures are those along all axes but ``axis``: the last one, or the last ones; of all numbers where it is None.
    Numbers that do not differ are divided by 1e-7, Keras's least deviation (a variance v counts as v + 1e-14).
    """

    recordable = True
    moving = ("mean", "variance")

    def __init__(
        self,
        axis: int | Sequence[int] | None = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **options: Any,
    ) -> None:
        if (mean is None) != (variance is None):
            given, other = ("variance", "mean") if mean is None else ("mean", "variance")
            raise ValueError(f"{given}: got it without {other}, wants both or neither")
        self.axis = None if axis is None else _axes("axis", axis)
        self.invert = checks.instance("invert", invert, bool, "True or False")
        self.mean, self.variance = (
            None if value is None else np.atleast_1d(numeric_array(name, np.atleast_1d(value)).astype(np.float64))
            for name, value in (("mean", mean), ("variance", variance))
        )
        if self.variance is not None and (self.variance < 0).any():
            raise ValueError(f"variance: got {self.variance.min():g}, wants numbers of at least 0")
        super().__init__(**options)
        self.recordable = not self.invert
        self.dtype = self.dtype or "float32"

    def _figures_shape(self, input_shape: BatchShape) -> Shape:
        return (1,) if self.axis is None else _last_axes(self.name, self.axis, input_shape)

    def parameter_shapes(self, input_shape: BatchShape) -> dict[str, Shape]:
        """Those of mean and variance."""
        return dict.fromkeys(("mean", "variance"), self._figures_shape(input_shape))

    def make_parameters(self, input_shape: BatchShape) -> None:
        """The figures that were given, or zeros and ones until ``adapt`` finds others."""
        shape = self._figures_shape(input_shape)
        values = []
        for name, given, first in (("mean", self.mean, 0.0), ("variance", self.variance, 1.0)):
            try:
                values.append(np.array(np.broadcast_to(first if given is None else given, shape), self.dtype))
            except ValueError:
                got = given.shape if given is not None else ()
                raise ValueError(f"{self.name}: got {name} of shape {got}, wants {shape}") from None
        self._take_parameters(input_shape, values)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of the inputs."""
        self._figures_shape(input_shape)
        return tuple(input_shape)

    def _fits(self, input_shape: BatchShape) -> bool:
        """Whether the figures are those of this shape."""
        return self._figures_shape(input_shape) == self.parameters[0].shape

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Take mean and variance from ``data``, an array of samples; those of an earlier call are forgotten.

        ``steps`` batches of ``batch_size`` samples are looked at, or all samples.
        """
        if self.mean is not None:
            raise ValueError(f"{self.name}: got data to adapt to, wants none beside the mean and variance given")
        array = numeric_array("data", data)
        if steps is not None:
            size = 32 if batch_size is None else checks.positive_int("batch_size", batch_size)
            array = array[: checks.positive_int("steps", steps) * size]
        if array.ndim == 1:
            array = array[:, None]
        if array.size == 0:
            raise ValueError(f"data: got an array of shape {array.shape}, wants one with samples")
        check_finite("data", array, np.dtype(np.float64))
        self.build((None, *array.shape[1:]))
        shape = self.parameters[0].shape
        rows = array.reshape(-1, math.prod(shape))
        mean = rows.mean(axis=0, dtype=np.float64)
        variance = np.square(rows - mean).mean(axis=0)
        self.set_weights([mean.reshape(shape), variance.reshape(shape)])

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and its numbers as rows."""
        mean, variance = (parameter.value.reshape(-1) for parameter in self.parameters)
        rows = x.reshape(-1, mean.size)
        if self.invert:
            deviation = np.maximum(np.sqrt(variance), variance.dtype.type(LEAST_DEVIATION))
            return (rows * deviation + mean).reshape(*x.shape), (rows, deviation)
        y: Array = ops.batch_norm_inference(rows, mean, variance, epsilon=LEAST_DEVIATION**2)
        return y.reshape(*x.shape), (rows, None)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx; no gradients of the figures."""
        rows, deviation = kept
        slopes, nothing = dy.reshape(*rows.shape), [None] * len(self.parameters)
        if deviation is not None:
            return (slopes * deviation).reshape(*dy.shape), nothing  # type: ignore[return-value]
        mean, variance = (parameter.value.reshape(-1) for parameter in self.parameters)
        epsilon = LEAST_DEVIATION**2
        dx, *_ = ops.batch_norm_inference_backward(slopes, rows, mean, variance, None, epsilon, ("dx",))
        return dx.reshape(*dy.shape), nothing  # type: ignore[return-value]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "axis": self.axis,
            "mean": None if self.mean is None else self.mean.tolist(),
            "variance": None if self.variance is None else self.variance.tolist(),
            "invert": self.invert,
            **super().get_config(),
        }
