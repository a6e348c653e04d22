"""Layers that are written as ``call(inputs)`` over ``fastnn.ops`` and other layers: their gradients are derived.

What a call computes is followed by the tape that ``fastnn.gradients`` reads (``fastnn.differentiation``). Inside of it
the layer's weights stand for what is followed, and other layers are single calls with passes of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks, tape
from fastnn.differentiation import joined, vjp
from fastnn.engine.protocols import Array, Draw, Training
from fastnn.engine.wiring import each
from fastnn.kernels.contexts import setting
from fastnn.kernels.interrupts import held
from fastnn.tape import Followed, Traced

if TYPE_CHECKING:
    from fastnn.layers.base import Layer, Operation, Parameter
    from fastnn.layers.symbols import BatchShape

# What the layer that is called in this context (thread or task) was told of training; None outside of any call.
_training: ContextVar[list[Training] | None] = ContextVar("fastnn_training", default=None)

# Rows that a call is tried with where nothing but the shape of its outputs is wanted.
_TRIED_WITH = 2


def inside() -> bool:
    """Whether this runs inside of a layer's call."""
    return _training.get() is not None


def forward(layer: Layer, x: Any, training: Training, mask: Any = None) -> tuple[Any, Any]:
    """What the layer's ``call`` gives for x, an array or a list of such, and what ``backward`` takes."""
    if not training:
        return _result(layer, x, training, mask), None
    arrays, listed = ([*x], True) if isinstance(x, (list, tuple)) else ([x], False)
    learned = [parameter for parameter in layer.parameters if parameter.trainable]
    floats = [place for place, array in enumerate(arrays) if array.dtype.kind == "f"]

    def run(*followed: Any) -> Any:
        given = [*arrays]
        for place, array in zip(floats, followed, strict=False):
            given[place] = array
        with tape.in_place_of(learned, followed[len(floats) :]):
            return _result(layer, given if listed else given[0], training, mask)

    y, pull = vjp(run, [*(arrays[place] for place in floats), *(parameter.value for parameter in learned)])
    return y, (pull, floats, len(arrays), listed, learned)


def backward(layer: Layer, dy: Any, kept: Any, need_dx: bool = True) -> tuple[Any, Sequence[Any]]:
    """From dL/dy: dL/dx, None where it is not needed, and the gradients of the parameters, None where not trained."""
    pull, floats, count, listed, learned = kept
    slopes = pull(each(dy), 0 if need_dx else len(floats))
    dx: list[Any] = [None] * count
    for place, slope in zip(floats, slopes, strict=False):
        dx[place] = slope
    found = dict(zip(map(id, learned), slopes[len(floats) :], strict=True))
    gradients = [
        None if id(p) not in found else tape.calculate("zeros", x=p.value) if found[id(p)] is None else found[id(p)]
        for p in layer.parameters
    ]
    return dx if listed else dx[0], gradients


def _result(layer: Layer, x: Any, training: Training, mask: Any = None) -> Any:
    """What ``call`` returns, checked: an array, or a tuple of such."""
    options: dict[str, Any] = {"training": training} if layer._takes_training else {}
    options |= {"mask": mask} if layer.takes_mask else {}
    with setting(_training, [training]):
        result = layer.call(x, **options)  # type: ignore[attr-defined]
    results = [y.operand if isinstance(y, tape.Held) else y for y in result] if _several(result) else [result]
    for y in results:
        if not (isinstance(y, Followed) or hasattr(y, "dtype")) or not y.ndim:
            raise TypeError(f"{layer.name}: call returned {checks.describe(y)}, wants an array made by fastnn.ops")
    return tuple(results) if _several(result) else results[0]


def _several(result: Any) -> bool:
    return isinstance(result, (list, tuple))


def output_shape(layer: Layer, input_shape: Any) -> Any:
    """Shape of what ``call`` gives for inputs of a shape: it is tried on zeros, in evaluation."""
    listed = isinstance(input_shape, list)
    shapes = input_shape if listed else [input_shape]
    if steps_states(layer):
        return (shapes[0][0], output_size(layer))
    if any(None in shape[1:] for shape in shapes):
        raise ValueError(
            f"{layer.name}: got input shape {input_shape}, wants known sizes, or a layer that defines "
            "compute_output_shape(input_shape)"
        )
    zeros = [np.zeros((_TRIED_WITH, *shape[1:]), layer.dtype or "float32") for shape in shapes]
    with np.errstate(all="ignore"):
        y = _result(layer, zeros if listed else zeros[0], False)
    found: list[BatchShape] = [(None, *array.shape[1:]) for array in each(y)]
    return found if isinstance(y, tuple) else found[0]


