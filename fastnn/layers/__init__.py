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
from fastnn.layers.embedding import Embedding
from fastnn.layers.normalization import BatchNormalization, LayerNormalization, Normalization
from fastnn.layers.recurrent import CELLS, GRU, LSTM, Bidirectional, SimpleRNN
from fastnn.layers.sequences import (
    GlobalAveragePooling1D,
    GlobalAvgPool1D,
    GlobalMaxPool1D,
    GlobalMaxPooling1D,
    Masking,
)

NAMES = {
    **aliases((InputLayer, Dense, Activation, ReLU, LeakyReLU, PReLU, ELU, Softmax, Flatten, Dropout, Rescaling)),
    **aliases((BatchNormalization, LayerNormalization, Normalization)),
    **aliases((Embedding, Masking, Bidirectional, GlobalAveragePooling1D, GlobalMaxPooling1D)),
    **CELLS,
}


def serialize(layer: Layer) -> dict[str, Any] | None:
    """A layer as JSON can hold it, without its weights; ValueError for one of the user's own."""
    return configurable.serialize(layer, NAMES)


def deserialize(config: Mapping[str, Any]) -> Layer:
    """The layer that ``serialize`` wrote as ``config``, not built."""
    return configurable.deserialize("config", config, NAMES)


__all__ = [
    "ELU",
    "GRU",
    "LSTM",
    "Activation",
    "BatchNormalization",
    "Bidirectional",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePooling1D",
    "GlobalAvgPool1D",
    "GlobalMaxPool1D",
    "GlobalMaxPooling1D",
    "Input",
    "InputLayer",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Masking",
    "Normalization",
    "PReLU",
    "Parameter",
    "ReLU",
    "Rescaling",
    "SimpleRNN",
    "Softmax",
    "deserialize",
    "serialize",
]
absent.explain(__name__)
