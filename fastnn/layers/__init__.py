"""Layers, under Keras's names, arguments and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastnn import absent, configurable
from fastnn.configurable import aliases
from fastnn.layers.activations import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from fastnn.layers.attention import AdditiveAttention, Attention, MultiHeadAttention
from fastnn.layers.base import Layer, Parameter
from fastnn.layers.bidirectional import Bidirectional
from fastnn.layers.cells import CELLS, GRUCell, LSTMCell, SimpleRNNCell, StackedRNNCells
from fastnn.layers.convolution import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
)
from fastnn.layers.core import (
    ActivityRegularization,
    Dense,
    Flatten,
    Identity,
    Input,
    InputLayer,
    Permute,
    RepeatVector,
    Rescaling,
    Reshape,
)
from fastnn.layers.custom import Lambda
from fastnn.layers.dropout import (
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
)
from fastnn.layers.embedding import Embedding
from fastnn.layers.functions import Function
from fastnn.layers.lookup import IntegerLookup, StringLookup
from fastnn.layers.merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from fastnn.layers.normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    Normalization,
    RMSNormalization,
    UnitNormalization,
)
from fastnn.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    AvgPool1D,
    AvgPool2D,
    GlobalAveragePooling2D,
    GlobalAvgPool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    MaxPool1D,
    MaxPool2D,
    MaxPooling1D,
    MaxPooling2D,
)
from fastnn.layers.preprocessing import (
    CategoryEncoding,
    CenterCrop,
    Discretization,
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
    Resizing,
)
from fastnn.layers.recurrent import GRU, LSTM, RNN, SimpleRNN
from fastnn.layers.resizing import Cropping1D, Cropping2D, UpSampling1D, UpSampling2D, ZeroPadding1D, ZeroPadding2D
from fastnn.layers.sequences import GlobalAveragePooling1D, GlobalAvgPool1D, Masking
from fastnn.layers.text import TextVectorization
from fastnn.layers.wrappers import KINDS, TimeDistributed, Wrapper

NAMES = {
    **aliases((InputLayer, Dense, Activation, ReLU, LeakyReLU, PReLU, ELU, Softmax, Flatten, Dropout, Rescaling)),
    **aliases((BatchNormalization, GroupNormalization, LayerNormalization, RMSNormalization)),
    **aliases((Normalization, UnitNormalization)),
    **aliases((Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate, Dot)),
    **aliases((ActivityRegularization, AlphaDropout, Function, GaussianDropout, Identity)),
    **aliases((Reshape, Permute, RepeatVector, GaussianNoise, SpatialDropout1D, SpatialDropout2D)),
    **aliases((MaxPooling1D, MaxPooling2D, AveragePooling1D, AveragePooling2D)),
    **aliases((GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalAveragePooling1D, GlobalAveragePooling2D)),
    **aliases((UpSampling1D, UpSampling2D, ZeroPadding1D, ZeroPadding2D, Cropping1D, Cropping2D)),
    **aliases((Conv1D, Conv1DTranspose, Conv2D, Conv2DTranspose)),
    **aliases((DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D)),
    **aliases((Resizing, CenterCrop, RandomFlip, RandomRotation, RandomZoom, RandomTranslation)),
    **aliases((RandomBrightness, RandomContrast, RandomCrop)),
    **aliases((CategoryEncoding, Discretization)),
    **aliases((AdditiveAttention, Attention, MultiHeadAttention)),
    **aliases((Embedding, Masking, RNN, SimpleRNN, LSTM, GRU, Bidirectional, TimeDistributed)),
    **CELLS,
}
KINDS.update(NAMES)

# Keras's other names.
Convolution1D, Convolution2D = Conv1D, Conv2D
Convolution1DTranspose, Convolution2DTranspose = Conv1DTranspose, Conv2DTranspose
SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D


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
    "RNN",
    "Activation",
    "ActivityRegularization",
    "Add",
    "AdditiveAttention",
    "AlphaDropout",
    "Attention",
    "Average",
    "AveragePooling1D",
    "AveragePooling2D",
    "AvgPool1D",
    "AvgPool2D",
    "BatchNormalization",
    "Bidirectional",
    "CategoryEncoding",
    "CenterCrop",
    "Concatenate",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Convolution1D",
    "Convolution1DTranspose",
    "Convolution2D",
    "Convolution2DTranspose",
    "Cropping1D",
    "Cropping2D",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Discretization",
    "Dot",
    "Dropout",
    "Embedding",
    "Flatten",
    "Function",
    "GRUCell",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GroupNormalization",
    "Identity",
    "Input",
    "InputLayer",
    "IntegerLookup",
    "LSTMCell",
    "Lambda",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Masking",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPooling1D",
    "MaxPooling2D",
    "Maximum",
    "Minimum",
    "MultiHeadAttention",
    "Multiply",
    "Normalization",
    "PReLU",
    "Parameter",
    "Permute",
    "RMSNormalization",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "Resizing",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
    "SimpleRNN",
    "SimpleRNNCell",
    "Softmax",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "StackedRNNCells",
    "StringLookup",
    "Subtract",
    "TextVectorization",
    "TimeDistributed",
    "UnitNormalization",
    "UpSampling1D",
    "UpSampling2D",
    "Wrapper",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "add",
    "average",
    "concatenate",
    "deserialize",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "serialize",
    "subtract",
]
absent.explain(__name__)
