"""The same network in JAX: an epoch as one jitted ``lax.scan`` over the batches, data and weights on the device.

JAX takes its threads from the variable NPROC (``bench.environment``).
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench.peers.network import Network


def _outputs(weights: Any, x: Any) -> Any:
    for kernel, bias in weights[:-1]:
        x = jax.nn.relu(x @ kernel + bias)
    kernel, bias = weights[-1]
    return x @ kernel + bias


def _cross_entropy(weights: Any, x: Any, labels: Any) -> tuple[Any, Any]:
    """Mean cross-entropy, and the number of right answers."""
    logits = _outputs(weights, x)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -chosen.mean(), (logits.argmax(axis=1) == labels).sum()


def _squared_error(weights: Any, x: Any, values: Any) -> tuple[Any, Any]:
    """Mean squared error; there are no right answers."""
    return ((_outputs(weights, x)[:, 0] - values) ** 2).mean(), 0


def _step(rule: tuple[Any, ...], state: Any, x: Any, targets: Any) -> tuple[Any, Any]:
    """Keras's RMSprop, epsilon inside the root."""
    loss_of, rate, rho, epsilon = rule
    weights, squares = state
    (loss, right), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, x, targets)
    squares = jax.tree.map(lambda s, g: rho * s + (1 - rho) * g * g, squares, gradients)
    weights = jax.tree.map(lambda w, g, s: w - rate * g * lax.rsqrt(s + epsilon), weights, gradients, squares)
    return (weights, squares), (loss * len(targets), right)


@partial(jax.jit, static_argnums=(0, 5), donate_argnums=1)
def _epoch(rule: Any, state: Any, x: Any, targets: Any, order: Any, batch_size: int) -> tuple[Any, Any, Any]:
    """Every whole batch in one scan, then the short last one."""
    whole = len(order) // batch_size * batch_size

    def body(state: Any, rows: Any) -> tuple[Any, Any]:
        return _step(rule, state, x[rows], targets[rows])

    state, (losses, rights) = lax.scan(body, state, order[:whole].reshape(-1, batch_size))
    loss, right = losses.sum(), rights.sum()
    if whole < len(order):
        state, (rest, hits) = body(state, order[whole:])
        loss, right = loss + rest, right + hits
    return state, loss, right


@jax.jit
def _probabilities(weights: Any, x: Any) -> Any:
    return jax.nn.softmax(_outputs(weights, x))


class JaxMLP:
    """Dense and ReLU layers on rows x (n, in) and targets y (n,)."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int) -> None:
        self._given = network, x, y, batch_size
        loss = _cross_entropy if network.classifies else _squared_error
        self._rule = (loss, network.learning_rate, network.rho, network.epsilon)
        weights = [(jnp.array(kernel), jnp.array(bias)) for kernel, bias in network.layers]
        self._state = (weights, jax.tree.map(jnp.zeros_like, weights))
        self._data, self._batch_size = (jnp.array(x), jnp.array(y)), batch_size
        self._rng = np.random.default_rng()

    def epoch(self, shuffle: bool = True) -> float:
        """Train on all rows once; mean loss."""
        count = len(self._data[0])
        return self._trained(self._rng.permutation(count) if shuffle else np.arange(count))

    def _trained(self, order: Any) -> float:
        self._state, loss, right = _epoch(self._rule, self._state, *self._data, jnp.array(order), self._batch_size)
        jax.block_until_ready((self._state, right))
        return float(loss) / len(order)

    def predict(self) -> Any:
        """Probabilities for all rows."""
        return np.asarray(_probabilities(self._state[0], self._data[0]))

    def first_batch(self) -> None:
        """From arrays of the host's to the end of a step of the first batch, which was compiled before."""
        JaxMLP(*self._given)._trained(np.arange(self._given[-1]))
