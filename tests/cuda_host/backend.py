"""The backend "cuda" on the host: the launchers with the module of this folder in place of CuPy."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastnn import backends
from tests.cuda_host import cupy

_KERNELS = "fastnn.kernels.cuda"


@contextmanager
def on_host(compiles: bool = True) -> Iterator[Any]:
    """Inside a ``with`` block, arrays of this module's are device arrays; it is what the block is given.

    Kernels that are not compiled do nothing, which needs no compiler.
    """
    held = {name: module for name, module in sys.modules.items() if _is_ours(name)}
    probe = backends._PROBES["cuda"]
    _replace({"cupy": cupy})
    cupy.compiles = compiles
    backends._PROBES["cuda"] = lambda: "the host"
    _look_again()
    try:
        yield cupy
    finally:
        _replace(held)
        backends._PROBES["cuda"] = probe
        _look_again()


def _is_ours(name: str) -> bool:
    return name in ("cupy", _KERNELS) or name.startswith(f"{_KERNELS}.")


def _replace(modules: dict[str, Any]) -> None:
    for name in [name for name in sys.modules if _is_ours(name)]:
        del sys.modules[name]
    sys.modules.update(modules)
    importlib.invalidate_caches()


def _look_again() -> None:
    backends.state.cache_clear()
    backends.forget()
