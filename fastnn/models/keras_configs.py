"""Models of the descriptions that Keras 3 writes into ``.keras`` files: layers by name, and how they are connected.

A description is data: what it names is looked up among fastnn's layers and the user's own, nothing is imported by it,
and no code that it holds is run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastnn import checks, constraints, initializers, losses, metrics, optimizers, regularizers
from fastnn.configurable import custom_objects
from fastnn.layers.attention import CALL_OPTIONS
from fastnn.layers.cells import CELLS
from fastnn.layers.core import InputLayer
from fastnn.layers.symbols import tensors
from fastnn.models.base import NAMES, Model
from fastnn.optimizers import schedules

# What fastnn has no option for, where it says what fastnn does anyway.
_WITHOUT_EFFECT = ("renorm_momentum", "supports_masking", "use_cudnn", "autocast")
# What a loss or a metric calculates in is what the model does.
_OF_MODEL = (*_WITHOUT_EFFECT, "dtype")
_USUAL: tuple[Any, ...] = (None, False, "channels_last", [], {})
_MODELS = ("Sequential", "Functional", "Model")
# Tensors that calls of attention have by name.
_INPUTS_BY_NAME = "query", "value", "key", "attention_mask"
# Where the classes are that an argument may name, by how its name ends.
_MODULES = {
    "initializer": initializers, "regularizer": regularizers, "constraint": constraints, "rate": schedules,
}  # fmt: skip


def model_of(document: Any) -> Model:
    """A new model of the architecture that a description tells, with new weights; ValueError for what is not there."""
    kind = document["class_name"]
    config = document["config"]
    if checks.one_of("class_name", kind, _MODELS) != "Sequential":
        return _functional(config)
    model: Model = NAMES["Sequential"]([_operation(entry) for entry in config["layers"]], config["name"])
    shape = config.get("build_input_shape")
    if not model.built and shape is not None:
        model.build(shape)
    return model


def compiled(document: Any) -> dict[str, Any] | None:
    """The arguments of ``compile`` that a description tells; None of a model that was not, ValueError as above."""
    config = document.get("compile_config")
    if not config:
        return None
    entry = config["optimizer"]
    kind = optimizers.NAMES[checks.one_of("optimizer", entry["class_name"], optimizers.NAMES)]
    judges: dict[str, Mapping[str, Any]] = {
        "loss": losses.NAMES,
        "metrics": metrics.CONFIG_NAMES,
        "weighted_metrics": metrics.CONFIG_NAMES,
    }
    return {
        "optimizer": kind(**_options(kind, entry["config"], "optimizer")),
        "loss_weights": config.get("loss_weights"),
        **{name: _judging(name, config.get(name), names) for name, names in judges.items()},
    }


def _judging(argument: str, value: Any, names: Mapping[str, Any]) -> Any:
    """A loss or metrics, one, or several by place or by output."""
    if isinstance(value, list):
        return [_judging(argument, each, names) for each in value]
    if not isinstance(value, Mapping):
        return value
    if "class_name" not in value:
        return {name: _judging(argument, each, names) for name, each in value.items()}
    kind, config = value["class_name"], value["config"]
    if kind == "function":
        return config
    found = names[checks.one_of(argument, kind, names)]
    options = {name: each for name, each in config.items() if name not in _OF_MODEL}
    return found(**_options(found, options, argument))


def _operation(entry: Mapping[str, Any]) -> Any:
    """A layer, or a model that is used as one."""
    return model_of(entry) if entry["class_name"] in _MODELS else _layer(entry)


def _layer(entry: Mapping[str, Any]) -> Any:
    known = {**custom_objects(), **NAMES}
    config = dict(entry["config"])
    kind = known[checks.one_of("class_name", entry["class_name"], known)]
    if kind is InputLayer:
        config["batch_size"], *config["shape"] = config.pop("batch_shape")
    elif "batch_shape" in config:
        config["input_shape"] = config.pop("batch_shape")[1:]
    if "layer" in config and "merge_mode" in config:
        config = _in_two_directions(config)
    return kind(**_options(kind, config, config.get("name", entry["class_name"])))


def _in_two_directions(config: dict[str, Any]) -> dict[str, Any]:
    """That of a Bidirectional, without the layer of the other direction where that is like the first."""
    if config["backward_layer"] is None:
        return {name: value for name, value in config.items() if name != "backward_layer"}
    own, other = ({**config[name]["config"]} for name in ("layer", "backward_layer"))
    turned = other.pop("go_backwards") != own["go_backwards"]
    alike = all(value == own[name] for name, value in _apart_from_names(other).items())
    own["name"] = own["name"].removeprefix("forward_")
    config["layer"] = {**config["layer"], "config": own}
    return {name: value for name, value in config.items() if name != "backward_layer" or not (turned and alike)}


def _apart_from_names(config: Any) -> Any:
    """A config without what tells objects apart that are alike."""
    if not isinstance(config, Mapping):
        return config
    names = ("name", "shared_object_id")
    return {key: _apart_from_names(value) for key, value in config.items() if key not in names}


def _options(kind: Callable[..., Any], config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The arguments of a class's constructor; ValueError for one that it lacks and that is not the usual one."""
    accepted = _parameters(kind)
    options = {}
    for key, value in config.items():
        if key in accepted:
            options[key] = _value(key, value)
        elif key not in _WITHOUT_EFFECT and value not in _USUAL:
            raise ValueError(f"{name}: got {key} {checks.describe(value)}, which fastnn's has not")
    return options


