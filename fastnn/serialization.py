"""A model as a file holds it, arrays by name and a document as JSON can hold it, and the model made of them again.

What a file says is not to be trusted: its document may describe a model that its arrays are not those of, or none at
all. Shapes are compared before anything of such a shape is made, and what ``save`` is about to write goes through the
same checks, so that no file is written that cannot be read.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastnn import backends, checks, layers, losses, metrics, optimizers, saving
from fastnn.configurable import by_user, custom_object_scope, custom_objects, deserialize, serialize
from fastnn.engine import seeds
from fastnn.engine.data import check_finite
from fastnn.engine.protocols import Array, Shape
from fastnn.kernels.interrupts import held
from fastnn.kernels.precision import ROUNDED
from fastnn.layers.base import assign_all, open_shape, paths_within, sample_shape, supplied
from fastnn.layers.symbols import BatchShape
from fastnn.losses import Loss
from fastnn.losses.base import FunctionLoss
from fastnn.metrics import Metric
from fastnn.optimizers import Optimizer

if TYPE_CHECKING:
    from fastnn.models.base import Model

# Classes of models and layers, by the names that files have for them.
Makes = Mapping[str, type[Any]]
# What is raised where a document and its arrays do not make a model.
UNFIT = (KeyError, TypeError, ValueError)
# Steps that float64 counts exactly; an optimizer that had made more could not count on.
_MOST_STEPS = 2**53
_WEIGHTS, _STATE, _BACKUP = "weights/", "optimizer/", "backup"
_KINDS = {dict: "an object", list: "a list", str: "a string", type(None): "null"}


# ---------------------------------------------------------------------------------------------------- to a file


def contents(makes: Makes, model: Model) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays and the document of a whole model; ValueError for what ``load_model`` would refuse."""
    model._require_built("save")
    document = {"class_name": type(model).__name__, "config": model.get_config(), "compile": compile_config(model)}
    if model.is_called:
        document["build"] = model.input_structure
    arrays = _weight_arrays(model)
    if model.optimizer is not None:
        for path in _paths_with_state(model, model.optimizer):
            state = model.optimizer.state[path]
            arrays.update((_slot_name(path, slot), state[slot]) for slot in model.optimizer.state_slots)
    try:
        with custom_object_scope({type(model).__name__: type(model)} if model.is_called else {}):
            restored(makes, saving.decode(saving.encode(document)), arrays)
    except UNFIT as error:
        raise ValueError(f"save: got a model that load_model would refuse ({error}), wants one it takes") from error
    return arrays, document


def weights_contents(model: Model) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays and the document of the weights alone; ValueError where one is not finite."""
    model._require_built("save_weights")
    for parameter in model.weights:
        check_finite(parameter.path, parameter.value, parameter.dtype)
    return _weight_arrays(model), {"class_name": "weights"}


def _weight_arrays(model: Model) -> dict[str, Array]:
    return {_weight_name(number, parameter.path): parameter.value for number, parameter in enumerate(model.weights)}


def _paths_with_state(model: Model, optimizer: Optimizer) -> list[str]:
    """Paths of the parameters that the optimizer has every slot of."""
    slots = set(optimizer.state_slots)
    return [
        parameter.path
        for parameter in model.weights
        if parameter.path in optimizer.state and slots <= optimizer.state[parameter.path].keys()
    ]


def compile_config(model: Model) -> dict[str, Any] | None:
    """The optimizer, the number of its steps, loss, metrics, backend and precision; None where there is none."""
    optimizer = model.optimizer
    if optimizer is None:
        return None
    heads = model._judged()
    several = len(heads) > 1
    losses_of = [None if head.loss is None else _serialized_loss(head.loss) for head in heads]
    kinds = {
        kind: [[_serialized_metric(metric) for metric in getattr(head, kind)] for head in heads]
        for kind in ("metrics", "weighted_metrics")
    }
    weights_of = {"loss_weights": [head.weight for head in heads]} if several else {}
    return {
        "optimizer": serialize(optimizer, optimizers.NAMES),
        "iterations": optimizer.iterations,
        "state": _paths_with_state(model, optimizer),
        "loss": losses_of if several else losses_of[0],
        **{kind: found if several else found[0] for kind, found in kinds.items()},
        **weights_of,
        "backend": model._backend,
        "precision": model._precision,
    }


def _serialized_loss(loss: Loss) -> dict[str, Any] | None:
    if isinstance(loss, FunctionLoss):
        return loss.get_config()
    return serialize(loss, losses.NAMES)


def _serialized_metric(metric: Metric) -> dict[str, Any] | None:
    if type(metric) is metrics.MeanMetricWrapper:
        return metric.get_config()
    return serialize(metric, metrics.CONFIG_NAMES)


def backup(model: Model) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays and the document of what training has made of a model: weights, the optimizer's state and rate.

    Parameters go by their numbers, since a model that is made again may have other names.
    """
    optimizer = model._compiled_optimizer
    numbers = {parameter.path: number for number, parameter in enumerate(model.weights)}
    trained = [numbers[path] for path in _paths_with_state(model, optimizer)]
    arrays = _weight_arrays(model)
    for number in trained:
        state = optimizer.state[model.weights[number].path]
        arrays.update((_slot_name(str(number), slot), state[slot]) for slot in optimizer.state_slots)
    return arrays, {
        "class_name": _BACKUP,
        "optimizer": type(optimizer).__name__,
        "learning_rate": None if optimizer.schedule is not None else float(optimizer.learning_rate),
        "iterations": optimizer.iterations,
        "state": trained,
    }


