"""Layers that are written as ``call(inputs)`` over ``fastnn.ops`` and other layers: their gradients are derived.

What a call computes is followed by the tape that ``fastnn.gradients`` reads (``fastnn.differentiation``). Inside of it
the layer's weights stand for what is followed, and other layers are single calls with passes of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks, ops, tape
from fastnn.differentiation import joined, vjp
from fastnn.engine import penalties
from fastnn.engine.protocols import Array, Draw, Training
from fastnn.engine.wiring import each
from fastnn.kernels.contexts import setting
from fastnn.kernels.interrupts import held
from fastnn.tape import Followed, Traced

if TYPE_CHECKING:
    from fastnn.layers.base import Layer, Operation, Parameter
    from fastnn.layers.symbols import BatchShape

# Rows that a call is tried with where nothing but the shape of its outputs is wanted, and sizes in place of unknown
# ones: what differs between outputs of the two is unknown, too.
_TRIED_WITH, _UNKNOWN = 2, (61, 67)


@dataclass
class _Inside:
    """A layer's call that runs: what it was told of training, its layers that have drawn masks, masks of sequences.

    Masks are by the arrays that they are of. ``indices`` are those that its layers want of its own inputs.
    """

    training: Training
    inputs: Sequence[Any] = ()
    drawn: int = 0
    masks: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    indices: dict[int, tuple[int, str]] = field(default_factory=dict)

    def mask_of(self, array: Any) -> Any:
        """Which steps of an array count; None where all do, or nobody knows."""
        return self.masks.get(id(array), (None, None))[1]


# In this context (thread or task) the innermost call; None outside of any.
_inside: ContextVar[_Inside | None] = ContextVar("fastnn_inside", default=None)


# Whether gradients are wanted of the call at hand, in training or not.
_slopes_wanted: ContextVar[bool] = ContextVar("fastnn_slopes_wanted", default=False)


def inside() -> bool:
    """Whether this runs inside of a layer's call."""
    return _inside.get() is not None


def forward(layer: Layer, x: Any, training: Training, mask: Any = None) -> tuple[Any, Any]:
    """What the layer's ``call`` gives for x, an array or a list of such, and what ``backward`` takes."""
    if not (training or _slopes_wanted.get()):
        return _result(layer, x, training, mask), None
    arrays, listed = ([*x], True) if isinstance(x, (list, tuple)) else ([x], False)
    learned = [parameter for parameter in layer.parameters if parameter.trainable]
    floats = [place for place, array in enumerate(arrays) if array.dtype.kind == "f"]
    several = False

    def run(*followed: Any) -> Any:
        nonlocal several
        given = [*arrays]
        for place, array in zip(floats, followed, strict=False):
            given[place] = array
        own: list[Any] = []
        with penalties.collected_in(own), tape.in_place_of(learned, followed[len(floats) :]):
            y = _result(layer, given if listed else given[0], training, mask)
        several = isinstance(y, tuple)
        return (penalties.summed(own) if own else None, *each(y))

    (penalty, *found), pull = vjp(run, [*(arrays[place] for place in floats), *(p.value for p in learned)])
    if penalty is not None:
        penalties.add([penalty])
    return tuple(found) if several else found[0], (pull, floats, arrays, listed, learned)


def backward(layer: Layer, dy: Any, kept: Any, need_dx: bool = True) -> tuple[Any, Sequence[Any]]:
    """From dL/dy: dL/dx, None where it is not needed, and the gradients of the parameters, None where not trained."""
    pull, floats, arrays, listed, learned = kept
    slopes = pull([penalties.factor(), *each(dy)], 0 if need_dx else len(floats))
    dx: list[Any] = [None] * len(arrays)
    for place, slope in zip(floats if need_dx else (), slopes, strict=False):
        dx[place] = tape.calculate("zeros", x=arrays[place]) if slope is None else slope
    found = dict(zip(map(id, learned), slopes[len(floats) :], strict=True))
    gradients = [
        None if id(p) not in found else tape.calculate("zeros", x=p.value) if found[id(p)] is None else found[id(p)]
        for p in layer.parameters
    ]
    return dx if listed else dx[0], gradients


