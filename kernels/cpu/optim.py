"""Optimizer steps: one fused pass over weights, gradient and state, in place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu import objects
from fastnn.kernels.cpu._arrays import contiguous, direct
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.objects import addresses
from fastnn.kernels.cpu.simd.kernel import address, pointer
from fastnn.kernels.cpu.simd.optim import update_row
from fastnn.kernels.cpu.teams.barrier import wait
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import TABLE, Op
from fastnn.kernels.table.optim import chosen, hyper_of
from fastnn.kernels.table.row import implements

_NS_PER_ELEMENT = 0.5

# Parts of the state that a step has at most.
_SLOTS = max(len(step.states) for step in STEPS.values())

# The place of the gradient among the arrays of a parameter.
_GRADIENT = 1

# In place of the first address: what was given is not what the call is for.
_UNKNOWN = -1


def _update_signature(dtype: Any) -> Any:
    run = flat(dtype)
    return types.void(types.int64, run, flat(types.int64), run, run, *[run] * 3)


@compiled_in
def update_share(t, tasks, size, code, w, dw, slots, hyper):
    """Task t's range of a step of ``size`` weights; ``slots`` are the addresses of the parts of the state."""
    low, high = t * size // tasks, (t + 1) * size // tasks
    update_row(code, high - low, address(w, low), address(dw, low), slots, low, hyper)


@kernel(_update_signature)
def _update(MR: int, NR: int) -> Any:
    def update(code, hyper, slots, w, dw, first, second, third, words, t, tasks):
        if t == 0:
            slots[0], slots[1], slots[2] = first.ctypes.data, second.ctypes.data, third.ctypes.data
        wait(tasks, words)
        operands = address(w, 0), address(dw, 0), address(slots, 0), address(hyper, 0)
        update_share(t, tasks, w.size, code, *operands)

    return update


def nanoseconds(size: int) -> float:
    """One core's work for so many numbers."""
    return size * _NS_PER_ELEMENT


def _step(op: Op) -> Planned:
    """One step of an optimizer's op; arrays that are not contiguous are updated in a copy and written back."""
    parameters = list(op.signature.parameters)

    def plan(*arguments: Any) -> Callable[..., None]:
        given = dict(zip(parameters, arguments, strict=True))
        w = given["w"]
        name, arrays = chosen(op, given)
        step, pick = STEPS[name], itemgetter(*map(parameters.index, arrays))
        compute = _update.planned(w.dtype, nanoseconds(w.size), STEP_CODES[name])
        hyper = hyper_of(name, op, given, partial(np.array, dtype=w.dtype))
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

    return Steps(op, implements(op.name, plan))


@compiled_in
def _overlap(first, second, parts, starts, table, itemsize):
    """Whether the step of one parameter writes what that of another reads or writes: all but gradients is written."""
    for i in range(parts):
        for j in range(parts):
            low, other = table[first * parts + i], table[second * parts + j]
            high = low + (starts[first + 1] - starts[first]) * itemsize
            end = other + (starts[second + 1] - starts[second]) * itemsize
            if low < end and other < high and (i != _GRADIENT or j != _GRADIENT):
                return True
    return False


@compiled_in
def _any_overlap(parts, starts, table, itemsize):
    for second in range(starts.size - 1):
        for first in range(second):
            if _overlap(first, second, parts, starts, table, itemsize):
                return True
    return False


@compiled_in
def update_lists_share(t, tasks, code, count, parts, starts, table, hyper, itemsize):
    """What task t has of one step on ``count`` parameters: a range of all their weights.

    Weights of parameter p are starts[p] to starts[p + 1] of all. The table has ``parts`` addresses of each parameter:
    those of its weights, its gradient and its states in the order of ``STEPS``.
    """
    begin, end = t * starts[count] // tasks, (t + 1) * starts[count] // tasks
    for p in range(count):
        low, high = max(begin, starts[p]) - starts[p], min(end, starts[p + 1]) - starts[p]
        if low < high:
            at, offset = p * parts, low * itemsize
            weights, gradient = pointer(hyper, table[at] + offset), pointer(hyper, table[at + 1] + offset)
            update_row(code, high - low, weights, gradient, address(table, at + 2), low, hyper)


def _update_lists_signature(dtype: Any) -> Any:
    size, sizes = types.int64, flat(types.int64)
    return types.boolean(size, *[sizes] * 5, flat(dtype), sizes)


@kernel(_update_lists_signature)
def _update_lists(MR: int, NR: int) -> Any:
    def update_lists(code, starts, flags, kinds, shapes, layout, hyper, table, words, t, tasks):
        if t == 0 and not addresses(table, flags, kinds, shapes, layout):
            table[0] = _UNKNOWN
        wait(tasks, words)
        if table[0] == _UNKNOWN:
            return False
        parts = flags.size
        if tasks > 1 and _any_overlap(parts, starts, table, hyper.itemsize):
            tasks = 1  # one after the other, as they were given
        if t < tasks:
            update_lists_share(
                t, tasks, code, starts.size - 1, parts, address(starts, 0), address(table, 0), address(hyper, 0),
                hyper.itemsize,
            )  # fmt: skip
        return True

    return update_lists


class Steps(Planned):
    """An optimizer's op, which takes lists as well."""

    def __init__(self, op: Op, plan: Callable[..., Callable[..., Any]]) -> None:
        super().__init__(plan)
        self.op = op

    def plan_lists(self, *arguments: Any) -> Callable[..., bool] | None:
        """What steps all parameters of lists like these in one call, and says whether it did; None if nothing can.

        It does where the arrays have the dtype and shapes that these have and lie in C order; else nothing is written.
        """
        op, parameters = self.op, list(self.op.signature.parameters)
        given = dict(zip(parameters, arguments, strict=True))
        w = given["w"]
        name, operands = chosen(op, given)
        step, dtype = STEPS[name], w[0].dtype
        if not objects.are_known():
            return None
        pick = itemgetter(*map(parameters.index, operands))
        hyper, count = hyper_of(name, op, given, partial(np.array, dtype=dtype)), (2 + len(step.states)) * len(w)
        starts = np.cumsum([0, *(array.size for array in w)])
        flags = np.array([objects.WRITTEN, objects.READ, *[objects.WRITTEN] * len(step.states)])
        leading = STEP_CODES[name], starts, flags, *objects.likeness(w), objects.LAYOUT
        compute = _update_lists.planned(dtype, nanoseconds(starts[-1]), *leading)

        def run(*arguments: Any) -> bool:
            arrays = [*chain.from_iterable(zip(*pick(arguments), strict=True))]  # theirs until the call has returned
            return bool(compute(hyper(*arguments), np.fromiter(map(id, arrays), np.int64, count)))

        return run


globals().update({name: _step(op) for name, op in TABLE.items() if op.module == "optim"})
