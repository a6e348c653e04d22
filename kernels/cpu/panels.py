"""Matrices in panels: strips of columns one behind the other, so that a strip's rows lie end to end.

A matrix (k, m) becomes [ceil(m / width), k, width], with zeros in the columns beyond m.
"""

from __future__ import annotations

from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.simd.elementwise import copy_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.tile import copy_rows


@compiled_in
def pack_share(t, tasks, k, m, width, matrix, panels):
    """Task t's rows of a matrix (k, m) in C order into its panels."""
    low, high = t * k // tasks, (t + 1) * k // tasks
    for j in range(0, m, width):
        source, target = address(matrix, low * m + j), address(panels, j * k + low * width)
        copy_rows(high - low, min(width, m - j), width, source, m, target, width)


@compiled_in
def unpack_share(t, tasks, k, m, width, panels, matrix):
    """Task t's rows of a matrix (k, m) in C order from its panels: row by row, so that lines are written as a whole."""
    for i in range(t * k // tasks, (t + 1) * k // tasks):
        for j in range(0, m, width):
            copy_row(min(width, m - j), address(panels, j * k + i * width), address(matrix, i * m + j))
