"""Full-batch training until every partial derivative is small: resilient propagation and its relatives.

rprop+ and backprop run many steps in one compiled call, a repeated program; what a call has done too much is undone by
running the steps before it again. rprop-, sag and slr look at all weights together, between calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import ops, programs
from fastnn.neuralnets.networks import Network

Array = NDArray[Any]

ALGORITHMS = ("rprop+", "rprop-", "sag", "slr", "backprop")

# How large each weight's first change is.
_FIRST = 0.1

# Numbers of gradients that a compiled call keeps, and steps that it runs at most.
_KEPT, _STEPS = 1 << 17, 2000

# Added to the sum of derivatives that sag and slr balance (Anastasiadis et al. 2005).
_DELTA = 1e-6


@dataclass(frozen=True)
class Rates:
    """How large changes may be and by which factors they grow and shrink; the learning rate of backprop."""

    least: float = 1e-10
    most: float = 0.1
    minus: float = 0.5
    plus: float = 1.2
    backprop: float = 0.0


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
    compiled = {"rprop+": _resilient, "backprop": _descent}
    if algorithm in compiled:
        return _in_chunks(network, x, y, compiled[algorithm], free, rates, threshold, stepmax, progress)
    return _one_by_one(network, x, y, free, algorithm, rates, threshold, stepmax, progress)


# ------------------------------------------------------------------------------------------------- many steps in a call


# What changes weights by their derivatives; and its state, arrays that change with it.
_Step = tuple[Callable[[Sequence[Any]], None], list[Array]]


def _resilient(network: Network, rates: Rates) -> _Step:
    sizes, changes, before = (np.full_like(network.flat, start) for start in (_FIRST, 0.0, 0.0))
    size, change, gradient = (network.split(network.parts(state)) for state in (sizes, changes, before))

    def step(slopes: Sequence[Any]) -> None:
        ops.rprop_step(
            network.operands, list(slopes), size, change, gradient,
            eta_minus=rates.minus, eta_plus=rates.plus, step_min=rates.least, step_max=rates.most,
        )  # fmt: skip

    return step, [sizes, changes, before]


def _descent(network: Network, rates: Rates) -> _Step:
    return lambda slopes: ops.sgd_step(network.operands, list(slopes), learning_rate=rates.backprop), []


def _in_chunks(
    network: Network,
    x: Array,
    y: Array,
    made: Callable[[Network, Rates], _Step],
    free: Array,
    rates: Rates,
    threshold: float,
    stepmax: int,
    progress: Progress,
) -> bool:
    change, states = made(network, rates)
    masks = None if free.all() else network.split(network.parts(free.astype(np.float64)))

    def step(turn: Array) -> tuple[Any, list[Any]]:
        error, slopes = network.slopes(x, y)
        moved = (
            slopes if masks is None else [ops.multiply(slope, mask) for slope, mask in zip(slopes, masks, strict=True)]
        )
        change(moved)
        return error, list(moved)

    recorded = programs.program(step)
    turns = np.zeros((max(1, min(_STEPS, _KEPT // network.flat.size)), 1))

    def run(count: int) -> tuple[Array, Array]:
        """Errors, and the largest derivatives, before each of so many steps."""
        errors, slopes = recorded.repeat(turns, np.arange(count), 1, join=True)
        largest = [np.abs(slope.reshape(count, -1)).max(axis=1) for slope in slopes]
        return np.broadcast_to(errors, count), np.max(largest, axis=0)

    done = 0
    kept = [network.flat, *states]
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


# -------------------------------------------------------------------------------------------------------- step by step


def _one_by_one(
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
    gradient_of = network.gradient()
    sizes, before = np.full_like(network.flat, _FIRST), np.zeros_like(network.flat)
    for step in range(1, stepmax + 1):
        error, gradient = gradient_of(x, y)
        gradient *= free
        progress.at(step, float(error), float(np.abs(gradient).max()))
        if not progress.reached > threshold:
            return bool(progress.reached <= threshold)
        if step == stepmax:
            return False
        _resized(sizes, gradient * before, rates)
        if algorithm != "rprop-":
            _balance(sizes, gradient, algorithm, rates)
        network.flat -= np.sign(gradient) * sizes
        before = gradient
    return False


def _resized(sizes: Array, turned: Array, rates: Rates) -> None:
    """Let changes grow where the derivative has kept its sign, and shrink where it has turned."""
    np.minimum(sizes * rates.plus, rates.most, out=sizes, where=turned > 0)
    np.maximum(sizes * rates.minus, rates.least, out=sizes, where=turned < 0)


def _balance(sizes: Array, gradient: Array, algorithm: str, rates: Rates) -> None:
    """Let one weight's change make up for all the others', as the globally convergent variants do.

    It is the one with the smallest derivative in size (sag) or with the smallest change (slr).
    """
    moving = np.flatnonzero(gradient)
    if not len(moving):
        return
    chosen = moving[np.argmin((np.abs(gradient) if algorithm == "sag" else sizes)[moving])]
    others = moving[moving != chosen]
    total = float(sizes[others] @ gradient[others]) + _DELTA
    sizes[chosen] = min(max(-total / gradient[chosen], rates.least), rates.most)
