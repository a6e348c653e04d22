"""``fastnn bench kernels|training --backend cuda``: measure, print tables, keep them as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from bench import environment, report
from bench.cuda import kernels, limits, training
from bench.measure import Bar, Reading
from bench.suite import in_a_line
from fastnn import backends
from fastnn.errors import BackendError

_Job = kernels.Job | training.Job

# What a device runs, by the group's name on the command line.
GROUPS: dict[str, Callable[[bool], Sequence[_Job]]] = {"kernels": kernels.jobs, "training": training.jobs}

PACKAGES = ("fastnn-kernels", "numpy", "torch", "jax")
_FAILED = 2


def run(options: argparse.Namespace) -> int:
    """Measure the lines that the options name; 0, 1 where results disagreed, 2 with one line where no device is."""
    (group,) = options.groups
    chosen = [job for job in GROUPS[group](options.quick) if options.only is None or options.only.search(job.name)]
    if options.list:
        print("\n".join(job.name for job in chosen))
        return 0
    try:
        backends.require("cuda")
    except BackendError as error:
        reason = " ".join(str(error).split())
        print(f"fastnn bench: error: {reason}", file=sys.stderr)
        return _FAILED
    import cupy

    effort = kernels.QUICK if options.quick else kernels.FULL
    return _run(cupy, group, chosen, effort, options.json, options.seconds)


def _run(
    cupy: Any, group: str, chosen: Sequence[_Job], effort: kernels.Effort, written: Path | None, seconds: float
) -> int:
    started = perf_counter()
    facts = {**limits.facts(cupy), "cpu": environment.cpu(), **environment.software(PACKAGES)}
    print(environment.heading(facts), flush=True)
    device = kernels.prepared(cupy, effort)
    results = report.Results()
    results.readings = [Reading(name, unit, (value,), None, None) for name, value, unit in kernels.readings(device)]
    print(f"\nmeasured in this run, on {facts['device']}\n{report.readings_table(results.readings)}", flush=True)
    for number, job in enumerate(chosen, 1):
        if perf_counter() - started > seconds:
            print(f"{len(chosen) - number + 1} of {len(chosen)} lines left out: {seconds:.0f} s are over")
            results.unjudged += [bar for left in chosen[number - 1 :] for bar in _unjudged(left, "no time was left")]
            break
        report.progress(f"{number}/{len(chosen)} {job.name}")
        _measure(job, device, effort, results)
        cupy.get_default_memory_pool().free_all_blocks()
    report.progress("")
    if results.lines:
        print(f"\n{group}, on {facts['device']}\n{report.table(results.lines)}")
    for (peer, op), reason in device.failed.items():
        print(f"{op}: measured without {peer}, which failed: {reason}")
    if results.bars:
        print(f"\npromised, on {facts['device']}\n{report.bars_table(results.bars)}")
    print(f"\n{report.bars_met(results.bars)}{perf_counter() - started:.0f} s")
    if written is not None:
        written.write_text(json.dumps({"environment": facts, **results.as_json()}, indent=1) + "\n")
    return 1 if results.wrong else 0


def _measure(job: _Job, device: kernels.Device, effort: kernels.Effort, results: report.Results) -> None:
    """One line, or why there is none: a kernel that is missing or fails must not cost the others'."""
    try:
        results.lines.append(job.measured(device, effort))
    except AssertionError as error:
        results.wrong += 1
        print(f"{job.name}: results disagree, not timed: {error}", file=sys.stderr)
    except Exception as error:  # of CUDA, of a peer: whatever it is, it is this line's
        reason = in_a_line(error)
        results.wrong += not isinstance(error, BackendError | ImportError | MemoryError)
        results.unjudged += _unjudged(job, reason)
        print(f"{job.name}: not measured: {reason}", file=sys.stderr)


def _unjudged(job: _Job, reason: str) -> list[Bar]:
    """What was promised of a line that was not measured."""
    bars = [Bar(job.name, name, reason, f"at least {bar:g}x", None) for name, bar in job.at_least.items()]
    if job.share_at_least is not None:
        bars.append(Bar(job.name, "", reason, f"at least {job.share_at_least:.0%} of the limit", None))
    return bars
