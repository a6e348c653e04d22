"""Tests of the library: some run on the host that stands in for a device, without its kernels."""

from __future__ import annotations

from tests.cuda_host.places import device

__all__ = ["device"]