def _parameters(kind: Any) -> set[str]:
    """Those of a class, of its bases and of the cell that it makes, which it passes the others on to."""
    kinds = [*inspect.getmro(kind), *inspect.getmro(getattr(kind, "makes", kind))]
    bases = [base for base in kinds if "__init__" in vars(base)]
    found = (inspect.signature(vars(base)["__init__"]).parameters for base in bases if base is not object)
    own = {name for parameters in found for name in parameters} - {"self"}
    return own | (_parameters(kind.makes) if hasattr(kind, "makes") else set())  # a recurrent layer's are its cell's


def _value(key: str, value: Any) -> Any:
    """What an argument's serialized value is to fastnn's constructors."""
    if isinstance(value, list):
        return [_value(key, each) for each in value]
    if not isinstance(value, Mapping) or "class_name" not in value:
        return value
    kind, config = value["class_name"], value["config"]
    if kind == "DTypePolicy":
        return checks.one_of("dtype", config["name"], ("float32", "float64"))
    if kind == "function":
        return config
    if kind in NAMES or kind in CELLS:
        return _layer(value)
    module = _MODULES[key.rpartition("_")[2]]
    names = {**module.NAMES, **custom_objects()}
    found = names[checks.one_of(key, kind, names)]
    return found(**_options(found, config, key))


def _functional(config: Mapping[str, Any]) -> Model:
    """The graph of layers, each called as often as it was."""
    made = {entry["name"]: _operation(entry) for entry in config["layers"]}
    waiting = {entry["name"]: [*enumerate(entry["inbound_nodes"])] for entry in config["layers"]}
    given = {(name, 0): [layer.output] for name, layer in made.items() if isinstance(layer, InputLayer)}
    while any(waiting.values()):
        before = len(given)
        for name, calls in waiting.items():
            while calls and all((source, call) in given for source, call, _ in _taken(calls[0][1])):
                number, call = calls.pop(0)
                arguments, told = _arguments(call, given)
                given[name, number] = [*tensors(made[name](*arguments, **told))]
        if len(given) == before:
            raise ValueError("layers: got calls that wait for each other or for none, wants a graph without a cycle")
    ends = (_structure(config[name], given) for name in ("input_layers", "output_layers"))
    model: Model = NAMES["Functional"](*ends, config["name"])
    return model


def _arguments(call: Mapping[str, Any], given: Mapping[Any, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Inputs of a call, first states among them, and what attention is told by name; ValueError for anything else."""
    named = {name: value for name, value in call["kwargs"].items() if value not in (None, False)}
    told = {name: named.pop(name) for name in CALL_OPTIONS if name in named}
    told |= {name: _resolved(named.pop(name), given) for name in _INPUTS_BY_NAME if name in named}
    states = named.pop("initial_state", None)
    if named:
        raise ValueError(f"inbound_nodes: got arguments {', '.join(named)} beside the inputs, wants none")
    inputs = [_resolved(each, given) for each in call["args"] if each not in (None, False)]
    if states is not None:
        inputs[0] = [inputs[0], *_resolved(states if isinstance(states, list) else [states], given)]
    return inputs, told


def _resolved(value: Any, given: Mapping[Any, Any]) -> Any:
    if isinstance(value, list):
        return [_resolved(each, given) for each in value]
    if not isinstance(value, Mapping):
        raise ValueError(f"inbound_nodes: got {checks.describe(value)} among the inputs, wants tensors")
    name, call, place = value["config"]["keras_history"]
    return given[name, call][place]


def _taken(value: Any) -> Sequence[Any]:
    """[layer, call, place] of the tensors in what a call was given."""
    if isinstance(value, list):
        return [each for entry in value for each in _taken(entry)]
    if isinstance(value, Mapping):
        if "keras_history" in value:
            return [value["keras_history"]]
        return [each for entry in value.values() for each in _taken(entry)]
    return []


def _structure(value: Any, given: Mapping[Any, Any]) -> Any:
    """The tensors that a structure of [layer, call, place] names."""
    if isinstance(value, Mapping):
        return {name: _structure(each, given) for name, each in value.items()}
    if value and isinstance(value[0], str):
        name, call, place = value
        return given[name, call][place]
    return [_structure(each, given) for each in value]
