"""CUDA kernels through CuPy: a ``.cu`` file and its launchers for each module of the table.

The backend does not serve before every op of the table has its kernels: products with CSR matrices have none yet. Until
then only tests run them, compiled for the host.
"""

from __future__ import annotations


def probe() -> str:
    """What the device is, or a RuntimeError with the reason that it cannot be used."""
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()  # raises without a driver
    raise RuntimeError(f"{count} CUDA device(s) found, but this version of fastnn has CUDA kernels for some ops only")
