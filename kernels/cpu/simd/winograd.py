"""Transforms of Winograd's products of 3x3 windows, by vectors of channels: of blocks of places, of kernels, and back.

With B, G and A of F(2x2, 3x3) (Lavin and Gray 2016) a block of 2x2 outputs is A' (G g G' * B' d B) A, of a kernel g and
the 4x4 numbers d under the block's windows. The transposed of it gives the gradient by the kernel: from a block dz of
derivatives G' (A dz A' * B' d B) G. Blocks of 4x4 transformed numbers lie ``apart``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Nothing, Pointer, Size, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span, for_each
from fastnn.kernels.cpu.simd.vectors import I64

_BIT = ir.IntType(1)
_Line = Callable[..., Sequence[Any]]
_Cells = list[list[Any]]

# Numbers along an axis of a block of outputs, of a kernel, and of what both are transformed into.
_OUTPUTS, _TAPS, _POINTS = 2, 3, 4


# ----------------------------------------------------------------------------------------------- along one axis: lines


def _patch(v: Vectors, a: Any, b: Any, c: Any, d: Any) -> Sequence[Any]:
    """B' (a, b, c, d)."""
    return v.sub(a, c), v.add(b, c), v.sub(c, b), v.sub(b, d)


def _outputs(v: Vectors, a: Any, b: Any, c: Any, d: Any) -> Sequence[Any]:
    """A' (a, b, c, d)."""
    return v.add(v.add(a, b), c), v.sub(v.sub(b, c), d)


def _slopes(v: Vectors, a: Any, b: Any) -> Sequence[Any]:
    """A (a, b)."""
    return a, v.add(a, b), v.sub(a, b), v.sub(v.constant(0.0), b)


def _kernel(v: Vectors, a: Any, b: Any, c: Any) -> Sequence[Any]:
    """G (a, b, c)."""
    half = v.constant(0.5)
    outer = v.add(a, c)
    return a, v.mul(half, v.add(outer, b)), v.mul(half, v.sub(outer, b)), c


def _gradient(v: Vectors, a: Any, b: Any, c: Any, d: Any) -> Sequence[Any]:
    """G' (a, b, c, d)."""
    half = v.constant(0.5)
    middle = v.mul(half, v.add(b, c))
    return v.add(a, middle), v.mul(half, v.sub(b, c)), v.add(middle, d)


# ------------------------------------------------------------------------------------------------------------- blocks


def _cells(v: Vectors, x: Pointer, size: int, row: Any, column: Any) -> _Cells:
    """Pointers to the cells of a block whose rows and columns are so far apart."""
    builder = v.builder
    return [
        [builder.gep(x, [builder.add(builder.mul(row, I64(i)), builder.mul(column, I64(j)))]) for j in range(size)]
        for i in range(size)
    ]


def _apart(v: Vectors, x: Pointer, apart: Any) -> _Cells:
    """Those of transformed numbers."""
    return _cells(v, x, _POINTS, v.builder.mul(apart, I64(_POINTS)), apart)


def _inside(v: Vectors, cells: _Cells, rows: Any, columns: Any, instead: Pointer) -> _Cells:
    """The cells in those rows and columns whose bits are set, and ``instead`` of each other one."""
    builder = v.builder

    def bits(mask: Any) -> list[Any]:
        return [builder.trunc(builder.lshr(mask, I64(i)), _BIT) for i in range(len(cells))]

    along, across = bits(rows), bits(columns)
    return [
        [
            builder.select(builder.and_(down, there), cell, instead)
            for there, cell in zip(across, line, strict=True)
        ]
        for down, line in zip(along, cells, strict=True)
    ]  # fmt: skip


def _transform(v: Vectors, count: Any, line: _Line, sources: _Cells, targets: _Cells) -> None:
    """Rows of blocks through ``line``, then columns, for each of ``count`` channels."""

    def body(at: Span) -> None:
        by_rows = [line(v, *map(at.load, row)) for row in sources]
        by_columns = [line(v, *column) for column in zip(*by_rows, strict=True)]
        for row, into in zip(zip(*by_columns, strict=True), targets, strict=True):
            for number, cell in zip(row, into, strict=True):
                at.store(number, cell)

    for_each(v, count, body)


@micro_kernel
def winograd_patch(
    v: Vectors, count: Size, rows: Size, columns: Size, x: Pointer, row: Size, pixel: Size, zeros: Pointer, y: Pointer,
    apart: Size,
) -> Nothing:  # fmt: skip
    """y = B' x B of ``count`` channels of 4x4 pixels; those in rows or columns whose bits are not set are zeros."""
    cells = _inside(v, _cells(v, x, _POINTS, row, pixel), rows, columns, zeros)
    _transform(v, count, _patch, cells, _apart(v, y, apart))


@micro_kernel
def winograd_slopes(
    v: Vectors, count: Size, rows: Size, columns: Size, x: Pointer, row: Size, pixel: Size, zeros: Pointer, y: Pointer,
    apart: Size,
) -> Nothing:  # fmt: skip
    """y = A x A' of ``count`` channels of 2x2 pixels; those in rows or columns whose bits are not set are zeros."""
    cells = _inside(v, _cells(v, x, _OUTPUTS, row, pixel), rows, columns, zeros)
    _transform(v, count, _slopes, cells, _apart(v, y, apart))


@micro_kernel
def winograd_outputs(
    v: Vectors, count: Size, rows: Size, columns: Size, x: Pointer, apart: Size, spare: Pointer, y: Pointer, row: Size,
    pixel: Size,
) -> Nothing:  # fmt: skip
    """y = A' x A: ``count`` channels of 2x2 pixels; rows or columns whose bits are not set go to ``spare``."""
    cells = _inside(v, _cells(v, y, _OUTPUTS, row, pixel), rows, columns, spare)
    _transform(v, count, _outputs, _apart(v, x, apart), cells)


@micro_kernel
def winograd_kernel(v: Vectors, count: Size, x: Pointer, tap: Size, y: Pointer, apart: Size) -> Nothing:
    """y = G x G' of ``count`` kernels, whose taps are ``tap`` apart."""
    cells = _cells(v, x, _TAPS, v.builder.mul(tap, I64(_TAPS)), tap)
    _transform(v, count, _kernel, cells, _apart(v, y, apart))


@micro_kernel
def winograd_gradient(v: Vectors, count: Size, x: Pointer, apart: Size, y: Pointer, tap: Size) -> Nothing:
    """y = G' x G: ``count`` gradients by kernels, whose taps are ``tap`` apart."""
    cells = _cells(v, y, _TAPS, v.builder.mul(tap, I64(_TAPS)), tap)
    _transform(v, count, _gradient, _apart(v, x, apart), cells)
