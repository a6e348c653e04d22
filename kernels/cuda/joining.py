"""Arrays side by side on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cupy

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, in_order, placing_apart
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements

SIDES = Structure(
    "Sides",
    Field("n", "int64"),
    Field("first", "int64"),
    Field("second", "int64"),
    Field("a", "real*"),
    Field("b", "real*"),
    Field("y", "real*"),
)


def modules() -> Iterator[launch.Module]:
    """The one, of both dtypes."""
    for dtype in DTYPES:
        yield launch.Module(dtype, launch.text("joining.cu", dtype, (SIDES,)))


def _launch(entry: str, n: int, first: int, second: int, dtype: Any) -> Callable[..., None]:
    """Of arrays of these sizes: ``launch(a, b, y)``."""
    if n * (first + second) == 0:
        return lambda *_: None
    record = SIDES.record(dtype)
    record[0]["n"], record[0]["first"], record[0]["second"] = n, first, second
    kernel = launch.kernel("joining.cu", entry, dtype.name, (SIDES,))
    launch_ = launch.Launch(kernel, launch.blocks(n * (first + second)), record, "a", 3)
    return lambda *arrays: launch_(*(array.data.ptr for array in arrays))


def _join(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
    (n, first), second = a.shape, b.shape[1]
    place = placing_apart(out, (n, first + second), a.dtype, a, b)
    copy = _launch("join", n, first, second, a.dtype)

    def run(a: Any, b: Any, *, out: Any = None) -> Any:
        y, one, other = place(out, a, b), in_order(a), in_order(b)
        copy(one, other, y)
        return finish(y, out)

    return run


def _join_backward(dy: Any, a: Any, b: Any) -> Callable[..., tuple[Any, Any]]:
    shapes, dtype = (a.shape, b.shape), dy.dtype
    copy = _launch("part", a.shape[0], a.shape[1], b.shape[1], dtype)

    def run(dy: Any, *_: Any) -> tuple[Any, Any]:
        da, db = (cupy.empty(shape, dtype) for shape in shapes)
        slopes = in_order(dy)
        copy(da, db, slopes)
        return da, db

    return run


join, join_backward = Planned(implements("join", _join)), Planned(implements("join_backward", _join_backward))
