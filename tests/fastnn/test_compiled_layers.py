"""Which layers train in compiled calls: every public one does."""

from __future__ import annotations

import io

import numpy as np
import pytest

from fastnn import layers, models, ops, utils
from fastnn.engine import recorded
from fastnn.layers import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Bidirectional,
    Conv1D,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    Input,
    SimpleRNN,
)

NUMBERS, SEQUENCE, IMAGE, WORDS = (6,), (6, 5), (6, 6, 3), "words"


# By the name of a layer, and of what there is to it: the inputs' shape and the layers that make one of it.
STACKS = {
    "Dense": (SEQUENCE, lambda: [Dense(4, "relu")]),
    "Dense, softmax": (SEQUENCE, lambda: [Dense(4, "softmax")]),
    "Activation": (SEQUENCE, lambda: [Dense(4), Activation("gelu")]),
    "ReLU": (SEQUENCE, lambda: [Dense(4), layers.ReLU(2.0, 0.1, 0.5)]),
    "LeakyReLU": (SEQUENCE, lambda: [Dense(4), layers.LeakyReLU()]),
    "PReLU": (SEQUENCE, lambda: [Dense(4), layers.PReLU()]),
    "PReLU, shared": (IMAGE, lambda: [Conv2D(4, 3), layers.PReLU(shared_axes=[1, 2])]),
    "PReLU, shared by channels": (IMAGE, lambda: [Conv2D(4, 3), layers.PReLU(shared_axes=[1, 3])]),
    "PReLU, one slope": (IMAGE, lambda: [Conv2D(4, 3), layers.PReLU(shared_axes=[1, 2, 3])]),
    "ELU": (SEQUENCE, lambda: [Dense(4), layers.ELU()]),
    "Softmax": (SEQUENCE, lambda: [Dense(4), layers.Softmax()]),
    "Softmax, of another axis": (SEQUENCE, lambda: [Dense(4), layers.Softmax(axis=1)]),
    "Flatten": (SEQUENCE, lambda: [Dense(4), Flatten()]),
    "Dropout": (SEQUENCE, lambda: [Dense(4), layers.Dropout(0.5)]),
    "Dropout, of steps": (SEQUENCE, lambda: [Dense(4), layers.Dropout(0.5, (None, 1, 4))]),
    "SpatialDropout1D": (SEQUENCE, lambda: [Dense(4), layers.SpatialDropout1D(0.5)]),
    "SpatialDropout2D": (IMAGE, lambda: [Conv2D(4, 3), layers.SpatialDropout2D(0.5)]),
    "GaussianNoise": (SEQUENCE, lambda: [Dense(4), layers.GaussianNoise(0.5)]),
    "GaussianDropout": (SEQUENCE, lambda: [Dense(4), layers.GaussianDropout(0.5)]),
    "AlphaDropout": (SEQUENCE, lambda: [Dense(4), layers.AlphaDropout(0.5)]),
    "AlphaDropout, of steps": (SEQUENCE, lambda: [Dense(4), layers.AlphaDropout(0.5, (None, 1, 4))]),
    "Identity": (SEQUENCE, lambda: [Dense(4), layers.Identity()]),
    "ActivityRegularization": (SEQUENCE, lambda: [Dense(4), layers.ActivityRegularization(l2=0.01)]),
    "UnitNormalization": (SEQUENCE, lambda: [Dense(4), layers.UnitNormalization()]),
    "Rescaling": (SEQUENCE, lambda: [Dense(4), layers.Rescaling(2.0, 1.0)]),
    "Reshape": (SEQUENCE, lambda: [Dense(4), layers.Reshape((4, 6))]),
    "Permute": (SEQUENCE, lambda: [Dense(4), layers.Permute((2, 1)), Dense(3)]),
    "RepeatVector": (NUMBERS, lambda: [Dense(4), layers.RepeatVector(3)]),
    "BatchNormalization": (SEQUENCE, lambda: [Dense(4), layers.BatchNormalization()]),
    "BatchNormalization, frozen": (SEQUENCE, lambda: [Dense(4), layers.BatchNormalization(trainable=False)]),
    "GroupNormalization": (IMAGE, lambda: [Dense(4), layers.GroupNormalization(2)]),
    "RMSNormalization": (SEQUENCE, lambda: [Dense(4), layers.RMSNormalization()]),
    "LayerNormalization": (SEQUENCE, lambda: [Dense(4), layers.LayerNormalization()]),
    "Normalization": (SEQUENCE, lambda: [layers.Normalization(mean=0.5, variance=2.0), Dense(4)]),
    "UpSampling2D": (IMAGE, lambda: [Conv2D(4, 3), layers.UpSampling2D()]),
    "UpSampling2D, bilinear": (IMAGE, lambda: [Conv2D(4, 3), layers.UpSampling2D(interpolation="bilinear")]),
    "ZeroPadding2D": (IMAGE, lambda: [Conv2D(4, 3), layers.ZeroPadding2D()]),
    "Cropping2D": (IMAGE, lambda: [Conv2D(4, 3), layers.Cropping2D()]),
    "UpSampling1D": (SEQUENCE, lambda: [Dense(4), layers.UpSampling1D()]),
    "ZeroPadding1D": (SEQUENCE, lambda: [Dense(4), layers.ZeroPadding1D()]),
    "Cropping1D": (SEQUENCE, lambda: [Dense(4), layers.Cropping1D()]),
    "Conv1D": (SEQUENCE, lambda: [Conv1D(4, 3, activation="relu"), Conv1D(4, 3, padding="causal")]),
    "Conv2D": (IMAGE, lambda: [Conv2D(4, 3, activation="relu"), Conv2D(4, 3, padding="same")]),
    "Conv1DTranspose": (SEQUENCE, lambda: [Dense(4), layers.Conv1DTranspose(4, 3, strides=2, activation="relu")]),
    "Conv2DTranspose": (IMAGE, lambda: [Dense(4), layers.Conv2DTranspose(4, 3, strides=2, activation="relu")]),
    "DepthwiseConv2D": (IMAGE, lambda: [Dense(4), layers.DepthwiseConv2D(3)]),
    "DepthwiseConv1D": (SEQUENCE, lambda: [Dense(4), layers.DepthwiseConv1D(3, activation="relu")]),
    "SeparableConv1D": (SEQUENCE, lambda: [Dense(4), layers.SeparableConv1D(4, 3, activation="relu")]),
    "SeparableConv2D": (IMAGE, lambda: [Dense(4), layers.SeparableConv2D(4, 3)]),
    "Resizing": (IMAGE, lambda: [layers.Resizing(4, 4), Conv2D(4, 3)]),
    "CenterCrop": (IMAGE, lambda: [layers.CenterCrop(4, 4), Conv2D(4, 3)]),
    "RandomBrightness": (IMAGE, lambda: [layers.RandomBrightness(0.2, (0, 1)), Conv2D(4, 3)]),
    "RandomContrast": (IMAGE, lambda: [layers.RandomContrast(0.2, (0, 1)), Conv2D(4, 3)]),
    "RandomCrop": (IMAGE, lambda: [layers.RandomCrop(4, 5), Conv2D(4, 3)]),
    "RandomFlip": (IMAGE, lambda: [layers.RandomFlip(), Conv2D(4, 3)]),
    "RandomRotation": (IMAGE, lambda: [layers.RandomRotation(0.1), Conv2D(4, 3)]),
    "RandomTranslation": (IMAGE, lambda: [layers.RandomTranslation(0.1, 0.1), Conv2D(4, 3)]),
    "RandomZoom": (IMAGE, lambda: [layers.RandomZoom(0.1), Conv2D(4, 3)]),
    **{
        f"CategoryEncoding, {mode}": (WORDS, lambda mode=mode: [layers.CategoryEncoding(20, mode)])
        for mode in ("multi_hot", "count", "one_hot")
    },
    "Embedding": (WORDS, lambda: [Embedding(20, 4)]),
    "Masking": (SEQUENCE, lambda: [layers.Masking(), LSTM(4)]),
    "TimeDistributed": (SEQUENCE, lambda: [layers.TimeDistributed(Dense(4))]),
    "Lambda": (SEQUENCE, lambda: [Dense(4), layers.Lambda(ops.tanh)]),
    "RNN": (SEQUENCE, lambda: [Dense(4), RNN([layers.LSTMCell(3), layers.GRUCell(4)])]),
    "Bidirectional, of words": (WORDS, lambda: [Embedding(20, 4, mask_zero=True), Bidirectional(LSTM(3))]),
    **{
        name: (IMAGE, lambda name=name: [Conv2D(4, 3), getattr(layers, name)()])
        for name in ("MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling2D")
    },
    **{
        name: (SEQUENCE, lambda name=name: [Dense(4), getattr(layers, name)()])
        for name in ("MaxPooling1D", "AveragePooling1D")
    },
    **{
        f"{name}{of}": (
            WORDS,
            lambda name=name, masked=masked: [Embedding(20, 4, mask_zero=masked), getattr(layers, name)()],
        )
        for name in ("GlobalMaxPooling1D", "GlobalAveragePooling1D")
        for of, masked in (("", False), (", masked", True))
    },
    **{
        kind.__name__: (
            WORDS,
            lambda kind=kind: [Embedding(20, 4, mask_zero=True), kind(4, return_sequences=True), kind(3)],
        )
        for kind in (SimpleRNN, LSTM, GRU)
    },
    **{
        f"{kind.__name__}, {option}": (SEQUENCE, lambda kind=kind, value=value: [Dense(4), kind(3, **value)])
        for kind in (SimpleRNN, LSTM, GRU)
        for option, value in {
            "backwards": {"go_backwards": True},
            "dropout": {"dropout": 0.2},
            "recurrent dropout": {"recurrent_dropout": 0.2},
            "another activation": {"activation": "elu"},
        }.items()
    },
    "GRU, reset before": (SEQUENCE, lambda: [Dense(4), GRU(3, reset_after=False)]),
    **{
        f"{kind.__name__}, stateful": (SEQUENCE, lambda kind=kind: [kind(3, stateful=True)])
        for kind in (SimpleRNN, LSTM, GRU)
    },
    "Bidirectional, stateful": (SEQUENCE, lambda: [Bidirectional(GRU(3, stateful=True))]),
    "RNN, stateful": (SEQUENCE, lambda: [RNN([layers.LSTMCell(3), layers.GRUCell(4)], stateful=True)]),
    **{
        f"Bidirectional, {mode}": (
            SEQUENCE,
            lambda mode=mode: [Dense(4), Bidirectional(GRU(3, return_sequences=True), merge_mode=mode)],
        )
        for mode in ("concat", "sum", "ave", "mul")
    },
}  # fmt: skip

