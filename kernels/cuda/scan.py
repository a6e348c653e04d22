"""Running sums of whole numbers on the device, in place."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.chain import Chain

SCANNED = Structure(
    "Scanned", Field("n", "int64"), Field("span", "int64"), Field("numbers", "int*"), Field("spans", "int*")
)

# Numbers of a block where there are more blocks than one. Unmeasured.
_SPAN = 16 * launch.THREADS


def modules() -> Iterator[launch.Module]:
    """The one."""
    yield launch.Module("scan", launch.text("scan.cu", "float32", (SCANNED,)))


def add_to(chain: Chain, n: int, numbers: str) -> None:
    """In a chain, of what has this name: numbers[i] = the sum of numbers[0] to numbers[i], i < n; int32, contiguous."""
    if n == 0:
        return
    spans, record = -(-n // _SPAN), SCANNED.record("float32")
    record[0]["n"], record[0]["span"] = n, _SPAN
    pointers = {"numbers": numbers}
    if spans > 1:
        pointers["spans"] = chain.room(spans * 4)
        chain.add(_kernel("span_sums"), spans, record, pointers)
        chain.add(_kernel("span_starts"), 1, record, pointers)
    chain.add(_kernel("sums"), spans, record, pointers)


@cache
def _kernel(entry: str) -> Any:
    return launch.kernel("scan.cu", entry, "float32", (SCANNED,))
