"""Cells: one step of a recurrent layer, ``cell(inputs, states) -> (outputs, states)``, over ``fastnn.ops``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from fastnn import activations, checks, configurable, constraints, initializers, ops, regularizers
from fastnn.configurable import aliases
from fastnn.engine.activations import Activation, FunctionActivation
from fastnn.engine.protocols import Array, Draw, Shape
from fastnn.initializers import Initializer
from fastnn.kernels.table.recurrent import ACTIVATIONS
from fastnn.layers.base import BatchShape, Layer, Parameter
from fastnn.layers.calling import output_size
from fastnn.layers.wrappers import KINDS, Wrapper
from fastnn.tape import calculate

# What a cell has of each of its weights, under Keras's names.
_KINDS = ("kernel", "recurrent", "bias")
# Masks of several cells, or of inputs and states, differ by this much in their seeds.
_APART = 1 << 40


def apart(draw: Any, place: int) -> Any:
    """What the inner layer at a place draws masks from."""
    return draw._replace(seed=(draw.seed + place * _APART) % 2**63) if isinstance(draw, Draw) else draw


def flat(states: Any) -> Iterator[Any]:
    """The entries of nested lists and tuples, or what is there in their place."""
    if isinstance(states, (list, tuple)):
        for each in states:
            yield from flat(each)
    else:
        yield states


def nested(sizes: Any, states: Iterator[Any]) -> Any:
    """Flat states as ``state_size`` has them: an entry for each number, lists where there are lists."""
    return [nested(size, states) for size in sizes] if isinstance(sizes, (list, tuple)) else next(states)


class Cell(Layer):
    """What the library's own cells share: weights, biases, dropout of inputs and of states.

    ``dropout`` and ``recurrent_dropout``: shares of the inputs and of the state that training drops on their way into
    the sums, the same ones at all steps of a sequence and for all gates (Gal and Ghahramani 2016).
    """

    # The op that goes through all steps, and how many gates it has.
    op: ClassVar[str]
    gates: ClassVar[int]

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
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
        **options: Any,
    ) -> None:
        self.units = checks.positive_int("units", units)
        self._activation = activations.get(activation, "activation")
        self.use_bias = flag("use_bias", use_bias)
        self.dropout = checks.real("dropout", dropout, minimum=0, maximum=1, open_high=True)
        self.recurrent_dropout = checks.real(
            "recurrent_dropout", recurrent_dropout, minimum=0, maximum=1, open_high=True
        )
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

    def __init_subclass__(cls) -> None:
        """What the op does is not what a subclass with a step of its own does."""
        super().__init_subclass__()
        if "call" in vars(cls) and "op" not in vars(cls):
            cls.sweep = Cell.sweep  # type: ignore[method-assign]

    @property
    def activation(self) -> Activation:
        """What the sums of a step go through."""
        return self._activation

    @property
    def activations(self) -> Sequence[Activation]:
        """All that sums go through."""
        return [self._activation]

    @property
    def state_size(self) -> Any:
        """The width of the state; a list where there are several."""
        return self.units

    @property
    def output_size(self) -> int:
        """The width of the outputs."""
        return self.units

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
    def kernel(self) -> Parameter:
        """The weights of the inputs, (features, gates * units)."""
        return self._parameter(0)

    @property
    def recurrent_kernel(self) -> Parameter:
        """The weights of the state, (units, gates * units)."""
        return self._parameter(1)

    @property
    def bias(self) -> Parameter | None:
        """The biases, None where there are none."""
        return self._parameter(2) if self.use_bias else None

    def _parameter(self, place: int) -> Parameter:
        if not self.built and not self.parameters:
            raise ValueError(f"{self.name}: the cell is not built, so it has no weights yet")
        return self.parameters[place]

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

    @property
    def flops(self) -> int:
        """Two operations a weight, of one step."""
        if self.input_shape is None:
            return 0
        return 2 * self.gates * self.units * ((self.input_shape[-1] or 0) + self.units)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """(n, units), for inputs (n, features)."""
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(f"{self.name}: got input shape {tuple(input_shape)}, wants (None, features)")
        return (input_shape[0], self.units)

    def get_initial_state(self, batch_size: int) -> list[Array]:
        """Zeros."""
        return [np.zeros((batch_size, size), self.dtype) for size in flat(self.state_size)]

    def __call__(self, inputs: Any, states: Any, training: Any = None) -> Any:  # type: ignore[override]
        """(outputs, states) of one step, for inputs (n, features) and a list of states (n, units)."""
        self.build((None, *inputs.shape[1:]))
        return self.call(inputs, [*flat(states)], training=training or False)

    def call(self, inputs: Any, states: Any, training: Any = False) -> Any:
        """The same, of a cell that is built."""
        raise configurable.undefined(self, "call(inputs, states, training) -> (outputs, states)")

    def sweep(self, x: Any, states: Sequence[Any], mask: Any, go_backwards: bool, training: Any) -> Any:
        """(all outputs, last states) for sequences (n, t, features), by one op; None where that cannot do it."""
        return None

    def swept(self, training: Any) -> bool:
        """Whether the op does what this cell is told to, but for the dropout of inputs."""
        return not (training and self.recurrent_dropout)

    def _weights(self) -> dict[str, Any]:
        return {parameter.name: parameter for parameter in self.parameters}

    def dropped(self, x: Any, training: Any) -> Any:
        """Inputs of one step (n, f), or of all (n, t, f): what is dropped is the same at all of them."""
        return self._dropped(x, self.dropout, training, 0)

    def _dropped_state(self, h: Any, training: Any) -> Any:
        return self._dropped(h, self.recurrent_dropout, training, 1)

    def _dropped(self, x: Any, rate: float, training: Any, place: int) -> Any:
        if not training or rate == 0:
            return x
        draw = apart(training if self.seed is None else training._replace(seed=self.seed), place)
        n, width = x.shape[0], x.shape[-1]
        ones = ops.exponential(calculate("zeros", x=x, shape=(n, width)))
        return ops.multiply(x, ops.dropout(ones, rate, *draw).reshape(n, *(1,) * (x.ndim - 2), width))

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
        names = "units", "use_bias", "dropout", "recurrent_dropout", "seed"
        own = {name: getattr(self, name) for name in names}
        return {**own, "activation": activations.serialize(self._activation), **parts, **super().get_config()}


def flag(name: str, value: Any) -> bool:
    """True or False, checked."""
    given: bool = checks.instance(name, value, bool, "True or False")
    return given


class SimpleRNNCell(Cell):
    """h = activation(x kernel + h recurrent_kernel + bias)."""

    op, gates = "simple_rnn", 1

    def call(self, inputs: Any, states: Any, training: Any = False) -> Any:
        """(h, [h])."""
        x, h = self.dropped(inputs, training), self._dropped_state(states[0], training)
        sums = ops.add(ops.linear(x, self.kernel, self.bias), ops.matmul(h, self.recurrent_kernel))
        y = self._activation(sums)
        return y, [y]

    def sweep(self, x: Any, states: Sequence[Any], mask: Any, go_backwards: bool, training: Any) -> Any:
        """By ``ops.simple_rnn``."""
        if not self.swept(training):
            return None
        h0 = states[0] if states else None
        y, h = ops.simple_rnn(
            x, **self._weights(), mask=mask, h0=h0, activation=self._activation.name, go_backwards=go_backwards
        )
        return y, [h]

    def swept(self, training: Any) -> bool:
        """For the activations that the op has."""
        known = not isinstance(self._activation, FunctionActivation) and not self._activation.numbers
        return super().swept(training) and known and self._activation.name in ACTIVATIONS


class _Gated(Cell):
    """Cells whose gates have an activation of their own."""

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        **options: Any,
    ) -> None:
        self._recurrent_activation = activations.get(recurrent_activation, "recurrent_activation")
        super().__init__(units, activation, use_bias, **options)

    @property
    def recurrent_activation(self) -> Activation:
        """What the gates' sums go through."""
        return self._recurrent_activation

    @property
    def activations(self) -> Sequence[Activation]:
        """All that sums go through."""
        return [self._activation, self._recurrent_activation]

    def swept(self, training: Any) -> bool:
        """For the activations that the op has."""
        return super().swept(training) and self.activations == [Activation("tanh"), Activation("sigmoid")]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"recurrent_activation": activations.serialize(self._recurrent_activation), **super().get_config()}


