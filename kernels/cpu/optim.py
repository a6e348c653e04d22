"""Optimizer steps: one fused pass over weights, gradient and state, in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange, types

from fastnn.kernels.cpu._arrays import contiguous
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.simd import STEP_CODES, STEP_HYPER, STEP_STATES, STEPS, address, update_row

_NS_PER_ELEMENT = 0.5


def _update_signature(dtype: Any) -> Any:
    run = flat(dtype)
    return types.void(types.int64, run, flat(dtype, readonly=True), *[run] * STEP_STATES, run, types.int64)


@kernel(_update_signature)
def _update(MR: int, NR: int, parallel: bool, SOURCE: int) -> Any:
    def update(code, w, dw, s0, s1, s2, hyper, tasks):  # type: ignore[no-untyped-def]
        _ = (SOURCE, parallel)
        for t in prange(tasks):
            low, high = t * w.size // tasks, (t + 1) * w.size // tasks
            a, b, c = address(s0, low), address(s1, low), address(s2, low)
            update_row(code, high - low, address(w, low), address(dw, low), a, b, c, address(hyper, 0))

    return update


def _step(name: str, w: Any, dw: Any, states: dict[str, Any], hyper: dict[str, float]) -> None:
    """Run one of ``simd.STEPS``; arrays that are not contiguous are updated in a copy and written back."""
    step = STEPS[name]
    held = [w, *(states[state] for state in step.states)]
    runs = [contiguous(array) for array in held]
    numbers = np.zeros(STEP_HYPER, w.dtype)
    numbers[: len(step.hyper)] = [hyper[parameter] for parameter in step.hyper]
    spare = [runs[0]] * (STEP_STATES - len(step.states))
    _update(w.dtype, w.size * _NS_PER_ELEMENT, STEP_CODES[name], runs[0], contiguous(dw), *runs[1:], *spare, numbers)
    for array, run in zip(held, runs, strict=True):
        if not np.may_share_memory(array, run):
            array[...] = run.reshape(array.shape)


def sgd_step(
    w: Any,
    dw: Any,
    velocity: Any = None,
    learning_rate: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> None:
    """Plain, with momentum, or with Nesterov's."""
    name = "sgd" if velocity is None else "nesterov" if nesterov else "momentum"
    _step(name, w, dw, {"velocity": velocity}, {"learning_rate": learning_rate, "momentum": momentum})


def rmsprop_step(
    w: Any,
    dw: Any,
    mean_square: Any,
    velocity: Any = None,
    mean: Any = None,
    learning_rate: float = 0.001,
    rho: float = 0.9,
    momentum: float = 0.0,
    epsilon: float = 1e-7,
) -> None:
    """Plain or centred, without or with momentum."""
    name = "rmsprop" + "_centered" * (mean is not None) + "_momentum" * (velocity is not None)
    states = {"mean_square": mean_square, "mean": mean, "velocity": velocity}
    hyper = {"learning_rate": learning_rate, "rho": rho, "epsilon": epsilon, "momentum": momentum}
    _step(name, w, dw, states, hyper)


def adam_step(
    w: Any,
    dw: Any,
    m: Any,
    v: Any,
    step: int,
    v_max: Any = None,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> None:
    """Adam or AMSGrad; the bias corrections go into one factor, computed once."""
    alpha = learning_rate * math.sqrt(1.0 - beta_2**step) / (1.0 - beta_1**step)
    hyper = {"alpha": alpha, "epsilon": epsilon, "gain_1": 1.0 - beta_1, "gain_2": 1.0 - beta_2}
    _step("adam" if v_max is None else "amsgrad", w, dw, {"m": m, "v": v, "v_max": v_max}, hyper)
