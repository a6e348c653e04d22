"""As much of CuPy as the launchers use, on the host: the same Python drives a device and this.

Device arrays are NumPy arrays inside of guarded memory that nobody may write beside; new memory holds NaN. Streams are
names: work is done when it is asked for.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.cuda_host import build

_GUARD, _ALIGNED = 256, 512
_PAINT = 0xFF

# The order in which a launch's threads take their turns.
seed = 1
# Whether kernels are built for ThreadSanitizer.
sanitize = False
# Names of the kernels launched, for tests that count.
launched: list[str] = []

_memories: weakref.WeakSet[_Memory] = weakref.WeakSet()


class _Memory:
    """Bytes with guards on both sides."""

    device_id = 0

    def __init__(self, size: int) -> None:
        raw = np.full(size + 2 * _GUARD + _ALIGNED, _PAINT, np.uint8)
        start = -(raw.ctypes.data + _GUARD) % _ALIGNED
        self._before, self._behind = raw[: start + _GUARD], raw[start + _GUARD + size :]
        self.bytes = raw[start + _GUARD : start + _GUARD + size]
        _memories.add(self)

    def is_intact(self) -> bool:
        return bool((self._before == _PAINT).all() and (self._behind == _PAINT).all())


class ndarray:  # noqa: N801 - CuPy's name
    """An array on the device."""

    def __init__(self, memory: _Memory, host: np.ndarray) -> None:
        self._memory, self._host = memory, host

    dtype = property(lambda self: self._host.dtype)
    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    size = property(lambda self: self._host.size)
    ndim = property(lambda self: self._host.ndim)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    flags = property(lambda self: SimpleNamespace(c_contiguous=self._host.flags.c_contiguous))
    T = property(lambda self: ndarray(self._memory, self._host.T))
    device = SimpleNamespace(id=0)

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self._host.ctypes.data, device_id=0)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self._host.__array_interface__, "stream": None}

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`.")

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, key: Any) -> ndarray:
        if isinstance(key, ndarray):
            return asarray(self._host[key._host])
        return ndarray(self._memory, np.asarray(self._host[key]))

    def __mul__(self, other: Any) -> ndarray:
        return asarray(self._host * asnumpy(other))

    def __add__(self, other: Any) -> ndarray:
        return asarray(self._host + asnumpy(other))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[key] = asnumpy(value)

    def reshape(self, *shape: Any) -> ndarray:
        reshaped = self._host.reshape(*shape)
        return ndarray(self._memory, reshaped) if np.shares_memory(reshaped, self._host) else asarray(reshaped)

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return asarray(self._host.astype(dtype)) if copy or self.dtype != dtype else self

    def get(self) -> np.ndarray:
        return self._host.copy()


def empty(shape: Any, dtype: Any = np.float64) -> ndarray:
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    memory = _Memory(count * kind.itemsize)
    return ndarray(memory, memory.bytes.view(kind).reshape(shape))


def asarray(value: Any, dtype: Any = None) -> ndarray:
    if isinstance(value, ndarray):
        return value
    host = np.asarray(value, dtype)
    made = empty(host.shape, host.dtype)
    made._host[...] = host
    return made


def zeros(shape: Any, dtype: Any = np.float64) -> ndarray:
    made = empty(shape, dtype)
    made._host[...] = 0
    return made


def asnumpy(value: Any) -> Any:
    return value.get() if isinstance(value, ndarray) else value


def ascontiguousarray(value: ndarray) -> ndarray:
    return value if value.flags.c_contiguous else asarray(value.get())


def broadcast_to(value: ndarray, shape: Any) -> ndarray:
    return ndarray(value._memory, np.broadcast_to(value._host, shape))


def _as_strided(value: ndarray, shape: Any, strides: Any) -> ndarray:
    return ndarray(value._memory, np.lib.stride_tricks.as_strided(value._host, shape, strides))


lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_as_strided))


def arange(count: int) -> ndarray:
    return asarray(np.arange(count))


def argsort(value: ndarray) -> ndarray:
    return asarray(np.argsort(value._host))


def searchsorted(value: ndarray, wanted: ndarray, side: str = "left") -> ndarray:
    return asarray(np.searchsorted(value._host, wanted._host, side))


def matmul(a: ndarray, b: ndarray, out: ndarray) -> ndarray:
    """CuPy's own product."""
    launched.append("cupy.matmul")
    np.matmul(a._host, b._host, out=out._host)
    return out


class RawModule:
    """Kernels from a text: libraries of g++'s, for CUDA code is what it reads with host.h before it."""

    def __init__(self, code: str, options: tuple[str, ...] = (), **_: Any) -> None:
        self._library = build.library(code, sanitize)

    def get_function(self, name: str) -> Any:
        kernel = build.Kernel(self._library, name)

        def launch(grid: Any, block: Any, arguments: Any, *, shared_mem: int = 0) -> None:
            (record,) = arguments
            launched.append(name)
            kernel.launch(grid, block, record, shared_mem, seed)
            if not all(memory.is_intact() for memory in _memories):
                raise build.LaunchError(f"{name}: memory beside an array was written to")

        return launch


class Stream:
    """A name for an order of work."""

    _numbers = itertools.count(1)

    def __init__(self, **_: Any) -> None:
        self.ptr = next(self._numbers)

    @contextlib.contextmanager
    def _entered(self) -> Iterator[Stream]:
        yield self

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


class _Device:
    def __init__(self, number: int = 0) -> None:
        self.id = number
        self.attributes = {"MultiProcessorCount": 3}
        self.compute_capability = "90"


cuda = SimpleNamespace(
    Device=_Device,
    Stream=Stream,
    runtime=SimpleNamespace(getDevice=lambda: 0, getDeviceCount=lambda: 1),
    get_current_stream=lambda: SimpleNamespace(ptr=0),
)