class LSTMCell(_Gated):
    """Long short-term memory (``ops.lstm``), gates in Keras's order: input, forget, cell, output.

    With ``unit_forget_bias`` the forget gates' biases begin with 1. States are h and c.
    """

    op, gates = "lstm", 4

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        *,
        unit_forget_bias: bool = True,
        **options: Any,
    ) -> None:
        self.unit_forget_bias = flag("unit_forget_bias", unit_forget_bias)
        super().__init__(units, activation, recurrent_activation, use_bias, **options)

    @property
    def state_size(self) -> Any:
        """Those of h and c."""
        return [self.units, self.units]

    def _initial(self, name: str, shape: Shape) -> Array:
        if name != "bias" or not self.unit_forget_bias:
            return super()._initial(name, shape)
        u = self.units
        before, behind = super()._initial(name, (u,)), super()._initial(name, (2 * u,))
        return np.concatenate([before, np.ones(u, self.dtype), behind])

    def call(self, inputs: Any, states: Any, training: Any = False) -> Any:
        """(h, [h, c])."""
        x, h = self.dropped(inputs, training), self._dropped_state(states[0], training)
        sums = ops.add(ops.linear(x, self.kernel, self.bias), ops.matmul(h, self.recurrent_kernel))
        i, f, g, o = ops.split(sums, 4, axis=1)
        i, f, o = (self._recurrent_activation(gate) for gate in (i, f, o))
        c = ops.add(ops.multiply(f, states[1]), ops.multiply(i, self._activation(g)))
        y = ops.multiply(o, self._activation(c))
        return y, [y, c]

    def sweep(self, x: Any, states: Sequence[Any], mask: Any, go_backwards: bool, training: Any) -> Any:
        """By ``ops.lstm``."""
        if not self.swept(training):
            return None
        h0, c0 = states or (None, None)
        y, h, c, *_ = ops.lstm(x, **self._weights(), mask=mask, h0=h0, c0=c0, go_backwards=go_backwards)
        return y, [h, c]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"unit_forget_bias": self.unit_forget_bias, **super().get_config()}


