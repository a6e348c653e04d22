"""Threads: how many, and when they pay.

Kernels split their outputs over ``count`` tasks, never a sum, so results are bit-identical for any number of threads.
"""

from __future__ import annotations

import math
import os
import re
from contextvars import ContextVar
from functools import cache
from pathlib import Path, PurePosixPath

from fastnn.kernels.contexts import setting

_ENVIRONMENT = "FASTNN_NUM_THREADS"

# To give others a share costs some microseconds; below this many nanoseconds of estimated work it does not pay.
SERIAL_BELOW_NS = 10_000.0

# One number for the process, and an override for the current context (a Python thread or task); 0 where none is chosen.
_default = 0
_override: ContextVar[int] = ContextVar("fastnn_threads", default=0)


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
    chosen = _override.get() or _default
    if not chosen:
        set_num_threads(chosen := default_threads())
    return chosen


def set_num_threads(threads: int) -> None:
    """Choose the number of threads; results do not depend on it."""
    global _default  # noqa: PLW0603 - the number for the process is what this function is for
    _default = threads


def use_num_threads(threads: int | None) -> setting[int]:
    """Choose the number inside a ``with`` block, in this Python thread or task only; None leaves it as it is."""
    return setting(_override, threads)


def count(nanoseconds: float) -> int:
    """The number of tasks for this much work: 1 where threads do not pay."""
    return 1 if nanoseconds < SERIAL_BELOW_NS else get_num_threads()
