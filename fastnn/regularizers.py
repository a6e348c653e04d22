"""Penalties on weights, biases and outputs, under Keras's names."""

from __future__ import annotations

from typing import Any

from fastnn import absent, checks, ops
from fastnn.configurable import Configurable, aliases, find, undefined
from fastnn.engine.data import numeric_array
from fastnn.engine.protocols import Array


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


# The spellings that course scripts use: regularizers.l2(0.001), regularizers.l1_l2(l1=..., l2=...).
l1 = L1
l2 = L2
l1_l2 = L1L2

NAMES = aliases((L1, L2, L1L2), l1_l2=L1L2)


def get(identifier: Any, argument: str = "regularizer") -> Regularizer | None:
    """The regularizer that ``identifier`` means: None, a name, a class, an object or a config."""
    return None if identifier is None else find(argument, identifier, Regularizer, NAMES)


__all__ = ["L1", "L1L2", "L2", "Regularizer", "get", "l1", "l1_l2", "l2"]
absent.explain(__name__)