class GRUCell(_Gated):
    """Gated recurrent unit (``ops.gru``), gates in Keras's order: update, reset, candidate.

    With ``reset_after`` the reset gate comes behind the recurrent product, and biases are (2, 3 * units); else before
    it, as the paper has it (Cho et al. 2014), and biases are (3 * units,).
    """

    op, gates = "gru", 3

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        *,
        reset_after: bool = True,
        **options: Any,
    ) -> None:
        self.reset_after = flag("reset_after", reset_after)
        super().__init__(units, activation, recurrent_activation, use_bias, **options)

    def _bias_shape(self, width: int) -> Shape:
        return (2, width) if self.reset_after else (width,)

    def call(self, inputs: Any, states: Any, training: Any = False) -> Any:
        """(h, [h])."""
        (before,), u = states, self.units
        x, h = self.dropped(inputs, training), self._dropped_state(before, training)
        of_inputs, of_state = self.bias, None
        if self.use_bias and self.reset_after:
            of_inputs, of_state = (part.reshape(3 * u) for part in ops.split(self.bias, 2))
        z, r, candidate = ops.split(ops.linear(x, self.kernel, of_inputs), 3, axis=1)
        if self.reset_after:
            of_z, of_r, of_h = ops.split(ops.linear(h, self.recurrent_kernel, of_state), 3, axis=1)
        else:
            of_gates, of_candidate = ops.split(self.recurrent_kernel, [2 * u], axis=1)
            of_z, of_r = ops.split(ops.matmul(h, of_gates), 2, axis=1)
        z, r = (self._recurrent_activation(ops.add(a, b)) for a, b in ((z, of_z), (r, of_r)))
        product = ops.multiply(r, of_h) if self.reset_after else ops.matmul(ops.multiply(r, h), of_candidate)
        new = self._activation(ops.add(candidate, product))
        y = ops.add(ops.multiply(z, ops.subtract(before, new)), new)
        return y, [y]

    def sweep(self, x: Any, states: Sequence[Any], mask: Any, go_backwards: bool, training: Any) -> Any:
        """By ``ops.gru``."""
        if not self.swept(training):
            return None
        h0 = states[0] if states else None
        y, h, *_ = ops.gru(x, **self._weights(), mask=mask, h0=h0, go_backwards=go_backwards)
        return y, [h]

    def swept(self, training: Any) -> bool:
        """Where the reset gate comes behind the product."""
        return super().swept(training) and self.reset_after

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"reset_after": self.reset_after, **super().get_config()}


