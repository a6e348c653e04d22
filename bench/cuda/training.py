"""Epochs of fits on a device, beside the same network in PyTorch and JAX there, and on the CPU of the machine.

So are predictions, and how long a fit takes to the end of its first batch.

An epoch is one inside a fit, on the wall, from its beginning until its figures are read: what a fit does beforehand
(checks, conversions, copies to the device, captures) is left out on every side. Data are made, of the real shapes and
densities; all start from the same weights and train with RMSprop, and a check that their losses agree comes first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from bench import timing
from bench.cuda.kernels import Device, Effort
from bench.measure import Line
from bench.peers import load
from bench.peers.fastnn_mlp import FastnnMLP
from bench.peers.network import CROSS_ENTROPY, SQUARED_ERROR, Network
from bench.suite import FASTNN, FASTNN_CUDA, JAX, PYTORCH, TORCH_COMPILED, assert_agree, in_a_line, installed
from bench.training import Rows, initial_weights, made_mnist, made_reuters

# The class of each other side.
_PEERS = {
    PYTORCH: "pytorch_device_mlp.PyTorchDeviceMLP",
    TORCH_COMPILED: "pytorch_device_mlp.CompiledMLP",
    JAX: "jax_mlp.JaxMLP",
}

# The check trains so many batches in order; PyTorch's epsilon sits elsewhere, so its curve is only close.
_CHECKED_BATCHES = 4
_TOLERANCES = {FASTNN: 1e-3, PYTORCH: 0.1, TORCH_COMPILED: 0.1, JAX: 1e-2}

# Of probabilities, whose products are summed in another order, and by PyTorch and JAX perhaps of rounded operands.
_PREDICTED = 1e-3

_SEED = 3


def _made_fashion(rows: int) -> Rows:
    """Images of which half of the pixels are not zero, as of real clothes, and labels."""
    rng = np.random.default_rng(_SEED)
    x = rng.random((rows, 784), np.float32)
    return np.where(x < 0.5, 0, x), rng.integers(0, 10, rows)


def _made_boston(rows: int) -> Rows:
    """Standardised attributes, and values that follow from them with noise."""
    rng = np.random.default_rng(_SEED)
    x = rng.standard_normal((rows, 13)).astype(np.float32)
    return x, (x[:, 0] - 2 * x[:, 1] + 0.1 * rng.standard_normal(rows)).astype(np.float32)


# What is timed, by the method of each side, and the unit.
EPOCH, PREDICTION, FIRST_BATCH = ("epoch", "TFLOP/s"), ("predict", "TFLOP/s"), ("first_batch", "batches/s")


@dataclass(frozen=True)
class Job:
    """An epoch of a network on rows that ``made`` makes, or something else that is timed of it."""

    dataset: str
    widths: tuple[int, ...]
    batch: int
    rows: int
    made: Callable[[int], Rows]
    loss: str = CROSS_ENTROPY
    at_least: Mapping[str, float] = field(default_factory=dict, hash=False)
    share_at_least: float | None = None
    timed: tuple[str, str] = EPOCH
    memory_limit: int | None = None

    @property
    def name(self) -> str:
        """The line's."""
        what, shape = self.timed[0].replace("_", " "), "-".join(map(str, self.widths))
        streamed = "" if self.memory_limit is None else f", streamed through {self.memory_limit:,} bytes"
        return f"{what} {self.dataset}, {shape}, batch {self.batch}, {self.rows:,} made rows{streamed}"

    def measured(self, device: Device, effort: Effort) -> Line:
        """The line; AssertionError where losses disagree."""
        x, targets = self.made(self.rows)
        network = Network(initial_weights(self.widths, _SEED), self.loss)
        sides = self._sides(device, network, x, targets)
        method, unit = self.timed
        calls = {name: getattr(side, method) for name, side in sides.items() if hasattr(side, method)}
        if self.timed == PREDICTION:
            for name, call in calls.items():
                assert_agree(f"outputs, fastnn against {name}", call(), calls[FASTNN_CUDA](), _PREDICTED)
        samples = timing.interleave(calls, effort.blocks, 0.0)
        return Line(
            name=self.name,
            unit=unit,
            samples=samples,
            work=dict.fromkeys(samples, self._work()),
            notes={},
            at_least=self.at_least,
            ours=FASTNN_CUDA,
        )

    def _limits(self) -> dict[str, Any]:
        """What our side on the device is compiled with beside that; others hold all samples there."""
        return {} if self.memory_limit is None else {"memory_limit": self.memory_limit}

    def _work(self) -> float:
        """Of a call, in what the unit is made of."""
        if self.timed == FIRST_BATCH:
            return 1.0
        return self.rows * _flops(self.widths, trains=self.timed == EPOCH) / 1e12

    def _sides(self, device: Device, network: Network, x: Any, targets: Any) -> dict[str, Any]:
        """Everyone who can train the network here, on all rows."""
        few = min(len(x), _CHECKED_BATCHES * self.batch)
        makers: dict[str, Callable[..., Any]] = {
            FASTNN_CUDA: partial(FastnnMLP, backend="cuda", **self._limits()),
            FASTNN: FastnnMLP,
            **{name: partial(_peer, path) for name, path in _PEERS.items() if installed(name)},
        }
        losses: dict[str, Any] = {}
        sides: dict[str, Any] = {}
        for name, make in makers.items():
            try:
                losses[name] = make(network, x[:few], targets[:few], self.batch).epoch(False)
                sides[name] = make(network, x, targets, self.batch)
            except Exception as error:  # a peer's, whatever it is: the line is measured without it
                if name == FASTNN_CUDA:
                    raise
                device.failed[name, self.name] = in_a_line(error)
        for name in sides.keys() - {FASTNN_CUDA}:
            error_of = f"loss, fastnn against {name}"
            np.testing.assert_allclose(losses[FASTNN_CUDA], losses[name], _TOLERANCES[name], err_msg=error_of)
        return sides


