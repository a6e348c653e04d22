"""An ONNX graph while it is written: its nodes and constants, and tensors whose axes may lie in another order.

Layers have channels last, ONNX's convolutions have them first. A tensor stays as the node that gave it has left it, and
is transposed where a node needs it in another order, once: what lies between two convolutions is not transposed at all.

Nothing of this module needs the package onnx.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from fastnn.engine.protocols import Array

Shape = tuple[int | None, ...]
# ONNX's slices end here where they end with the axis.
LAST = 2**63 - 1


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value of the graph: its shape as fastnn has it, None where only a call tells.

    Axis ``i`` of what the graph calls ``name`` is axis ``order[i]`` of that shape. ``whole`` are whole numbers.
    """

    name: str
    shape: Shape
    order: tuple[int, ...]
    whole: bool = False

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def plain(self) -> tuple[int, ...]:
        """The order in which the axes are those of the shape."""
        return tuple(range(self.rank))

    @property
    def channels_first(self) -> tuple[int, ...]:
        """The order that ONNX's convolutions want."""
        return (0, self.rank - 1, *range(1, self.rank - 1))

    def place(self, axis: int) -> int:
        """Where an axis of the shape is in the graph."""
        return self.order.index(axis % self.rank)

    def arranged(self, values: Sequence[Any]) -> list[Any]:
        """One value for each axis of the shape, as the graph has its axes."""
        return [values[axis] for axis in self.order]


class Node(NamedTuple):
    """One of ONNX's operators with the names of what it takes and gives, and its attributes, which may be graphs."""

    kind: str
    name: str
    takes: list[str]
    gives: list[str]
    attributes: dict[str, Any]


