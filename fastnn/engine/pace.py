"""How much to do between two looks at what else there is: interrupts, the progress line."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

# A call that nothing can break into lasts about so long.
CALL_SECONDS = 0.05


class Pace:
    """How much to ask of one call, steps or samples: ``least`` until their time is known."""

    def __init__(self, least: int = 1) -> None:
        self._least = least
        self._seconds = 0.0  # of one, when last measured

    @property
    def amount(self) -> int:
        """What is done in ``CALL_SECONDS``."""
        return max(self._least, int(CALL_SECONDS / self._seconds)) if self._seconds else self._least

    def measured(self, amount: int, seconds: float) -> None:
        """Take note of how long so much has taken."""
        self._seconds = seconds / amount


def paced(some: Callable[[int, int], int]) -> Callable[[int, int], int]:
    """``some(first, most)``, which does up to ``most`` and says how many, asked for no more than the pace allows."""
    pace = Pace()

    def asked(first: int, most: int) -> int:
        started = perf_counter()
        made = some(first, min(most, pace.amount))
        pace.measured(made, perf_counter() - started)
        return made

    return asked
