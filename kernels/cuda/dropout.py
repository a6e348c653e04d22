"""Dropout on the device: the same masks as on the CPU, from the same counters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order, written_to
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements

MASKED = Structure(
    "Masked",
    Field("n", "int64"),
    Field("c", "int64"),
    Field("x", "const real*"),
    Field("y", "real*"),
    Field("scale", "real"),
    Field("threshold", "int64"),
    Field("seed", "uint64"),
    Field("step", "unsigned"),
    Field("stream", "unsigned"),
)


def modules() -> Iterator[launch.Module]:
    """The one, of both dtypes."""
    for dtype in DTYPES:
        yield launch.Module(dtype, launch.text("dropout.cu", dtype, (MASKED,)))


def _op(name: str) -> Callable[..., Any]:
    """The derivative is the function: it is linear in x."""

    def drop(x: Any, rate: float, seed: int, step: int = 0, stream: int = 0, *, out: Any = None) -> Any:
        (n, c), dtype = x.shape, x.dtype
        y, finished = written_to(out, (n, c), dtype, x, ordered=True)
        if y.size:
            record, kept = MASKED.record(dtype), in_order(x)
            # words w < rate * 2^32 drop, which for whole w is w < its ceiling
            threshold = math.ceil(rate * 2.0**32)
            record[0] = n, c, address(kept), address(y), 1.0 / (1.0 - rate), threshold, seed, step, stream
            kernel = launch.kernel("dropout.cu", "drop", dtype.name, (MASKED,))
            kernel((launch.blocks(n * -(-c // 64) * 16),), (launch.THREADS,), (record,))
        return finished()

    return implements(name, drop)


dropout, dropout_backward = _op("dropout"), _op("dropout_backward")
