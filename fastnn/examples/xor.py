"""XOR: a perceptron fails, and why; a 2-4-1 network learns it; its surface."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastnn import layers, models, optimizers, plotting, utils

X = np.array([(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)])
Y = np.array([-1.0, 1.0, 1.0, -1.0])


def perceptron(epochs: int, rate: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """The perceptron's rule, w += rate (y - sign(w.x)) x; its weights behind each sample, and how many are right."""
    x, w, seen = np.c_[X, np.ones(4)], np.zeros(3), []
    for _ in range(epochs):
        for sample, label in zip(x, Y, strict=True):
            w = w + rate * (label - np.where(sample @ w >= 0, 1.0, -1.0)) * sample
            seen.append(w)
    return np.array(seen), (np.where(np.array(seen) @ x.T >= 0, 1.0, -1.0) == Y).sum(axis=1)


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Train both; the figures are their accuracies."""
    lines, right = perceptron(100)
    best = lines[right.argmax()]
    print(f"perceptron: at most {right.max()} of 4 right in 100 epochs, {right[-1]} at the end")
    print("  w.x + b > 0 at (-1, 1) and (1, -1) adds up to 2b > 0, w.x + b < 0 at the others to 2b < 0:")
    print("  no line has both, and the rule goes round for ever")

    utils.set_random_seed(seed)
    network = models.Sequential([layers.Dense(4, "tanh", input_shape=(2,)), layers.Dense(1, "sigmoid")])
    network.compile(optimizers.Adam(0.05), "binary_crossentropy", ["accuracy"])
    history = network.fit(X, Y > 0, batch_size=4, epochs=300, verbose=0)
    loss, accuracy = network.evaluate(X, Y > 0, verbose=0)
    print(f"2-4-1: {round(4 * accuracy)} of 4 right, cross-entropy {loss:.4f}")

    figure, panels = plotting.empty_figure(3, "XOR", "a line cannot part the classes, four hidden units can")
    plotting.decision_surface(
        lambda p: np.c_[p, np.ones(len(p))] @ best, X, Y, labels=("0", "1"), boundary=0, ax=panels[0]
    )
    panels[0].set_title(f"perceptron, its best line: {right.max()} of 4", loc="left", fontsize=11)
    plotting.decision_surface(network, X, Y, labels=("0", "1"), ax=panels[1])
    panels[1].set_title(f"2-4-1: {round(4 * accuracy)} of 4", loc="left", fontsize=11)
    figure.colorbar(panels[1].images[0], ax=panels[1], label="output")
    for axes in panels[:2]:
        axes.set(xlabel="$x_1$", ylabel="$x_2$")
    plotting.learning_curve(history, "loss", ax=panels[2])
    plotting.save(figure, out / "xor.png")
    return {"perceptron": float(right.max() / 4), "2-4-1": accuracy}
