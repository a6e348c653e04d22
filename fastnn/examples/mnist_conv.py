"""MNIST by a convolutional network: 20 maps of 5x5, 2x2 pooling, 100 units; the digits that it misses."""

from __future__ import annotations

from pathlib import Path

from fastnn import layers, models, utils
from fastnn.datasets import mnist
from fastnn.examples.mnist_512 import show_mistakes


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Train it; the figure is the accuracy on the test images."""
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    if quick:
        x_train, y_train, x_test, y_test = x_train[:3000], y_train[:3000], x_test[:1000], y_test[:1000]
    utils.set_random_seed(seed)
    network = models.Sequential()
    network.add(layers.Rescaling(1 / 255, input_shape=(28, 28, 1)))
    network.add(layers.Conv2D(20, 5, activation="relu"))
    network.add(layers.MaxPooling2D(2))
    network.add(layers.Flatten())
    network.add(layers.Dense(100, activation="relu"))
    network.add(layers.Dropout(0.4, seed=seed))
    network.add(layers.Dense(10, activation="softmax"))
    network.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    network.fit(x_train[..., None], y_train, epochs=2 if quick else 6, batch_size=128)
    accuracy = network.evaluate(x_test[..., None], y_test, verbose=0)[1]
    print(f"accuracy on the test images {accuracy:.4f}")
    show_mistakes(network, x_test[..., None], y_test, out / "mnist-conv.png", f"convolution: accuracy {accuracy:.4f}")
    return {"accuracy": accuracy}
