"""A stack of layers of images or words through fastnn's trainer."""

from __future__ import annotations

from functools import reduce
from typing import Any

from bench.peers.fastnn_mlp import FastnnMLP
from bench.peers.stack import Stack, under_keras_names
from fastnn import layers, models, optimizers


def model(stack: Stack) -> models.Model:
    """The network, with first weights of its own where the stack has none."""
    first, *found = under_keras_names(layers, stack)
    if all(isinstance(layer, layers.Layer) for layer in found):
        made: models.Model = models.Sequential([first, *found])
    else:
        made = models.Model(first, reduce(lambda x, layer: layer(x), found, first))
    if stack.weights:
        made.set_weights(stack.weights)
    made.compile(
        optimizer=optimizers.RMSprop(stack.learning_rate, rho=stack.rho, epsilon=stack.epsilon),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        backend="cpu",
    )
    return made


class FastnnStack(FastnnMLP):
    """On samples x and labels y (n,)."""

    def __init__(self, stack: Stack, x: Any, y: Any, batch_size: int) -> None:
        self.model = model(stack)
        self._data, self._batch_size = (x, y), batch_size
