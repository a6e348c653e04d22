"""The same network in Keras 3 on TensorFlow.

As ``compile`` leaves it, and at its fastest: compiled by XLA, many batches in one call of TensorFlow. An MNIST epoch on
two cores of a Zen 5 took 1.0 s with Keras's defaults, 0.7 s with XLA, 0.8 s with 128 batches a call, 0.47 s with both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.peers.network import Network
from bench.timing import LaterEpochs, uncounted
from fastnn import get_num_threads

_BATCHES_A_CALL = 128


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what native code writes to standard error: TensorFlow reports there before it knows its log level."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


os.environ["KERAS_BACKEND"] = "tensorflow"  # read when Keras is imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _quiet():
    import keras
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


def set_threads(threads: int) -> None:
    """Both pools of this size; RuntimeError where TensorFlow has started with another."""
    config = tf.config.threading
    if (config.get_intra_op_parallelism_threads(), config.get_inter_op_parallelism_threads()) != (threads, threads):
        config.set_intra_op_parallelism_threads(threads)
        config.set_inter_op_parallelism_threads(threads)


class _Clock(LaterEpochs, keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """The clock of the benchmarks as a callback."""


class KerasMLP:
    """A Sequential on rows x (n, in) and targets y (n,); ``compiling`` goes to ``compile``."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int, **compiling: Any) -> None:
        set_threads(get_num_threads())
        *hidden, last = network.layers
        stack = [keras.layers.Input(shape=(len(network.weights[0]),))]
        stack += [keras.layers.Dense(len(bias), activation="relu") for _, bias in hidden]
        stack.append(keras.layers.Dense(len(last[1]), activation="softmax" if network.classifies else "linear"))
        self._model = keras.Sequential(stack)
        self._model.set_weights(network.weights)
        self._model.compile(
            optimizer=keras.optimizers.RMSprop(network.learning_rate, rho=network.rho, epsilon=network.epsilon),
            loss="sparse_categorical_crossentropy" if network.classifies else "mse",
            metrics=["accuracy"] if network.classifies else None,
            **compiling,
        )
        self._data, self._batch_size = (x, y), batch_size

    def epoch(self, shuffle: bool = True) -> float:
        """A fit of two epochs, of which the second one counts; the mean loss of the first."""
        with uncounted():
            history = self._model.fit(
                *self._data, batch_size=self._batch_size, epochs=2, shuffle=shuffle, verbose=0, callbacks=[_Clock()]
            )
        return float(history.history["loss"][0])


class KerasXlaMLP(KerasMLP):
    """The same at its fastest."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int) -> None:
        super().__init__(network, x, y, batch_size, jit_compile=True, steps_per_execution=_BATCHES_A_CALL)