class StackedRNNCells(Wrapper):
    """Cells one above the other as one cell: each takes the outputs of the one below. States are those of all."""

    def __init__(self, cells: Sequence[Layer], **options: Any) -> None:
        if not isinstance(cells, (list, tuple)) or not cells:
            raise TypeError(f"cells: got {checks.describe(cells)}, wants a list of cells, not an empty one")
        self.cells: list[Any] = [checked_cell(f"cells[{place}]", cell) for place, cell in enumerate(cells)]
        options.setdefault("dtype", self.cells[0].dtype)
        super().__init__(**options)
        self.recordable = all(cell.recordable for cell in self.cells)

    @property
    def wrapped(self) -> Sequence[Layer]:
        """The cells."""
        return self.cells

    @property
    def state_size(self) -> list[Any]:
        """Those of the cells."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """That of the last cell."""
        return output_size(self.cells[-1])

    @property
    def seed(self) -> int | None:
        """Cells have seeds of their own."""
        return None

    def _each(self, input_shape: BatchShape) -> Iterator[tuple[Layer, BatchShape]]:
        """The cells and what they are given."""
        for cell in self.cells:
            yield cell, input_shape
            input_shape = (input_shape[0], output_size(cell))

    def make_parameters(self, input_shape: BatchShape) -> None:
        """Those of the cells."""
        for cell, shape in self._each(input_shape):
            cell.build(shape)

    def parameter_shapes(self, input_shape: BatchShape) -> dict[str, Shape]:
        """By the cells' names and the weights'."""
        return {
            f"{cell.name}/{name}": wanted
            for cell, shape in self._each(input_shape)
            for name, wanted in cell.parameter_shapes(shape).items()
        }

    def _take_parameters(self, input_shape: BatchShape, values: Sequence[Array]) -> None:
        left = [*values]
        for cell, shape in self._each(input_shape):
            count = len(cell.parameter_shapes(shape))
            cell.build(shape, left[:count])
            del left[:count]

    def _fits(self, input_shape: BatchShape) -> bool:
        return all(cell._fits(shape) for cell, shape in self._each(input_shape))

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """(n, width of the last cell's outputs)."""
        return (input_shape[0], self.output_size)

    def __call__(self, inputs: Any, states: Any, training: Any = None) -> Any:  # type: ignore[override]
        """(outputs, states) of one step."""
        self.build((None, *inputs.shape[1:]))
        return self.call(inputs, states, training=training or False)

    def call(self, inputs: Any, states: Any, training: Any = False) -> Any:
        """The same, of cells that are built; states as ``state_size`` has them."""
        after = []
        for place, (cell, given) in enumerate(zip(self.cells, states, strict=True)):
            inputs, new = stepped(cell, inputs, given, apart(training, 2 * place))
            after.append(nested(cell.state_size, flat(new)))
        return inputs, after

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"cells": [configurable.serialize(cell, KINDS) for cell in self.cells], **super().get_config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The cells whose ``get_config`` gave ``config``."""
        cells = [configurable.deserialize("cells", cell, KINDS) for cell in config["cells"]]
        return cls(**{**config, "cells": cells})


def checked_cell(name: str, cell: Any) -> Any:
    """A layer whose call(inputs, states) is one step; TypeError for anything else."""
    if not isinstance(cell, Layer) or not hasattr(cell, "state_size") or not hasattr(cell, "call"):
        raise TypeError(
            f"{name}: got {checks.describe(cell)}, wants a cell: a layer with state_size and "
            "call(inputs, states) -> (outputs, states)"
        )
    return cell


def stepped(cell: Any, x: Any, states: Any, training: Any) -> Any:
    """(outputs, states) of one step of any cell, whose states are given as its ``state_size`` has them, in a list."""
    options = {"training": training} if cell._takes_training else {}
    return cell.call(x, states if isinstance(states, list) else [states], **options)


CELLS = aliases((SimpleRNNCell, LSTMCell, GRUCell, StackedRNNCells))
