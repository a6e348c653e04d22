"""Layers for sequences (n, t, features): which steps count, and what becomes of those that do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastnn import checks, ops
from fastnn.engine.protocols import Array, Training
from fastnn.layers.base import BatchShape, Layer


class Masking(Layer):
    """Leaves out, for the layers behind, the steps of (n, t, f) all of whose numbers are ``mask_value``; they become 0.

    Keras gives them as zeros, too.
    """

    recordable = True

    def __init__(self, mask_value: float = 0.0, **options: Any) -> None:
        self.mask_value = checks.real("mask_value", mask_value)
        super().__init__(**options)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The same; ValueError for samples without steps."""
        if len(input_shape) < 3:
            raise ValueError(f"{self.name}: got input shape {tuple(input_shape)}, wants (None, steps, ..., features)")
        return tuple(input_shape)

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """The steps with any other number."""
        return ops.step_mask(_flat_steps(x), self.mask_value)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """The inputs, zeros in what is left out, and the mask."""
        steps = _flat_steps(x)
        mask = ops.step_mask(steps, self.mask_value)
        return ops.mask_steps(steps, mask).reshape(*x.shape), mask

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient of the steps that count."""
        return ops.mask_steps_backward(_flat_steps(dy), kept).reshape(*dy.shape), ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"mask_value": self.mask_value, **super().get_config()}


def _flat_steps(x: Any) -> Any:
    """Samples (n, t, ...) with one axis behind the steps'."""
    return x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))


class GlobalAveragePooling1D(Layer):
    """The mean over the steps that count, (n, t, f) to (n, f), with ``keepdims`` to (n, 1, f); zeros where none does.

    Keras gives NaN where no step counts.
    """

    recordable = True
    takes_mask = True

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **options: Any) -> None:
        if data_format is not None:
            checks.one_of("data_format", data_format, ("channels_last",))
        self.keepdims = checks.instance("keepdims", keepdims, bool, "True or False")
        super().__init__(**options)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Without the steps, or with one; ValueError for inputs that have none."""
        if len(input_shape) != 3:
            raise ValueError(f"{self.name}: got input shape {tuple(input_shape)}, wants (None, steps, features)")
        return (input_shape[0], *((1,) if self.keepdims else ()), input_shape[2])

    def forward(
        self, x: Array, training: Training = False, activate: bool = True, mask: Any = None
    ) -> tuple[Array, Any]:
        """Means of a batch, and (x, mask)."""
        return self._kept(ops.sequence_mean(x, mask)), (x, mask)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """An equal share for every step that counts."""
        return ops.sequence_mean_backward(self._rows(dy), *kept), ()

    def _kept(self, y: Array) -> Array:
        return y.reshape(y.shape[0], 1, y.shape[1]) if self.keepdims else y

    def _rows(self, dy: Array) -> Array:
        return dy.reshape(dy.shape[0], dy.shape[2]) if self.keepdims else dy

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"keepdims": self.keepdims, **super().get_config()}


# Keras's other name.
GlobalAvgPool1D = GlobalAveragePooling1D
