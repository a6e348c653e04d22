"""MNIST by 15 sigmoid units: what so few learn, and the weights of each as an image."""

from __future__ import annotations

from pathlib import Path

from fastnn import layers, models, optimizers, plotting, utils
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
    network.add(layers.Dense(15, activation="sigmoid"))
    network.add(layers.Dense(10, activation="softmax"))
    network.compile(optimizers.Adam(0.005), "sparse_categorical_crossentropy", ["accuracy"])
    network.fit(x_train, y_train, epochs=6 if quick else 15, batch_size=64)
    accuracy = network.evaluate(x_test, y_test, verbose=0)[1]
    print(f"accuracy on the test images {accuracy:.4f}")
    figure, (left, right) = plotting.empty_figure(
        2,
        f"784-15-10: accuracy {accuracy:.4f}",
        "on the right the weights of the 15 units: dark negative, light positive",
    )
    plotting.confusion_matrix(y_test, network.predict(x_test, verbose=0).argmax(axis=1), ax=left)
    plotting.weight_images(network.get_weights()[0], (28, 28), columns=5, ax=right)
    plotting.save(figure, out / "mnist-15.png")
    return {"accuracy": accuracy}
