"""Shared by all tests: the oracle on the path, real data where the environment names it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "kernels"))
