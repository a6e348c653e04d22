"""Recurrent layers in ONNX: its own operators, or where steps are left out by a mask a Scan over the cell.

ONNX's operators go by lengths of sequences, which say only that last steps are left out; a Scan says any mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn.engine.protocols import Array
from fastnn.onnx.graph import LAST, Graph, Tensor
from fastnn.onnx.operators import counts, emitter

# The axes of (n, t, f) as ONNX's operators want them: steps first.
_STEPS_FIRST = (1, 0, 2)
# The gates' places in Keras's order, in the order of ONNX's.
GATES = {"simple_rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (0, 1, 2)}
_KINDS = {"simple_rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
CELL_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid"}


class Weights(NamedTuple):
    """Those of a layer, as ops take them."""

    kernel: Array
    recurrent_kernel: Array
    bias: Array | None = None


class Outputs(NamedTuple):
    """All outputs (n, t, u), in the order of the inputs' steps, and the last state (n, u)."""

    steps: Tensor
    last: Tensor


def run(
    graph: Graph, op: str, x: Tensor, weights: Weights, mask: Tensor | None, backwards: bool, activation: str = "tanh"
) -> Outputs:
    """What one of the recurrent ops gives, beginning with zeros."""
    given = graph.ordered(x, _STEPS_FIRST)
    if mask is not None or not has_operator(op, activation):
        return _scanned(graph, op, given, weights, mask, backwards, activation)
    steps, last = _operator(graph, op, given, [weights], activation, "reverse" if backwards else "forward")
    units = weights.recurrent_kernel.shape[0]
    shape = (x.shape[0], x.shape[1], units)
    return Outputs(
        graph.put("Squeeze", shape, steps, graph.integers(1), order=_STEPS_FIRST),
        graph.put("Squeeze", (x.shape[0], units), last, graph.integers(0)),
    )


def has_operator(op: str, activation: str) -> bool:
    """Whether ONNX has an operator of its own for what is not masked."""
    return op != "simple_rnn" or activation in CELL_ACTIVATIONS


def run_both(graph: Graph, op: str, x: Tensor, both: Sequence[Weights], activation: str = "tanh") -> Outputs:
    """What two layers give that go forwards and backwards, side by side, each in the order of the inputs' steps."""
    given = graph.ordered(x, _STEPS_FIRST)
    steps, last = _operator(graph, op, given, both, activation, "bidirectional")
    units = 2 * both[0].recurrent_kernel.shape[0]
    (by_sample,) = graph.node("Transpose", steps, perm=[2, 0, 1, 3])
    (last_by_sample,) = graph.node("Transpose", last, perm=[1, 0, 2])
    return Outputs(
        graph.put("Reshape", (x.shape[0], x.shape[1], units), by_sample, graph.integers(0, 0, units)),
        graph.put("Reshape", (x.shape[0], units), last_by_sample, graph.integers(0, units)),
    )


def _operator(graph: Graph, op: str, x: Tensor, ways: Sequence[Weights], activation: str, direction: str) -> list[str]:
    """The names of all outputs (t, ways, n, u) and of the last ones (ways, n, u)."""
    extra: dict[str, Any] = {"linear_before_reset": 1} if op == "gru" else {}
    if op == "simple_rnn":
        extra["activations"] = [CELL_ACTIVATIONS[activation]] * len(ways)
    units = ways[0].recurrent_kernel.shape[0]
    operands = _operands(graph, op, ways)
    return graph.node(_KINDS[op], x.name, *operands, gives=2, hidden_size=units, direction=direction, **extra)


def _operands(graph: Graph, op: str, ways: Sequence[Weights]) -> list[str]:
    """W (ways, gates * u, f), R (ways, gates * u, u) and B (ways, 2 * gates * u) in ONNX's order of gates."""
    made = {
        "kernel": [_sorted(op, way.kernel).T for way in ways],
        "recurrent_kernel": [_sorted(op, way.recurrent_kernel).T for way in ways],
        "bias": [_both_biases(op, way.bias) for way in ways if way.bias is not None],
    }
    return [graph.constant(label, np.stack(parts), ways[0].kernel) for label, parts in made.items() if parts]


def _both_biases(op: str, given: Array) -> Array:
    """That of the inputs' products and that of the state's, which are zeros where there is one bias."""
    bias = np.atleast_2d(given)
    return np.concatenate([_sorted(op, bias), np.zeros((2 - len(bias), bias.shape[1]), bias.dtype)]).reshape(-1)


def _sorted(op: str, array: Array) -> Array:
    """Columns of Keras's gates in ONNX's order."""
    gates = np.split(array, len(GATES[op]), axis=-1)
    return np.concatenate([gates[place] for place in GATES[op]], axis=-1)


