"""Iris by R's neuralnet: 10 sigmoid units, then (5, 3), each drawn with its weights, error and steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fastnn
from fastnn import plotting
from fastnn.datasets import iris


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Train both until no derivative is above the threshold; the figures are their errors, and how many are right."""
    (x, species), _ = iris.load_data(test_split=0)
    names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    data = dict(zip(names, x.T, strict=True))
    data |= {label: (species == place).astype(float) for place, label in enumerate(iris.get_label_names())}
    formula = f"{' + '.join(iris.get_label_names())} ~ {' + '.join(names)}"
    figures: dict[str, float] = {}
    for hidden in ((10,), (5, 3)):
        network = fastnn.neuralnet(
            formula, data, hidden, threshold=0.1 if quick else 0.01, linear_output=False, seed=seed
        )
        said = "-".join(map(str, (4, *hidden, 3)))
        found = network.results[0]
        right = int((np.asarray(network.predict(data)).argmax(axis=1) == species).sum())
        print(f"{said:9} error {found['error']:.6f}, {found['steps']:.0f} steps, {right} of 150 right")
        plotting.save(network.plot(), out / f"iris-{said}.png")
        figures |= {f"{said} error": float(found["error"]), f"{said} right": right}
    return figures
