"""An epoch of the documents' networks, each contender a benchmark of its own."""

from __future__ import annotations

from typing import Any

import pytest

from bench import pedantic, timing, training
from bench.suite import CONTENDERS, Case


@pytest.mark.benchmark(timer=timing.clock)
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("case", training.cases(quick=True), ids=lambda case: case.name)
def test_epoch(case: Case, contender: str, benchmark: Any) -> None:
    pedantic.run(case, contender, benchmark)
