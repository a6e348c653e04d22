"""Constraints on weights, under Keras's names and with its formulas: what they become after every step of training.

A constraint is called with an array and gives a new one of the same shape. Norms are roots of sums of squares along
``axis``, an axis or several: along 0, of a Dense kernel (inputs, units), over the inputs of each unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import absent, checks, configurable
from fastnn.configurable import Configurable, aliases, find, undefined
from fastnn.engine.data import numeric_array
from fastnn.engine.protocols import Array, Parameter

# Keras adds it to norms that it divides by.
_EPSILON = 1e-7


class Constraint(Configurable):
    """Base class: subclasses define ``__call__(w) -> w``."""

    def __call__(self, w: Any) -> Array:
        """The weights that take the place of ``w``."""
        raise undefined(self, "__call__(w) -> array of the shape of w")

    def get_config(self) -> dict[str, Any]:
        """No arguments."""
        return {}


class NonNeg(Constraint):
    """Weights below 0 become 0."""

    def __call__(self, w: Any) -> Array:
        """``w`` without what is below 0."""
        return np.maximum(_floats(w), 0)


class _Norms(Constraint):
    """Base class of those that scale weights, so that norms become what they shall be."""

    def __init__(self, axis: int | Sequence[int] = 0) -> None:
        given = axis if isinstance(axis, (list, tuple)) else [axis]
        self._axes = tuple(checks.integer("axis", each) for each in given)
        self.axis = list(self._axes) if given is axis else self._axes[0]

    def __call__(self, w: Any) -> Array:
        """``w``, scaled; ValueError where it lacks an axis."""
        weights = _floats(w)
        for axis in self._axes:
            if not -weights.ndim <= axis < weights.ndim:
                raise ValueError(f"axis: got {axis}, wants one of the {weights.ndim} axes of weights {weights.shape}")
        norms = np.sqrt(np.square(weights, dtype=np.float64).sum(axis=self._axes, keepdims=True))
        return np.asarray(weights * (self._wanted(norms) / (norms + _EPSILON)), weights.dtype)

    def _wanted(self, norms: Array) -> Any:
        """What norms shall be."""
        raise undefined(self, "_wanted(norms) -> norms")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"axis": self.axis}


class MaxNorm(_Norms):
    """Norms above ``max_value`` become that."""

    def __init__(self, max_value: float = 2, axis: int | Sequence[int] = 0) -> None:
        self.max_value = checks.real("max_value", max_value, minimum=0)
        super().__init__(axis)

    def _wanted(self, norms: Array) -> Array:
        return np.minimum(norms, self.max_value)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"max_value": self.max_value, **super().get_config()}


class UnitNorm(_Norms):
    """Norms become 1, but those of weights that are all 0."""

    def _wanted(self, norms: Array) -> float:
        return 1.0


class MinMaxNorm(_Norms):
    """Norms come nearer to [min_value, max_value] by the share ``rate``, with a rate of 1 into it."""

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: int | Sequence[int] = 0
    ) -> None:
        self.min_value = checks.real("min_value", min_value, minimum=0)
        self.max_value = checks.real("max_value", max_value, minimum=self.min_value)
        self.rate = checks.real("rate", rate, minimum=0, maximum=1)
        super().__init__(axis)

    def _wanted(self, norms: Array) -> Array:
        return np.asarray(self.rate * np.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"min_value": self.min_value, "max_value": self.max_value, "rate": self.rate}
        return {**own, **super().get_config()}


def _floats(w: Any) -> Array:
    """Weights as they are if they are floating-point numbers, else as float32."""
    array = numeric_array("w", w)
    return array if array.dtype.kind == "f" else array.astype(np.float32)


# The spellings that course scripts use: constraints.max_norm(3).
max_norm = MaxNorm
min_max_norm = MinMaxNorm
non_neg = NonNeg
unit_norm = UnitNorm

NAMES: dict[str, type[Constraint]] = aliases((MaxNorm, MinMaxNorm, NonNeg, UnitNorm))


def get(identifier: Any, argument: str = "constraint") -> Constraint | None:
    """The constraint that ``identifier`` means: None, a name, a class, an object or a config."""
    return None if identifier is None else find(argument, identifier, Constraint, NAMES)


def serialize(constraint: Constraint | None) -> dict[str, Any] | None:
    """The constraint as JSON can hold it; ValueError for one of the user's own."""
    return configurable.serialize(constraint, NAMES)


def deserialize(config: Mapping[str, Any]) -> Constraint:
    """The constraint that ``serialize`` wrote as ``config``."""
    return configurable.deserialize("config", config, NAMES)


def enforce(parameter: Parameter) -> None:
    """Bring a parameter's values, in place, to what its constraint, if it has one, makes of them.

    ValueError where that has another shape.
    """
    if parameter.constraint is None:
        return
    made = parameter.constraint(parameter.value)
    if np.shape(made) != parameter.value.shape:
        kind = type(parameter.constraint).__name__
        raise ValueError(
            f"{parameter.path}: got shape {np.shape(made)} from its constraint, {kind}, wants {parameter.value.shape}"
        )
    parameter.value[...] = made


__all__ = [
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "deserialize",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "serialize",
    "unit_norm",
]
absent.explain(__name__)
