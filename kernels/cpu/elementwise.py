"""What is made of pairs of numbers, and activations: contiguous runs of vectors, split into one range a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastnn.kernels.cpu._arrays import contiguous, direct, finish, placing
from fastnn.kernels.cpu.compiler.machine import caches
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import Kernel, flat, kernel
from fastnn.kernels.cpu.simd.elementwise import (
    add_row,
    backward_row,
    choice_backward_row,
    drain,
    forward_row,
    pair_row,
)
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.formulas import pairs
from fastnn.kernels.formulas.activations import ACTIVATIONS, CODES
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import NUMBERS
from fastnn.kernels.table.row import implements

# Nanoseconds an element on one core, roughly: reading and writing memory, and an exp where there is one.
_NS_PER_ELEMENT = 0.25


def _signature(sources: int, *leading: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Numba's: what leads, whether the result goes past the caches, the sources, the result."""
    return lambda dtype: types.void(
        *(kind(dtype) for kind in leading), types.int64, *[flat(dtype)] * sources, flat(dtype)
    )


def _code(_: Any) -> Any:
    return types.int64


@compiled_in
def forward_share(t, tasks, size, code, numbers, past, x, y):
    """Task t's range of y = f(x); ``past`` the caches if that is not 0."""
    low, high = t * size // tasks, (t + 1) * size // tasks
    forward_row(code, high - low, address(x, low), numbers, address(y, low), past)
    _end(past, y)


@compiled_in
def backward_share(t, tasks, size, code, numbers, past, one, dy, s, dx):
    """Task t's range of dx = dy * f'(s); ``one`` is 1 in the numbers' dtype. ``past`` as above."""
    low, high = t * size // tasks, (t + 1) * size // tasks
    row = address(dx, low)
    backward_row(code, high - low, address(dy, low), one, address(s, low), one, numbers, row, past)
    _end(past, dx)


@compiled_in
def backward_sums_share(t, tasks, n, m, code, numbers, one, dy, s, dx, total):
    """Task t's columns of dx = dy * f'(s), (n, m), and of ``total``, the sums of its rows, in order."""
    low, high = t * m // tasks, (t + 1) * m // tasks
    for j in range(low, high):
        total[j] = 0.0
    for i in range(n):
        at = i * m + low
        row = address(dx, at)
        backward_row(code, high - low, address(dy, at), one, address(s, at), one, numbers, row, 0)
        add_row(high - low, address(total, low), row, address(total, low), 0)


_ADD = pairs.CODES["add"]


@compiled_in
def pair_share(t, tasks, size, code, swapped, period, past, a, b, y):
    """Task t's range of y = f(a, b), where b are ``period`` numbers again and again. ``past`` as above."""
    low, high = t * size // tasks, (t + 1) * size // tasks
    i = low
    while i < high:
        count = min(high - i, period - i % period)
        pair_row(code, swapped, count, address(a, i), address(b, i % period), address(y, i), past)
        i += count
    _end(past, y)


@compiled_in
def add_share(t, tasks, size, period, past, a, b, y):
    """Task t's range of y = a + b, where b are ``period`` numbers again and again. ``past`` as above."""
    pair_share(t, tasks, size, _ADD, 0, period, past, a, b, y)


@compiled_in
def _end(past, y):
    """What went past the caches is written before anything that comes later."""
    if past:
        drain(y)


@kernel(_signature(1, _code, flat))
def _forward(MR: int, NR: int) -> Any:
    def forward(code, numbers, past, x, y, words, t, tasks):
        forward_share(t, tasks, x.size, code, address(numbers, 0), past, address(x, 0), address(y, 0))

    return forward


@kernel(_signature(2, _code, flat))
def _backward(MR: int, NR: int) -> Any:
    def backward(code, numbers, past, dy, s, dx, words, t, tasks):
        operands = address(dy, 0), address(s, 0), address(dx, 0)
        backward_share(t, tasks, s.size, code, address(numbers, 0), past, s.dtype.type(1), *operands)

    return backward


