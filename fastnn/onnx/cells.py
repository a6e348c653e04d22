"""ONNX's recurrent operators as layers, for ``from_onnx``: forwards, backwards, or both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn import layers
from fastnn.engine.protocols import Array
from fastnn.onnx.graph import Node
from fastnn.onnx.operators import UnsupportedError
from fastnn.onnx.recurrent import CELL_ACTIVATIONS, GATES

if TYPE_CHECKING:
    from fastnn.onnx.reading import Held, _Reader

_KINDS = {"RNN": ("simple_rnn", layers.SimpleRNN), "LSTM": ("lstm", layers.LSTM), "GRU": ("gru", layers.GRU)}
# Those that the layers have built in.
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
# The axes of both results: steps, directions, batch, units.
_STEPS, _LAST = "tdnu", "dnu"


class Mask(NamedTuple):
    """Which steps of a value count: those that have another number than this one; None of indices, where that is 0."""

    held: Held
    value: float | None


class Turned(NamedTuple):
    """A value in the order of the inputs' steps, where the layer gives the last step first."""

    held: Held

    def transposed(self, order: Sequence[int]) -> Turned:
        """With the axes in another order."""
        return Turned(self.held._replace(order=tuple(self.held.order[axis] for axis in order)))

    def sliced(self, bounds: Sequence[tuple[int, int, int, int]]) -> Held:
        """From the last step to the first, which is as the layer gives them; each bound (axis, start, end, step)."""
        ((axis, start, end, step), *more) = bounds
        last = (self.held.shape[axis] or 0) - 1
        if more or self.held.order[axis] != 1 or step != -1 or start < last or end >= -1 - last:
            raise UnsupportedError(f"the bounds {[*bounds]} of steps that go backwards, wants all of them turned")
        return self.held


class Directed(NamedTuple):
    """What a recurrent operator gives, whose axes are these; the layer's outputs have no axis of directions.

    ``turned`` are those of a layer that gives the last step first.
    """

    held: Held
    axes: str
    directions: int
    turned: bool = False

    def transposed(self, order: Sequence[int]) -> Directed:
        """With the axes in another order."""
        return self._replace(axes="".join(self.axes[axis] for axis in order))

    def squeezed(self, axes: Sequence[int]) -> Held | Turned:
        """Without the axis of directions, of which there is one."""
        if [self.axes[axis] for axis in axes] != ["d"] or self.directions != 1:
            raise UnsupportedError(f"the axes {[*axes]}, wants that of the only direction")
        held = self._without_directions()
        return Turned(held) if self.turned else held

    def reshaped(self, shape: Sequence[int]) -> Held | Turned:
        """With units of all directions side by side."""
        if not self.axes.endswith("du") or len(shape) != len(self.axes) - 1:
            raise UnsupportedError(f"the shape {[*shape]}, wants the units of all directions side by side")
        held = self._without_directions()
        for axis, (wanted, size) in enumerate(zip(shape, held.shape, strict=True)):
            if wanted not in (0, -1, size) and size is not None:
                raise UnsupportedError(f"the size {wanted} of axis {axis}, wants {size}")
        return Turned(held) if self.turned else held

    def _without_directions(self) -> Held:
        axes = self.axes.replace("d", "")
        return self.held._replace(order=tuple(("ntu" if "t" in axes else "nu").index(axis) for axis in axes))


def read(reader: _Reader, node: Node) -> list[Any]:
    """All outputs and the last state; nobody may ask for the last cell's."""
    backwards, directions = _ways(node)
    _check(reader, node, directions)
    held = reader.arranged(reader.held(node.takes[0]), (1, 0, 2))
    wanted = [bool(name) and reader.takers[name] > 0 for name in node.gives]
    if any(wanted[2:]):
        raise UnsupportedError("a last cell state that is taken, wants outputs or the last output alone")
    if wanted[:1] == [True] and any(wanted[1:]):
        raise UnsupportedError("both results taken, wants one of them")
    steps = wanted[:1] == [True]
    weights = [weight for way in range(directions) for weight in _weights(reader, node, way)]
    made = _layer(reader, node, held, weights, steps, backwards, directions)
    return [Directed(made, _STEPS, directions, backwards)] if steps else [None, Directed(made, _LAST, directions)]


def _ways(node: Node) -> tuple[bool, int]:
    """Whether it goes backwards, and how many directions there are."""
    direction = node.attributes.get("direction", "forward")
    return direction == "reverse", 2 if direction == "bidirectional" else 1


def _check(reader: _Reader, node: Node, directions: int) -> None:
    """Raise for what the layers have not."""
    given = node.attributes
    if given.get("layout", 0) or "clip" in given or given.get("input_forget", 0):
        raise UnsupportedError("layout, clip or input_forget, wants none")
    if node.kind == "GRU" and not given.get("linear_before_reset", 0):
        raise UnsupportedError("linear_before_reset 0, wants 1")
    usual = _ACTIVATIONS[node.kind] * directions
    if node.kind != "RNN" and given.get("activations", usual) != usual:
        raise UnsupportedError(f"activations {given['activations']}, wants {usual}")
    for place, what in ((4, "lengths of sequences"), (5, "a first state"), (6, "a first cell state"), (7, "peepholes")):
        name = reader.given(node, place)
        if name is not None and (place in (4, 7) or np.any(reader.constant(name, what))):
            raise UnsupportedError(f"{what}, wants none")


def _weights(reader: _Reader, node: Node, way: int) -> list[Array]:
    """Those of a direction, as Keras has them."""
    op, _ = _KINDS[node.kind]
    order = np.argsort(GATES[op])
    w, r = (_sorted(reader.constant(node.takes[place], "weights")[way].T, order) for place in (1, 2))
    name = reader.given(node, 3)
    if name is None:
        return [w, r]
    own = _sorted(reader.constant(name, "a bias")[way].reshape(2, -1), order)
    return [w, r, own if node.kind == "GRU" else own.sum(axis=0, dtype=own.dtype)]


def _sorted(array: Array, order: Array) -> Array:
    gates = np.split(array, len(order), axis=-1)
    return np.concatenate([gates[place] for place in order], axis=-1)


def _layer(
    reader: _Reader, node: Node, held: Held, weights: list[Array], steps: bool, backwards: bool, directions: int
) -> Held:
    _, kind = _KINDS[node.kind]
    options: dict[str, Any] = {
        "units": node.attributes["hidden_size"],
        "use_bias": reader.given(node, 3) is not None,
        "return_sequences": steps,
    }
    if node.kind == "RNN":
        names = {theirs: ours for ours, theirs in CELL_ACTIVATIONS.items()}
        given = node.attributes.get("activations", ["Tanh"] * directions)
        if len({*given}) > 1 or given[0] not in names:
            raise UnsupportedError(f"activations {given}, wants one of {', '.join(names)}")
        options["activation"] = names[given[0]]
    if directions == 1:
        return reader.call(node, kind, held, None, weights, **options, go_backwards=backwards)
    inner = kind(**options, dtype=reader.dtype, name=reader.name(f"{node.name}/cell"))
    return reader.call(node, layers.Bidirectional, held, None, weights, layer=inner)
