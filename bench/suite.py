"""What a line of the tables is: a case, on whose workload contenders do the same work, or a gauge of ours alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

NAIVE, NUMPY, MATMUL, FLOAT32 = "naive", "NumPy", "np.matmul", "float32"
PYTORCH, JAX, KERAS, KERAS_XLA, SKLEARN = "PyTorch", "JAX", "Keras", "Keras XLA", "scikit-learn"
FIT, FASTNN = "fastnn fit", "fastnn cpu"
CUPY, CUBLAS, FASTNN_CUDA = "CuPy", "cuBLAS", "fastnn cuda"
TORCH_COMPILED = "torch.compile"
THINC = "thinc"
# The order of the tables' columns.
CONTENDERS = (
    *(NAIVE, NUMPY, MATMUL, CUPY, CUBLAS, SKLEARN, THINC, KERAS, KERAS_XLA, PYTORCH, TORCH_COMPILED, JAX, FLOAT32),
    *(FIT, FASTNN, FASTNN_CUDA),
)

# What a contender imports, where that is not required; the extra `peers` installs all of it.
_PACKAGES: Mapping[str, Sequence[str]] = {
    PYTORCH: ("torch",),
    TORCH_COMPILED: ("torch",),
    JAX: ("jax",),
    KERAS: ("keras", "tensorflow"),
    KERAS_XLA: ("keras", "tensorflow"),
    SKLEARN: ("sklearn",),
    THINC: ("thinc",),
}
NOT_INSTALLED = "not installed: pip install -e '.[peers]'"

_left_out: set[str] = set()


def leave_out(*contenders: str) -> None:
    """Do without these contenders in this process, as if they were not installed."""
    _left_out.update(contenders)


def installed(contender: str) -> bool:
    """Whether the packages that a contender needs are there."""
    return contender not in _left_out and all(
        importlib.util.find_spec(package) is not None for package in _PACKAGES.get(contender, ())
    )


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
    """One line: its name, how to make its workload (operands take memory, so on demand), and its bars if it has any.

    ``at_least`` is, by contender, how many times as fast as it the project promises to be. A ``slow`` case gets fewer
    blocks. ``skip`` says why the line cannot be measured here.
    """

    name: str
    make: Callable[[], Workload]
    at_least: Mapping[str, float] = field(default_factory=dict, hash=False)
    slow: bool = False
    skip: str = ""


@dataclass(frozen=True)
class Gauge:
    """One line without contenders: a quantity of ours, and the bound that the project promises.

    ``read`` takes the number of readings wanted and returns at least one.
    """

    name: str
    unit: str
    read: Callable[[int], Sequence[float]]
    at_most: float | None = None
    at_least: float | None = None
    skip: str = ""


def in_a_line(error: Exception) -> str:
    """What went wrong: the error's kind, and the first line of what it says."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def assert_agree(what: str, result: Any, expected: Any, tolerance: float) -> None:
    """AssertionError unless two results are equal to ``tolerance`` of the largest expected number; nests of tuples."""
    if isinstance(expected, tuple):
        for part, expected_part in zip(result, expected, strict=True):
            assert_agree(what, part, expected_part, tolerance)
        return
    expected = np.asarray(expected)
    largest = float(np.max(np.abs(expected), initial=0.0))
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * largest, err_msg=what)
