"""Pooling of images, channels last: vectors of channels; tasks share rows of places, or images and channels.

Derivatives that meet in a number are added up by one task in the order of the places: the same bits for any number of
threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types

from fastnn.kernels.cpu._arrays import finish, in_order, placing
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.notes import Note
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.pooling import MAX, MEAN, pool_row, spread_max_row, spread_row
from fastnn.kernels.planned import Planned
from fastnn.kernels.table.row import implements
from fastnn.kernels.table.windows import margins, places

# In place of ``MAX``: the derivative of largest numbers of what a relu gave, by what it was given.
_MAX_OF_RELU = 2

# Nanoseconds a number that a window reads on one core, roughly.
_NS_PER_NUMBER = 0.15

# Channels that a task has of an image's gradient.
_CHANNELS = 64


class Windows(NamedTuple):
    """Images (n, h, w, c), places (p, q) of windows (height, width), what they move by, what lies before the first."""

    n: int
    h: int
    w: int
    c: int
    p: int
    q: int
    height: int
    width: int
    down: int
    across: int
    above: int
    left: int

    @property
    def nanoseconds(self) -> float:
        """One core's work."""
        return _NS_PER_NUMBER * self.n * self.c * (self.h * self.w + self.p * self.q * self.height * self.width)

    @property
    def whole(self) -> bool:
        """Whether there is any number."""
        return self.n * self.h * self.w * self.c > 0


def windows(shape: Any, pool_size: Any, strides: Any, padding: Any) -> Windows:
    """Those of images of a shape."""
    n, h, w, c = shape
    counts = [places(shape[axis + 1], pool_size[axis], strides[axis], padding, axis) for axis in (0, 1)]
    before = [margins(shape[axis + 1], pool_size[axis], strides[axis], padding, axis)[0] for axis in (0, 1)]
    return Windows(n, h, w, c, *counts, *pool_size, *strides, *before)


