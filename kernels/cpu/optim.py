"""Optimizer steps: one fused pass over weights, gradient and state, in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange, types

from fastnn.kernels.cpu._arrays import contiguous
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.optim import update_row
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS, step_name

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
    name = step_name(op, [slot for slot, array in states.items() if array is not None], options)
    step = STEPS[name]
    held = [w, *(states[state] for state in step.states)]
    runs = [contiguous(array) for array in held]
    slots = np.array([run.__array_interface__["data"][0] for run in runs[1:]], np.int64)
    numbers = np.array(step.numbers(options), w.dtype)
    _update(w.dtype, w.size * _NS_PER_ELEMENT, STEP_CODES[name], runs[0], contiguous(dw), slots, numbers)
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


def adagrad_step(w: Any, dw: Any, accumulator: Any, learning_rate: float = 0.001, epsilon: float = 1e-7) -> None:
    """Adagrad."""
    _step("adagrad_step", w, dw, {"accumulator": accumulator}, learning_rate=learning_rate, epsilon=epsilon)


def adadelta_step(
    w: Any,
    dw: Any,
    mean_square: Any,
    mean_moved: Any,
    learning_rate: float = 0.001,
    rho: float = 0.95,
    epsilon: float = 1e-7,
) -> None:
    """Adadelta."""
    states = {"mean_square": mean_square, "mean_moved": mean_moved}
    _step("adadelta_step", w, dw, states, learning_rate=learning_rate, rho=rho, epsilon=epsilon)


def adamax_step(
    w: Any,
    dw: Any,
    m: Any,
    norm: Any,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> None:
    """Adamax; the correction of the mean goes into the step size."""
    numbers = {"learning_rate": learning_rate, "beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
    _step("adamax_step", w, dw, {"m": m, "norm": norm}, step=step, **numbers)


def nadam_step(
    w: Any,
    dw: Any,
    m: Any,
    v: Any,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> None:
    """Nadam; what depends on the step alone is computed once."""
    numbers = {"learning_rate": learning_rate, "beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
    _step("nadam_step", w, dw, {"m": m, "v": v}, step=step, **numbers)


def lion_step(w: Any, dw: Any, m: Any, learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.99) -> None:
    """Lion."""
    _step("lion_step", w, dw, {"m": m}, learning_rate=learning_rate, beta_1=beta_1, beta_2=beta_2)


def ftrl_step(
    w: Any,
    dw: Any,
    accumulator: Any,
    linear: Any,
    learning_rate: float = 0.001,
    learning_rate_power: float = -0.5,
    l1_regularization_strength: float = 0.0,
    l2_regularization_strength: float = 0.0,
    l2_shrinkage_regularization_strength: float = 0.0,
    beta: float = 0.0,
) -> None:
    """Follow The Regularized Leader."""
    numbers = {
        "learning_rate": learning_rate,
        "learning_rate_power": learning_rate_power,
        "l1_regularization_strength": l1_regularization_strength,
        "l2_regularization_strength": l2_regularization_strength,
        "l2_shrinkage_regularization_strength": l2_shrinkage_regularization_strength,
        "beta": beta,
    }
    _step("ftrl_step", w, dw, {"accumulator": accumulator, "linear": linear}, **numbers)


def rprop_step(
    w: Any,
    dw: Any,
    step_size: Any,
    change: Any,
    gradient: Any,
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    step_min: float = 1e-6,
    step_max: float = 50.0,
) -> None:
    """Resilient propagation."""
    states = {"step_size": step_size, "change": change, "gradient": gradient}
    numbers = {"eta_minus": eta_minus, "eta_plus": eta_plus, "step_min": step_min, "step_max": step_max}
    _step("rprop_step", w, dw, states, **numbers)
