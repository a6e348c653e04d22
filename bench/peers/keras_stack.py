"""A stack of layers of images or words in Keras 3 on TensorFlow, as ``compile`` leaves it."""

from __future__ import annotations

from typing import Any

from bench.peers.keras_mlp import KerasMLP, set_threads
from bench.peers.stack import Stack, under_keras_names
from fastnn import get_num_threads

import keras  # isort: skip  # once its peer has said on what


class KerasStack(KerasMLP):
    """On samples x and labels y (n,)."""

    def __init__(self, stack: Stack, x: Any, y: Any, batch_size: int) -> None:
        set_threads(get_num_threads())
        self._model = keras.Sequential(under_keras_names(keras.layers, stack))
        self._model.set_weights(stack.weights)
        self._model.compile(
            optimizer=keras.optimizers.RMSprop(stack.learning_rate, rho=stack.rho, epsilon=stack.epsilon),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        self._data, self._batch_size = (x, y), batch_size