# ---------------------------------------------------------------------------------------------------- from a file


@dataclass(frozen=True)
class Compiled:
    """How a file says that its model was compiled; the optimizer has its state."""

    optimizer: Optimizer
    loss: Any
    metrics: list[Any]
    weighted_metrics: list[Any]
    loss_weights: list[float] | None
    backend: str
    precision: str | None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The first arguments of ``compile``."""
        return self.optimizer, self.loss, self.metrics, self.weighted_metrics, self.loss_weights


def restored(
    makes: Makes, document: Mapping[str, Any], arrays: Mapping[str, Array], with_compile: bool = True
) -> tuple[Model, Compiled | None]:
    """The model that a document describes, not compiled yet, and how it was; its parameters are ``arrays`` themselves.

    Raises one of ``UNFIT`` where the document describes no model, or not one of these arrays.
    """
    unused = dict(arrays)
    with seeds.untouched():  # making initializers draws seeds: that must not shift what is drawn later
        model = _restored_model(makes, document, unused)
    config = _entry(document, "compile", dict, type(None))
    compiled = _restored_compile(model, config, unused) if with_compile and config is not None else None
    # without ``with_compile`` nobody asks for the optimizer's state; fastnn 0.1 wrote that of other models too
    ours = [_slot_name(parameter.path, "") for parameter in model.weights] if compiled is not None else []
    for name in unused:
        if not name.startswith(_STATE) or name.startswith(tuple(ours)):
            raise ValueError(f"{name}: got an array of which the description says nothing")
    return model, compiled


def take_backup(model: Model, document: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Take over what ``backup`` gave; one of ``UNFIT``, and nothing is changed, where it is not one of such a model."""
    optimizer, unused = model._compiled_optimizer, dict(arrays)
    checks.one_of("class_name", document.get("class_name"), (_BACKUP,))
    checks.one_of("optimizer", document.get("optimizer"), (type(optimizer).__name__,))
    iterations = checks.integer("iterations", document.get("iterations"), 0, _MOST_STEPS)
    rate = document.get("learning_rate")
    if (rate is None) != (optimizer.schedule is not None):
        raise ValueError("learning_rate: got a schedule or a number, where the optimizer has the other")
    rate = None if rate is None else checks.real("learning_rate", rate, minimum=0)
    state = {}
    for entry in _entry(document, "state", list):
        number = checks.integer("state", entry, 0, len(model.weights) - 1)
        parameter = model.weights[number]
        state[parameter.path] = {
            slot: _taken(unused, _slot_name(str(number), slot), parameter.shape, parameter.dtype)
            for slot in optimizer.state_slots
        }
    with held():
        assign_all(model.weights, weights(arrays))
        if rate is not None:
            optimizer.learning_rate = rate
        optimizer.iterations, optimizer.state = iterations, state


def weights(arrays: Mapping[str, Array]) -> list[Array]:
    """The arrays of the parameters, in the order in which they were saved."""
    names = [name for name in arrays if name.startswith(_WEIGHTS)]
    # the number in the name has four digits, or more: a longer one comes later
    return [arrays[name] for name in sorted(names, key=lambda name: (name.find("/", len(_WEIGHTS)), name))]


def _restored_model(makes: Makes, document: Mapping[str, Any], unused: dict[str, Array]) -> Model:
    """The built model, whose weights are taken out of ``unused``."""
    known = {**custom_objects(), **makes}
    kind = checks.one_of("class_name", document.get("class_name"), [name for name in known if name not in layers.NAMES])
    config = _entry(document, "config", dict)
    names: dict[str, str] = {}
    for name in unused:
        if name.startswith(_WEIGHTS):
            names.setdefault(name.removeprefix(_WEIGHTS).partition("/")[2], name)
    taken: set[str] = set()

    def supply(layer: Any, shape: Any) -> list[Array]:
        values = []
        for name, wanted in layer.parameter_shapes(shape).items():
            path = f"{layer.name}/{name}"
            found = next((names[each] for each in paths_within(path) if each in names), _weight_name(len(taken), path))
            values.append(_taken(unused, found, wanted, layer.dtype))
            taken.add(found)
            check_finite(path, values[-1], values[-1].dtype)
        return values

    with supplied(supply):
        model = _of_user(known[kind], config, document) if "build" in document else _made(known[kind], makes, config)
    by_number = dict(enumerate(sorted(names.values(), key=lambda name: (name.find("/", len(_WEIGHTS)), name))))
    for number, parameter in enumerate(model.weights):
        name = by_number.get(number, _weight_name(number, parameter.path))
        if name not in taken:  # of a class of the user's, which has drawn it, under any name
            value = _taken(unused, name, parameter.shape, parameter.dtype)
            check_finite(parameter.path, value, value.dtype)
            parameter.value = value
            parameter.path = name.removeprefix(_WEIGHTS).partition("/")[2]
    return model


