"""The same network through fastnn's trainer."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from bench.peers.network import Network
from bench.timing import LaterEpochs, uncounted
from fastnn import callbacks, engine, layers, models, optimizers


class _Clock(LaterEpochs, callbacks.Callback):
    """The clock of the benchmarks as a callback."""

    def leaves_weights(self) -> bool:
        """It looks at none."""
        return True


class FastnnMLP:
    """A Sequential on rows x (n, in) and targets y (n,); ``compiling`` goes to ``compile``, as in backend="naive"."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int, **compiling: Any) -> None:
        *hidden, last = network.layers
        stack: list[Any] = [layers.Input(shape=(len(network.weights[0]),))]
        stack += [layers.Dense(len(bias), activation="relu") for _, bias in hidden]
        stack.append(layers.Dense(len(last[1]), activation="softmax" if network.classifies else "linear"))
        self.model: models.Model = models.Sequential(stack)
        self.model.set_weights(network.weights)
        self.model.compile(
            optimizer=optimizers.RMSprop(network.learning_rate, rho=network.rho, epsilon=network.epsilon),
            loss="sparse_categorical_crossentropy" if network.classifies else "mse",
            **{"backend": "cpu", "metrics": ["accuracy"] if network.classifies else None, **compiling},
        )
        self._data, self._batch_size = (x, y), batch_size

    def epoch(self, shuffle: bool = True) -> float:
        """A fit of two epochs, of which the second one counts; the mean loss of the first."""
        with uncounted():
            history = self.model.fit(
                *self._data, batch_size=self._batch_size, epochs=2, shuffle=shuffle, verbose=0, callbacks=[_Clock()]
            )
        return float(history.history["loss"][0])

    def predict(self) -> Any:
        """Outputs for all rows."""
        return self.model.predict(self._data[0], verbose=0)

    def first_batch(self) -> None:
        """A fit from its call to the end of its first batch: with all that is done before, compilation left out."""

        def stop(batch: int, logs: Any) -> None:
            self.model.stop_training = True

        stopping = callbacks.LambdaCallback(on_train_batch_end=stop)
        self.model.fit(*self._data, batch_size=self._batch_size, verbose=0, callbacks=[stopping])


class LayerwiseMLP(FastnnMLP):
    """The same where the fused runner took none of it."""

    def epoch(self, shuffle: bool = True) -> float:
        """A fit of two epochs, layer by layer, of which the second one counts; the mean loss of the first."""
        with patch.dict(engine.RUNNERS, fused=engine.LayerwiseRunner):
            return super().epoch(shuffle)
