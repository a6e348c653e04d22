"""CUDA kernels through CuPy. This release registers the backend and says why it cannot serve; it has no kernels yet."""

from __future__ import annotations


def probe() -> str:
    """What the device is, or a RuntimeError with the reason that it cannot be used."""
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()  # raises without a driver
    raise RuntimeError(f"{count} CUDA device(s) found, but this version of fastnn has no CUDA kernels")
