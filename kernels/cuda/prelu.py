"""The parametric rectified linear unit on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cupy

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order, written_to
from fastnn.kernels.table import DTYPES

# Rows that a thread sums up before the parts are.
_CHUNK = 256

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
        yield launch.Module(dtype, launch.text("prelu.cu", dtype, (SLOPES,)))


def _launch(entry: str, record: Any, dtype: Any, threads: int) -> None:
    kernel = launch.kernel("prelu.cu", entry, dtype.name, (SLOPES,))
    kernel((launch.blocks(threads),), (launch.THREADS,), (record,))


def prelu(x: Any, alpha: Any, *, out: Any = None) -> Any:
    """Y = x where x > 0, else alpha * x."""
    y, finished = written_to(out, x.shape, x.dtype, x, alpha, ordered=True)
    if y.size:
        record, kept = SLOPES.record(x.dtype), (in_order(x), in_order(alpha))
        record[0] = x.shape[0], alpha.size, *map(address, kept), 0, address(y), 0, 0
        _launch("forward", record, x.dtype, y.size)
    return finished()


def prelu_backward(dy: Any, x: Any, alpha: Any) -> tuple[Any, Any]:
    """(dx, dalpha)."""
    n, m, dtype = x.shape[0], alpha.size, x.dtype
    dx, dalpha = cupy.empty(x.shape, dtype), cupy.empty(alpha.shape, dtype)
    parts, record = cupy.empty((-(-n // _CHUNK), m), dtype), SLOPES.record(dtype)
    kept = in_order(x), in_order(alpha), in_order(dy)
    record[0] = n, m, *map(address, (*kept, dx, parts, dalpha))
    for entry, threads in (("backward", n * m), ("slopes", parts.size), ("columns", m)):
        if threads:
            _launch(entry, record, dtype, threads)
    return dx, dalpha
