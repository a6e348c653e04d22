"""The backends: which there are, which can serve and why not, and which one is meant.

``naive`` is the loops of the textbooks in plain Python, ``cpu`` the Numba kernels, ``cuda`` the CUDA kernels through
CuPy. NumPy arrays run on ``cpu`` unless ``set_backend`` or ``use_backend`` says ``naive``; CuPy arrays run on ``cuda``.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np

from fastnn import checks
from fastnn.errors import BackendError, installing
from fastnn.kernels import precision
from fastnn.kernels.addresses import Arrays
from fastnn.kernels.contexts import setting
from fastnn.kernels.table import DTYPES, Op


@dataclass(frozen=True)
class BackendState:
    """Whether a backend can serve here, and the reason or what it runs on."""

    name: str
    available: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {'available' if self.available else 'unavailable'} ({self.reason})"


def _probe_naive() -> str:
    return "plain Python loops"


def _probe_cpu() -> str:
    if importlib.util.find_spec("numba") is None:
        raise BackendError("the package numba is not installed")
    from fastnn.kernels import cpu

    return cpu.probe()


def _probe_cuda() -> str:
    if importlib.util.find_spec("cupy") is None:
        raise BackendError(f"CuPy is not installed: {installing('cuda13', 'cuda12')}, for your CUDA version")
    from fastnn.kernels import cuda

    return cuda.probe()


_PROBES: dict[str, Callable[[], str]] = {"cuda": _probe_cuda, "cpu": _probe_cpu, "naive": _probe_naive}
NAMES = tuple(_PROBES)

# The order in which "auto" tries them, fastest first.
AUTO = ("cpu", "naive")

# FLOP of a step's products from which "auto" tries "cuda" before: a CPU of 500 GFLOP/s takes 20 ms for so many, and the
# launches of a step some tens of microseconds. Unmeasured: a run on a device is to lower it.
CUDA_FROM = 1e10


class Recorder(Protocol):
    """What takes the calls of ops in place of a backend: it writes down what that does."""

    backend: str

    def call(self, op: Op, function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
        """The results of one call."""

    def changed(
        self,
        name: str,
        function: Callable[..., None],
        lists: Mapping[str, Any],
        read: Mapping[str, Any] = ...,
        **fixed: Any,
    ) -> None:
        """A call by this name that is no op: the function changes arrays in lists in place."""


# One default for the process, and an override for the current context (thread or task): a name, or what records.
default = "cpu"
override: ContextVar[str | Recorder | None] = ContextVar("fastnn_backend", default=None)


@cache
def state(name: str) -> BackendState:
    """Probe one backend, once in a process."""
    try:
        return BackendState(name, True, _PROBES[name]())
    except Exception as error:  # a driver, CuPy or NVRTC may fail in any way: each way is a reason, none an abort
        return BackendState(name, False, str(error) or type(error).__name__)


def available_backends() -> dict[str, BackendState]:
    """Every backend by name, with its state and the reason for it."""
    return {name: state(name) for name in NAMES}


def require(name: str) -> str:
    """``name`` if that backend can serve; else a BackendError that gives the reason and lists those that can."""
    checks.one_of("backend", name, NAMES)
    if not state(name).available:
        others = ", ".join(repr(s.name) for s in available_backends().values() if s.available)
        raise BackendError(f"backend {name!r} is unavailable: {state(name).reason}. Available: {others}")
    return name


def resolve(name: str = "auto", step_flop: float = 0.0) -> str:
    """The backend that training uses: ``name`` if it can serve, or for "auto" the fastest that can.

    That is "cuda" for steps whose products take ``step_flop`` of at least ``CUDA_FROM``; a UserWarning says so, once in
    a process. Where only the plain loops can serve, a RuntimeWarning says why, once likewise.
    Inside ``use_backend`` or after ``set_backend`` "auto" is the backend chosen there.
    """
    checks.one_of("backend", name, ("auto", *NAMES))
    if name != "auto":
        return require(name)
    if override.get() is not None or default != "cpu":
        return current()
    if step_flop >= CUDA_FROM and state("cuda").available:
        _tell_of_device(state("cuda").reason)
        return "cuda"
    fastest = next(name for name in AUTO if state(name).available)
    if fastest == "naive":
        _warn_of_loops(state("cpu").reason)
    return fastest


@cache
def _tell_of_device(reason: str) -> None:
    text = f"backend 'auto' is 'cuda' for steps of {CUDA_FROM:.2g} FLOP and more ({reason})"
    warnings.warn(f"{text}; backend='cpu' keeps to the CPU", UserWarning, stacklevel=3)


@cache
def _warn_of_loops(reason: str) -> None:
    text = f"fastnn trains by plain Python loops, which are slow: the CPU backend is unavailable ({reason})"
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def current() -> str:
    """The backend that serves NumPy arrays now."""
    chosen = override.get()
    return chosen if isinstance(chosen, str) else chosen.backend if chosen else default


def recorder() -> Recorder | None:
    """What records the calls of ops in this context, if anything does."""
    chosen = override.get()
    return None if isinstance(chosen, str) else chosen


def chosen(name: str) -> AbstractContextManager[None]:
    """The backend inside a ``with`` block, in this thread or task only."""
    return setting(override, name)


def recorded(recorder: Recorder, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a function returns, its calls of ops recorded.

    In a context of its own, which ends with it: an interrupt at any moment leaves nothing chosen.
    """

    def run() -> Any:
        override.set(recorder)
        return f(*args, **kwargs)

    return copy_context().run(run)


