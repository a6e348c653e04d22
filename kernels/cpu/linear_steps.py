"""Steps of a linear layer: each tile of dW = X.T @ dZ goes from the registers through L1 into the optimizer's step.

Memory has weights and states read and written once, and no gradient at all. What that asks for: all of a batch's rows
in one block of the sums, and arrays in C order, or weights and states packed alike, none of which shares memory with
what is still to be read. Anything else is ``linear_backward`` and the steps of w and b, one after the other; the bits
are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu import gemm, optim
from fastnn.kernels.cpu._arrays import direct, finish, reader, workspace
from fastnn.kernels.cpu.compiler.machine import NV, tile
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel, matrix, reads
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.optim import update_row
from fastnn.kernels.cpu.teams import threads
from fastnn.kernels.cpu.teams.barrier import wait
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import TABLE, Op
from fastnn.kernels.table.linear_steps import of_bias, states_of, step_of
from fastnn.kernels.table.optim import chosen, hyper_of
from fastnn.kernels.table.row import implements

# Parts of the state that a step has at most.
_SLOTS = max(len(step.states) for step in STEPS.values())

# Of a call: the addresses of the states of w and of b; the bounds in memory of w, b and all these, then of x and dZ.
_WRITTEN = 2 * (1 + _SLOTS)
_PLACES = 2 * _SLOTS + 2 * (_WRITTEN + 2)

# One core's nanoseconds for the step of a weight whose gradient is at hand.
_NS_PER_WEIGHT = 0.25


@compiled_in
def bias_step_share(t, tasks, n, m, dz, total, b, stepping):
    """Task t's share of a step of the bias b (m,) by the sums of the n rows of dZ, which go through ``total``."""
    gemm.column_sums_share(t, tasks, n, m, dz, total)
    low, high = t * m // tasks, (t + 1) * m // tasks
    update_row(stepping.code, high - low, address(b, low), address(total, low), stepping.slots, low, stepping.hyper)


@compiled_in
def _bounds(array):
    """The address of a matrix's first byte, and of the one behind its last."""
    low = high = array.ctypes.data
    for axis in range(2):
        reach = (array.shape[axis] - 1) * array.strides[axis]
        low, high = low + min(0, reach), high + max(0, reach)
    return low, high + array.itemsize


@compiled_in
def _note(slots, bounds, arrays):
    """Where weights and their states lie."""
    for part in range(len(arrays)):
        first, size = arrays[part].ctypes.data, arrays[part].size * arrays[part].itemsize
        bounds[2 * part], bounds[2 * part + 1] = first, first + size
        if part > 0:
            slots[part - 1] = first


@compiled_in
def _apart(bounds, written, count):
    """Whether the first ``written`` of ``count`` arrays share no memory, with one another or with the others."""
    for i in range(written):
        for j in range(i + 1, count):
            low, high = max(bounds[2 * i], bounds[2 * j]), min(bounds[2 * i + 1], bounds[2 * j + 1])
            if low < high:
                return False
    return True


def _signature(dtype: Any) -> Any:
    size, run, operand = types.int64, flat(dtype), reads(dtype, 2)
    weights, bias = [matrix(dtype)] * (1 + _SLOTS), [run] * (1 + _SLOTS)
    return types.boolean(*[size] * 10, run, flat(size), operand, operand, *weights, *bias, run, run, run, run)


