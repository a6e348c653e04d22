"""An autoencoder: digits through a narrow middle and back, reconstructions below their originals."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastnn import layers, models, plotting, utils
from fastnn.datasets import digits


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Train it; the figures are the mean squared errors of test digits, by the network and by the mean digit."""
    (x_train, _), (x_test, _) = digits.load_data()
    x_train, x_test = (part.reshape(len(part), -1) / 16 for part in (x_train, x_test))
    utils.set_random_seed(seed)
    network = models.Sequential()
    network.add(layers.Dense(64, activation="relu", input_shape=(64,)))
    network.add(layers.Dense(12, activation="relu"))  # all that is left of a digit
    network.add(layers.Dense(64, activation="relu"))
    network.add(layers.Dense(64, activation="sigmoid"))
    network.compile("adam", "mse")
    network.fit(x_train, x_train, batch_size=32, epochs=30 if quick else 150, verbose=0)
    error = network.evaluate(x_test, x_test, verbose=0)
    mean = float(np.mean((x_test - x_train.mean(axis=0)) ** 2))
    print(f"mean squared error of test digits: {error:.4f}; of the mean digit in their place {mean:.4f}")
    shown = x_test[:12]
    pairs = np.concatenate([shown, network.predict(shown, verbose=0)])
    figure, (axes,) = plotting.empty_figure(
        1, "64-64-12-64-64", f"test digits, and what comes back of them: mse {error:.4f}", size=(9, 2.4)
    )
    plotting.images(pairs, shape=(8, 8), columns=len(shown), ax=axes)
    plotting.save(figure, out / "autoencoder.png")
    return {"network": error, "mean": mean}