def set_backend(name: str) -> None:
    """Choose the backend of this process: "naive" or "cpu" for NumPy arrays, "cuda" for CuPy arrays.

    Raises BackendError where that backend is unavailable.
    """
    global default  # noqa: PLW0603 - the process-wide default is what this function is for
    default = require(name)


def use_backend(name: str) -> AbstractContextManager[None]:
    """Choose the backend inside a ``with`` block, in this thread or task only.

    RuntimeError in a program that is being recorded: it has the backend that was chosen around its call.
    """
    if recorder() is not None:
        raise RuntimeError(
            f"use_backend: got {name!r} in a program, wants the backend chosen around the program's call"
        )
    return chosen(require(name))


@cache
def implementation(backend: str, module: str, name: str) -> Callable[..., Any]:
    """The function that implements an op: ``fastnn.kernels.<backend>.<module>.<name>``."""
    require(backend)
    function: Callable[..., Any] = getattr(importlib.import_module(f"fastnn.kernels.{backend}.{module}"), name)
    return function


def arrays_of(backend: str) -> Arrays:
    """The kind of arrays that a backend's programs take."""
    arrays: Arrays = implementation(backend, "program", "Replay").arrays  # type: ignore[attr-defined]
    return arrays


def get_precision() -> str:
    """The format that products of float32 CUDA arrays are computed in now: "float32", "tf32" or "bfloat16"."""
    return precision.current()


def set_precision(name: str) -> None:
    """Choose, for this process, the format of products of float32 CUDA arrays in ``fastnn.ops``.

    "float32", the default, is exact to rounding. "tf32" and "bfloat16" round the operands to 11 and 8 bits and sum
    their products in float32, on the tensor cores of a device of compute capability 8.0 or later; on an earlier one
    products raise RuntimeError. Float64 arrays, and NumPy arrays, are multiplied exactly whatever is chosen; what a
    model trains with is its own ``compile(precision=...)``. Raises ValueError for another name.
    """
    precision.default = checks.one_of("precision", name, precision.PRECISIONS)


def use_precision(name: str) -> AbstractContextManager[None]:
    """Choose the format of products inside a ``with`` block, in this thread or task only; else as ``set_precision``."""
    return setting(precision.override, checks.one_of("precision", name, precision.PRECISIONS))


# What ops remember of earlier calls.
_plans: list[dict[Any, Callable[..., Any]]] = []


def new_plans() -> dict[Any, Callable[..., Any]]:
    """Room for an op's plans, which ``forget`` empties."""
    _plans.append({})
    return _plans[-1]


def forget() -> None:
    """Look all implementations up again at their next call: one of them was replaced."""
    implementation.cache_clear()
    for plans in _plans:
        plans.clear()


def get_num_threads() -> int:
    """The number of threads that CPU kernels use: FASTNN_NUM_THREADS, else what affinity and cgroup quota leave."""
    from fastnn.kernels.cpu.teams import threads

    return threads.get_num_threads()


def set_num_threads(threads: int) -> None:
    """Choose the number of threads of the CPU kernels, for this process; results do not depend on it."""
    from fastnn.kernels.cpu.teams import threads as kernel_threads

    kernel_threads.set_num_threads(checks.integer("threads", threads, 1))


def use_num_threads(threads: int | None) -> AbstractContextManager[None]:
    """Choose the number of threads of the CPU kernels inside a ``with`` block, in this Python thread or task only.

    None leaves the number as it is. Raises TypeError or ValueError at once, before the block is entered.
    """
    from fastnn.kernels.cpu.teams import threads as kernel_threads

    return kernel_threads.use_num_threads(None if threads is None else checks.integer("threads", threads, 1))


def warmup(dtypes: Sequence[str] = DTYPES) -> None:
    """Compile ahead what training and ops on the CPU would compile on first use, so that no later call waits for it.

    After an installation or an upgrade this takes up to a minute or so of one core for each of ``dtypes`` ("float32",
    "float64") and leaves 5 MB each in the kernels' cache, which ``fastnn info`` names; from then on it loads them in
    about half a second. Raises BackendError where the CPU backend cannot serve.
    """
    if isinstance(dtypes, str) or not isinstance(dtypes, Sequence):
        raise TypeError(f"dtypes: got {checks.describe(dtypes)}, wants a list such as ['float32']")
    chosen = [checks.one_of(f"dtypes[{index}]", name, DTYPES) for index, name in enumerate(dtypes)]
    require("cpu")
    from fastnn.kernels.cpu import jit

    jit.compile_all([np.dtype(name) for name in chosen])
