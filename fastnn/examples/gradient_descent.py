"""Gradient descent on x^2 and on x1^2 + x2^2: the way down to 0, and a rate too high."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fastnn
from fastnn import ops, optimizers, plotting


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Go down; the figures are how far from 0 each descent ends, and the steps that it takes."""
    figure, panels = plotting.empty_figure(3, "Gradient descent", "x becomes x - rate * f'(x)")
    figures = {}
    descents = [
        ("x^2, rate 0.1", [4.0], 0.1, 1000),
        ("x1^2 + x2^2, rate 0.1", [4.0, -2.5], 0.1, 1000),
        ("x^2, rate 0.95: to and fro", [4.0], 0.95, 25),
    ]
    for axes, (name, start, rate, steps) in zip(panels, descents, strict=True):
        found = fastnn.minimize(_squares, start, optimizer=optimizers.SGD(rate), max_steps=steps)
        plotting.descent(lambda x: float(np.sum(x * x)), found.path, ax=axes)
        axes.set_title(name.replace("^2", "²"), loc="left", fontsize=11)
        figures[name] = float(np.abs(found.x).max())
        print(f"{name:28} {found.steps:4} steps from {start} to {np.round(found.x, 9)}")
    plotting.save(figure, out / "gradient-descent.png")
    return figures


def _squares(x: np.ndarray) -> float:
    value: float = ops.sum(ops.square(x))
    return value
