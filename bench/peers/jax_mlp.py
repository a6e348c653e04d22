"""The same network in JAX: an epoch as one jitted ``lax.scan`` over the batches, data and weights on the device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def _scores(weights: Any, x: Any) -> Any:
    for kernel, bias in weights[:-1]:
        x = jax.nn.relu(x @ kernel + bias)
    kernel, bias = weights[-1]
    return x @ kernel + bias


def _loss(weights: Any, x: Any, labels: Any) -> tuple[Any, Any]:
    """Mean cross-entropy, and the number of right answers."""
    logits = _scores(weights, x)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -chosen.mean(), (logits.argmax(axis=1) == labels).sum()


def _step(hyper: tuple[float, float, float], state: Any, x: Any, labels: Any) -> tuple[Any, Any]:
    """Keras's RMSprop, epsilon inside the root."""
    rate, rho, epsilon = hyper
    weights, squares = state
    (loss, right), gradients = jax.value_and_grad(_loss, has_aux=True)(weights, x, labels)
    squares = jax.tree.map(lambda s, g: rho * s + (1 - rho) * g * g, squares, gradients)
    weights = jax.tree.map(lambda w, g, s: w - rate * g * lax.rsqrt(s + epsilon), weights, gradients, squares)
    return (weights, squares), (loss * len(labels), right)


@partial(jax.jit, static_argnums=(0, 5), donate_argnums=1)
def _epoch(hyper: Any, state: Any, x: Any, labels: Any, order: Any, batch_size: int) -> tuple[Any, Any, Any]:
    """Every whole batch in one scan, then the short last one."""
    whole = len(order) // batch_size * batch_size

    def body(state: Any, rows: Any) -> tuple[Any, Any]:
        return _step(hyper, state, x[rows], labels[rows])

    state, (losses, rights) = lax.scan(body, state, order[:whole].reshape(-1, batch_size))
    loss, right = losses.sum(), rights.sum()
    if whole < len(order):
        state, (rest, hits) = body(state, order[whole:])
        loss, right = loss + rest, right + hits
    return state, loss, right


class JaxMLP:
    """Dense and ReLU layers from (kernel, bias) arrays, trained an epoch at a time."""

    def __init__(
        self, weights: Sequence[Any], learning_rate: float = 0.001, rho: float = 0.9, epsilon: float = 1e-7
    ) -> None:
        pairs = zip(weights[::2], weights[1::2], strict=True)
        stack = [(jnp.array(kernel), jnp.array(bias)) for kernel, bias in pairs]
        self.hyper = (learning_rate, rho, epsilon)
        self.state = (stack, jax.tree.map(jnp.zeros_like, stack))
        self._held: tuple[Any, Any, Any] | None = None

    def epoch(self, x: Any, labels: Any, batch_size: int, order: Any) -> tuple[float, float]:
        """Train on the rows in ``order``; mean loss and accuracy of the training passes."""
        if self._held is None or self._held[0] is not x:  # the data stay on the device between epochs
            self._held = (x, jnp.array(x), jnp.array(labels))
        _, data, targets = self._held
        self.state, loss, right = _epoch(self.hyper, self.state, data, targets, jnp.array(order), batch_size)
        return float(loss) / len(order), int(right) / len(order)
