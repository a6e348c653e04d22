"""The same network in PyTorch, eager: modules, autograd, ``torch.optim``.

``torch.optim.RMSprop`` adds epsilon outside the root, Keras inside: the updates differ slightly, their cost does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]
from torch import nn  # type: ignore[import-not-found, unused-ignore]


class PyTorchMLP:
    """Linear and ReLU layers from (kernel, bias) arrays, trained an epoch at a time."""

    def __init__(
        self, weights: Sequence[Any], learning_rate: float = 0.001, rho: float = 0.9, epsilon: float = 1e-7
    ) -> None:
        layers: list[Any] = []
        for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
            linear = nn.Linear(*kernel.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(kernel.T))
                linear.bias.copy_(torch.from_numpy(bias))
            layers += [linear, nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1])
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.RMSprop(self.model.parameters(), lr=learning_rate, alpha=rho, eps=epsilon)

    def epoch(self, x: Any, labels: Any, batch_size: int, order: Any) -> tuple[float, float]:
        """Train on the rows in ``order``; mean loss and accuracy of the training passes."""
        inputs, targets = torch.from_numpy(x), torch.from_numpy(labels)
        loss, right = 0.0, 0
        for rows in torch.from_numpy(order).split(batch_size):
            batch_targets = targets[rows]
            logits = self.model(inputs[rows])
            batch_loss = self.loss(logits, batch_targets)
            self.optimizer.zero_grad()
            batch_loss.backward()
            self.optimizer.step()
            loss += batch_loss.item() * len(rows)
            right += int((logits.argmax(dim=1) == batch_targets).sum())
        return loss / len(order), right / len(order)
