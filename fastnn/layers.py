"""Layers, under Keras's names, arguments and defaults.

A layer keeps its parameters and nothing of a batch: ``forward`` returns the outputs and what ``backward`` will need,
``backward`` takes that back. All shapes of this module include the batch axis as None, as Keras's do.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastnn import absent, activations, checks, configurable, constraints, initializers, ops, regularizers
from fastnn.configurable import Configurable, aliases, snake_case
from fastnn.constraints import Constraint
from fastnn.engine import seeds
from fastnn.engine.activations import LINEAR
from fastnn.engine.activations import Activation as Activation_
from fastnn.engine.data import check_finite, numeric_array
from fastnn.engine.protocols import (
    ActivationForm,
    Array,
    DenseForm,
    Draw,
    DropForm,
    LayerForm,
    PReLUForm,
    RescaleForm,
    ReshapeForm,
    Shape,
    Training,
)
from fastnn.initializers import Initializer
from fastnn.kernels.interrupts import held
from fastnn.kernels.table import TABLE
from fastnn.regularizers import Regularizer

BatchShape = tuple[int | None, ...]
# Of a sample: NumPy's arrays have up to 64, one of which is the batch's.
_MOST_AXES = 63

_used_names: Counter[str] = Counter()


def unique_name(kind: str) -> str:
    """``dense``, ``dense_1``, ``dense_2``, ...: a name that no other object of this process was given by default."""
    number = _used_names[kind]
    _used_names[kind] += 1
    return kind if number == 0 else f"{kind}_{number}"


class Parameter:
    """A weight array of a layer: its name within the layer, its values, the penalty on them and their constraint."""

    def __init__(
        self,
        name: str,
        path: str,
        value: Array,
        regularizer: Regularizer | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.value = value
        self.regularizer = regularizer
        self.constraint = constraint
        self.trainable = True

    @property
    def shape(self) -> Shape:
        """Shape of the array."""
        return tuple(self.value.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the array."""
        return self.value.dtype

    def numpy(self) -> Array:
        """A copy of the array."""
        return self.value.copy()

    def assign(self, value: Any) -> None:
        """Take over the numbers of ``value``; ValueError unless of the same shape and finite."""
        self.value[...] = self.checked(value)

    def checked(self, value: Any) -> Array:
        """``value`` as an array that fits this parameter."""
        array = numeric_array(self.path, value) if np.ndim(value) else np.asarray(value)
        if array.shape != self.value.shape:
            raise ValueError(f"{self.path}: got an array of shape {array.shape}, wants {self.value.shape}")
        check_finite(self.path, array, self.value.dtype)
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.value, dtype=dtype, copy=True if copy is None else copy)

    def __repr__(self) -> str:
        return f"<Parameter {self.path} of shape {self.shape} and dtype {self.dtype}>"


class WeightLists:
    """What layers and models are asked for of their parameters, under both of Keras's names."""

    @property
    def weights(self) -> list[Parameter]:
        """All parameters, layer by layer."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its weights are")

    @property
    def trainable_weights(self) -> list[Parameter]:
        """The parameters that training changes."""
        return [parameter for parameter in self.weights if parameter.trainable]

    @property
    def non_trainable_weights(self) -> list[Parameter]:
        """The parameters that training leaves as they are."""
        return [parameter for parameter in self.weights if not parameter.trainable]

    @property
    def variables(self) -> list[Parameter]:
        """All parameters: Keras's other name for ``weights``."""
        return self.weights

    @property
    def trainable_variables(self) -> list[Parameter]:
        """Keras's other name for ``trainable_weights``."""
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[Parameter]:
        """Keras's other name for ``non_trainable_weights``."""
        return self.non_trainable_weights


