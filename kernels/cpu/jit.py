"""Kernels: compiled lazily for a dtype, run by one thread or by a team of them.

A kernel is written as a factory that closes over plain constants (the tile) and returns a function of arrays and
numbers; the decorator ``kernel`` compiles it for a dtype on first use, and keeps it on disk (``compiling``).
"""

from __future__ import annotations

import gc
import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types

from fastnn.kernels.cpu import notes, require_compiler
from fastnn.kernels.cpu.compiler import machine
from fastnn.kernels.cpu.compiler.compiling import compile_now
from fastnn.kernels.cpu.simd import library
from fastnn.kernels.cpu.teams import team, threads


def reads(dtype: Any, ndim: int) -> Any:
    """Signature of an array that a kernel reads, with any strides."""
    return types.Array(dtype, ndim, "A", readonly=True)


def writes(dtype: Any, ndim: int) -> Any:
    """Signature of an array that a kernel writes, with any strides."""
    return types.Array(dtype, ndim, "A")


def flat(dtype: Any, readonly: bool = False) -> Any:
    """Signature of a contiguous one-dimensional array."""
    return types.Array(dtype, 1, "C", readonly=readonly)


def matrix(dtype: Any, readonly: bool = False) -> Any:
    """Signature of a contiguous two-dimensional array."""
    return types.Array(dtype, 2, "C", readonly=readonly)


_compiling = threading.RLock()


@contextmanager
def _without_collection() -> Iterator[None]:
    """Leave garbage alone meanwhile.

    A compilation makes millions of objects that live until its end: searching them again and again for cycles is a
    tenth of its time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Kernel:
    """A factory's function of arguments, a team's words, a task and the number of tasks, compiled for each dtype.

    Every task takes its share of the work, and returns the same.
    """

    def __init__(self, factory: Callable[..., Any], signature: Callable[[Any], Any]) -> None:
        self.factory, self.signature = factory, signature
        self.dispatchers: dict[str, Any] = {}
        self._compiled: dict[str, Any] = {}

    def compiled(self, dtype: np.dtype[Any]) -> Any:
        """The function ``team.run`` runs for a dtype: compiled, or loaded from the store, on first use."""
        found = self._compiled.get(dtype.char)
        if found is None:
            with _compiling:
                if dtype.char not in self._compiled:
                    self._compiled[dtype.char] = self._compile(dtype)
                found = self._compiled[dtype.char]
        return found

    def _compile(self, dtype: np.dtype[Any]) -> Any:
        require_compiler()
        with _without_collection():
            kind, tile = numba.from_dtype(dtype), machine.tile(dtype.itemsize)
            library.load(kind)
            function = self.factory(tile.MR, tile.NR)
            signature, lead = team.led(self.signature(kind), function)
            self.dispatchers[dtype.char] = compile_now(signature, lead, named=function)
        # not the dispatcher itself, which looks at the types of all arguments: some 0.6 us a call on an Ice Lake
        return self.dispatchers[dtype.char].overloads[signature.args].entry_point

    def __call__(self, dtype: np.dtype[Any], nanoseconds: float, *arguments: Any) -> Any:
        """Run on ``arguments`` by as many threads as ``nanoseconds`` of estimated work keep busy."""
        if notes.taken():
            return notes.take(self, dtype, nanoseconds, arguments)
        return team.run(self.compiled(dtype), threads.count(nanoseconds), arguments)

    def judges(self, dtype: np.dtype[Any]) -> bool:
        """Whether what it returns says that its operands are right: nothing has been written where they are not."""
        return bool(self.signature(numba.from_dtype(dtype)).return_type == types.boolean)

    def noted(self, dtype: np.dtype[Any], arguments: Sequence[Any]) -> list[int]:
        """A call as ``team.run_noted`` takes it."""
        return team.noted(self.compiled(dtype), arguments)

    def planned(self, dtype: np.dtype[Any], nanoseconds: float, *leading: Any) -> Callable[..., Any]:
        """The same as a function of the arguments behind ``leading``, for many calls of as much work."""
        if nanoseconds < threads.SERIAL_BELOW_NS and not notes.taken():
            return partial(self.compiled(dtype), *team.ALONE, *leading)
        return partial(self, dtype, nanoseconds, *leading)


# Every kernel of the modules that are imported, in their order.
KERNELS: list[Kernel] = []


def kernel(signature: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a ``Kernel`` of the factory below it; ``signature`` gives Numba's for a dtype, of its own arguments."""

    def enter(factory: Callable[..., Any]) -> Kernel:
        KERNELS.append(Kernel(factory, signature))
        return KERNELS[-1]

    return enter


def compile_all(dtypes: Iterable[np.dtype[Any]]) -> None:
    """Compile, or load from the store, every kernel of this package, the micro-kernels, and what workers run."""
    folder = Path(__file__).parent
    for module in pkgutil.walk_packages([str(folder)], f"{__package__}."):
        importlib.import_module(module.name)
    team.server()
    for dtype in dtypes:
        for entry in KERNELS:
            entry.compiled(dtype)
