"""Functions over ``fastnn.ops`` as nodes of a graph: their ops are written down while they run on zeros.

They run twice, on batches of 2 and of 3 rows: sizes that differ are those that depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.differentiation import key, reached
from fastnn.engine.wiring import each
from fastnn.kernels.table import TABLE
from fastnn.onnx.graph import Graph, Tensor
from fastnn.onnx.operators import UnsupportedError, emitter, permuted, tensor_of
from fastnn.onnx.recurrent import Weights, run, turned
from fastnn.tape import Node, Traced

_ROWS = (2, 3)
# What writes an inner layer, or a model, for tensors: (graph, operation, a tensor or a list of such).
Inner = Callable[[Graph, Any, Any], Any]


def write(graph: Graph, function: Callable[[Any], Any], given: Any, inner: Inner) -> list[Tensor]:
    """What a function of arrays gives for tensors, one or a list of such; UnsupportedError unless it is made of ops."""
    tensors = given if isinstance(given, list) else [given]
    runs = [_Run(function, tensors, isinstance(given, list), rows, graph.dtype) for rows in _ROWS]
    if [node.op for node in runs[0].nodes] != [node.op for node in runs[1].nodes]:
        raise UnsupportedError("a call whose ops depend on the number of rows, wants the same for every batch")
    found = {key(source): tensor for source, tensor in zip(runs[0].sources, tensors, strict=True)}
    for pair in zip(*(each_run.nodes for each_run in runs), strict=True):
        results = each(_written(graph, pair, found, inner))
        found |= {(pair[0], place): tensor for place, tensor in enumerate(results)}
    return [found[key(result)] for result in runs[0].results]


class _Run:
    """One run on zeros: what it was given, what it gave, and the calls between, each behind those that it needs."""

    def __init__(
        self, function: Callable[[Any], Any], tensors: Sequence[Tensor], listed: bool, rows: int, dtype: Any
    ) -> None:
        self.sources = [
            Traced(np.zeros(_with_rows(tensor, rows), np.int64 if tensor.whole else dtype)) for tensor in tensors
        ]
        try:
            with np.errstate(all="ignore"):
                made = function([*self.sources] if listed else self.sources[0])
        except TypeError as error:
            raise UnsupportedError(f"a call that cannot be followed ({error}), wants one made of fastnn.ops") from error
        self.results = list(made) if isinstance(made, (list, tuple)) else [made]
        if not all(isinstance(result, Traced) for result in self.results):
            raise UnsupportedError("a call that gives what does not depend on its inputs, wants one made of fastnn.ops")
        self.nodes = reached(self.results)[::-1]


def _with_rows(tensor: Tensor, rows: int) -> tuple[int, ...]:
    if None in tensor.shape[1:] or tensor.shape[0] is not None:
        raise UnsupportedError(f"an input of shape {tensor.shape} to a call of the user's, wants known sizes")
    return (rows, *(size or 0 for size in tensor.shape[1:]))


def _written(graph: Graph, pair: tuple[Node, Node], found: Mapping[Any, Tensor], inner: Inner) -> Any:
    """The results of a call, of which both runs tell."""
    node, other = pair
    tensors = {name: found[key(parent)] for name, parent in node.parents.items()}
    shapes = [_shape_of(*results) for results in zip(node.results, other.results, strict=True)]
    if node.op == "call":
        return _of_inner(graph, node, tensors, inner)
    if node.op == "reshape":
        return graph.reshaped(tensors["x"], shapes[0])
    into = TABLE[node.op].into if node.op in TABLE else ()
    given = {name: tensors.get(name, value) for name, value in node.given.items() if name not in into}
    for name, value in given.items():
        if name not in tensors and name not in ("shape", "axes") and not _equal(value, other.given[name]):
            raise UnsupportedError(f"{name} of the op {node.op} that depends on the number of rows, wants a constant")
    if node.op == "permute":
        return permuted(graph, tensors["x"], node.given["axes"])
    if node.op in ("simple_rnn", "lstm", "gru"):
        return _of_steps(graph, node.op, given)
    return emitter(node.op)(graph, **given)


def _equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b)) if hasattr(a, "shape") else a == b


def _shape_of(one: Any, other: Any) -> tuple[int | None, ...]:
    """The sizes of a result, None for the one that depends on the batch."""
    shape = tuple(a if a == b else None for a, b in zip(np.shape(one), np.shape(other), strict=True))
    if shape.count(None) > 1:
        raise UnsupportedError(
            f"an array of shape {np.shape(one)} for 2 rows, wants one size at most to depend on the batch"
        )
    return shape


def _of_inner(graph: Graph, node: Node, tensors: Mapping[str, Tensor], inner: Inner) -> Any:
    operation, given = node.given["operation"], node.given["x"]
    whole = [tensors.get(f"x{place}") or tensor_of(graph, value) for place, value in enumerate(each(given))]
    return inner(graph, operation, whole if isinstance(given, tuple) else whole[0])


def _of_steps(graph: Graph, op: str, given: Mapping[str, Any]) -> tuple[Any, ...]:
    """Outputs in the order in which they are made, and the last state; nobody may ask for anything else."""
    for name in ("mask", "h0", "c0"):
        if given.get(name) is not None:
            raise UnsupportedError(f"{name} given to the op {op} in a call of the user's, wants None")
    weights = Weights(given["kernel"], given["recurrent_kernel"], given["bias"])
    if any(isinstance(weight, Tensor) for weight in weights):
        raise UnsupportedError(
            f"weights of the op {op} that are calculated from the inputs, wants weights of the layer"
        )
    backwards, x = given["go_backwards"], tensor_of(graph, given["x"])
    steps, last = run(graph, op, x, weights, None, backwards, given.get("activation", "tanh"))
    return turned(graph, steps) if backwards else steps, last
