"""Optimizer steps: one fused pass over weights, gradient and state, in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange, types

from fastnn.kernels.cpu._arrays import contiguous
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.optim import update_row
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS, step_name
from fastnn.kernels.table import TABLE, Op
from fastnn.kernels.table.row import implements

_NS_PER_ELEMENT = 0.5


def _update_signature(dtype: Any) -> Any:
    run = flat(dtype)
    return types.void(types.int64, types.int64, run, run, flat(types.int64), run)


@kernel(_update_signature)
def _update(MR: int, NR: int) -> Any:
    def update(tasks, code, w, dw, slots, hyper):
        for t in prange(tasks):
            low, high = t * w.size // tasks, (t + 1) * w.size // tasks
            weights, gradient = address(w, low), address(dw, low)
            update_row(code, high - low, weights, gradient, address(slots, 0), low, address(hyper, 0))

    return update


def _step(op: Op) -> Callable[..., None]:
    """One step of an optimizer's op; arrays that are not contiguous are updated in a copy and written back."""
    slots = [operand for operand in op.operands if operand not in ("w", "dw")]

    def run(*arguments: Any) -> None:
        given = dict(zip(op.signature.parameters, arguments, strict=True))
        w, dw = given["w"], given["dw"]
        options = {option: given[option] for option in op.options}
        name = step_name(op.name, [slot for slot in slots if given[slot] is not None], options)
        step = STEPS[name]
        held = [w, *(given[state] for state in step.states)]
        runs = [contiguous(array) for array in held]
        places = np.array([run.__array_interface__["data"][0] for run in runs[1:]], np.int64)
        numbers = np.array(step.numbers(options), w.dtype)
        _update(w.dtype, w.size * _NS_PER_ELEMENT, STEP_CODES[name], runs[0], contiguous(dw), places, numbers)
        for array, run in zip(held, runs, strict=True):
            if not np.may_share_memory(array, run):
                array[...] = run.reshape(array.shape)

    return implements(op.name, run)


globals().update({name: _step(op) for name, op in TABLE.items() if op.module == "optim"})
