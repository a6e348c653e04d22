"""Ops as a JAX user writes them: each one jitted function, whose results are new arrays."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # three quarters of the device's memory else

import jax
import jax.numpy as jnp

_PRECISION = jax.lax.Precision.HIGHEST  # float32 products, as everybody's


def matmul(a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, precision=_PRECISION)


def linear(x: Any, w: Any, b: Any) -> Any:
    return jax.nn.relu(jnp.matmul(x, w, precision=_PRECISION) + b)


def add(a: Any, b: Any) -> Any:
    return a + b


def relu(x: Any) -> Any:
    return jax.nn.relu(x)


def sigmoid(x: Any) -> Any:
    return jax.nn.sigmoid(x)


def tanh(x: Any) -> Any:
    return jnp.tanh(x)


def gelu_tanh(x: Any) -> Any:
    return jax.nn.gelu(x, approximate=True)


def softmax(x: Any) -> Any:
    return jax.nn.softmax(x, axis=1)


def softmax_cross_entropy(logits: Any, targets: Any) -> Any:
    def loss(z: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(z, axis=1), targets[:, None], axis=1).mean()

    return jax.value_and_grad(loss)(logits)


def mse(pred: Any, target: Any) -> Any:
    return jax.value_and_grad(lambda p: jnp.square(p - target).mean())(pred)


_FUNCTIONS = (matmul, linear, add, relu, sigmoid, tanh, gelu_tanh, softmax, softmax_cross_entropy, mse)

JAX: dict[str, Callable[..., Any]] = {function.__name__: jax.jit(function) for function in _FUNCTIONS}
