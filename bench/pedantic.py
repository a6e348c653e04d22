"""One contender of one case under pytest-benchmark, with its rates in ``extra_info``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest

from bench import timing
from bench.suite import NAIVE, NOT_INSTALLED, Case, Workload, installed

_ROUNDS, _SLOW_ROUNDS = 20, 3
_ROUND_SECONDS = 0.02


@lru_cache(maxsize=1)
def _checked(case: Case) -> Workload:
    """The case's workload, kept while its contenders follow each other."""
    workload = case.make()
    workload.check()
    return workload


def run(case: Case, contender: str, benchmark: Any) -> None:
    """Benchmark a contender; skipped where the case lacks it."""
    if case.skip:
        pytest.skip(case.skip)
    workload = _checked(case)
    if contender not in workload.contenders:
        pytest.skip(f"{contender} {'has no part in this line' if installed(contender) else NOT_INSTALLED}")
    chosen = workload.contenders[contender]
    slow = case.slow or contender == NAIVE
    iterations = 1 if slow else timing.calls(chosen.run, _ROUND_SECONDS)
    benchmark.group = case.name
    timing.settle()
    benchmark.pedantic(
        chosen.run, rounds=_SLOW_ROUNDS if slow else _ROUNDS, iterations=iterations, warmup_rounds=not slow
    )
    if benchmark.stats is None:  # --benchmark-disable
        return
    median = benchmark.stats.stats.median
    benchmark.extra_info["GB/s"] = chosen.bytes / median / 1e9
    if chosen.flops:
        benchmark.extra_info["GFLOP/s"] = chosen.flops / median / 1e9
    if chosen.note:
        benchmark.extra_info["sizes"] = chosen.note
