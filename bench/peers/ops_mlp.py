"""The same network as a loop of one's own over ``fastnn.ops``: op by op, with NumPy's arrays between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.peers.network import Network
from fastnn import ops


class OpsMLP:
    """Layers of (kernel, bias) on rows x (n, in) and targets y (n,)."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int) -> None:
        self.weights = [w.copy() for w in network.weights]
        self.mean_squares = [np.zeros_like(w) for w in self.weights]
        self._gradients = [np.empty_like(w) for w in self.weights]
        self._classifies, self._batch_size, self._x = network.classifies, batch_size, x
        self._targets = y if network.classifies else y[:, np.newaxis]
        self._loss = getattr(ops, network.loss)
        self._rates = {"learning_rate": network.learning_rate, "rho": network.rho, "epsilon": network.epsilon}
        self._rng = np.random.default_rng()

    def epoch(self, shuffle: bool = True) -> float:
        """Train on all rows once, counting right answers as well where there are classes; mean loss."""
        order = self._rng.permutation(len(self._x)) if shuffle else np.arange(len(self._x))
        loss, right = 0.0, 0
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            batch_loss, batch_right = self._step(self._x[rows], self._targets[rows])
            loss += batch_loss * len(rows)
            right += batch_right
        return loss / len(order)

    def _step(self, x: Any, targets: Any) -> tuple[float, int]:
        """One batch; its mean loss and the number of right answers."""
        outputs, last = [x], len(self.weights) - 2
        for layer in range(0, len(self.weights), 2):
            w, b = self.weights[layer : layer + 2]
            outputs.append(ops.linear(outputs[-1], w, b, "relu" if layer < last else "linear"))
        right = int(np.sum(outputs[-1].argmax(axis=1) == targets)) if self._classifies else 0
        loss, dy = self._loss(outputs[-1], targets)
        for layer in range(last, -1, -2):
            w, y, below = self.weights[layer], outputs[layer // 2 + 1], outputs[layer // 2]
            need = ("dx", "dw", "db") if layer else ("dw", "db")
            dw, db = self._gradients[layer : layer + 2]
            activation = "relu" if layer < last else "linear"
            dy, _, _ = ops.linear_backward(dy, below, w, y, activation, need=need, dw=dw, db=db)
            for index in (layer, layer + 1):
                ops.rmsprop_step(self.weights[index], self._gradients[index], self.mean_squares[index], **self._rates)
        return loss, right
