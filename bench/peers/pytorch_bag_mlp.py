"""The same network in PyTorch on rows that are mostly zeros: an ``EmbeddingBag`` sums the kernel's rows of a sample.

The sample's columns are listed beforehand. Gradients are dense, as ``torch.optim.RMSprop`` wants them; a step of the
same formula written for sparse ones took 1.3 times as long on Reuters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found, unused-ignore]
from torch import nn  # type: ignore[import-not-found, unused-ignore]

from bench.peers.network import Network
from bench.peers.pytorch_mlp import PyTorchMLP, stack


class _Bag(nn.Module):  # type: ignore[misc, unused-ignore]
    """A linear layer on lists of the columns that are 1."""

    def __init__(self, kernel: Any, bias: Any) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag.from_pretrained(torch.tensor(kernel), mode="sum", freeze=False)
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, batch: tuple[Any, Any]) -> Any:
        return self.bag(*batch) + self.bias


class PyTorchBagMLP(PyTorchMLP):
    """Linear and ReLU layers on rows x (n, in) of zeros and ones and targets y (n,)."""

    def build(self, network: Network) -> Any:
        """The module."""
        return stack(network, _Bag(*network.layers[0]))

    def hold(self, x: Any) -> None:
        """List the columns of every row, one row after the other."""
        rows, columns = np.nonzero(x)
        lengths = np.bincount(rows, minlength=len(x))
        self._columns, self._lengths = torch.from_numpy(columns), torch.from_numpy(lengths)
        self._starts = self._lengths.cumsum(0) - self._lengths

    def batch(self, rows: Any) -> tuple[Any, ...]:
        """The columns of some rows, end to end, and where each row's begin."""
        lengths = self._lengths.index_select(0, rows)
        offsets = lengths.cumsum(0) - lengths
        shifts = torch.repeat_interleave(self._starts.index_select(0, rows) - offsets, lengths)
        return ((self._columns.index_select(0, torch.arange(len(shifts)) + shifts), offsets),)
