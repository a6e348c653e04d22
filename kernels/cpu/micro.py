"""The micro-kernels as machine code: one library a dtype, compiled once, cached on disk beside Numba's own cache.

Kernels call micro-kernels by symbol, so a library has to be loaded before a kernel that calls it is compiled or loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
from numba.core.caching import make_library_cache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from fastnn.kernels.cpu.simd import MICRO_KERNELS, MicroKernel

_Cache = make_library_cache("fastnn-")

# Libraries stay referenced: their code is called through bare addresses.
_libraries: list[Any] = []
_loaded: set[Any] = set()


@global_compiler_lock
def load(dtype: Any, source: int, report: Callable[[Exception], None]) -> None:
    """Make the micro-kernels of a Numba dtype callable.

    ``source`` is the hash of all kernel sources, part of the cache's key. What goes wrong with the cache is told to
    ``report``, and costs a compilation.
    """
    if dtype in _loaded:
        return
    library = None
    try:
        store = _Cache(_keyed(source))
        library = store.load_overload(dtype, cpu_target.target_context)
        if library is None:
            library = _build(MICRO_KERNELS, dtype)
            store.save_overload(dtype, library)
    except Exception as error:  # unwritable or full folder, truncated or foreign file
        report(error)
    _publish(MICRO_KERNELS, dtype, library or _build(MICRO_KERNELS, dtype))
    _loaded.add(dtype)


@global_compiler_lock
def build(kernels: Sequence[MicroKernel], dtype: Any) -> None:
    """Compile further micro-kernels and make them callable."""
    _publish(kernels, dtype, _build(kernels, dtype))


def function(kernel: MicroKernel, dtype: Any) -> Callable[..., Any]:
    """A micro-kernel, compiled now, for calls from Python: they take addresses for pointers and release the GIL."""
    build([kernel], dtype)
    call: Callable[..., Any] = kernel.prototype(dtype)(llvm.address_of_symbol(kernel.symbol(dtype)))
    return call


def _publish(kernels: Sequence[MicroKernel], dtype: Any, library: Any) -> None:
    _libraries.append(library)
    for kernel in kernels:
        symbol = kernel.symbol(dtype)
        llvm.add_symbol(symbol, library.get_pointer_to_function(symbol))


def _keyed(SOURCE: int) -> Callable[[], int]:
    """A function whose closure makes the key of Numba's cache."""

    def micro_kernels() -> int:
        return SOURCE

    return micro_kernels


def _build(kernels: Sequence[MicroKernel], dtype: Any) -> Any:
    llvm.initialize_native_asmparser()  # for instructions that simd.py writes by name
    name = f"fastnn.{dtype}.{len(_libraries)}"
    library = cpu_target.target_context.codegen().create_library(name)
    library.enable_object_caching()
    module = library.create_ir_module(name)
    for kernel in kernels:
        kernel.define(module, dtype)
    library.add_ir_module(module)
    library.finalize()
    return library
