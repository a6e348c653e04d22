"""The same network through fastnn's trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn import layers, models, optimizers


class FastnnMLP:
    """A Sequential from (kernel, bias) arrays, trained an epoch at a time on one backend."""

    def __init__(
        self,
        weights: Sequence[Any],
        learning_rate: float = 0.001,
        rho: float = 0.9,
        epsilon: float = 1e-7,
        backend: str = "cpu",
    ) -> None:
        stack: list[Any] = [layers.Input(shape=(len(weights[0]),))]
        stack += [layers.Dense(len(bias), activation="relu") for bias in weights[1:-1:2]]
        stack.append(layers.Dense(len(weights[-1]), activation="softmax"))
        self.model = models.Sequential(stack)
        self.model.set_weights(weights)
        self.model.compile(
            optimizer=optimizers.RMSprop(learning_rate, rho=rho, epsilon=epsilon),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            backend=backend,
        )

    def epoch(self, x: Any, labels: Any, batch_size: int, shuffle: bool = True) -> tuple[float, float]:
        """One call of ``fit``, its checks of the data included; mean loss and accuracy of the training passes."""
        history = self.model.fit(x, labels, batch_size=batch_size, epochs=1, shuffle=shuffle, verbose=0).history
        return history["loss"][0], history["accuracy"][0]
