"""The same network as a loop of one's own over ``fastnn.ops``: op by op, with NumPy's arrays between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.peers.loop import Loop
from bench.peers.network import Network
from fastnn import ops


class OpsMLP(Loop):
    """The loop with ops, weights stepped by gradients that are never in memory."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int) -> None:
        super().__init__(network, x, y, batch_size)
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
            (w, b), states = self.weights[layer : layer + 2], self.mean_squares[layer : layer + 2]
            y, below, activation = outputs[layer // 2 + 1], outputs[layer // 2], "relu" if layer < last else "linear"
            need = ("dx",) if layer else ()
            dy = ops.linear_rmsprop_step(
                dy, below, w, y, states[0], b, states[1], activation=activation, need=need, **self.rates
            )
        return loss * len(x), right
