"""Prediction with the documents' MNIST network, each contender a benchmark of its own."""

from __future__ import annotations

from typing import Any

import pytest

from bench import pedantic, prediction
from bench.suite import FASTNN, NUMPY, PYTORCH, Case


@pytest.mark.parametrize("contender", [NUMPY, PYTORCH, FASTNN])
@pytest.mark.parametrize("case", prediction.cases(), ids=lambda case: case.name)
def test_prediction(case: Case, contender: str, benchmark: Any) -> None:
    pedantic.run(case, contender, benchmark)
