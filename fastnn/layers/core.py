"""The input, the dense layer, and layers that look at their inputs in another way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import activations, checks, configurable, constraints, initializers, ops, regularizers
from fastnn.engine.activations import LINEAR
from fastnn.engine.protocols import (
    Array,
    DenseForm,
    LayerForm,
    RescaleForm,
    ReshapeForm,
    Shape,
    Training,
)
from fastnn.initializers import Initializer
from fastnn.layers.base import Activated, Layer, Parameter, open_shape
from fastnn.layers.symbols import BatchShape, Node, SymbolicTensor


class InputLayer(Layer):
    """The shape of one sample, ahead of the first layer; ``dtype`` is that of the data and may be any numeric one.

    A size of None, the number of steps say, may be another one in every call.
    """

    recordable = True
    supports_masking = True

    def __init__(
        self,
        shape: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        dtype: str | None = None,
        name: str | None = None,
    ) -> None:
        if shape is None:
            raise ValueError("shape: got None, wants the shape of one sample, such as (784,)")
        checked = open_shape("shape", shape)
        if batch_size is not None:
            batch_size = checks.positive_int("batch_size", batch_size)
        self.data_dtype = None if dtype is None else _numeric_dtype(dtype)
        super().__init__(name=name, input_shape=checked)
        self.batch_size = batch_size
        self.build((None, *checked))
        self.nodes.append(Node(self, [], [(None, *checked)], self.data_dtype or "float32"))

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


class Identity(Layer):
    """The inputs as they are."""

    recordable = True
    supports_masking = True

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """The inputs."""
        return x, None

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient as it is."""
        return dy, ()


class ActivityRegularization(Identity):
    """The inputs as they are; ``l1`` |y| + ``l2`` y^2, summed and divided by the samples, is added to the loss."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **options: Any) -> None:
        self.l1, self.l2 = checks.real("l1", l1, minimum=0), checks.real("l2", l2, minimum=0)
        super().__init__(activity_regularizer=regularizers.L1L2(self.l1, self.l2), **options)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"l1": self.l1, "l2": self.l2, **super().get_config()}
        return {name: value for name, value in config.items() if name != "activity_regularizer"}


def _numeric_dtype(dtype: Any) -> str:
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        raise TypeError(f"dtype: got {checks.describe(dtype)}, wants the name of a numeric dtype") from None
    if found.kind not in "fiub":
        raise TypeError(f"dtype: got {found}, wants a numeric dtype (float, int, uint or bool)")
    return str(found.name)


def Input(  # noqa: N802 - Keras's name
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    name: str | None = None,
) -> SymbolicTensor:
    """A symbolic tensor for samples of a shape: layers are called on it; a Sequential takes it as its first entry."""
    tensor: SymbolicTensor = InputLayer(shape, batch_size, dtype, name).output
    return tensor


class Dense(Activated):
    """y = activation(x @ kernel + bias) along the last axis; kernel (inputs, units), bias (units,).

    Constraints say what the weights become after every step of training (``fastnn.constraints``).
    """

    recordable = True
    supports_masking = True

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
        self.dtype = self.dtype or "float32"

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
        flops: int = 2 * positions * self.units
        return flops

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
        rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])  # a CSR matrix has no other shape
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


class Flatten(Layer):
    """Each sample as one row: (n, a, b, ...) becomes (n, a * b * ...)."""

    recordable = True

    def form(self) -> LayerForm | None:
        """Nothing happens to the numbers."""
        return ReshapeForm()

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """One axis beside the batch axis, of unknown size where another one is."""
        known = [size for size in input_shape[1:] if size is not None]
        return (input_shape[0], math.prod(known) if len(known) == len(input_shape) - 1 else None)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """The inputs as rows, and their shape."""
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), x.shape

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient in the shape of the inputs."""
        return dy.reshape(kept), ()