class Layer(WeightLists, Configurable):
    """Base class. ``input_shape`` (or ``input_dim``) is the shape of one sample, for a model's first layer.

    Layers without weights follow the dtype of the model they are in unless ``dtype`` is given.

    A layer of your own defines ``forward(x, training, activate) -> (y, kept)`` and, to be trained or to let gradients
    through, ``backward(dy, kept, need_dx) -> (dx, gradients)``, one gradient a parameter: fastnn derives nothing from
    Python code, so Keras's ``call`` does not do. Where shapes change it defines ``compute_output_shape(input_shape)``,
    where it has weights ``make_parameters(input_shape)``, which puts ``Parameter`` objects into ``self.parameters``.
    Models with such a layer run layer by layer. One of whose class ``recordable`` is True says that its passes are ops
    of ``fastnn.ops`` on what they are given and on its parameters, and do nothing else that matters: ``fit`` then
    records them and makes one compiled call of a step (``fastnn.program``).
    """

    recordable = False

    def __init__(
        self,
        *,
        name: str | None = None,
        dtype: str | None = None,
        trainable: bool = True,
        activity_regularizer: Any = None,
        input_shape: Sequence[int] | None = None,
        input_dim: int | None = None,
    ) -> None:
        kind = type(self)
        if kind.forward is Layer.forward and hasattr(kind, "call"):
            raise TypeError(f"{kind.__name__}: got a layer that defines call, wants {_OWN}")
        if name is not None:
            checks.instance("name", name, str, "a string")
            if not name or "/" in name:
                raise ValueError(f"name: got {name!r}, wants a string without '/' that is not empty")
        self.dtype = checks.float_dtype("dtype", dtype)
        self.activity_regularizer = regularizers.get(activity_regularizer, "activity_regularizer")
        if input_shape is not None and input_dim is not None:
            raise ValueError("input_shape, input_dim: got both, wants one of them")
        self.sample_shape: Shape | None = None
        if input_dim is not None:
            self.sample_shape = (checks.positive_int("input_dim", input_dim),)
        elif input_shape is not None:
            self.sample_shape = sample_shape("input_shape", input_shape)
        self.parameters: list[Parameter] = []
        self.input_shape: BatchShape | None = None
        self.built = False
        self._trainable: bool = checks.instance("trainable", trainable, bool, "True or False")
        self._kind = None if name else snake_case(type(self).__name__)
        self.name = name or unique_name(snake_case(type(self).__name__))

    def __init_subclass__(cls) -> None:
        """What the kernels make of a layer is not what a subclass with a pass of its own does."""
        super().__init_subclass__()
        if {"forward", "backward"} & vars(cls).keys():
            if "form" not in vars(cls):
                cls.form = Layer.form  # type: ignore[method-assign]
            cls.recordable = vars(cls).get("recordable", False)

    def avoid_names(self, taken: Container[str]) -> None:
        """Take another default name while ``taken`` holds this one; given names and built layers stay."""
        while self.name in taken and self._kind is not None and not self.built:
            self.name = unique_name(self._kind)

    @property
    def activation(self) -> Activation_:
        """What the outputs go through at the end."""
        return LINEAR

    def form(self) -> LayerForm | None:
        """What the layer does, where runners know how to do that without calling it; None for all else."""
        return None

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = checks.instance("trainable", value, bool, "True or False")
        for parameter in self.parameters:
            parameter.trainable = value

    @property
    def weights(self) -> list[Parameter]:
        """All parameters."""
        return list(self.parameters)

    @property
    def output_shape(self) -> BatchShape:
        """Shape of the outputs; AttributeError before the layer is built, so that ``hasattr`` can ask."""
        if self.input_shape is None:
            raise AttributeError(f"{self.name}: the layer is not built, so its output shape is unknown")
        return self.compute_output_shape(self.input_shape)

    @property
    def flops(self) -> int:
        """Floating-point operations of the products of one sample's forward pass."""
        return 0

    def build(self, input_shape: BatchShape, values: Sequence[Array] | None = None) -> None:
        """Make the weights for inputs of ``input_shape``; a built layer only checks that they fit.

        The weights are ``values`` themselves, arrays of ``parameter_shapes``, or where there are none initial ones.
        """
        shape = tuple(input_shape)
        self.compute_output_shape(shape)
        if self.built:
            if not self._fits(shape):
                raise ValueError(
                    f"{self.name}: got input shape {shape}, wants {self.input_shape}, for which it is built"
                )
            return
        if values is None:
            self.make_parameters(shape)
        else:
            self._take_parameters(shape, values)
        for parameter in self.parameters:
            parameter.trainable = self._trainable
        self.input_shape = (None, *shape[1:])
        self.built = True

    def make_parameters(self, input_shape: BatchShape) -> None:
        """Put this layer's parameters into ``self.parameters``, if it has any: ``build`` asks for them once."""

    def parameter_shapes(self, input_shape: BatchShape) -> dict[str, Shape]:
        """Shapes of the weight arrays for inputs of ``input_shape``, by name and in order; nothing is made."""
        return {}

    def _take_parameters(self, input_shape: BatchShape, values: Sequence[Array]) -> None:
        """Make the parameters of ``parameter_shapes``, of these values."""
        for name, value in zip(self.parameter_shapes(input_shape), values, strict=True):
            penalty, constraint = (getattr(self, f"{name}_{kind}", None) for kind in ("regularizer", "constraint"))
            self.parameters.append(Parameter(name, f"{self.name}/{name}", value, penalty, constraint))

    def _fits(self, input_shape: BatchShape) -> bool:
        """Whether the parameters that were made serve ``input_shape`` too."""
        return True

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the outputs for inputs of ``input_shape``."""
        return tuple(input_shape)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and what ``backward`` needs; without ``activate`` the activation is left out."""
        raise NotImplementedError(f"{type(self).__name__}: got a layer without forward, wants {_OWN}")

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, or None where it is not needed, and the gradients of the parameters."""
        raise NotImplementedError(f"{type(self).__name__}: got a layer without backward to train with, wants {_OWN}")

    def __call__(self, x: Any, training: bool = False) -> Array:
        """Outputs for the batch ``x``; builds the layer on first use."""
        refuse_symbols("x", x)
        array = numeric_array("x", x).astype(self.dtype or "float32", copy=False)
        self.build((None, *array.shape[1:]))
        return self.forward(array, training)[0]

    def count_params(self) -> int:
        """Number of weights; ValueError before the layer is built."""
        if not self.built:
            raise ValueError(f"{self.name}: the layer is not built, so its weights cannot be counted")
        return sum(parameter.value.size for parameter in self.parameters)

    def get_weights(self) -> list[Array]:
        """Copies of the weight arrays."""
        return [parameter.numpy() for parameter in self.parameters]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Take over ``weights``, arrays in the order of ``get_weights``; nothing is changed unless all of them fit."""
        assign_all(self.parameters, weights)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "trainable": self.trainable,
            "activity_regularizer": configurable.serialize(self.activity_regularizer, regularizers.NAMES),
            "input_shape": None if self.sample_shape is None else list(self.sample_shape),
        }


