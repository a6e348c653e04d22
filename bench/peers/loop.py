"""What training loops of one's own share, whatever they compute a step with: weights, batches, figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.peers.network import Network


class Loop:
    """Layers of (kernel, bias) on rows x (n, in) and targets y (n,); subclasses give the step."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int) -> None:
        self.weights = [w.copy() for w in network.weights]
        self.mean_squares = [np.zeros_like(w) for w in self.weights]
        self.rates = {"learning_rate": network.learning_rate, "rho": network.rho, "epsilon": network.epsilon}
        self._x, self._batch_size = x, batch_size
        self._targets = y if network.classifies else y[:, np.newaxis]
        self._rng = np.random.default_rng()

    def epoch(self, shuffle: bool = True) -> float:
        """Train on all rows once, counting right answers as well where there are classes; mean loss."""
        order = self._rng.permutation(len(self._targets)) if shuffle else np.arange(len(self._targets))
        loss, right = 0.0, 0
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            batch_loss, batch_right = self._step(self._x[rows], self._targets[rows])
            loss += batch_loss
            right += batch_right
        return loss / len(order)

    def _step(self, x: Any, targets: Any) -> tuple[float, int]:
        """One batch; the sum of its losses and the number of right answers."""
        raise NotImplementedError(f"{type(self).__name__}: wants a method _step(x, targets)")
