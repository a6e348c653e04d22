"""CUDA kernels through CuPy: a ``.cu`` file and its launchers for each module of the table."""

from __future__ import annotations

from typing import Any

# Status of an error of the CUDA runtime: the driver is older than it wants; there is no device.
_DRIVER_TOO_OLD, _NO_DEVICE = 35, 100

_ANSWER = 42
_TRIVIAL = f'extern "C" __global__ void answer(int* x) {{ *x = {_ANSWER}; }}'


def probe() -> str:
    """What the current device is, after a kernel was compiled and run on it; RuntimeError with what there is not."""
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(f"CuPy cannot be imported: {_first_line(error)}") from error
    count = _devices(cupy.cuda.runtime)
    found = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
    _check_architecture(cupy, found)
    _run(cupy)
    return _description(cupy, found, count)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _devices(runtime: Any) -> int:
    """How many there are, at least one."""
    supported, wanted = map(release, (runtime.driverGetVersion(), runtime.runtimeGetVersion()))
    if runtime.driverGetVersion() == 0:  # which the runtime takes for one that is too old
        raise RuntimeError("no CUDA driver is installed")
    try:
        return int(runtime.getDeviceCount())
    except runtime.CUDARuntimeError as error:
        reasons = {
            _DRIVER_TOO_OLD: f"the driver is for CUDA {supported}, and too old for CuPy's, {wanted}",
            _NO_DEVICE: "the driver finds no CUDA device",
        }
        raise RuntimeError(reasons.get(error.status, _first_line(error))) from error


def release(number: int) -> str:
    """A release of CUDA as its libraries number it, 12090, as people do: 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _check_architecture(cupy: Any, found: Any) -> None:
    from fastnn.kernels.cuda.launch import LEAST

    capability = 10 * found["major"] + found["minor"]
    if capability < LEAST:
        got, wanted = f"{found['major']}.{found['minor']}", f"{LEAST // 10}.{LEAST % 10}"
        raise RuntimeError(f"{_name(found)} has compute capability {got}, kernels want {wanted} or later")


def _run(cupy: Any) -> None:
    """Compile a kernel and see what it does."""
    try:
        kernel = cupy.RawModule(code=_TRIVIAL).get_function("answer")
    except Exception as error:  # CuPy has no type of its own for a library that it does not find
        lost = "nvrtc" in str(error).lower()
        reason = "NVRTC, CUDA's compiler, cannot be loaded" if lost else "NVRTC compiles no kernel"
        raise RuntimeError(f"{reason}: {_first_line(error)}") from error
    result = cupy.zeros(1, "int32")
    kernel((1,), (1,), (result,))
    if int(result.get()[0]) != _ANSWER:
        raise RuntimeError("a kernel ran and did nothing")


def _name(found: Any) -> str:
    name: str = found["name"].decode()
    return name


def _description(cupy: Any, found: Any, count: int) -> str:
    runtime = cupy.cuda.runtime
    parts = [
        _name(found) + (f", device {runtime.getDevice()} of {count}" if count > 1 else ""),
        f"compute capability {found['major']}.{found['minor']}",
        f"{found['totalGlobalMem'] / 2**30:.4g} GiB",
        f"CuPy {cupy.__version__} for CUDA {release(runtime.runtimeGetVersion())}",
        f"driver for CUDA {release(runtime.driverGetVersion())}",
    ]
    return ", ".join(parts)
