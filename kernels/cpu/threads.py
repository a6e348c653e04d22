"""Threads: how many, when they pay, and when they must not be started.

Kernels split their outputs over ``count`` tasks, never a sum, so results are bit-identical for any number of threads.
"""

from __future__ import annotations

import math
import os
import re
import sys
import threading
from contextvars import ContextVar
from functools import cache
from pathlib import Path, PurePosixPath

_ENVIRONMENT = "FASTNN_NUM_THREADS"

# A parallel region costs some microseconds to open; below this many nanoseconds of estimated work it does not pay.
SERIAL_BELOW_NS = 10_000.0

_state = {"threads": 0, "started": False, "launched": 0, "single": False, "forked": False}
# Overrides ``_state`` in the current context: a Python thread or task; 0 where nothing does.
_override: ContextVar[int] = ContextVar("fastnn_threads", default=0)
# Numba's workqueue layer aborts the process when two threads enter it at once: then only one may.
_single = threading.Lock()


def default_threads() -> int:
    """``FASTNN_NUM_THREADS``, else the CPUs that affinity and the cgroup quota leave to this process."""
    wanted = os.environ.get(_ENVIRONMENT)
    if wanted is not None:
        if not re.fullmatch(r"\s*[0-9]{1,9}\s*", wanted) or int(wanted) < 1:
            raise ValueError(f"{_ENVIRONMENT}: got {wanted!r}, wants an integer of at least 1")
        return int(wanted)
    return _cpus()


def _cpus() -> int:
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _cgroup_cpus()))


@cache
def available() -> int:
    """The CPUs that affinity and the cgroup quota leave to this process, as they were when first asked for."""
    return _cpus()


def _cgroup_cpus(root: Path = Path("/")) -> int:
    """CPUs that the quotas of this process's control groups leave it, rounded up; a large number without a quota.

    A group's quota binds the groups inside it too, so all of them count, up to the root: a container's own quota often
    stands there, because the path that it is told is the host's.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    quotas = [float(1 << 16)]
    for line in (*lines, "0::/"):
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")  # version 2 has one hierarchy, without a name
        group = PurePosixPath(path.lstrip("/"))
        quotas += [_quota(mount / inside) for inside in (group, *group.parents)]
    return math.ceil(min(quotas))


def _quota(group: Path) -> float:
    """CPUs that one control group may use, of version 2 or 1; infinity without a quota."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = map(int, " ".join((group / file).read_text() for file in files).split())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if min(quota, period) > 0:  # -1 is no quota
            return quota / period
    return math.inf


def get_num_threads() -> int:
    """The number of threads that kernels use."""
    override = _override.get()
    if override:
        return override
    if not _state["threads"]:
        _state["threads"] = default_threads()
    return _state["threads"]


def set_num_threads(threads: int) -> None:
    """Choose the number of threads; results do not depend on it."""
    _state["threads"] = threads


class use_num_threads:  # noqa: N801 - reads as what it is in a `with` statement
    """Choose the number inside a ``with`` block, in this Python thread or task only; None leaves it as it is.

    No generator: one that an interrupt leaves behind would be closed at any time, in any context.
    """

    def __init__(self, threads: int | None) -> None:
        self._threads = threads

    def __enter__(self) -> None:
        self._token = _override.set(self._threads or _override.get())

    def __exit__(self, *_: object) -> None:
        _override.reset(self._token)


def count(nanoseconds: float) -> int:
    """The number of tasks for this much work: 1 where threads do not pay."""
    return 1 if nanoseconds < SERIAL_BELOW_NS else get_num_threads()


def layer() -> str:
    """Numba's threading layer, "not started" before the first parallel region."""
    import numba

    try:
        return str(numba.threading_layer())  # type: ignore[attr-defined]
    except ValueError:
        return "not started"


def at_hand(tasks: int) -> bool:
    """Whether a ``region`` of so many threads needs neither preparation nor care: the common case, told at once."""
    state = _state
    return bool(state["started"] and not state["single"] and not state["forked"] and tasks >= state["launched"])


class region:  # noqa: N801 - reads as what it is in a `with` statement
    """``with region(tasks) as entered``: on ``tasks`` threads, unless a parallel region must not be opened now."""

    __slots__ = ("entered", "others", "tasks")

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks

    def __enter__(self) -> bool:
        self.others = 0
        self.entered = False
        if _state["forked"]:
            return False
        start()
        self.entered = not _state["single"] or _single.acquire(blocking=False)
        if self.entered and self.tasks < _state["launched"]:
            import numba

            self.others = int(numba.get_num_threads())
            numba.set_num_threads(min(self.tasks, self.others))
        return self.entered

    def __exit__(self, *_: object) -> None:
        if self.others:
            import numba

            numba.set_num_threads(self.others)
        if self.entered and _state["single"]:
            _single.release()


# Turns of GNU OpenMP's waiting loop before a thread that waits for another sleeps. Its own 300,000 keep a core busy for
# some 10 ms while the other thread waits for that core: beside a busy process these add up. But fewer let threads fall
# asleep between one call of an op and the next: with 1,000 a product of 128x784x512 in a loop ran at half the speed
# that it has with 30,000 or more. What a fit calls waits in its own way (``team``).
_SPIN = {"GOMP_SPINCOUNT": "30000"}


def start() -> None:
    """Before the first parallel kernel is compiled or run: let Numba choose its threading layer."""
    if _state["started"]:
        return
    from numba.np.ufunc import parallel

    own = {} if {"OMP_WAIT_POLICY", *_SPIN} & os.environ.keys() else _SPIN
    os.environ.update(own)  # OpenMP reads it as it is loaded, here
    try:
        parallel._launch_threads()
    finally:
        for name in own:
            del os.environ[name]
    _state["single"] = layer() == "workqueue"
    _state["launched"] = parallel.get_thread_count()
    _state["started"] = True


def _after_fork() -> None:
    """A child forked after Numba's threads were started has none, and GNU OpenMP kills it at its next region.

    They may have been started by a compilation, or by kernels of the user's own.
    """
    global _single  # noqa: PLW0603 - the parent's lock may be held by a thread that the child does not have
    _single = threading.Lock()
    numba_parallel = sys.modules.get("numba.np.ufunc.parallel")
    if numba_parallel is not None and numba_parallel._is_initialized:
        _state["forked"] = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