class Reshape(Layer):
    """Each sample in another shape; one size may be -1, what is left for it."""

    recordable = True

    def __init__(self, target_shape: Sequence[int], **options: Any) -> None:
        if isinstance(target_shape, str) or not hasattr(target_shape, "__iter__"):
            raise TypeError(f"target_shape: got {checks.describe(target_shape)}, wants a tuple of integers")
        sizes = enumerate(target_shape)
        self.target_shape = tuple(checks.integer(f"target_shape[{place}]", size, -1) for place, size in sizes)
        if self.target_shape.count(-1) > 1 or 0 in self.target_shape:
            raise ValueError(
                f"target_shape: got {self.target_shape}, wants sizes of at least 1, and -1 for one of them at most"
            )
        super().__init__(**options)

    def form(self) -> LayerForm | None:
        """Nothing happens to the numbers, which runners have in rows."""
        return ReshapeForm() if len(self.target_shape) == 1 else None

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The target shape, None for a -1 of unknown size; ValueError where samples have another number of numbers."""
        if None in input_shape[1:] and -1 in self.target_shape:
            return (input_shape[0], *(None if each == -1 else each for each in self.target_shape))
        size, known = math.prod(each or 0 for each in input_shape[1:]), abs(math.prod(self.target_shape))
        left = size // known if -1 in self.target_shape else 1
        if known * left != size:
            wants = f"samples whose {size} numbers fill {self.target_shape}"
            raise ValueError(f"{self.name}: got input shape {tuple(input_shape)}, wants {wants}")
        return (input_shape[0], *(left if each == -1 else each for each in self.target_shape))

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """The inputs in the target shape, and their shape."""
        return x.reshape(x.shape[0], *self.compute_output_shape(x.shape)[1:]), x.shape

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient in the shape of the inputs."""
        return dy.reshape(*kept), ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"target_shape": list(self.target_shape), **super().get_config()}


class Permute(Layer):
    """The axes of a sample in another order: ``dims`` are their numbers, counted from 1."""

    recordable = True

    def __init__(self, dims: Sequence[int], **options: Any) -> None:
        if isinstance(dims, str) or not hasattr(dims, "__iter__"):
            raise TypeError(f"dims: got {checks.describe(dims)}, wants a tuple of integers such as (2, 1)")
        self.dims = tuple(checks.integer(f"dims[{place}]", axis, 1) for place, axis in enumerate(dims))
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"dims: got {self.dims}, wants each of the numbers 1 to {len(self.dims)} once")
        super().__init__(**options)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The sizes in that order."""
        if len(input_shape) != len(self.dims) + 1:
            got = f"input shape {tuple(input_shape)}"
            raise ValueError(f"{self.name}: got {got}, wants samples of {len(self.dims)} axes, as many as dims has")
        return (input_shape[0], *(input_shape[axis] for axis in self.dims))

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch; nothing is kept."""
        y: Array = ops.identity(x.transpose(0, *self.dims))
        return y, None

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient with the axes where they were."""
        axes = (0, *(self.dims.index(axis) + 1 for axis in range(1, len(self.dims) + 1)))
        dx: Array = ops.identity(dy.transpose(*axes))
        return dx, ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"dims": list(self.dims), **super().get_config()}


class RepeatVector(Layer):
    """Each sample (features,) ``n`` times: (n, features)."""

    recordable = True

    def __init__(self, n: int, **options: Any) -> None:
        self.n = checks.positive_int("n", n)
        super().__init__(**options)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """One axis more."""
        if len(input_shape) != 2:
            raise ValueError(f"{self.name}: got input shape {tuple(input_shape)}, wants (None, features)")
        return (input_shape[0], self.n, input_shape[1])

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and the inputs as images of one number."""
        image = x.reshape(x.shape[0], 1, 1, x.shape[1])
        return ops.upsample2d(image, (self.n, 1)).reshape(x.shape[0], self.n, x.shape[1]), image

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """Sums over the copies."""
        slopes = dy.reshape(dy.shape[0], self.n, 1, dy.shape[2])
        return ops.upsample2d_backward(slopes, kept, (self.n, 1)).reshape(dy.shape[0], dy.shape[2]), ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"n": self.n, **super().get_config()}


class Rescaling(Layer):
    """y = scale * x + offset, such as Rescaling(1 / 255) on images of uint8; no weights.

    As a model's first layer it is part of how training gathers samples: bytes stay bytes in memory.
    """

    recordable = True
    supports_masking = True

    def __init__(self, scale: float, offset: float = 0.0, **options: Any) -> None:
        self.scale = checks.real("scale", scale)
        self.offset = checks.real("offset", offset)
        super().__init__(**options)

    def form(self) -> LayerForm | None:
        """A number times the inputs and another one more."""
        return RescaleForm(self.scale, self.offset)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch of floating-point numbers; nothing is kept."""
        scaled = x * x.dtype.type(self.scale)
        return scaled if self.offset == 0 else scaled + x.dtype.type(self.offset), None

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx."""
        return dy * dy.dtype.type(self.scale), ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"scale": self.scale, "offset": self.offset, **super().get_config()}
