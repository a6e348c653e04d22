"""``pytest bench``: NumPy at its best, and the machine in the header."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import environment

environment.drop_blas_settings()


def pytest_report_header() -> list[str]:
    """The facts that a result must name."""
    return [f"{name}: {fact}" for name, fact in environment.facts().items()]
