"""Matrix products as three nested loops, by NumPy, and by the compiled kernels: 8x8 to 512x512."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from fastnn import ops, plotting, use_backend


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Time them; the figures are how many times as fast as the loops a side is at the largest size of these."""
    rng = np.random.default_rng(seed)
    sizes = [8, 16, 32] if quick else [8, 16, 32, 64, 128, 256, 512]
    most_by_loops = 16 if quick else 128  # 512x512 would take them a minute
    seconds: dict[str, list[float]] = {"loops": [], "NumPy": [], "compiled": []}
    for size in sizes:
        a, b = rng.random((2, size, size), "float32")
        if size <= most_by_loops:
            with use_backend("naive"):
                seconds["loops"].append(_seconds(partial(ops.matmul, a, b), 3))
        seconds["NumPy"].append(_seconds(partial(np.matmul, a, b), 9))
        seconds["compiled"].append(_seconds(partial(ops.matmul, a, b), 9))
    print(f"{'size':>6}" + "".join(f"{name:>14}" for name in seconds))
    for place, size in enumerate(sizes):
        row = (f"{times[place] * 1e6:11,.1f} us" if place < len(times) else " " * 14 for times in seconds.values())
        print(f"{size:6}" + "".join(row))
    _draw(out, sizes, seconds)
    last = len(seconds["loops"]) - 1
    return {name: seconds["loops"][last] / seconds[name][last] for name in ("NumPy", "compiled")}


def _seconds(call: Callable[[], Any], times: int) -> float:
    """The shortest of several calls, which others disturb least; the first, which may compile, does not count."""
    call()
    measured = []
    for _ in range(times):
        started = perf_counter()
        call()
        measured.append(perf_counter() - started)
    return min(measured)


def _draw(out: Path, sizes: list[int], seconds: dict[str, list[float]]) -> None:
    figure, (axes,) = plotting.empty_figure(
        1, "A product of two square matrices", "float32, the shortest of several calls"
    )
    for (name, times), colour, marker in zip(seconds.items(), plotting.SERIES, plotting.MARKERS, strict=False):
        axes.loglog(sizes[: len(times)], times, label=name, color=colour, marker=marker, linewidth=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("rows and columns")
    axes.set_ylabel("seconds")
    axes.legend(frameon=False)
    plotting.tidy(axes)
    plotting.save(figure, out / "naive-against-compiled.png")
