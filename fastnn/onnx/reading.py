"""ONNX files to models.

Values of the graph become symbolic tensors with channels last, or what else layers want; which axis of the graph is
which of the tensor is noted, so that a Transpose is no layer. A Permute is one where a layer wants another order: of an
image with channels first there is one at the beginning and one where it is flattened.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn import files, layers
from fastnn.engine import seeds
from fastnn.engine.protocols import Array
from fastnn.layers.symbols import SymbolicTensor
from fastnn.models import Functional, Model
from fastnn.onnx import packages
from fastnn.onnx.cells import Directed, Mask, Turned
from fastnn.onnx.graph import Node
from fastnn.onnx.operators import UnsupportedError
from fastnn.onnx.packages import LARGEST
from fastnn.onnx.patterns import folded

# The oldest opset that is read; the newest one is that of the package onnx.
_OLDEST = 9
# Characters of what is wrong with a file.
_LONGEST_REASON = 500
_UNREADABLE = "which is damaged or no ONNX file"


class Held(NamedTuple):
    """A value of the graph: axis ``i`` of the graph's is axis ``order[i]`` of the tensor, whose first is the batch."""

    tensor: SymbolicTensor
    order: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.order)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The sizes as the graph has them."""
        return tuple(self.tensor.shape[axis] for axis in self.order)

    @property
    def plain(self) -> tuple[int, ...]:
        """The order of the graph's axes themselves."""
        return tuple(range(self.rank))

    @property
    def channels_last(self) -> tuple[int, ...]:
        """The order in which the graph's second axis is the tensor's last one."""
        return (0, self.rank - 1, *range(1, self.rank - 1))


def from_onnx(source: Any) -> Model:
    """The model of an ONNX file, a path or its bytes, with its weights, to predict with and to train on.

    Read are dense, convolutional, normalised and recurrent layers, connected in any way, as exporters of PyTorch and
    Keras and ``to_onnx`` write them; what these write as several nodes (a GELU, a layer normalisation, a recurrent
    layer behind a mask) becomes one layer again.

    The inputs are those of the file, channels first where it has them so (a ``Permute`` is then the first layer), and
    so are the outputs. Layers have the names of their nodes. Needs onnx (the extra ``onnx``).

    FileNotFoundError where there is no such file, ValueError for one that is damaged or of another kind, and for what
    is not understood, which names the node and its operator.
    """
    content, name = _content(source)
    made = _parsed(content, name)
    try:
        with seeds.untouched():  # layers draw no weights, but making initializers draws seeds
            return _Reader(made).model()
    except UnsupportedError as error:
        raise ValueError(f"source: got {name}, {error}") from error
    except (KeyError, TypeError, ValueError) as error:  # a checked file may still say what makes no sense
        raise ValueError(f"source: got {name}, {_UNREADABLE} ({_reason(error)})") from error


def _content(source: Any) -> tuple[Any, str]:
    """Bytes, or a path of a file that can be read, and what errors call it."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), f"{len(source)} bytes"
    path = files.checked_path("source", source)
    found = files.kind(os.stat(path).st_mode)
    if found is not None and found != "a folder":  # a FIFO would wait for a writer; opening a folder says what it is
        raise ValueError(f"source: got {str(path)!r}, which is {found}, wants an ONNX file")
    return path, repr(str(path))


def _parsed(content: Any, name: str) -> Any:
    """The file's ModelProto, checked; ValueError where it is none that can be read."""
    onnx = packages.onnx()
    decode_error = packages.decode_error()
    try:
        data = content if isinstance(content, bytes) else content.read_bytes()
        made = onnx.load_from_string(data)
        apart = any(onnx.external_data_helper.uses_external_data(each) for each in made.graph.initializer)
        if apart and isinstance(content, bytes):
            raise UnsupportedError("whose weights lie in another file, wants the path of the file")
        if apart:
            onnx.external_data_helper.load_external_data_for_model(made, str(content.parent))
        if not made.HasField("graph"):
            raise ValueError("no graph in it")
        _check(made, None if apart else data)
    except UnsupportedError as error:
        raise ValueError(f"source: got {name}, {error}") from error
    except (decode_error, onnx.checker.ValidationError, ValueError) as error:
        raise ValueError(f"source: got {name}, {_UNREADABLE} ({_reason(error)})") from error
    versions = {each.domain: each.version for each in made.opset_import}
    opset, newest = versions.get("", versions.get("ai.onnx", 0)), onnx.defs.onnx_opset_version()
    if not _OLDEST <= opset <= newest:
        raise ValueError(f"source: got {name}, of opset {opset}, wants {_OLDEST} to {newest}")
    return made


def _check(made: Any, data: bytes | None) -> None:
    """Raise what the package's checker does, of a model whose bytes are ``data`` where nothing was brought to it.

    Outputs without a shape, which nobody asks for here, are given one.
    """
    checker = packages.onnx("checker")
    for output in made.graph.output:
        if not output.type.tensor_type.HasField("shape"):
            output.type.tensor_type.shape.SetInParent()
            data = None
    if data is not None:
        checker.check_model(data)
    elif made.ByteSize() <= LARGEST:  # the checker takes no more
        checker.check_model(made)


