"""Large plain products: cuBLAS's, through CuPy, as links of a chain."""

from __future__ import annotations

from struct import Struct
from typing import Any

import cupy

from fastnn.kernels import precision
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import Like, at
from fastnn.kernels.cuda.chain import Chain

# Multiply-adds from which a plain product is cuBLAS's, and the device on which a run found that: none has yet.
WORK_FROM = 2**30
MEASURED_ON: str | None = None

# What cuBLAS's product is given, as if it were a kernel.
MATRICES = Structure("Matrices", *(Field(name, "real*") for name in "abc"))


def takes(work: int) -> bool:
    """Whether a plain product of so many multiply-adds is cuBLAS's: it rounds nothing."""
    return work >= WORK_FROM and precision.current() == "float32"


def add_to(chain: Chain, likes: tuple[Like, Like, Like], a: str, b: str, c: str) -> None:
    """Compute C = A @ B of matrices like these in a chain, where they have these names."""
    record = MATRICES.record(likes[2].dtype)
    chain.add(_Product(*likes), 1, record, {"a": a, "b": b, "c": c}, threads=1)


class _Product:
    """The product of matrices like these, to be called as kernels are."""

    _read = Struct("3Q").unpack

    def __init__(self, *likes: Like) -> None:
        self._likes = likes

    def function(self, grid: Any, block: Any, arguments: tuple[Any]) -> None:
        """Compute it of what the record points to."""
        a, b, c = map(at, self._read(arguments[0].tobytes()), self._likes)
        cupy.matmul(a, b, out=c)

    __call__ = function
