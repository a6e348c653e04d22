"""From calls with CSR matrices to instructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.kernels.cpu import csr, elementwise
from fastnn.kernels.cpu.compiler.machine import tile
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.cpu.simd.sparse import SPARSE_TILES
from fastnn.kernels.formulas.activations import CODES
from fastnn.kernels.graph import Block, Sparse, View

if TYPE_CHECKING:
    from fastnn.kernels.cpu.instructions.lowering.instructions import Lowering


# Non-zeros of a batch: their places are int32, as columns' numbers are.
_MOST = np.iinfo(np.int32).max


class Room(NamedTuple):
    """Memory for the non-zeros of a batch, how many of them there may ever be: blocks of their rows, their values."""

    x: Sparse
    rows: Block
    values: Block
    dtype: np.dtype[Any]

    @property
    def blocks(self) -> dict[Block, np.dtype[Any]]:
        """With the dtypes of their numbers."""
        return {self.rows: np.dtype(np.int32), self.values: self.dtype}

    def views(self) -> list[View]:
        """Of their first numbers: how many there are is not known."""
        return [View(block, 0, (1,), (dtype.itemsize,), dtype) for block, dtype in self.blocks.items()]

    def most(self, arrays: Sequence[Any]) -> int:
        """Most non-zeros of a batch with these arguments. Raises ValueError where int32 cannot count them."""
        place = self.x.indptr.block.argument
        assert place is not None
        indptr = arrays[place]
        stored = int(indptr[-1] - indptr[0])
        most = min(stored, self.x.shape[0] * int(np.diff(indptr).max(initial=0))) if self.x.ordered else stored
        if most > _MOST:
            raise ValueError(f"x: got CSR rows that may hold {most:,} non-zeros, wants at most {_MOST:,} in a batch")
        return most


def width_of(dtype: np.dtype[Any]) -> int:
    """Columns of a strip."""
    return SPARSE_TILES * tile(dtype.itemsize).NR


def _strips(name: str, m: int, width: int) -> dict[str, Any]:
    """The distances of rows and strips of a matrix of m columns in C order."""
    return {f"row_{name}": m, "strip": width}


def _batch(x: Sparse) -> dict[str, Any]:
    return {"n": x.shape[0], "k": x.shape[1], "ordered": x.ordered}


def product(to: Lowering, x: Sparse, b: View, c: View, bias: View | None, activation: str | None) -> None:
    """c = activation(x @ b + bias), or the product alone."""
    (k, m), width = b.shape, width_of(to.dtype)
    nanoseconds = csr.nanoseconds(x.entries, m)
    copied = csr.pays_apart(k, m, to.dtype.itemsize, x.entries)
    code, numbers = csr.NO_EPILOGUE, np.zeros(1)
    if activation is not None:
        code, numbers = CODES[activation], elementwise.numbers_of(activation, to.dtype)
    if bias is None:
        bias = to.holding(0.0, (m,))
    to.add(
        Kind.SPARSE_PRODUCT, nanoseconds,
        reads={"a": x.values, "b": b, "d": bias, "e": x.indices, "f": x.indptr},
        writes={"c": c} | ({"g": to.temporary((to.tasks * k * width,))} if copied else {}),
        **_batch(x), m=m, code=code, numbers=to.constants([*numbers, 0.0]), copied=copied, **_strips("b", m, width),
    )  # fmt: skip


def gradient(to: Lowering, x: Sparse, dz: View, dw: View) -> None:
    """dw = x.T @ dz."""
    (n, m), k, width, tasks = dz.shape, x.shape[1], width_of(to.dtype), to.tasks
    counts, bounds = to.temporary((tasks * (k + tasks),), np.int32), to.temporary((2, k), np.int32)
    rows, values = to.room(x).views()
    sizes: dict[str, Any] = {**_batch(x), "parts": tasks}
    of_rows = {"e": x.indices, "f": x.indptr}
    work = csr.nanoseconds_of_moves(x.entries) / 2 + k / 4
    to.add(Kind.COUNT_COLUMNS, work, reads=of_rows, writes={"c": counts}, **sizes)
    to.add(Kind.ALLOT_COLUMNS, tasks * k / 2, reads={"c": counts}, writes={"d": bounds}, **sizes)
    moves = {"c": counts, "b": rows, "g": values}
    to.add(Kind.SORT_COLUMNS, work, reads={"a": x.values, **of_rows}, writes=moves, **sizes)
    copied = m > width
    to.add(
        Kind.SPARSE_GRADIENT, csr.nanoseconds(x.entries, m) + k * m / 8,
        reads={"a": dz, "d": bounds, "e": rows, "f": values},
        writes={"c": dw, "g": to.temporary((tasks * (n * width * copied + width),))},
        **sizes, m=m, code=csr.NO_EPILOGUE, copied=copied, **_strips("c", m, width),
    )  # fmt: skip
