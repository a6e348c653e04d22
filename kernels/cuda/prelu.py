"""The parametric rectified linear unit on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cupy

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, finish, in_order, placing
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements

# Rows that a thread sums up before the parts are.
_CHUNK = 256
_BEFORE = f"#define CHUNK {_CHUNK}\n"

SLOPES = Structure(
    "Slopes",
    Field("n", "int64"),
    Field("m", "int64"),
    Field("x", "const real*"),
    Field("alpha", "const real*"),
    Field("dy", "const real*"),
    Field("y", "real*"),
    Field("parts", "real*"),
    Field("dalpha", "real*"),
)


def modules() -> Iterator[launch.Module]:
    """The one, of both dtypes."""
    for dtype in DTYPES:
        yield launch.Module(dtype, launch.text("prelu.cu", dtype, (SLOPES,), _BEFORE))


def _launches(x: Any, alpha: Any, **threads: int) -> list[launch.Launch]:
    """Of these entries, each with so many threads, on arrays like these."""
    dtype, record = x.dtype, SLOPES.record(x.dtype)
    record[0]["n"], record[0]["m"] = x.shape[0], alpha.size
    return [
        launch.Launch(
            launch.kernel("prelu.cu", entry, dtype.name, (SLOPES,), _BEFORE), launch.blocks(count), record, "x", 6
        )
        for entry, count in threads.items()
        if count
    ]


def _prelu(x: Any, alpha: Any, *, out: Any = None) -> Callable[..., Any]:
    """Y = x where x > 0, else alpha * x."""
    place, launches = placing(out, x.shape, x.dtype, x, alpha, ordered=True), _launches(x, alpha, forward=x.size)

    def run(x: Any, alpha: Any, *, out: Any = None) -> Any:
        y, kept, slopes = place(out, x, alpha), in_order(x), in_order(alpha)
        for launch_ in launches:
            launch_(kept.data.ptr, slopes.data.ptr, 0, y.data.ptr, 0, 0)
        return finish(y, out)

    return run


def _prelu_backward(dy: Any, x: Any, alpha: Any) -> Callable[..., tuple[Any, Any]]:
    """(dx, dalpha)."""
    n, m, dtype, shapes = x.shape[0], alpha.size, x.dtype, (x.shape, alpha.shape)
    chunks = -(-n // _CHUNK)
    launches = _launches(x, alpha, backward=n * m, slopes=chunks * m, columns=m)

    def run(dy: Any, x: Any, alpha: Any) -> tuple[Any, Any]:
        dx, dalpha, parts = (cupy.empty(shape, dtype) for shape in (*shapes, (chunks, m)))
        arrays = in_order(x), in_order(alpha), in_order(dy), dx, parts, dalpha  # kept until all is launched
        for launch_ in launches:
            launch_(*map(address, arrays))
        return dx, dalpha

    return run


prelu, prelu_backward = Planned(implements("prelu", _prelu)), Planned(implements("prelu_backward", _prelu_backward))