def _of_user(make: Any, config: Mapping[str, Any], document: Mapping[str, Any]) -> Model:
    """A model of a class of the user's, built for the inputs that it was built for."""
    with by_user():
        model: Model = make.from_config(config)
    structure = _entry(document, "build", dict, list)
    if isinstance(structure, dict):
        model.build({name: (None, *sample_shape("build", shape)) for name, shape in structure.items()})
    elif any(isinstance(each, list) for each in structure):
        model.build([(None, *sample_shape("build", shape)) for shape in structure])
    else:
        model.build((None, *sample_shape("build", structure)))
    return model


def _made(make: Any, makes: Makes, config: Mapping[str, Any]) -> Model:
    """A model of a description, its own entries checked."""
    stack = _entry(config, "layers", list)
    if "inputs" in config:
        try:
            model: Model = make.from_config(config)
        except (AttributeError, IndexError, RecursionError) as error:
            raise ValueError(f"config: got one that no graph of layers can be made of ({error})") from error
        return model
    inputs: BatchShape = (None, *open_shape("input_shape", _entry(config, "input_shape", list)))
    model = make([deserialize("layers", entry, makes) for entry in stack], _entry(config, "name", str))
    model.build(inputs)
    if not model.built:
        raise ValueError("layers: got an InputLayer alone, wants layers on top of it")
    return model


def _restored_compile(model: Model, config: Mapping[str, Any], unused: dict[str, Array]) -> Compiled:
    """How the model was compiled; the optimizer's state is taken out of ``unused``."""
    optimizer = deserialize("optimizer", _entry(config, "optimizer", dict), optimizers.NAMES)
    optimizer.iterations = checks.integer("iterations", config.get("iterations"), 0, _MOST_STEPS)
    values = {parameter.path: parameter.value for parameter in model.weights}
    for path in _named_with_state(config, optimizer.state_slots, values, unused):
        shape, dtype = values[path].shape, values[path].dtype
        optimizer.state[path] = {
            slot: _taken(unused, _slot_name(path, slot), shape, dtype) for slot in optimizer.state_slots
        }
    loss = _entry(config, "loss", dict, list, type(None))
    several = isinstance(loss, list)
    found_loss = [_restored_loss(entry) for entry in loss] if several else _restored_loss(loss)
    precision = config.get("precision")
    if precision is not None:
        checks.one_of("precision", precision, (str(model.compute_dtype), *ROUNDED, "auto"))
    found = {}
    for kind in ("metrics", "weighted_metrics"):
        entries = _entry(config, kind, list)
        found[kind] = (
            [_restored_metrics(kind, each) for each in entries] if several else _restored_metrics(kind, entries)
        )
    return Compiled(
        optimizer,
        found_loss,
        found["metrics"],
        found["weighted_metrics"],
        _entry(config, "loss_weights", list) if several else None,
        checks.one_of("backend", config.get("backend"), ("auto", *backends.NAMES)),
        precision,
    )


def _restored_loss(document: Any) -> Loss | None:
    return None if document is None else deserialize("loss", document, losses.NAMES)


def _restored_metrics(kind: str, entries: Any) -> list[Metric]:
    return [deserialize(kind, entry, metrics.CONFIG_NAMES) for entry in entries]


def _named_with_state(
    config: Mapping[str, Any], slots: Iterable[str], paths: Iterable[str], unused: Container[str]
) -> list[str]:
    """Paths of the parameters that the file has the optimizer's state of."""
    if "state" not in config:  # fastnn 0.1 did not name them
        return [path for path in paths if any(_slot_name(path, slot) in unused for slot in slots)]
    return [checks.one_of("state", path, paths) for path in _entry(config, "state", list)]


def _entry(document: Mapping[str, Any], name: str, *kinds: type) -> Any:
    """The entry ``name`` of a document; ValueError unless it is there and of one of ``kinds``."""
    value = document.get(name, ...)
    if not isinstance(value, kinds):
        got = "nothing" if value is ... else checks.describe(value)
        raise ValueError(f"{name}: got {got}, wants {' or '.join(_KINDS[kind] for kind in kinds)}")
    return value


def _taken(unused: dict[str, Array], name: str, shape: Shape, dtype: Any) -> Array:
    """The array of that name, taken out of ``unused``; ValueError unless of this shape and dtype."""
    array = unused.pop(name, None)
    if array is None or array.shape != shape or array.dtype != dtype:
        got = "no such array" if array is None else checks.describe(array)
        raise ValueError(f"{name}: got {got}, wants an array of shape {shape} and dtype {dtype}")
    return array


def _weight_name(number: int, path: str) -> str:
    """Name of a parameter's array in a file."""
    return f"{_WEIGHTS}{number:04d}/{path}"


def _slot_name(path: str, slot: str) -> str:
    """Name in a file of an array of the optimizer's state."""
    return f"{_STATE}{path}/{slot}"
