"""Threads: how many, when they pay, and when they must not be started.

Kernels split their outputs over ``count`` tasks, never a sum, so results are bit-identical for any number of threads.
"""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path

_ENVIRONMENT = "FASTNN_NUM_THREADS"

# A parallel region costs some microseconds to open; below this many nanoseconds of estimated work it does not pay.
SERIAL_BELOW_NS = 10_000.0

_state = {"threads": 0, "started": False, "single": False, "forked": False}
# Numba's workqueue layer aborts the process when two threads enter it at once: then only one may.
_single = threading.Lock()


def default_threads() -> int:
    """``FASTNN_NUM_THREADS``, else the CPUs that affinity and the cgroup quota leave to this process."""
    wanted = os.environ.get(_ENVIRONMENT)
    if wanted is not None:
        if not wanted.strip().isdigit() or int(wanted) < 1:
            raise ValueError(f"{_ENVIRONMENT}: got {wanted!r}, wants an integer of at least 1")
        return int(wanted)
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _cgroup_cpus()))


def _cgroup_cpus() -> int:
    """CPUs of the control group's quota, rounded up; a large number without a quota."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return 1 << 16


def get_num_threads() -> int:
    """The number of threads that kernels use."""
    if not _state["threads"]:
        _state["threads"] = default_threads()
    return _state["threads"]


def set_num_threads(threads: int) -> None:
    """Choose the number of threads; results do not depend on it."""
    _state["threads"] = threads


def count(nanoseconds: float) -> int:
    """The number of tasks for this much work: 1 where threads do not pay or must not be started."""
    threads = get_num_threads()
    if threads == 1 or nanoseconds < SERIAL_BELOW_NS or _state["forked"]:
        return 1
    return threads


def layer() -> str:
    """Numba's threading layer, "not started" before the first parallel region."""
    import numba

    try:
        return str(numba.threading_layer())  # type: ignore[attr-defined]
    except ValueError:
        return "not started"


class region:  # noqa: N801 - reads as what it is in a `with` statement
    """``with region(tasks) as entered``: on ``tasks`` threads, unless a parallel region must not be opened now."""

    __slots__ = ("entered", "others", "tasks")

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks

    def __enter__(self) -> bool:
        import numba

        if not _state["started"]:
            _start()
        self.entered = not _state["single"] or _single.acquire(blocking=False)
        self.others = numba.get_num_threads()
        if self.entered and self.tasks < self.others:
            numba.set_num_threads(self.tasks)
        return self.entered

    def __exit__(self, *_: object) -> None:
        import numba

        if not self.entered:
            return
        if self.tasks < self.others:
            numba.set_num_threads(self.others)
        if _state["single"]:
            _single.release()


def _start() -> None:
    """Before the first parallel region: choose Numba's threading layer, and prepare for forks."""
    from numba.np.ufunc import parallel

    parallel._launch_threads()
    _state["single"] = layer() == "workqueue"
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
    _state["started"] = True


def _after_fork() -> None:
    """A child forked after a parallel region has no worker threads, and GNU OpenMP kills it at its next region."""
    global _single  # noqa: PLW0603 - the parent's lock may be held by a thread that the child does not have
    _state["forked"] = True
    _single = threading.Lock()
