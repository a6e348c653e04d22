"""What every side of an epoch of a stack starts from: layers of images and words by name, and their first weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

# A layer's kind, and its numbers.
Layer = tuple[Any, ...]


@dataclass(frozen=True)
class Stack:
    """Layers on samples of a shape, softmax over ``classes`` behind the last, and RMSprop's settings.

    Kinds are ("conv", maps, size) with relu, ("block", maps, size) with normalisation and then relu, of as many places
    as there were, ("pool",) by 2x2, ("flatten",), ("dense", units) with relu, ("embedding", words, width), ("mean",) of
    all steps, ("lstm", units), ("encoder", heads, units): attention of a Transformer's encoder and dense layers with so
    many hidden units, each with what it is given added, and normalised. ``weights`` are in Keras's order.
    """

    layers: Sequence[Layer]
    shape: tuple[int, ...]
    classes: int
    weights: Sequence[Any] = ()
    learning_rate: float = 0.001
    rho: float = 0.9
    epsilon: float = 1e-7
    classifies: bool = True


def under_keras_names(layers: Any, stack: Stack) -> list[Any]:
    """The layers, of ``fastnn.layers`` or ``keras.layers``; functions of symbolic tensors where one is several."""

    def block(maps: int, size: int) -> list[Any]:
        convolution = layers.Conv2D(maps, size, padding="same", use_bias=False)
        return [convolution, layers.BatchNormalization(), layers.ReLU()]

    def encoder(heads: int, units: int) -> list[Any]:
        def encoded(x: Any) -> Any:
            width = x.shape[-1]
            y = layers.MultiHeadAttention(heads, width // heads)(x, x)
            x = layers.LayerNormalization()(layers.Add()([x, y]))
            y = layers.Dense(width)(layers.Dense(units, activation="relu")(x))
            return layers.LayerNormalization()(layers.Add()([x, y]))

        return [encoded]

    make: dict[str, Callable[..., list[Any]]] = {
        "conv": lambda maps, size: [layers.Conv2D(maps, size, activation="relu")],
        "block": block,
        "pool": lambda: [layers.MaxPooling2D(2)],
        "flatten": lambda: [layers.Flatten()],
        "dense": lambda units: [layers.Dense(units, activation="relu")],
        "embedding": lambda words, width: [layers.Embedding(words, width)],
        "mean": lambda: [layers.GlobalAveragePooling1D()],
        "lstm": lambda units: [layers.LSTM(units)],
        "encoder": encoder,
    }
    found = chain.from_iterable(make[kind](*numbers) for kind, *numbers in stack.layers)
    first = layers.Input(shape=stack.shape, **({"dtype": "int64"} if stack.layers[0][0] == "embedding" else {}))
    return [first, *found, layers.Dense(stack.classes, activation="softmax")]
