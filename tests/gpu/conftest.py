"""What only a device shows, and what the host that stands in for one can show too (slow)."""

from __future__ import annotations

from tests.cuda_host.places import cupy

__all__ = ["cupy"]
