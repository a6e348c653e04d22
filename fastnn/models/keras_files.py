"""Models out of files that Keras wrote, ``.keras``, and weights, of ``.weights.h5`` too, for such an architecture.

A file has a group for each layer, by its class and how many of that class came before, and in it arrays by number. A
``.keras`` file, a zip archive, has a description of the layers beside it (``keras_configs``). Nothing is unpickled, and
no code is run. Needs h5py (the extra ``keras``).
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from io import BytesIO
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.engine.protocols import Array
from fastnn.errors import installing
from fastnn.layers.base import Operation, Parameter

if TYPE_CHECKING:
    from fastnn.models.base import Model
    from fastnn.optimizers import Optimizer

# The members of a .keras file that have the description and the weights.
_DESCRIPTION, _WEIGHTS = "config.json", "model.weights.h5"


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
        if type(layer) not in kinds:
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
    if importlib.util.find_spec("h5py") is None:
        raise ImportError(f"Keras's files need h5py, which is not installed: {installing('keras')}")
    import h5py

    path = Path(filepath)
    content = path.read_bytes()
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(BytesIO(content)) as archive:
                content = archive.read(_WEIGHTS)
        with h5py.File(BytesIO(content), "r") as file:
            found = {id(parameter): array for parameter, array in _of_model(file, model)}
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"filepath: got {str(filepath)!r}, wants weights as Keras 3 writes them ({error})") from None
    return [found[id(parameter)] for parameter in model.weights]


# The arrays that an optimizer keeps of each weight, as a file has them: first all of a group, weight by weight.
_GROUPS = {
    "Adam": (("m", "v"), ("v_max",)),
    "AdamW": (("m", "v"), ("v_max",)),
    "RMSprop": (("mean_square",), ("velocity",), ("mean",)),
}


def take_state(filepath: Any, optimizer: Optimizer, trained: Sequence[Parameter]) -> None:
    """Give an optimizer the number of its steps and the state that a ``.keras`` file has for these weights.

    ValueError, and nothing is changed, where the file has another one's.
    """
    import h5py

    with zipfile.ZipFile(filepath) as archive, h5py.File(BytesIO(archive.read(_WEIGHTS)), "r") as file:
        entry = file.get("optimizer", {}).get("vars", {})
        arrays = [np.asarray(entry[number]) for number in sorted(entry, key=int)]
    scalars = 1 + (optimizer.schedule is None)  # the number of steps, and the learning rate, which the config has, too
    steps = checks.integer("iterations", int(arrays[0]), 0) if arrays else 0
    if len(arrays) <= scalars and not (steps and optimizer.state_slots):
        optimizer.iterations = steps
        return
    groups = _GROUPS.get(type(optimizer).__name__, (optimizer.slots,))
    average = [slot for slot in optimizer.state_slots if slot not in optimizer.slots]
    wanted = [
        (parameter, slot)
        for group in (average, *groups)
        for parameter in trained
        for slot in group
        if slot in optimizer.state_slots
    ]
    found = arrays[scalars : scalars + len(wanted)]
    if [array.shape for array in found] != [parameter.shape for parameter, _ in wanted]:
        raise ValueError(f"optimizer: got a state of {len(arrays)} arrays, which is none of {type(optimizer).__name__}")
    state: dict[str, dict[str, Array]] = {
        parameter.path: dict.fromkeys(optimizer.state_slots, np.empty(0)) for parameter in trained
    }
    for (parameter, slot), array in zip(wanted, found, strict=True):
        state[parameter.path][slot] = np.array(array, parameter.dtype, order="C")
    optimizer.iterations, optimizer.state = steps, state


def _of_model(group: Any, model: Model) -> Iterator[tuple[Any, Array]]:
    """Parameters of a model's layers with what a group has for them."""
    counts: Counter[str] = Counter()
    for layer in model.layers:
        kind = _name_of(type(layer))
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        if not layer.weights:
            continue
        entry = group["layers"].get(name)
        if entry is None:
            raise ValueError(f"{layer.name}: got a file without {name!r}, wants one of the same architecture")
        if hasattr(layer, "layers"):
            yield from _of_model(entry, layer)
        else:
            yield from _of_layer(entry, layer)


def _of_layer(entry: Any, layer: Operation) -> Iterator[tuple[Any, Array]]:
    arrays = [*_arrays(entry)]
    wanted = [parameter.shape for parameter in layer.weights]
    if [array.shape for array in arrays] != wanted:
        got = [array.shape for array in arrays]
        raise ValueError(f"{layer.name}: got arrays of shapes {got} in the file, wants {wanted}")
    yield from zip(layer.weights, arrays, strict=True)


def _arrays(entry: Any) -> Iterator[Array]:
    """A layer's own arrays by number, then those of what is inside of it, but for states of generators."""
    own = entry.get("vars", {})
    for number in sorted(own, key=int):
        yield np.asarray(own[number])
    inside = (name for name in entry if name not in ("vars", "seed_generator"))
    for name in sorted(inside, key=lambda name: (name.startswith("backward"), name)):
        yield from _arrays(entry[name])


def _name_of(kind: type[Any]) -> str:
    """A class as Keras's files name it: ``Conv2D`` is conv2d, ``MaxPooling2D`` max_pooling2d, ``PReLU`` p_re_lu."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()
