"""Reuters: newswires in 46 topics, and where validation says to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastnn import layers, models, plotting, utils
from fastnn.datasets import reuters

WORDS = 10_000


def vectorized(newswires: Any) -> np.ndarray:
    """One row a newswire, 1 in the column of every word that occurs in it."""
    rows = np.zeros((len(newswires), WORDS), "float32")
    for row, words in zip(rows, newswires, strict=True):
        row[words] = 1
    return rows


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Train for 20 epochs, then anew for as many as validation says; the figures are epochs and test accuracy."""
    (train, y_train), (test, y_test) = reuters.load_data(num_words=WORDS)
    if quick:
        train, y_train, test, y_test = train[:2000], y_train[:2000], test[:500], y_test[:500]
    x_train, x_test = vectorized(train), vectorized(test)

    def network() -> models.Sequential:
        utils.set_random_seed(seed)
        made = models.Sequential()
        made.add(layers.Dense(64, activation="relu", input_shape=(WORDS,)))
        made.add(layers.Dense(64, activation="relu"))
        made.add(layers.Dense(46, activation="softmax"))
        made.compile("rmsprop", "sparse_categorical_crossentropy", ["accuracy"])
        return made

    held_out = len(x_train) // 9
    history = network().fit(x_train[held_out:], y_train[held_out:], epochs=8 if quick else 20, batch_size=512,
                            validation_data=(x_train[:held_out], y_train[:held_out]), verbose=0)  # fmt: skip
    best = int(np.argmin(history.history["val_loss"])) + 1
    final = network()
    final.fit(x_train, y_train, epochs=best, batch_size=512, verbose=0)
    accuracy = final.evaluate(x_test, y_test, verbose=0)[1]
    print(f"validation loss is least behind epoch {best}; trained anew for as many: test accuracy {accuracy:.4f}")
    figure = plotting.history_figure(
        history.history, title=f"Reuters 10000-64-64-46: test accuracy {accuracy:.4f}", subtitle=f"after {best} epochs"
    )
    plotting.save(figure, out / "reuters.png")
    return {"epochs": best, "accuracy": accuracy}
