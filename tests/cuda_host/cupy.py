"""As much of CuPy as the launchers use, on the host: the same Python drives a device and this.

Device arrays are NumPy arrays inside of guarded memory that nobody may write beside; new memory holds NaN. Devices are
names. Work is done when it is asked for, or when a graph that has captured it is launched; inside of ``late`` that of
some streams is put off until somebody waits for it, who is the host, or another stream by an event.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import weakref
from collections import deque
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.cuda_host import build

_GUARD, _ALIGNED = 256, 512
_PAINT = 0xFF

# Status of errors of the runtime: not permitted while a stream is captured; the capture is void; there is none.
_UNSUPPORTED, _INVALIDATED, _NO_CAPTURE = 900, 901, 903

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
# Bytes of each copy from the host, for tests that count.
sent: list[int] = []
# Names of the kernels launched, for tests that count.
launched: list[str] = []
# What kernels were given, as bytes, for tests that compare.
records: list[tuple[str, bytes]] = []

# Places and sizes of the guards of every memory, those before and those behind; rows of zeros are free.
_guards = np.zeros((256, 4), np.uint64)
_free = list(range(len(_guards)))

# The streams that put their work off: none, the one of no number, the others, all.
_is_late: Any = {"none": lambda ptr: False, "default": lambda ptr: not ptr, "others": bool, "all": lambda ptr: True}
_late = "none"
# What work that is put off may need, as a pool keeps it until streams have come to where it was given back.
_kept: list[Memory] = []

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


@contextlib.contextmanager
def late(streams: str) -> Iterator[None]:
    """Inside a ``with`` block the "default" stream, the "others" or "all" put work off; what is left is not done."""
    global _late  # noqa: PLW0603 - it is the module's
    _late = streams
    try:
        yield
    finally:
        _late = "none"
        for stream in list(_known):
            stream.forget()
        _kept.clear()


def _wait() -> None:
    get_current_stream().refuse()
    if not readable:
        raise AssertionError("waited for the device")
    get_current_stream().catch_up()


class OutOfMemoryError(MemoryError):
    """As CuPy words it."""

    def __init__(self, size: int) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: 0 bytes).")


class Memory:
    """Bytes with guards on both sides."""

    def __init__(self, size: int) -> None:
        if size > most:
            raise OutOfMemoryError(size)
        self.device_id = _current.id
        self.raw = np.full(size + 2 * _GUARD + _ALIGNED, _PAINT, np.uint8)
        start = -(self.raw.ctypes.data + _GUARD) % _ALIGNED
        self.bytes = self.raw[start + _GUARD : start + _GUARD + size]
        self.ptr = self.bytes.ctypes.data
        self._row = _guard(self.raw, self.ptr, size)
        if _late != "none":
            _kept.append(self)

    def __del__(self) -> None:
        if hasattr(self, "_row"):
            _guards[self._row] = 0
            _free.append(self._row)


def _guard(raw: np.ndarray, ptr: int, size: int) -> int:
    """The row of ``_guards`` that memory has now, all of ``raw`` but ``size`` bytes at ``ptr``."""
    global _guards  # noqa: PLW0603 - it is the module's
    if not _free:
        _free.extend(range(len(_guards), 2 * len(_guards)))
        _guards = np.concatenate([_guards, np.zeros_like(_guards)])
    row, first = _free.pop(), raw.ctypes.data
    _guards[row] = first, ptr - first, ptr + size, first + raw.size - ptr - size
    return row


def is_intact() -> bool:
    """Whether nobody has written beside any memory."""
    return build.are_painted(_guards)


class MemoryPointer:
    """A place in memory."""

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, mem.device_id

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)

    def copy_from_host_async(self, mem: int, size: int, stream: Stream) -> None:
        sent.append(size)
        with stream:
            _do(lambda: ctypes.memmove(self.ptr, mem, size))


class _PooledMemory:
    """Memory of a pool's, which keeps neither alive."""

    def __init__(self, memory: Memory) -> None:
        self.bytes, self.ptr, self.device_id = memory.bytes, memory.ptr, memory.device_id


