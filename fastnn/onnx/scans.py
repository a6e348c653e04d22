"""Scans over cells as recurrent layers, and masks of steps as the layers they come from, for ``from_onnx``.

They are what ``to_onnx`` writes where ONNX's own operators do not do: steps that a mask leaves out, other activations.
A Scan's body is compared with what ``to_onnx`` writes for each cell, so that nothing else is taken for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn import layers
from fastnn.engine.protocols import Array
from fastnn.kernels.table import ACTIVATIONS
from fastnn.onnx import packages
from fastnn.onnx.cells import Mask, Turned
from fastnn.onnx.graph import Graph, Node
from fastnn.onnx.operators import UnsupportedError
from fastnn.onnx.reading import node_of
from fastnn.onnx.recurrent import GATES, Weights, cell

if TYPE_CHECKING:
    from fastnn.onnx.reading import Held, _Reader

_MASKING = layers.Embedding, layers.Masking
# What two layers that go either way differ in.
_OF_A_WAY = "name", "go_backwards"
_KINDS = {"simple_rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}


# ------------------------------------------------------------------------------------------------------------ the cell


class _Cell(NamedTuple):
    """An op, its weights but those of the inputs, and its activation."""

    op: str
    weights: Weights
    activation: str


def read(reader: _Reader, node: Node, biased: bool, masked: bool) -> list[Any]:
    """The last state, and all outputs; ``node`` takes first states, inputs, their weights, a bias and a mask."""
    count = len(node.takes) - 2 - biased - masked
    first, (x, kernel, *rest) = node.takes[:count], node.takes[count:]
    if any(np.any(reader.constant(name, "a first state")) for name in first):
        raise UnsupportedError("a first state, wants zeros")
    offset = reader.constant(rest[0], "a bias") if biased else None
    found = _cell_of(reader, node.attributes["body"], count, reader.constant(kernel, "weights"), offset, masked)
    held = reader.arranged(reader.held(x), (1, 0, 2))
    if masked:
        _mark(held, reader.values[rest[-1]])
    steps, backwards = _wanted(reader, node), _is_backwards(node, 1 + masked)
    weights = [weight for weight in found.weights if weight is not None]
    options: dict[str, Any] = {"units": len(found.weights.recurrent_kernel), "use_bias": offset is not None}
    options |= {"activation": found.activation} if found.op == "simple_rnn" else {}
    made = reader.call(
        node, _KINDS[found.op], held, None, weights, **options, return_sequences=steps, go_backwards=backwards
    )
    if not steps:
        return [made]
    of_steps = made._replace(order=(1, 0, 2))
    return [*[None] * count, Turned(of_steps) if backwards else of_steps]


def _wanted(reader: _Reader, node: Node) -> bool:
    """Whether all outputs are wanted, not the last one."""
    last, *states, steps = (bool(name) and reader.takers[name] > 0 for name in node.gives)
    if any(states) or (last and steps):
        raise UnsupportedError("a last cell state, or both results taken, wants outputs or the last output alone")
    return steps


def _is_backwards(node: Node, inputs: int) -> bool:
    """Whether the last step is the first one."""
    given = node.attributes
    ways = {*given.get("scan_input_directions", [0] * inputs), *given.get("scan_output_directions", [0])}
    if len(ways) > 1 or any(map(any, (given.get(f"scan_{end}_axes", []) for end in ("input", "output")))):
        raise UnsupportedError("directions that differ, or other axes, wants steps first and one direction")
    return bool(ways.pop())


def _cell_of(reader: _Reader, body: Any, states: int, kernel: Array, bias: Array | None, masked: bool) -> _Cell:
    """The cell whose step a body is."""
    arrays = {each.name: packages.onnx("numpy_helper").to_array(each) for each in body.initializer}
    constants: Mapping[str, Array] = {**reader.constants, **arrays}
    nodes = [node_of(each) for each in body.node]
    found = _signature(nodes, [each.name for each in body.input], [each.name for each in body.output], constants)
    for each in _candidates(nodes, states, kernel, bias, constants):
        graph = Graph(np.dtype(reader.dtype), reader.opset)
        try:
            step = cell(graph, each.op, each.weights, each.activation, masked)
        except (UnsupportedError, KeyError):  # an activation that this opset has not
            continue
        names = [[tensor.name for tensor, _ in ends] for ends in (step.inputs, step.outputs)]
        if _signature(step.nodes, names[0], names[1], step.constants) == found:
            return each
    raise UnsupportedError("a body that is none of the cells SimpleRNN, LSTM and GRU, wants one as to_onnx writes it")


def _candidates(
    nodes: Sequence[Node], states: int, kernel: Array, bias: Array | None, constants: Mapping[str, Array]
) -> Iterator[_Cell]:
    """Cells that have as many states, and weights as wide."""
    products = [node for node in nodes if node.kind == "MatMul" and node.takes[1] in constants]
    if len(products) != 1 or kernel.ndim != 2:
        return
    own = constants[products[0].takes[1]]
    if own.ndim != 2 or own.shape[1] != kernel.shape[1] or (bias is not None and bias.shape != kernel.shape[1:]):
        return
    offsets = [
        constants[node.takes[1]]
        for node in nodes
        if node.kind == "Add" and node.takes[0] == products[0].gives[0] and node.takes[1] in constants
    ]
    for op, gates in GATES.items():
        if own.shape[1] != len(gates) * own.shape[0] or states != 1 + (op == "lstm"):
            continue
        offset = bias
        if op == "gru" and bias is not None and len(offsets) == 1 and offsets[0].shape == bias.shape:
            offset = np.stack([bias, offsets[0]])
        weights = Weights(kernel, own, offset)
        yield from (_Cell(op, weights, name) for name in (ACTIVATIONS if op == "simple_rnn" else ("tanh",)))


def _signature(
    nodes: Sequence[Node], inputs: Sequence[str], outputs: Sequence[str], constants: Mapping[str, Array]
) -> Any:
    """What a body does, whatever its names are."""
    places: dict[str, Any] = {name: ("input", place) for place, name in enumerate(inputs)}

    def said(name: str) -> Any:
        array = constants.get(name)
        return places.get(name) if array is None else (array.dtype.str, array.shape, array.tobytes())

    told = []
    for number, node in enumerate(nodes):
        attributes = {
            name: f"{value:.6g}" if isinstance(value, float) else value for name, value in node.attributes.items()
        }
        told.append((node.kind, [said(name) for name in node.takes], attributes))
        places |= {name: (number, place) for place, name in enumerate(node.gives)}
    return told, [said(name) for name in outputs]


# --------------------------------------------------------------------------------------------------------------- masks


def indices(reader: _Reader, node: Node) -> Mask:
    """Steps whose index is not 0."""
    return Mask(reader.held(node.takes[0]), None)


def differing(reader: _Reader, node: Node) -> Mask:
    """Steps that have another number than the one taken."""
    return Mask(reader.held(node.takes[0]), _number(reader, node.takes[1]))


def masking(reader: _Reader, node: Node) -> Held:
    """A layer that leaves such steps out."""
    held = reader.held(node.takes[0])
    return reader.call(node, layers.Masking, held, held.order, mask_value=_number(reader, node.takes[1]))


def _number(reader: _Reader, name: str) -> float:
    return float(reader.constants[name].ravel()[0])


def counts(reader: _Reader, node: Node) -> Mask:
    """The same mask as ones and zeros, steps first."""
    return _mask(reader, node.takes[0])


def zeros_for_mask(reader: _Reader, node: Node) -> Any:
    """Zeros as the outputs of steps left out: what the recurrent layer that they come from has an argument for."""
    mask, value = _mask(reader, node.takes[0]), reader.values[node.takes[1]]
    held = value.held if isinstance(value, Turned) else reader.held(node.takes[1])
    layer: Any = held.tensor.node.operation
    if not isinstance(layer, layers.RNN) or not layer.return_sequences or not reader.is_only_here(held):
        raise UnsupportedError("zeros in place of steps of what is no recurrent layer's, wants all outputs of one")
    _mark(held, mask)
    layer.zero_output_for_mask = True
    return value


def mean_of_steps(reader: _Reader, node: Node) -> Held:
    """The mean of the steps that count."""
    held = reader.arranged(reader.held(node.takes[0]), (0, 1, 2))
    _mark(held, _mask(reader, node.takes[1]))
    return reader.call(node, layers.GlobalAveragePooling1D, held)


def _mask(reader: _Reader, name: str) -> Mask:
    value = reader.values.get(name)
    if not isinstance(value, Mask):
        raise UnsupportedError(f"the condition {name!r}, wants a mask of steps")
    return value


def _mark(held: Held, mask: Any) -> None:
    """See to it that a value comes with a mask; UnsupportedError where it cannot."""
    layer, taken = _source(held.tensor)
    value = layer.mask_value if isinstance(layer, layers.Masking) else None
    fits = isinstance(layer, _MASKING) and isinstance(mask, Mask)
    if not (fits and taken[0] is mask.held.tensor and value == mask.value):
        raise UnsupportedError("a mask that does not come with its inputs, wants that of an Embedding or a Masking")
    if isinstance(layer, layers.Embedding):
        layer.mask_zero = True


def _source(tensor: Any) -> tuple[Any, list[Any]]:
    """The layer that a value's mask would be of, and what that is given; any other where there is none."""
    layer, taken = tensor.node.operation, tensor.node.taken
    hands_on = getattr(layer, "supports_masking", False) or getattr(layer, "return_sequences", False)
    return (layer, taken) if isinstance(layer, _MASKING) or len(taken) != 1 or not hands_on else _source(taken[0])


