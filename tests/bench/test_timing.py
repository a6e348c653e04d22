"""The stopwatch on contenders whose cost is known."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from bench import load, timing
from bench.timing import Sample


def waits(milliseconds, calls):
    def run():
        calls.append(milliseconds)
        time.sleep(milliseconds / 1000)

    return run


def test_interleave_takes_turns_and_measures_each_contender():
    calls = []
    samples = timing.interleave({"slow": waits(4, calls), "fast": waits(1, calls)}, blocks=4, block_seconds=0.004)
    assert [len(sample.blocks) for sample in samples.values()] == [4, 4]
    assert samples["slow"].seconds == pytest.approx(0.004, rel=0.5)
    timed = calls[6:]  # three calls each to warm up and to count
    turns = [timed[0], *(b for a, b in pairwise(timed) if a != b)]
    assert turns == [4, 1, 4, 1, 4][: len(turns)]  # reversed every round: two blocks of the same contender meet
    assert timing.ratio(samples["slow"], samples["fast"]).median == pytest.approx(4, rel=0.5)


def test_the_clock_stands_still_where_time_does_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    def fit():
        epochs = timing.LaterEpochs()
        with timing.uncounted():
            wait(100)
            for epoch, seconds in enumerate((10, 1, 2)):
                epochs.on_epoch_begin(epoch)
                wait(seconds)
                epochs.on_epoch_end(epoch, {})
                wait(20)
        wait(0.5)

    assert timing._timed(fit) == 3.5
    assert timing._timed(fit) == 3.5
    assert timing._timed(lambda: wait(4)) == 4


def test_the_clock_counts_the_cpus_time_where_it_is_told_to(monkeypatch):
    wall, cpu = [0.0], [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: wall[0])
    monkeypatch.setattr(timing.time, "process_time", lambda: cpu[0])

    def work():
        wall[0] += 5
        cpu[0] += 2
        with timing.uncounted():
            wall[0] += 50
            cpu[0] += 20

    try:
        timing.count_cpu_time(True)
        assert timing._timed(work) == 2
    finally:
        timing.count_cpu_time(False)
    assert timing._timed(work) == 5


def test_the_clock_runs_on_after_a_contender_failed():
    with pytest.raises(ValueError, match="no data"), timing.uncounted():
        raise ValueError("no data")
    start = timing.clock()
    time.sleep(0.001)
    assert timing.clock() > start


def test_ratio_of_medians_with_quartiles_of_neighbours():
    slow = Sample((2.0, 4.0, 6.0, 8.0, 10.0))
    fast = Sample((1.0, 1.0, 2.0, 2.0, 2.0))
    assert timing.ratio(slow, fast) == timing.Ratio(median=3.0, low=3.0, high=4.0)


def test_samples_are_joined_by_their_blocks():
    found = timing.joined([Sample((5.0,)), Sample((1.0, 2.0))])
    assert (found.blocks, found.seconds) == ((5.0, 1.0, 2.0), 2.0)


def test_ratio_of_one_block():
    assert timing.ratio(Sample((3.0,)), Sample((2.0,))) == timing.Ratio(1.5, 1.5, 1.5)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(12.34, "12.3 s"), (1.0, "1 s"), (0.5, "500 ms"), (1e-3, "1 ms"), (9.87e-7, "0.987 us")]
)
def test_durations_have_three_digits_and_their_unit(seconds, expected):
    assert timing.duration(seconds) == expected


@pytest.mark.parametrize(
    ("size", "expected"), [(64, "64 B"), (48 << 10, "48 KiB"), (5 << 18, "1.25 MiB"), (2 << 30, "2,048 MiB")]
)
def test_sizes_have_three_digits_and_their_unit(size, expected):
    assert timing.size_text(size) == expected


def test_settle_waits_for_spinning_threads(monkeypatch):
    seconds = iter([0.0, 0.005, 0.005, 0.010, 0.010, 0.010])  # of CPU: two busy periods, then a quiet one
    slept = []
    monkeypatch.setattr(timing.time, "process_time", lambda: next(seconds))
    monkeypatch.setattr(timing.time, "sleep", slept.append)
    clock = iter(x * 0.005 for x in range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    timing.settle()
    assert len(slept) == 3


def test_watch_counts_others_only():
    watch = load.Watch()
    end = time.perf_counter() + 0.1
    while time.perf_counter() < end:
        pass
    assert 0 <= watch.others() < (load.os.cpu_count() or 1)


def test_watch_takes_what_is_told_to_be_own_for_own(monkeypatch):
    now = iter([(0.0, 0.0), (10.0, 15.0)])  # on the clock, of all cores' work
    seconds = iter([1.0, 13.0])

    def read(self):
        return (*next(now), self._own())

    monkeypatch.setattr(load.Watch, "_now", read)
    assert load.Watch(lambda: next(seconds)).others() == pytest.approx((15 - 12) / 10)
