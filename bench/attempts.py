"""When a measurement is made again, how its attempts are joined, and when it was disturbed: for benchmarks and gate.

Other processes, and other guests of the machine, come and go. So a measurement is made in attempts, and each knows how
many cores others used meanwhile (``load.Watch``). Three rules hold for a line of ``fastnn bench``, for a point of
``fastnn bench scaling`` and for a line of the performance gate:

- Made again: while the attempts do not tell. Only an odd number of them may, since the median of an even number lies
  between two that may be at odds; ``most``, which is odd, are enough whatever they say.
- Joined: by the median, of what was found (of all blocks, where an attempt has several) as of the cores that others
  used. What disturbs fewer than half of the attempts does not show.
- Disturbed: where others left less than the threads need, a tenth of a core beside, which is the kernel's own
  housekeeping: cores - median(others) < threads - 1/10.

What tells is for each to say: a benchmark's line was not disturbed, the gate's ratio is no close call. A point of a
scaling sweep is visited as often, an odd number of times, whatever it tells.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from typing import TypeVar

_HOUSEKEEPING = 0.1

Attempt = TypeVar("Attempt")


def enough(attempts: Sequence[Attempt], tell: Callable[[Sequence[Attempt]], bool], most: int) -> bool:
    """Whether no further attempt is made: an odd number of them ``tell``, or there are ``most``."""
    return len(attempts) >= most or (len(attempts) % 2 == 1 and tell(attempts))


def disturbed(others: Sequence[float], threads: int) -> bool:
    """Whether others took a core that ``threads`` needed; ``others`` are the cores they used, attempt by attempt."""
    return (os.cpu_count() or 1) - statistics.median(others) < threads - _HOUSEKEEPING
