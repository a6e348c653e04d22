"""``fastnn bench neuralnet``: R's examples, ten seeds of each, as a table and pictures in one folder."""

from __future__ import annotations

import argparse
import os
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench import environment
from fastnn import datasets, files, neuralnet, plotting
from fastnn.neuralnets import NeuralNet
from fastnn.neuralnets.algorithms import ALGORITHMS

_DEFAULT_OUTPUT = Path("neuralnet")
_TABLE = "table.md"
_SEEDS = 10

# What the documents' picture says of its network, and how long a repetition may take.
_ERROR, _SECONDS = 9.03, 2.0

# What backprop learns these networks with.
_RATE = 0.01

# MNIST has no threshold that its network would reach: training is over when the largest derivative is below this.
_MNIST_UNITS, _MNIST_THRESHOLD, _MNIST_STEPS = 15, 10.0, 1000

_EPILOG = f"""\
The folder then holds
  {_TABLE}            error, reached threshold, steps and seconds of every seed, the medians, what is promised
  iris-10.png, iris-5-3.png   the networks whose errors are the medians, with all weights

MNIST, 784-{_MNIST_UNITS}-10, is trained where the variable FASTNN_DATA names a folder with its files.
"""


@dataclass(frozen=True)
class _Fit:
    """A repetition: its seed, how long it took, and what came of it."""

    seed: int
    seconds: float
    net: NeuralNet

    @property
    def result(self) -> dict[str, float]:
        """Error, threshold and steps; not numbers where the threshold was not reached."""
        missing = dict.fromkeys(("error", "reached_threshold", "steps"), float("nan"))
        return self.net.results[0] if self.net.results else missing


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print and write; 0."""
    parser = argparse.ArgumentParser(
        prog="fastnn bench neuralnet",
        description="Train the documents' networks by resilient propagation, as R's neuralnet does.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", metavar="DIR", type=Path, default=_DEFAULT_OUTPUT, help="(default: %(default)s)")
    parser.add_argument("--seeds", metavar="N", type=int, default=_SEEDS, help="repetitions (default: %(default)s)")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default=ALGORITHMS[0], help="Iris's (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        plotting.require()
        options.output.mkdir(parents=True, exist_ok=True)
    except (ImportError, OSError) as error:
        parser.error(str(error))
    report(options.output, max(1, options.seeds), options.algorithm)
    return 0


def report(folder: Path, seeds: int, algorithm: str) -> None:
    """Everything, into a folder."""
    lines = [environment.heading(environment.facts()), ""]
    for hidden in ((10,), (5, 3)):
        name = "-".join(map(str, hidden))
        fits = [_fitted(_iris(), hidden, seed, algorithm) for seed in range(seeds)]
        title = f"iris, 4-{name}-3, logistic units, threshold 0.01, {algorithm}"
        lines += [title, "", *_rows(fits), "", _judged(fits), ""]
        middle = sorted(fits, key=lambda fit: fit.result["error"])[len(fits) // 2]
        if middle.net.results:
            middle.net.plot(file=folder / f"iris-{name}.png")
    if os.environ.get("FASTNN_DATA"):
        lines += _mnist()
    text = "\n".join(lines) + "\n"
    print(text)
    files.write(_TABLE, folder / _TABLE, lambda file: file.write(text.encode()))


def _iris() -> Mapping[str, Any]:
    (x, y), _ = datasets.iris.load_data(test_split=0.0, seed=0)
    columns = dict(zip(("Sepal.Length", "Sepal.Width", "Petal.Length", "Petal.Width"), x.T, strict=True))
    return {**columns, "Species": np.array(datasets.iris.get_label_names())[y]}


def _fitted(data: Mapping[str, Any], hidden: Sequence[int], seed: int, algorithm: str) -> _Fit:
    rate = _RATE if algorithm == "backprop" else None
    began = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the table says it
        net = neuralnet(
            "Species ~ .", data, hidden=hidden, linear_output=False, seed=seed, algorithm=algorithm, learningrate=rate
        )
    return _Fit(seed, perf_counter() - began, net)


def _rows(fits: Sequence[_Fit]) -> list[str]:
    head = ["| seed | error | reached threshold | steps | seconds |", "| --- | --- | --- | --- | --- |"]
    return head + [
        f"| {fit.seed} | {fit.result['error']:.4f} | {fit.result['reached_threshold']:.5f} "
        f"| {fit.result['steps']:,.0f} | {fit.seconds:.2f} |"
        for fit in fits
    ]


def _judged(fits: Sequence[_Fit]) -> str:
    """Medians beside what is promised; the first seed's seconds are those of a process that loads its kernels."""
    error = statistics.median(fit.result["error"] for fit in fits)
    seconds = statistics.median(fit.seconds for fit in fits)
    reached = sum(bool(fit.net.results) for fit in fits)
    met = reached == len(fits) and error <= _ERROR and seconds < _SECONDS
    return (
        f"Threshold reached in {reached} of {len(fits)}; median error {error:.4f} (asked: at most {_ERROR}), median "
        f"{seconds:.2f} s a repetition (asked: under {_SECONDS:g} s): {'met' if met else 'missed'}."
    )


def _mnist() -> list[str]:
    (x, y), (x_test, y_test) = datasets.mnist.load_data()
    names = [f"pixel{place}" for place in range(784)]
    data = dict(zip(names, x.reshape(-1, 784).T / 255.0, strict=True)) | {"digit": y.astype(str)}
    began = perf_counter()
    net = neuralnet(
        (["digit"], names), data, hidden=_MNIST_UNITS, linear_output=False, seed=0, threshold=_MNIST_THRESHOLD,
        stepmax=_MNIST_STEPS,
    )  # fmt: skip
    seconds = perf_counter() - began
    title = (
        f"MNIST, 784-{_MNIST_UNITS}-10, logistic units, all 60,000 rows in each step, threshold {_MNIST_THRESHOLD:g}"
    )
    if not net.results:
        return [f"{title}: not reached in {_MNIST_STEPS} steps."]
    result = net.results[0]
    right = (net.predict(x_test.reshape(-1, 784) / 255.0).argmax(axis=1) == y_test).mean()
    said = f"error {result['error']:.1f} after {result['steps']:,} steps, {seconds:.1f} s"
    return [f"{title}: {said}; test accuracy {right:.4f}."]