# What a layer of the user's own defines.
_OWN = (
    "one that defines forward(x, training, activate) -> (y, kept) and backward(dy, kept, need_dx) -> (dx, gradients): "
    "fastnn derives nothing from Python code (see help(fastnn.layers.Layer))"
)


def refuse_symbols(name: str, x: Any) -> None:
    """TypeError where ``x`` is no data but a layer, which elsewhere stands for its outputs."""
    if isinstance(x, Layer):
        raise TypeError(
            f"{name}: got the layer {x.name!r}, wants an array of samples: graphs of layers are not there yet, stacks "
            "are, such as models.Sequential([layers.Input((4,)), layers.Dense(3)])"
        )


def assign_all(parameters: Sequence[Parameter], weights: Sequence[Any]) -> None:
    """Assign one array to each parameter; nothing is changed unless all of them fit, and no interrupt parts them."""
    if isinstance(weights, (str, bytes, dict)) or not hasattr(weights, "__len__"):
        raise TypeError(f"weights: got {checks.describe(weights)}, wants a list of arrays")
    if len(weights) != len(parameters):
        raise ValueError(f"weights: got {len(weights)} arrays, wants {len(parameters)}: {[p.path for p in parameters]}")
    arrays = [parameter.checked(value) for parameter, value in zip(parameters, weights, strict=True)]
    with held():
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.value[...] = array


