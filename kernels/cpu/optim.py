"""Optimizer steps: one fused pass over weights, gradient and state, in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from numba import prange, types

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


@kernel(_update_signature)
def _update(MR: int, NR: int) -> Any:
    def update(tasks, code, hyper, slots, w, dw, first, second, third):
        slots[0], slots[1], slots[2] = first.ctypes.data, second.ctypes.data, third.ctypes.data
        for t in prange(tasks):
            low, high = t * w.size // tasks, (t + 1) * w.size // tasks
            weights, gradient = address(w, low), address(dw, low)
            update_row(code, high - low, weights, gradient, address(slots, 0), low, address(hyper, 0))

    return update


def hyper_of(step: Step, op: Op, given: Mapping[str, Any]) -> Callable[..., Any]:
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


def _step(op: Op) -> Planned:
    """One step of an optimizer's op; arrays that are not contiguous are updated in a copy and written back."""
    parameters = list(op.signature.parameters)
    states = [operand for operand in op.operands if operand not in ("w", "dw")]

    def plan(*arguments: Any) -> Callable[..., None]:
        given = dict(zip(parameters, arguments, strict=True))
        w = given["w"]
        name = step_name(op.name, [state for state in states if given[state] is not None], given)
        step = STEPS[name]
        pick = itemgetter(*(parameters.index(operand) for operand in ("w", "dw", *step.states)))
        compute, hyper = _update.planned(w.dtype, w.size * _NS_PER_ELEMENT, STEP_CODES[name]), hyper_of(step, op, given)
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
