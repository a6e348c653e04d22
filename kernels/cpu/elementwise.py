"""Elementwise addition and activations: contiguous runs of vectors, split into one range a task."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange, types

from fastnn.kernels.cpu._arrays import Planned, finish, flattener, placing
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.machine import caches
from fastnn.kernels.cpu.simd.elementwise import (
    add_row,
    add_stream,
    backward_row,
    backward_stream,
    forward_row,
    forward_stream,
)
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.formulas.activations import CODES

# Nanoseconds an element on one core, roughly: reading and writing memory, and an exp where there is one.
_NS_PER_ELEMENT = 0.25


@kernel(lambda dtype: types.void(types.int64, flat(dtype, readonly=True), types.int64, flat(dtype), types.int64))
def _forward(MR: int, NR: int) -> Any:
    def forward(code, x, stream, y, tasks):
        for t in prange(tasks):
            low, high = t * x.size // tasks, (t + 1) * x.size // tasks
            if stream:
                forward_stream(code, high - low, address(x, low), address(y, low))
            else:
                forward_row(code, high - low, address(x, low), address(y, low))

    return forward


def _two_sources(dtype: Any, *leading: Any) -> Any:
    """Signature: ..., two arrays, whether to stream, the result, tasks."""
    source = flat(dtype, readonly=True)
    return types.void(*leading, source, source, types.int64, flat(dtype), types.int64)


@kernel(lambda dtype: _two_sources(dtype, types.int64))
def _backward(MR: int, NR: int) -> Any:
    def backward(code, dy, y, stream, dx, tasks):
        for t in prange(tasks):
            low, high = t * y.size // tasks, (t + 1) * y.size // tasks
            if stream:
                backward_stream(code, high - low, address(dy, low), address(y, low), address(dx, low))
            else:
                backward_row(code, high - low, address(dy, low), address(y, low), address(dx, low))

    return backward


@kernel(_two_sources)
def _add(MR: int, NR: int) -> Any:
    def add(a, b, stream, y, tasks):
        for t in prange(tasks):
            low, high = t * y.size // tasks, (t + 1) * y.size // tasks
            if stream:
                add_stream(high - low, address(a, low), address(b, low), address(y, low))
            else:
                add_row(high - low, address(a, low), address(b, low), address(y, low))

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

    def run(out: Any, *sources: Any) -> Any:
        y = place(out, *sources)
        runs = [flat_source(source) for flat_source, source in zip(flat_sources, sources, strict=True)]
        stream = beyond_caches and not any(np.may_share_memory(y, run) for run in runs)
        kernel_(dtype, nanoseconds, *leading, *runs, int(stream), y.reshape(-1))
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


def backward(name: str, dy: Any, y: Any, out: Any = None) -> Any:
    """dx = dy * f'(x) from y = f(x) for the activation op ``name``."""
    return _plan(_backward, (CODES[name],), y.shape, out, dy, y)(out, dy, y)


def _forward_op(name: str) -> Planned:
    """y = f(x)."""

    def op(x: Any, *, out: Any = None) -> Callable[..., Any]:
        run = _plan(_forward, (CODES[name],), x.shape, out, x)
        return lambda x, *, out=None: run(out, x)

    op.__name__ = op.__qualname__ = name
    return Planned(op)


def _backward_op(name: str) -> Planned:
    """dx = dy * f'(x) from y = f(x)."""

    def op(dy: Any, x: Any, y: Any, *, out: Any = None) -> Callable[..., Any]:
        run = _plan(_backward, (CODES[name],), y.shape, out, dy, y)
        return lambda dy, x, y, *, out=None: run(out, dy, y)

    op.__name__ = op.__qualname__ = f"{name}_backward"
    return Planned(op)


identity, identity_backward = _forward_op("identity"), _backward_op("identity")
relu, relu_backward = _forward_op("relu"), _backward_op("relu")
sigmoid, sigmoid_backward = _forward_op("sigmoid"), _backward_op("sigmoid")
tanh, tanh_backward = _forward_op("tanh"), _backward_op("tanh")
