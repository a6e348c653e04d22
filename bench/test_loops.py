"""Training loops of one's own, each contender a benchmark of its own."""

from __future__ import annotations

from typing import Any

import pytest

from bench import loops, pedantic
from bench.suite import FASTNN, FIT, NUMPY, PYTORCH, Case


@pytest.mark.parametrize("contender", [NUMPY, PYTORCH, FIT, FASTNN])
@pytest.mark.parametrize("case", loops.cases(), ids=lambda case: case.name)
def test_loop(case: Case, contender: str, benchmark: Any) -> None:
    pedantic.run(case, contender, benchmark)
