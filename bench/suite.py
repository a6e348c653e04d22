"""What a line of the table is: a case that makes a workload, on which contenders do the same work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

NAIVE, NUMPY, PYTORCH, JAX, FASTNN = "naive", "NumPy", "PyTorch", "JAX", "fastnn cpu"
# The order of the table's columns.
CONTENDERS = (NAIVE, NUMPY, PYTORCH, JAX, FASTNN)


@dataclass(frozen=True)
class Contender:
    """One call of one contender and the work that it does; ``note`` says where the work is less than the line's."""

    run: Callable[[], Any]
    flops: float | None
    bytes: float
    note: str = ""

    def rate(self, seconds: float) -> float:
        """GFLOP/s, or GB/s where the work is counted in bytes only."""
        return (self.flops or self.bytes) / seconds / 1e9


@dataclass(frozen=True)
class Workload:
    """The contenders of a line, on operands of their own, and the check that their results are equal."""

    contenders: Mapping[str, Contender]
    check: Callable[[], None]

    @property
    def unit(self) -> str:
        """What the rates of this line are counted in."""
        return "GFLOP/s" if self.contenders[FASTNN].flops else "GB/s"


@dataclass(frozen=True)
class Case:
    """One line: its name, how to make its workload (operands take memory, so on demand), and its bar if it has one.

    ``at_least`` is the ratio to NumPy that the project promises. A ``slow`` case gets fewer blocks.
    """

    name: str
    make: Callable[[], Workload]
    at_least: float | None = None
    slow: bool = False


def assert_agree(what: str, result: Any, expected: Any, tolerance: float) -> None:
    """AssertionError unless two results are equal to ``tolerance`` of the largest expected number; nests of tuples."""
    if isinstance(expected, tuple):
        for part, expected_part in zip(result, expected, strict=True):
            assert_agree(what, part, expected_part, tolerance)
        return
    largest = float(np.max(np.abs(expected), initial=0.0))
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * largest, err_msg=what)
