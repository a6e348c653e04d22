"""What launchers look at of device arrays: where they lie, and how few dimensions their strides have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cupy

# Bytes of one access of a thread.
WIDE = 16


def address(array: Any) -> int:
    """Of the first number."""
    pointer: int = array.data.ptr
    return pointer


def bounds(array: Any) -> tuple[int, int]:
    """The address of the first byte of an array's memory, and that behind the last."""
    low = high = address(array)
    for length, stride in zip(array.shape, array.strides, strict=True):
        reach = (length - 1) * stride
        low, high = low + min(0, reach), high + max(0, reach)
    return low, high + array.itemsize


def overlap(a: Any, b: Any) -> bool:
    """Whether two arrays' bounds in memory meet."""
    if a.size == 0 or b.size == 0:
        return False
    (low, high), (begin, end) = bounds(a), bounds(b)
    return low < end and begin < high


def is_same(a: Any, b: Any) -> bool:
    """Whether both are the same numbers in the same order."""
    return bool(address(a) == address(b) and a.strides == b.strides and a.shape == b.shape)


def has_gaps(array: Any) -> bool:
    """Whether its numbers do not lie end to end, in whatever order of the dimensions."""
    expected = array.itemsize
    for stride, length in sorted((s, n) for s, n in zip(array.strides, array.shape, strict=True) if n != 1):
        if stride != expected:
            return bool(array.size > 1)
        expected *= length
    return False


def in_order(array: Any) -> Any:
    """The array if it lies in C order, else a copy that does."""
    return cupy.ascontiguousarray(array)


def written_to(
    out: Any, shape: tuple[int, ...], dtype: Any, *sources: Any, ordered: bool = False
) -> tuple[Any, Callable[[], Any]]:
    """The array to compute in, and what makes ``out`` of it.

    That is another one where ``out`` lies over a source elsewhere, or has to be ``ordered`` and is not in C order.
    """
    if out is None:
        made = cupy.empty(shape, dtype)
        return made, lambda: made
    apart = not any(overlap(out, source) and not is_same(out, source) for source in sources)
    if apart and (out.flags.c_contiguous or not ordered):
        return out, lambda: out
    made = cupy.empty(shape, dtype)

    def copied() -> Any:
        out[...] = made
        return out

    return made, copied


def coalesced(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Shape and strides with as few dimensions as possible: neighbours are one where every array steps through both."""
    dims: list[int] = []
    kept: list[list[int]] = [[] for _ in strides]
    for place, length in enumerate(shape):
        if length == 1:
            continue
        steps = [each[place] for each in strides]
        if dims and all(each[-1] == step * length for each, step in zip(kept, steps, strict=True)):
            dims[-1] *= length
            for each, step in zip(kept, steps, strict=True):
                each[-1] = step
        else:
            dims.append(length)
            for each, step in zip(kept, steps, strict=True):
                each.append(step)
    return dims, kept
