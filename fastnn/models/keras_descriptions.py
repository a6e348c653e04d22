"""The description of a model that Keras 3 reads, as ``keras_configs`` reads it: the text of a ``.keras`` file.

Arguments are Keras's, of the same names, so what a file says of a layer is its config; objects go by Keras's modules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastnn import layers, serialization
from fastnn.configurable import registered_name
from fastnn.kernels.table import NUMBERS
from fastnn.layers.attention import MultiHeadAttention
from fastnn.layers.cells import CELLS
from fastnn.layers.core import InputLayer
from fastnn.layers.recurrent import RNN
from fastnn.layers.symbols import SymbolicTensor

if TYPE_CHECKING:
    from fastnn.models.base import Model

# Keras's modules of what an argument may hold beside layers, by how the argument's name ends.
_MODULES = {
    "initializer": "keras.initializers", "regularizer": "keras.regularizers", "constraint": "keras.constraints",
    "rate": "keras.optimizers.schedules",
}  # fmt: skip
# Activations with numbers of their own, and the layers that Keras has of them.
_ACTIVATIONS = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU", "softmax": "Softmax"}
# What is not told of a layer because Keras takes it for granted, or, of some classes, does not know it.
_USUAL = {"trainable": True, "dtype": None, "activity_regularizer": None}
_LACKING: dict[str, dict[str, Any]] = {"RandomFlip": {"fill_value": 0.0}}
# Where Keras has the classes of models.
_MODELS = {"Sequential": "keras.src.models.sequential", "Functional": "keras.src.models.functional"}
# Where it has those that judge outputs, by the argument of ``compile``.
_JUDGES = {"loss": "keras.losses", "metrics": "keras.metrics", "weighted_metrics": "keras.metrics"}
# What it calls the accuracy that shapes decide on.
_BY_SHAPE = "ShapedAccuracy"


def description(model: Model) -> dict[str, Any]:
    """What a ``.keras`` file says of a stack or a graph of layers; ValueError for what it cannot hold."""
    return {**_model(model), "compile_config": _compile_config(model)}


def _object(module: str | None, document: Mapping[str, Any], registered: str | None = None) -> dict[str, Any]:
    return {
        "module": module,
        "class_name": document["class_name"],
        "config": {name: _value(name, value) for name, value in document["config"].items()},
        "registered_name": registered,
    }


def _value(name: str, value: Any) -> Any:
    """An argument's value, and the objects in it."""
    if isinstance(value, (list, tuple)):
        return [_value(name, each) for each in value]
    if not isinstance(value, Mapping) or "class_name" not in value:
        return value
    module = _MODULES.get(name.rpartition("_")[2])
    return _layer(value) if module is None else _object(module, value)


def _layer(document: Mapping[str, Any]) -> dict[str, Any]:
    """A layer, a cell, or an activation with its numbers, of what fastnn's files say of it."""
    kind, config = document["class_name"], document["config"]
    if kind in NUMBERS:
        if kind not in _ACTIVATIONS:
            wants = f"such numbers of {', '.join(_ACTIVATIONS)} alone"
            raise ValueError(f"activation: got {kind} with {dict(config)} in a .keras file, wants {wants}")
        kind = _ACTIVATIONS[kind]
    own = kind in layers.NAMES or kind in CELLS
    usual = {**_USUAL, **_LACKING.get(kind, {})} if own else {}
    # an InputLayer has the shape of a first layer
    told = {
        name: value
        for name, value in config.items()
        if name != "input_shape" and not (name in usual and usual[name] == value)
    }
    document = {"class_name": kind, "config": told}
    return _object("keras.layers", document) if own else _object(None, document, registered_name(kind))