def _reason(error: Exception) -> str:
    """What is wrong with a file, in one line; it may quote the file, which may say anything."""
    return " ".join(str(error).split())[:_LONGEST_REASON]


class _Reader:
    """The values of a graph by name, as far as its nodes have been read."""

    def __init__(self, made: Any) -> None:
        onnx = packages.onnx()
        self._proto, graph = made, made.graph
        self.opset = max(each.version for each in made.opset_import if each.domain in ("", "ai.onnx"))
        self.constants: dict[str, Array] = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
        nodes = [node_of(each) for each in graph.node]
        for node in nodes:
            if node.kind == "Constant":
                self.constants[node.gives[0]] = _constant_of(node)
        self._outputs = [each.name for each in graph.output]
        self.nodes = folded([node for node in nodes if node.kind != "Constant"], self.constants, self._outputs)
        self.takers = Counter(name for node in self.nodes for name in node.takes)
        self.takers.update(self._outputs)
        kinds = {str(array.dtype) for array in self.constants.values() if array.dtype.kind == "f" and array.ndim}
        self.dtype = "float64" if "float64" in kinds else "float32"
        self.values: dict[str, Any] = {}  # Held, Directed, Turned or Mask
        self.batch: int | None = None
        # Layers of weights that several nodes take, by what makes them the same.
        self.shared: dict[Any, Any] = {}
        self._uses = Counter(map(self._weights_of, self.nodes))
        self._names: Counter[str] = Counter()
        self._operators = {node.kind for node in nodes}
        self._permuted: dict[tuple[int, tuple[int, ...]], SymbolicTensor] = {}

    def model(self) -> Model:
        """The model that the graph is."""
        from fastnn.onnx.nodes import READERS

        given = [self._input(each) for each in self._proto.graph.input if each.name not in self.constants]
        for node in self.nodes:
            self._read(node, READERS)
        found = [self._output(name) for name in self._outputs]
        name = self._proto.graph.name.replace("/", "_") or None
        return Functional([held.tensor for held in given], found, name=name)

    def _input(self, info: Any) -> Held:
        """One of the graph's inputs."""
        kind = info.type.tensor_type
        sizes = [each.dim_value if each.HasField("dim_value") else None for each in kind.shape.dim]
        free = [place for place, size in enumerate(sizes) if place and not size]
        if not sizes or free:
            wants = "a batch of samples" if not sizes else f"a fixed size along axis {free[0]}"
            raise UnsupportedError(f"whose input {info.name!r} has the shape {sizes}, wants {wants}")
        dtype = packages.onnx("helper").tensor_dtype_to_np_dtype(kind.elem_type)
        if dtype.kind not in "fiub" or dtype == np.float16:
            raise UnsupportedError(f"whose input {info.name!r} is of dtype {dtype}, wants a number of Keras's")
        self.batch = sizes[0]
        plain = str(dtype) in ("float32", self.dtype)
        tensor = layers.Input(
            [size or 0 for size in sizes[1:]], dtype=None if plain else str(dtype), name=self.name(info.name)
        )
        held = Held(tensor, tuple(range(len(sizes))))
        self.values[info.name] = held
        return held

    def _output(self, name: str) -> SymbolicTensor:
        if name not in self.values:
            raise UnsupportedError(f"whose output {name!r} is a constant, wants what depends on the inputs")
        held = self.held(name)
        return self.arranged(held, held.plain).tensor

    def _read(self, node: Node, readers: Mapping[str, Any]) -> None:
        if node.kind not in readers:
            known = ", ".join(sorted(kind for kind in readers if ":" not in kind))
            raise UnsupportedError(f"whose node {node.name!r} is of the operator {node.kind}; understood are {known}")
        try:
            results = readers[node.kind](self, node)
        except (UnsupportedError, IndexError, KeyError, TypeError, ValueError) as error:
            whose = f"whose node {node.name!r}, of the operator {node.kind.strip(':')}"
            raise UnsupportedError(f"{whose}, has {_reason(error)}") from error
        for name, value in zip(node.gives, results if isinstance(results, list) else [results], strict=False):
            if isinstance(value, (Held, Directed, Turned, Mask)):
                self.values[name] = value
            elif value is not None:
                self.constants[name] = np.asarray(value)

    # ------------------------------------------------------------------------------------------------- for what reads

    def held(self, name: str) -> Held:
        """A value that depends on the inputs."""
        if name in self.constants:
            raise UnsupportedError(f"the constant {name!r}, wants what depends on the inputs")
        value = self.values[name]
        if isinstance(value, Held):
            return value
        said = {Directed: "has an axis of directions, wants that squeezed", Mask: "is a mask, wants numbers"}
        raise UnsupportedError(f"{name!r}, which {said.get(type(value), 'has its steps turned, wants these in order')}")

    def constant(self, name: str, what: str) -> Array:
        """A value that does not."""
        if name not in self.constants:
            raise UnsupportedError(f"{what} {name!r} that depends on the inputs, wants a constant")
        return self.constants[name]

    def given(self, node: Node, place: int) -> str | None:
        """The name of what a node takes at a place, None where that is left out."""
        return (node.takes[place] if place < len(node.takes) else "") or None

    def setting(self, node: Node, name: str, place: int | None = None, default: Any = None) -> Any:
        """An attribute, or what newer opsets have as a constant at a place."""
        if name in node.attributes:
            return node.attributes[name]
        taken = None if place is None else self.given(node, place)
        return default if taken is None else self.constant(taken, name)

    def beside(self, node: Node, what: str) -> Node:
        """The node under a name of its own, for a layer that does a part of its work."""
        return node._replace(name=f"{self._path(node.name)}_{what}")

    def name(self, wanted: str) -> str:
        """A layer's name, which no other one has, of a node's."""
        base = self._path(wanted)
        number = self._names[base]
        self._names[base] += 1
        return base if not number else self.name(f"{base}_{number}")

    def _path(self, name: str) -> str:
        """A node's path without its operator; PyTorch's says every module's parents twice: /stem/stem.0/Conv."""
        parts = [part for part in name.replace(":", "_").split("/") if part]
        if len(parts) > 1 and parts[-1].split("_")[0] in self._operators:
            parts.pop()
        below = [*parts[1:], ""]
        kept = [part for part, after in zip(parts, below, strict=False) if not after.startswith(f"{part}.")]
        return "_".join(kept) or "node"

    def call(
        self, node: Node, kind: Any, given: Any, order: Sequence[int] | None = None,
        weights: Sequence[Array] | None = None, **options: Any,
    ) -> Held:  # fmt: skip
        """What a layer of a kind, with the node's name and these weights, gives for a value or a list of such.

        Plainly, or in an order.
        """
        key = kind, self._weights_of(node), repr(options)
        layer = None if weights is None else self.shared.get(key)
        if layer is None:
            layer = kind(**options, **({} if weights is None else {"dtype": self.dtype}), name=self.name(node.name))
        if weights is not None and not layer.built:
            layer.build(given.tensor.shape, [np.array(weight, self.dtype, order="C") for weight in weights])
            if self._uses[key[1]] > 1:
                self.shared[key] = layer
        made = layer(given.tensor if isinstance(given, Held) else [each.tensor for each in given])
        return Held(made, tuple(range(len(made.shape))) if order is None else tuple(order))

    def _weights_of(self, node: Node) -> tuple[str, ...]:
        """A node's operator and the constants that it takes."""
        return node.kind, *(name for name in node.takes if name in self.constants)

    def arranged(self, held: Held, order: Sequence[int]) -> Held:
        """The value with its axes in this order: behind a Permute where it is another."""
        wanted = tuple(order)
        if held.order == wanted:
            return held
        axes = [0] * held.rank
        for before, after in zip(held.order, wanted, strict=True):
            axes[after] = before
        if axes[0] != 0:
            raise UnsupportedError(f"the batch as axis {held.order.index(0)}, wants it as axis {wanted.index(0)}")
        key = id(held.tensor), tuple(axes)
        if key not in self._permuted:
            permute = layers.Permute(axes[1:], name=self.name("permute"))
            self._permuted[key] = permute(held.tensor)
        return Held(self._permuted[key], wanted)

    def rows(self, held: Held) -> Held:
        """The value with its numbers in the graph's order, where axes of length 1 may be anywhere."""
        moving = [axis for axis in held.order if axis == 0 or held.tensor.shape[axis] != 1]
        return held if moving == sorted(moving) else self.arranged(held, held.plain)

    def is_only_here(self, held: Held) -> bool:
        """Whether one node alone takes a value, under all the names that it has where its axes lie otherwise."""
        same = (name for name, value in self.values.items() if isinstance(value, Held) and value.tensor is held.tensor)
        return all(self.takers[name] == 1 for name in same)


def node_of(made: Any) -> Node:
    """A NodeProto; an operator of another domain has that before its name."""
    onnx = packages.onnx()
    kind = made.op_type if made.domain in ("", "ai.onnx") else f"{made.domain}.{made.op_type}"
    attributes = {each.name: _plain(onnx.helper.get_attribute_value(each)) for each in made.attribute}
    name = made.name or f"{made.op_type}_{made.output[0]}"
    return Node(kind, name, [*made.input], [*made.output], attributes)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return [*map(_plain, value)] if hasattr(value, "extend") else value


def _constant_of(node: Node) -> Array:
    """What a Constant has."""
    (name, value), *_ = node.attributes.items()
    if name == "value":
        array: Array = packages.onnx("numpy_helper").to_array(value)
        return array
    return np.asarray(value, np.int64 if name.startswith("value_int") else np.float32)
