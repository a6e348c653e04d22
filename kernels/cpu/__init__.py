"""CPU kernels: Numba functions around the LLVM vectors of ``simd``, one module for each module of the table."""

from __future__ import annotations

import importlib


def require_compiler() -> None:
    """RuntimeError where Numba is told to compile nothing."""
    import numba

    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined, unused-ignore]
        raise RuntimeError(
            "Numba's compiler is switched off, by NUMBA_DISABLE_JIT in the environment or numba.config.DISABLE_JIT; "
            "the kernels are machine code alone"
        )


def probe() -> str:
    """What kernels are compiled for, or a RuntimeError with the reason that none can be compiled and run here."""
    try:
        require_compiler()
        importlib.import_module("fastnn.kernels.cpu.teams.team")  # prepares LLVM, and what a team needs of the system
    except RuntimeError:
        raise
    except Exception as error:
        raise RuntimeError(f"what the kernels need cannot be had ({type(error).__name__}: {error})") from error
    from fastnn.kernels.cpu.compiler import machine

    return machine.describe()
