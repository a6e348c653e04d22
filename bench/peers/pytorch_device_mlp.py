"""PyTorch's side on a CUDA device: eager, and compiled as PyTorch does it best, with CUDA graphs."""

from __future__ import annotations

from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]

from bench.peers.network import Network
from bench.peers.pytorch_mlp import PyTorchMLP


class PyTorchDeviceMLP(PyTorchMLP):
    """Data, weights and state on the device; nothing is read before an epoch's end."""

    device = "cuda"


class CompiledMLP(PyTorchDeviceMLP):
    """The module compiled."""

    def build(self, network: Network) -> Any:
        """The module, compiled for its best speed."""
        return torch.compile(super().build(network), mode="max-autotune")
