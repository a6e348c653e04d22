"""What other processes do during a measurement: the cores they keep busy, from the kernel's accounts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

# Fields of /proc/stat's first line that are not work: idle and iowait. (guest time is part of user time already.)
_IDLE_FIELDS = (3, 4)
_WORK_FIELDS = 8  # user nice system idle iowait irq softirq steal


class Watch:
    """Cores that others (other processes, other guests of the machine) use while it runs; 0 where nothing tells.

    ``own`` gives the seconds of work that are not others': this process's.
    """

    def __init__(self, own: Callable[[], float] = time.process_time) -> None:
        self._own = own
        self._start = self._now()

    def others(self) -> float:
        """Average number of cores in use by others since the start."""
        start, now = self._start, self._now()
        if now is None or start is None or now[0] <= start[0]:
            return 0.0
        elapsed, busy, own = (b - a for a, b in zip(start, now, strict=True))
        return max(0.0, (busy - own) / elapsed)

    def _now(self) -> tuple[float, float, float] | None:
        """Seconds: on the clock, of all cores' work, of our own work."""
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1 : 1 + _WORK_FIELDS]
            ticks = [int(field) for field in fields]
        except (OSError, ValueError):
            return None
        busy = sum(ticks) - sum(ticks[field] for field in _IDLE_FIELDS)
        return time.perf_counter(), busy / os.sysconf("SC_CLK_TCK"), self._own()
