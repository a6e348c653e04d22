"""CUDA sources as libraries of the host: compiled by g++ under host.h, their kernels called through ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / "build" / "cuda_host"

COMPILER = shutil.which("g++")
_FLAGS = ("-std=gnu++17", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden")
# Of the kernels; the device itself is compiled without what instruments them.
_KERNEL_FLAGS = ("-O1", "-Wall", "-Werror", "-Wno-unused-function", "-Wno-unused-value", "-Wno-unknown-pragmas")
_DEVICE_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-fno-builtin")

# extern "C" __global__ void NAME(const STRUCTURE given), with or without bounds of its launch.
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(const (\w+) \w+\)')

# One device: its state is not for two threads.
_lock = threading.Lock()


class LaunchError(RuntimeError):
    """A kernel did what CUDA leaves undefined."""


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _compiled(target: Path, command: Sequence[str | Path], source: str = "") -> Path:
    """The target, made by a command that reads the source and writes to the path behind it."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        own = target.with_name(f"{target.name}.{os.getpid()}.{threading.get_ident()}")
        whole = [*map(str, command), "-o", str(own)]
        done = subprocess.run(whole, input=source, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"g++ did not compile a CUDA source:\n{done.stderr[:8000]}")
        own.replace(target)
    return target


@cache
def _device(extra: tuple[str, ...]) -> Path:
    """The library of host.cpp, which those of kernels find where it was when they were linked."""
    tsan = [] if not extra else ["-DFASTNN_TSAN"]
    sources = (HERE / "host.h").read_text(), (HERE / "host.cpp").read_text()
    target = CACHE / f"{_hash(str(CACHE), *sources, *tsan)}.so"
    return _compiled(target, [COMPILER or "g++", *_FLAGS, *_DEVICE_FLAGS, *tsan, "-shared", HERE / "host.cpp"])


@cache
def _header(extra: tuple[str, ...]) -> Path:
    """What kernels include, compiled once for all of them: as it is named, less the suffix that g++ looks for."""
    flags = [*_FLAGS, *_KERNEL_FLAGS, *extra]
    target = CACHE / f"{_hash((HERE / 'host.h').read_text(), *flags)}.h.gch"
    return _compiled(target, [COMPILER or "g++", *flags, "-x", "c++-header", HERE / "host.h"]).with_suffix("")


def library(text: str, sanitize: bool = False) -> ctypes.CDLL:
    """A module's text as a library; ``sanitize`` for ThreadSanitizer, whose runtime the process must have loaded."""
    return ctypes.CDLL(str(compiled(text, sanitize)))


@cache
def compiled(text: str, sanitize: bool = False) -> Path:
    """The file of a module's library."""
    kernels = "".join(f"HOST_KERNEL({name}, {structure})\n" for name, structure in _KERNEL.findall(text))
    extra = ("-fsanitize=thread", "-g") if sanitize else ()
    device, header = _device(extra), _header(extra)
    # to link the standard library, of which kernels need nothing, takes as long as to compile most of them
    flags = [*_FLAGS, *_KERNEL_FLAGS, *extra, "-Winvalid-pch", "-shared", "-nostdlib", "-include", header]
    flags += ["-Wl,--no-as-needed"]  # a kernel that calls nothing of the device's is launched by it all the same
    flags += ["-x", "c++", "-", "-x", "none"]
    target = CACHE / f"{_hash(text, kernels, device.name, *map(str, flags))}.so"
    return _compiled(target, [COMPILER or "g++", *flags, device], text + kernels)


@cache
def _are_painted() -> Callable[..., bool]:
    """The device's own; the interpreter is held, so that nobody gives memory back meanwhile."""
    function: Callable[..., bool] = ctypes.PyDLL(str(_device(()))).fastnn_host_are_painted
    function.restype = ctypes.c_bool  # type: ignore[attr-defined]
    return function


def are_painted(pieces: np.ndarray) -> bool:
    """Whether nobody has written to pieces of memory: places and sizes, one behind the other."""
    return _are_painted()(ctypes.c_void_p(pieces.ctypes.data), ctypes.c_uint64(pieces.size // 2))


def sanitized(program: str, *arguments: str) -> str:
    """What ThreadSanitizer says of a Python program that runs kernels built for it.

    It is a process of its own, which has loaded the sanitizer's runtime: a library cannot bring it along.
    """
    compiler = COMPILER or "g++"
    runtime = subprocess.run([compiler, "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=HERE.parents[1],
        env={
            "PATH": os.environ["PATH"],
            "LD_PRELOAD": runtime.stdout.strip(),
            "TSAN_OPTIONS": "exitcode=66",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
    if done.returncode not in (0, 66):
        raise RuntimeError(f"a program under ThreadSanitizer ended with {done.returncode}:\n{done.stderr[-8000:]}")
    return done.stderr


class Kernel:
    """A kernel of a library: ``launch(grid, block, record, shared_bytes)`` with its structure as a NumPy array (1,)."""

    def __init__(self, module: ctypes.CDLL, name: str) -> None:
        self._module, self._entry = module, ctypes.c_void_p.in_dll(module, f"{name}_entry")
        run: Callable[..., bytes | None] = module.fastnn_host_launch
        run.restype = ctypes.c_char_p  # type: ignore[attr-defined]
        self._run, self._name = run, name

    def launch(
        self, grid: Sequence[int], block: Sequence[int], record: np.ndarray, shared_bytes: int = 0, seed: int = 0
    ) -> None:
        """Run it; LaunchError with what it did wrong."""
        sizes = [(ctypes.c_uint * 3)(*[*given, 1, 1][:3]) for given in (grid, block)]
        given = ctypes.c_void_p(record.ctypes.data)
        with _lock:
            error = self._run(self._entry, given, *sizes, ctypes.c_uint64(shared_bytes), ctypes.c_uint(seed))
        if error:
            raise LaunchError(f"{self._name}: {error.decode()}")
