"""The formats that products of float32 arrays are computed in on a device: exact, or of rounded operands.

"float32" is exact to rounding. "tf32" (11 bits of a number) and "bfloat16" (8 bits) round the operands and sum their
products in float32, on tensor cores. One name for the process, and an override for the current context (thread or
task).
"""

from __future__ import annotations

from contextvars import ContextVar

PRECISIONS = ("float32", "tf32", "bfloat16")
ROUNDED = PRECISIONS[1:]

default = PRECISIONS[0]
override: ContextVar[str | None] = ContextVar("fastnn_precision", default=None)


def current() -> str:
    """The name of the format that is meant now."""
    return override.get() or default