@kernel(_signature)
def _step_layer(MR: int, NR: int) -> Any:
    VL = NR // NV

    def step_layer(
        source, code, states, ahead, row, column, height, MC, KC, together, hyper, places, a, dz,
        w, w_1, w_2, w_3, b, b_1, b_2, b_3, panels, copies, tiles, total, words, t, team,
    ):  # fmt: skip
        (n, k), m, copied = a.shape, dz.shape[1], copies.size > 0
        slots, bounds = address(places, 0), address(places, 2 * _SLOTS)
        if t == 0:
            _note(slots, bounds, (w, w_1, w_2, w_3))
            _note(address(slots, _SLOTS), address(bounds, _WRITTEN), (b, b_1, b_2, b_3))
            bounds[2 * _WRITTEN], bounds[2 * _WRITTEN + 1] = _bounds(a)
            bounds[2 * _WRITTEN + 2], bounds[2 * _WRITTEN + 3] = _bounds(dz)
        wait(team, words)
        if not _apart(bounds, _WRITTEN, _WRITTEN + 2):
            return False
        tasks = min(team, tiles.size // (MR * NR))
        tasks = gemm.tasks_with_memory(tasks, n, k, source, height, MC, KC, together, panels.size, copies.size, MR, NR)
        plan = gemm.Plan(height, copied, source, together, MC, KC)
        weights = gemm.Matrix(address(w, 0), row, column)
        operands = gemm.Operands(n, k, m, gemm.matrix(a), gemm.matrix(dz), weights)
        scratch = gemm.Scratch(address(copies, 0), address(panels, 0))
        numbers, into = address(hyper, 0), address(tiles, 0)
        stepping = gemm.Stepping(code, states, ahead, numbers, slots, into)
        biased = gemm.Stepping(code, states, ahead, numbers, address(slots, _SLOTS), into)
        for i0 in range(0, n, MC):
            block = gemm.block_at(i0, 0, tasks, operands, plan, MR)
            if copied:
                if t < tasks:
                    gemm.copy_share(t, tasks, operands.a, block, scratch.copies, MR, VL)
                wait(team, words)
            if t < tasks:
                gemm.step_share(t, tasks, operands, plan, block, stepping, scratch, MR, NR)
            wait(team, words)
        if b.size > 0:
            bias_step_share(t, team, k, m, operands.b, address(total, 0), address(b, 0), biased)
        return True

    return step_layer


def _fused(op: Op, given: Mapping[str, Any], dz: Any) -> Callable[..., bool] | None:
    """What steps w and b of calls like this: of the arguments and dz, whether it did; None where it never does."""
    x, w, dtype = given["x"], given["w"], given["w"].dtype
    step_op, parameters = step_of(op), list(op.signature.parameters)
    name, _ = chosen(step_op, given)
    step = STEPS[name]
    written = ["w", *step.states], ["b", *map(of_bias, step.states)] if given["b"] is not None else []
    arrays = [_memory(given[each]) for names in written for each in names]
    if 0 in (*x.shape, *w.shape) or not direct(None, *arrays):
        return None
    product = gemm.product_of(x.T, dz, None)
    plan, shape = product.plan, tile(dtype.itemsize)
    if len(x) > plan.KC:
        return None
    of_w, of_b = (_picker(parameters, names, none) for names, none in zip(written, _none(dtype), strict=True))
    read_x, read_dz, hyper = reader(x.T), reader(dz), hyper_of(name, op, given, partial(np.array, dtype=dtype))
    (inputs, outputs), states = w.shape, len(step.states)
    size, place = inputs * outputs, parameters.index("x")
    nanoseconds = product.nanoseconds + size * _NS_PER_WEIGHT
    ahead = gemm.asks_ahead((1 + states) * size * dtype.itemsize)
    strides = (shape.NR, inputs) if isinstance(w, gemm.Panels) else (outputs, 1)
    blocks = plan.height, plan.MC, plan.KC, plan.together
    compute = _step_layer.planned(dtype, nanoseconds, plan.source, STEP_CODES[name], states, ahead, *strides, *blocks)

    def run(arguments: Sequence[Any], dz: Any) -> bool:
        tasks = threads.count(nanoseconds)
        copies, panels = product.copies + tasks * product.copies_each, tasks * product.panels_each
        tiles = tasks * shape.MR * shape.NR
        scratch = workspace(copies + panels + tiles + outputs, dtype)
        return bool(
            compute(
                hyper(*arguments), np.empty(_PLACES, np.int64), read_x(arguments[place].T), read_dz(dz),
                *of_w(arguments), *of_b(arguments), scratch[copies : copies + panels], scratch[:copies],
                scratch[copies + panels : copies + panels + tiles], scratch[copies + panels + tiles :],
            )
        )  # fmt: skip

    return run


def _none(dtype: Any) -> tuple[Any, Any]:
    """What stands for weights and biases that are not there."""
    return np.empty((0, 0), dtype), np.empty(0, dtype)


def _picker(parameters: list[str], names: list[str], none: Any) -> Callable[[Sequence[Any]], list[Any]]:
    """What picks these arguments and fills up the slots that are left."""
    places, rest = [parameters.index(name) for name in names], [none] * (1 + _SLOTS - len(names))
    return lambda arguments: [*(_memory(arguments[place]) for place in places), *rest]


def _memory(array: Any) -> Any:
    """An array, or that of packed weights, as one row."""
    return array.panels[np.newaxis] if isinstance(array, gemm.Panels) else array


def one_by_one(layer_backward: Planned, op: Op, given: Mapping[str, Any], dx: Any) -> Callable[..., Any]:
    """``linear_backward`` of a kind of x, then the steps of w and of b, for calls like this."""
    step, parameters, has_bias = step_of(op), list(op.signature.parameters), given["b"] is not None
    layer = itemgetter(*map(parameters.index, ("dy", "x", "w", "y", "activation", "z")))
    need = (*given["need"], "dw", *(["db"] if has_bias else []))
    backward = layer_backward.plan(*layer(list(given.values())), need, dx=dx)
    function = getattr(optim, step.name)

    def arguments_of(given: Mapping[str, Any], gradient: Any, names: Mapping[str, str]) -> list[Any]:
        return [gradient if each == "dw" else given[names.get(each, each)] for each in step.signature.parameters]

    of_b = {"w": "b", **{state: of_bias(state) for state in states_of(step)}}
    step_w = function.plan(*arguments_of(given, np.empty_like(given["w"], order="C"), {}))
    step_b = (
        function.plan(*arguments_of(given, np.empty(given["b"].shape, given["b"].dtype), of_b)) if has_bias else None
    )

    def run(*arguments: Any, dx: Any = None) -> Any:
        slope, dw, db = backward(*layer(arguments), need, dx=dx)
        given = dict(zip(parameters, arguments, strict=False))
        step_w(*arguments_of(given, dw, {}))
        if step_b is not None:
            step_b(*arguments_of(given, db, of_b))
        return slope

    return run


def _dense(op: Op, given: Mapping[str, Any], dx: Any) -> Callable[..., Any]:
    return one_by_one(gemm.linear_backward, op, given, dx)


def _on_copies(op: Op, given: Mapping[str, Any], dx: Any) -> Callable[..., Any]:
    """The same where weights and states are packed: on copies, which are packed again."""
    parameters, names = list(op.signature.parameters), [each for each in given if isinstance(given[each], gemm.Panels)]

    def run(*arguments: Any, dx: Any = None) -> Any:
        given = dict(zip(parameters, arguments, strict=False))
        copies = {name: given[name].array() for name in names}
        slope = _dense(op, {**given, **copies}, dx)(*{**given, **copies}.values(), dx=dx)
        for name, copy in copies.items():
            given[name].fill(copy)
        return slope

    return run


def _layer_step(op: Op) -> Planned:
    parameters = list(op.signature.parameters)
    layer = itemgetter(*map(parameters.index, ("dy", "x", "w", "y", "z")))

    def plan(*arguments: Any, dx: Any = None) -> Callable[..., Any]:
        given = dict(zip(parameters, arguments, strict=False))
        dy, x, w, y, z = layer(arguments)
        derive, like = gemm.derivative(dy, y, given["activation"], z)
        by_parts = _on_copies if isinstance(w, gemm.Panels) else _dense
        fused = _fused(op, given, like)
        if fused is None:
            return by_parts(op, given, dx)
        of_x = gemm.product_into(dx, like, gemm.transposed(w), dy, x, w, y, z) if given["need"] else None

        def run(*arguments: Any, dx: Any = None) -> Any:
            dy, x, w, y, z = layer(arguments)
            dz = derive(dy, y, z)
            slope = of_x and of_x(dx, dz, gemm.transposed(w), dy, x, w, y, z)  # before w is another
            if fused(arguments, dz):
                return of_x and finish(slope, dx)
            return by_parts(op, dict(zip(parameters, arguments, strict=False)), dx)(*arguments, dx=dx)

        return run

    return Planned(implements(op.name, plan))


globals().update({name: _layer_step(op) for name, op in TABLE.items() if op.module == "linear_steps"})
