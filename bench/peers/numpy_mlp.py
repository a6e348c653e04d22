"""A ReLU network with RMSprop (Keras's formula) in NumPy alone: the textbook loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.peers.loop import Loop
from bench.peers.network import Network


class NumpyMLP(Loop):
    """The loop with NumPy's expressions."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int) -> None:
        super().__init__(network, x, y, batch_size)
        self._loss = _cross_entropy if network.classifies else _squared_error

    def predict(self) -> Any:
        """Probabilities for all rows."""
        logits = self._outputs(self._x)[-1]
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return logits

    def _outputs(self, x: Any) -> list[Any]:
        """The rows, and what every layer makes of them."""
        outputs = [x]
        for layer in range(0, len(self.weights), 2):
            z = outputs[-1] @ self.weights[layer]
            z += self.weights[layer + 1]
            outputs.append(np.maximum(z, 0, out=z) if layer + 2 < len(self.weights) else z)
        return outputs

    def _step(self, x: Any, targets: Any) -> tuple[float, int]:
        """One batch; the sum of its losses and the number of right answers."""
        outputs = self._outputs(x)
        loss, right, dz = self._loss(outputs[-1], targets)
        for layer in range(len(self.weights) - 2, -1, -2):
            below = outputs[layer // 2]
            dw, db = below.T @ dz, dz.sum(axis=0)
            if layer:
                dz = (dz @ self.weights[layer].T) * (below > 0)
            self._update(layer, dw)
            self._update(layer + 1, db)
        return loss, right

    def _update(self, index: int, gradient: Any) -> None:
        mean_square, (learning_rate, rho, epsilon) = self.mean_squares[index], self.rates.values()
        mean_square *= rho
        mean_square += (1 - rho) * gradient * gradient
        self.weights[index] -= learning_rate * gradient / np.sqrt(mean_square + epsilon)


def _cross_entropy(logits: Any, labels: Any) -> tuple[float, int, Any]:
    """(sum of the rows' losses, right answers, derivative of the mean)."""
    rows = np.arange(len(logits))
    shifted = logits - logits.max(axis=1, keepdims=True)
    right = int(np.sum(shifted.argmax(axis=1) == labels))
    p = np.exp(shifted)
    sums = p.sum(axis=1, keepdims=True)
    loss = float(np.sum(np.log(sums[:, 0]) - shifted[rows, labels]))
    dz = p / sums
    dz[rows, labels] -= 1
    dz /= len(logits)
    return loss, right, dz


def _squared_error(outputs: Any, values: Any) -> tuple[float, int, Any]:
    """The same of values (n, 1), none of which is right or wrong."""
    off = outputs - values
    return float(np.sum(off * off)), 0, off * (2 / len(off))
