"""As much of CuPy as the launchers use, on the host: the same Python drives a device and this.

Device arrays are NumPy arrays inside of guarded memory that nobody may write beside; new memory holds NaN. Streams and
devices are names: work is done when it is asked for.
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
# Whether kernels are compiled at all: those that are not do nothing.
compiles = True
# Whether somebody may wait for the device, who reads a number of its.
readable = True
# Bytes that may be allocated at a time.
most = 2**40
# Names of the kernels launched, for tests that count.
launched: list[str] = []

_memories: weakref.WeakSet[_Memory] = weakref.WeakSet()

__version__ = "on the host"


@contextlib.contextmanager
def unread() -> Iterator[None]:
    """Inside a ``with`` block, whoever waits for the device is told."""
    global readable  # noqa: PLW0603 - it is the module's
    readable = False
    try:
        yield
    finally:
        readable = True


def _wait() -> None:
    if not readable:
        raise AssertionError("waited for the device")


class OutOfMemoryError(MemoryError):
    """As CuPy words it."""

    def __init__(self, size: int) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: 0 bytes).")


class _Memory:
    """Bytes with guards on both sides."""

    def __init__(self, size: int) -> None:
        if size > most:
            raise OutOfMemoryError(size)
        self.device_id = _current.id
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
    flags = property(
        lambda self: SimpleNamespace(
            c_contiguous=self._host.flags.c_contiguous, f_contiguous=self._host.flags.f_contiguous
        )
    )
    T = property(lambda self: ndarray(self._memory, self._host.T))
    device = property(lambda self: _Device(self._memory.device_id))

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self._host.ctypes.data, device_id=self._memory.device_id)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self._host.__array_interface__, "stream": None}

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self._memory.device_id

    def __bool__(self) -> bool:
        return bool(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __index__(self) -> int:
        return int(self.get())

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`.")

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, key: Any) -> ndarray:
        if isinstance(key, ndarray):
            return asarray(self._host[key._host])
        return ndarray(self._memory, np.asarray(self._host[key]))

    def __mul__(self, other: Any) -> ndarray:
        return asarray(self._host * _numbers(other))

    def __add__(self, other: Any) -> ndarray:
        return asarray(self._host + _numbers(other))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[key] = _numbers(value)

    def reshape(self, *shape: Any) -> ndarray:
        reshaped = self._host.reshape(*shape)
        return ndarray(self._memory, reshaped) if np.shares_memory(reshaped, self._host) else asarray(reshaped)

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return asarray(self._host.astype(dtype)) if copy or self.dtype != dtype else self

    def clip(self, low: Any, high: Any) -> ndarray:
        return asarray(self._host.clip(low, high))

    def get(self) -> np.ndarray:
        _wait()
        return self._host.copy()


class _Borrowed:
    """Memory of another library's, on its device."""

    def __init__(self, owner: Any, device_id: int) -> None:
        self.owner, self.device_id = owner, device_id


class _Host:
    """An array of the host's by another library's interface."""

    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = {**interface, "version": 3}


def _numbers(value: Any) -> Any:
    """What a device reads."""
    return value._host if isinstance(value, ndarray) else value


def empty(shape: Any, dtype: Any = np.float64) -> ndarray:
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    memory = _Memory(count * kind.itemsize)
    return ndarray(memory, memory.bytes.view(kind).reshape(shape))


def asarray(value: Any, dtype: Any = None) -> ndarray:
    if isinstance(value, ndarray):
        return value
    if hasattr(value, "__cuda_array_interface__"):
        return ndarray(_Borrowed(value, 0), np.asarray(_Host(value.__cuda_array_interface__)))
    host = np.asarray(value, dtype)
    made = empty(host.shape, host.dtype)
    made._host[...] = host
    return made


def from_dlpack(value: Any) -> ndarray:
    """The array of a library whose capsules are arrays of ours."""
    given = value.__dlpack__(stream=0)
    return ndarray(_Borrowed(value, value.__dlpack_device__()[1]), given._host)


def zeros(shape: Any, dtype: Any = np.float64) -> ndarray:
    made = empty(shape, dtype)
    made._host[...] = 0
    return made


def ones(shape: Any, dtype: Any = np.float64) -> ndarray:
    made = empty(shape, dtype)
    made._host[...] = 1
    return made


def asnumpy(value: Any) -> Any:
    return value.get() if isinstance(value, ndarray) else value


def ascontiguousarray(value: ndarray) -> ndarray:
    return value if value.flags.c_contiguous else asarray(value._host)


def broadcast_to(value: ndarray, shape: Any) -> ndarray:
    return ndarray(value._memory, np.broadcast_to(value._host, shape))


def _as_strided(value: ndarray, shape: Any, strides: Any) -> ndarray:
    return ndarray(value._memory, np.lib.stride_tricks.as_strided(value._host, shape, strides))


lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_as_strided))


def arange(count: int, dtype: Any = None) -> ndarray:
    return asarray(np.arange(count, dtype=dtype))


def matmul(a: ndarray, b: ndarray, out: ndarray) -> ndarray:
    """CuPy's own product."""
    launched.append("cupy.matmul")
    np.matmul(a._host, b._host, out=out._host)
    return out


class RawModule:
    """Kernels from a text: libraries of g++'s, for CUDA code is what it reads with host.h before it."""

    def __init__(self, code: str, options: tuple[str, ...] = (), **_: Any) -> None:
        self._library = build.library(code, sanitize) if compiles else None

    def get_function(self, name: str) -> Any:
        kernel = None if self._library is None else build.Kernel(self._library, name)

        def launch(grid: Any, block: Any, arguments: Any, *, shared_mem: int = 0) -> None:
            (record,) = arguments
            if record.size != 1:
                raise TypeError("a NumPy array as an argument has one element")
            launched.append(name)
            if kernel is None:
                return
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
        _wait()


class _Device:
    """A number; current inside of a ``with`` block."""

    def __init__(self, number: int | None = None) -> None:
        self.id = _current.id if number is None else number
        self.attributes = {"MultiProcessorCount": 3}
        self.compute_capability = "90"

    def __enter__(self) -> _Device:
        self._before, _current.id = _current.id, self.id
        return self

    def __exit__(self, *_: Any) -> None:
        _current.id = self._before

    def synchronize(self) -> None:
        _wait()


_current = SimpleNamespace(id=0)


class CUDARuntimeError(RuntimeError):
    """An error of the runtime, by its number."""

    def __init__(self, status: int) -> None:
        super().__init__(f"an error {status} of the runtime")
        self.status = status


cuda = SimpleNamespace(
    Device=_Device,
    Stream=Stream,
    runtime=SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDevice=lambda: _current.id,
        getDeviceCount=lambda: 2,
        getDeviceProperties=lambda _: {"name": b"The host", "major": 9, "minor": 0, "totalGlobalMem": most},
        memGetInfo=lambda: (most, 2 * most),
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 12090,
        deviceSynchronize=_wait,
    ),
    get_current_stream=lambda: SimpleNamespace(ptr=0),
)
