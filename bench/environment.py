"""The machine and the settings of a benchmark: what must be set before NumPy loads, and what a result must name.

Imports nothing that loads a BLAS, so that it can run first.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Variables that tune OpenBLAS, down as well as up: with OPENBLAS_CORETYPE=Haswell an AVX-512 machine runs NumPy at half
# its speed. A benchmark drops them, so that it meets NumPy at its best.
_BLAS_PREFIX = "OPENBLAS_"

# What a process can be measured as. "haswell" and "nehalem" set both sides back to AVX2 and to SSE: Numba by its
# target, OpenBLAS by its kernels. (NumPy's own loops keep the host's vectors.)
TARGETS: Mapping[str, Mapping[str, str]] = {
    "host": {},
    "haswell": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+movbe,+popcnt,+sse3,+sse4.1,+sse4.2,+ssse3,"
        "-avx512f",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "nehalem": {
        "NUMBA_CPU_NAME": "nehalem",
        "NUMBA_CPU_FEATURES": "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
}

# Threads of every contender; the project's promises hold for two.
THREADS = min(2, os.cpu_count() or 1)
# Where they are read: fastnn; OpenBLAS, PyTorch and other users of OpenMP; JAX. TensorFlow's are set in its peer.
_THREAD_VARIABLES = ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS", "NPROC")

# OpenBLAS's kernels for CPUs with AVX-512.
_AVX512_KERNELS = ("SkylakeX", "Cooperlake", "SapphireRapids")

_VERSIONS = (
    "fastnn-kernels",
    "numpy",
    "numba",
    "llvmlite",
    "torch",
    "jax",
    "keras",
    "tensorflow",
    "scikit-learn",
    "scipy",
    "thinc",
    "pytest-benchmark",
)


def prepared(
    target: str = "host", environ: Mapping[str, str] | None = None, threads: int | None = None
) -> dict[str, str]:
    """The variables that a process measuring ``target`` needs: those given, without OpenBLAS's, with the target's.

    ``threads`` is the number of threads of every contender; None leaves it to each.
    """
    given = os.environ if environ is None else environ
    kept = {name: value for name, value in given.items() if not name.startswith(_BLAS_PREFIX)}
    limits = {} if threads is None else dict.fromkeys(_THREAD_VARIABLES, str(threads))
    return {**kept, **limits, **TARGETS[target]}


def run_prepared(
    module: str, arguments: Sequence[str], target: str = "host", *, threads: int | None = None, quiet: bool = False
) -> int:
    """Run ``python -m module`` in a process prepared for ``target``, ``quiet`` without its output; its exit status."""
    environment = _finding_bench(prepared(target, threads=threads))
    sys.stdout.flush()
    output = subprocess.DEVNULL if quiet else None
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=environment, stdout=output, check=False).returncode


def output_of(
    module: str, arguments: Sequence[str], variables: Mapping[str, str] | None = None, given: str = ""
) -> str:
    """What ``python -m module`` prints in this process's environment and ``variables``, ``given`` its standard input.

    RuntimeError, with what it wrote to standard error, where it fails.
    """
    command = [sys.executable, "-m", module, *arguments]
    environment = _finding_bench({**os.environ, **(variables or {})})
    done = subprocess.run(command, env=environment, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(['python -m', module, *arguments])} failed:\n{done.stderr}")
    return done.stdout


def _finding_bench(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Python finds this checkout's ``bench``."""
    path = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    return {**environment, "PYTHONPATH": path}


def drop_blas_settings() -> None:
    """Remove OpenBLAS's variables from this process; RuntimeError if NumPy has read them already."""
    found = [name for name in os.environ if name.startswith(_BLAS_PREFIX)]
    if found and "numpy" in sys.modules:
        raise RuntimeError(f"{', '.join(found)}: set, and NumPy is loaded already; unset them and start again")
    for name in found:
        del os.environ[name]


def facts(with_blas: bool = True) -> dict[str, str]:
    """What a result must name: CPU, caches, target, threads, the kernels of NumPy's BLAS, versions, commit."""
    from fastnn import backends
    from fastnn.kernels.cpu.compiler import machine

    return {
        "cpu": cpu(),
        "caches": caches(),
        "fastnn": f"{machine.describe()}; {backends.get_num_threads()} threads",
        **({"blas": blas()} if with_blas else {}),
        **software(_VERSIONS),
    }


def software(packages: Sequence[str]) -> dict[str, str]:
    """What any result must name of software: the versions of those packages that are installed, Python, the commit."""
    return {
        "versions": ", ".join(f"{name} {version}" for name in packages if (version := _version(name))),
        "python": f"{platform.python_version()}, {platform.system()} {platform.release()}",
        "commit": commit(),
    }


def heading(facts: Mapping[str, str]) -> str:
    """Facts as the lines at the top of a result."""
    return "\n".join(f"{name + ':':10}{fact}" for name, fact in facts.items())


def blas() -> str:
    """NumPy's BLAS, the kernels it chose for this CPU and its threads, as threadpoolctl tells."""
    import numpy as np
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped, unused-ignore]

    np.ones((2, 2)) @ np.ones((2, 2))
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return "; ".join(
        f"{library['internal_api']} {library.get('version')}, {_kernels(library.get('architecture'))}, "
        f"{library['num_threads']} threads"
        for library in libraries
    )


def _kernels(architecture: str | None) -> str:
    """OpenBLAS's name for its kernels, and whether they are those of AVX-512."""
    return f"{architecture} kernels{' (AVX-512)' * (architecture in _AVX512_KERNELS)}"


def cpu() -> str:
    """The CPU of this machine: its own name, LLVM's, which tells the generation where the own name hides it, count."""
    from llvmlite.binding import get_host_cpu_name  # type: ignore[import-untyped, unused-ignore]

    return f"{cpu_model()} ({get_host_cpu_name()}), {os.cpu_count()} logical CPUs"


def caches() -> str:
    """Sizes of the data caches."""
    from bench.timing import size_text
    from fastnn.kernels.cpu.compiler import machine

    found = machine.caches()
    return f"L1 {size_text(found.l1)} and L2 {size_text(found.l2)} of a core, L3 {size_text(found.l3)} of all"


def cpu_model() -> str:
    """The CPU as its maker names it, where the operating system tells."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def commit() -> str:
    """The commit of this checkout, marked where files differ from it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
