"""Pooling of images on the device, channels last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, in_order, placing_apart
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements
from fastnn.kernels.table.windows import margins, places


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


WINDOWS = Structure(
    "Windows",
    *(Field(name, "int64") for name in Windows._fields),
    Field("x", "const real*"),
    Field("y", "const real*"),
    Field("dy", "const real*"),
    Field("made", "real*"),
)

# What is made of the numbers of a window, by the macros MAXIMUM and SCALED.
MAX, MEAN, SUM = (1, 1), (0, 1), (0, 0)


def _before(kind: tuple[int, int]) -> str:
    return "#define MAXIMUM {}\n#define SCALED {}\n".format(*kind)


def modules() -> Iterator[launch.Module]:
    """Of largest numbers, means and sums."""
    for name, kind in (("max", MAX), ("mean", MEAN), ("sum", SUM)):
        for dtype in DTYPES:
            yield launch.Module(f"{name} {dtype}", launch.text("pooling.cu", dtype, (WINDOWS,), _before(kind)))


def _launch(entry: str, kind: tuple[int, int], given: Windows, count: int, dtype: Any) -> launch.Launch:
    record = WINDOWS.record(dtype)
    for name, size in given._asdict().items():
        record[0][name] = size
    kernel = launch.kernel("pooling.cu", entry, dtype.name, (WINDOWS,), _before(kind))
    return launch.Launch(kernel, launch.blocks(count), record, "x", 4)


def pooling(kind: tuple[int, int], given: Windows, x: Any, shape: tuple[int, ...], out: Any) -> Callable[..., Any]:
    """What pools arrays like x, images of ``given``, into a result of ``shape``: ``run(x, out)``."""
    place, count = placing_apart(out, shape, x.dtype, x), given.n * given.p * given.q * given.c
    if count == 0:
        return lambda x, out: place(out, x)
    launch_ = _launch("pool", kind, given, count, x.dtype)

    def run(x: Any, out: Any) -> Any:
        y, numbers = place(out, x), in_order(x)
        launch_(numbers.data.ptr, 0, 0, y.data.ptr)
        return finish(y, out)

    return run


def _spreading(
    kind: tuple[int, int], given: Windows, sources: tuple[Any, ...], shape: tuple[int, ...], out: Any
) -> Callable[..., Any]:
    """What gives the gradient of such images, of ``shape``: ``run(out, dy, x, y)``, or of a mean ``run(out, dy)``."""
    dtype, count = sources[0].dtype, given.n * given.h * given.w * given.c
    place = placing_apart(out, shape, dtype, *sources)
    if count == 0:
        return place
    launch_ = _launch("spread", kind, given, count, dtype)

    def run(out: Any, *sources: Any) -> Any:
        dx = place(out, *sources)
        dy, *others = map(in_order, sources)
        x, y = (each.data.ptr for each in others) if others else (0, 0)
        launch_(x, y, dy.data.ptr, dx.data.ptr)
        return finish(dx, out)

    return run


def _windows(shape: Any, pool_size: Any, strides: Any, padding: Any) -> Windows:
    n, h, w, c = shape
    counts = [places(shape[axis + 1], pool_size[axis], strides[axis], padding, axis) for axis in (0, 1)]
    before = [margins(shape[axis + 1], pool_size[axis], strides[axis], padding, axis)[0] for axis in (0, 1)]
    return Windows(n, h, w, c, *counts, *pool_size, *strides, *before)


def _all(shape: Any) -> Windows:
    """The one window that covers all places of x (n, s, c)."""
    n, s, c = shape
    return Windows(n, s, 1, c, 1, 1, s, 1, 1, 1, 0, 0)


def _pool_op(name: str, kind: tuple[int, int]) -> Planned:
    def op(x: Any, pool_size: Any, strides: Any, padding: Any = "valid", *, out: Any = None) -> Callable[..., Any]:
        given = _windows(x.shape, pool_size, strides, padding)
        run = pooling(kind, given, x, (given.n, given.p, given.q, given.c), out)
        return lambda x, *_, out=None, **__: run(x, out)

    return Planned(implements(name, op))


def _global_op(name: str, kind: tuple[int, int]) -> Planned:
    def op(x: Any, *, out: Any = None) -> Callable[..., Any]:
        run = pooling(kind, _all(x.shape), x, (x.shape[0], x.shape[2]), out)
        return lambda x, *, out=None: run(x, out)

    return Planned(implements(name, op))


def _max_pool2d_backward(
    dy: Any, x: Any, y: Any, pool_size: Any, strides: Any, padding: Any = "valid", *, out: Any = None
) -> Callable[..., Any]:
    run = _spreading(MAX, _windows(x.shape, pool_size, strides, padding), (dy, x, y), x.shape, out)
    return lambda dy, x, y, *_, out=None, **__: run(out, dy, x, y)


def _average_pool2d_backward(
    dy: Any, x: Any, pool_size: Any, strides: Any, padding: Any = "valid", *, out: Any = None
) -> Callable[..., Any]:
    run = _spreading(MEAN, _windows(x.shape, pool_size, strides, padding), (dy,), x.shape, out)
    return lambda dy, *_, out=None, **__: run(out, dy)


def _global_max_pool_backward(dy: Any, x: Any, y: Any, *, out: Any = None) -> Callable[..., Any]:
    run = _spreading(MAX, _all(x.shape), (dy, x, y), x.shape, out)
    return lambda dy, x, y, *, out=None: run(out, dy, x, y)


def _global_average_pool_backward(dy: Any, x: Any, *, out: Any = None) -> Callable[..., Any]:
    run = _spreading(MEAN, _all(x.shape), (dy,), x.shape, out)
    return lambda dy, x, *, out=None: run(out, dy)


max_pool2d, average_pool2d = _pool_op("max_pool2d", MAX), _pool_op("average_pool2d", MEAN)
global_max_pool, global_average_pool = _global_op("global_max_pool", MAX), _global_op("global_average_pool", MEAN)
max_pool2d_backward = Planned(implements("max_pool2d_backward", _max_pool2d_backward))
average_pool2d_backward = Planned(implements("average_pool2d_backward", _average_pool2d_backward))
global_max_pool_backward = Planned(implements("global_max_pool_backward", _global_max_pool_backward))
global_average_pool_backward = Planned(implements("global_average_pool_backward", _global_average_pool_backward))
