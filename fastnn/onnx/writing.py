"""Models to ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import fastnn
from fastnn import checks, files
from fastnn.engine.protocols import Array
from fastnn.layers.core import InputLayer
from fastnn.models import Model
from fastnn.onnx import packages
from fastnn.onnx.graph import Graph, Node, Tensor
from fastnn.onnx.layers import write_model

# Opsets that are written, the default one, and the oldest version of the format that has each: readers of a version
# read all before it. onnxruntime 1.17 reads opset 20 and version 9.
OPSETS = range(13, 21)
DEFAULT_OPSET = 17
_FORMATS = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9}


def to_onnx(model: Model, path: Any, *, opset: int = DEFAULT_OPSET) -> None:
    """Write a built model as an ONNX file, for onnxruntime and all else that reads ONNX: what ``predict`` computes.

    Inputs and outputs have the shapes and names of the model's, the batch's size being free; ``opset`` is the version
    of ONNX's operators, 13 to 20. Dropout and noise are left out. What has channels last stays so outside; between
    convolutions nothing is transposed. Layers of your own are written op by op. Needs onnx (the extra ``onnx``).

    ValueError, which names the layer, for what ONNX has no operators for; for a model that is not built, and for one of
    2 GB, which no ONNX file holds. The file is written whole or not at all; OSError where it cannot be.
    """
    checks.instance("model", model, Model, "a model")
    place = files.checked_path("path", path)
    files.check_writable("path", place)
    content = proto(model, opset=opset).SerializeToString()
    files.write("path", place, lambda file: file.write(content))


def proto(model: Model, *, opset: int = DEFAULT_OPSET) -> Any:
    """What ``to_onnx`` writes, as an ``onnx.ModelProto``."""
    checks.instance("model", model, Model, "a model")
    _check_opset(opset)
    helper = packages.onnx("helper")
    if not model.built:
        raise ValueError(f"model: got {model.name!r}, which is not built, wants one with weights: build it, or fit it")
    size = sum(parameter.value.nbytes for parameter in model.weights)
    if size > packages.LARGEST:
        raise ValueError(
            f"model: got {size / 1e9:.2f} GB of weights, wants less than 2.15 GB, the most of an ONNX file"
        )
    graph = _graph(model, opset)
    made = helper.make_model(
        _graph_proto(graph, model.name),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=_FORMATS[opset],
        producer_name="fastnn",
        producer_version=fastnn.__version__,
    )
    _add_constants(made.graph, graph)  # last, and in place: protocol buffers copy what they are made of
    helper.set_model_props(made, {"model": model.name, "class": type(model).__name__})
    return made


def _check_opset(opset: Any) -> None:
    checks.integer("opset", opset)
    if opset not in OPSETS:
        raise ValueError(f"opset: got {opset}, wants {OPSETS[0]} to {OPSETS[-1]}")


def _graph(model: Model, opset: int) -> Graph:
    """The model's graph; its values have the names of the model's inputs and outputs."""
    graph = Graph(model.compute_dtype, opset)
    outputs = _distinct(model.output_names)
    taken = {*outputs, *(layer.name for layer in model.wired()[0])}
    names = [f"{name}_input" if name in taken else name for name in model.input_names]
    for name in (*names, *outputs):
        graph.name(name)
    given = [_input(graph, model, place, name) for place, name in enumerate(names)]
    for tensor, name in zip(write_model(graph, model, given), outputs, strict=True):
        told = np.dtype(np.int64) if tensor.whole else graph.dtype
        graph.outputs.append((_under(graph, graph.plain(tensor), name), told))
    graph.prune()
    return graph


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where they are equal."""
    return [
        f"{name}_{names[:place].count(name)}" if name in names[:place] else name for place, name in enumerate(names)
    ]


def _input(graph: Graph, model: Model, place: int, name: str) -> Tensor:
    """One of the model's inputs, in the dtype of the data, as the layers that take it want it."""
    symbol = model.inputs[place]
    inner, wiring = model.wired()
    counting = any(inner[call.layer].indices is not None for call in wiring.calls if place in call.takes)
    layer = symbol.node.operation
    told = np.dtype((layer.data_dtype if isinstance(layer, InputLayer) else None) or graph.dtype)
    wanted = np.dtype(np.int64) if counting else graph.dtype
    if counting and told.kind not in "iu":
        told = wanted
    tensor = Tensor(name, (None, *symbol.shape[1:]), tuple(range(len(symbol.shape))), whole=counting)
    graph.inputs.append((tensor, told))
    if told == wanted:
        return tensor
    cast = graph.like(tensor, "Cast", to=_element_type(wanted))
    return Tensor(cast.name, cast.shape, cast.order, whole=counting)


def _under(graph: Graph, tensor: Tensor, name: str) -> Tensor:
    """The tensor under an output's name."""
    is_free = any(tensor.name in node.gives for node in graph.nodes)
    is_free = is_free and tensor.name not in {other.name for other, _ in graph.outputs}
    if not is_free:
        tensor = graph.like(tensor, "Identity")
    graph.renamed(tensor.name, name)
    return Tensor(name, tensor.shape, tensor.order)


# ------------------------------------------------------------------------------------------------------ as onnx has it


def _element_type(dtype: np.dtype[Any]) -> int:
    found: int = packages.onnx("helper").np_dtype_to_tensor_dtype(np.dtype(dtype))
    return found


def _graph_proto(graph: Graph, name: str) -> Any:
    """The graph without its constants."""
    return packages.onnx("helper").make_graph(
        [_node_proto(node) for node in graph.nodes],
        name,
        [_value_proto(tensor, dtype) for tensor, dtype in graph.inputs],
        [_value_proto(tensor, dtype) for tensor, dtype in graph.outputs],
    )


def _add_constants(made: Any, graph: Graph) -> None:
    for name, array in graph.constants.items():
        tensor = made.initializer.add()
        tensor.name, tensor.data_type, tensor.raw_data = name, _element_type(array.dtype), _bytes(array)
        tensor.dims.extend(array.shape)


def _bytes(array: Array) -> bytes:
    """As ONNX has them: in C order, the lowest byte first."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _node_proto(node: Node) -> Any:
    attributes = dict(node.attributes)
    for name, value in node.attributes.items():
        if isinstance(value, Graph):
            attributes[name] = _graph_proto(value, f"{node.name}/{name}")
            _add_constants(attributes[name], value)
    return packages.onnx("helper").make_node(node.kind, node.takes, node.gives, node.name, **attributes)


def _value_proto(tensor: Tensor, dtype: np.dtype[Any]) -> Any:
    """Of an input or an output: sizes that are free have names."""
    sizes = [
        ("batch" if axis == 0 else f"size_{axis}") if size is None else size
        for axis, size in enumerate(tensor.arranged(tensor.shape))
    ]
    return packages.onnx("helper").make_tensor_value_info(tensor.name, _element_type(dtype), sizes)
