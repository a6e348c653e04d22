"""What the device can do, measured in the same run: bytes it copies a second, FLOP/s of cuBLAS's products."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bench.cuda.operands import random_array
from bench.cuda.stopwatch import EVENTS, Calls, Stopwatch
from fastnn.kernels.cuda import release

# Formats of a product's operands by cuBLAS's numbers for them: cudaDataType_t of A and B (C is float32), and
# cublasComputeType_t.
_FLOAT32, _BFLOAT16 = 0, 14
_COMPUTE_FLOAT32, _COMPUTE_TF32 = 68, 77
_FORMATS = {
    "float32": (_FLOAT32, _COMPUTE_FLOAT32),
    "tf32": (_FLOAT32, _COMPUTE_TF32),
    "bfloat16": (_BFLOAT16, _COMPUTE_FLOAT32),
}
_DEFAULT_ALGORITHM = -1

_BLOCKS = 5

_DRIVER = "/proc/driver/nvidia/version"


def copy_bandwidth(cupy: Any, stopwatch: Stopwatch, arrays: tuple[Any, Any], block_seconds: float) -> float:
    """Bytes a second, read and written, of a copy from array to array."""
    source, target = arrays

    def copy() -> None:
        target[...] = source

    calls = Calls([copy], EVENTS, lambda _: cupy.cuda.runtime.deviceSynchronize())
    sample = stopwatch.samples({"copy": calls}, _BLOCKS, block_seconds)["copy"]
    return 2 * float(source.nbytes) / sample.seconds


def matrix_rates(cupy: Any, stopwatch: Stopwatch, size: int, block_seconds: float) -> dict[str, float]:
    """FLOP/s of cuBLAS's square product, by the format of its operands; those that the device has."""
    rates = {}
    for name in _FORMATS:
        if name != "float32" and int(cupy.cuda.Device().compute_capability) < 80:
            continue
        calls = Calls([cublas(cupy, size, size, size, name)], EVENTS, lambda _: cupy.cuda.runtime.deviceSynchronize())
        sample = stopwatch.samples({name: calls}, _BLOCKS, block_seconds)[name]
        rates[name] = 2.0 * size**3 / sample.seconds
    return rates


class cublas:  # noqa: N801 - it is used as a function
    """A call of cuBLAS's product of random A (n, k) and B (k, m) in a format, into C (n, m) of float32.

    cuBLAS reads columns, so that it is asked for C.T = B.T @ A.T.
    """

    def __init__(self, cupy: Any, n: int, k: int, m: int, name: str) -> None:
        self._cupy, self._sizes, self._format = cupy, (n, k, m), _FORMATS[name]
        a, b = (random_array(cupy, shape) for shape in ((n, k), (k, m)))
        self._a, self._b = (_bfloat16(each) for each in (a, b)) if name == "bfloat16" else (a, b)
        self.c = cupy.empty((n, m), "float32")
        self._one, self._zero = np.ones(1, "float32"), np.zeros(1, "float32")

    def __call__(self) -> Any:
        """C, which is written anew."""
        blas, (n, k, m), (format_, compute) = _library(self._cupy), self._sizes, self._format
        handle = self._cupy.cuda.device.get_cublas_handle()
        b, a, c = ((array.data.ptr, kind) for array, kind in ((self._b, format_), (self._a, format_), (self.c, 0)))
        one, zero = self._one.ctypes.data, self._zero.ctypes.data
        blas.gemmEx(handle, 0, 0, m, n, k, one, *b, m, *a, k, zero, *c, m, compute, _DEFAULT_ALGORITHM)
        return self.c


def _library(cupy: Any) -> Any:
    return cupy.cuda.cublas


def _bfloat16(array: Any) -> Any:
    """The upper halves of float32 numbers: bfloat16 numbers, of which CuPy has no dtype in all versions."""
    halves = array.view("uint16").reshape(*array.shape, 2)
    return halves[..., 1].copy()


def facts(cupy: Any) -> Mapping[str, str]:
    """What a result must name of the device and its software."""
    runtime, device = cupy.cuda.runtime, cupy.cuda.Device()
    found = runtime.getDeviceProperties(device.id)
    name = found["name"].decode() if isinstance(found["name"], bytes) else str(found["name"])
    return {
        "device": f"{name}, compute capability {device.compute_capability}, {found['multiProcessorCount']} "
        f"multiprocessors, {found['totalGlobalMem'] / 2**30:.0f} GiB, L2 {l2_bytes(cupy) / 2**20:.0f} MiB",
        "driver": f"{driver()}, for CUDA up to {release(runtime.driverGetVersion())}",
        "runtime": f"CUDA {release(runtime.runtimeGetVersion())}",
        "software": f"CuPy {cupy.__version__}, NVRTC {_nvrtc(cupy)}, cuBLAS {_cublas_version(cupy)}",
    }


def driver() -> str:
    """The driver's version, as the system or its own tool tells it."""
    with suppress(OSError):
        found = re.search(r"Kernel Module.*?(\d+(?:\.\d+)+)", Path(_DRIVER).read_text())
        if found:
            return found[1]
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.splitlines()[0]
    return "unknown"


def l2_bytes(cupy: Any) -> int:
    """The size of the device's L2."""
    return int(cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["l2CacheSize"])


def _cublas_version(cupy: Any) -> str:
    """120803 is 12.8.3."""
    number = _library(cupy).getVersion(cupy.cuda.device.get_cublas_handle())
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def _nvrtc(cupy: Any) -> str:
    return ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
