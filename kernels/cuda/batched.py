"""Products of many matrices on the device: a thread a number, whose neighbours read neighbours of b."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, placing_apart
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements

# Distances of operands in numbers: their matrices may be views, transposed ones say.
_STEPS = ("sample", "row", "column")

PRODUCTS = Structure(
    "Products",
    *(Field(name, "int64") for name in ("samples", "n", "k", "m")),
    *(Field(f"{operand}_{step}", "int64") for operand in "ab" for step in _STEPS),
    Field("a", "const real*"),
    Field("b", "const real*"),
    Field("y", "real*"),
)


def modules() -> Iterator[launch.Module]:
    """The one, of both dtypes."""
    for dtype in DTYPES:
        yield launch.Module(dtype, launch.text("batched.cu", dtype, (PRODUCTS,)))


def _batch_matmul(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
    (s, n, k), m, dtype = a.shape, b.shape[2], a.dtype
    place = placing_apart(out, (s, n, m), dtype, a, b)
    record = PRODUCTS.record(dtype)
    for name, size in zip(("samples", "n", "k", "m"), (s, n, k, m), strict=True):
        record[0][name] = size
    for operand, array in (("a", a), ("b", b)):
        for step, stride in zip(_STEPS, array.strides, strict=True):
            record[0][f"{operand}_{step}"] = stride // dtype.itemsize
    kernel = launch.kernel("batched.cu", "batch_matmul", dtype.name, (PRODUCTS,))
    multiply = launch.Launch(kernel, launch.blocks(max(1, s * n * m)), record, "a", 3)

    def run(a: Any, b: Any, *, out: Any = None) -> Any:
        y = place(out, a, b)
        if s * n * m:
            multiply(a.data.ptr, b.data.ptr, y.data.ptr)
        return finish(y, out)

    return run


batch_matmul = Planned(implements("batch_matmul", _batch_matmul))
