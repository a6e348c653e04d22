"""The same network as a loop of one's own over ``fastnn.ops``: op by op, with NumPy's arrays between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.peers.loop import Loop
from bench.peers.network import Network
from fastnn import ops


class OpsMLP(Loop):
    """The loop with ops, gradients in arrays that are kept."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int) -> None:
        super().__init__(network, x, y, batch_size)
        self._gradients = [np.empty_like(w) for w in self.weights]
        self._classifies, self._loss = network.classifies, getattr(ops, network.loss)

    def _step(self, x: Any, targets: Any) -> tuple[float, int]:
        """One batch; the sum of its losses and the number of right answers."""
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
        ops.rmsprop_step(self.weights, self._gradients, self.mean_squares, **self.rates)
        return loss * len(x), right
