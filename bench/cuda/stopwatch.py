"""The stopwatch of a device: CUDA events around many calls, or the clock on the wall around the same.

By events: the calls' time on the device, without that in which Python asks for them. Before the first event the device
gets copies to do, for as long as Python takes to ask for all the calls, so that it never waits for Python; where they
are many, as of small kernels, that would be what is measured else. By the wall: a loop of calls from its start until
the device is done, as a user's program sees it; the only clock for a library that has streams of its own (JAX).

Calls go over the operands' sets by turns: where all sets together are larger than L2, each finds its own in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bench import timing

EVENTS, WALL = "events", "wall"

# Launches wait in a queue of about a thousand; a call makes up to ten.
_MOST_CALLS = 80
# Calls that tell how long a call takes.
_PROBE_CALLS = 3
# Copies that keep the device busy take this much longer than Python does.
_SPARE = 1.5
_MOST_COVER_SECONDS = 0.1


@dataclass(frozen=True)
class Calls:
    """One contender: a call for each set of operands, how it is timed, and what waits until all of it is done."""

    runs: Sequence[Callable[[], Any]]
    clock: str
    wait: Callable[[Any], Any]


class Stopwatch:
    """Times calls on the current device and stream; ``copies`` are two arrays of one size, copied to fill time."""

    def __init__(self, cupy: Any, copies: tuple[Any, Any]) -> None:
        self._cupy, self._copies = cupy, copies
        self._start, self._stop = cupy.cuda.Event(), cupy.cuda.Event()
        self._copy()
        self._copy_seconds = self._by_events([self._copy] * 4)

    def samples(self, contenders: dict[str, Calls], blocks: int, block_seconds: float) -> dict[str, timing.Sample]:
        """Seconds a call of each contender, in ``blocks`` blocks of about ``block_seconds``, by turns."""
        stints = {name: self._stint(calls, block_seconds) for name, calls in contenders.items()}
        return timing.by_turns(stints, blocks)

    def _stint(self, calls: Calls, block_seconds: float) -> Callable[[], float]:
        """What times one block of a contender, which has been warmed up."""
        for run in calls.runs:  # kernels compile, and every set is touched
            calls.wait(run())
        asking, whole = self._probe(calls)
        wanted = max(1, min(_MOST_CALLS, int(block_seconds / max(whole, 1e-9))))
        sequence = [calls.runs[index % len(calls.runs)] for index in range(wanted)]
        if calls.clock == WALL:
            return lambda: self._by_wall(sequence, calls.wait)
        return lambda: self._by_events(sequence, cover=asking * wanted)

    def _probe(self, calls: Calls) -> tuple[float, float]:
        """Seconds that a call takes to be asked for, and until it is done."""
        start, last = perf_counter(), None
        for index in range(_PROBE_CALLS):
            last = calls.runs[index % len(calls.runs)]()
        asked = perf_counter()
        calls.wait(last)
        return (asked - start) / _PROBE_CALLS, (perf_counter() - start) / _PROBE_CALLS

    def _by_events(self, runs: Sequence[Callable[[], Any]], cover: float = 0.0) -> float:
        for _ in range(self._copies_for(cover)):
            self._copy()
        self._start.record()
        for run in runs:
            run()
        self._stop.record()
        self._stop.synchronize()
        return float(self._cupy.cuda.get_elapsed_time(self._start, self._stop)) / 1e3 / len(runs)

    def _by_wall(self, runs: Sequence[Callable[[], Any]], wait: Callable[[Any], Any]) -> float:
        self._cupy.cuda.runtime.deviceSynchronize()
        start, last = perf_counter(), None
        for run in runs:
            last = run()
        wait(last)
        return (perf_counter() - start) / len(runs)

    def _copies_for(self, seconds: float) -> int:
        """How many copies take longer than ``seconds`` of Python's."""
        if seconds <= 0:
            return 0
        return math.ceil(min(_MOST_COVER_SECONDS, _SPARE * seconds) / max(self._copy_seconds, 1e-6))

    def _copy(self) -> None:
        source, target = self._copies
        target[...] = source
