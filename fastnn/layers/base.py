"""The base of all layers, their parameters, names and shapes.

A layer keeps its parameters and nothing of a batch: ``forward`` returns the outputs and what ``backward`` will need,
``backward`` takes that back. All shapes of this package include the batch axis as None, as Keras's do.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import activations, checks, configurable, regularizers
from fastnn.configurable import Configurable, snake_case
from fastnn.constraints import Constraint
from fastnn.engine.activations import LINEAR
from fastnn.engine.activations import Activation as Activation_
from fastnn.engine.data import check_finite, index_source, numeric_array
from fastnn.engine.protocols import (
    Array,
    LayerForm,
    Shape,
    Training,
)
from fastnn.kernels.interrupts import held
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
    """A weight array of a layer: its name within the layer, its values, the penalty on them and their constraint.

    One that ``moves`` is a figure of what was seen in training: passes move it, no gradient does.
    """

    def __init__(
        self,
        name: str,
        path: str,
        value: Array,
        regularizer: Regularizer | None = None,
        constraint: Constraint | None = None,
        moves: bool = False,
    ) -> None:
        self.name = name
        self.path = path
        self.value = value
        self.regularizer = regularizer
        self.constraint = constraint
        self.moves = moves
        self.trainable = not moves

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
    # Names of the parameters that move.
    moving: tuple[str, ...] = ()
    # Whether forward(..., mask=) wants the steps of the inputs that count; whether those of the outputs are the same.
    takes_mask = False
    supports_masking = False

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
            parameter.trainable = value and not parameter.moves

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

    @property
    def indices(self) -> int | None:
        """Where the inputs are integers in [0, indices), row numbers, how many there are; None where they are not."""
        return None

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """Which steps of the outputs for x count, an array (n, t) of 0 and 1; None where all do, or nobody knows.

        ``mask`` says it of x. Layers that work step by step pass it on: their ``supports_masking`` is True.
        """
        return mask if self.supports_masking else None

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
            parameter.trainable = self._trainable and not parameter.moves
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
            moves = name in self.moving
            self.parameters.append(Parameter(name, f"{self.name}/{name}", value, penalty, constraint, moves))

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
        if self.indices is None:
            array = numeric_array("x", x).astype(self.dtype or "float32", copy=False)
        else:
            source = index_source("x", x, self.indices, self.name)
            array = source.batch(slice(0, source.rows))
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


class Activated(Layer):
    """A layer whose activation can be chosen, also once it is built; a fit that runs keeps the one it began with."""

    _activation = LINEAR

    @property
    def activation(self) -> Activation_:
        """What the outputs go through at the end; set it to whatever ``activations.get`` takes."""
        return self._activation

    @activation.setter
    def activation(self, value: Any) -> None:
        self._activation = activations.get(value, "activation")