class MemoryPool:
    """Memory that goes back to it, to be given out anew to the stream that it was for. It has an end with the pool."""

    def __init__(self, allocator: Any = None) -> None:
        self._allocator = allocator or (lambda size: MemoryPointer(Memory(size), 0))
        self._free: dict[Any, list[Memory]] = {}
        self._in_use: dict[int, tuple[Any, Memory]] = {}
        self._total = 0

    def malloc(self, size: int) -> MemoryPointer:
        key = size, get_current_stream().ptr
        free = self._free.setdefault(key, [])
        if free:
            memory = free.pop()
            if not _capturing():
                _do(partial(memory.bytes.fill, _PAINT))
        else:
            memory = self._allocator(size).mem
            self._total += size
            weakref.finalize(memory, memory.raw.fill, _PAINT).atexit = False
        self._in_use[memory.ptr] = key, memory
        pooled = _PooledMemory(memory)
        weakref.finalize(pooled, _give_back, weakref.ref(self), memory.ptr).atexit = False
        return MemoryPointer(pooled, 0)

    def free_all_blocks(self) -> None:
        self._free.clear()

    def total_bytes(self) -> int:
        return self._total


def _give_back(pool: Any, ptr: int) -> None:
    if pool() is not None:
        key, memory = pool()._in_use.pop(ptr)
        pool()._free.setdefault(key, []).append(memory)


# Who gives memory, if a pool of the caller's does.
_allocators: list[Any] = []


@contextlib.contextmanager
def _using_allocator(allocator: Any) -> Iterator[None]:
    _allocators.append(allocator)
    try:
        yield
    finally:
        _allocators.pop()


def _allocated(size: int) -> Any:
    if _allocators and _allocators[-1] is not None:
        return _allocators[-1](size).mem
    get_current_stream().refuse()
    return Memory(size)


