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
    all steps, ("lstm", units). ``weights`` are in Keras's order.
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
    """The layers, of ``fastnn.layers`` or ``keras.layers``."""

    def block(maps: int, size: int) -> list[Any]:
        convolution = layers.Conv2D(maps, size, padding="same", use_bias=False)
        return [convolution, layers.BatchNormalization(), layers.ReLU()]

    make: dict[str, Callable[..., list[Any]]] = {
        "conv": lambda maps, size: [layers.Conv2D(maps, size, activation="relu")],
        "block": block,
        "pool": lambda: [layers.MaxPooling2D(2)],
        "flatten": lambda: [layers.Flatten()],
        "dense": lambda units: [layers.Dense(units, activation="relu")],
        "embedding": lambda words, width: [layers.Embedding(words, width)],
        "mean": lambda: [layers.GlobalAveragePooling1D()],
        "lstm": lambda units: [layers.LSTM(units)],
    }
    found = chain.from_iterable(make[kind](*numbers) for kind, *numbers in stack.layers)
    first = layers.Input(shape=stack.shape, **({"dtype": "int64"} if stack.layers[0][0] == "embedding" else {}))
    return [first, *found, layers.Dense(stack.classes, activation="softmax")]
