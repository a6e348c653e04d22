"""What every side of an epoch starts from, so that all of them train the same network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# The losses, by the names of the op table.
CROSS_ENTROPY, SQUARED_ERROR = "softmax_cross_entropy", "mse"


@dataclass(frozen=True)
class Network:
    """Dense layers with ReLU between them, and RMSprop's settings.

    ``weights`` are kernel (in, out), bias (out,), kernel, bias, ..., float32. With CROSS_ENTROPY the last layer gives
    logits and targets are labels (n,), int64; with SQUARED_ERROR it has one unit and targets are values (n,), float32.
    """

    weights: Sequence[Any]
    loss: str = CROSS_ENTROPY
    learning_rate: float = 0.001
    rho: float = 0.9
    epsilon: float = 1e-7

    @property
    def layers(self) -> list[tuple[Any, Any]]:
        """(kernel, bias) of each layer."""
        return list(zip(self.weights[::2], self.weights[1::2], strict=True))

    @property
    def classifies(self) -> bool:
        """Whether targets are labels."""
        return self.loss == CROSS_ENTROPY
