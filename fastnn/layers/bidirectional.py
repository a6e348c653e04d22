"""Sequences read in both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from fastnn import checks, configurable, ops
from fastnn.layers.base import BatchShape
from fastnn.layers.cells import apart, flat
from fastnn.layers.recurrent import RNN
from fastnn.layers.wrappers import KINDS, Wrapper

# How outputs a and b of both directions become one; None leaves them apart.
_MERGES: dict[str | None, Callable[[Any, Any], Any]] = {
    "concat": lambda a, b: ops.concatenate([a, b], -1),
    "sum": ops.add,
    "ave": ops.average,
    "mul": ops.multiply,
    None: lambda a, b: (a, b),
}
# What both layers have in common.
_COMMON = "return_sequences", "return_state", "stateful"


class Bidirectional(Wrapper):
    """A recurrent layer and its like that begins with the last step, whose outputs are merged.

    ``merge_mode`` is "concat" (along the last axis), "sum", "ave" or "mul", or None: outputs are two then. Where there
    are steps, the outputs of the second are put into the order of the inputs, with zeros for steps that a mask leaves
    out. ``backward_layer`` is by default made of the first's config. Weights are those of the first, then those of the
    second, and so are states.
    """

    def __init__(
        self,
        layer: RNN,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: RNN | None = None,
        **options: Any,
    ) -> None:
        checks.instance("layer", layer, RNN, "a recurrent layer: SimpleRNN, LSTM, GRU or RNN")
        self.merge_mode = None if merge_mode is None else checks.one_of("merge_mode", merge_mode, filter(None, _MERGES))
        config, stem = {**layer.get_config(), "input_shape": None}, layer.name.removeprefix("forward_")
        self.forward_layer = type(layer).from_config({**config, "name": f"forward_{stem}"})
        if backward_layer is None:
            other = {"name": f"backward_{stem}", "go_backwards": not layer.go_backwards}
            backward_layer = type(layer).from_config({**config, **other})
            self._given_backward = False
        else:
            checks.instance("backward_layer", backward_layer, RNN, "a recurrent layer: SimpleRNN, LSTM, GRU or RNN")
            self._given_backward = True
        self.backward_layer: RNN = backward_layer
        self._check()
        for one in self.wrapped:
            one.zero_output_for_mask = one.return_sequences
        if layer.sample_shape is not None:
            options.setdefault("input_shape", layer.sample_shape)
        options.setdefault("dtype", layer.dtype)
        super().__init__(**options)
        self.recordable = all(one.recordable for one in self.wrapped)
        self._first_weights = weights

    def _check(self) -> None:
        first, second = self.wrapped
        for name in _COMMON:
            if getattr(second, name) != getattr(first, name):
                raise ValueError(f"backward_layer: got {name} {getattr(second, name)}, wants that of layer")
        if second.go_backwards == first.go_backwards:
            raise ValueError(f"backward_layer: got go_backwards {second.go_backwards}, wants the other direction")
        sizes = [[*flat(one.compute_output_shape((None, None, 1)))][-1] for one in self.wrapped if not one.return_state]
        if self.merge_mode not in ("concat", None) and len({*sizes}) > 1:
            raise ValueError(
                f"backward_layer: got outputs {sizes[1]} wide, wants {sizes[0]} to merge by {self.merge_mode}"
            )

    @property
    def wrapped(self) -> Sequence[RNN]:
        """The first layer and the second."""
        return [self.forward_layer, self.backward_layer]

    @property
    def return_sequences(self) -> bool:
        """Whether outputs have steps."""
        return self.forward_layer.return_sequences

    @property
    def return_state(self) -> bool:
        """Whether the states of both come behind the outputs."""
        return self.forward_layer.return_state

    def inner_shape(self, input_shape: Any) -> BatchShape:
        """The sequences'."""
        shape: BatchShape = input_shape[0] if isinstance(input_shape, list) else input_shape
        return shape

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The last axis is as wide as both where outputs are put side by side."""
        shape, states = self.inner_shape(input_shape), []
        if isinstance(input_shape, list):
            states = [tuple(state[1:]) for state in input_shape[1:]]
            wanted = [(size,) for one in self.wrapped for size in one.state_size]
            if states != wanted:
                raise ValueError(f"{self.name}: got initial states of shapes {states}, wants {wanted}")
        made = [one.compute_output_shape(shape) for one in self.wrapped]
        (first, *of_first), (second, *of_second) = made if self.return_state else [[each] for each in made]
        wide = (*first[:-1], first[-1] + second[-1])
        outputs = [first, second] if self.merge_mode is None else [wide if self.merge_mode == "concat" else first]
        outputs += [*of_first, *of_second]
        return outputs if len(outputs) > 1 else outputs[0]

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """That of the inputs, where there are steps; none of states."""
        made = (mask[0] if isinstance(mask, list) else mask) if self.return_sequences else None
        outputs = [made] * (2 if self.merge_mode is None else 1)
        outputs += [None for one in self.wrapped for _ in one.state_size if self.return_state]
        return outputs if len(outputs) > 1 else made

    def make_parameters(self, input_shape: Any) -> None:
        """Those of both, or those that were given."""
        super().make_parameters(input_shape)
        if self._first_weights is not None:
            half = len(self._first_weights) // 2
            for one, values in zip(self.wrapped, (self._first_weights[:half], self._first_weights[half:]), strict=True):
                one.set_weights(values)

    def __call__(  # type: ignore[override]
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool | None = None
    ) -> Any:
        """Outputs of a batch, an array or a symbolic tensor; a list has the first states behind the sequences."""
        given = sequences if initial_state is None else [sequences, *flat(initial_state)]
        return super().__call__(given, training, mask)

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False) -> Any:
        """Merged outputs, and with ``return_state`` behind them the last states of both."""
        x, *states = sequences if isinstance(sequences, (list, tuple)) else [sequences]
        states += [] if initial_state is None else flat(initial_state)
        count = len(self.forward_layer.state_size) if states else 0
        made = []
        for place, (one, own) in enumerate(zip(self.wrapped, (states[:count], states[count:]), strict=True)):
            y = one.call([x, *own], mask=mask, training=apart(training, 4 * place + 4))
            made.append(y if self.return_state else (y,))
        (a, *of_first), (b, *of_second) = made
        merged = _MERGES[self.merge_mode](a, ops.flip(b, axis=1) if self.return_sequences else b)
        results = (*merged, *of_first, *of_second) if self.merge_mode is None else (merged, *of_first, *of_second)
        return results if len(results) > 1 else results[0]

    def reset_state(self) -> None:
        """Let the next batch begin with zeros."""
        for one in self.wrapped:
            one.reset_state()

    def reset_states(self) -> None:
        """Keras's other name for ``reset_state``."""
        self.reset_state()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, but for first weights."""
        second = configurable.serialize(self.backward_layer, KINDS) if self._given_backward else None
        return {
            "layer": configurable.serialize(self.forward_layer, KINDS),
            "merge_mode": self.merge_mode,
            "backward_layer": second,
            **super().get_config(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The layer whose ``get_config`` gave ``config``."""
        inner = {
            name: None if config[name] is None else configurable.deserialize(name, config[name], KINDS)
            for name in ("layer", "backward_layer")
        }
        return cls(**{**config, **inner})
