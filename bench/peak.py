"""The arithmetic that this machine can do at most, as ``fastnn info --peak`` measures it."""

from __future__ import annotations

import importlib
import importlib.util

_MODULE = "fastnn.kernels.cpu.peak"


def missing() -> str:
    """Why the peak cannot be measured here, if it cannot."""
    return "" if importlib.util.find_spec(_MODULE) else f"there is no {_MODULE}"


def measure(threads: int) -> float:
    """FLOP/s of independent fused multiply-adds, float32, on this many threads."""
    return float(importlib.import_module(_MODULE).measure(threads))
