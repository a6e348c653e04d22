"""Activations, under Keras's names: functions of arrays, and what layers take as ``activation``.

``get`` says what a layer is given: a name ("relu", "swish"), a function of this module or of ``fastnn.ops``, one with
its numbers (``functools.partial(activations.leaky_relu, negative_slope=0.1)``, ``layers.LeakyReLU(0.1)``), or a
function of one's own: made of ``fastnn.ops``, which training finds the derivative of, or of anything, as an object with
a method ``backward(dy, x, y) -> dx``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from fastnn import absent, checks, ops
from fastnn.engine.activations import LINEAR, Activation, FunctionActivation
from fastnn.engine.data import numeric_array
from fastnn.kernels.table import ACTIVATIONS, ELEMENTWISE_ACTIVATIONS, NUMBERS, TABLE
from fastnn.tape import Traced

# What makes the activation of a public function from the function's numbers.
_MAKERS: dict[Callable[..., Any], Callable[..., Activation]] = {}


def _function(make: Callable[..., Activation]) -> Callable[..., Any]:
    """The public function f(x, numbers...) of what makes an activation of these numbers."""

    def function(x: Any, *args: Any, **given: Any) -> Any:
        return _applied(make(*args, **given), x)

    function.__name__ = function.__qualname__ = make.__name__
    function.__doc__, function.__module__ = make.__doc__, __name__
    first = inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [first, *inspect.signature(make).parameters.values()]
    )
    _MAKERS[function] = make
    return function


def _applied(activation: Activation, x: Any) -> Any:
    """Outputs for an array or nested lists, in their dtype if it is float32 or float64, else in float32."""
    if isinstance(x, Traced):
        return activation(x)
    array = numeric_array("x", x)
    return activation(array if array.dtype in (np.float32, np.float64) else array.astype(np.float32))


def _with(op: str, *numbers: float) -> Activation:
    """An activation with its numbers, none where they are the default ones."""
    options = TABLE[op].options
    values = tuple(checks.option(name, value, options[name]) for name, value in zip(options, numbers, strict=True))
    return Activation(op, () if values == tuple(NUMBERS[op].values()) else values)


def _plain(name: str) -> Callable[..., Any]:
    """The public function of an activation without numbers."""

    def make() -> Activation:
        return Activation(name)

    make.__name__, make.__doc__ = name, TABLE[Activation(name).op].doc
    return _function(make)


@_function
def relu(negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Activation:
    """Rectified linear unit: max(x, 0) or, by its numbers, max_value from there on, negative_slope * (x - threshold)
    below the threshold.
    """  # noqa: D205 - one sentence
    if negative_slope == 0 and max_value is None and threshold == 0:
        return Activation("relu")
    return _with("bounded_relu", negative_slope, math.inf if max_value is None else max_value, threshold)


@_function
def leaky_relu(negative_slope: float = 0.2) -> Activation:
    """x where x > 0, else negative_slope * x."""
    return _with("leaky_relu", negative_slope)


@_function
def elu(alpha: float = 1.0) -> Activation:
    """x where x > 0, else alpha * (exp(x) - 1)."""
    return _with("elu", alpha)


@_function
def celu(alpha: float = 1.0) -> Activation:
    """x where x > 0, else alpha * (exp(x / alpha) - 1)."""
    return _with("celu", alpha)


@_function
def gelu(approximate: bool = False) -> Activation:
    """x times the share of the normal distribution below x; ``approximate`` by a hyperbolic tangent."""
    return Activation("gelu_tanh" if checks.instance("approximate", approximate, bool, "True or False") else "gelu")


@_function
def threshold(threshold: float = 0.0, default_value: float = 0.0) -> Activation:
    """x where x > threshold, else default_value."""
    return _with("threshold", threshold, default_value)


@_function
def soft_shrink(threshold: float = 0.5) -> Activation:
    """x drawn towards 0 by threshold, 0 within it."""
    return _with("soft_shrink", threshold)


@_function
def hard_shrink(threshold: float = 0.5) -> Activation:
    """x where abs(x) > threshold, else 0."""
    return _with("hard_shrink", threshold)


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) over its sum along ``axis``."""
    return _along(Activation("softmax"), x, axis)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """The logarithm of softmax along ``axis``."""
    return _along(Activation("log_softmax"), x, axis)


def _along(activation: Activation, x: Any, axis: int) -> Any:
    if isinstance(x, Traced) and axis in (-1, x.ndim - 1):
        return activation(x)
    array = numeric_array("x", x)
    checks.integer("axis", axis, -array.ndim, array.ndim - 1)
    return np.moveaxis(_applied(activation, np.ascontiguousarray(np.moveaxis(array, axis, -1))), -1, axis)


