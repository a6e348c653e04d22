"""Layers, under Keras's names, arguments and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastnn import absent, configurable
from fastnn.configurable import aliases
from fastnn.layers.activations import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from fastnn.layers.base import Layer, Parameter
from fastnn.layers.convolution import Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D
from fastnn.layers.core import Dense, Flatten, Input, InputLayer, Rescaling
from fastnn.layers.dropout import Dropout
from fastnn.layers.normalization import BatchNormalization, LayerNormalization, Normalization

NAMES = aliases(
    (
        *(InputLayer, Dense, Activation, ReLU, LeakyReLU, PReLU, ELU, Softmax, Flatten, Dropout, Rescaling),
        *(Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D),
        *(BatchNormalization, LayerNormalization, Normalization),
    )
)

# Keras's other names.
Convolution1D, Convolution2D, Convolution2DTranspose = Conv1D, Conv2D, Conv2DTranspose
SeparableConvolution2D = SeparableConv2D


def serialize(layer: Layer) -> dict[str, Any] | None:
    """A layer as JSON can hold it, without its weights; ValueError for one of the user's own."""
    return configurable.serialize(layer, NAMES)


def deserialize(config: Mapping[str, Any]) -> Layer:
    """The layer that ``serialize`` wrote as ``config``, not built."""
    return configurable.deserialize("config", config, NAMES)


__all__ = [
    "ELU",
    "Activation",
    "BatchNormalization",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Convolution1D",
    "Convolution2D",
    "Convolution2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "Input",
    "InputLayer",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Normalization",
    "PReLU",
    "Parameter",
    "ReLU",
    "Rescaling",
    "SeparableConv2D",
    "SeparableConvolution2D",
    "Softmax",
    "deserialize",
    "serialize",
]
absent.explain(__name__)
