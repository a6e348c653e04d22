"""Keras's files, read and written: whole models, ``.keras``, and weights for an architecture, ``.weights.h5``.

A file of weights has a group for each layer, by its class and how many of that class came before, and in it arrays by
number; what is inside of a layer has groups by the names of attributes. A ``.keras`` file, a zip archive, has a
description of the layers beside it (``keras_configs``, ``keras_descriptions``). Nothing is unpickled, and no code is
run. Needs h5py (the extra ``keras``).
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from fastnn import checks, saving
from fastnn.engine.data import check_finite
from fastnn.engine.protocols import Array
from fastnn.errors import installing
from fastnn.kernels.formulas.steps import product_of_momenta
from fastnn.layers.attention import MultiHeadAttention
from fastnn.layers.base import Operation, Parameter
from fastnn.layers.normalization import Normalization
from fastnn.models import keras_descriptions

if TYPE_CHECKING:
    from fastnn.models.base import Model
    from fastnn.optimizers import Optimizer

# The members of a .keras file that have the description and the weights.
_DESCRIPTION, _WEIGHTS = "config.json", "model.weights.h5"
# The oldest Keras whose form of a file this is.
_VERSION = "3.0.0"


def is_keras_file(filepath: Any) -> bool:
    """Whether the name is that of a file which Keras writes."""
    return PurePath(str(filepath)).suffix in (".h5", ".hdf5", ".keras")


def described(filepath: Any) -> Any:
    """The description of the model in a ``.keras`` file; ValueError where there is none that can be read."""
    path = Path(filepath)
    if path.suffix != ".keras":
        wants = "a .keras file; load_weights reads weights alone"
        raise ValueError(f"filepath: got {str(filepath)!r}, an older format of Keras's, wants {wants}")
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(_DESCRIPTION))
    except (KeyError, RecursionError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"filepath: got {str(filepath)!r}, wants a file of Keras 3 ({error})") from None


def rooms(filepath: Any, kinds: Collection[type[Any]]) -> Callable[[Any, Any], Sequence[Array] | None]:
    """What gives layers of these classes room for their weights; ValueError for more than the file could fill."""
    with zipfile.ZipFile(filepath) as archive:
        size = archive.getinfo(_WEIGHTS).file_size

    def supply(layer: Any, input_shape: Any) -> Sequence[Array] | None:
        if type(layer) not in kinds or _says_its_weights(layer):
            return None
        shapes, dtype = layer.parameter_shapes(input_shape).values(), np.dtype(layer.dtype or "float32")
        if sum(map(math.prod, shapes)) * dtype.itemsize > size:
            raise ValueError(f"{layer.name}: got weights of shapes {[*shapes]}, more than the file's {size} bytes")
        return [np.zeros(shape, dtype) for shape in shapes]

    return supply


def weights_of(filepath: Any, model: Model) -> list[Array]:
    """The arrays of the model's weights, in their order.

    FileNotFoundError where there is no such file, ImportError without h5py, ValueError for a file of another kind or of
    another architecture.
    """
    h5py = _h5py()
    path = Path(filepath)
    content = path.read_bytes()
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(BytesIO(content)) as archive:
                content = archive.read(_WEIGHTS)
        with h5py.File(BytesIO(content), "r") as file:
            found = {
                id(parameter): array
                for place in _places(model)
                for parameter, array in zip(place.parameters, _arrays(file, place), strict=True)
            }
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"filepath: got {str(filepath)!r}, wants weights as Keras 3 writes them ({error})") from None
    return [found.get(id(parameter), parameter.value) for parameter in model.weights]


def contents(model: Model, weights_only: bool = False) -> Callable[[BinaryIO], object]:
    """What writes a ``.keras`` file of a stack or a graph of layers, with its optimizer's state, or ``.weights.h5``.

    ImportError without h5py, ValueError for a model that such a file cannot hold and weights that are not finite.
    """
    model._require_built("save_weights" if weights_only else "save")
    document = None if weights_only else saving.encode(keras_descriptions.description(model))
    weights = BytesIO()
    _write_weights(weights, model, with_state=document is not None)
    if document is None:
        return lambda file: file.write(weights.getbuffer())
    metadata = {"keras_version": _VERSION, "date_saved": time.strftime("%Y-%m-%d@%H:%M:%S")}

    def fill(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("metadata.json", json.dumps(metadata))
            archive.writestr(_DESCRIPTION, document)
            archive.writestr(_WEIGHTS, weights.getbuffer())

    return fill


def _write_weights(into: BytesIO, model: Model, with_state: bool) -> None:
    """The groups of all layers, and that of the optimizer's state if it has one."""
    for parameter in model.weights:
        check_finite(parameter.path, parameter.value, parameter.dtype)
    with _h5py().File(into, "w") as file:
        for place in _places(model):
            counts = [np.int32(0)] * place.counts
            _write_group(file, f"{place.path}vars", place.name, [*(each.value for each in place.parameters), *counts])
        if with_state and model.optimizer is not None:
            _write_group(file, "optimizer/vars", model.optimizer.name, _state_of(model.optimizer, model))


