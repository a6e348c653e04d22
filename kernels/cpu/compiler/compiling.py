"""Numba's compiler for kernels: explicit signatures, no Python inside, the results kept on disk.

Function, constants, options and machine make the key under which ``store`` keeps what was compiled. The functions that
it calls (``parts``) do not, but what is kept there is kept for one hash of all kernel sources: an edit or an upgrade
can never run a stale kernel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult

from fastnn.kernels.cpu.compiler import machine, store


def compile_now(signature: Any, function: Callable[..., Any], named: Callable[..., Any] | None = None) -> Any:
    """Compile a function for a signature, or take it from the store, where it goes by what is ``named``."""
    # _nrt: kernels make no arrays of their own, and a view that counts references costs atomic operations
    options: dict[str, Any] = {"nogil": True, "_nrt": False, "error_model": "numpy"}
    compiled = numba.njit(**options)(function)
    compiled._cache = _Overloads(named or function, repr(options))
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
