"""The base of all layers, their parameters, names and shapes.

A layer keeps its parameters and nothing of a batch: ``forward`` returns the outputs and what ``backward`` will need,
``backward`` takes that back. All shapes of this package include the batch axis as None, as Keras's do.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any

import numpy as np

from fastnn import activations, checks, configurable, constraints, initializers, ops, regularizers
from fastnn.configurable import Configurable, snake_case, undefined, unknown_argument
from fastnn.constraints import Constraint
from fastnn.differentiation import joined
from fastnn.engine import penalties
from fastnn.engine.activations import LINEAR
from fastnn.engine.activations import Activation as Activation_
from fastnn.engine.data import check_finite, index_source, numeric_array
from fastnn.engine.protocols import (
    Array,
    LayerForm,
    Shape,
    Training,
)
from fastnn.kernels.contexts import setting
from fastnn.kernels.interrupts import held
from fastnn.layers import calling, symbols
from fastnn.layers.symbols import Node, is_symbolic, tensors
from fastnn.regularizers import Regularizer
from fastnn.tape import Followed, Held, Traced, calculate

BatchShape = symbols.BatchShape
# Of a sample: NumPy's arrays have up to 64, one of which is the batch's.
_MOST_AXES = 63

_used_names: Counter[str] = Counter()


# Where weights come from that are not drawn, as a file has them: values by layer and input shape.
_supply: ContextVar[Callable[[Any, Any], Sequence[Array] | None] | None] = ContextVar("fastnn_supply", default=None)


def supplied(supply: Callable[[Any, Any], Sequence[Array] | None]) -> AbstractContextManager[None]:
    """``with`` this, layers that are built take the values that ``supply(layer, input_shape)`` gives, None for none."""
    return setting(_supply, supply)


# Names of the models that are being made of a description, the outermost first.
_within: ContextVar[tuple[str, ...]] = ContextVar("fastnn_within", default=())


def within(name: str) -> AbstractContextManager[None]:
    """``with`` this, layers that are made are those of a model of that name, and of those around it."""
    return setting(_within, (*_within.get(), name))


def paths_within(path: str) -> list[str]:
    """Paths that a parameter may have in a model around: with names of models where others have the same."""
    found = [path]
    for name in reversed(_within.get()):
        found += [f"{name}/{each}" for each in found]
    return sorted(found, key=len, reverse=True)


def unique_name(kind: str) -> str:
    """``dense``, ``dense_1``, ``dense_2``, ...: a name that no other object of this process was given by default."""
    number = _used_names[kind]
    _used_names[kind] += 1
    return kind if number == 0 else f"{kind}_{number}"


def forget_names() -> None:
    """Count default names from their beginning again."""
    _used_names.clear()


class Parameter(Held):
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
        dtype: np.dtype[Any] = self.value.dtype
        return dtype

    def numpy(self) -> Array:
        """A copy of the array."""
        copied: Array = self.value.copy()
        return copied

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


class Operation(WeightLists):
    """What is called on symbolic tensors, which makes graphs of layers: a layer, or a model."""

    name: str
    # Its calls on symbolic tensors.
    nodes: list[Node]
    # What default names begin with; None where the name was given.
    _kind: str | None

    @property
    def built(self) -> bool:
        """Whether the weights are made."""
        raise undefined(self, "built")

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; may be set."""
        raise undefined(self, "trainable")

    @trainable.setter
    def trainable(self, value: bool) -> None:
        raise undefined(self, "trainable")

    @property
    def dtype(self) -> str | None:
        """The dtype that it computes in; None where it follows what it is given."""
        raise undefined(self, "dtype")

    # What ``forward`` may want beside inputs, the penalty on outputs, and what the last call outside of others added.
    takes_mask = False
    activity_regularizer: Regularizer | None
    added_losses: Sequence[Any] = ()

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """Which steps of the outputs count; None where all do, or nobody knows."""
        return None

    # What its calls in a graph may say beside the inputs, by name.
    call_options: tuple[str, ...] = ()

    def call_arguments(self) -> dict[str, Any]:
        """What its calls in a graph said beside the inputs, by name, as a file of the graph holds it."""
        return {}

    @property
    def carried(self) -> list[Array]:
        """Arrays beside its parameters that one batch leaves for the next: states."""
        return [array for layer in getattr(self, "layers", ()) for array in layer.carried]

    @property
    def losses(self) -> list[Any]:
        """The penalties on the trained parameters that have one, in their order, and what the last call added.

        Inside of ``fastnn.gradients`` by weights these are followed.
        """
        penalized = [parameter for parameter in self.trainable_weights if parameter.regularizer is not None]
        return [*map(_penalty, penalized), *self.added_losses]

    def add_loss(self, loss: Any) -> None:
        """Add a number, or the sum of an array, to what training minimises: inside of ``call``, of ops."""
        if not calling.inside():
            raise ValueError(f"{self.name}: got add_loss outside of its call, wants it inside")
        penalties.add([ops.sum(loss)])

    def avoid_names(self, taken: Container[str]) -> None:
        """Take another default name while ``taken`` holds this one; given names and what is built stay."""
        while self.name in taken and self._kind is not None and not self.built:
            self.name = unique_name(self._kind)

    @property
    def input(self) -> Any:
        """The symbolic tensors that it was called on; AttributeError unless there is just one such call."""
        return self._node().given

    @property
    def output(self) -> Any:
        """The symbolic tensor, or tensors, that the call gave."""
        outputs = self._node().outputs
        return outputs[0] if len(outputs) == 1 else outputs

    def _node(self) -> Node:
        if len(self.nodes) != 1:
            raise AttributeError(
                f"{self.name}: got {len(self.nodes)} calls on symbolic tensors, wants one to tell its input and output"
            )
        return self.nodes[0]

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of a shape, or a list of such."""
        raise undefined(self, "build(input_shape)")

    def __call__(self, x: Any, training: bool | None = None) -> Any:
        """What it gives for arrays, or for symbolic tensors."""
        raise undefined(self, "__call__(x, training)")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of the outputs, or a list of such, for inputs of a shape, or a list of such."""
        raise undefined(self, "compute_output_shape(input_shape)")

    def forward(self, x: Any, training: Training = False, activate: bool = True) -> tuple[Any, Any]:
        """Outputs of a batch, and what ``backward`` needs; without ``activate`` the last activation is left out."""
        raise undefined(self, "forward(x, training, activate) -> (y, kept)")

    def backward(self, dy: Any, kept: Any, need_dx: bool = True) -> tuple[Any, Sequence[Any]]:
        """From dL/dy: dL/dx, or None where it is not needed, and the gradients of the parameters."""
        raise undefined(self, "backward(dy, kept, need_dx) -> (dx, gradients)")

    def _connected(self, given: Any, dtype: str | None) -> Any:
        """The symbolic tensor, or a list of such, that a call on ``given`` gives."""
        taken = [*tensors(given)]
        shapes = [tensor.shape for tensor in taken]
        shape = shapes if isinstance(given, (list, tuple)) else shapes[0]
        self.build(shape)
        found = self.compute_output_shape(shape)
        node = Node(self, given, found if isinstance(found, list) else [found], dtype or taken[0].dtype)
        self.nodes.append(node)
        return node.outputs if isinstance(found, list) else node.outputs[0]