def _write_group(file: Any, path: str, name: str, arrays: Iterable[Any]) -> None:
    group = file.create_group(path)
    group.attrs["name"] = name
    for number, array in enumerate(arrays):
        group[str(number)] = array


def _h5py() -> Any:
    if importlib.util.find_spec("h5py") is None:
        raise ImportError(f"Keras's files need h5py, which is not installed: {installing('keras')}")
    return importlib.import_module("h5py")


# The arrays that an optimizer keeps of each weight, as a file has them: first all of a group, weight by weight.
_GROUPS = {
    "Adam": (("m", "v"), ("v_max",)),
    "AdamW": (("m", "v"), ("v_max",)),
    "RMSprop": (("mean_square",), ("velocity",), ("mean",)),
}
# Numbers that Keras keeps behind them, which fastnn makes of the number of steps.
_BEHIND: dict[str, Callable[[Any], Sequence[float]]] = {
    "Nadam": lambda optimizer: [product_of_momenta(optimizer.beta_1, optimizer.iterations)],
}


def take_state(filepath: Any, optimizer: Optimizer, trained: Sequence[Parameter]) -> None:
    """Give an optimizer the number of its steps and the state that a ``.keras`` file has for these weights.

    ValueError, and nothing is changed, where the file has another one's.
    """
    with zipfile.ZipFile(filepath) as archive, _h5py().File(BytesIO(archive.read(_WEIGHTS)), "r") as file:
        entry = file.get("optimizer", {}).get("vars", {})
        arrays = [np.asarray(entry[number]) for number in sorted(entry, key=int)]
    scalars = 1 + (optimizer.schedule is None)  # the number of steps, and the learning rate, which the config has, too
    steps = checks.integer("iterations", int(arrays[0]), 0) if arrays else 0
    if len(arrays) <= scalars and not (steps and optimizer.state_slots):
        optimizer.iterations = steps
        return
    wanted = _slots(optimizer, trained)
    found = arrays[scalars : scalars + len(wanted)]
    if [array.shape for array in found] != [parameter.shape for parameter, _ in wanted]:
        raise ValueError(f"optimizer: got a state of {len(arrays)} arrays, which is none of {type(optimizer).__name__}")
    state: dict[str, dict[str, Array]] = {
        parameter.path: dict.fromkeys(optimizer.state_slots, np.empty(0)) for parameter in trained
    }
    for (parameter, slot), array in zip(wanted, found, strict=True):
        state[parameter.path][slot] = np.array(array, parameter.dtype, order="C")
    optimizer.iterations, optimizer.state = steps, state


def _state_of(optimizer: Optimizer, model: Model) -> list[Any]:
    """What a file has of an optimizer: the number of steps, the learning rate, the slots of every weight, the rest."""
    rate = [] if optimizer.schedule is not None else [np.float32(optimizer.learning_rate)]
    slots = _slots(optimizer, model.trainable_weights)
    stepped = all(slot in optimizer.state.get(parameter.path, ()) for parameter, slot in slots)
    if not stepped:
        return [np.int64(optimizer.iterations), *rate]
    behind = _BEHIND.get(type(optimizer).__name__, lambda optimizer: ())
    state = [optimizer.state[parameter.path][slot] for parameter, slot in slots]
    return [np.int64(optimizer.iterations), *rate, *state, *map(np.float32, behind(optimizer))]


