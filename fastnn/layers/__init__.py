"""Layers, under Keras's names, arguments and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastnn import absent, configurable
from fastnn.configurable import aliases
from fastnn.layers.activations import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from fastnn.layers.base import Layer, Parameter
from fastnn.layers.core import Dense, Flatten, Input, InputLayer, Rescaling
from fastnn.layers.dropout import Dropout
from fastnn.layers.merging import (
    Add,
    Average,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    maximum,
    minimum,
    multiply,
    subtract,
)
from fastnn.layers.normalization import BatchNormalization, LayerNormalization, Normalization

NAMES = aliases(
    (
        *(InputLayer, Dense, Activation, ReLU, LeakyReLU, PReLU, ELU, Softmax, Flatten, Dropout, Rescaling),
        *(BatchNormalization, LayerNormalization, Normalization),
        *(Add, Subtract, Multiply, Average, Maximum, Minimum),
    )
)


def serialize(layer: Layer) -> dict[str, Any] | None:
    """A layer as JSON can hold it, without its weights; ValueError for one of the user's own."""
    return configurable.serialize(layer, NAMES)


def deserialize(config: Mapping[str, Any]) -> Layer:
    """The layer that ``serialize`` wrote as ``config``, not built."""
    return configurable.deserialize("config", config, NAMES)


__all__ = [
    "ELU",
    "Activation",
    "Add",
    "Average",
    "BatchNormalization",
    "Dense",
    "Dropout",
    "Flatten",
    "Input",
    "InputLayer",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Maximum",
    "Minimum",
    "Multiply",
    "Normalization",
    "PReLU",
    "Parameter",
    "ReLU",
    "Rescaling",
    "Softmax",
    "Subtract",
    "add",
    "average",
    "deserialize",
    "maximum",
    "minimum",
    "multiply",
    "serialize",
    "subtract",
]
absent.explain(__name__)
