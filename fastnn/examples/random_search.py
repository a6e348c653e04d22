"""Learning digits by random changes of single weights, against gradient descent."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fastnn
from fastnn import ops, optimizers, plotting
from fastnn.datasets import digits

SHAPES = ((64, 16), (16,), (16, 10), (10,))


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Learn by both; the figures are the losses at the end of as many evaluations."""
    (x, y), _ = digits.load_data()
    x, y, steps = x[:300].reshape(300, -1) / 16, y[:300], 200 if quick else 3000

    def loss(weights: np.ndarray) -> float:
        """The cross-entropy of a 64-16-10 network whose weights and biases lie one after the other."""
        w1, b1, w2, b2 = parts(weights)
        value: float = ops.softmax_cross_entropy(ops.linear(ops.linear(x, w1, b1, "tanh"), w2, b2), y)[0]
        return value

    rng = np.random.default_rng(seed)
    start = rng.normal(0, 0.2, sum(map(np.prod, SHAPES)))
    searched, best, kept = start.copy(), loss(start), []
    for _ in range(steps):  # a weight at random, changed at random; kept if that is better
        changed = searched.copy()
        changed[rng.integers(len(changed))] += rng.normal(0, 0.5)
        if (found := loss(changed)) < best:
            searched, best = changed, found
        kept.append(best)
    descended = fastnn.minimize(loss, start, optimizer=optimizers.SGD(0.5), tol=0, max_steps=steps)
    figure, (axes,) = plotting.empty_figure(
        1, "300 digits by 64-16-10", "changes of single weights at random, and steps down the gradient"
    )
    axes.semilogy(kept, color=plotting.ORANGE, linestyle="--", linewidth=2, label="random search")
    axes.semilogy(descended.values, color=plotting.BLUE, linewidth=2, label="gradient descent")
    axes.set_xlabel("evaluations")
    axes.set_ylabel("cross-entropy")
    axes.legend(frameon=False)
    plotting.tidy(axes)
    plotting.save(figure, out / "random-search.png")
    figures = {"random search": best, "gradient descent": descended.value}
    for name, value in figures.items():
        print(f"{name:18} cross-entropy {value:.6f} after {steps} evaluations")
    return figures


def parts(weights: np.ndarray) -> list[np.ndarray]:
    """The arrays of the network."""
    ends = np.cumsum([int(np.prod(shape)) for shape in SHAPES])
    return [weights[end - int(np.prod(shape)) : end].reshape(*shape) for end, shape in zip(ends, SHAPES, strict=True)]
