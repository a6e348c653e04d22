"""The stopwatch: contenders take turns, block by block, and medians are compared.

Why blocks and pauses. After a product OpenBLAS's workers busy-wait for about 100 ms, ours for less than 1: on a machine
of few cores the next contender would share them with a spinning thread. So each block starts when this process has gone
quiet (``settle``), then makes one untimed call, which wakes the contender's own workers and brings its operands back to
the caches, and then the timed ones. Operands are as hot as they stay in the caches between two calls.

Why turns. Other work on the machine, clock and temperature change over seconds; two blocks a fraction of a second apart
see the same machine, so ratios are steadier than times.

Why a clock that can stand still. What a contender does before an epoch of a fit is no part of the epoch; it happens
``uncounted``, wherever in a call it stands.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

Run = Callable[[], object]

_MOST_CALLS = 10_000
_QUIET_SECONDS = 0.005
_QUIET_SHARE = 0.1  # of one core
_SETTLE_SECONDS = 0.5


class _Stopwatch:
    """Seconds since some start, without those for which it stood still.

    Of the clock on the wall, or ``of_the_cpu`` of all threads of this process.
    """

    def __init__(self) -> None:
        self.of_the_cpu = False
        self._skipped = 0.0
        self._stopped: float | None = None

    def read(self) -> float:
        return (self._now() if self._stopped is None else self._stopped) - self._skipped

    def stop(self) -> None:
        if self._stopped is None:
            self._stopped = self._now()

    def start(self) -> None:
        if self._stopped is not None:
            self._skipped += self._now() - self._stopped
            self._stopped = None

    def _now(self) -> float:
        return time.process_time() if self.of_the_cpu else time.perf_counter()


_watch = _Stopwatch()


def count_cpu_time(of_the_cpu: bool) -> None:
    """Let the clock count this process's time on the CPU, which no other process makes longer, or again all time."""
    _watch.of_the_cpu = of_the_cpu


def clock() -> float:
    """Seconds that count: the clock of every measurement here."""
    return _watch.read()


@contextmanager
def uncounted() -> Iterator[None]:
    """Stop the clock inside a ``with`` block, but for the epochs that ``LaterEpochs`` lets count."""
    _watch.stop()
    try:
        yield
    finally:
        _watch.start()


class LaterEpochs:
    """Callback methods, as Keras and fastnn call them: inside ``uncounted``, let every epoch but the first count."""

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Start the clock."""
        if epoch:
            _watch.start()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Stop the clock."""
        _watch.stop()


@dataclass(frozen=True)
class Sample:
    """Seconds a call: the median of each block, in order."""

    blocks: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Median of the blocks."""
        return statistics.median(self.blocks)


@dataclass(frozen=True)
class Ratio:
    """How many times as fast: ratio of the medians, with the quartiles of the ratios of neighbouring blocks."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{figure(self.median)} [{figure(self.low)}-{figure(self.high)}]"


def joined(samples: Iterable[Sample]) -> Sample:
    """The sample of the blocks of all."""
    return Sample(tuple(seconds for sample in samples for seconds in sample.blocks))


def figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Three significant digits in s, ms or us."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{figure(seconds / scale)} {unit}"
    return f"{figure(seconds / 1e-6)} us"


def size_text(size: float) -> str:
    """Bytes in the largest unit that leaves a number above 1."""
    for unit in ("B", "KiB"):
        if size < 1024:
            return f"{figure(size)} {unit}"
        size /= 1024
    return f"{figure(size)} MiB"


def ratio(slow: Sample, fast: Sample) -> Ratio:
    """How many times as fast ``fast`` is as ``slow``; both from one ``interleave``."""
    pairs = [a / b for a, b in zip(slow.blocks, fast.blocks, strict=True)]
    if len(pairs) < 2:
        return Ratio(pairs[0], pairs[0], pairs[0])
    low, _, high = statistics.quantiles(pairs, n=4, method="inclusive")
    return Ratio(slow.seconds / fast.seconds, low, high)


def settle() -> None:
    """Wait until no thread of this process spins any more, at most half a second."""
    deadline = time.perf_counter() + _SETTLE_SECONDS
    while time.perf_counter() < deadline:
        busy, start = time.process_time(), time.perf_counter()
        time.sleep(_QUIET_SECONDS)
        if time.process_time() - busy < _QUIET_SHARE * (time.perf_counter() - start):
            return


def interleave(runs: Mapping[str, Run], blocks: int, block_seconds: float) -> dict[str, Sample]:
    """Time each contender in ``blocks`` blocks of about ``block_seconds``, by turns; the order reverses every round."""
    counts = {name: calls(run, block_seconds) for name, run in runs.items()}
    return by_turns({name: partial(block, run, counts[name]) for name, run in runs.items()}, blocks)


def by_turns(stints: Mapping[str, Callable[[], float]], blocks: int) -> dict[str, Sample]:
    """What the stint of each contender finds, which times a block, as often as that; the order reverses every round."""
    seconds: dict[str, list[float]] = {name: [] for name in stints}
    for turn in range(blocks):
        for name in list(stints) if turn % 2 == 0 else reversed(list(stints)):
            seconds[name].append(stints[name]())
    return {name: Sample(tuple(times)) for name, times in seconds.items()}


def alone(run: Run, blocks: int) -> Sample:
    """Time calls of one contender that takes long enough to need no block."""
    return Sample(tuple(_timed(run) for _ in range(blocks)))


def calls(run: Run, block_seconds: float) -> int:
    """Warm up (kernels compile on the first call), then count the calls that fill a block."""
    run()
    took = _timed(run)
    if took < block_seconds:
        took = min(took, _timed(run))
    return max(1, min(_MOST_CALLS, int(block_seconds / took)))


def block(run: Run, count: int) -> float:
    """Median seconds of ``count`` calls, once this process is quiet and after one call that does not count."""
    settle()
    run()
    return statistics.median(_timed(run) for _ in range(count))


def _timed(run: Run) -> float:
    start = clock()
    run()
    return clock() - start
