"""Optimizer steps: one fused pass over weights, gradient and state, in place."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numba import prange, types

from fastnn.kernels.cpu._arrays import contiguous
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.optim import update_row
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS

_NS_PER_ELEMENT = 0.5


def _update_signature(dtype: Any) -> Any:
    run, read = flat(dtype), flat(dtype, readonly=True)
    return types.void(types.int64, run, read, flat(types.int64), read, types.int64)


@kernel(_update_signature)
def _update(MR: int, NR: int) -> Any:
    def update(code, w, dw, slots, hyper, tasks):
        for t in prange(tasks):
            low, high = t * w.size // tasks, (t + 1) * w.size // tasks
            weights, gradient = address(w, low), address(dw, low)
            update_row(code, high - low, weights, gradient, address(slots, 0), low, address(hyper, 0))

    return update


def _step(op: str, w: Any, dw: Any, states: dict[str, Any], **options: Any) -> None:
    """One step of an op; arrays that are not contiguous are updated in a copy and written back."""
    name, hyper = rule(op, [slot for slot, array in states.items() if array is not None], options)
    step = STEPS[name]
    held = [w, *(states[state] for state in step.states)]
    runs = [contiguous(array) for array in held]
    slots = np.array([run.__array_interface__["data"][0] for run in runs[1:]], np.int64)
    numbers = np.array(hyper, w.dtype)
    _update(w.dtype, w.size * _NS_PER_ELEMENT, STEP_CODES[name], runs[0], contiguous(dw), slots, numbers)
    for array, run in zip(held, runs, strict=True):
        if not np.may_share_memory(array, run):
            array[...] = run.reshape(array.shape)


def rule(op: str, slots: Collection[str], options: Mapping[str, Any]) -> tuple[str, list[float]]:
    """The name in ``STEPS`` of an op with this state and these options, and its hyper-parameters in order."""
    numbers = dict(options)
    if op == "sgd_step":
        name = "sgd" if "velocity" not in slots else "nesterov" if options["nesterov"] else "momentum"
    elif op == "rmsprop_step":
        name = "rmsprop" + "_centered" * ("mean" in slots) + "_momentum" * ("velocity" in slots)
    else:
        name = "amsgrad" if "v_max" in slots else "adam"
        rate, beta_1, beta_2, step = (options[key] for key in ("learning_rate", "beta_1", "beta_2", "step"))
        alpha = rate * math.sqrt(1.0 - beta_2**step) / (1.0 - beta_1**step)
        numbers |= {"alpha": alpha, "gain_1": 1.0 - beta_1, "gain_2": 1.0 - beta_2}
    return name, [float(numbers[parameter]) for parameter in STEPS[name].hyper]


def sgd_step(
    w: Any,
    dw: Any,
    velocity: Any = None,
    learning_rate: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> None:
    """Plain, with momentum, or with Nesterov's."""
    states = {"velocity": velocity}
    _step("sgd_step", w, dw, states, learning_rate=learning_rate, momentum=momentum, nesterov=nesterov)


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
    states = {"mean_square": mean_square, "mean": mean, "velocity": velocity}
    numbers = {"learning_rate": learning_rate, "rho": rho, "momentum": momentum, "epsilon": epsilon}
    _step("rmsprop_step", w, dw, states, **numbers)


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
    numbers = {"learning_rate": learning_rate, "beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
    _step("adam_step", w, dw, {"m": m, "v": v, "v_max": v_max}, step=step, **numbers)