@compiled_in
def _run(place, q, width, across, left, w):
    """(columns, first column, places): a window's at a place of a row, and how many follow that are like it."""
    start = place * across - left
    first, end = max(0, start), min(w, start + width)
    count = 1
    if start >= 0 and start + width <= w:
        count = min(q, (w - width + left) // across + 1) - place
    return end - first, first, count


@compiled_in
def pool_share(t, tasks, code, scaled, given, one, x, y):
    """Task t's rows of places: windows' largest numbers, or means; sums where they are not ``scaled``."""
    n, h, w, c, p, q, height, width, down, across, above, left = given
    for line in range(t * n * p // tasks, (t + 1) * n * p // tasks):
        image, start = line // p, line % p * down - above
        top, bottom = max(0, start), min(h, start + height)
        place = 0
        while place < q:
            columns, first, count = _run(place, q, width, across, left, w)
            scale = one / (columns * (bottom - top)) if scaled else one
            source = address(x, ((image * h + top) * w + first) * c)
            made = address(y, (line * q + place) * c)
            pool_row(code, count, across * c, bottom - top, columns, w * c, c, c, scale, source, made)
            place += count


@compiled_in
def spread_share(t, tasks, code, given, one, dy, x, y, dx):
    """Task t's images and channels of dx: what windows' derivatives are for their numbers."""
    n, h, w, c, p, q, height, width, down, across, above, left = given
    blocks, adds = -(-c // _CHANNELS), int(height > down or width > across)
    for item in range(t * n * blocks // tasks, (t + 1) * n * blocks // tasks):
        image, channel = item // blocks, item % blocks * _CHANNELS
        channels = min(_CHANNELS, c - channel)
        for cell in range(image * h * w, (image + 1) * h * w):
            for k in range(cell * c + channel, cell * c + channel + channels):
                dx[k] = 0.0
        for row in range(p):
            start = row * down - above
            top, bottom = max(0, start), min(h, start + height)
            place = 0
            while place < q:
                columns, first, count = _run(place, q, width, across, left, w)
                at, to = ((image * p + row) * q + place) * c + channel, ((image * h + top) * w + first) * c + channel
                window = bottom - top, columns, w * c, channels, c
                if code == MEAN:
                    scale = one / (columns * (bottom - top))
                    spread_row(adds, count, across * c, *window, scale, address(dy, at), address(dx, to))
                else:
                    sources, rectified = (address(dy, at), address(x, to), address(y, at)), int(code == _MAX_OF_RELU)
                    spread_max_row(adds, count, across * c, *window, rectified, *sources, address(dx, to))
                place += count


def _signature(dtype: Any) -> Any:
    return types.void(types.int64, types.boolean, types.UniTuple(types.int64, 12), flat(dtype), flat(dtype))


@kernel(_signature)
def _pool(MR: int, NR: int) -> Any:
    def pool(code, scaled, given, x, y, words, t, tasks):
        pool_share(t, tasks, code, scaled, given, x.dtype.type(1), address(x, 0), address(y, 0))

    return pool


def _spread_signature(dtype: Any) -> Any:
    return types.void(types.int64, types.UniTuple(types.int64, 12), *[flat(dtype)] * 4)


@kernel(_spread_signature)
def _spread(MR: int, NR: int) -> Any:
    def spread(code, given, dy, x, y, dx, words, t, tasks):
        operands = address(dy, 0), address(x, 0), address(y, 0), address(dx, 0)
        spread_share(t, tasks, code, given, dx.dtype.type(1), *operands)

    return spread


def pooling(code: int, given: Windows, x: Any, shape: tuple[int, ...], out: Any, scaled: bool = True) -> Any:
    """What pools arrays like x, which are images of ``given``, into a result of ``shape``: ``run(x, out)``."""
    dtype = x.dtype
    place = placing(out if out is None or out.flags.c_contiguous else None, shape, dtype, x)
    compute = _pool.planned(dtype, given.nanoseconds, code, scaled, tuple(given))

    def run(x: Any, out: Any) -> Any:
        y = place(out, x)
        if given.whole:
            compute(in_order(x).reshape(-1), y.reshape(-1))
        return finish(y, out)

    return run


def spreading(code: int, given: Windows, sources: tuple[Any, ...], shape: tuple[int, ...], out: Any) -> Any:
    """What gives the gradient of such images, of ``shape``: ``run(out, dy, x, y)``, or of a mean ``run(out, dy)``."""
    dtype = sources[0].dtype
    place = placing(out if out is None or out.flags.c_contiguous else None, shape, dtype, *sources)
    compute = _spread.planned(dtype, given.nanoseconds, code, tuple(given))

    def run(out: Any, *sources: Any) -> Any:
        dx = place(out, *sources)
        if given.whole:
            dy, *others = (in_order(source).reshape(-1) for source in sources)
            compute(dy, *(others or (dy, dy)), dx.reshape(-1))
        return finish(dx, out)

    return run


def of_relu(note: Note) -> Note:
    """What was noted of the gradient of largest numbers, where these are what a relu gave, with its derivative."""
    return note._replace(arguments=(_MAX_OF_RELU, *note.arguments[1:]))


def _pool_op(name: str, code: int) -> Planned:
    """Of images."""

    def op(x: Any, pool_size: Any, strides: Any, padding: Any = "valid", *, out: Any = None) -> Callable[..., Any]:
        given = windows(x.shape, pool_size, strides, padding)
        run = pooling(code, given, x, (given.n, given.p, given.q, given.c), out)
        return lambda x, *_, out=None, **__: run(x, out)

    return Planned(implements(name, op))


def over_all(shape: Any) -> Windows:
    """The one window that covers all places of x (n, s, c)."""
    n, s, c = shape
    return Windows(n, s, 1, c, 1, 1, s, 1, 1, 1, 0, 0)


def _global_op(name: str, code: int) -> Planned:
    """Of places in one column, by one window."""

    def op(x: Any, *, out: Any = None) -> Callable[..., Any]:
        run = pooling(code, over_all(x.shape), x, (x.shape[0], x.shape[2]), out)
        return lambda x, *, out=None: run(x, out)

    return Planned(implements(name, op))


@Planned
def max_pool2d_backward(
    dy: Any, x: Any, y: Any, pool_size: Any, strides: Any, padding: Any = "valid", *, out: Any = None
) -> Callable[..., Any]:
    """Window by window, to the first number that is the largest."""
    run = spreading(MAX, windows(x.shape, pool_size, strides, padding), (dy, x, y), x.shape, out)
    return lambda dy, x, y, *_, out=None, **__: run(out, dy, x, y)


@Planned
def average_pool2d_backward(
    dy: Any, x: Any, pool_size: Any, strides: Any, padding: Any = "valid", *, out: Any = None
) -> Callable[..., Any]:
    """Window by window, to all of its numbers."""
    run = spreading(MEAN, windows(x.shape, pool_size, strides, padding), (dy,), x.shape, out)
    return lambda dy, *_, out=None, **__: run(out, dy)


@Planned
def global_max_pool_backward(dy: Any, x: Any, y: Any, *, out: Any = None) -> Callable[..., Any]:
    """By one window."""
    run = spreading(MAX, over_all(x.shape), (dy, x, y), x.shape, out)
    return lambda dy, x, y, *, out=None: run(out, dy, x, y)


@Planned
def global_average_pool_backward(dy: Any, x: Any, *, out: Any = None) -> Callable[..., Any]:
    """By one window."""
    run = spreading(MEAN, over_all(x.shape), (dy,), x.shape, out)
    return lambda dy, x, *, out=None: run(out, dy)


max_pool2d, average_pool2d = _pool_op("max_pool2d", MAX), _pool_op("average_pool2d", MEAN)
global_max_pool, global_average_pool = _global_op("global_max_pool", MAX), _global_op("global_average_pool", MEAN)
