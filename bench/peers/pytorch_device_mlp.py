"""PyTorch's side on a CUDA device: eager, and compiled as PyTorch does it best, with CUDA graphs."""

from __future__ import annotations

from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]

from bench.peers.network import Network
from bench.peers.pytorch_mlp import PyTorchMLP


class _OnDevice(PyTorchMLP):
    """Data, weights and state on the device; nothing is read before an epoch's end."""

    device = "cuda"


class PyTorchDeviceMLP(_OnDevice):
    """The module as it is."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int) -> None:
        super().__init__(network, x, y, batch_size)
        self._given = network, x, y, batch_size

    def first_batch(self) -> None:
        """From arrays of the host's to the end of a step of the first batch."""
        made = PyTorchDeviceMLP(*self._given)
        made._targets = made._targets[: made._batch_size]
        made.epoch(shuffle=False)


class CompiledMLP(_OnDevice):
    """The module compiled, which takes longer than an epoch: no time to a first batch is comparable."""

    def build(self, network: Network) -> Any:
        """The module, compiled for its best speed."""
        return torch.compile(super().build(network), mode="max-autotune")
