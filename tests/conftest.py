"""Shared by all tests: the oracles on the path, one place for compiled kernels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for folder in ("kernels", "support"):
    sys.path.insert(0, str(Path(__file__).parent / folder))


@pytest.fixture(scope="session", autouse=True)
def _compiled_kernels_stay_where_they_are():
    """Tests move the user's cache to keep it out of theirs: not the kernels that are compiled in this process."""
    from fastnn.kernels.cpu import store

    store.entry()
