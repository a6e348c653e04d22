"""What exporters write as several nodes and is one layer here: patterns of nodes, folded into one before all are read.

A pattern is a tuple of an operator and what it takes: patterns, ``"name"`` for any value, which must be the same
wherever the name is, ``Const("name")`` for a constant, a number for a constant of that value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from fastnn.engine.protocols import Array
from fastnn.onnx.graph import Node

_COMMUTATIVE = ("Add", "Mul", "Max", "Min")
# Numbers that exporters round to float32, or write with few digits.
_NEAR = 1e-4


class Const(NamedTuple):
    """A constant, by a name."""

    name: str


class Number(NamedTuple):
    """A constant of one number, by a name."""

    name: str


class _Kind(NamedTuple):
    """What a pattern is folded into: an operator of this package's own, which takes what these names are."""

    kind: str
    takes: tuple[str, ...]
    patterns: tuple[Any, ...]


def _halved(share: Any) -> tuple[Any, ...]:
    """x * (share + 1) / 2, in the orders that there are."""
    one = ("Add", share, 1.0)
    return (
        ("Mul", ("Mul", "x", one), 0.5),
        ("Mul", "x", ("Mul", one, 0.5)),
        ("Mul", ("Mul", "x", 0.5), one),
    )


_ROOT = math.sqrt(2 / math.pi)
_CUBES = (("Pow", "x", 3.0), ("Mul", ("Mul", "x", "x"), "x"))
_TANH = [("Tanh", ("Mul", ("Add", "x", ("Mul", cube, 0.044715)), _ROOT)) for cube in _CUBES]
_ERF = [("Erf", ("Div", "x", math.sqrt(2))), ("Erf", ("Mul", "x", math.sqrt(0.5)))]

_CENTRED = ("Sub", "x", ("ReduceMean", "x"))
_NORMALS = [
    ("Div", _CENTRED, ("Sqrt", ("Add", ("ReduceMean", square), Number("epsilon"))))
    for square in (("Pow", _CENTRED, 2.0), ("Mul", _CENTRED, _CENTRED))
]

_DEVIATION = ("Max", ("Sqrt", Const("variance")), Number("least"))
_RELUS = tuple(
    ("Where", ("GreaterOrEqual", "x", Number("threshold")), "x", below)
    for below in (("Mul", ("Add", "x", Number("shift")), Number("slope")), ("Mul", "x", Number("slope")))
)

_COUNTED = ("Where", "mask", 1.0, 0.0)
_DIFFERING = ("Greater", ("ReduceMax", ("Where", ("Equal", "x", Number("value")), 0.0, 1.0)), 0.0)
_OF_MASK = ("Unsqueeze", _COUNTED)


def scan_kind(biased: bool, masked: bool) -> str:
    """The name of a Scan with the products of its inputs."""
    return f":Scan{' with a bias' * biased}{' of a mask' * masked}"


def _scans() -> Iterator[_Kind]:
    """Scans over one state or two, with the products of their inputs; those with a mask first."""
    products = ("MatMul", "x", Const("kernel"))
    for masked, biased, states in product((True, False), (True, False), (("h", "c"), ("h",))):
        given = ("Add", products, Const("bias")) if biased else products
        takes = (*states, "x", "kernel", *["bias"] * biased, *["mask"] * masked)
        yield _Kind(scan_kind(biased, masked), takes, (("Scan", *states, given, *["mask"] * masked),))