# By the name of a layer of several inputs: what makes one of two.
JOINS = {
    **{
        name: (SEQUENCE, lambda a, b, name=name: getattr(layers, name)()([a, b]))
        for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
    },
    "Concatenate, of steps": (SEQUENCE, lambda a, b: layers.Concatenate(axis=1)([a, b])),
    "Concatenate, of three": (IMAGE, lambda a, b: layers.Concatenate()([a, b, a])),
    "Add, stretched": (SEQUENCE, lambda a, b: layers.Add()([a, Dense(1)(b)])),
    "Dot": (NUMBERS, lambda a, b: layers.Dot(1)([a, b])),
    "MultiHeadAttention": (SEQUENCE, lambda a, b: layers.MultiHeadAttention(2, 3)(a, b, use_causal_mask=True)),
    "MultiHeadAttention, of other values": (
        SEQUENCE,
        lambda a, b: layers.MultiHeadAttention(2, 3, 5)(a, layers.MaxPooling1D()(b)),
    ),
    "MultiHeadAttention, dropout": (SEQUENCE, lambda a, b: layers.MultiHeadAttention(2, 3, dropout=0.2)(a, b, b)),
    "MultiHeadAttention, weights": (
        SEQUENCE,
        lambda a, b: layers.MultiHeadAttention(2, 3)(a, b, return_attention_scores=True)[0],
    ),
    "Attention": (SEQUENCE, lambda a, b: layers.Attention()([a, b])),
    "AdditiveAttention": (SEQUENCE, lambda a, b: layers.AdditiveAttention()([a, b])),
    "Function": (SEQUENCE, lambda a, b: ops.max_pool(a * b, 2)),
}

