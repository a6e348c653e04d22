"""Images made larger or smaller on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, in_order, placing_apart
from fastnn.kernels.cuda.pooling import SUM, Windows, pooling
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements

_SIZES = ("n", "h", "w", "c", "p", "q", "above", "left", "down", "across")

IMAGES = Structure("Images", *(Field(name, "int64") for name in _SIZES), Field("x", "const real*"), Field("y", "real*"))


def modules() -> Iterator[launch.Module]:
    """The one, of both dtypes."""
    for dtype in DTYPES:
        yield launch.Module(dtype, launch.text("resizing.cu", dtype, (IMAGES,)))


def _planned(entry: str, x: Any, p: int, q: int, out: Any, **fields: int) -> Callable[..., Any]:
    """What runs a kernel on images like x, for a result of (p, q) places: ``run(x, out)``."""
    n, h, w, c = x.shape
    shape, dtype = (n, p, q, c), x.dtype
    place = placing_apart(out, shape, dtype, x)
    if math.prod(shape) == 0:
        return lambda x, out: place(out, x)
    record = IMAGES.record(dtype)
    for name, size in {"n": n, "h": h, "w": w, "c": c, "p": p, "q": q, **fields}.items():
        record[0][name] = size
    kernel = launch.kernel("resizing.cu", entry, dtype.name, (IMAGES,))
    launch_ = launch.Launch(kernel, launch.blocks(math.prod(shape)), record, "x", 2)

    def run(x: Any, out: Any) -> Any:
        y, numbers = place(out, x), in_order(x)
        launch_(numbers.data.ptr, y.data.ptr)
        return finish(y, out)

    return run


def _zero_pad2d(x: Any, padding: Any = ((1, 1), (1, 1)), *, out: Any = None) -> Callable[..., Any]:
    (_, h, w, _), ((top, bottom), (left, right)) = x.shape, padding
    run = _planned("shift", x, top + h + bottom, left + w + right, out, above=top, left=left)
    return lambda x, *_, out=None, **__: run(x, out)


def _crop2d(x: Any, cropping: Any = ((1, 1), (1, 1)), *, out: Any = None) -> Callable[..., Any]:
    (_, h, w, _), ((top, bottom), (left, right)) = x.shape, cropping
    run = _planned("shift", x, h - top - bottom, w - left - right, out, above=-top, left=-left)
    return lambda x, *_, out=None, **__: run(x, out)


def _upsample2d(x: Any, size: Any = (2, 2), *, out: Any = None) -> Callable[..., Any]:
    (_, h, w, _), (down, across) = x.shape, size
    run = _planned("repeat", x, h * down, w * across, out, down=down, across=across)
    return lambda x, *_, out=None, **__: run(x, out)


def _upsample2d_backward(dy: Any, x: Any, size: Any = (2, 2), *, out: Any = None) -> Callable[..., Any]:
    (n, h, w, c), (down, across) = x.shape, size
    given = Windows(n, h * down, w * across, c, h, w, down, across, down, across, 0, 0)
    run = pooling(SUM, given, dy, x.shape, out)
    return lambda dy, *_, out=None, **__: run(dy, out)


zero_pad2d, crop2d = Planned(implements("zero_pad2d", _zero_pad2d)), Planned(implements("crop2d", _crop2d))
upsample2d = Planned(implements("upsample2d", _upsample2d))
upsample2d_backward = Planned(implements("upsample2d_backward", _upsample2d_backward))
