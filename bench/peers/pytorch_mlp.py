"""The same network in PyTorch, eager: modules, autograd, ``torch.optim``, batches by ``index_select``.

``torch.optim.RMSprop`` adds epsilon outside the root, Keras inside: the updates differ slightly, their cost does not.
"""

from __future__ import annotations

from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]

# Optimizers load it, and Triton with it, whose LLVM has to come before TensorFlow's.
import torch._dynamo  # type: ignore[import-not-found, unused-ignore]
from torch import nn  # type: ignore[import-not-found, unused-ignore]

from bench.peers.network import Network
from fastnn import get_num_threads


def linear(kernel: Any, bias: Any) -> Any:
    """A Linear of kernel (in, out) and bias (out,)."""
    layer = nn.Linear(*kernel.shape)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(kernel.T))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer


def stack(network: Network, first: Any) -> Any:
    """The network on top of its first layer."""
    layers = [first]
    for kernel, bias in network.layers[1:]:
        layers += [nn.ReLU(), linear(kernel, bias)]
    return nn.Sequential(*layers)


class PyTorchMLP:
    """Linear and ReLU layers on rows x (n, in) and targets y (n,), on a ``device`` of PyTorch's."""

    device = "cpu"

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int) -> None:
        torch.set_num_threads(get_num_threads())
        self._model = self.build(network).to(self.device)
        self._loss = nn.CrossEntropyLoss() if network.classifies else nn.MSELoss()
        self._optimizer = torch.optim.RMSprop(
            self._model.parameters(), lr=network.learning_rate, alpha=network.rho, eps=network.epsilon
        )
        self._classifies, self._batch_size = network.classifies, batch_size
        targets = torch.from_numpy(y).to(self.device)
        self._targets = targets if network.classifies else targets[:, None]
        self.hold(x)

    def build(self, network: Network) -> Any:
        """The module."""
        return stack(network, linear(*network.layers[0]))

    def hold(self, x: Any) -> None:
        """Keep the inputs as ``batch`` wants them."""
        self._inputs = torch.from_numpy(x).to(self.device)

    def batch(self, rows: Any) -> tuple[Any, ...]:
        """What the module takes for some rows."""
        return (self._inputs.index_select(0, rows),)

    def epoch(self, shuffle: bool = True) -> float:
        """Train on all rows once, counting right answers as well; mean loss."""
        count = len(self._targets)
        loss = torch.zeros((), device=self.device)
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        order = (torch.randperm if shuffle else torch.arange)(count, device=self.device)
        for rows in order.split(self._batch_size):
            targets = self._targets.index_select(0, rows)
            outputs = self._model(*self.batch(rows))
            batch_loss = self._loss(outputs, targets)
            self._optimizer.zero_grad()
            batch_loss.backward()
            self._optimizer.step()
            loss += batch_loss.detach() * len(rows)
            if self._classifies:
                right += (outputs.argmax(dim=1) == targets).sum()
        return float(loss) / count

    def predict(self) -> Any:
        """Probabilities for all rows, without autograd."""
        with torch.no_grad():
            return self._model(self._inputs).softmax(dim=1).cpu().numpy()