@dataclass
class Graph:
    """Nodes in the order in which they can be run, arrays by name. ``dtype`` is that of what is calculated."""

    dtype: np.dtype[Any]
    opset: int
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    inputs: list[tuple[Tensor, np.dtype[Any]]] = field(default_factory=list)
    outputs: list[tuple[Tensor, np.dtype[Any]]] = field(default_factory=list)
    scope: str = ""
    _names: Counter[str] = field(default_factory=Counter)
    _known: dict[Any, str] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)  # so that no other array has the id of one that is known
    _ordered: dict[tuple[str, tuple[int, ...]], Tensor] = field(default_factory=dict)

    def within(self, scope: str) -> AbstractContextManager[None]:
        """``with`` this, what is made has names that begin with a layer's."""
        return _within(self, scope)

    def name(self, wanted: str) -> str:
        """``wanted``, or where that is taken with a number behind it."""
        number = self._names[wanted]
        self._names[wanted] += 1
        return wanted if not number else self.name(f"{wanted}_{number}")

    def body(self) -> Graph:
        """A graph inside of this one, for a node that runs it; names are never those of another's."""
        return replace(
            self, nodes=[], constants={}, inputs=[], outputs=[], _known={}, _kept=[], _ordered={}, _names=self._names
        )

    # ------------------------------------------------------------------------------------------------------- constants

    def constant(self, label: str, array: Array, source: Any = None) -> str:
        """The name of an array; the same one for what the same ``source`` gives under a label, a shared weight say."""
        key = (id(source), label) if source is not None else None
        if key is None or key not in self._known:
            name = self.name(f"{self.scope}/{label}" if self.scope else label)
            self.constants[name] = array
            if key is None:
                return name
            self._known[key] = name
            self._kept.append(source)
        return self._known[key]

    def number(self, value: float) -> str:
        """A number of the graph's dtype, ()."""
        return self._small(np.asarray(value, self.dtype))

    def integers(self, *values: int) -> str:
        """A row of int64: a shape, or axes."""
        return self._small(np.asarray(values, np.int64))

    def _small(self, array: Array) -> str:
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._known:
            self._known[key] = self.name("x".join(f"{value:g}" for value in array.ravel()) or "none")
            self.constants[self._known[key]] = array
        return self._known[key]

    # ------------------------------------------------------------------------------------------------------------ nodes

    def node(self, kind: str, *takes: str, gives: int = 1, **attributes: Any) -> list[str]:
        """The names of what a new node gives."""
        name = self.name(f"{self.scope}/{kind}" if self.scope else kind)
        names = [self.name(f"{name}:{place}" if place else f"{name}_output") for place in range(gives)]
        self.nodes.append(Node(kind, name, [*takes], names, attributes))
        return names

    def put(
        self, kind: str, shape: Shape, *takes: str, order: Sequence[int] | None = None, **attributes: Any
    ) -> Tensor:
        """What a new node gives, of a shape; ``order`` says how its axes lie, plainly by default."""
        (name,) = self.node(kind, *takes, **attributes)
        return Tensor(name, tuple(shape), tuple(range(len(shape)) if order is None else order))

    def like(self, tensor: Tensor, kind: str, *others: str, **attributes: Any) -> Tensor:
        """What a node gives whose first operand is the tensor, number by number."""
        return self.put(kind, tensor.shape, tensor.name, *others, order=tensor.order, **attributes)

    def ordered(self, tensor: Tensor, order: Sequence[int]) -> Tensor:
        """The tensor with its axes in this order."""
        wanted = tuple(order)
        if tensor.order == wanted:
            return tensor
        key = tensor.name, wanted
        if key not in self._ordered:
            moves = [tensor.order.index(axis) for axis in wanted]
            self._ordered[key] = self.put("Transpose", tensor.shape, tensor.name, order=wanted, perm=moves)
            self._ordered[self._ordered[key].name, tensor.order] = tensor  # the way back costs nothing
        return self._ordered[key]

    def plain(self, tensor: Tensor) -> Tensor:
        """The tensor with its axes as its shape has them."""
        return self.ordered(tensor, tensor.plain)

    def reshaped(self, tensor: Tensor, shape: Shape) -> Tensor:
        """The numbers in another shape, one of whose sizes may be None."""
        sizes = [-1 if size is None else size for size in shape]
        return self.put("Reshape", shape, self.plain(tensor).name, self.integers(*sizes))

    def reduced(self, kind: str, tensor: Tensor, axes: Sequence[int], keepdims: bool = False) -> Tensor:
        """What ``kind``, ReduceMax say, makes of all numbers along axes of the shape."""
        places = sorted(tensor.place(axis) for axis in axes)
        gone = {axis % tensor.rank for axis in axes}
        if keepdims:
            shape: Shape = tuple(1 if axis in gone else size for axis, size in enumerate(tensor.shape))
            order = tensor.order
        else:
            left = [axis for axis in tensor.plain if axis not in gone]
            shape = tuple(tensor.shape[axis] for axis in left)
            order = tuple(left.index(axis) for axis in tensor.order if axis not in gone)
        in_input = self.opset >= (13 if kind == "ReduceSum" else 18)
        takes = (self.integers(*places),) if in_input else ()
        given = {} if in_input else {"axes": places}
        return self.put(kind, shape, tensor.name, *takes, order=order, keepdims=int(keepdims), **given)

    def prune(self) -> None:
        """Drop nodes and constants that nothing is made of, and results that nobody takes of operators of several."""
        used = {tensor.name for tensor, _ in self.outputs}
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if used.isdisjoint(node.gives):
                continue
            used.update(node.takes)
            gives = [name if name in used else "" for name in node.gives]
            kept.append(node if node.kind == "Scan" else node._replace(gives=gives))
        self.nodes = kept[::-1]
        self.constants = {name: array for name, array in self.constants.items() if name in used}

    def renamed(self, old: str, new: str) -> None:
        """Give a node's result another name, here and where it is taken."""
        for place, node in enumerate(self.nodes):
            swapped = [[new if name == old else name for name in names] for names in (node.takes, node.gives)]
            self.nodes[place] = node._replace(takes=swapped[0], gives=swapped[1])


@contextmanager
def _within(graph: Graph, scope: str) -> Any:
    before, graph.scope = graph.scope, scope
    try:
        yield
    finally:
        graph.scope = before
