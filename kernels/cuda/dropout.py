"""Dropout on the device: the same masks as on the CPU, from the same counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import pack_into
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, in_order, placing
from fastnn.kernels.cuda.random import COUNTERS, blocks
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.dropout import scale, threshold
from fastnn.kernels.table.row import implements

MASKED = Structure(
    "Masked",
    Field("n", "int64"),
    Field("c", "int64"),
    Field("x", "const real*"),
    Field("y", "real*"),
    numbers=(
        Field("scale", "real"),
        Field("threshold", "int64"),
        *COUNTERS,
    ),
)


def modules() -> Iterator[launch.Module]:
    """The one, of both dtypes."""
    for dtype in DTYPES:
        yield launch.Module(dtype, launch.text("dropout.cu", dtype, (MASKED,), launch.header("philox.cuh")))


def _op(name: str) -> Planned:
    """The derivative is the function: it is linear in x."""

    def drop(x: Any, rate: float, seed: int, step: int = 0, stream: int = 0, *, out: Any = None) -> Callable[..., Any]:
        (n, c), dtype = x.shape, x.dtype
        place = placing(out, (n, c), dtype, x, ordered=True)
        if x.size == 0:
            return lambda x, rate, seed, step=0, stream=0, *, out=None: place(out, x)
        record = MASKED.record(dtype)
        given = record[0]
        given["n"], given["c"], given["threshold"], given["scale"] = n, c, threshold(rate), scale(rate)
        kernel = launch.kernel("dropout.cu", "drop", dtype.name, (MASKED,), launch.header("philox.cuh"))
        launch_, counters = launch.Launch(kernel, blocks(n, c), record, "x", 2), record.dtype.fields["seed"][1]

        def run(x: Any, rate: float, seed: int, step: int = 0, stream: int = 0, *, out: Any = None) -> Any:
            y, kept, record = place(out, x), in_order(x), launch_.template.copy()
            pack_into("QII", record, counters, seed, step, stream)
            launch_.on(launch_.template.filled((kept.data.ptr, y.data.ptr), record))
            return finish(y, out)

        return run

    return Planned(implements(name, drop))


dropout, dropout_backward = _op("dropout"), _op("dropout_backward")
