"""Rows of a table by their numbers, on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn.kernels.cuda import csr, launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, in_order, like_new, placing
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements

ROWS = Structure(
    "Rows",
    Field("n", "int64"),
    Field("m", "int64"),
    Field("rows", "int64"),
    Field("data", "const real*"),
    Field("bytes", "const unsigned char*"),
    Field("index", "const int64*"),
    Field("y", "real*"),
    numbers=(Field("scale", "real"), Field("offset", "real")),
)


def _before(of_bytes: bool) -> str:
    return f"#define BYTES {int(of_bytes)}\n"


def modules() -> Iterator[launch.Module]:
    """Of numbers of both dtypes, and of bytes."""
    for name, dtype in (*((dtype, dtype) for dtype in DTYPES), ("bytes", "float32")):
        yield launch.Module(name, launch.text("gather.cu", dtype, (ROWS,), _before(name == "bytes")))


def _gather(
    data: Any, index: Any, scale: float = 1 / 255, offset: float = 0.0, *, out: Any = None
) -> Callable[..., Any]:
    """y[i] = data[index[i]]; a row that data do not have is NaN, for nobody waits for the device to say so."""
    of_bytes, n, sample = data.dtype == np.uint8, index.shape[0], data.shape[1:]
    dtype, m = np.dtype(np.float32) if of_bytes else data.dtype, math.prod(sample)
    place = placing(out, (n, *sample), dtype, data, ordered=True)
    if n * m == 0:
        return lambda data, index, scale=0.0, offset=0.0, *, out=None: place(out, data)
    record = ROWS.record(dtype)
    given = record[0]
    given["n"], given["m"], given["rows"], given["scale"], given["offset"] = n, m, data.shape[0], scale, offset
    kernel = launch.kernel("gather.cu", "gather", dtype.name, (ROWS,), _before(of_bytes))
    launch_ = launch.Launch(kernel, launch.blocks(n * m), record, "data", 4)

    def run(data: Any, index: Any, scale: float = 0.0, offset: float = 0.0, *, out: Any = None) -> Any:
        y, kept, numbers = place(out, data), in_order(data), in_order(index.astype(np.int64, copy=False))
        start = kept.data.ptr
        launch_(*((0, start) if of_bytes else (start, 0)), numbers.data.ptr, y.data.ptr)
        return finish(y, out)

    return run


def _gather_backward(dy: Any, data: Any, index: Any, *, out: Any = None) -> Callable[..., Any]:
    """Sums of rows of dy by their numbers, each row's in one order; rows that data do not have are left out."""
    (rows, *sample), n, m = data.shape, index.shape[0], math.prod(data.shape[1:])
    place = placing(out, (rows, *sample), dy.dtype, dy, data, ordered=True)
    add = csr.adding_rows(like_new((n, m), dy.dtype), like_new((rows, m), dy.dtype))

    def run(dy: Any, data: Any, index: Any, *, out: Any = None) -> Any:
        ddata = place(out, dy, data)
        add(index, in_order(dy).reshape(n, m), ddata.reshape(rows, m))
        return finish(ddata, out)

    return run


gather, gather_backward = (
    Planned(implements("gather", _gather)),
    Planned(implements("gather_backward", _gather_backward)),
)
