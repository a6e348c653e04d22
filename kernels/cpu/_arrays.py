"""What kernels ask of arrays: alignment, contiguity, destinations that do not overlap their sources, scratch memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from fastnn.kernels.cpu.machine import LINE

_scratch = threading.local()


def aligned(shape: tuple[int, ...], dtype: Any) -> Any:
    """Uninitialised array on a cache-line boundary: vector loads that straddle lines cost double."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    raw = np.empty(size + LINE, np.uint8)
    start = -raw.__array_interface__["data"][0] % LINE
    return raw[start : start + size].view(kind).reshape(shape)


def workspace(count: int, dtype: Any) -> Any:
    """``count`` elements of scratch memory, this thread's own, valid until its next call."""
    held: dict[str, Any] = _scratch.__dict__
    if dtype.char not in held or held[dtype.char].size < count:
        held[dtype.char] = aligned((count,), dtype)
    return held[dtype.char]


def readable(array: Any) -> Any:
    """The array, or a copy where its elements do not lie on multiples of their size."""
    flags = array.flags
    return array if flags.aligned and (flags.c_contiguous or _whole_steps(array)) else array.copy()


def _whole_steps(array: Any) -> bool:
    """Whether every stride is a multiple of the elements' size."""
    return all(stride % array.itemsize == 0 for stride in array.strides)


def contiguous(array: Any) -> Any:
    """The array's elements in one contiguous, one-dimensional run: a view where they lie so, else a copy."""
    return np.ascontiguousarray(array).reshape(-1)


def destination(out: Any, shape: tuple[int, ...], dtype: Any, *sources: Any, elementwise: bool = False) -> Any:
    """Where a kernel may write: ``out`` itself, or fresh memory to be copied into it.

    ``out`` serves if its rows are contiguous and it shares no memory with a source; an elementwise kernel may also
    write to exactly one of its sources. ``finish`` copies where this gave fresh memory.
    """
    if out is None:
        return np.empty(shape, dtype)
    rows = out.flags.c_contiguous if elementwise else out.ndim == 0 or out.strides[-1] == out.itemsize
    usable = rows and out.flags.aligned and (out.flags.c_contiguous or _whole_steps(out))
    for source in sources:
        apart = _own_memory(out, source) or not np.may_share_memory(out, source)
        usable = usable and (apart or (elementwise and (out is source or _same(out, source))))
    return out if usable else np.empty(shape, dtype)


def _own_memory(a: Any, b: Any) -> bool:
    """Whether these are two arrays that own their memory: told in a fraction of the time that bounds take."""
    return bool(a is not b and a.flags.owndata and b.flags.owndata)


def _same(a: Any, b: Any) -> bool:
    start, other = a.__array_interface__["data"][0], b.__array_interface__["data"][0]
    return bool(start == other and a.strides == b.strides and a.shape == b.shape)


def finish(result: Any, out: Any) -> Any:
    """The array to return: ``out`` with the result in it, or the result where there is no ``out``."""
    if out is None or result is out:
        return result
    out[...] = result
    return out
