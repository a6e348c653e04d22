"""Layers that go through sequences step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from fastnn import checks, configurable, constraints, initializers, ops, regularizers
from fastnn.configurable import aliases
from fastnn.engine.protocols import Array, Shape, Training
from fastnn.initializers import Initializer
from fastnn.kernels.table import TABLE
from fastnn.kernels.table.recurrent import GRADIENTS, RESULTS
from fastnn.layers.base import BatchShape, Layer

# What a layer has of each of its weights, under Keras's names.
_KINDS = ("kernel", "recurrent", "bias")


class Recurrent(Layer):
    """What recurrent layers share: (n, t, features) to (n, units), or with ``return_sequences`` to (n, t, units).

    Steps that a mask leaves out change nothing, and give the output of the step before. ``go_backwards`` begins with
    the last step, and gives outputs in that order. ``unroll`` is accepted and changes nothing. ``return_state``,
    ``stateful``, ``dropout`` and ``recurrent_dropout`` are not there yet.
    """

    recordable = True
    takes_mask = True
    # The op that goes through all steps, and how many gates it has.
    op: ClassVar[str]
    gates: ClassVar[int]

    def __init__(
        self,
        units: int,
        *,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        **options: Any,
    ) -> None:
        self.units = checks.positive_int("units", units)
        self.use_bias = _flag("use_bias", use_bias)
        self.return_sequences = _flag("return_sequences", return_sequences)
        self.go_backwards = _flag("go_backwards", go_backwards)
        self.unroll = _flag("unroll", unroll)
        _refuse("return_state", _flag("return_state", return_state), "a layer has one output")
        _refuse("stateful", _flag("stateful", stateful), "every batch begins anew")
        for name, rate in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            share = checks.real(name, rate, minimum=0, maximum=1, open_high=True)
            _refuse(name, share, "a Dropout layer before it drops other inputs at every step")
        self.seed = None if seed is None else checks.integer("seed", seed, 0)
        given = {
            "initializer": (initializers, (kernel_initializer, recurrent_initializer, bias_initializer)),
            "regularizer": (regularizers, (kernel_regularizer, recurrent_regularizer, bias_regularizer)),
            "constraint": (constraints, (kernel_constraint, recurrent_constraint, bias_constraint)),
        }
        for what, (module, values) in given.items():
            for kind, value in zip(_KINDS, values, strict=True):
                setattr(self, f"{kind}_{what}", module.get(value, f"{kind}_{what}"))
        super().__init__(**options)
        self.dtype = self.dtype or "float32"

    # Parameters' names are those of weights: the penalty on recurrent_kernel is recurrent_regularizer.
    @property
    def recurrent_kernel_regularizer(self) -> Any:
        """The penalty on the recurrent weights."""
        return getattr(self, "recurrent_regularizer")  # noqa: B009 - set by name, with those of the others

    @property
    def recurrent_kernel_constraint(self) -> Any:
        """The constraint on the recurrent weights."""
        return getattr(self, "recurrent_constraint")  # noqa: B009

    @property
    def flops(self) -> int:
        """Two operations a weight and step."""
        if self.input_shape is None:
            return 0
        _, steps, features = self.input_shape
        return 2 * (steps or 0) * self.gates * self.units * ((features or 0) + self.units)

    def make_parameters(self, input_shape: BatchShape) -> None:
        """Kernel, recurrent kernel, and the bias if there is one, as their initializers draw them."""
        shapes = self.parameter_shapes(input_shape)
        self._take_parameters(input_shape, [self._initial(name, shape) for name, shape in shapes.items()])

    def _initial(self, name: str, shape: Shape) -> Array:
        argument = f"{'recurrent' if name == 'recurrent_kernel' else name}_initializer"
        found: Initializer | None = getattr(self, argument)
        return initializers.first_weights(found, argument, shape, self.dtype)

    def parameter_shapes(self, input_shape: BatchShape) -> dict[str, Shape]:
        """(features, gates * units), (units, gates * units), and with a bias (gates * units,)."""
        width = self.gates * self.units
        shapes: dict[str, Shape] = {"kernel": (input_shape[-1] or 0, width), "recurrent_kernel": (self.units, width)}
        return {**shapes, "bias": self._bias_shape(width)} if self.use_bias else shapes

    def _bias_shape(self, width: int) -> Shape:
        return (width,)

    def _fits(self, input_shape: BatchShape) -> bool:
        """Whether steps have as many features as the kernel has rows."""
        return input_shape[-1] == self.parameters[0].shape[0]

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The last axis becomes ``units``; without ``return_sequences`` there are no steps any more."""
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise ValueError(f"{self.name}: got input shape {tuple(input_shape)}, wants (None, steps, features)")
        steps = (input_shape[1],) if self.return_sequences else ()
        return (input_shape[0], *steps, self.units)

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """That of the inputs, where there are steps."""
        return mask if self.return_sequences else None

    def _options(self) -> dict[str, Any]:
        """Of the op, forwards and backwards."""
        return {"go_backwards": self.go_backwards}

    def forward(
        self, x: Array, training: Training = False, activate: bool = True, mask: Any = None
    ) -> tuple[Array, Any]:
        """Outputs of a batch, and (x, mask, the op's results by name)."""
        weights = {parameter.name: parameter.value for parameter in self.parameters}
        made = getattr(ops, self.op)(x, **weights, mask=mask, **self._options())
        results = dict(zip(RESULTS[self.op], made, strict=True))
        return results["y" if self.return_sequences else "h"], (x, mask, results)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, and the gradients of the weights."""
        x, mask, results = kept
        backward = TABLE[f"{self.op}_backward"]
        taken = {name: result for name, result in results.items() if name in backward.operands}
        weights = {parameter.name: parameter.value for parameter in self.parameters[:2]}
        names = [parameter.name for parameter in self.parameters]
        slopes = getattr(ops, backward.name)(
            x, **weights, **taken, mask=mask, **{"dy" if self.return_sequences else "dh": dy}, **self._options(),
            need=("dx",) * need_dx + tuple(f"d{name}" for name in names),
        )  # fmt: skip
        found = dict(zip(GRADIENTS[self.op], slopes, strict=True))
        return found["dx"], tuple(found[f"d{name}"] for name in names)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        ways = {
            "initializer": initializers.serialize,
            "regularizer": lambda value: configurable.serialize(value, regularizers.NAMES),
            "constraint": constraints.serialize,
        }
        parts = {
            f"{kind}_{what}": way(getattr(self, f"{kind}_{what}")) for what, way in ways.items() for kind in _KINDS
        }
        names = "units", "use_bias", "seed", "return_sequences", "go_backwards", "unroll"
        return {**{name: getattr(self, name) for name in names}, **parts, **super().get_config()}


def _flag(name: str, value: Any) -> bool:
    given: bool = checks.instance(name, value, bool, "True or False")
    return given


def _refuse(name: str, value: Any, reason: str) -> None:
    """ValueError where what is not there is asked for."""
    if value:
        raise ValueError(f"{name}: got {value}, wants {type(value)(0)}: {reason}")


def _only(name: str, value: Any, wanted: str) -> str:
    """An activation that the op has built in."""
    if value != wanted:
        raise ValueError(f"{name}: got {checks.describe(value)}, wants {wanted!r}: the gates are compiled with it")
    return wanted


class SimpleRNN(Recurrent):
    """h = activation(x kernel + h recurrent_kernel + bias) at every step; activation tanh, relu, sigmoid or linear."""

    op, gates = "simple_rnn", 1

    def __init__(self, units: int, activation: str | None = "tanh", **options: Any) -> None:
        named = "linear" if activation is None else activation
        self.cell_activation = checks.option("activation", named, TABLE[self.op].options["activation"])
        super().__init__(units, **options)

    def _options(self) -> dict[str, Any]:
        return {"activation": self.cell_activation, **super()._options()}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"activation": self.cell_activation, **super().get_config()}


class LSTM(Recurrent):
    """Long short-term memory (``ops.lstm``), gates in Keras's order: input, forget, cell, output.

    With ``unit_forget_bias`` the forget gates' biases begin with 1. Activations are tanh and sigmoid.
    """

    op, gates = "lstm", 4

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        *,
        unit_forget_bias: bool = True,
        **options: Any,
    ) -> None:
        _only("activation", activation, "tanh")
        _only("recurrent_activation", recurrent_activation, "sigmoid")
        self.unit_forget_bias = _flag("unit_forget_bias", unit_forget_bias)
        super().__init__(units, **options)

    def _initial(self, name: str, shape: Shape) -> Array:
        if name != "bias" or not self.unit_forget_bias:
            return super()._initial(name, shape)
        u = self.units
        before, behind = super()._initial(name, (u,)), super()._initial(name, (2 * u,))
        return np.concatenate([before, np.ones(u, self.dtype), behind])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"unit_forget_bias": self.unit_forget_bias, **super().get_config()}


class GRU(Recurrent):
    """Gated recurrent unit (``ops.gru``), gates in Keras's order: update, reset, candidate; bias (2, 3 * units).

    It resets after the recurrent product (``reset_after``, Keras's default). Activations are tanh and sigmoid.
    """

    op, gates = "gru", 3

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        *,
        reset_after: bool = True,
        **options: Any,
    ) -> None:
        _only("activation", activation, "tanh")
        _only("recurrent_activation", recurrent_activation, "sigmoid")
        if not _flag("reset_after", reset_after):
            raise ValueError("reset_after: got False, wants True: the reset gate comes behind the product")
        super().__init__(units, **options)

    def _bias_shape(self, width: int) -> Shape:
        return (2, width)


# What Bidirectional wraps.
CELLS = aliases((SimpleRNN, LSTM, GRU))


class _Merge(NamedTuple):
    """How outputs a and b of both directions become one, and its gradient dy those of both."""

    forward: Callable[[Array, Array], Array]
    backward: Callable[[Array, Array, Array], tuple[Array, Array]]


def _halves(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    return dy[..., : a.shape[-1]], dy[..., a.shape[-1] :]


_MERGES = {
    "concat": _Merge(lambda a, b: np.concatenate([a, b], axis=-1), _halves),
    "sum": _Merge(lambda a, b: a + b, lambda dy, a, b: (dy, dy)),
    "ave": _Merge(lambda a, b: (a + b) * a.dtype.type(0.5), lambda dy, a, b: (dy * dy.dtype.type(0.5),) * 2),
    "mul": _Merge(lambda a, b: a * b, lambda dy, a, b: (dy * b, dy * a)),
}


class Bidirectional(Layer):
    """A recurrent layer and its like that begins with the last step, whose outputs are merged.

    ``merge_mode`` is "concat" (along the last axis), "sum", "ave" or "mul". Where there are steps, the outputs of the
    second are put into the order of the inputs. ``backward_layer`` is by default made of the first's config. Weights
    are those of the first, then those of the second.
    """

    takes_mask = True

    def __init__(
        self, layer: Recurrent, merge_mode: str = "concat", *, backward_layer: Recurrent | None = None, **options: Any
    ) -> None:
        self.layer = checks.instance("layer", layer, Recurrent, "a SimpleRNN, LSTM or GRU")
        self.merge_mode = checks.one_of("merge_mode", merge_mode, _MERGES)
        config = {**layer.get_config(), "input_shape": None}
        self.forward_layer = type(layer).from_config({**config, "name": f"forward_{layer.name}"})
        if backward_layer is None:
            other = type(layer).from_config(
                {**config, "name": f"backward_{layer.name}", "go_backwards": not layer.go_backwards}
            )
        else:
            other = checks.instance("backward_layer", backward_layer, Recurrent, "a SimpleRNN, LSTM or GRU")
        self.backward_layer: Recurrent = other
        self._given_backward = backward_layer is not None
        for name in ("units", "return_sequences"):
            if getattr(other, name) != getattr(layer, name):
                raise ValueError(f"backward_layer: got {name} {getattr(other, name)}, wants that of layer")
        if other.go_backwards == layer.go_backwards:
            raise ValueError(f"backward_layer: got go_backwards {other.go_backwards}, wants the other direction")
        if layer.sample_shape is not None:
            options.setdefault("input_shape", layer.sample_shape)
        options.setdefault("dtype", layer.dtype)
        super().__init__(**options)

    @property
    def _both(self) -> tuple[Recurrent, Recurrent]:
        return self.forward_layer, self.backward_layer

    @property
    def return_sequences(self) -> bool:
        """Whether outputs have steps."""
        return self.forward_layer.return_sequences

    @property
    def flops(self) -> int:
        """Those of both."""
        return sum(layer.flops for layer in self._both)

    def make_parameters(self, input_shape: BatchShape) -> None:
        """Those of the first, then those of the second."""
        for layer in self._both:
            layer.build(input_shape)
        self._adopt()

    def _adopt(self) -> None:
        """Take the parameters of both, which a file knows by this layer's name."""
        self.parameters = [parameter for layer in self._both for parameter in layer.parameters]
        for parameter in self.parameters:
            parameter.path = f"{self.name}/{parameter.path}"

    def parameter_shapes(self, input_shape: BatchShape) -> dict[str, Shape]:
        """By the layers' names and the weights'."""
        return {
            f"{layer.name}/{name}": shape
            for layer in self._both
            for name, shape in layer.parameter_shapes(input_shape).items()
        }

    def _take_parameters(self, input_shape: BatchShape, values: Sequence[Array]) -> None:
        count = len(self.forward_layer.parameter_shapes(input_shape))
        for layer, own in zip(self._both, (values[:count], values[count:]), strict=True):
            layer.build(input_shape, own)
        self._adopt()

    def _fits(self, input_shape: BatchShape) -> bool:
        return self.forward_layer._fits(input_shape)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The last axis is twice as long where both outputs are put side by side."""
        *lead, units = self.forward_layer.compute_output_shape(input_shape)
        return (*lead, 2 * (units or 0) if self.merge_mode == "concat" else units)

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """That of the inputs, where there are steps."""
        return self.forward_layer.compute_mask(x, mask)

    def _turned(self, y: Array) -> Array:
        """The second's outputs in the order of the first's."""
        return y[:, ::-1] if self.return_sequences else y

    def forward(
        self, x: Array, training: Training = False, activate: bool = True, mask: Any = None
    ) -> tuple[Array, Any]:
        """Outputs of a batch, and both outputs beside what both layers keep."""
        (a, kept_a), (b, kept_b) = (layer.forward(x, training, activate, mask) for layer in self._both)
        b = self._turned(b)
        return _MERGES[self.merge_mode].forward(a, b), (a, b, kept_a, kept_b)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, the sum of both layers', and the gradients of their weights."""
        a, b, kept_a, kept_b = kept
        of_a, of_b = _MERGES[self.merge_mode].backward(dy, a, b)
        dx, own = self.forward_layer.backward(of_a, kept_a, need_dx)
        other, others = self.backward_layer.backward(self._turned(of_b), kept_b, need_dx)
        return (None if dx is None else ops.add(dx, other)), (*own, *others)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        second = configurable.serialize(self.backward_layer, CELLS) if self._given_backward else None
        return {
            "layer": configurable.serialize(self.layer, CELLS),
            "merge_mode": self.merge_mode,
            "backward_layer": second,
            **super().get_config(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The layer whose ``get_config`` gave ``config``."""
        inner = {
            name: None if config[name] is None else configurable.deserialize(name, config[name], CELLS)
            for name in ("layer", "backward_layer")
        }
        return cls(**{**config, **inner})
