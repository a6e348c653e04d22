"""Activations and their derivatives, all that there are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from fastnn import ops, plotting
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Draw them; the figures are their slopes at 1."""
    from matplotlib.figure import Figure

    names = sorted({op: name for name, op in ELEMENTWISE_ACTIVATIONS.items()}.values())
    across = 6
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=(2.6 * across, 2.2 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    slopes = {}
    for axes, name in zip(panels, names, strict=False):
        op = ELEMENTWISE_ACTIVATIONS[name]
        forward, backward = getattr(ops, op), getattr(ops, f"{op}_backward")

        def slope(x: np.ndarray, forward=forward, backward=backward) -> np.ndarray:  # type: ignore[no-untyped-def]
            return np.asarray(backward(np.ones_like(x), x, forward(x)))

        plotting.activation(forward, slope, title=name, ax=axes)
        axes.legend().set_visible(axes is panels[0])
        slopes[name] = float(slope(np.ones(1))[0])
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    plotting.save(figure, out / "activations.png")
    print(f"{'activation':16}{'slope at 1':>12}")
    for name, value in slopes.items():
        print(f"{name:16}{value:12.6f}")
    return slopes
