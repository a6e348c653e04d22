"""Full-batch training until every partial derivative is small: resilient propagation and its relatives.

Many steps run in one compiled call, a repeated program; what a call has done too much is undone by running the steps
before it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn import ops, programs
from fastnn.neuralnets.networks import Network

Array = NDArray[Any]

# How large each weight's first change is.
_FIRST = 0.1

# Numbers of gradients that a compiled call keeps, and steps that it runs at most.
_KEPT, _STEPS_AT_ONCE = 1 << 17, 2000


@dataclass(frozen=True)
class Rates:
    """How large changes may be and by which factors they grow and shrink; the learning rate of backprop."""

    least: float = 1e-10
    most: float = 0.1
    minus: float = 0.5
    plus: float = 1.2
    backprop: float = 0.0


def _resilient(rates: Rates) -> Mapping[str, float]:
    return {
        "eta_minus": rates.minus, "eta_plus": rates.plus, "step_min": rates.least, "step_max": rates.most,
    }  # fmt: skip


class _Step(NamedTuple):
    """What changes weights by their derivatives: ``op(w, dw, *state)``, what its state begins as, its options."""

    op: Callable[..., Any]
    state: tuple[float, ...]
    options: Callable[[Rates], Mapping[str, Any]]


def _without_backtracking(balance: str) -> _Step:
    return _Step(ops.rprop_minus_step, (_FIRST, 0.0), lambda rates: {"balance": balance, **_resilient(rates)})


# By R's names.
_STEPS = {
    "rprop+": _Step(ops.rprop_step, (_FIRST, 0.0, 0.0), _resilient),
    "rprop-": _without_backtracking("none"),
    "sag": _without_backtracking("gradient"),
    "slr": _without_backtracking("step_size"),
    "backprop": _Step(ops.sgd_step, (), lambda rates: {"learning_rate": rates.backprop}),
}
ALGORITHMS = tuple(_STEPS)


@dataclass
class Progress:
    """How far a training is: the error and the largest derivative before each step that was looked at."""

    error: float = np.nan
    reached: float = np.inf
    least_reached: float = np.inf
    steps: int = 1
    report: Callable[[int, float, float], None] = field(default=lambda step, error, reached: None)

    def at(self, step: int, error: float, reached: float) -> None:
        """Note where the training is before so manieth step."""
        self.error, self.reached, self.steps = error, reached, step
        self.least_reached = min(self.least_reached, reached)
        self.report(step, error, self.least_reached)


def train(
    network: Network,
    x: Array,
    y: Array,
    free: Array,
    algorithm: str,
    rates: Rates,
    threshold: float,
    stepmax: int,
    progress: Progress,
) -> bool:
    """Train the free ones of a network's weights in place; whether all derivatives became at most ``threshold``.

    Steps are counted as R counts them, from 1, which is the state before the first change.
    """
    op, first, options_of = _STEPS[algorithm]
    state, options = [np.full_like(network.flat, start) for start in first], options_of(rates)
    mask = None if free.all() else free.astype(network.flat.dtype)

    def step(turn: Array, flat: Array) -> tuple[Any, Any]:
        error, slopes = network.slopes(x, y, flat)
        slopes = slopes if mask is None else ops.multiply(slopes, mask)
        op(flat, slopes, *state, **options)
        return error, slopes

    recorded = programs.program(step)
    turns = np.zeros((max(1, min(_STEPS_AT_ONCE, _KEPT // network.flat.size)), 1))

    def run(count: int) -> tuple[Array, Array]:
        """Errors, and the largest derivatives, before each of so many steps."""
        errors, slopes = recorded.repeat(turns, np.arange(count), 1, join=True, flat=network.flat)
        return np.broadcast_to(errors, count), np.abs(slopes.reshape(count, -1)).max(axis=1)

    done = 0
    kept = [network.flat, *state]
    while done < stepmax:
        before = [array.copy() for array in kept]
        errors, reached = run(min(len(turns), stepmax - done))
        over = np.flatnonzero(~(reached > threshold))
        looked_at = over[0] + 1 if len(over) else len(reached)
        for place in range(looked_at):
            progress.at(done + place + 1, float(errors[place]), float(reached[place]))
        last = len(over) or done + looked_at >= stepmax
        if last:  # the weights before the last step that was looked at
            for array, value in zip(kept, before, strict=True):
                array[...] = value
            if looked_at > 1:
                run(looked_at - 1)
            return bool(progress.reached <= threshold)
        done += looked_at
    return False