def sample_shape(name: str, shape: Any) -> Shape:
    """``shape`` as a tuple of positive integers: the shape of one sample, in a batch that NumPy could hold."""
    if isinstance(shape, (str, bytes, Mapping)) or not hasattr(shape, "__iter__"):
        raise TypeError(f"{name}: got {checks.describe(shape)}, wants a tuple of integers such as (784,)")
    sizes = tuple(shape)
    if len(sizes) > _MOST_AXES:
        raise ValueError(f"{name}: got {len(sizes)} axes, wants {_MOST_AXES} at most")
    return tuple(checks.integer(f"{name}[{index}]", size, 1, sys.maxsize) for index, size in enumerate(sizes))


class InputLayer(Layer):
    """The shape of one sample, ahead of the first layer; ``dtype`` is that of the data and may be any numeric one."""

    recordable = True

    def __init__(
        self,
        shape: Sequence[int] | None = None,
        batch_size: int | None = None,
        dtype: str | None = None,
        name: str | None = None,
    ) -> None:
        if shape is None:
            raise ValueError("shape: got None, wants the shape of one sample, such as (784,)")
        checked = sample_shape("shape", shape)
        if batch_size is not None:
            batch_size = checks.positive_int("batch_size", batch_size)
        self.data_dtype = None if dtype is None else _numeric_dtype(dtype)
        super().__init__(name=name, input_shape=checked)
        self.batch_size = batch_size
        self.build((None, *checked))

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """The inputs as they are."""
        return x, None

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient as it is."""
        return dy, ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        shape = list(self.sample_shape or ())
        return {"shape": shape, "batch_size": self.batch_size, "dtype": self.data_dtype, "name": self.name}


def _numeric_dtype(dtype: Any) -> str:
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        raise TypeError(f"dtype: got {checks.describe(dtype)}, wants the name of a numeric dtype") from None
    if found.kind not in "fiub":
        raise TypeError(f"dtype: got {found}, wants a numeric dtype (float, int, uint or bool)")
    return str(found.name)


def Input(  # noqa: N802 - Keras's name
    shape: Sequence[int] | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    name: str | None = None,
) -> InputLayer:
    """The first entry of a Sequential: the shape of one sample.

    Keras returns a symbolic tensor, to call layers on; fastnn returns the layer: graphs of layers are not there yet.
    """
    return InputLayer(shape, batch_size, dtype, name)


class _Activated(Layer):
    """A layer whose activation can be chosen, also once it is built; a fit that runs keeps the one it began with."""

    _activation = LINEAR

    @property
    def activation(self) -> Activation_:
        """What the outputs go through at the end; set it to whatever ``activations.get`` takes."""
        return self._activation

    @activation.setter
    def activation(self, value: Any) -> None:
        self._activation = activations.get(value, "activation")


class Dense(_Activated):
    """y = activation(x @ kernel + bias) along the last axis; kernel (inputs, units), bias (units,).

    Constraints say what the weights become after every step of training (``fastnn.constraints``).
    """

    recordable = True

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **options: Any,
    ) -> None:
        self.units = checks.positive_int("units", units)
        self.activation = activation
        self.use_bias = checks.instance("use_bias", use_bias, bool, "True or False")
        self.kernel_initializer: Initializer | None = initializers.get(kernel_initializer, "kernel_initializer")
        self.bias_initializer: Initializer | None = initializers.get(bias_initializer, "bias_initializer")
        self.kernel_regularizer = regularizers.get(kernel_regularizer, "kernel_regularizer")
        self.bias_regularizer = regularizers.get(bias_regularizer, "bias_regularizer")
        self.kernel_constraint = constraints.get(kernel_constraint, "kernel_constraint")
        self.bias_constraint = constraints.get(bias_constraint, "bias_constraint")
        super().__init__(activity_regularizer=activity_regularizer, **options)
        self.dtype: str = self.dtype or "float32"

    def form(self) -> LayerForm | None:
        """Dense along the only axis of a sample."""
        if self.input_shape is None or len(self.input_shape) != 2:
            return None
        return DenseForm(self.kernel, self.bias, self.activation)

    @property
    def kernel(self) -> Parameter:
        """The weight matrix, (inputs, units)."""
        return self._parameter(0)

    @property
    def bias(self) -> Parameter | None:
        """The bias, (units,), or None without one."""
        return self._parameter(1) if self.use_bias else None

    def _parameter(self, index: int) -> Parameter:
        if not self.built:
            raise ValueError(f"{self.name}: the layer is not built, so it has no weights yet")
        return self.parameters[index]

    @property
    def flops(self) -> int:
        """Two operations a weight and position."""
        if self.input_shape is None:
            return 0
        positions = math.prod(size or 1 for size in self.input_shape[1:])
        return 2 * positions * self.units

    def make_parameters(self, input_shape: BatchShape) -> None:
        """The kernel, and the bias if there is one, as their initializers draw them."""
        shapes = self.parameter_shapes(input_shape)
        values = [self._initial(f"{name}_initializer", shape) for name, shape in shapes.items()]
        self._take_parameters(input_shape, values)

    def parameter_shapes(self, input_shape: BatchShape) -> dict[str, Shape]:
        """The kernel's, (inputs, units), and with a bias (units,)."""
        shapes: dict[str, Shape] = {"kernel": (input_shape[-1] or 0, self.units), "bias": (self.units,)}
        return shapes if self.use_bias else {"kernel": shapes["kernel"]}

    def _fits(self, input_shape: BatchShape) -> bool:
        """Whether the last axis is as long as the kernel."""
        return input_shape[-1] == self.kernel.shape[0]

    def _initial(self, argument: str, shape: Shape) -> Array:
        return initializers.first_weights(getattr(self, argument), argument, shape, self.dtype)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The last axis becomes ``units``."""
        if len(input_shape) < 2 or input_shape[-1] is None:
            raise ValueError(f"{self.name}: got input shape {tuple(input_shape)}, wants (None, ..., inputs)")
        return (*input_shape[:-1], self.units)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch (n, ..., inputs), and (x, z, y, activation) as matrices for ``backward``."""
        rows = x.reshape(-1, x.shape[-1])
        activation = self._activation if activate else LINEAR
        bias = self.parameters[1].value if self.use_bias else None
        z: Array = ops.linear(
            rows, self.parameters[0].value, bias, activation.name if activation.in_linear else "linear"
        )
        y = z if activation.in_linear else activation(z)
        return y.reshape(*x.shape[:-1], self.units), (rows, z, y, activation)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx in the shape of the inputs, and the gradients of kernel and bias."""
        x, z, y, activation = kept
        rows = dy.reshape(-1, self.units)
        kernel = self.parameters[0].value
        if not activation.in_linear:
            rows, activation = activation.backward(rows, z, y), LINEAR
        # below the first layer that learns nobody asks for dx: a third of the arithmetic less
        need = ("dx",) * need_dx + ("dw",) + ("db",) * self.use_bias
        dx, dw, db = ops.linear_backward(rows, x, kernel, y, activation.name, need=need)
        if need_dx:
            dx = dx.reshape(*dy.shape[:-1], x.shape[-1])
        return dx, (dw, db) if self.use_bias else (dw,)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": configurable.serialize(self.kernel_regularizer, regularizers.NAMES),
            "bias_regularizer": configurable.serialize(self.bias_regularizer, regularizers.NAMES),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
            **super().get_config(),
        }


class _Activating(Layer):
    """What layers share that are an activation; those of rows work along the last axis."""

    recordable = True

    _activation = LINEAR

    def form(self) -> LayerForm | None:
        """Of a sample's numbers one by one, or of rows along its only axis."""
        flat = self.input_shape is not None and len(self.input_shape) == 2
        return ActivationForm(self.activation) if flat or self.activation.elementwise else None

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


