"""Running sums of whole numbers on the device, in place."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from struct import Struct
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure

SCANNED = Structure(
    "Scanned", Field("n", "int64"), Field("span", "int64"), Field("numbers", "int*"), Field("spans", "int*")
)

# A record without fields, and what writes it.
_RECORD, _WRITE = np.dtype((np.void, SCANNED.record("float32").itemsize)), Struct("2q2Q").pack_into
_BLOCK = (launch.THREADS,)

# Numbers of a block where there are more blocks than one. Unmeasured.
_SPAN = 16 * launch.THREADS


def modules() -> Iterator[launch.Module]:
    """The one."""
    yield launch.Module("scan", launch.text("scan.cu", "float32", (SCANNED,)))


def running_sums(numbers: Any, n: int) -> None:
    """numbers[i] = the sum of numbers[0] to numbers[i], i < n; int32, contiguous."""
    if n == 0:
        return
    spans, start = -(-n // _SPAN), numbers.data.ptr
    record: Any = np.empty(1, _RECORD)
    if spans > 1:
        parts = cupy.empty((spans,), np.int32)
        _WRITE(record, 0, n, _SPAN, start, parts.data.ptr)
        _kernel("span_sums")((spans,), _BLOCK, (record,))
        _kernel("span_starts")((1,), _BLOCK, (record,))
    else:
        _WRITE(record, 0, n, _SPAN, start, 0)
    _kernel("sums")((spans,), _BLOCK, (record,))


@cache
def _kernel(entry: str) -> Any:
    return launch.kernel("scan.cu", entry, "float32", (SCANNED,))
