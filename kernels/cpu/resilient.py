"""Resilient propagation without weight backtracking: tasks share the weights, unless one of these balances all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu._arrays import contiguous, direct
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.planned import Planned
from fastnn.kernels.table.resilient import BALANCES

# Nanoseconds a weight on one core, roughly.
_NS_PER_WEIGHT = 1.0

_ALONE, _BY_GRADIENT = BALANCES.index("none"), BALANCES.index("gradient")


@compiled_in
def _resized(size, turned, hyper):
    """A change's size, which grows where the derivative has kept its sign, and shrinks where it has turned."""
    if turned > 0:
        return min(size * hyper[1], hyper[3])
    return max(size * hyper[0], hyper[2]) if turned < 0 else size


@compiled_in
def _balance(balance, hyper, dw, step_size):
    """Let one weight's change make up for all the others'; the sum is one of doubles."""
    chosen, least = -1, math.inf
    for i in range(dw.size):
        key = abs(dw[i]) if balance == _BY_GRADIENT else step_size[i]
        if dw[i] != 0 and (chosen < 0 or key < least):
            chosen, least = i, key
    if chosen < 0:
        return
    total = np.float64(0)
    for i in range(dw.size):
        if i != chosen:
            total += np.float64(step_size[i]) * np.float64(dw[i])
    step_size[chosen] = min(max(-(total + hyper[4]) / np.float64(dw[chosen]), hyper[2]), hyper[3])


def _signature(dtype: Any) -> Any:
    return types.void(types.int64, flat(types.float64), *[flat(dtype)] * 4)


@kernel(_signature)
def _step(MR: int, NR: int) -> Any:
    def step(balance, hyper, w, dw, step_size, gradient, words, t, tasks):
        if balance != _ALONE:
            tasks = 1
        if t >= tasks:
            return
        low, high = t * w.size // tasks, (t + 1) * w.size // tasks
        for i in range(low, high):
            step_size[i] = _resized(step_size[i], dw[i] * gradient[i], hyper)
        if balance != _ALONE:
            _balance(balance, hyper, dw, step_size)
        for i in range(low, high):
            if dw[i] > 0:
                w[i] -= step_size[i]
            elif dw[i] < 0:
                w[i] += step_size[i]
            gradient[i] = dw[i]

    return step


@Planned
def rprop_minus_step(
    w: Any,
    dw: Any,
    step_size: Any,
    gradient: Any,
    balance: str = "none",
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    step_min: float = 1e-6,
    step_max: float = 50.0,
    delta: float = 1e-6,
) -> Callable[..., None]:
    """In one pass or, with a balance, in three; arrays that are not contiguous are updated in a copy."""
    hyper = np.array([eta_minus, eta_plus, step_min, step_max, delta])
    compute = _step.planned(w.dtype, w.size * _NS_PER_WEIGHT, BALANCES.index(balance), hyper)

    def run(w: Any, dw: Any, step_size: Any, gradient: Any, *_: Any, **__: Any) -> None:
        compute(w.ravel(), dw.ravel(), step_size.ravel(), gradient.ravel())

    def run_on_copies(w: Any, dw: Any, step_size: Any, gradient: Any, *_: Any, **__: Any) -> None:
        arrays = w, dw, step_size, gradient
        runs = [contiguous(array) for array in arrays]
        compute(*runs)
        for array, copy in zip(arrays, runs, strict=True):
            if array is not dw and not np.may_share_memory(array, copy):
                array[...] = copy.reshape(array.shape)

    return run if direct(None, w, dw, step_size, gradient) else run_on_copies