def _result(layer: Layer, x: Any, training: Training, mask: Any = None, state: _Inside | None = None) -> Any:
    """What ``call`` returns, checked: an array, or a tuple of such."""
    options = {"training": training} if layer._takes_training else {}
    several = len(layer._inputs) > 1
    if layer.takes_mask:
        options["mask"] = mask[0] if several and isinstance(mask, list) else mask
    here = state or _Inside(training)
    here.inputs = x if isinstance(x, (list, tuple)) else [x]
    for array, of_array in zip(here.inputs, mask if isinstance(mask, list) else [mask], strict=False):
        if of_array is not None:
            here.masks[id(array)] = array, of_array
    with setting(_inside, here):
        result = layer.call(*x, **options) if several else layer.call(x, **options)  # type: ignore[attr-defined]
    results = [y.operand if isinstance(y, tape.Held) else y for y in result] if _several(result) else [result]
    for y in results:
        if not (isinstance(y, Followed) or hasattr(y, "dtype")) or not y.ndim:
            raise TypeError(f"{layer.name}: call returned {checks.describe(y)}, wants an array made by fastnn.ops")
    return tuple(results) if _several(result) else results[0]


def _several(result: Any) -> bool:
    return isinstance(result, (list, tuple))


# Whether a layer is called on zeros, to find the shape of what it gives; and what stands for unknown sizes then.
_tried: ContextVar[bool] = ContextVar("fastnn_tried", default=False)
_stands_in: ContextVar[int | None] = ContextVar("fastnn_stands_in", default=None)


def is_tried() -> bool:
    """Whether this call is to leave nothing: it is made to find the shape of what it gives."""
    return _tried.get()


def output_shape(layer: Layer, input_shape: Any) -> Any:
    """Shape of what ``call`` gives for inputs of a shape: it is tried on zeros, in evaluation."""
    found, _ = tried(layer, input_shape)
    return found


def tried(layer: Layer, input_shape: Any) -> tuple[Any, Mapping[int, tuple[int, str]]]:
    """The same, and of inputs that must be row numbers, by place, how many there are and the layer that wants them."""
    listed = isinstance(input_shape, list)
    shapes = input_shape if listed else [input_shape]
    if steps_states(layer):
        return (shapes[0][0], output_size(layer)), {}
    if any(None in shape[1:] for shape in shapes):
        return _tried_with_several(layer, shapes, listed)
    zeros = [np.zeros((_TRIED_WITH, *shape[1:]), layer.dtype or "float32") for shape in shapes]
    here = _Inside(False)
    with np.errstate(all="ignore"), penalties.collected_in([]), setting(_tried, True):
        y = _result(layer, zeros if listed else zeros[0], False, [None] * len(shapes) if listed else None, here)
    found: list[BatchShape] = [(None, *array.shape[1:]) for array in each(y)]
    return (found if isinstance(y, tuple) else found[0]), here.indices


def _tried_with_several(layer: Layer, shapes: Sequence[Any], listed: bool) -> tuple[Any, Mapping[int, tuple[int, str]]]:
    """The same for shapes with unknown sizes."""
    found = []
    for size in _UNKNOWN:
        known = [tuple(size if each is None else each for each in shape[1:]) for shape in shapes]
        try:
            with setting(_stands_in, size):
                made, indices = tried(layer, [(None, *one) for one in known] if listed else (None, *known[0]))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{layer.name}: got input shape {[*shapes] if listed else shapes[0]}, wants known sizes, or a layer "
                f"that defines compute_output_shape(input_shape): with {size} in place of None, {error}"
            ) from None
        found.append(made if isinstance(made, list) else [made])
    if any(len(one) != len(other) for one, other in zip(*found, strict=True)):
        raise ValueError(f"{layer.name}: got outputs of {found} axes for unknown sizes, wants as many for all")
    together = [
        tuple(one if one == other else None for one, other in zip(*each, strict=True))
        for each in zip(*found, strict=True)
    ]
    return (together if isinstance(made, list) else together[0]), indices


