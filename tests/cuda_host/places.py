"""Where tests of CUDA kernels run: on the host that stands in for a device, which takes long, and on a device.

A ``conftest.py`` that imports ``cupy`` gives its tests that fixture: CuPy, or what stands in for it. Each of them runs
in both places, unless it is ``host_only`` or ``device_only``. Without a device the latter are skipped with the reason.
``device`` is for tests that want no numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.cuda_host import build
from tests.cuda_host.backend import on_host

_ON_HOST = [pytest.mark.slow, pytest.mark.skipif(build.COMPILER is None, reason="no g++")]

HOST = pytest.param(on_host, id="host", marks=_ON_HOST)


@cache
def missing() -> str:
    """Why there is no device; nothing where there is one."""
    try:
        with warnings.catch_warnings(action="ignore"):  # CuPy's, of a toolkit that it does not find
            import cupy
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy, the driver: whatever they say is the reason
        return f"no CUDA device: {error}"
    return "" if count else "no CUDA device: the driver finds none"


@contextmanager
def on_device() -> Iterator[Any]:
    """Inside a ``with`` block there is a device, or the test is skipped; CuPy is what the block is given."""
    if missing():
        pytest.skip(missing())
    import cupy

    cupy.seed = 1  # what tests give the stand-in: a device has an order of its own
    yield cupy


DEVICE = pytest.param(on_device, id="device", marks=pytest.mark.gpu)

# Where there is none, what runs on the host as well is no test there, and what only a device shows is skipped.
PLACES = [HOST] if missing() else [HOST, DEVICE]


def compiles_for_host(test: Any) -> Any:
    """Mark a test without the fixture that compiles kernels for the host."""
    for mark in _ON_HOST:
        test = mark(test)
    return test


host_only = pytest.mark.parametrize("cupy", [HOST], indirect=True)
device_only = pytest.mark.parametrize("cupy", [DEVICE], indirect=True)


@pytest.fixture(scope="module", params=PLACES)
def cupy(request: pytest.FixtureRequest) -> Iterator[Any]:
    with request.param() as module:
        yield module


@pytest.fixture(scope="module")
def device() -> Iterator[Any]:
    """The host that stands in, whose kernels are not compiled: results hold nothing."""
    with on_host(compiles=False) as module:
        yield module


def strided(cupy: Any, view: np.ndarray) -> Any:
    """A device array with a host view's numbers and strides."""
    base = view
    while isinstance(base.base, np.ndarray):
        base = base.base
    first = (view.ctypes.data - base.ctypes.data) // view.itemsize
    numbers = cupy.asarray(base.ravel(order="K"))[first:]
    return cupy.lib.stride_tricks.as_strided(numbers, view.shape, view.strides)
