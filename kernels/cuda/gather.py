"""Rows of a table by their numbers, on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order, written_to
from fastnn.kernels.table import DTYPES

ROWS = Structure(
    "Rows",
    Field("n", "int64"),
    Field("m", "int64"),
    Field("rows", "int64"),
    Field("data", "const real*"),
    Field("bytes", "const unsigned char*"),
    Field("index", "const int64*"),
    Field("y", "real*"),
    Field("scale", "real"),
    Field("offset", "real"),
)
SCATTERED = Structure(
    "Scattered",
    Field("rows", "int64"),
    Field("m", "int64"),
    Field("data", "const real*"),
    Field("order", "const int64*"),
    Field("begins", "const int64*"),
    Field("ends", "const int64*"),
    Field("y", "real*"),
)


def _before(of_bytes: bool) -> str:
    return f"#define BYTES {int(of_bytes)}\n"


def modules() -> Iterator[launch.Module]:
    """Of numbers of both dtypes, and of bytes."""
    for name, dtype in (*((dtype, dtype) for dtype in DTYPES), ("bytes", "float32")):
        yield launch.Module(name, launch.text("gather.cu", dtype, (ROWS, SCATTERED), _before(name == "bytes")))


def gather(data: Any, index: Any, scale: float = 1 / 255, offset: float = 0.0, *, out: Any = None) -> Any:
    """y[i] = data[index[i]]; a row that data do not have is NaN, for nobody waits for the device to say so."""
    of_bytes, n = data.dtype == np.uint8, index.shape[0]
    dtype, shape = np.dtype(np.float32) if of_bytes else data.dtype, (n, *data.shape[1:])
    y, finished = written_to(out, shape, dtype, data, ordered=True)
    if y.size:
        record, kept = ROWS.record(dtype), (in_order(data), in_order(index.astype(np.int64, copy=False)))
        start, numbers = map(address, kept)
        places = (0, start) if of_bytes else (start, 0)
        record[0] = n, y.size // n, data.shape[0], *places, numbers, address(y), scale, offset
        kernel = launch.kernel("gather.cu", "gather", dtype.name, (ROWS, SCATTERED), _before(of_bytes))
        kernel((launch.blocks(y.size),), (launch.THREADS,), (record,))
    return finished()


def gather_backward(dy: Any, data: Any, index: Any, *, out: Any = None) -> Any:
    """Sums of rows of dy by their numbers, each row's in one order; rows that data do not have are left out."""
    (rows, *sample), n, dtype = data.shape, index.shape[0], dy.dtype
    ddata, finished = written_to(out, (rows, *sample), dtype, dy, data, ordered=True)
    if ddata.size:
        numbers = index.astype(np.int64, copy=False)
        order = cupy.argsort(numbers * n + cupy.arange(n))  # stable
        own, wanted = numbers[order], cupy.arange(rows)
        begins, ends = (cupy.searchsorted(own, wanted, side) for side in ("left", "right"))
        record, kept = SCATTERED.record(dtype), in_order(dy)
        record[0] = rows, ddata.size // rows, *map(address, (kept, order, begins, ends, ddata))
        kernel = launch.kernel("gather.cu", "scatter", dtype.name, (ROWS, SCATTERED), _before(False))
        kernel((launch.blocks(ddata.size),), (launch.THREADS,), (record,))
    return finished()
