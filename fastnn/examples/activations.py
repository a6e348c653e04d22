"""Activations and their derivatives, all that there are."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import ops, plotting
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS

# Where the place that makes a function one of its own is not between -5 and 5, and what has to be chosen to see it.
SPANS = {"relu6": (-2.0, 10.0), "bounded_relu": (-2.0, 10.0), "exponential": (-3.0, 3.0)}
NUMBERS: dict[str, dict[str, Any]] = {
    "bounded_relu": {"max_value": 4.0, "threshold": 1.0},
    "threshold": {"threshold": 1.0, "default_value": -1.0},
}


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Draw them; the figures are their slopes at 1."""
    names = sorted({op: name for name, op in ELEMENTWISE_ACTIVATIONS.items()}.values())
    across = 6
    down = math.ceil(len(names) / across)
    figure, panels = plotting.empty_figure(
        across * down, "Activations", "and their derivatives", size=(2.6 * across, 0.6 + 2.2 * down), columns=across
    )
    slopes = {}
    for axes, name in zip(panels, names, strict=False):
        op = ELEMENTWISE_ACTIVATIONS[name]
        forward, backward = getattr(ops, op), getattr(ops, f"{op}_backward")

        def slope(x: np.ndarray, forward=forward, backward=backward, **numbers) -> np.ndarray:  # type: ignore[no-untyped-def]
            return np.asarray(backward(np.ones_like(x), x, forward(x, **numbers), **numbers))

        numbers = NUMBERS.get(name, {})
        said = ", ".join(f"{number:g}" for number in numbers.values())
        plotting.activation(
            partial(forward, **numbers),
            partial(slope, **numbers),
            span=SPANS.get(name, (-5, 5)),
            title=f"{name}({said})" if said else name,
            ax=axes,
        )
        axes.legend().set_visible(False)
        slopes[name] = float(slope(np.ones(1))[0])
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper right", ncols=2, frameon=False, fontsize=12)
    plotting.save(figure, out / "activations.png")
    print(f"{'activation':16}{'slope at 1':>12}")
    for name, value in slopes.items():
        print(f"{name:16}{value:12.6f}")
    return slopes