# ----------------------------------------------------------------------------------------------------------- both ways


def are_both_ways(reader: _Reader, node: Node) -> bool:
    """Whether a node joins all outputs of a layer with those of one that goes backwards."""
    found = [reader.values.get(name) for name in node.takes]
    return [isinstance(value, Turned) for value in found] == [False, True]


def both_ways(reader: _Reader, node: Node, mode: str) -> Held:
    """Both as a Bidirectional, in the first one's order; what they were is in no model."""
    held, turned = reader.held(node.takes[0]), reader.values[node.takes[1]].held
    first: Any = held.tensor.node.operation
    second: Any = turned.tensor.node.operation
    given = [each.tensor.node.taken[0] for each in (held, turned)]
    alone = all(reader.is_only_here(each) for each in (held, turned)) and held.order == turned.order
    if mode == "concat" and held.order[node.attributes["axis"]] != 2:
        raise UnsupportedError("steps one behind the other, wants units side by side")
    if not (alone and isinstance(first, layers.RNN) and not first.go_backwards and given[0] is given[1]):
        raise UnsupportedError("outputs that go either way, wants those of two recurrent layers of the same inputs")
    source, _ = _source(given[0])
    masked = isinstance(source, layers.Masking) or getattr(source, "mask_zero", False)
    if first.zero_output_for_mask != masked or second.zero_output_for_mask != masked:
        raise UnsupportedError("outputs of steps left out, wants zeros there")
    weights = [*first.get_weights(), *second.get_weights()]
    inputs = held._replace(tensor=given[0], order=(0, 1, 2))
    same = type(first) is type(second) and all(
        value == second.get_config()[name] for name, value in first.get_config().items() if name not in _OF_A_WAY
    )
    options = {"layer": first, "merge_mode": mode, "backward_layer": None if same else second}
    return reader.call(node, layers.Bidirectional, inputs, held.order, weights, **options)