# Larger ones first. A colon is in the names of those that ONNX has no operator for.
_KINDS = (
    *_scans(),
    _Kind(
        ":Mean of steps", ("x", "mask"),
        (("Div", ("ReduceSum", ("Mul", "x", _OF_MASK)), ("Max", ("ReduceSum", _OF_MASK), 1.0)),),
    ),
    _Kind(":Counts", ("mask",), (("Transpose", _OF_MASK),)),
    _Kind(":Masking", ("x", "value"), (("Where", ("Unsqueeze", _DIFFERING), "x", 0.0),)),
    _Kind(":Differing", ("x", "value"), (_DIFFERING,)),
    _Kind(":Indices", ("x",), (("Not", ("Equal", "x", 0.0)),)),
    _Kind(":Zeros for mask", ("mask", "x"), (("Where", ("Unsqueeze", "mask"), "x", 0.0),)),
    _Kind(":Gelu", ("x",), tuple(pattern for share in _ERF for pattern in _halved(share))),
    _Kind(":Gelu of tanh", ("x",), tuple(pattern for share in _TANH for pattern in _halved(share))),
    _Kind("Mish", ("x",), (("Mul", "x", ("Tanh", ("Softplus", "x"))),)),
    _Kind(":Silu", ("x",), (("Mul", "x", ("Sigmoid", "x")),)),
    _Kind("HardSwish", ("x",), (("Mul", "x", ("HardSigmoid", "x")),)),
    _Kind(":Softsign", ("x",), (("Div", "x", ("Add", ("Abs", "x"), 1.0)),)),
    _Kind(":LogSigmoid", ("x",), (("Neg", ("Softplus", ("Neg", "x"))), ("Log", ("Sigmoid", "x")))),
    _Kind(":Celu", ("x", "alpha"), (("Mul", ("Elu", ("Div", "x", Number("alpha"))), Number("alpha")),)),
    _Kind(
        ":LayerNorm", ("x", "epsilon", "gamma", "beta"),
        tuple(("Add", ("Mul", normal, Const("gamma")), Const("beta")) for normal in _NORMALS),
    ),
    _Kind(":LayerNorm", ("x", "epsilon", "gamma"), tuple(("Mul", normal, Const("gamma")) for normal in _NORMALS)),
    _Kind(":LayerNorm of beta", ("x", "epsilon", "beta"), tuple(("Add", normal, Const("beta")) for normal in _NORMALS)),
    _Kind(":LayerNorm", ("x", "epsilon"), tuple(_NORMALS)),
    _Kind("MatMul", ("x", "w", "b"), (("Add", ("MatMul", "x", Const("w")), Const("b")),)),
    _Kind(":Affine", ("x", "scale", "offset"), (("Add", ("Mul", "x", Number("scale")), Number("offset")),)),
    _Kind(":Normal of variance", ("x", "mean", "variance"), (("Div", ("Sub", "x", Const("mean")), _DEVIATION),)),
    _Kind(":Inverse of variance", ("x", "mean", "variance"), (("Add", ("Mul", "x", _DEVIATION), Const("mean")),)),
    _Kind(":Normal", ("x", "mean", "deviation"), (("Div", ("Sub", "x", Const("mean")), Const("deviation")),)),
    _Kind(":Inverse", ("x", "scale", "offset"), (("Add", ("Mul", "x", Const("scale")), Const("offset")),)),
    _Kind(":Relu", ("x", "slope", "threshold", "most"), tuple(("Min", y, Number("most")) for y in _RELUS)),
    _Kind(":Relu", ("x", "slope", "threshold"), _RELUS),
    _Kind(
        ":Threshold", ("x", "threshold", "other"),
        (("Where", ("Greater", "x", Number("threshold")), "x", Number("other")),),
    ),
    _Kind(":Step", ("x",), (("Where", ("GreaterOrEqual", "x", 0.0), 1.0, 0.0),)),
    _Kind(":Dot", ("x", "y"), (("ReduceSum", ("Mul", "x", "y")),)),
)  # fmt: skip


def folded(nodes: Sequence[Node], constants: Mapping[str, Array], outputs: Sequence[str]) -> list[Node]:
    """The nodes with one in place of each pattern."""
    folding = _Folding(nodes, constants, outputs)
    for node in reversed(nodes):  # what takes most ends last
        folding.fold(node)
    return [folding.replaced.get(id(node), node) for node in nodes if id(node) not in folding.gone]


