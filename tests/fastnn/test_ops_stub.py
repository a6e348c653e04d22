"""``fastnn/ops.pyi`` is what the table says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_stub_is_current():
    source = ROOT / "ci" / "stubs.py"
    if not source.exists():
        pytest.skip("runs from a checkout only")
    spec = importlib.util.spec_from_file_location("stubs", source)
    stubs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stubs)
    assert stubs.STUB.read_text(encoding="utf-8") == stubs.stubs(), "run: python -m ci.stubs --write"