def _slots(optimizer: Optimizer, trained: Sequence[Parameter]) -> list[tuple[Parameter, str]]:
    """The state arrays of these weights, in a file's order."""
    groups = _GROUPS.get(type(optimizer).__name__, (optimizer.slots,))
    average = [slot for slot in optimizer.state_slots if slot not in optimizer.slots]
    return [
        (parameter, slot)
        for group in (average, *groups)
        for parameter in trained
        for slot in group
        if slot in optimizer.state_slots
    ]


# The layers of its own that Keras's MultiHeadAttention has its weights in.
_PROJECTIONS = {
    "query": "query_dense", "key": "key_dense", "value": "value_dense", "attention_output": "output_dense",
}  # fmt: skip


class _Place(NamedTuple):
    """Where a layer's own arrays are in a file, without those of what is inside of it.

    Behind them are so many counts that Keras keeps, and fastnn does not.
    """

    path: str
    name: str
    parameters: list[Parameter]
    counts: int = 0


def _places(holder: Any, path: str = "") -> Iterator[_Place]:
    """Those of a model or a layer and of all that is inside, by attributes as Keras has them."""
    inside = [*_inside(holder)]
    if _says_its_weights(holder):
        yield _Place(path, holder.name, [])
    elif isinstance(holder, Normalization):  # Keras counts the samples that it has seen
        yield _Place(path, holder.name, holder.parameters, counts=1)
    elif isinstance(holder, MultiHeadAttention):
        yield _Place(path, holder.name, [])
        for part, inner in _PROJECTIONS.items():
            own = [parameter for parameter in holder.parameters if parameter.name.startswith(f"{part}/")]
            yield _Place(f"{path}{inner}/", holder.name, own)
    else:
        below = {id(parameter) for _, each in inside for parameter in each.weights}
        yield _Place(path, holder.name, [parameter for parameter in holder.weights if id(parameter) not in below])
    for name, each in inside:
        yield from _places(each, f"{path}{name}/")


def _says_its_weights(layer: Any) -> bool:
    """Whether its config has the numbers that fastnn has as weights, too."""
    return isinstance(layer, Normalization) and layer.mean is not None


def _inside(holder: Any) -> Iterator[tuple[str, Operation]]:
    if hasattr(holder, "layers"):
        yield from _numbered("layers", holder.layers)
        return
    for name, value in vars(holder).items():
        if isinstance(value, Operation):
            yield name, value
        elif isinstance(value, list) and any(isinstance(each, Operation) for each in value):
            yield from _numbered(name, value)


def _numbered(name: str, several: Iterable[Any]) -> Iterator[tuple[str, Operation]]:
    """Those of a list: by their classes, and how many of that class came before."""
    counts: Counter[str] = Counter()
    for each in several:
        kind = _name_of(type(each))
        yield f"{name}/{kind}_{counts[kind]}" if counts[kind] else f"{name}/{kind}", each
        counts[kind] += 1


def _arrays(file: Any, place: _Place) -> list[Array]:
    """Those of a place; ValueError where the file has others."""
    if not place.parameters:
        return []
    group = file.get(f"{place.path}vars")
    if group is None:
        raise ValueError(f"{place.name}: got a file without {place.path!r}, wants one of the same architecture")
    arrays = [np.asarray(group[number]) for number in sorted(group, key=int)][: len(group) - place.counts]
    got, wanted = [array.shape for array in arrays], [parameter.shape for parameter in place.parameters]
    if got != wanted:
        raise ValueError(f"{place.name}: got arrays of shapes {got} in the file, wants {wanted}")
    return arrays


def _name_of(kind: type[Any]) -> str:
    """A class as Keras's files name it: ``Conv2D`` is conv2d, ``MaxPooling2D`` max_pooling2d, ``PReLU`` p_re_lu."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()
