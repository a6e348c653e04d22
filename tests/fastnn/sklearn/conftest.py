"""Tests of estimators: some run on the host that stands in for a device (slow), and on a device (gpu)."""

from __future__ import annotations

from tests.cuda_host.places import cupy

__all__ = ["cupy"]
