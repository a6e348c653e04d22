"""What fastnn runs on, for ``fastnn info``: versions, CPU, threads, caches, backends."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

import fastnn
from fastnn import backends
from fastnn.kernels.table import DTYPES

_REQUIRED = ("numpy", "numba", "llvmlite")
_OPTIONAL = ("scipy", "matplotlib", "cupy")


def rows() -> list[tuple[str, str]]:
    """Return the lines of ``fastnn info``: what, and what it is here."""
    return [
        ("fastnn", f"{fastnn.__version__} in {Path(fastnn.__file__).parent}"),
        ("python", f"{platform.python_version()} ({platform.python_implementation()}), {platform.platform()}"),
        *((name, _version(name) or "missing") for name in _REQUIRED),
        *((name, version) for name in _OPTIONAL if (version := _version(name))),
        *_cpu(),
        *((f"backend {state.name}", _state(state)) for state in backends.available_backends().values()),
        *_products_on_device(),
    ]


def peak_rows() -> list[tuple[str, str]]:
    """Return the lines of ``fastnn info --peak``: FLOP/s of each dtype and memory's bytes/s, on 1 and on all threads.

    Raises BackendError where the CPU backend cannot serve.
    """
    backends.require("cpu")
    from fastnn.kernels.cpu import peak

    counts = sorted({1, fastnn.get_num_threads()})

    def line(unit: str, measure: Callable[[int], float]) -> str:
        return ", ".join(f"{measure(count) / 1e9:.4g} {unit} on {count} thread{'s' * (count > 1)}" for count in counts)

    return [
        *((f"peak {dtype}", line("GFLOP/s", partial(peak.measure, dtype))) for dtype in peak.dtypes()),
        ("memory", f"{line('GB/s', peak.bandwidth)} (a + b, larger than the caches)"),
    ]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _state(state: backends.BackendState) -> str:
    said = f"{'available' if state.available else 'unavailable'}: {state.reason}"
    chosen = state.name in backends.AUTO or not state.available
    return said if chosen else f"{said}; 'auto' takes it for steps of {backends.CUDA_FROM:.2g} FLOP on, unmeasured"


def _products_on_device() -> list[tuple[str, str]]:
    """Return which products are cuBLAS's and which those of tensor cores, where there is a device."""
    if not backends.available_backends()["cuda"].available:
        return []
    from fastnn.kernels.cuda import cublas, launch, tiles

    lack = tiles.lacking(launch.surroundings()[0])
    by_cublas = f"cuBLAS's {_threshold(cublas.WORK_FROM, cublas.MEASURED_ON)} where nothing is fused or rounded"
    by_tensors = f"those of rounded operands {_threshold(tiles.TENSOR_WORK_FROM, tiles.TENSOR_MEASURED_ON)}"
    return [
        ("products on cuda", f"{backends.get_precision()}; {by_cublas}, else fastnn's own kernels"),
        ("tensor cores", f"none: {lack}" if lack else by_tensors),
    ]


def _threshold(work: int, measured_on: str | None) -> str:
    return f"from {work:,} multiply-adds on ({f'measured on {measured_on}' if measured_on else 'unmeasured'})"


def _cpu() -> list[tuple[str, str]]:
    if not backends.available_backends()["cpu"].available:
        return [("CPU", _model_name())]
    from fastnn.kernels.cpu.compiler import machine

    isa, caches = machine.isa(), machine.caches()
    tiles = ", ".join(f"{machine.tile(np.dtype(dtype).itemsize)} in {dtype}" for dtype in DTYPES)
    return [
        ("CPU", f"{_model_name()}, {os.cpu_count()} logical CPUs"),
        ("compiled for", f"{machine.cpu_name()}: {isa.name}, {isa.registers} registers of {8 * isa.vector_bytes} bits"),
        ("register tile", tiles),
        ("caches", f"L1 {_bytes(caches.l1)}, L2 {_bytes(caches.l2)}, L3 {_bytes(caches.l3)}"),
        ("threads", str(fastnn.get_num_threads())),
        ("kernel cache", _kernel_cache()),
    ]


def _model_name() -> str:
    """Return the CPU's name as its maker writes it, where the operating system tells."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match.group(1) if match else platform.processor() or platform.machine()


def has_kernels(module: str) -> bool:
    """Return True if a compiled function of a module of ``fastnn.kernels.cpu`` is kept on disk."""
    from fastnn.kernels.cpu.compiler import store

    with suppress(OSError):  # there is no place for it
        return any(path.name.startswith(f"{module}.") for path in store.entry().files())
    return False


def _kernel_cache() -> str:
    """Return the folder of compiled kernels, its files and size, and whether it can be written to."""
    from fastnn.kernels.cpu.compiler import store

    try:
        entry = store.entry()
    except OSError as error:
        return f"none ({error}), so every process compiles its kernels anew"
    try:
        entry.check()
        state = "writable"
    except OSError as error:
        state = (
            f"cannot be written to ({error.strerror or error}), so every process compiles anew what is missing: "
            f"set {store.variable()} to a folder that can be"
        )
    files = entry.files()
    return f"{entry.path}, {len(files)} files, {_bytes(sum(path.stat().st_size for path in files))}, {state}"


def _bytes(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
