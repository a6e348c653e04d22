"""Every op of the table at its ``bench`` sizes, each contender a benchmark of its own."""

from __future__ import annotations

from typing import Any

import pytest

from bench import kernels, pedantic
from bench.suite import FASTNN, MATMUL, NAIVE, NUMPY, PYTORCH, Case


@pytest.mark.parametrize("contender", [NAIVE, NUMPY, MATMUL, PYTORCH, FASTNN])
@pytest.mark.parametrize("case", kernels.cases(), ids=lambda case: case.name)
def test_kernel(case: Case, contender: str, benchmark: Any) -> None:
    pedantic.run(case, contender, benchmark)
