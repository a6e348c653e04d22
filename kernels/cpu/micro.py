"""The micro-kernels as machine code: one library a dtype, compiled once and kept in the store.

Kernels call micro-kernels by symbol, so a library has to be loaded before a kernel that calls it is compiled or loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from fastnn.kernels.cpu import machine, store
from fastnn.kernels.cpu.simd import MICRO_KERNELS, MicroKernel

# Libraries stay referenced: their code is called through bare addresses.
_libraries: list[Any] = []
_loaded: set[Any] = set()


@global_compiler_lock
def load(dtype: Any) -> None:
    """Make the micro-kernels of a Numba dtype callable: compiled, or loaded from the store."""
    if dtype in _loaded:
        return
    name, key = f"micro.{dtype}", machine.key()
    library = None
    with store.reporting():
        found = store.entry().load(name, key)
        library = found and cpu_target.target_context.codegen().unserialize_library(found)
    if library is None:
        library = _build(MICRO_KERNELS, dtype)
        with store.reporting():
            store.entry().save(name, key, library.serialize_using_object_code())
    _publish(MICRO_KERNELS, dtype, library)
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
