"""A function of the user's as a layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fastnn import checks
from fastnn.layers import calling
from fastnn.layers.base import Layer


class Lambda(Layer):
    """What a function of ``fastnn.ops`` and other layers gives for the inputs, an array or a list of such.

    Its gradients are derived, as those of a ``Layer`` with ``call``; a layer with weights is written as such.
    ``output_shape`` is that of a sample, or a function of the inputs' shape; without it the function is tried on zeros.
    ``arguments`` are passed on by name. A file cannot hold the function.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        mask: Any = None,
        arguments: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if not callable(function):
            raise TypeError(f"function: got {checks.describe(function)}, wants a function over fastnn.ops")
        if mask is not None:
            raise ValueError("mask: got one, wants None: a Lambda hands on no masks")
        self.function, self.arguments = function, dict(arguments or {})
        self._shape = output_shape
        super().__init__(**options)
        self._takes_training = "training" in _parameters(function)

    def call(self, inputs: Any, training: Any = None) -> Any:
        """What the function returns."""
        told = {"training": training} if self._takes_training else {}
        return self.function(inputs, **self.arguments, **told)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """As it was given, or found by a call on zeros."""
        if self._shape is None:
            return calling.output_shape(self, input_shape)
        if callable(self._shape):
            return tuple(self._shape(input_shape))
        return (None, *self._shape)

    def get_config(self) -> dict[str, Any]:
        """A function cannot be written to a file."""
        raise ValueError(f"{self.name}: got a function, which a model file cannot hold; wants a Layer with call")


def _parameters(function: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a function in C there is none
        return {}