def steps_states(layer: Any) -> bool:
    """Whether a layer is a cell: its ``call(inputs, states)`` is one step, and gives (outputs, states)."""
    return hasattr(layer, "state_size")


def output_size(cell: Any) -> int:
    """How wide the outputs of a cell are: it says so, or they are as its first state."""
    size = getattr(cell, "output_size", None)
    while size is None or isinstance(size, (list, tuple)):
        size = cell.state_size if size is None else size[0]
    return int(size)


def learning(operation: Operation) -> bool:
    """Whether gradients are wanted of an operation's weights."""
    return any(isinstance(parameter.operand, Traced) for parameter in operation.weights)


def note_indices(operation: Operation, array: Any, count: int) -> None:
    """Say of an array that a layer takes as row numbers, where it is an input of the call at hand."""
    here = _inside.get()
    if here is not None:
        for place, given in enumerate(here.inputs):
            if given is array:
                known, _ = here.indices.get(place, (count, ""))
                here.indices[place] = min(known, count), operation.name


def followed(operation: Operation, x: Any, training: Any, mask: Any = None) -> Any:
    """What a layer or a model gives inside of another one's call, or where its weights or x are followed.

    x is an array or a list of such. Masks of sequences go from layer to layer as in graphs of layers.
    """
    given, listed = ([*x], True) if isinstance(x, (list, tuple)) else ([x], False)
    values = [array.value if isinstance(array, Traced) else array for array in given]
    shapes = [_known_shape(array.shape) for array in values]
    operation.build(shapes if listed else shapes[0])
    here = _inside.get() or _Inside(False)
    masks = [here.mask_of(array) for array in given] if mask is None else mask if listed else [mask]
    sources = {f"x{place}": array for place, array in enumerate(given) if isinstance(array, Traced)}
    operands = {f"w{place}": parameter.operand for place, parameter in enumerate(operation.weights)}
    learned = {name: operand for name, operand in operands.items() if isinstance(operand, Traced)}
    charged: list[Any] = []
    with penalties.collected_in(charged), setting(_slopes_wanted, bool(sources or learned)):
        y, back = _passed(operation, values, listed, _draw(training), masks if listed else masks[0])
    results, several = [*each(y)], isinstance(y, tuple)

    def pull(slopes: Any) -> Mapping[str, Any]:
        dys, factor = slopes[: len(results)], slopes[len(results)] if charged else None
        with penalties.counting(factor):
            dx, gradients = back(tuple(dys) if several else dys[0], bool(sources))
        found = {f"x{place}": slope for place, slope in enumerate(dx if listed else [dx])}
        found |= {f"w{place}": slope for place, slope in enumerate(gradients)}
        return {name: found[name] for name in (*sources, *learned) if found[name] is not None}

    together = (*results, *([penalties.summed(charged)] if charged else []))
    if sources or learned:
        together = joined(
            together, {**sources, **learned}, pull, operation=operation, x=tuple(values) if listed else values[0]
        )
    if charged:
        _charge(operation, together[-1])
    made = operation.compute_mask(values if listed else values[0], masks if listed else masks[0])
    if made is not None:
        here.masks |= {id(array): (array, made) for array in together[: len(results)]}
    return tuple(together[: len(results)]) if several else together[0]


def _known_shape(shape: Sequence[int]) -> BatchShape:
    """A shape that a layer is built for: None for the batch's size, and for what stands for an unknown one."""
    stands_in = _stands_in.get()
    return (None, *(None if size == stands_in else size for size in shape[1:-1]), *shape[1:][-1:])