class ndarray:  # noqa: N801 - CuPy's name
    """An array on the device."""

    def __init__(self, shape: Any, dtype: Any, memptr: MemoryPointer, strides: Any = None) -> None:
        kind = np.dtype(dtype)
        said = {"data": (memptr.ptr, False), "shape": tuple(shape), "strides": strides or None, "typestr": kind.str}
        self._memory, self._host, self.base = memptr.mem, np.asarray(_Host(said)), None

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
    T = property(lambda self: self._part(self._host.T))
    device = property(lambda self: _Device(self._memory.device_id))

    @property
    def data(self) -> MemoryPointer:
        return MemoryPointer(self._memory, self._host.ctypes.data - self._memory.ptr)

    def _part(self, host: np.ndarray) -> ndarray:
        made = _array(self._memory, host)
        made.base = self if self.base is None else self.base
        return made

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

    def __array_function__(self, function: Any, _: Any, given: Any, named: Any) -> Any:
        functions = {
            "arange": arange,
            "zeros_like": lambda x, order, shape=None: zeros(x.shape if shape is None else shape, x.dtype),
            "broadcast_to": broadcast_to,
            "concatenate": concatenate,
        }
        if function.__name__ in functions:
            return functions[function.__name__](*given, **named)
        return _made(lambda *numbers: function(*numbers, **named), *given)

    def __array_ufunc__(self, ufunc: Any, method: str, *given: Any, **named: Any) -> ndarray:
        return _made(partial(getattr(ufunc, method), **named), *given)

    def __getitem__(self, key: Any) -> ndarray:
        if isinstance(key, ndarray):
            return _made(lambda x, rows: x[np.where((rows >= 0) & (rows < len(x)), rows, 0)], self, key)
        return self._part(np.asarray(self._host[key]))

    def __neg__(self) -> ndarray:
        return _made(np.negative, self)

    def __abs__(self) -> ndarray:
        return _made(np.abs, self)

    def __gt__(self, other: Any) -> ndarray:
        return _made(np.greater, self, other)

    def __lt__(self, other: Any) -> ndarray:
        return _made(np.less, self, other)

    def __le__(self, other: Any) -> ndarray:
        return _made(np.less_equal, self, other)

    def __ne__(self, other: Any) -> Any:
        return _made(np.not_equal, self, other)

    def __and__(self, other: Any) -> ndarray:
        return _made(np.logical_and, self, other)

    def __mul__(self, other: Any) -> ndarray:
        return _made(np.multiply, self, other)

    def __add__(self, other: Any) -> ndarray:
        return _made(np.add, self, other)

    def __sub__(self, other: Any) -> ndarray:
        return _made(np.subtract, self, other)

    def __truediv__(self, other: Any) -> ndarray:
        return _made(np.divide, self, other)

    def __rtruediv__(self, other: Any) -> ndarray:
        return _made(lambda x, a: np.divide(a, x), self, other)

    def __rsub__(self, other: Any) -> ndarray:
        return _made(lambda x, a: np.subtract(a, x), self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __setitem__(self, key: Any, value: Any) -> None:
        key = _numbers(key)
        _do(lambda: self._host.__setitem__(key, _numbers(value)))

    def set(self, host: np.ndarray) -> None:
        get_current_stream().refuse()
        sent.append(self.nbytes)
        given = np.array(host)  # memory that is not pinned is read before the call comes back
        _do(lambda: self._host.__setitem__(..., given))

    def copy(self) -> ndarray:
        return _made(np.copy, self)

    def reshape(self, *shape: Any) -> ndarray:
        reshaped = self._host.reshape(*shape)
        if np.shares_memory(reshaped, self._host):
            return self._part(reshaped)
        return _made(lambda x: x.reshape(*shape), self)

    def view(self, dtype: Any) -> ndarray:
        return self._part(self._host.view(dtype))

    def sum(self, axis: Any = None, dtype: Any = None) -> ndarray:
        return _made(lambda x: np.asarray(x.sum(axis=axis, dtype=dtype)), self)

    def transpose(self, *axes: int) -> ndarray:
        return self._part(self._host.transpose(*axes))

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return _made(lambda x: x.astype(dtype), self) if copy or self.dtype != dtype else self

    def clip(self, low: Any, high: Any) -> ndarray:
        return _made(lambda x: x.clip(low, high), self)

    def get(self) -> np.ndarray:
        _wait()
        return self._host.copy()


def _array(memory: Any, host: np.ndarray) -> ndarray:
    made = ndarray.__new__(ndarray)
    made._memory, made._host, made.base = memory, host, None
    return made


def _made(function: Any, *given: Any) -> ndarray:
    """A new array, of what the device computes of these."""
    with np.errstate(all="ignore"):
        like = np.asarray(function(*map(_numbers, given)))
    made = empty(like.shape, like.dtype)
    _do(lambda: made._host.__setitem__(..., function(*map(_numbers, given))))
    return made


class UnownedMemory:
    """Memory of another's, on its device."""

    def __init__(self, ptr: int, size: int, owner: Any, device_id: int = -1) -> None:
        self.ptr, self.owner, self.device_id = ptr, owner, max(0, device_id)


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
    memory = _allocated(count * kind.itemsize)
    return _array(memory, memory.bytes.view(kind).reshape(shape))


def asarray(value: Any, dtype: Any = None) -> ndarray:
    if isinstance(value, ndarray):
        return value
    if hasattr(value, "__cuda_array_interface__"):
        host = np.asarray(_Host(value.__cuda_array_interface__))
        return _array(UnownedMemory(host.ctypes.data, host.nbytes, value), host)
    host = np.asarray(value, dtype)
    made = empty(host.shape, host.dtype)
    if not get_current_stream().is_void_from_now():
        made.set(host)
    return made


def from_dlpack(value: Any) -> ndarray:
    """The array of a library whose capsules are arrays of ours."""
    given = value.__dlpack__(stream=0)
    host = given._host
    return _array(UnownedMemory(host.ctypes.data, host.nbytes, value, value.__dlpack_device__()[1]), host)


def zeros(shape: Any, dtype: Any = np.float64) -> ndarray:
    made = empty(shape, dtype)
    made[...] = 0
    return made


def ones(shape: Any, dtype: Any = np.float64) -> ndarray:
    made = empty(shape, dtype)
    made[...] = 1
    return made


def asnumpy(value: Any) -> Any:
    return value.get() if isinstance(value, ndarray) else value


def ascontiguousarray(value: ndarray) -> ndarray:
    return value if value.flags.c_contiguous else _made(np.ascontiguousarray, value)


def broadcast_to(value: ndarray, shape: Any) -> ndarray:
    return value._part(np.broadcast_to(value._host, shape))


def _as_strided(value: ndarray, shape: Any, strides: Any) -> ndarray:
    return value._part(np.lib.stride_tricks.as_strided(value._host, shape, strides))


lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_as_strided))


def arange(count: int, dtype: Any = None) -> ndarray:
    return _made(lambda: np.arange(count, dtype=dtype))


def concatenate(arrays: Any, axis: int = 0) -> ndarray:
    return _made(lambda *each: np.concatenate(each, axis), *arrays)


