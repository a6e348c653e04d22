"""Rows of a table by their numbers, on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order, written_to

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
        kernel = launch.kernel("gather.cu", "gather", dtype.name, (ROWS,), f"#define BYTES {int(of_bytes)}\n")
        kernel((launch.blocks(y.size),), (launch.THREADS,), (record,))
    return finished()