# Public names that are no layers to train: shapes, bases, cells that ``RNN`` steps, and what comes before a model.
NO_LAYERS = {"InputLayer", "Discretization"}


def model_of(name):
    if name in JOINS:
        shape, joined = JOINS[name]
        x = Input(shape)
        y = joined(Dense(4)(x), Dense(4)(x))
        y = Flatten()(y) if len(y.shape) > 2 else y
        return models.Model(x, Dense(2, "softmax")(y)), shape
    shape, made = STACKS[name]
    inputs = Input((6,) if shape == WORDS else shape, batch_size=4 if "stateful" in name else None)
    return models.Sequential([inputs, *made(), Flatten(), Dense(2, "softmax")]), shape


@pytest.fixture
def programs(monkeypatch):
    """The programs of the steps that are recorded meanwhile."""
    made = []

    class Kept(recorded.Program):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(recorded, "Program", Kept)
    return made


def calls_of(program):
    """The ops that a program of a whole step calls between its instructions; None where nothing was recorded."""
    said = io.StringIO()
    try:
        program.plan(file=said)
    except RuntimeError:
        return None
    return {line[5:29].strip() for line in said.getvalue().splitlines()[1:-1] if line[45:53].strip() == "called"}


def test_every_layer_is_looked_at():
    named = {name.split(",")[0] for name in (*STACKS, *JOINS)}
    cells = {"SimpleRNNCell", "LSTMCell", "GRUCell", "StackedRNNCells"}  # "RNN" steps them
    public = {kind.__name__ for kind in layers.NAMES.values()} - cells - NO_LAYERS
    assert public - named == set()


@pytest.mark.parametrize("name", [*STACKS, *JOINS])
def test_steps_are_one_compiled_call(name, programs):
    """A fit's steps are a program without calls."""
    utils.set_random_seed(0)
    model, shape = model_of(name)
    rng = np.random.default_rng(1)
    rows = 4 * (recorded.OP_BY_OP + 4)
    x = rng.integers(0, 20, (rows, 6)) if shape == WORDS else rng.random((rows, *shape), "float32")
    model.compile("rmsprop", "sparse_categorical_crossentropy")
    model.fit(x, rng.integers(0, 2, rows), batch_size=4, shuffle=False, verbose=0)
    calls = [found for found in map(calls_of, programs) if found is not None]
    assert calls
    assert not any(calls), calls
