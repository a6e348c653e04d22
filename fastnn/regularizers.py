"""Penalties on weights, biases and outputs, under Keras's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn import absent, checks, configurable, ops
from fastnn.configurable import Configurable, aliases, find, undefined
from fastnn.engine.data import numeric_array
from fastnn.engine.protocols import Array

# The least length that a row is divided by, as in Keras.
_EPSILON = 1e-7


class Regularizer(Configurable):
    """Base class: subclasses define ``value_and_gradient``; fastnn derives nothing from Python code."""

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        """Penalty of ``x`` and its derivative, an array of the shape of ``x``."""
        raise undefined(self, "value_and_gradient(x) -> (penalty, derivative by x)")

    def __call__(self, x: Any) -> float:
        """The penalty of ``x``."""
        array = numeric_array("x", x)
        return self.value_and_gradient(array if array.dtype.kind == "f" else array.astype("float32"))[0]


class L1L2(Regularizer):
    """l1 * sum |x| + l2 * sum x^2."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = checks.real("l1", l1, minimum=0)
        self.l2 = checks.real("l2", l2, minimum=0)

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        """Penalty of ``x`` and its derivative, l1 * sign(x) + 2 * l2 * x."""
        result: tuple[float, Array] = ops.l1_l2_penalty(x, l1=self.l1, l2=self.l2)
        return result

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"l1": self.l1, "l2": self.l2}


class L1(L1L2):
    """l1 * sum |x|."""

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1=l1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"l1": self.l1}


class L2(L1L2):
    """l2 * sum x^2."""

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(l2=l2)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"l2": self.l2}


class OrthogonalRegularizer(Regularizer):
    """Keeps the rows of a matrix, or its columns, apart: ``factor`` times the mean of abs(cosine) over all pairs.

    The derivative by what is already orthogonal is taken as 0; rows shorter than 1e-7 count as if they were so long.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        self.factor = checks.real("factor", factor, minimum=0)
        self.mode = checks.one_of("mode", mode, ("rows", "columns"))

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        """Penalty of the matrix ``x``, 0 for a single row, and its derivative; ValueError for other arrays."""
        if x.ndim != 2:
            raise ValueError(f"x: got shape {x.shape}, wants a matrix for an orthogonal regularizer")
        rows = x if self.mode == "rows" else x.T
        if len(rows) < 2:
            return 0.0, np.zeros_like(x)
        lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
        scale = 1 / np.maximum(lengths, x.dtype.type(_EPSILON))
        units = np.ascontiguousarray(rows * scale)
        cosines = ops.matmul(units, units.T)
        np.fill_diagonal(cosines, 0)
        share = self.factor / (len(rows) * (len(rows) - 1))
        by_units = ops.matmul(np.sign(cosines), units) * x.dtype.type(2 * share)
        # along a row itself nothing changes, but where its length counts as 1e-7
        along = np.where(lengths > _EPSILON, (by_units * units).sum(axis=1, keepdims=True), 0)
        gradient = (by_units - along * units) * scale
        value = share * float(np.abs(cosines).sum(dtype=np.float64))
        return value, np.ascontiguousarray(gradient if self.mode == "rows" else gradient.T)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"factor": self.factor, "mode": self.mode}


# The spellings that course scripts use: regularizers.l2(0.001), regularizers.l1_l2(l1=..., l2=...).
l1 = L1
l2 = L2
l1_l2 = L1L2
orthogonal_regularizer = OrthogonalRegularizer

NAMES = aliases((L1, L2, L1L2, OrthogonalRegularizer), l1_l2=L1L2)


def get(identifier: Any, argument: str = "regularizer") -> Regularizer | None:
    """The regularizer that ``identifier`` means: None, a name, a class, an object or a config."""
    return None if identifier is None else find(argument, identifier, Regularizer, NAMES)


def serialize(regularizer: Regularizer | None) -> dict[str, Any] | None:
    """The regularizer as JSON can hold it; ValueError for one of the user's own."""
    return configurable.serialize(regularizer, NAMES)


def deserialize(config: Mapping[str, Any]) -> Regularizer:
    """The regularizer that ``serialize`` wrote as ``config``."""
    return configurable.deserialize("config", config, NAMES)


__all__ = [
    "L1",
    "L1L2",
    "L2",
    "OrthogonalRegularizer",
    "Regularizer",
    "deserialize",
    "get",
    "l1",
    "l1_l2",
    "l2",
    "orthogonal_regularizer",
    "serialize",
]
absent.explain(__name__)
