"""MNIST by 784-512-10, the course's network: five epochs, and the digits that it takes for others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastnn import layers, models, plotting, utils
from fastnn.datasets import mnist


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Train it; the figure is the accuracy on the test images."""
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    if quick:
        x_train, y_train, x_test, y_test = x_train[:4000], y_train[:4000], x_test[:1000], y_test[:1000]
    utils.set_random_seed(seed)
    network = models.Sequential()
    network.add(layers.Rescaling(1 / 255, input_shape=(28, 28)))
    network.add(layers.Flatten())
    network.add(layers.Dense(512, activation="relu"))
    network.add(layers.Dense(10, activation="softmax"))
    network.compile("rmsprop", "sparse_categorical_crossentropy", ["accuracy"])
    network.fit(x_train, y_train, epochs=2 if quick else 5, batch_size=128)
    accuracy = network.evaluate(x_test, y_test, verbose=0)[1]
    print(f"accuracy on the test images {accuracy:.4f}")
    show_mistakes(network, x_test, y_test, out / "mnist-512.png", f"784-512-10: accuracy {accuracy:.4f}")
    return {"accuracy": accuracy}


def show_mistakes(network: models.Model, x: np.ndarray, y: np.ndarray, path: Path, title: str) -> None:
    """Draw who is taken for whom, and the mistakes of which the network is surest."""
    outputs = network.predict(x, verbose=0)
    said = outputs.argmax(axis=1)
    wrong = np.flatnonzero(said != y)
    surest = wrong[np.argsort(-outputs[wrong].max(axis=1), kind="stable")][:24]
    figure, (left, right) = plotting.empty_figure(
        2, title, f"{len(wrong)} of {len(y):,} wrong; on the right those of which it is surest"
    )
    plotting.confusion_matrix(y, said, ax=left)
    captions = [f"{y[place]}, not {said[place]}" for place in surest]
    plotting.images(x[surest].reshape(-1, 28, 28), captions, columns=6, ax=right)
    plotting.save(figure, path)
