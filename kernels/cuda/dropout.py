"""Dropout on the device: the same masks as on the CPU, from the same counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cupy

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, in_order, placing
from fastnn.kernels.cuda.chain import Chain, Chains
from fastnn.kernels.cuda.random import COUNTED, COUNTERS, blocks
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
    Field("mask", "real*"),
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


def _launches(x: Any, rate: float, names: tuple[str, ...]) -> Chains:
    """What drops some of x, arrays by these names; ``numbers`` of a call are its counters."""
    (n, c), dtype, record = x.shape, x.dtype.name, MASKED.record(x.dtype)
    given = record[0]
    given["n"], given["c"], given["threshold"], given["scale"] = n, c, threshold(rate), scale(rate)

    def build(chain: Chain, _: Any) -> None:
        kernel = launch.kernel("dropout.cu", "drop", dtype, (MASKED,), launch.header("philox.cuh"))
        chain.add(kernel, blocks(n, c), record, {name: name for name in names}, ("seed", COUNTED.size))

    return Chains(names, build)


def masked(x: Any, rate: float, seed: int, step: int = 0, stream: int = 0, *, out: None = None) -> tuple[Any, Any]:
    """The op's result, and what it has multiplied x with, which is the derivative; both are new."""
    y, mask = (cupy.empty(x.shape, x.dtype) for _ in range(2))
    if x.size:
        kept = in_order(x)
        addresses = kept.data.ptr, y.data.ptr, mask.data.ptr
        _launches(x, rate, ("x", "y", "mask"))(addresses, numbers=COUNTED.pack(seed, step, stream))
    return y, mask


def _op(name: str) -> Planned:
    """The derivative is the function: it is linear in x."""

    def drop(x: Any, rate: float, seed: int, step: int = 0, stream: int = 0, *, out: Any = None) -> Callable[..., Any]:
        (n, c), dtype = x.shape, x.dtype
        place = placing(out, (n, c), dtype, x, ordered=True)
        if x.size == 0:
            return lambda x, rate, seed, step=0, stream=0, *, out=None: place(out, x)
        launches = _launches(x, rate, ("x", "y"))

        def run(x: Any, rate: float, seed: int, step: int = 0, stream: int = 0, *, out: Any = None) -> Any:
            y, kept = place(out, x), in_order(x)
            launches((kept.data.ptr, y.data.ptr), numbers=COUNTED.pack(seed, step, stream))
            return finish(y, out)

        return run

    return Planned(implements(name, drop))


dropout, dropout_backward = _op("dropout"), _op("dropout_backward")
