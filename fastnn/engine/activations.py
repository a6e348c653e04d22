"""Activations by name, for arrays of any number of dimensions; softmax works along the last axis."""

from __future__ import annotations

from fastnn import ops
from fastnn.engine.protocols import Array
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS


def activate(name: str, x: Array) -> Array:
    """The activation ``name`` of ``x``."""
    if name in ELEMENTWISE_ACTIVATIONS:
        result: Array = getattr(ops, ELEMENTWISE_ACTIVATIONS[name])(x)
        return result
    rows: Array = ops.softmax(x.reshape(-1, x.shape[-1]))
    return rows.reshape(x.shape)


def activate_backward(name: str, dy: Array, x: Array, y: Array) -> Array:
    """From dL/dy of the activation ``name``: dL/dx, where y = activate(name, x)."""
    if name in ELEMENTWISE_ACTIVATIONS:
        result: Array = getattr(ops, f"{ELEMENTWISE_ACTIVATIONS[name]}_backward")(dy, x, y)
        return result
    width = y.shape[-1]
    rows: Array = ops.softmax_backward(dy.reshape(-1, width), x.reshape(-1, width), y.reshape(-1, width))
    return rows.reshape(y.shape)
