"""Elementwise addition and activations: contiguous runs of vectors, split into one range a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange, types

from fastnn.kernels.cpu._arrays import contiguous, destination, finish
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.machine import caches
from fastnn.kernels.cpu.simd import (
    CODES,
    add_row,
    add_stream,
    address,
    backward_row,
    backward_stream,
    forward_row,
    forward_stream,
)

# Nanoseconds an element on one core, roughly: reading and writing memory, and an exp where there is one.
_NS_PER_ELEMENT = 0.25


@kernel(lambda dtype: types.void(types.int64, flat(dtype, readonly=True), types.int64, flat(dtype), types.int64))
def _forward(MR: int, NR: int, parallel: bool, SOURCE: int) -> Any:
    def forward(code, x, stream, y, tasks):
        _ = (SOURCE, parallel)
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
def _backward(MR: int, NR: int, parallel: bool, SOURCE: int) -> Any:
    def backward(code, dy, y, stream, dx, tasks):
        _ = (SOURCE, parallel)
        for t in prange(tasks):
            low, high = t * y.size // tasks, (t + 1) * y.size // tasks
            if stream:
                backward_stream(code, high - low, address(dy, low), address(y, low), address(dx, low))
            else:
                backward_row(code, high - low, address(dy, low), address(y, low), address(dx, low))

    return backward


@kernel(_two_sources)
def _add(MR: int, NR: int, parallel: bool, SOURCE: int) -> Any:
    def add(a, b, stream, y, tasks):
        _ = (SOURCE, parallel)
        for t in prange(tasks):
            low, high = t * y.size // tasks, (t + 1) * y.size // tasks
            if stream:
                add_stream(high - low, address(a, low), address(b, low), address(y, low))
            else:
                add_row(high - low, address(a, low), address(b, low), address(y, low))

    return add


def _run(kernel_: Any, leading: tuple[Any, ...], shape: tuple[int, ...], out: Any, *sources: Any) -> Any:
    """Run a kernel over flattened operands of one shape into ``out`` or a new array.

    What no cache holds until it is read again goes past the caches, unless it is written over a source, whose lines
    are there already.
    """
    y = destination(out, shape, sources[0].dtype, *sources, elementwise=True)
    runs = [contiguous(source) for source in sources]
    stream = y.nbytes > caches().l3 and not any(np.may_share_memory(y, run) for run in runs)
    kernel_(y.dtype, y.size * _NS_PER_ELEMENT, *leading, *runs, int(stream), y.reshape(-1))
    return finish(y, out)


def add(a: Any, b: Any, *, out: Any = None) -> Any:
    """Operands of another shape are broadcast first."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    return _run(_add, (), shape, out, np.broadcast_to(a, shape), np.broadcast_to(b, shape))


def forward(name: str, x: Any, out: Any = None) -> Any:
    """y = f(x) for the activation op ``name``."""
    return _run(_forward, (CODES[name],), x.shape, out, x)


def backward(name: str, dy: Any, y: Any, out: Any = None) -> Any:
    """dx = dy * f'(x) from y = f(x) for the activation op ``name``."""
    return _run(_backward, (CODES[name],), y.shape, out, dy, y)


def _forward_op(name: str) -> Callable[..., Any]:
    def op(x: Any, *, out: Any = None) -> Any:
        return forward(name, x, out)

    op.__name__ = op.__qualname__ = name
    return op


def _backward_op(name: str) -> Callable[..., Any]:
    def op(dy: Any, x: Any, y: Any, *, out: Any = None) -> Any:
        return backward(name, dy, y, out)

    op.__name__ = op.__qualname__ = f"{name}_backward"
    return op


identity, identity_backward = _forward_op("identity"), _backward_op("identity")
relu, relu_backward = _forward_op("relu"), _backward_op("relu")
sigmoid, sigmoid_backward = _forward_op("sigmoid"), _backward_op("sigmoid")
tanh, tanh_backward = _forward_op("tanh"), _backward_op("tanh")