def _passed(operation: Operation, values: Sequence[Any], listed: bool, training: Training, mask: Any) -> Any:
    """(y, ``back(dy, need_dx) -> (dx, gradients)``) of one call, with the penalty on its outputs if there is one."""
    options = {"mask": mask} if operation.takes_mask else {}
    y, kept = operation.forward([*values] if listed else values[0], training, **options)
    penalty = operation.activity_regularizer
    if penalty is None:
        return y, lambda dy, need_dx: operation.backward(dy, kept, need_dx=need_dx)
    value, slope = penalty.value_and_gradient(y)
    share = 1.0 / (y.shape[0] or 1)
    penalties.add([value * share])

    def back(dy: Any, need_dx: bool) -> Any:
        own = tape.calculate("scaled", x=slope, factor=share * penalties.factor())
        return operation.backward(own if dy is None else ops.add(dy, own), kept, need_dx=need_dx)

    return y, back


def _charge(operation: Operation, penalty: Any) -> None:
    """Hand a penalty on, or keep it for ``losses`` where nobody collects such."""
    if penalties.are_collected():
        penalties.add([penalty])
    else:
        operation.added_losses = [penalty]


def _draw(training: Any) -> Training:
    """What a layer inside of another one's call is told of training: what it was given, else what that one was.

    Each such layer draws masks of its own.
    """
    here = _inside.get()
    chosen = training if training is not None or here is None else here.training
    if not isinstance(chosen, Draw) or here is None:
        return bool(chosen)
    here.drawn += 1
    return chosen._replace(seed=(chosen.seed + ((here.drawn + 1) << 40)) % 2**63)


def call_takes(kind: type[Layer], argument: str) -> bool:
    """Whether a class's ``call`` has an argument ``training``, say."""
    return argument in inspect.signature(kind.call).parameters  # type: ignore[attr-defined]


def inputs_of(kind: type[Layer]) -> tuple[str, ...]:
    """The names of the inputs that a class's ``call`` wants: of its arguments without a default; a cell wants one."""
    _, *arguments = inspect.signature(kind.call).parameters.values()  # type: ignore[attr-defined]
    wanted = [each for each in arguments if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD]
    names = tuple(each.name for each in wanted if each.name not in ("training", "mask"))
    return names[:1] if "states" in names else names


def call_of_several(self: Layer, *given: Any, training: Any = None, mask: Any = None, **named: Any) -> Any:
    """The ``__call__`` of a layer whose ``call`` wants several inputs: these, or a list of them."""
    from fastnn.layers.base import Layer

    names = self._inputs
    inputs = [*given[0]] if len(given) == 1 and isinstance(given[0], (list, tuple)) else [*given]
    inputs += [named.pop(name) for name in names[len(inputs) :] if name in named]
    if len(inputs) != len(names) or named:
        got = [*map(checks.describe, inputs), *(f"{name}={checks.describe(value)}" for name, value in named.items())]
        raise TypeError(f"{self.name}: got {', '.join(got) or 'nothing'}, wants arrays {', '.join(names)}")
    return Layer.__call__(self, inputs, training, mask)


def own_mask(compute_mask: Callable[..., Any]) -> Callable[..., Any]:
    """A user's ``compute_mask``, which may give truth, as one that gives the numbers that ops take."""

    @wraps(compute_mask)
    def wrapped(self: Layer, *given: Any, **named: Any) -> Any:
        made = compute_mask(self, *given, **named)
        return ops.cast(made, self.dtype or "float32") if getattr(made, "dtype", None) == "bool" else made

    return wrapped


def own_build(build: Callable[..., None], base: Callable[..., None]) -> Callable[..., None]:
    """A user's ``build(self, input_shape)`` as one that checks and ends as the base's does, whatever it calls."""

    @wraps(build)
    def wrapped(self: Layer, input_shape: Any, values: Sequence[Array] | None = None) -> None:
        if self.is_building:
            build(self, input_shape)
        else:
            base(self, input_shape, values)

    return wrapped


def inner(layer: Operation) -> list[Operation]:
    """The layers and models among a layer's attributes, in lists and dicts too, in their order."""
    found: dict[int, Operation] = {}
    for name, value in vars(layer).items():
        if name not in ("nodes", "parameters", "added_losses", "_body"):
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