def _operation(layer: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    """A layer, or a model that is used as one, with the shape that Keras makes its weights for."""
    if isinstance(layer, InputLayer):
        return _input(layer, layer.name)
    if hasattr(layer, "layers"):
        return _model(layer)
    shape = layer.input_shape
    if isinstance(layer, RNN) and isinstance(shape, list):  # first states have shapes behind that of the steps
        shape = shape[0]
    if isinstance(layer, MultiHeadAttention):
        shapes = dict(zip(("query_shape", "value_shape", "key_shape"), shape, strict=False))
        return {**_layer(document), "build_config": {"shapes_dict": shapes}}
    return {**_layer(document), "build_config": {"input_shape": shape}}


def _input(layer: InputLayer, name: str) -> dict[str, Any]:
    shape = [layer.batch_size, *layer.output_shape[1:]]
    config = {"batch_shape": shape, "dtype": layer.data_dtype or "float32", "name": name}
    return {"module": "keras.layers", "class_name": "InputLayer", "config": config, "registered_name": None}


def _model(model: Model) -> dict[str, Any]:
    kinds: dict[str, Callable[[Any], dict[str, Any]]] = {"Sequential": _stack, "Functional": _graph}
    kind = type(model).__name__
    if kind not in kinds:
        raise ValueError(
            f"{model.name}: got a model of the class {kind}, which a .keras file cannot hold, wants a Sequential or "
            "Model(inputs, outputs), or a file of another name"
        )
    config = {"name": model.name, "trainable": True, **kinds[kind](model)}
    return {"module": _MODELS[kind], "class_name": kind, "config": config, "registered_name": kind}


def _stack(model: Any) -> dict[str, Any]:
    source, shape = model.input.node.operation, model.input.shape
    # one that stands in for an Input has the name of the layer above
    name = f"{source.name}_input" if source.name in {layer.name for layer in model.layers} else source.name
    documents = [each for each in model.get_config()["layers"] if each["class_name"] != InputLayer.__name__]
    entries = [_input(source, name), *map(_operation, model.layers, documents)]
    return {"layers": entries, "build_input_shape": [*shape]}


def _graph(model: Any) -> dict[str, Any]:
    config, counts = model.get_config(), Counter[str]()
    given: dict[tuple[str, int], list[SymbolicTensor]] = {}
    for node in model.calls:
        name = node.operation.name
        given[name, counts[name]] = node.outputs
        counts[name] += 1
    entries = []
    for layer, entry in zip(model.layers, config["layers"], strict=True):
        calls = [] if isinstance(layer, InputLayer) else [_call(layer, call, given) for call in entry["calls"]]
        entries.append({**_operation(layer, entry), "name": layer.name, "inbound_nodes": calls})
    ends = {f"{name}_layers": _places(config[f"{name}s"]) for name in ("input", "output")}
    return {"layers": entries, **ends}


def _call(layer: Any, call: Any, given: Mapping[Any, Sequence[SymbolicTensor]]) -> dict[str, Any]:
    """What a call of a layer was given; first states of recurrent ones, keys and masks are arguments of their own."""
    x, named = _tensors(call, given), layer.call_arguments()
    if isinstance(layer, MultiHeadAttention):
        return {"args": x[:2], "kwargs": {**dict(zip(("key", "attention_mask"), x[2:], strict=False)), **named}}
    if isinstance(layer, RNN) and isinstance(x, list):
        return {"args": x[:1], "kwargs": {"initial_state": x[1:]}}
    return {"args": [x], "kwargs": named}


def _tensors(structure: Any, given: Mapping[Any, Sequence[SymbolicTensor]]) -> Any:
    """A structure of fastnn's references with Keras's in their places."""
    if isinstance(structure, list):
        return [_tensors(each, given) for each in structure]
    if "by_name" in structure:
        return {name: _tensors(each, given) for name, each in structure["by_name"].items()}
    name, call, place = structure["of"]
    tensor = given[name, call][place]
    config = {"shape": [*tensor.shape], "dtype": tensor.dtype, "keras_history": [name, call, place]}
    return {"class_name": "__keras_tensor__", "config": config}


def _places(structure: Any) -> Any:
    """A structure of references as [layer, call, place]."""
    if isinstance(structure, list):
        return [_places(each) for each in structure]
    if "by_name" in structure:
        return {name: _places(each) for name, each in structure["by_name"].items()}
    return structure["of"]


def _compile_config(model: Model) -> dict[str, Any]:
    """The arguments of ``compile``; those of several outputs in a list, or by the names of a dict's."""
    found = serialization.compile_config(model)
    if found is None:
        return {}
    several = "loss_weights" in found
    by_output: dict[str, Any] = {"loss_weights": found.get("loss_weights")}
    for argument, module in _JUDGES.items():
        given = zip(model.output_names, found[argument], strict=True) if several else [("", found[argument])]
        judges = [_judging(module, value, f"{name}_") for name, value in given]
        by_output[argument] = judges if several else judges[0]
    if several and isinstance(model.output, Mapping):
        by_output = {name: dict(zip(model.output, each, strict=True)) for name, each in by_output.items()}
    optimizer = _object("keras.optimizers", found["optimizer"])
    return {"optimizer": optimizer, **by_output, "run_eagerly": False, "steps_per_execution": 1, "jit_compile": False}


def _judging(module: str, value: Any, prefix: str) -> Any:
    """A loss, or metrics, whose names are without the output's."""
    if isinstance(value, list):
        return [_judging(module, each, prefix) for each in value]
    if value is None:
        return None
    kind, config = value["class_name"], {**value["config"], "name": value["config"]["name"].removeprefix(prefix)}
    return config["name"] if kind == _BY_SHAPE else _object(module, {"class_name": kind, "config": config})
