"""Functions of ``fastnn.ops`` in graphs of layers: a call with symbolic tensors among its arguments is a layer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from inspect import BoundArguments, signature
from typing import Any

import numpy as np

from fastnn import checks, ops
from fastnn.layers import symbols
from fastnn.layers.base import Layer, unique_name
from fastnn.layers.symbols import SymbolicTensor, tensors

# What a file holds in place of what JSON has not.
_INPUT, _SLICE, _ELLIPSIS = "input", "slice", "ellipsis"


class _Place:
    """Stands for one of the inputs among a call's arguments."""

    def __init__(self, number: int) -> None:
        self.number = number


class Function(Layer):
    """What the function ``op`` of ``fastnn.ops`` gives for the inputs, an array or a list of such.

    ``arguments``: all that it is called with, by name; {"input": 0} stands for the first of the inputs. Calls of such
    functions on what ``layers.Input`` and layers give make these layers.
    """

    def __init__(self, op: str, arguments: Mapping[str, Any], name: str | None = None, **options: Any) -> None:
        self.op = checks.one_of("op", op, vars(ops)["__all__"])
        self.arguments = _mapped(_read, checks.instance("arguments", arguments, Mapping, "a mapping by name"))
        super().__init__(name=name or unique_name(op), **options)
        self._kind = op if name is None else None

    def call(self, inputs: Any) -> Any:
        """What the function returns."""
        given = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        arguments = _mapped(lambda value: given[value.number] if isinstance(value, _Place) else value, self.arguments)
        function = getattr(ops, self.op)
        bound = BoundArguments(signature(function), OrderedDict(arguments))
        return function(*bound.args, **bound.kwargs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; ValueError where a file could not hold one."""
        base = {name: value for name, value in super().get_config().items() if name != "input_shape"}
        return {"op": self.op, "arguments": _mapped(self._written, self.arguments), **base}

    def _written(self, value: Any) -> Any:
        if isinstance(value, _Place):
            return {_INPUT: value.number}
        if isinstance(value, slice):
            return {_SLICE: [value.start, value.stop, value.step]}
        if value is Ellipsis:
            return {_ELLIPSIS: True}
        if value is not None and not isinstance(value, (bool, int, float, str)):
            got = checks.describe(value)
            raise ValueError(f"{self.name}: got {got} as an argument, which a model file cannot hold; wants a Layer")
        return value


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """A structure of lists, tuples and mappings with the function of each of its leaves."""
    if isinstance(value, Mapping):
        if len(value) == 1 and next(iter(value)) in (_INPUT, _SLICE, _ELLIPSIS):
            return function(value)
        return {name: _mapped(function, each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(function, each) for each in value)
    return function(value)


def _read(value: Any) -> Any:
    """What a file holds, as a call takes it."""
    if not isinstance(value, Mapping):
        return value
    ((kind, what),) = value.items()
    if kind == _INPUT:
        return _Place(checks.integer("arguments", what, 0))
    return slice(*what) if kind == _SLICE else Ellipsis


def _connected(op: str, given: Mapping[str, Any]) -> Any:
    """What a new layer gives that is this call: its symbolic tensors are the inputs."""
    inputs: list[SymbolicTensor] = []
    dtype = next(tensors([*given.values()])).dtype

    def placed(value: Any) -> Any:
        if not isinstance(value, SymbolicTensor):
            is_other = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            return value.astype(dtype) if is_other else value
        inputs.append(value)
        return _Place(len(inputs) - 1)

    layer = Function(op, _mapped(placed, dict(given)))
    return layer(inputs[0] if len(inputs) == 1 else inputs)


symbols.OPERATORS["function"] = _connected
