"""Layers that go through sequences step by step."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from fastnn import configurable, ops
from fastnn.engine.activations import Activation
from fastnn.engine.protocols import Array, Draw
from fastnn.layers.base import BatchShape, Layer
from fastnn.layers.calling import is_tried, output_size
from fastnn.layers.cells import (
    Cell,
    GRUCell,
    LSTMCell,
    SimpleRNNCell,
    StackedRNNCells,
    checked_cell,
    flag,
    flat,
    nested,
    stepped,
)
from fastnn.layers.drawing import outside
from fastnn.layers.symbols import is_symbolic
from fastnn.layers.wrappers import KINDS, Wrapper
from fastnn.tape import calculate, plain


class RNN(Wrapper):
    """A cell at all steps of (n, t, features): its last outputs (n, units), or with ``return_sequences`` all.

    ``cell``: a cell of the library's, a list of such, one above the other, or a layer of your own with ``state_size``
    (a number, or a list of such) and ``call(inputs, states) -> (outputs, states)`` over ``fastnn.ops``.

    With ``return_state`` the last states come behind the outputs. ``initial_state=`` of a call is a list of the first
    ones, which gradients flow to; else they are zeros. A ``stateful`` layer begins with the states that the batch
    before left, until ``reset_state()``. ``go_backwards`` begins with the last step, and gives
    outputs in that order. Steps that a mask leaves out change nothing, and give the output of the step before, at first
    the state of the library's cells, or with ``zero_output_for_mask`` zeros. ``unroll`` changes nothing.
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **options: Any,
    ) -> None:
        self.cell: Any = StackedRNNCells(cell) if isinstance(cell, (list, tuple)) else checked_cell("cell", cell)
        self.return_sequences = flag("return_sequences", return_sequences)
        self.return_state = flag("return_state", return_state)
        self.go_backwards = flag("go_backwards", go_backwards)
        self.stateful = flag("stateful", stateful)
        self.unroll = flag("unroll", unroll)
        self.zero_output_for_mask = flag("zero_output_for_mask", zero_output_for_mask)
        self.states: list[Array] | None = None
        self._calls = 0
        options.setdefault("dtype", self.cell.dtype)
        super().__init__(**options)
        self.dtype = self.dtype or "float32"
        known = all(activation.fusable for cell in _single(self.cell) for activation in _activations(cell))
        self.recordable = self.cell.recordable and known

    @property
    def wrapped(self) -> Sequence[Layer]:
        """The cell."""
        return [self.cell]

    @property
    def state_size(self) -> list[int]:
        """The widths of the states, one behind the other."""
        return [*flat(self.cell.state_size)]

    @property
    def flops(self) -> int:
        """Those of the cell, at each step."""
        steps = None if self.input_shape is None else _of_sequences(self.input_shape)[1]
        flops: int = (steps or 0) * self.cell.flops
        return flops

    def inner_shape(self, input_shape: Any) -> BatchShape:
        """That of one step."""
        shape = _of_sequences(input_shape)
        if len(shape) < 3 or None in shape[2:]:
            raise ValueError(f"{self.name}: got input shape {tuple(shape)}, wants (None, steps, features)")
        return (shape[0], *shape[2:])

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(n, units), with ``return_sequences`` (n, t, units); with ``return_state`` a list with those of states."""
        self.inner_shape(input_shape)
        (n, t, *_), sizes = _of_sequences(input_shape), self.state_size
        given = [tuple(shape[1:]) for shape in input_shape[1:]] if isinstance(input_shape, list) else []
        if given and given != [(size,) for size in sizes]:
            raise ValueError(f"{self.name}: got initial states of shapes {given}, wants {[(size,) for size in sizes]}")
        outputs = (n, *((t,) if self.return_sequences else ()), output_size(self.cell))
        return [outputs, *((n, size) for size in sizes)] if self.return_state else outputs

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """That of the inputs, where there are steps; none of states."""
        of_inputs = mask[0] if isinstance(mask, list) else mask
        made = of_inputs if self.return_sequences else None
        return [made, *[None] * len(self.state_size)] if self.return_state else made

    def __call__(  # type: ignore[override]
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool | None = None
    ) -> Any:
        """Outputs of a batch, an array or a symbolic tensor; a list has the first states behind the sequences."""
        given = sequences if initial_state is None else [sequences, *flat(initial_state)]
        if isinstance(given, (list, tuple)) and is_symbolic(given) and not all(map(is_symbolic, given)):
            raise TypeError(f"{self.name}: got symbolic tensors and others, wants initial_state of the same kind")
        return super().__call__(given, training, mask)

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False) -> Any:
        """Outputs, and with ``return_state`` behind them the last states."""
        x, *given = sequences if isinstance(sequences, (list, tuple)) else [sequences]
        mask = mask[0] if isinstance(mask, list) else mask
        states = [*given, *([] if initial_state is None else flat(initial_state))] or self._kept(x)
        if states and len(states) != len(self.state_size):
            raise ValueError(f"{self.name}: got {len(states)} initial states, wants {len(self.state_size)}")
        y, last, states = self._through(x, states, mask, self._draw(training))
        if self.stateful and not is_tried():
            self._keep(states)
        output = self._without_masked(y, mask) if self.return_sequences else last
        return (output, *states) if self.return_state else output

    def _draw(self, training: Any) -> Any:
        """What masks of dropout are drawn from, the same one at all steps."""
        if not training or isinstance(training, Draw):
            return training
        self._calls += 1
        return outside(getattr(self.cell, "seed", None), self._calls)

    def _through(self, x: Any, states: list[Any], mask: Any, draw: Any) -> tuple[Any, Any, list[Any]]:
        """(all outputs where they are wanted, the last one, the last states), by one op where there is one."""
        cell = self.cell
        if isinstance(cell, Cell) and cell.swept(draw):
            swept = cell.sweep(cell.dropped(x, draw), states, mask, self.go_backwards, draw)
            if swept is not None:
                y, last = swept
                return y, last[0], last
        return self._step_by_step(x, states, mask, draw)

    def _step_by_step(self, x: Any, given: list[Any], mask: Any, draw: Any) -> tuple[Any, Any, list[Any]]:
        n, t, sizes = x.shape[0], x.shape[1], self.cell.state_size
        zeros = [calculate("zeros", x=x, shape=(n, size)) for size in self.state_size]
        states = given or self._first(n) or zeros
        before = isinstance(self.cell, Cell)  # whose output is its first state
        output = states[0] if before else calculate("zeros", x=x, shape=(n, output_size(self.cell)))
        steps, outputs = [*enumerate(ops.unstack(x, axis=1))], []
        counting = None if mask is None else _choices(mask)
        for at, inputs in reversed(steps) if self.go_backwards else steps:
            made, after = stepped(self.cell, inputs, nested(sizes, iter(states)), draw)
            after = [*flat(after)]
            if counting is not None:
                made, *after = (
                    _chosen(counting[at], new, old) for new, old in zip((made, *after), (output, *states), strict=True)
                )
            output, states = made, after
            outputs.append(output)
        wanted = self.return_sequences and t > 0
        y = ops.stack(outputs, axis=1) if wanted else calculate("zeros", x=x, shape=(n, t, output.shape[1]))
        return y, output, states

    def _first(self, n: int) -> list[Any]:
        """What a user's cell begins with, where it says it and it is not zeros."""
        of_cell = getattr(self.cell, "get_initial_state", None)
        if of_cell is None or isinstance(self.cell, Cell):
            return []
        found = [np.asarray(state, self.dtype) for state in flat(of_cell(n))]
        return found if any(state.any() for state in found) else []

    def _without_masked(self, y: Any, mask: Any) -> Any:
        """All outputs, zeros in place of those of masked steps if these are wanted."""
        if mask is None or not self.zero_output_for_mask:
            return y
        return ops.mask_steps(y, ops.flip(mask, axis=1) if self.go_backwards else mask)

    @property
    def carried(self) -> list[Array]:
        """The states that the next batch begins with."""
        return [*(self.states or ()), *super().carried]

    def _kept(self, x: Any) -> list[Any]:
        """The states that the batch before left, of a layer that keeps them."""
        if not self.stateful or is_tried():
            return []
        n, size = x.shape[0], None if self.states is None else self.states[0].shape[0]
        if size not in (None, n) and any(state.any() for state in self.carried):
            raise ValueError(
                f"{self.name}: got a batch of {n}, wants {size} samples, whose states it goes on with; reset_state() "
                "forgets them"
            )
        if self.states is None or size != n:
            self.states = [np.zeros((n, width), x.dtype, like=plain(x)) for width in self.state_size]
        # Copies: backward passes want what it began with, when the last states are in its place.
        return [*map(ops.identity, self.states)]

    def _keep(self, states: Sequence[Any]) -> None:
        """Let the next batch begin with these, where programs find them."""
        if self.states is None or self.states[0].shape[0] != states[0].shape[0]:
            self.states = [np.zeros(state.shape, state.dtype, like=plain(state)) for state in states]
        for array, state in zip(self.states, states, strict=True):
            ops.identity(ops.stop_gradient(state), out=array)

    def reset_state(self) -> None:
        """Let the next batch begin with zeros; ValueError for a layer that keeps no states."""
        if not self.stateful:
            raise ValueError(f"{self.name}: got stateful=False, wants a layer that keeps its states")
        for array in self.states or ():
            array[...] = 0

    def reset_states(self) -> None:
        """Keras's other name for ``reset_state``."""
        self.reset_state()

    def _own_config(self) -> dict[str, Any]:
        """The constructor's arguments, but for the cell."""
        names = "return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask"
        return {**{name: getattr(self, name) for name in names}, **super().get_config()}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"cell": configurable.serialize(self.cell, KINDS), **self._own_config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The layer whose ``get_config`` gave ``config``."""
        return cls(**{**config, "cell": configurable.deserialize("cell", config["cell"], KINDS)})


def _of_sequences(input_shape: Any) -> Any:
    """The shape of the sequences among those of sequences and states."""
    return input_shape[0] if isinstance(input_shape, list) else input_shape


def _single(cell: Any) -> Sequence[Any]:
    return cell.cells if isinstance(cell, StackedRNNCells) else [cell]


def _activations(cell: Any) -> Sequence[Activation]:
    return cell.activations if isinstance(cell, Cell) else []


def _choices(mask: Any) -> list[tuple[Any, Any]]:
    """By step, (1 where it counts, 1 where it does not), each (n, 1)."""
    steps = mask.reshape(*mask.shape, 1)
    others = ops.step_mask(steps, 1.0).reshape(*mask.shape, 1)
    return [*zip(ops.unstack(steps, axis=1), ops.unstack(others, axis=1), strict=True)]


def _chosen(choice: tuple[Any, Any], new: Any, old: Any) -> Any:
    counts, others = choice
    return ops.add(ops.multiply(new, counts), ops.multiply(old, others))


class _OfCell(RNN):
    """An RNN that makes its cell of its own arguments."""

    makes: ClassVar[type[Cell]]
    __signature__: ClassVar[inspect.Signature]

    def __init__(self, units: int, *given: Any, **options: Any) -> None:
        known = inspect.signature(RNN.__init__).parameters.keys() | inspect.signature(Layer.__init__).parameters.keys()
        own = {name: options.pop(name) for name in [*options] if name in known - {"options", "cell"}}
        if unknown := [name for name in options if name not in configurable.arguments(self.makes)]:
            raise configurable.unknown_argument(type(self), unknown[0])
        cell = self.makes(
            units,
            *given,
            dtype=own.get("dtype"),
            name=f"{configurable.snake_case(type(self).__name__)}_cell",
            **options,
        )
        super().__init__(cell, **own)

    def __init_subclass__(cls) -> None:
        """What a layer is made of, as editors show it and as it is asked for: arguments of its cell and of an RNN."""
        super().__init_subclass__()
        own, of_layer = configurable.arguments(cls.makes), configurable.arguments(RNN)
        others = [each.replace(kind=each.KEYWORD_ONLY) for name, each in of_layer.items() if name not in {*own, "cell"}]
        cls.__signature__ = inspect.Signature(sorted([*own.values(), *others], key=lambda each: each.kind))

    @property
    def units(self) -> int:
        """The width of the outputs."""
        units: int = self.cell.units
        return units

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The same; ValueError for steps that are not rows."""
        shape = _of_sequences(input_shape)
        if len(shape) != 3:
            raise ValueError(f"{self.name}: got input shape {tuple(shape)}, wants (None, steps, features)")
        return super().compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**self.cell.get_config(), **self._own_config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The layer whose ``get_config`` gave ``config``."""
        return cls(**config)


class SimpleRNN(_OfCell):
    """h = activation(x kernel + h recurrent_kernel + bias) at every step: an ``RNN`` of a ``SimpleRNNCell``.

    Arguments are those of both.
    """

    makes = SimpleRNNCell


class LSTM(_OfCell):
    """Long short-term memory: an ``RNN`` of an ``LSTMCell``, whose states are h and c. Arguments are those of both."""

    makes = LSTMCell


class GRU(_OfCell):
    """Gated recurrent unit: an ``RNN`` of a ``GRUCell``. Arguments are those of both."""

    makes = GRUCell