class Layer(Operation, Configurable):
    """Base class. ``input_shape`` (or ``input_dim``) is the shape of one sample, for a model's first layer.

    Layers without weights follow the dtype of the model they are in unless ``dtype`` is given.

    A layer of your own defines ``call(inputs)``, or ``call(inputs, training)``, over ``fastnn.ops`` and other layers,
    with + - * between arrays; where it has weights also ``build(input_shape)`` with ``self.add_weight``. Its gradients
    are derived (``fastnn.gradients``), and training makes one compiled call of its step where that can be recorded:
    as in ``fastnn.program``, Python runs once then. ``inputs`` may be a list of arrays. Shapes of outputs are found
    by a call on zeros, unless it defines ``compute_output_shape(input_shape)``. One with ``call(a, b)`` is called so,
    too, on arrays; where it has a ``build(input_shape)`` that is given a list of shapes, and a mask is that of ``a``.

    In place of ``call`` a layer may define ``forward(x, training, activate) -> (y, kept)`` and
    ``backward(dy, kept, need_dx) -> (dx, gradients)``, one gradient a parameter, in any Python; with
    ``compute_output_shape(input_shape)`` where shapes change, and ``make_parameters(input_shape)``, which puts
    ``Parameter`` objects into ``self.parameters``, where it has weights. Models with such a layer run layer by layer.
    One of whose class ``recordable`` is True says that its passes are ops of ``fastnn.ops`` on what they are given and
    on its parameters, and do nothing else that matters: ``fit`` then records them, too.
    """

    recordable = False
    # Whether its passes are those of its ``call``, and whether that has an argument ``training``.
    _by_call = False
    _takes_training = False
    # The names of the inputs that its ``call`` wants: several are handed to it one by one, not in a list.
    _inputs: tuple[str, ...] = ()
    # Names of the parameters that move.
    moving: tuple[str, ...] = ()
    # Whether the steps of the outputs that count are those of the inputs.
    supports_masking = False

    def __init__(
        self,
        *,
        name: str | None = None,
        dtype: str | None = None,
        trainable: bool = True,
        activity_regularizer: Any = None,
        input_shape: Sequence[int | None] | None = None,
        input_dim: int | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise unknown_argument(type(self), next(iter(unknown)))
        if name is not None:
            checks.instance("name", name, str, "a string")
            if not name or "/" in name:
                raise ValueError(f"name: got {name!r}, wants a string without '/' that is not empty")
        self._dtype = checks.float_dtype("dtype", dtype)
        self.activity_regularizer = regularizers.get(activity_regularizer, "activity_regularizer")
        if input_shape is not None and input_dim is not None:
            raise ValueError("input_shape, input_dim: got both, wants one of them")
        self.sample_shape: BatchShape | None = None
        if input_dim is not None:
            self.sample_shape = (checks.positive_int("input_dim", input_dim),)
        elif input_shape is not None:
            self.sample_shape = open_shape("input_shape", input_shape)
        self.parameters: list[Parameter] = []
        self.nodes: list[Node] = []
        self.is_building = False
        self.input_shape: Any = None
        self._built = False
        self._indices: int | None = None
        self._trainable: bool = checks.instance("trainable", trainable, bool, "True or False")
        self._kind = None if name else snake_case(type(self).__name__)
        self.name = name or unique_name(snake_case(type(self).__name__))

    @property
    def carried(self) -> list[Array]:
        """Those of the layers that its ``call`` is made of."""
        return [array for each in calling.inner(self) for array in each.carried] if self._by_call else []

    def __init_subclass__(cls) -> None:
        """What the kernels make of a layer is not what a subclass with a pass of its own does."""
        super().__init_subclass__()
        if {"forward", "backward"} & vars(cls).keys():
            if "form" not in vars(cls):
                cls.form = Layer.form  # type: ignore[method-assign]
            cls.recordable = vars(cls).get("recordable", False)
            cls._by_call = False
        elif "call" in vars(cls):
            cls.forward, cls.backward, cls.form = Layer._passed, Layer.backward, Layer.form  # type: ignore[method-assign]
            cls._by_call, cls._takes_training = True, calling.call_takes(cls, "training")
            cls.takes_mask = calling.call_takes(cls, "mask")
            cls._inputs = calling.inputs_of(cls)
            if len(cls._inputs) > 1 and cls.__call__ is Layer.__call__:
                cls.__call__ = calling.call_of_several  # type: ignore[method-assign]
            cls.recordable = vars(cls).get("recordable", True)
        if "compute_mask" in vars(cls):
            cls.compute_mask = calling.own_mask(cls.compute_mask)  # type: ignore[method-assign]
        build = vars(cls).get("build")
        if build is not None and "values" not in inspect.signature(build).parameters:
            cls.build = calling.own_build(build, Layer.build)  # type: ignore[method-assign]

    @property
    def epilogue(self) -> Activation_:
        """The activation that the outputs go through at the end, which ``forward`` can leave out.

        What a ``call`` does at its end is its own affair, whatever attributes the layer has.
        """
        return LINEAR

    @property
    def built(self) -> bool:
        """Whether the weights are made."""
        return self._built

    @built.setter
    def built(self, value: bool) -> None:
        self._built = value

    @property
    def dtype(self) -> Any:
        """The dtype of the weights and of what the layer computes; None where it follows its inputs."""
        return self._dtype

    @dtype.setter
    def dtype(self, value: str | None) -> None:
        self._dtype = value

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
        if self._by_call:
            for operation in calling.inner(self):
                operation.trainable = value

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
        """Where the inputs are integers in [0, indices), row numbers, how many there are; None where they are not.

        Of a layer with a ``call`` these are what the layers inside want of its only input.
        """
        return self._indices

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """Which steps of the outputs for x count, an array (n, t) of 0 and 1; None where all do, or nobody knows.

        ``mask`` says it of x. Layers that work step by step pass it on: their ``supports_masking`` is True.
        """
        of_first = mask[0] if len(self._inputs) > 1 and isinstance(mask, list) else mask
        return of_first if self.supports_masking else None

    def build(self, input_shape: Any, values: Sequence[Array] | None = None) -> None:
        """Make the weights for inputs of ``input_shape``; a built layer only checks that they fit.

        The weights are ``values`` themselves, arrays of ``parameter_shapes``, or where there are none initial ones.
        """
        supply = _supply.get()
        if supply is not None and values is None and not (self.built or configurable.is_by_user()):
            values = supply(self, input_shape)
        if self.is_building:  # a build of the user's calls that of its base
            return
        shape: Any = input_shape if isinstance(input_shape, list) else tuple(input_shape)
        if not self._by_call:
            try:
                self.compute_output_shape(shape)
            except TypeError:  # of arithmetic with None
                if isinstance(shape, list) or None not in shape[1:]:
                    raise
                raise ValueError(f"{self.name}: got input shape {shape}, wants known sizes") from None
        if self.built:
            if not self._fits(shape):
                raise ValueError(
                    f"{self.name}: got input shape {shape}, wants {self.input_shape}, for which it is built"
                )
            return
        self.is_building = True
        try:
            with configurable.by_user() if self._by_call else nullcontext():
                self._make(shape, values)
        finally:
            self.is_building = False
        calling.trained(self.parameters, self._trainable)
        self.input_shape = [(None, *each[1:]) for each in shape] if isinstance(shape, list) else (None, *shape[1:])
        self.built = True

    def _make(self, shape: Any, values: Sequence[Array] | None) -> None:
        """Make the parameters, those of inner layers included."""
        own = type(self).build
        if own is not Layer.build and hasattr(own, "__wrapped__"):
            own(self, shape)
        elif values is None:
            self.make_parameters(shape)
        else:
            self._take_parameters(shape, values)
        if self._by_call:
            self.compute_output_shape(shape)
            self._note_indices(shape)
            calling.collect(self)

    def _note_indices(self, shape: Any) -> None:
        """See what layers inside take row numbers of the only input."""
        if type(self).compute_output_shape is Layer.compute_output_shape and not isinstance(shape, list):
            _, wanted = calling.tried(self, shape)
            self._indices, _ = wanted.get(0, (None, ""))

    def add_weight(
        self,
        shape: Sequence[int] | None = None,
        initializer: Any = None,
        dtype: str | None = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
    ) -> Parameter:
        """A new weight array of this layer, for its ``__init__`` or ``build``; a Glorot-uniform one by default.

        In ``call`` ops take it as they take arrays. One that is not ``trainable`` stays as it is.
        """
        size = () if shape is None else sample_shape("shape", shape)
        kind = checks.float_dtype("dtype", dtype) or self.dtype or "float32"
        self.dtype = self.dtype or kind
        drawn = initializers.get(initializer or "glorot_uniform", "initializer")
        label = name or f"variable{f'_{len(self.parameters)}' if self.parameters else ''}"
        parameter = Parameter(
            label,
            f"{self.name}/{label}",
            initializers.first_weights(drawn, "initializer", size, kind),
            regularizers.get(regularizer, "regularizer"),
            constraints.get(constraint, "constraint"),
            moves=not checks.instance("trainable", trainable, bool, "True or False"),
        )
        self.parameters.append(parameter)
        return parameter

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
        if not self._by_call:
            return tuple(input_shape)
        if not (self.built or self.is_building):  # its call may need what its build makes
            self.build(input_shape)
        found: BatchShape = calling.output_shape(self, input_shape)
        return found

    def forward(self, x: Any, training: Training = False, activate: bool = True) -> tuple[Any, Any]:
        """Outputs of a batch, and what ``backward`` needs; without ``activate`` the activation is left out."""
        raise undefined(self, "call(inputs) over fastnn.ops")

    def _passed(self, x: Any, training: Training = False, activate: bool = True, mask: Any = None) -> tuple[Any, Any]:
        """The ``forward`` of a layer with a ``call``, which may take the mask of its inputs."""
        return calling.forward(self, x, training, mask)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, or None where it is not needed, and the gradients of the parameters."""
        if self._by_call:
            return calling.backward(self, dy, kept, need_dx)
        raise NotImplementedError(
            f"{type(self).__name__}: got a layer without backward to train with, wants one that defines "
            "backward(dy, kept, need_dx) -> (dx, gradients), or call(inputs) over fastnn.ops in place of forward"
        )

    def __call__(self, x: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Outputs for the batch ``x``, an array or a list of such, or a symbolic tensor; builds it on first use.

        ``mask`` says which steps of arrays count; among symbolic tensors the layers before say it.
        """
        if is_symbolic(x):
            return self._connected(x, self.dtype)
        listed = self._takes_list(x)
        arrays = [self._array(array) for array in (x if listed else [x])]
        if calling.inside() or calling.learning(self) or any(isinstance(array, Followed) for array in arrays):
            return calling.followed(self, arrays if listed else arrays[0], training, mask)
        shapes: list[BatchShape] = [(None, *array.shape[1:]) for array in arrays]
        self.build(shapes if listed else shapes[0])
        masks = zip(mask, arrays, strict=True) if listed and isinstance(mask, (list, tuple)) else [(mask, arrays[0])]
        counted = [mask_of(*each) for each in masks]
        options: dict[str, Any] = {"mask": counted if len(counted) > 1 else counted[0]} if self.takes_mask else {}
        charged: list[Any] = []
        with penalties.collected_in(charged):
            y = self.forward(arrays if listed else arrays[0], training or False, **options)[0]
        self.added_losses = charged
        return y

    def _array(self, given: Any) -> Any:
        """One of the inputs as the layer takes it."""
        if isinstance(given, Followed):
            return given
        refuse_symbols("x", given)
        if self.indices is not None:
            calling.note_indices(self, given, self.indices)
            source = index_source("x", given, self.indices, self.name)
            return source.batch(slice(0, source.rows))
        found = numeric_array("x", given)
        keeps = calling.inside() and found.dtype.kind == "f"
        dtype = self.dtype or (found.dtype if keeps else "float32")
        return found if found.dtype == dtype else found.astype(dtype)

    def _takes_list(self, x: Any) -> bool:
        """Whether ``x`` is a list of arrays, not one that an array could be made of."""
        return isinstance(x, (list, tuple)) and len(x) > 0 and all(hasattr(array, "shape") for array in x)

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


def _penalty(parameter: Parameter) -> Any:
    """The penalty on a parameter, for its present value."""
    if parameter.regularizer is None:
        return 0.0
    value, slope = parameter.regularizer.value_and_gradient(parameter.value)
    operand = parameter.operand
    if not isinstance(operand, Traced):
        return value
    return joined(value, {"w": operand}, lambda dy: {"w": calculate("scaled", x=slope, factor=dy)})


def mask_of(mask: Any, x: Array) -> Any:
    """The mask (n, t) of steps x (n, t, ...) as ops take it; None stays None."""
    if mask is None or isinstance(mask, Followed):
        return mask
    array = numeric_array("mask", mask)
    if array.shape != x.shape[:2]:
        raise ValueError(f"mask: got shape {array.shape}, wants {x.shape[:2]}, a number for each step of x")
    return array.astype(x.dtype if x.dtype.kind == "f" else "float32", copy=False)


def refuse_symbols(name: str, x: Any) -> None:
    """TypeError where ``x`` is no data but a layer or a model."""
    if isinstance(x, Operation):
        raise TypeError(
            f"{name}: got the layer {x.name!r} itself, wants an array of samples, or what a layer gives: "
            "layers.Dense(3)(layers.Input((4,)))"
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
    return tuple(
        checks.integer(f"{name}[{index}]", size, 1, sys.maxsize) for index, size in enumerate(_sizes(name, shape))
    )


def open_shape(name: str, shape: Any) -> BatchShape:
    """The same, None for sizes that may be any: of sequences, say."""
    sizes = _sizes(name, shape)
    known = iter(sample_shape(name, [1 if size is None else size for size in sizes]))
    return tuple(None if size is None else found for size, found in zip(sizes, known, strict=True))


def agree(shape: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    """Whether shapes are of the same sizes as far as these are known."""
    return len(shape) == len(wanted) and all(
        one is None or other is None or one == other for one, other in zip(shape, wanted, strict=True)
    )


def _sizes(name: str, shape: Any) -> tuple[Any, ...]:
    if isinstance(shape, (str, bytes, Mapping)) or not hasattr(shape, "__iter__"):
        raise TypeError(f"{name}: got {checks.describe(shape)}, wants a tuple of integers such as (784,)")
    sizes = tuple(shape)
    if len(sizes) > _MOST_AXES:
        raise ValueError(f"{name}: got {len(sizes)} axes, wants {_MOST_AXES} at most")
    return sizes


class Activated(Layer):
    """A layer whose activation can be chosen, also once it is built; a fit that runs keeps the one it began with."""

    _activation = LINEAR

    @property
    def epilogue(self) -> Activation_:
        """The activation; none where a subclass has a ``call`` of its own."""
        return LINEAR if self._by_call else self._activation

    @property
    def activation(self) -> Activation_:
        """What the outputs go through at the end; set it to whatever ``activations.get`` takes."""
        return self._activation

    @activation.setter
    def activation(self, value: Any) -> None:
        self._activation = activations.get(value, "activation")
