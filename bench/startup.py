"""What comes before and beside training: a fit's preparation, the first batch of a process, memory.

Everything is measured in processes of its own (``bench.child``), with the threads of this one.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bench import environment
from bench.suite import Gauge

_NO_DATA = "FASTNN_DATA names no folder of data files"


def gauges() -> list[Gauge]:
    """Every line, those without their data skipped."""
    missing = "" if os.environ.get("FASTNN_DATA") else _NO_DATA
    before = "fit before its first batch"
    return [
        Gauge(f"{before}, mnist, 188 MB of float32", "ms", partial(_prepare, "mnist"), at_most=60, skip=missing),
        Gauge(f"{before}, reuters, 359 MB of float32", "ms", partial(_prepare, "reuters"), at_most=120, skip=missing),
        Gauge("first batch of a new process, digits", "s", partial(_first_batch, "digits"), at_most=1.0),
        Gauge("first batch of a new process, mnist", "s", partial(_first_batch, "mnist"), skip=missing),
        Gauge("first batch ever, kernels still to compile, digits", "s", partial(_first_ever, "digits"), at_most=12),
        Gauge("first batch ever, kernels still to compile, mnist", "s", partial(_first_ever, "mnist"), skip=missing),
        Gauge(
            "peak memory of a fit beyond its data, mnist", "MB", partial(_memory, "mnist"), at_most=150, skip=missing
        ),
    ]


def _prepare(dataset: str, count: int) -> list[float]:
    return [_child("prepare", dataset) for _ in range(count)]


def _first_batch(dataset: str, count: int) -> list[float]:
    """The first process is not counted: it may have to compile."""
    return [_seconds_to_first_batch(dataset) for _ in range(1 + count)][1:]


def _first_ever(dataset: str, _: int) -> list[float]:
    """Once: it takes seconds, and nothing is warm that another reading could do without."""
    with tempfile.TemporaryDirectory() as folder:
        return [_seconds_to_first_batch(dataset, {"NUMBA_CACHE_DIR": folder})]


def _seconds_to_first_batch(dataset: str, variables: Mapping[str, str] | None = None) -> float:
    found: float = _child("first_batch", repr(time.monotonic()), dataset, variables=variables)
    return found


def _memory(dataset: str, count: int) -> list[float]:
    """Megabytes: what a process that trains holds at most, less what one holds that does not train.

    The first process is not counted: it may have to compile.
    """
    _child("peak", dataset, "yes")
    differences = []
    for _ in range(count):
        trained = _child("peak", dataset, "yes")
        idle = _child("peak", dataset, "no", given=trained["modules"])
        differences.append((trained["bytes"] - idle["bytes"]) / 1e6)
    return differences


def _child(*words: str, variables: Mapping[str, str] | None = None, given: Sequence[str] = ()) -> Any:
    """What ``python -m bench.child`` prints for these words."""
    return json.loads(environment.output_of("bench.child", words, variables, json.dumps(given)))