class Activation(_Activated, _Activating):
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
        self.dtype: str = self.dtype or "float32"

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
        y: Array = ops.prelu(x, np.broadcast_to(self.alpha.value, x.shape[1:]))
        return y, x

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, and the gradient of the slopes."""
        dx, dalpha = ops.prelu_backward(dy, kept, np.broadcast_to(self.alpha.value, kept.shape[1:]))
        shared = tuple(axis - 1 for axis in self.shared_axes)
        return dx, (dalpha.sum(axis=shared, keepdims=True) if shared else dalpha,)

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
        return np.ascontiguousarray(np.swapaxes(x, self.axis, -1))


class Flatten(Layer):
    """Each sample as one row: (n, a, b, ...) becomes (n, a * b * ...)."""

    recordable = True

    def form(self) -> LayerForm | None:
        """Nothing happens to the numbers."""
        return ReshapeForm()

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """One axis beside the batch axis."""
        return (input_shape[0], math.prod(size or 0 for size in input_shape[1:]))

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """The inputs as rows, and their shape."""
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), x.shape

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient in the shape of the inputs."""
        return dy.reshape(kept), ()


class Dropout(Layer):
    """Inverted dropout: training sets a share ``rate`` of the inputs to 0 and divides the others by 1 - ``rate``.

    Evaluation and prediction leave the inputs as they are. Every step has a mask of its own, which follows from the
    seed, the optimizer's count of steps and the layer's place in the model. Without ``seed`` each fit draws one from
    the library's generator (``utils.set_random_seed``). Called by itself with ``training=True`` the layer drops too,
    other inputs in every call. Keras's ``noise_shape`` is not supported.
    """

    recordable = True

    def __init__(self, rate: float, seed: int | None = None, **options: Any) -> None:
        limits = TABLE["dropout"].options
        self.rate = checks.option("rate", rate, limits["rate"])
        self.seed = None if seed is None else checks.option("seed", seed, limits["seed"])
        self._calls = 0
        super().__init__(**options)

    def form(self) -> LayerForm | None:
        """A share of the inputs is dropped."""
        return DropForm(self.rate, self.seed)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and what its mask was drawn from, None where nothing was dropped."""
        if not training or self.rate == 0:
            return x, None
        draw = training if isinstance(training, Draw) else self._draw()
        return self._masked(ops.dropout, x, draw), draw

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient behind the same mask."""
        return (dy if kept is None else self._masked(ops.dropout_backward, dy, kept)), ()

    def _masked(self, op: Any, x: Array, draw: Draw) -> Array:
        rows: Array = op(x.reshape(x.shape[0], math.prod(x.shape[1:])), self.rate, *draw)
        return rows.reshape(x.shape)

    def _draw(self) -> Draw:
        """What a call outside any fit draws from."""
        if self.seed is None:
            return Draw(seeds.draw_seed(), 0, 0)
        self._calls += 1
        return Draw(self.seed, self._calls - 1, 0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"rate": self.rate, "seed": self.seed, **super().get_config()}