@kernel(_signature(2, _code, _code, _code))
def _pair(MR: int, NR: int) -> Any:
    def pair(code, swapped, period, past, a, b, y, words, t, tasks):
        pair_share(t, tasks, y.size, code, swapped, period, past, address(a, 0), address(b, 0), address(y, 0))

    return pair


def _choice_signature(dtype: Any) -> Any:
    return types.void(types.int64, *[flat(dtype)] * 5)


@kernel(_choice_signature)
def _choice_backward(MR: int, NR: int) -> Any:
    def choice_backward(code, dy, a, b, da, db, words, t, tasks):
        low, high = t * dy.size // tasks, (t + 1) * dy.size // tasks
        slopes = address(dy, low), address(a, low), address(b, low), address(da, low), address(db, low)
        choice_backward_row(code, high - low, *slopes)

    return choice_backward


def nanoseconds(size: int) -> float:
    """One core's work for so many numbers."""
    return size * _NS_PER_ELEMENT


def _beyond_caches(size: int, dtype: Any) -> bool:
    """Whether no cache holds a result until it is read again."""
    return bool(size * dtype.itemsize > caches().l3)


def _direct(kernel_: Kernel, leading: tuple[Any, ...], out: Any, *sources: Any) -> Callable[..., Any] | None:
    """What runs a kernel over sources like these, flat, and a flat result; None where that takes more than a call."""
    size, dtype = sources[0].size, sources[0].dtype
    if not direct(out, *sources) or _beyond_caches(size, dtype):
        return None
    return kernel_.planned(dtype, nanoseconds(size), *leading, 0)


def _plan(
    kernel_: Kernel, leading: tuple[Any, ...], shape: tuple[int, ...], out: Any, *sources: Any
) -> Callable[..., Any]:
    """What runs a kernel over operands like these, of one shape and any strides, into ``out`` or a new array.

    What no cache holds until it is read again goes past the caches, unless it is written over a source, whose lines
    are there already.
    """
    dtype, size = sources[0].dtype, math.prod(shape)
    place = placing(out, shape, dtype, *sources, elementwise=True)
    beyond_caches, work = _beyond_caches(size, dtype), nanoseconds(size)

    def run(out: Any, *sources: Any) -> Any:
        y = place(out, *sources)
        runs = [contiguous(source) for source in sources]
        past = int(beyond_caches and not any(np.may_share_memory(y, run) for run in runs))
        kernel_(dtype, work, *leading, past, *runs, y.reshape(-1))
        return finish(y, out)

    return run


class Addends(NamedTuple):
    """How two arrays are joined: whether they change places, and how many numbers of what is then the second repeat."""

    swapped: bool
    period: int


def addends(a: Any, b: Any) -> Addends | None:
    """How arrays are joined of which one has the result's shape, the other its trailing dimensions; else None."""
    shape, swapped = np.broadcast_shapes(a.shape, b.shape), a.ndim < b.ndim or a.size < b.size
    whole, part = (b, a) if swapped else (a, b)
    repeated = part.shape
    while len(repeated) > 0 and repeated[0] == 1 and repeated != shape:
        repeated = repeated[1:]
    fits = whole.shape == shape and shape[len(shape) - len(repeated) :] == repeated
    return Addends(swapped, math.prod(repeated)) if fits and (repeated or not shape) else None