def _peer(path: str, *arguments: Any) -> Any:
    """Another library's side, which finds the device by itself."""
    os.environ.setdefault("JAX_PLATFORMS", "cuda")
    return load(path)(*arguments)


def _flops(widths: tuple[int, ...], trains: bool = True) -> int:
    """Of a sample's products: forwards, and in training twice backwards but for the inputs' gradient."""
    products = [2 * k * n for k, n in pairwise(widths)]
    return 3 * sum(products) - products[0] if trains else sum(products)


_MNIST_BARS = {PYTORCH: 15.0, TORCH_COMPILED: 2.0, JAX: 2.0}


def jobs(quick: bool) -> list[Job]:
    """The documents' networks, those with promises first, and a wide one."""
    share = 10 if quick else 1
    return [
        Job("mnist", (784, 512, 10), 128, 60_000 // share, made_mnist, at_least=_MNIST_BARS),
        Job("reuters", (10_000, 64, 64, 46), 512, 8_982, made_reuters, at_least={PYTORCH: 10.0}),
        Job("fashion_mnist", (784, 512, 10), 128, 60_000 // share, _made_fashion),
        Job("boston_housing", (13, 64, 64, 1), 32, 404, _made_boston, SQUARED_ERROR),
        Job("wide", (784, 2048, 2048, 10), 128, 60_000 // share, made_mnist),
        Job("fashion_mnist", (784, 512, 10), 128, 60_000 // share, _made_fashion, memory_limit=2**24),
        Job("mnist", (784, 512, 10), 128, 10_000, made_mnist, timed=PREDICTION),
        Job("wide", (784, 2048, 2048, 10), 128, 10_000, made_mnist, timed=PREDICTION),
        Job("mnist", (784, 512, 10), 128, 60_000 // share, made_mnist, timed=FIRST_BATCH),
    ]
