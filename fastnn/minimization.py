"""Gradient descent on any function: ``fastnn.minimize``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import checks, optimizers
from fastnn.differentiation import gradients
from fastnn.engine.protocols import Array
from fastnn.errors import DivergenceError
from fastnn.layers.base import Parameter


@dataclass(frozen=True)
class Minimum:
    """Where a descent has ended, and how it came there.

    ``x``, the place, ``value`` f there, ``gradient`` its derivatives; ``path`` (steps + 1, *shape of x) and ``values``
    (steps + 1,) from ``x0`` on; ``converged`` tells whether no derivative was larger than ``tol``.
    """

    x: Array
    value: float
    gradient: Array
    path: Array
    values: Array
    converged: bool

    @property
    def steps(self) -> int:
        """How many were made."""
        return len(self.values) - 1


def minimize(
    f: Callable[[Array], Any],
    x0: Any,
    grad: Callable[[Array], Any] | None = None,
    optimizer: str | optimizers.Optimizer = "sgd",
    tol: float = 1e-6,
    *,
    max_steps: int = 10_000,
) -> Minimum:
    """Go down from ``x0`` by steps of the optimizer, until no derivative of f is larger than ``tol``.

    ``f(x)`` is one number of a float64 array of x0's shape, by ``fastnn.ops``, from which its gradient is derived; or
    by anything, if ``grad(x)`` gives the gradient. ``optimizer`` is a name, or one of ``fastnn.optimizers``, which
    keeps no state of it. DivergenceError where f or a derivative is not finite; ValueError for what f or ``grad``
    cannot mean; TypeError, which names what is no op, where a gradient cannot be derived.

    >>> fastnn.minimize(lambda x: ops.square(x), 3.0, optimizer=optimizers.SGD(0.1)).x
    array(1.7e-07)
    """
    start = np.array(x0, np.float64)
    if not start.size or not np.isfinite(start).all():
        raise ValueError(f"x0: got {checks.describe(x0)}, wants finite numbers, at least one")
    tol, most = checks.real("tol", tol, minimum=0), checks.integer("max_steps", max_steps, 0)
    rule = optimizers.get(optimizer)
    rule = type(rule).from_config(rule.get_config())  # a descent's steps and state are its own
    place = Parameter("x", "x", start.reshape(-1))
    path: list[Array] = []
    values: list[float] = []
    while True:
        x = place.value.reshape(start.shape)
        value, slope = _at(f, grad, x)
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            raise DivergenceError(f"step {len(values)}: f is {value:g}, wants a finite value and finite derivatives")
        path.append(x.copy())
        values.append(value)
        converged = bool(np.abs(slope).max() <= tol)
        if converged or len(values) > most:
            return Minimum(path[-1], value, slope, np.stack(path), np.array(values), converged)
        rule.apply([slope.reshape(-1)], [place])


def _at(f: Callable[[Array], Any], grad: Callable[[Array], Any] | None, x: Array) -> tuple[float, Array]:
    """f and its derivatives."""
    if grad is None:
        value, (slope,) = gradients(f, [x])
    else:
        value, slope = f(x), grad(x)
    if np.size(value) != 1:
        raise ValueError(f"f: got {checks.describe(value)}, wants one number")
    slope = np.asarray(slope, np.float64)
    if slope.shape != x.shape:
        raise ValueError(f"grad: got {checks.describe(slope)}, wants the shape {x.shape} of x0")
    return float(np.reshape(value, ())), slope
