"""From lists of Python floats to the array that an op returns."""

from __future__ import annotations

from typing import Any

import numpy as np


def deliver(values: Any, shape: tuple[int, ...], dtype: Any, out: Any = None) -> Any:
    """``values`` (nested or flat) as an array of ``shape`` and ``dtype``, or written into ``out``."""
    with np.errstate(over="ignore"):  # a double beyond float32's range is inf, as in float32 arithmetic
        result = np.array(values, dtype=np.float64).reshape(shape).astype(dtype)
    if out is None:
        return result
    out[...] = result
    return out
