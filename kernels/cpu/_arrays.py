"""What kernels ask of arrays: alignment, contiguity, destinations that do not overlap their sources, scratch memory.

A training loop calls an op again and again on arrays that are alike, so most of it is told once for all of them
(``fastnn.kernels.planned``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.kernels.addresses import address
from fastnn.kernels.cpu import notes
from fastnn.kernels.cpu.compiler.machine import LINE

_scratch = threading.local()


def aligned(shape: tuple[int, ...], dtype: Any) -> Any:
    """Uninitialised array on a cache-line boundary: vector loads that straddle lines cost double."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    raw = np.empty(size + LINE, np.uint8)
    start = -address(raw) % LINE
    return raw[start : start + size].view(kind).reshape(shape)


def workspace(count: int, dtype: Any) -> Any:
    """``count`` elements of scratch memory, this thread's own, valid until its next call."""
    if notes.taken():
        return notes.keep(aligned((count,), dtype))
    held: dict[str, Any] = _scratch.__dict__
    if dtype.char not in held or held[dtype.char].size < count:
        held[dtype.char] = aligned((count,), dtype)
    return held[dtype.char]


def between(shape: tuple[int, ...], dtype: Any) -> Any:
    """Memory that one kernel of an op fills for another."""
    return notes.keep(aligned(shape, dtype)) if notes.taken() else np.empty(shape, dtype)


def readable(array: Any) -> Any:
    """The array, or a copy where its elements do not lie on multiples of their size."""
    flags = array.flags
    return array if flags.aligned and (flags.c_contiguous or _whole_steps(array)) else array.copy()


def _whole_steps(array: Any) -> bool:
    """Whether every stride is a multiple of the elements' size."""
    return all(stride % array.itemsize == 0 for stride in array.strides)


def reader(array: Any) -> Callable[[Any], Any]:
    """``readable`` for arrays of these shapes, strides and flags; what is no array is left as it is."""
    return np.copy if isinstance(array, np.ndarray) and readable(array) is not array else _itself


def _itself(array: Any) -> Any:
    return array


class _Unlocked:
    """Says of a read-only array where it lies, and that it may be written to."""

    def __init__(self, array: Any) -> None:
        said = array.__array_interface__
        self.array, self.__array_interface__ = array, {**said, "data": (said["data"][0], False)}


def in_order(array: Any, dtype: Any = None) -> Any:
    """The array, or a copy in C order, for kernels that only read it, though it may be written to.

    They declare their operands so: Numba takes half as long to accept an array of just the kind that it wants as one
    that it converts, and hardly any array is read-only.
    """
    if array.flags.carray and (dtype is None or array.dtype == dtype):
        return array
    array = np.require(array, dtype, ("C", "A"))
    return array if array.flags.writeable else np.asarray(_Unlocked(array))


def contiguous(array: Any) -> Any:
    """``in_order``, in one dimension."""
    return in_order(array).reshape(-1)


def direct(out: Any, *sources: Any) -> bool:
    """Whether kernels can take ``out``, if there is one, and sources as they lie, but for their shapes."""
    return all(array.flags.carray for array in (out, *sources) if array is not None)


def destination(out: Any, shape: tuple[int, ...], dtype: Any, *sources: Any, elementwise: bool = False) -> Any:
    """Where a kernel may write: ``out`` itself, or fresh memory to be copied into it.

    ``out`` serves if its rows are contiguous and it shares no memory with a source; an elementwise kernel may also
    write to exactly one of its sources. Sources that are no arrays have memory of their own. ``finish`` copies where
    this gave fresh memory.
    """
    return placing(out, shape, dtype, *sources, elementwise=elementwise)(out, *sources)


def placing(
    out: Any, shape: tuple[int, ...], dtype: Any, *sources: Any, elementwise: bool = False
) -> Callable[..., Any]:
    """``destination``, of an ``out`` and sources of these shapes, strides and flags: a function of them."""

    def fresh(*_: Any) -> Any:
        return np.empty(shape, dtype)

    def unless_source(out: Any, *sources: Any) -> Any:
        for source in sources:
            if source is out:
                return np.empty(shape, dtype)
        return out

    def unless_shared(out: Any, *sources: Any) -> Any:
        for source in sources:
            shared = isinstance(source, np.ndarray) and np.may_share_memory(out, source)
            if shared and not (elementwise and (out is source or _same(out, source))):
                return np.empty(shape, dtype)
        return out

    if out is None:
        return fresh
    rows = out.flags.c_contiguous if elementwise else out.ndim == 0 or out.strides[-1] == out.itemsize
    if not (rows and out.flags.aligned and (out.flags.c_contiguous or _whole_steps(out))):
        return fresh
    # two arrays that own their memory share none: told in a fraction of the time that bounds take
    if not all(array.flags.owndata for array in (out, *sources) if isinstance(array, np.ndarray)):
        return unless_shared
    return _first if elementwise else unless_source


def _first(out: Any, *_: Any) -> Any:
    return out


def _same(a: Any, b: Any) -> bool:
    return bool(address(a) == address(b) and a.strides == b.strides and a.shape == b.shape)


def finish(result: Any, out: Any) -> Any:
    """The array to return: ``out`` with the result in it, or the result where there is no ``out``."""
    if out is None or result is out:
        return result
    out[...] = result
    return out
