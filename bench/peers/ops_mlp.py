"""The same network as a loop of one's own over ``fastnn.ops``: op by op, as a program, an epoch of it in one call."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn
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
        loss, scores = self._train(x, targets)
        right = int(np.sum(scores.argmax(axis=1) == targets)) if self._classifies else 0
        return loss * len(x), right

    def _train(self, x: Any, targets: Any) -> tuple[float, Any]:
        """One batch: its loss, and what the last layer gave."""
        outputs, last = [x], len(self.weights) - 2
        for layer in range(0, len(self.weights), 2):
            w, b = self.weights[layer : layer + 2]
            outputs.append(ops.linear(outputs[-1], w, b, "relu" if layer < last else "linear"))
        loss, dy = self._loss(outputs[-1], targets)
        for layer in range(last, -1, -2):
            (w, b), states = self.weights[layer : layer + 2], self.mean_squares[layer : layer + 2]
            y, below, activation = outputs[layer // 2 + 1], outputs[layer // 2], "relu" if layer < last else "linear"
            need = ("dx",) if layer else ()
            dy = ops.linear_rmsprop_step(
                dy, below, w, y, states[0], b, states[1], activation=activation, need=need, **self.rates
            )
        return loss, outputs[-1]


class ProgramMLP(OpsMLP):
    """The same loop, its step a program: a call for each batch."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int) -> None:
        super().__init__(network, x, y, batch_size)
        self._train = fastnn.program(self._train)  # type: ignore[method-assign]


class EpochMLP(ProgramMLP):
    """The same program, a call for each epoch; nobody counts right answers."""

    def epoch(self, shuffle: bool = True) -> float:
        """Train on all rows once; mean loss."""
        rows = len(self._targets)
        order = self._rng.permutation(rows) if shuffle else np.arange(rows)
        losses, _ = self._train.repeat((self._x, self._targets), order, self._batch_size)  # type: ignore[attr-defined]
        sizes = np.full(len(losses), self._batch_size)
        sizes[-1] = rows - self._batch_size * (len(losses) - 1)
        return float(losses @ sizes / rows)
