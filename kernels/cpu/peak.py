"""What the CPU can do at best: multiply-adds a second on registers, bytes a second from and to memory.

``fastnn info --peak`` prints it, so that a kernel's GFLOP/s can be read as a share of what is possible. The loops run
in Python threads, without the GIL; a run's time is that from the first thread's start to the last one's end, and the
best of several runs counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from time import perf_counter
from typing import Any

import numba
import numpy as np

from fastnn.kernels.cpu._arrays import aligned
from fastnn.kernels.cpu.compiler import machine
from fastnn.kernels.cpu.simd import library, peak

_RUNS = 20
# Long beside the wake-up of a thread, short beside a time slice.
_RUN_SECONDS = 0.005

# Two bfloat16 in the bits of one integer: 1 and 1, 1 and -1.
_ONES, _ONE_AND_MINUS_ONE = 0x3F803F80, 0xBF803F80

# Bytes of an array of the bandwidth's sum: a multiple of the last cache, but no more than any machine can spare.
_ARRAY_CACHES, _MOST_ARRAY_BYTES = 4, 256 << 20


def dtypes() -> tuple[str, ...]:
    """The dtypes whose multiply-adds the targeted CPU has."""
    return ("float32", "float64", *["bfloat16"] * machine.bfloat16_pairs())


def measure(dtype: str, threads: int) -> float:
    """FLOP/s of ``threads`` threads at once, each in a loop on ``peak.chains`` independent chains of multiply-adds.

    "bfloat16" is that of dot products of bfloat16, accumulated in float32.
    """
    rounds = 1024
    while _run_seconds(dtype, rounds, threads=1, runs=3) < _RUN_SECONDS:
        rounds *= 2
    return threads * rounds * round_flop(dtype) / _run_seconds(dtype, rounds, threads)


def round_flop(dtype: str) -> int:
    """FLOP of one round of the loop: 2 a number and chain, 4 for a lane that holds two bfloat16."""
    kind = _accumulator(dtype)
    lane = 4 if dtype == "bfloat16" else 2
    return lane * machine.tile(kind.itemsize).VL * peak.chains(numba.from_dtype(kind))


def run(dtype: str, rounds: int) -> Any:
    """x after so many rounds on x = 1, 2, 3, ..., one number a lane and chain.

    The rounds are x = 1/2 - x, to and fro between two numbers, and for "bfloat16" x = x + (1, 1) . (1, -1).
    """
    kind = _accumulator(dtype)
    lanes = machine.tile(kind.itemsize).VL
    a, b = aligned((lanes,), kind), aligned((lanes,), kind)
    if dtype == "bfloat16":
        a.view(np.uint32)[:], b.view(np.uint32)[:] = _ONES, _ONE_AND_MINUS_ONE
    else:
        a[:], b[:] = -1.0, 0.5
    x = aligned((peak.chains(numba.from_dtype(kind)) * lanes,), kind)
    x[:] = np.arange(1, x.size + 1)
    _loop(dtype)(rounds, a.ctypes.data, b.ctypes.data, x.ctypes.data)
    return x


def _run_seconds(dtype: str, rounds: int, threads: int, runs: int = _RUNS) -> float:
    return _seconds(lambda _: run(dtype, rounds), threads, runs)


def _accumulator(dtype: str) -> np.dtype[Any]:
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


@cache
def _loop(dtype: str) -> Callable[..., Any]:
    kernel = peak.PEAK_BFLOAT16 if dtype == "bfloat16" else peak.PEAK
    return library.function(kernel, numba.from_dtype(_accumulator(dtype)))


def bandwidth(threads: int) -> float:
    """Bytes a second of y = a + b on float64 arrays larger than the caches: two arrays read, one written."""
    bytes_ = min(_ARRAY_CACHES * machine.caches().l3, _MOST_ARRAY_BYTES)
    a, b, y = (np.ones(bytes_ // 8) for _ in range(3))
    parts = [slice(t * y.size // threads, (t + 1) * y.size // threads) for t in range(threads)]
    return 3 * y.nbytes / _seconds(lambda t: np.add(a[parts[t]], b[parts[t]], out=y[parts[t]]), threads)


def _seconds(work: Callable[[int], object], threads: int, runs: int = _RUNS) -> float:
    """Least seconds of several runs of ``work(thread)`` in all threads at once."""
    ready = threading.Barrier(threads)

    def timed(thread: int) -> list[tuple[float, float]]:
        spans = []
        for _ in range(runs):
            ready.wait()
            start = perf_counter()
            work(thread)
            spans.append((start, perf_counter()))
        return spans

    with ThreadPoolExecutor(threads) as pool:
        by_thread = list(pool.map(timed, range(threads)))
    by_run: Iterator[tuple[tuple[float, float], ...]] = zip(*by_thread, strict=True)
    return min(max(end for _, end in spans) - min(start for start, _ in spans) for spans in by_run)
