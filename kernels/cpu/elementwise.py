"""Elementwise addition and activations: contiguous runs of vectors, split into one range a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import prange, types

from fastnn.kernels.cpu._arrays import Planned, finish, flattener, placing, workspace
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.machine import caches
from fastnn.kernels.cpu.simd.elementwise import add_row, backward_row, drain, forward_row, stream_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.threads import get_num_threads
from fastnn.kernels.formulas.activations import ACTIVATIONS, CODES
from fastnn.kernels.table import NUMBERS
from fastnn.kernels.table.row import implements

# Nanoseconds an element on one core, roughly: reading and writing memory, and an exp where there is one.
_NS_PER_ELEMENT = 0.25

# Results that go past the caches are computed so many numbers at a time, in L1.
_AT_ONCE = 2048


def _signature(sources: int, *leading: Any) -> Callable[[Any], Any]:
    """Numba's: what leads, the sources, buffers to compute in what goes past the caches, the result, tasks."""
    return lambda dtype: types.void(
        *(kind(dtype) for kind in leading), *[_readable(dtype)] * sources, flat(dtype), flat(dtype), types.int64
    )


def _code(_: Any) -> Any:
    return types.int64


def _readable(dtype: Any) -> Any:
    return flat(dtype, readonly=True)


@kernel(_signature(1, _code, _readable))
def _forward(MR: int, NR: int) -> Any:
    at_once = _AT_ONCE

    def forward(code, numbers, x, buffers, y, tasks):
        if buffers.size > 0:
            tasks = min(tasks, buffers.size // at_once)
        for t in prange(tasks):
            low, high = t * x.size // tasks, (t + 1) * x.size // tasks
            if buffers.size == 0:
                forward_row(code, high - low, address(x, low), address(numbers, 0), address(y, low))
            else:
                for i in range(low, high, at_once):
                    count, made = min(at_once, high - i), address(buffers, t * at_once)
                    forward_row(code, count, address(x, i), address(numbers, 0), made)
                    stream_row(count, made, address(y, i))
                drain(address(y, low))

    return forward


@kernel(_signature(2, _code, _readable))
def _backward(MR: int, NR: int) -> Any:
    at_once = _AT_ONCE

    def backward(code, numbers, dy, s, buffers, dx, tasks):
        one = s.dtype.type(1)
        if buffers.size > 0:
            tasks = min(tasks, buffers.size // at_once)
        for t in prange(tasks):
            low, high = t * s.size // tasks, (t + 1) * s.size // tasks
            if buffers.size == 0:
                a, b = address(dy, low), address(s, low)
                backward_row(code, high - low, a, one, b, one, address(numbers, 0), address(dx, low))
            else:
                for i in range(low, high, at_once):
                    count, made = min(at_once, high - i), address(buffers, t * at_once)
                    backward_row(code, count, address(dy, i), one, address(s, i), one, address(numbers, 0), made)
                    stream_row(count, made, address(dx, i))
                drain(address(dx, low))

    return backward


@kernel(_signature(2))
def _add(MR: int, NR: int) -> Any:
    at_once = _AT_ONCE

    def add(a, b, buffers, y, tasks):
        if buffers.size > 0:
            tasks = min(tasks, buffers.size // at_once)
        for t in prange(tasks):
            low, high = t * y.size // tasks, (t + 1) * y.size // tasks
            if buffers.size == 0:
                add_row(high - low, address(a, low), address(b, low), address(y, low))
            else:
                for i in range(low, high, at_once):
                    count, made = min(at_once, high - i), address(buffers, t * at_once)
                    add_row(count, address(a, i), address(b, i), made)
                    stream_row(count, made, address(y, i))
                drain(address(y, low))

    return add


def _plan(
    kernel_: Any, leading: tuple[Any, ...], shape: tuple[int, ...], out: Any, *sources: Any
) -> Callable[..., Any]:
    """What runs a kernel over flattened operands like these, of one shape, into ``out`` or a new array.

    What no cache holds until it is read again goes past the caches, unless it is written over a source, whose lines
    are there already.
    """
    dtype, size = sources[0].dtype, math.prod(shape)
    place = placing(out, shape, dtype, *sources, elementwise=True)
    flat_sources = [flattener(source) for source in sources]
    beyond_caches, nanoseconds = size * dtype.itemsize > caches().l3, size * _NS_PER_ELEMENT
    none = np.empty(0, dtype)

    def run(out: Any, *sources: Any) -> Any:
        y = place(out, *sources)
        runs = [flat_source(source) for flat_source, source in zip(flat_sources, sources, strict=True)]
        streams = beyond_caches and not any(np.may_share_memory(y, run) for run in runs)
        buffers = workspace(get_num_threads() * _AT_ONCE, dtype) if streams else none
        kernel_(dtype, nanoseconds, *leading, *runs, buffers, y.reshape(-1))
        return finish(y, out)

    return run


@Planned
def add(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
    """Operands of another shape are broadcast first."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    if a.shape == b.shape:
        run = _plan(_add, (), shape, out, a, b)
        return lambda a, b, *, out=None: run(out, a, b)
    run = _plan(_add, (), shape, out, np.broadcast_to(a, shape), np.broadcast_to(b, shape))
    return lambda a, b, *, out=None: run(out, np.broadcast_to(a, shape), np.broadcast_to(b, shape))


def numbers_of(name: str, dtype: Any, numbers: Sequence[float] = ()) -> Any:
    """What the kernels read of an activation's numbers, its default ones if none are given: not empty."""
    return np.array([*(numbers or NUMBERS[name].values()), 0.0], dtype)


def backward(name: str, dy: Any, s: Any, out: Any = None) -> Any:
    """dx = dy * f'(x) for the activation op ``name`` with its default numbers, from x or y, as its formula needs."""
    return _plan(_backward, (CODES[name], numbers_of(name, dy.dtype)), s.shape, out, dy, s)(out, dy, s)


def _forward_op(name: str) -> Planned:
    def op(x: Any, *numbers: float, out: Any = None) -> Callable[..., Any]:
        run = _plan(_forward, (CODES[name], numbers_of(name, x.dtype, numbers)), x.shape, out, x)
        return lambda x, *numbers, out=None: run(out, x)

    return Planned(implements(name, op))


def _backward_op(name: str) -> Planned:
    from_input = ACTIVATIONS[name].needs == "x"

    def op(dy: Any, x: Any, y: Any, *numbers: float, out: Any = None) -> Callable[..., Any]:
        leading = CODES[name], numbers_of(name, dy.dtype, numbers)
        run = _plan(_backward, leading, dy.shape, out, dy, x if from_input else y)
        return lambda dy, x, y, *numbers, out=None: run(out, dy, x if from_input else y)

    return Planned(implements(f"{name}_backward", op))


for _name in ACTIVATIONS:
    globals()[_name], globals()[f"{_name}_backward"] = _forward_op(_name), _backward_op(_name)