def _scanned(
    graph: Graph, op: str, x: Tensor, weights: Weights, mask: Tensor | None, backwards: bool, activation: str
) -> Outputs:
    """The same as a Scan, whose states stay where a step does not count."""
    units, width = weights.recurrent_kernel.shape
    kernel = graph.constant("kernel", weights.kernel, weights.kernel)
    products = graph.put("MatMul", (*x.shape[:2], width), x.name, kernel, order=_STEPS_FIRST)
    if weights.bias is not None:
        first = weights.bias.reshape(-1, width)[0]
        products = graph.like(products, "Add", graph.constant("bias", first, weights.bias))
    state = _zeros(graph, x, units)
    states = [state] * (2 if op == "lstm" else 1)
    masks = [] if mask is None else [graph.ordered(counts(graph, mask), _STEPS_FIRST).name]
    body = cell(graph, op, weights, activation, bool(masks))
    found = graph.node(
        "Scan", *states, products.name, *masks, gives=len(states) + 1, body=body, num_scan_inputs=1 + len(masks),
        scan_input_directions=[int(backwards)] * (1 + len(masks)), scan_output_directions=[int(backwards)],
    )  # fmt: skip
    shape = (x.shape[0], x.shape[1], units)
    return Outputs(Tensor(found[-1], shape, _STEPS_FIRST), Tensor(found[0], (x.shape[0], units), (0, 1)))


def _zeros(graph: Graph, x: Tensor, units: int) -> str:
    """The first state (n, units), for as many sequences as x (t, n, f) has."""
    (shape,) = graph.node("Shape", x.name)
    (rows,) = graph.node("Slice", shape, graph.integers(1), graph.integers(2), graph.integers(0))
    (size,) = graph.node("Concat", rows, graph.integers(units), axis=0)
    (zeros,) = graph.node("Expand", graph.number(0.0), size)
    return zeros


def cell(graph: Graph, op: str, weights: Weights, activation: str, masked: bool) -> Graph:
    """One step: states, what the inputs bring, and whether it counts, to states and an output."""
    units, width = weights.recurrent_kernel.shape
    body = graph.body()

    def given(label: str, columns: int) -> Tensor:
        tensor = Tensor(body.name(f"{graph.scope}/{label}"), (None, columns), (0, 1))
        body.inputs.append((tensor, graph.dtype))
        return tensor

    states = [given(label, units) for label in ("h", "c")[: 2 if op == "lstm" else 1]]
    products, mask = given("products", width), given("mask", 1) if masked else None
    with body.within(graph.scope):
        made = _STEPS[op](body, states, products, weights, activation)
        if mask is not None:
            (keeps,) = body.node("Greater", mask.name, body.number(0.0))
            made = [
                body.put("Where", new.shape, keeps, new.name, old.name) for new, old in zip(made, states, strict=True)
            ]
        made.append(body.like(made[0], "Identity"))
        if mask is None:
            made[:-1] = [body.like(tensor, "Identity") for tensor in made[:-1]]
    body.outputs += [(tensor, graph.dtype) for tensor in made]
    return body


def _recurrent(body: Graph, h: Tensor, weights: Weights) -> Tensor:
    kernel = body.constant("recurrent_kernel", weights.recurrent_kernel)
    y = body.put("MatMul", (None, weights.recurrent_kernel.shape[1]), h.name, kernel)
    if weights.bias is None or weights.bias.ndim == 1:
        return y
    return body.like(y, "Add", body.constant("recurrent_bias", weights.bias[1]))


def _gate(body: Graph, z: Tensor, place: int, units: int) -> Tensor:
    bounds = body.integers(place * units), body.integers((place + 1) * units), body.integers(1)
    return body.put("Slice", (None, units), z.name, *bounds)


def _simple_step(body: Graph, states: Any, products: Tensor, weights: Weights, activation: str) -> list[Tensor]:
    z = body.like(products, "Add", _recurrent(body, states[0], weights).name)
    return [emitter("identity" if activation == "linear" else activation)(body, z)]


def _lstm_step(body: Graph, states: Any, products: Tensor, weights: Weights, _: str) -> list[Tensor]:
    h, c = states
    units = weights.recurrent_kernel.shape[0]
    z = body.like(products, "Add", _recurrent(body, h, weights).name)
    kinds = ("Sigmoid", "Sigmoid", "Tanh", "Sigmoid")
    into, forget, new, out = (body.like(_gate(body, z, place, units), kind) for place, kind in enumerate(kinds))
    kept = body.like(forget, "Mul", c.name)
    c = body.like(kept, "Add", body.like(into, "Mul", new.name).name)
    return [body.like(out, "Mul", body.like(c, "Tanh").name), c]


def _gru_step(body: Graph, states: Any, products: Tensor, weights: Weights, _: str) -> list[Tensor]:
    (h,) = states
    units = weights.recurrent_kernel.shape[0]
    own = _recurrent(body, h, weights)
    parts: Sequence[tuple[Tensor, Tensor]] = [
        (_gate(body, products, place, units), _gate(body, own, place, units)) for place in range(3)
    ]
    update, reset = (body.like(body.like(x, "Add", r.name), "Sigmoid") for x, r in parts[:2])
    x, r = parts[2]
    new = body.like(body.like(x, "Add", body.like(reset, "Mul", r.name).name), "Tanh")
    # h' = new + update * (h - new)
    moved = body.like(update, "Mul", body.like(h, "Sub", new.name).name)
    return [body.like(new, "Add", moved.name)]


_STEPS = {"simple_rnn": _simple_step, "lstm": _lstm_step, "gru": _gru_step}


def turned(graph: Graph, x: Tensor) -> Tensor:
    """Steps in reverse."""
    bounds = (graph.integers(value) for value in (LAST, -LAST, x.place(1), -1))
    return graph.like(x, "Slice", *bounds)