def _pair_op(name: str) -> Planned:
    """Where neither array has the shape of the result, or the other is stretched, both are broadcast first."""
    code = pairs.CODES[name]

    def op(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
        shape, dtype = np.broadcast_shapes(a.shape, b.shape), a.dtype
        plain = addends(a, b)
        if plain is None:
            leading, wide = (code, 0, math.prod(shape)), [np.broadcast_to(each, shape) for each in (a, b)]
            run = _plan(_pair, leading, shape, out, *wide)
            return lambda a, b, *, out=None: run(out, np.broadcast_to(a, shape), np.broadcast_to(b, shape))
        swapped, period = plain
        whole, part = (b, a) if swapped else (a, b)
        leading = code, int(swapped), period
        compute, place = _direct(_pair, leading, out, whole, part), placing(out, shape, dtype, a, b, elementwise=True)
        if compute is None:
            run = _plan(_pair, leading, shape, out, whole, part)
            return lambda a, b, *, out=None: run(out, b, a) if swapped else run(out, a, b)

        def pair(a: Any, b: Any, *, out: Any = None) -> Any:
            whole, part = (b, a) if swapped else (a, b)
            y = np.empty(shape, dtype) if out is None else place(out, a, b)
            compute(whole.ravel(), part.ravel(), y.ravel())
            return y if out is None else finish(y, out)

        return pair

    return Planned(implements(name, op))


def _choice_backward_op(name: str) -> Planned:
    """Of operands as large as dy: smaller ones are broadcast first."""
    code = pairs.CHOICE_CODES[name]

    def op(dy: Any, a: Any, b: Any) -> Callable[..., tuple[Any, Any]]:
        shape, dtype = np.broadcast_shapes(dy.shape, a.shape, b.shape), dy.dtype
        compute = _choice_backward.planned(dtype, nanoseconds(math.prod(shape)), code)

        def backward(*operands: Any) -> tuple[Any, Any]:
            da, db = np.empty(shape, dtype), np.empty(shape, dtype)
            compute(*(contiguous(np.broadcast_to(each, shape)) for each in operands), da.reshape(-1), db.reshape(-1))
            return da, db

        return backward

    return Planned(implements(f"{name}_backward", op))


def numbers_of(name: str, dtype: Any, numbers: Sequence[float] = ()) -> Any:
    """What the kernels read of an activation's numbers, its default ones if none are given: not empty."""
    return np.array([*(numbers or NUMBERS[name].values()), 0.0], dtype)


def _forward_op(name: str) -> Planned:
    def op(x: Any, *numbers: float, out: Any = None) -> Callable[..., Any]:
        shape, dtype = x.shape, x.dtype
        leading = CODES[name], numbers_of(name, dtype, numbers)
        compute, place = _direct(_forward, leading, out, x), placing(out, shape, dtype, x, elementwise=True)
        if compute is None:
            run = _plan(_forward, leading, shape, out, x)
            return lambda x, *numbers, out=None: run(out, x)

        def forward(x: Any, *numbers: float, out: Any = None) -> Any:
            y = np.empty(shape, dtype) if out is None else place(out, x)
            compute(x.ravel(), y.ravel())
            return y if out is None else finish(y, out)

        return forward

    return Planned(implements(name, op))


def _backward_op(name: str) -> Planned:
    from_input = ACTIVATIONS[name].needs == "x"

    def op(dy: Any, x: Any, y: Any, *numbers: float, out: Any = None) -> Callable[..., Any]:
        shape, dtype = dy.shape, dy.dtype
        leading, s = (CODES[name], numbers_of(name, dtype, numbers)), x if from_input else y
        compute, place = _direct(_backward, leading, out, dy, s), placing(out, shape, dtype, dy, s, elementwise=True)
        if compute is None:
            run = _plan(_backward, leading, shape, out, dy, s)
            return lambda dy, x, y, *numbers, out=None: run(out, dy, x if from_input else y)

        def backward(dy: Any, x: Any, y: Any, *numbers: float, out: Any = None) -> Any:
            s = x if from_input else y
            dx = np.empty(shape, dtype) if out is None else place(out, dy, s)
            compute(dy.ravel(), s.ravel(), dx.ravel())
            return dx if out is None else finish(dx, out)

        return backward

    return Planned(implements(f"{name}_backward", op))


for _name in pairs.PAIRS:
    globals()[_name] = _pair_op(_name)
for _name in pairs.CHOICES:
    globals()[f"{_name}_backward"] = _choice_backward_op(_name)
for _name in ACTIVATIONS:
    globals()[_name], globals()[f"{_name}_backward"] = _forward_op(_name), _backward_op(_name)
