"""How kernels are compiled: lazily, with explicit signatures, kept on disk, for one thread and for several.

A kernel is written as a factory that closes over plain constants (the tile) and returns a function of arrays and
numbers; the decorator ``kernel`` compiles it for a dtype on first use. Function, constants, options and machine make
the key under which ``store`` keeps it. The functions that it calls (``parts``) do not, but what is kept there is kept
for one hash of all kernel sources: an edit or an upgrade can never run a stale kernel.

Two decorators tell how threads share the work. ``kernel`` is for one loop over tasks, compiled once serial and once as
a parallel loop of Numba's, whose threads stay awake between the calls of ops. ``team_kernel`` is for what a fit calls:
compiled once, run by a ``team``.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numba import types
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult

from fastnn.kernels.cpu import machine, require_compiler, store, team, threads
from fastnn.kernels.cpu.simd import library


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


def _njit(signature: Any, function: Callable[..., Any], parallel: bool) -> Any:
    """Compile a function for a signature, or take it from the store."""
    # _nrt: kernels make no arrays of their own, and a view that counts references costs atomic operations
    options: dict[str, Any] = {"nogil": True, "_nrt": False, "error_model": "numpy", "parallel": parallel}
    compiled = numba.njit(**options)(function)
    compiled._cache = _Overloads(function, repr(options))
    compiled.compile(signature)
    compiled.disable_compile()
    return compiled


class _Overloads(_Cache):
    """Where a dispatcher looks for compiled code and leaves it: the store, in place of Numba's own files."""

    def __init__(self, function: Callable[..., Any], options: str) -> None:
        code = function.__code__
        self._name = f"{Path(code.co_filename).stem}.{function.__qualname__.replace('.<locals>', '')}"
        constants = [cell.cell_contents for cell in function.__closure__ or ()]
        bytecode = hashlib.sha256(code.co_code).hexdigest()
        self._key = f"{code.co_filename}:{code.co_firstlineno} {bytecode} {constants} {options}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code that was saved for a signature, None without any."""
        target_context.refresh()
        with store.reporting():
            found = store.entry().load(self._name, self._keyed(sig))
            return found and CompileResult._rebuild(target_context, *found)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code that was compiled for a signature."""
        with store.reporting():
            if data.library.has_dynamic_globals:
                raise TypeError(f"{self._name} holds an address of this process")
            store.entry().save(self._name, self._keyed(sig), data._reduce())

    def _keyed(self, sig: Any) -> str:
        return f"{self._key} {sig} {machine.key()}"

    @property
    def cache_path(self) -> str:
        """The folder."""
        return str(store.entry().path)

    def enable(self) -> None:
        """Do nothing: it is."""

    def disable(self) -> None:
        """Do nothing: a kernel that must not be kept is none."""

    def flush(self) -> None:
        """Do nothing: what is outdated is never found."""


class _Compiled:
    """A factory's compiled functions, by dtype, serial and those of ``twins`` that are parallel."""

    twins: tuple[bool, ...] = (False,)

    def __init__(self, factory: Callable[..., Any], signature: Callable[[Any], Any]) -> None:
        self.factory, self.signature = factory, signature
        self._compiled: dict[tuple[str, bool], Any] = {}

    def compiled(self, dtype: np.dtype[Any], parallel: bool = False) -> Any:
        """The compiled function for a dtype: compiled, or loaded from the store, on first use."""
        key = (dtype.char, parallel)
        found = self._compiled.get(key)
        if found is None:
            with _compiling:
                if key not in self._compiled:
                    self._compiled[key] = self._compile(dtype, parallel)
                found = self._compiled[key]
        return found

    def _compile(self, dtype: np.dtype[Any], parallel: bool) -> Any:
        require_compiler()
        if parallel:
            threads.start()
        with _without_collection():
            library.load(numba.from_dtype(dtype))
            tile = machine.tile(dtype.itemsize)
            return _njit(self.signature(numba.from_dtype(dtype)), self.factory(tile.MR, tile.NR), parallel)


class Kernel(_Compiled):
    """A function of the number of tasks, over which it has a parallel loop, and arguments."""

    twins = (False, True)

    def __call__(self, dtype: np.dtype[Any], nanoseconds: float, *arguments: Any) -> Any:
        """Run on the number of tasks, which is passed first, and ``arguments``; ``nanoseconds`` estimates the work."""
        tasks = threads.count(nanoseconds)
        if tasks > 1:
            if threads.at_hand(tasks):
                return self.compiled(dtype, True)(tasks, *arguments)
            with threads.region(tasks) as entered:
                if entered:
                    return self.compiled(dtype, True)(tasks, *arguments)
        return self.compiled(dtype, False)(tasks, *arguments)

    def planned(self, dtype: np.dtype[Any], nanoseconds: float, *leading: Any) -> Callable[..., Any]:
        """The same as a function of the arguments behind ``leading``, for many calls of as much work."""
        if nanoseconds < threads.SERIAL_BELOW_NS:
            return partial(self.compiled(dtype), 1, *leading)
        return partial(self, dtype, nanoseconds, *leading)


class TeamKernel(_Compiled):
    """A function of arguments, a team's words, a task and the number of tasks: it has no loop over these.

    It returns nothing, or the same for every task.
    """

    def __call__(self, dtype: np.dtype[Any], nanoseconds: float, *arguments: Any) -> Any:
        """Run on ``arguments`` by as many threads as ``nanoseconds`` of estimated work keep busy."""
        return team.run(self.compiled(dtype), arguments, threads.count(nanoseconds))


# Every kernel of the modules that are imported, in their order.
KERNELS: list[Kernel | TeamKernel] = []
_Kind = TypeVar("_Kind", Kernel, TeamKernel)


def kernel(signature: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a ``Kernel`` of the factory below it; ``signature`` gives Numba's signature for a dtype."""
    return lambda factory: _enter(Kernel, signature, factory)


def team_kernel(signature: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], TeamKernel]:
    """Make a ``TeamKernel`` of the factory below it; ``signature`` is that of its own arguments and result."""
    return lambda factory: _enter(TeamKernel, lambda dtype: _with_team(signature(dtype)), factory)


def _enter(kind: type[_Kind], signature: Callable[[Any], Any], factory: Callable[..., Any]) -> _Kind:
    entered = kind(factory, signature)
    KERNELS.append(entered)
    return entered


def _with_team(signature: Any) -> Any:
    """A signature with those of a team's words, a task and the number of tasks."""
    return signature.return_type(*signature.args, flat(types.int32), types.int64, types.int64)


def compile_all(dtypes: Iterable[np.dtype[Any]]) -> None:
    """Compile, or load from the store, all twins of every kernel of this package, and the micro-kernels."""
    folder = Path(__file__).parent
    for module in pkgutil.iter_modules([str(folder)]):
        importlib.import_module(f"{__package__}.{module.name}")
    for dtype in dtypes:
        for entry in KERNELS:
            for parallel in entry.twins:
                entry.compiled(dtype, parallel)