class Rescaling(Layer):
    """y = scale * x + offset, such as Rescaling(1 / 255) on images of uint8; no weights.

    As a model's first layer it is part of how training gathers samples: bytes stay bytes in memory.
    """

    recordable = True

    def __init__(self, scale: float, offset: float = 0.0, **options: Any) -> None:
        self.scale = checks.real("scale", scale)
        self.offset = checks.real("offset", offset)
        super().__init__(**options)

    def form(self) -> LayerForm | None:
        """A number times the inputs and another one more."""
        return RescaleForm(self.scale, self.offset)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch of floating-point numbers; nothing is kept."""
        return x * x.dtype.type(self.scale) + x.dtype.type(self.offset), None

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx."""
        return dy * dy.dtype.type(self.scale), ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"scale": self.scale, "offset": self.offset, **super().get_config()}


NAMES = aliases((InputLayer, Dense, Activation, ReLU, LeakyReLU, PReLU, ELU, Softmax, Flatten, Dropout, Rescaling))


def serialize(layer: Layer) -> dict[str, Any] | None:
    """A layer as JSON can hold it, without its weights; ValueError for one of the user's own."""
    return configurable.serialize(layer, NAMES)


def deserialize(config: Mapping[str, Any]) -> Layer:
    """The layer that ``serialize`` wrote as ``config``, not built."""
    return configurable.deserialize("config", config, NAMES)


__all__ = ["Input", "Layer", "Parameter", "deserialize", "serialize", *sorted({cls.__name__ for cls in NAMES.values()})]
absent.explain(__name__)
