"""Square products by size and by where operands lie, each contender a benchmark of its own."""

from __future__ import annotations

from typing import Any

import pytest

from bench import addresses, pedantic
from bench.suite import FASTNN, NUMPY, Case


@pytest.mark.parametrize("contender", [NUMPY, FASTNN])
@pytest.mark.parametrize("case", addresses.cases(), ids=lambda case: case.name)
def test_address(case: Case, contender: str, benchmark: Any) -> None:
    pedantic.run(case, contender, benchmark)
