"""Logistic regression beside scikit-learn's, each contender a benchmark of its own."""

from __future__ import annotations

from typing import Any

import pytest

from bench import likelihood, pedantic
from bench.suite import FASTNN, SKLEARN, Case


@pytest.mark.parametrize("contender", [SKLEARN, FASTNN])
@pytest.mark.parametrize("case", likelihood.cases(), ids=lambda case: case.name)
def test_likelihood(case: Case, contender: str, benchmark: Any) -> None:
    pedantic.run(case, contender, benchmark)
