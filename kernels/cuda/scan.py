"""Running sums of whole numbers on the device, in place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cupy

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address

SCANNED = Structure(
    "Scanned", Field("n", "int64"), Field("span", "int64"), Field("numbers", "int*"), Field("spans", "int*")
)

# Numbers of a block where there are more blocks than one. Unmeasured.
_SPAN = 16 * launch.THREADS


def modules() -> Iterator[launch.Module]:
    """The one."""
    yield launch.Module("scan", launch.text("scan.cu", "float32", (SCANNED,)))


def running_sums(numbers: Any) -> None:
    """numbers[i] = the sum of numbers[0] to numbers[i]; int32, contiguous."""
    n, record = numbers.size, SCANNED.record("float32")
    spans = -(-n // _SPAN)
    parts = cupy.empty((spans,), numbers.dtype) if spans > 1 else None
    record[0] = n, _SPAN, address(numbers), 0 if parts is None else address(parts)
    for entry, blocks in (("span_sums", spans), ("span_starts", 1)) if spans > 1 else ():
        _launch(entry, blocks, record)
    if n:
        _launch("sums", spans, record)


def _launch(entry: str, blocks: int, record: Any) -> None:
    kernel = launch.kernel("scan.cu", entry, "float32", (SCANNED,))
    kernel((blocks,), (launch.THREADS,), (record,))