class _Folding:
    """Where values come from and go to, and what has been folded."""

    def __init__(self, nodes: Sequence[Node], constants: Mapping[str, Array], outputs: Sequence[str]) -> None:
        self.constants = constants
        self.source = {name: node for node in nodes for name in node.gives}
        self.takers: dict[str, list[int]] = {name: [0] for name in outputs}
        for node in nodes:
            for name in node.takes:
                self.takers.setdefault(name, []).append(id(node))
        self.replaced: dict[int, Node] = {}
        self.gone: set[int] = set()

    def fold(self, node: Node) -> None:
        """Put one in place of the largest pattern that ends in this node."""
        for kind in _KINDS:
            for pattern in kind.patterns:
                if pattern[0] != node.kind:
                    continue
                for bound, inner in self._match_node(pattern, node, {}):
                    if self._apart(node, inner):
                        takes = [bound[name] for name in kind.takes]
                        self.replaced[id(node)] = node._replace(
                            kind=kind.kind, takes=takes, attributes=_attributes(node, inner)
                        )
                        self.gone |= {id(each) for each in inner if each is not node}
                        return

    def _apart(self, root: Node, inner: Sequence[Node]) -> bool:
        """Whether nothing outside takes what the nodes below the last one give, and none of them is folded already."""
        inside = {id(node) for node in inner}
        if any(id(node) in self.gone or id(node) in self.replaced for node in inner):
            return False
        return all(set(self.takers[name]) <= inside for node in inner if node is not root for name in node.gives)

    def _match_node(
        self, pattern: Any, node: Node, bound: dict[str, str]
    ) -> Iterator[tuple[dict[str, str], list[Node]]]:
        operator, *parts = pattern
        takes = node.takes[: len(parts)]  # behind them are ReduceMean's axes, where it has them there
        if node.kind != operator or len(takes) < len(parts):
            return
        orders = [takes, takes[::-1]] if operator in _COMMUTATIVE else [takes]
        for order in orders:
            for found, inner in self._match_all(parts, order, bound):
                yield found, [node, *inner]

    def _match_all(
        self, parts: Sequence[Any], names: Sequence[str], bound: dict[str, str]
    ) -> Iterator[tuple[dict[str, str], list[Node]]]:
        if not parts:
            yield bound, []
            return
        for found, inner in self._match(parts[0], names[0], bound):
            for rest, more in self._match_all(parts[1:], names[1:], found):
                yield rest, inner + more

    def _match(self, part: Any, name: str, bound: dict[str, str]) -> Iterator[tuple[dict[str, str], list[Node]]]:
        if isinstance(part, float):
            if self._is_number(name) and math.isclose(float(self.constants[name].ravel()[0]), part, rel_tol=_NEAR):
                yield bound, []
        elif isinstance(part, (str, Const, Number)):
            label = part if isinstance(part, str) else part.name
            fits = name not in self.constants if isinstance(part, str) else name in self.constants
            fits = fits and (not isinstance(part, Number) or self._is_number(name))
            if fits and self._same(bound.get(label, name), name):
                yield {**bound, label: name}, []
        elif name in self.source:
            yield from self._match_node(part, self.source[name], bound)

    def _is_number(self, name: str) -> bool:
        return name in self.constants and self.constants[name].size == 1

    def _same(self, one: str, other: str) -> bool:
        if one == other:
            return True
        both = one in self.constants and other in self.constants
        return both and np.array_equal(self.constants[one], self.constants[other])


def _attributes(root: Node, inner: Sequence[Node]) -> dict[str, Any]:
    """Those of the nodes of a pattern; axes that are taken as an input are there under their name, too."""
    found = {name: value for node in inner for name, value in node.attributes.items()}
    axes = [node.takes[1] for node in inner if node.kind.startswith("Reduce") and len(node.takes) > 1]
    return {**found, **root.attributes, **({"axes_input": axes[0]} if axes else {})}
