"""Optimizer steps: one fused pass over weights, gradient and state, in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from numba import prange, types
from numba.extending import register_jitable

from fastnn.kernels.cpu._arrays import Planned, contiguous, direct
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.optim import update_row
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS, Step, step_name
from fastnn.kernels.table import TABLE, Op, varying
from fastnn.kernels.table.row import implements

_NS_PER_ELEMENT = 0.5

# Parts of the state that a step has at most.
_SLOTS = max(len(step.states) for step in STEPS.values())


def _update_signature(dtype: Any) -> Any:
    run = flat(dtype)
    return types.void(types.int64, types.int64, run, flat(types.int64), run, run, *[run] * 3)


@register_jitable
def update_share(t, tasks, size, code, w, dw, slots, hyper):
    """Task t's range of a step of ``size`` weights; ``slots`` are the addresses of the parts of the state."""
    low, high = t * size // tasks, (t + 1) * size // tasks
    update_row(code, high - low, address(w, low), address(dw, low), slots, low, hyper)


@kernel(_update_signature)
def _update(MR: int, NR: int) -> Any:
    def update(tasks, code, hyper, slots, w, dw, first, second, third):
        slots[0], slots[1], slots[2] = first.ctypes.data, second.ctypes.data, third.ctypes.data
        for t in prange(tasks):
            operands = address(w, 0), address(dw, 0), address(slots, 0), address(hyper, 0)
            update_share(t, tasks, w.size, code, *operands)

    return update


def nanoseconds(size: int) -> float:
    """One core's work for so many numbers."""
    return size * _NS_PER_ELEMENT


def _hyper(step: Step, op: Op, given: Mapping[str, Any]) -> Callable[..., Any]:
    """What gives a step's hyper-parameters as an array, from the op's arguments, like those ``given`` but for some.

    It computes them anew only where these have changed since its last call.
    """
    dtype, options = given["w"].dtype, {name: given[name] for name in op.options}
    changing = [name for name, spec in op.options.items() if varying(spec)]
    places = [list(op.signature.parameters).index(name) for name in changing]
    last: tuple[Any, Any] = None, None

    def hyper(*arguments: Any) -> Any:
        nonlocal last
        values, numbers = last
        now = [arguments[place] for place in places]
        if now != values:
            numbers = np.array(step.numbers({**options, **dict(zip(changing, now, strict=True))}), dtype)
            last = now, numbers  # at once, for whatever thread reads both
        return numbers

    return hyper


def chosen(op: Op, given: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The name of the step that an op does with these arguments, and those that are its arrays: w, dw, its states."""
    states = [operand for operand in op.operands if operand not in ("w", "dw") and given[operand] is not None]
    name = step_name(op.name, states, given)
    return name, ["w", "dw", *STEPS[name].states]


def _step(op: Op) -> Planned:
    """One step of an optimizer's op; arrays that are not contiguous are updated in a copy and written back."""
    parameters = list(op.signature.parameters)

    def plan(*arguments: Any) -> Callable[..., None]:
        given = dict(zip(parameters, arguments, strict=True))
        w = given["w"]
        name, arrays = chosen(op, given)
        step, pick = STEPS[name], itemgetter(*map(parameters.index, arrays))
        compute, hyper = _update.planned(w.dtype, nanoseconds(w.size), STEP_CODES[name]), _hyper(step, op, given)
        none = [np.empty(0, w.dtype)] * (_SLOTS - len(step.states))

        def run(*arguments: Any) -> None:
            arrays = [array.ravel() for array in pick(arguments)]
            compute(hyper(*arguments), np.empty(_SLOTS, np.int64), *arrays, *none)

        def run_on_copies(*arguments: Any) -> None:
            arrays = pick(arguments)
            runs = [contiguous(array) for array in arrays]
            compute(hyper(*arguments), np.empty(_SLOTS, np.int64), *runs, *none)
            for array, run in zip(arrays, runs, strict=True):
                if array.flags.writeable and not np.may_share_memory(array, run):
                    array[...] = run.reshape(array.shape)

        return run if direct(None, *pick(arguments)) else run_on_copies

    return Planned(implements(op.name, plan))


globals().update({name: _step(op) for name, op in TABLE.items() if op.module == "optim"})