def steps_states(layer: Any) -> bool:
    """Whether a layer is a cell: its ``call(inputs, states)`` is one step, and gives (outputs, states)."""
    return hasattr(layer, "state_size")


def output_size(cell: Any) -> int:
    """How wide the outputs of a cell are: it says so, or they are as its first state."""
    size = getattr(cell, "output_size", None)
    while size is None or isinstance(size, (list, tuple)):
        size = cell.state_size if size is None else size[0]
    return int(size)


def followed(operation: Operation, x: Any, training: Any, mask: Any = None) -> Any:
    """What a layer or a model gives inside of another one's call, where x is followed, or an entry of the list x."""
    given = [*x] if isinstance(x, (list, tuple)) else [x]
    values = [array.value if isinstance(array, Traced) else array for array in given]
    shapes: list[BatchShape] = [(None, *array.shape[1:]) for array in values]
    listed = isinstance(x, (list, tuple))
    operation.build(shapes if listed else shapes[0])
    options = {"mask": mask} if getattr(operation, "takes_mask", False) else {}
    y, kept = operation.forward(values if listed else values[0], _draw(training), **options)
    sources = {f"x{place}": array for place, array in enumerate(given) if isinstance(array, Traced)}
    operands = {f"w{place}": parameter.operand for place, parameter in enumerate(operation.weights)}
    learned = {name: operand for name, operand in operands.items() if isinstance(operand, Traced)}

    def pull(dy: Any) -> Mapping[str, Any]:
        dx, gradients = operation.backward(dy, kept, need_dx=bool(sources))
        slopes = {f"x{place}": slope for place, slope in enumerate(dx if listed else [dx])}
        slopes |= {f"w{place}": slope for place, slope in enumerate(gradients)}
        return {name: slopes[name] for name in (*sources, *learned)}

    if not (sources or learned):
        return y
    return joined(y, {**sources, **learned}, pull, operation=operation, x=tuple(values) if listed else values[0])


def _draw(training: Any) -> Training:
    """What a layer inside of another one's call is told of training: what it was given, else what that one was.

    Each such layer draws masks of its own.
    """
    told = _training.get()
    inherited = told[0] if told else False
    chosen = inherited if training is None else training
    if not isinstance(chosen, Draw) or told is None:
        return bool(chosen)
    told.append(True)
    return chosen._replace(seed=(chosen.seed + (len(told) << 40)) % 2**63)


def call_takes(kind: type[Layer], argument: str) -> bool:
    """Whether a class's ``call`` has an argument ``training``, say."""
    return argument in inspect.signature(kind.call).parameters  # type: ignore[attr-defined]


def own_build(build: Callable[..., None], base: Callable[..., None]) -> Callable[..., None]:
    """A user's ``build(self, input_shape)`` as one that checks and ends as the base's does, whatever it calls."""

    @wraps(build)
    def wrapped(self: Layer, input_shape: Any, values: Sequence[Array] | None = None) -> None:
        if self.is_building:
            build(self, input_shape)
        else:
            base(self, input_shape, values)

    return wrapped


def inner(layer: Layer) -> list[Operation]:
    """The layers and models among a layer's attributes, in lists and dicts too, in their order."""
    found: dict[int, Operation] = {}
    for name, value in vars(layer).items():
        if name not in ("nodes", "parameters"):
            found |= {id(operation): operation for operation in _operations(value)}
    return [*found.values()]


def _operations(value: Any) -> Iterator[Operation]:
    if hasattr(value, "nodes") and hasattr(value, "avoid_names"):
        yield value
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _operations(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _operations(entry)


def collect(layer: Layer) -> None:
    """Count the parameters of a layer's inner layers among its own, under paths that begin with its name."""
    own = {id(parameter) for parameter in layer.parameters}
    for operation in inner(layer):
        for parameter in operation.weights:
            if id(parameter) not in own:
                own.add(id(parameter))
                with held():
                    parameter.path = f"{layer.name}/{parameter.path}"
                    layer.parameters.append(parameter)


def trained(parameters: Sequence[Parameter], trainable: bool) -> None:
    """Let parameters be trained that may be, or none."""
    for parameter in parameters:
        parameter.trainable = trainable and parameter.trainable
