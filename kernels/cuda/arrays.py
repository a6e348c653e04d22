"""What launchers and programs look at of device arrays: where they lie, and how few dimensions their strides have."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import cupy
import numpy as np

from fastnn.kernels.addresses import Arrays, Place

# Bytes of one access of a thread.
WIDE = 16

# Addresses of arrays that were found to be apart, say, that are remembered at most.
_MOST_FOUND = 1024


class Like(NamedTuple):
    """What a plan keeps of an array: nothing of its memory. Strides are in bytes."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: Any

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        size: int = self.dtype.itemsize
        return size

    @property
    def ndim(self) -> int:
        """How many dimensions."""
        return len(self.shape)


def like(array: Any) -> Any:
    """What a plan keeps of it, of None nothing."""
    return None if array is None else Like(array.shape, array.strides, array.dtype)


def transposed(array: Any) -> Like:
    """What the transpose of an array, or of what a plan keeps of one, is like."""
    return Like(array.shape[::-1], array.strides[::-1], array.dtype)


def like_new(shape: tuple[int, ...], dtype: Any) -> Like:
    """The same of a new array, in C order."""
    kind = np.dtype(dtype)
    return Like(shape, strides_of(shape, kind.itemsize), kind)


def strides_of(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Those of C order, in bytes."""
    return tuple(itemsize * math.prod(shape[place + 1 :]) for place in range(len(shape)))


def adopted(array: Any) -> Any:
    """The same memory as a CuPy array, of another library's too.

    By DLPack, whose producer lets the current stream wait for its own; else by the CUDA array interface.
    """
    if isinstance(array, cupy.ndarray):
        return array
    return cupy.from_dlpack(array) if hasattr(type(array), "__dlpack_device__") else cupy.asarray(array)


def device(array: Any) -> int:
    """The number of the device that has an array, or the parts of a CSR matrix."""
    memory = array.data.data if hasattr(array, "indptr") else array.data
    number: int = memory.device_id
    return number


def address(array: Any) -> int:
    """Of the first number."""
    pointer: int = array.data.ptr
    return pointer


def at(address: int, like: Like) -> Any:
    """The array of this likeness whose first number is there, in memory that it does not hold."""
    memory = cupy.cuda.UnownedMemory(address, reach_of(like)[1], None, cupy.cuda.runtime.getDevice())
    return cupy.ndarray(like.shape, like.dtype, cupy.cuda.MemoryPointer(memory, 0), like.strides)


def reach(array: Any) -> tuple[int, int]:
    """Bytes from an array's first number to the first one of its memory, and to that behind the last."""
    flags = array.flags
    if flags.c_contiguous or flags.f_contiguous:
        return 0, array.nbytes
    return reach_of(array)


def reach_of(array: Any) -> tuple[int, int]:
    """The same by its shape and strides alone."""
    if 0 in array.shape:
        return 0, 0
    ends = [(length - 1) * stride for length, stride in zip(array.shape, array.strides, strict=True)]
    return sum(min(0, end) for end in ends), sum(max(0, end) for end in ends) + array.itemsize


def bounds(array: Any) -> tuple[int, int]:
    """The address of the first byte of an array's memory, and that behind the last."""
    low, high = reach(array)
    return address(array) + low, address(array) + high


def overlap(a: Any, b: Any) -> bool:
    """Whether two arrays' bounds in memory meet."""
    return not apart((a,), (b,))


def apart(written: Sequence[Any], read: Sequence[Any]) -> bool:
    """Whether arrays that are written share no memory, with one another or with those that are read."""
    spans = [bounds(array) for array in (*written, *read) if array.size]
    count = sum(array.size > 0 for array in written)
    for place, (low, high) in enumerate(spans[:count]):
        for begin, end in spans[place + 1 :]:
            if low < end and begin < high:
                return False
    return True


def telling_apart(written: Sequence[Any], read: Sequence[Any]) -> Callable[..., bool]:
    """``apart`` of arrays like these, by their addresses one after the other. What a loop uses is compared once."""
    reaches, count = [*map(reach_of, (*written, *read))], len(written)
    pairs = [
        (one, other, reaches[other][0] - reaches[one][1], reaches[other][1] - reaches[one][0])
        for one, other in combinations(range(len(reaches)), 2)
        if one < count and reaches[one] != (0, 0) != reaches[other]
    ]

    def are_apart(starts: tuple[int, ...]) -> bool:
        return not any(low < starts[one] - starts[other] < high for one, other, low, high in pairs)

    told = remembering(are_apart)
    return lambda *starts: told(starts)


def remembering(holds: Callable[..., bool]) -> Callable[..., bool]:
    """``holds(key, *others)``, which is asked once for each key that it holds for: what a loop uses comes again."""
    found: set[Any] = set()

    def held(key: Any, *others: Any) -> bool:
        if key in found:
            return True
        if not holds(key, *others):
            return False
        if len(found) >= _MOST_FOUND:
            found.clear()
        found.add(key)
        return True

    return held


def has_gaps(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    """Whether an array's numbers do not lie end to end, in whatever order of the dimensions."""
    expected = itemsize
    for stride, length in sorted((s, n) for s, n in zip(strides, shape, strict=True) if n != 1):
        if stride != expected:
            return math.prod(shape) > 1
        expected *= length
    return False


def is_in_order(array: Any) -> bool:
    """Whether an array, or what a plan keeps of it, lies in C order."""
    wanted = strides_of(array.shape, array.itemsize)
    pairs = zip(array.shape, array.strides, wanted, strict=True)
    return 0 in array.shape or all(length == 1 or stride == at for length, stride, at in pairs)


def in_order(array: Any) -> Any:
    """The array if it lies in C order, else a copy that does."""
    return cupy.ascontiguousarray(array)


def placing(
    out: Any, shape: tuple[int, ...], dtype: Any, *sources: Any, ordered: bool = False, over: bool = True
) -> Callable[..., Any]:
    """``place(out, *sources)``, which gives the array to compute in, for arrays of these shapes and strides.

    That is a new one where there is no ``out``, or it lies over a source elsewhere, or has to be ``ordered`` and is not
    in C order; ``over`` the very same place it may lie, if all is read there before it is written. ``finish`` makes
    ``out`` of it.
    """

    def fresh(*_: Any) -> Any:
        return cupy.empty(shape, dtype)

    if out is None or (ordered and not out.flags.c_contiguous):
        return fresh
    first, last = reach(out)
    reaches = [(*reach(each), over and each.strides == out.strides and each.shape == out.shape) for each in sources]

    def place(out: Any, *sources: Any) -> Any:
        start = out.data.ptr
        for source, (low, high, alike) in zip(sources, reaches, strict=True):
            begin = source.data.ptr
            if begin + low < start + last and start + first < begin + high and not (alike and begin == start):
                return fresh()
        return out

    return place


def placing_apart(out: Any, shape: tuple[int, ...], dtype: Any, *sources: Any) -> Callable[..., Any]:
    """``placing`` of a result in C order that may lie over no source: they are read after some of it is written."""
    return placing(out, shape, dtype, *sources, ordered=True, over=False)


def finish(result: Any, out: Any) -> Any:
    """The array to return: ``out`` with the result in it, or the result where there is no ``out``."""
    if out is None or result is out:
        return result
    out[...] = result
    return out


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


class _OnDevice:
    """CuPy's. What they hold is never looked at: that would be to wait for the device."""

    name, makes_numbers = "CuPy", False
    address, bounds = staticmethod(address), staticmethod(bounds)

    def holds(self, value: Any) -> bool:
        return isinstance(value, cupy.ndarray)

    def is_aligned(self, array: Any) -> bool:
        return array.data.ptr % array.itemsize == 0 and all(stride % array.itemsize == 0 for stride in array.strides)

    def owner(self, array: Any) -> Any:
        while array.base is not None:
            array = array.base
        return array

    def is_lent(self, array: Any) -> bool:
        return isinstance(array.data.mem, cupy.cuda.UnownedMemory)

    def seen(self, array: Any) -> Any:
        return None

    def at(self, address: int, place: Place, owner: Any) -> Any:
        memory = owner.data
        return cupy.ndarray(place.shape, place.dtype, memory + (address - memory.ptr), place.strides)

    def rows(self, data: Any, index: Any) -> Any:
        from fastnn.kernels.cuda import batches, csr

        return csr.gather(data, index) if hasattr(data, "indptr") else batches.rows(data, index)

    def in_order(self, array: Any) -> Any:
        return in_order(array)

    def copied(self, host: Any) -> Any:
        return cupy.asarray(host)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return cupy.empty(shape, dtype)

    def joined(self, arrays: Sequence[Any]) -> Any:
        return cupy.concatenate(arrays) if len(arrays) > 1 else arrays[0].copy()


ON_DEVICE: Arrays = _OnDevice()
