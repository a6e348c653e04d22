"""The micro-kernels as machine code: one library a dtype, compiled once and kept in the store.

Kernels call micro-kernels by symbol, so a library has to be loaded before a kernel that calls it is compiled or loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any

import llvmlite.binding as llvm
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from fastnn.kernels.cpu.compiler import machine, store
from fastnn.kernels.cpu.simd import (
    dropout,
    elementwise,
    losses,
    normalization,
    optim,
    patches,
    pooling,
    random,
    recurrent,
    softmax,
    sparse,
    tile,
    windows,
    winograd,
)
from fastnn.kernels.cpu.simd.kernel import ENTERED, MicroKernel
from fastnn.kernels.interrupts import held

# Every micro-kernel: a room that is missing here has none in the library, whoever imported it before.
ROOMS = (
    elementwise,
    losses,
    normalization,
    optim,
    pooling,
    patches,
    softmax,
    random,
    dropout,
    tile,
    sparse,
    recurrent,
    windows,
    winograd,
)
MICRO_KERNELS = tuple(kernel for room in ROOMS for kernel in ENTERED if kernel.emit.__module__ == room.__name__)

# What makes LLVM hand over the code that it has made, and ask for that which was kept: it calls Python for both.
_CALLED_BACK = ("finalize_object", "get_function_address", "get_global_value_address")
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
        library = found and _codegen().unserialize_library(found)
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


@cache
def _codegen() -> Any:
    """Numba's generator of code for this CPU.

    What is raised in a function that LLVM calls is printed and lost, and the code with it: whatever Control-C raises
    waits for LLVM's return. Python would notice it nowhere else, however long before LLVM was interrupted.
    """
    found = cpu_target.target_context.codegen()
    for name in _CALLED_BACK:
        setattr(found._engine, name, _whole(getattr(found._engine, name)))
    return found


def _whole(call: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with interrupts put off until its end."""

    @wraps(call)
    def held_call(*args: Any) -> Any:
        with held():
            return call(*args)

    return held_call


def _publish(kernels: Sequence[MicroKernel], dtype: Any, library: Any) -> None:
    _libraries.append(library)
    for kernel in kernels:
        symbol = kernel.symbol(dtype)
        llvm.add_symbol(symbol, library.get_pointer_to_function(symbol))


def _build(kernels: Sequence[MicroKernel], dtype: Any) -> Any:
    llvm.initialize_native_asmparser()  # for instructions that are written by name
    name = f"fastnn.{dtype}.{len(_libraries)}"
    library = _codegen().create_library(name)
    library.enable_object_caching()
    module = library.create_ir_module(name)
    for kernel in kernels:
        kernel.define(module, dtype)
    library.add_ir_module(module)
    library.finalize()
    return library