# Keras's further names.
_ALIASES = {"swish": "silu", "hard_swish": "hard_silu"}

globals().update({name: _plain(name) for name in ELEMENTWISE_ACTIVATIONS if name not in globals()})
globals().update({alias: globals()[name] for alias, name in _ALIASES.items()})

_MAKERS |= {
    softmax: lambda axis=-1: Activation("softmax" if axis == -1 else _last_axis(axis)),
    log_softmax: lambda axis=-1: Activation("log_softmax" if axis == -1 else _last_axis(axis)),
}


def _last_axis(axis: Any) -> str:
    raise ValueError(f"axis: got {axis}, wants -1 for the activation of a layer; layers.Softmax takes others")


def get(identifier: Any, argument: str = "activation") -> Activation:
    """The activation that ``identifier`` means; None is "linear".

    ValueError with the nearest match for an unknown name, TypeError for what is no activation.
    """
    if identifier is None:
        return LINEAR
    if isinstance(identifier, Activation):
        return identifier
    if isinstance(identifier, str):
        name = checks.one_of(argument, identifier, [*ACTIVATIONS, *_ALIASES])
        return Activation(_ALIASES.get(name, name))
    if isinstance(identifier, Mapping):
        return deserialize(identifier, argument)
    return _of_callable(identifier, argument)


def _of_callable(identifier: Any, argument: str) -> Activation:
    function = identifier.func if isinstance(identifier, partial) else identifier
    if isinstance(identifier, partial) and not identifier.args and (make := _maker(function)) is not None:
        return make(**identifier.keywords)
    if (make := _maker(identifier)) is not None:
        return make()
    held = getattr(identifier, "activation", None)  # of an activation layer
    if isinstance(held, Activation) and not getattr(identifier, "parameters", True):
        return held
    if not callable(identifier) or isinstance(identifier, type):
        raise TypeError(
            f"{argument}: got {checks.describe(identifier)}, wants a name, a function or an activation layer"
        )
    return FunctionActivation(getattr(identifier, "__name__", type(identifier).__name__), function=identifier)


def _maker(function: Any) -> Callable[..., Activation] | None:
    """What makes the activation of a public function of this module, or of ``fastnn.ops``, from its numbers."""
    if isinstance(function, Callable) and _hashable(function) and function in _MAKERS:  # type: ignore[arg-type]
        return _MAKERS[function]
    for name in ACTIVATIONS:
        activation = Activation(name)
        if function is getattr(ops, activation.op):
            return partial(_of_op, activation)
    return None


def _hashable(function: Any) -> bool:
    return type(function).__hash__ is not None


def _of_op(activation: Activation, **numbers: float) -> Activation:
    unknown = [number for number in numbers if number not in NUMBERS.get(activation.op, {})]
    if unknown:
        raise TypeError(f"{unknown[0]}: got an argument that {activation.op} does not have")
    if not numbers:
        return activation
    return _with(activation.op, *{**NUMBERS[activation.op], **numbers}.values())


def serialize(activation: Any) -> str | dict[str, Any]:
    """An activation as JSON can hold it: its name, or a mapping with its numbers; ValueError for one's own function."""
    found = get(activation)
    if not found.fusable:
        raise ValueError(
            f"activation: got the function {found.name!r}, which a model file cannot hold; wants an activation of "
            "fastnn's"
        )
    if not found.numbers:
        return found.name
    values = [None if math.isinf(number) else number for number in found.numbers]
    return {"class_name": found.name, "config": dict(zip(NUMBERS[found.op], values, strict=True))}


def deserialize(config: Any, argument: str = "activation") -> Activation:
    """The activation that ``serialize`` wrote as ``config``."""
    if isinstance(config, str):
        return get(config, argument)
    shaped = isinstance(config, Mapping) and set(config) == {"class_name", "config"}
    if not shaped or not isinstance(config["config"], Mapping):
        raise ValueError(f"{argument}: got {checks.describe(config)}, wants a name, or 'class_name' and 'config'")
    name = checks.one_of(argument, config["class_name"], NUMBERS)
    numbers = {key: math.inf if value is None else value for key, value in config["config"].items()}
    return _of_op(Activation(name), **numbers)


__all__ = ["deserialize", "get", "serialize", *sorted({*ACTIVATIONS, *_ALIASES})]
absent.explain(__name__)