def matmul(a: ndarray, b: ndarray, out: ndarray) -> ndarray:
    """CuPy's own product, which it does not let anybody capture."""
    if _capturing():
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    _do(lambda: np.matmul(a._host, b._host, out=out._host), "cupy.matmul")
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
            given = record.copy()  # what it holds now, whenever that is read
            records.append((name, given.tobytes()))

            def run() -> None:
                if kernel is None:
                    return
                kernel.launch(grid, block, given, shared_mem, seed)
                if not is_intact():
                    raise build.LaunchError(f"{name}: memory beside an array was written to")

            _do(run, name)

        return launch


_known: weakref.WeakSet[Stream] = weakref.WeakSet()


class Stream:
    """An order of work, which is done when it is asked for, put off, or captured."""

    _count = itertools.count(1)

    def __init__(self, null: bool = False, **_: Any) -> None:
        self.ptr = 0 if null else next(self._count)
        self._captured: list[Any] | None = None
        self._put_off: deque[Any] = deque()
        _known.add(self)

    @property
    def is_late(self) -> bool:
        return bool(self._put_off) or _is_late[_late](self.ptr)

    def do(self, run: Any) -> None:
        if self.is_late:
            self._put_off.append(run)
        else:
            run()

    def forget(self) -> None:
        """Leave what was put off undone."""
        self._put_off.clear()

    def catch_up(self, until: Any = None) -> None:
        """Do what was put off, up to a moment if there is one."""
        while self._put_off and (until is None or until in self._put_off):
            self._put_off.popleft()()

    def __enter__(self) -> Stream:
        _streams.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        assert _streams.pop() is self

    def synchronize(self) -> None:
        _wait()
        self.catch_up()

    def wait_event(self, event: Event) -> None:
        if self._captured is None:
            self.do(event.reached)

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == 0 or self._captured is not None:
            raise CUDARuntimeError(_UNSUPPORTED)
        self._captured = []

    def end_capture(self) -> Graph:
        if self._captured is None:
            raise CUDARuntimeError(_NO_CAPTURE)
        captured, self._captured = self._captured, None
        if None in captured:
            raise CUDARuntimeError(_INVALIDATED)
        return Graph(captured)

    def refuse(self) -> None:
        """What cannot be captured ends it."""
        if self._captured is not None:
            self._captured.append(None)
            raise CUDARuntimeError(_UNSUPPORTED)

    def is_void_from_now(self) -> bool:
        """What ends a capture without a word: CuPy asks an event of the stream's, and not what the answer was."""
        if self._captured is not None:
            self._captured.append(None)
        return self._captured is not None

    def is_capturing(self) -> bool:
        if self._captured is not None and None in self._captured:
            raise RuntimeError("the stream was capturing, but an error has invalidated the capture sequence")
        return self._captured is not None


class Graph:
    """Work that was captured, with what launches were given then."""

    def __init__(self, work: list[Any]) -> None:
        self._work, self.launches = work, [name for _, name in work if name]

    def launch(self, stream: Stream | None = None) -> None:
        get_current_stream().refuse()
        launched.append("graph")
        for run, name in self._work:
            _do(run, name)


class Event:
    """A moment of a stream's: that of the last record."""

    def __init__(self, **_: Any) -> None:
        self.reached: Any = _nothing

    def record(self, stream: Stream | None = None) -> None:
        of = stream or get_current_stream()

        def moment() -> None:
            pass

        of.do(moment)
        self.reached = partial(of.catch_up, moment)

    def synchronize(self) -> None:
        self.reached()


def _nothing() -> None:
    """What has been recorded nowhere is reached."""


# Those chosen, one inside of another.
_streams = [Stream(null=True)]


def get_current_stream() -> Stream:
    return _streams[-1]


def _capturing() -> bool:
    return get_current_stream()._captured is not None


def _do(run: Any, name: str = "") -> None:
    """What the device does: now, or where it is captured when the graph is launched."""
    captured = get_current_stream()._captured
    if captured is not None:
        captured.append((run, name))
        return
    if name:
        launched.append(name)
    get_current_stream().do(run)


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
    Event=Event,
    Graph=Graph,
    MemoryPool=MemoryPool,
    Stream=Stream,
    Memory=Memory,
    MemoryPointer=MemoryPointer,
    UnownedMemory=UnownedMemory,
    alloc_pinned_memory=lambda size: np.full(size, _PAINT, np.uint8),
    using_allocator=_using_allocator,
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
    get_current_stream=get_current_stream,
)
