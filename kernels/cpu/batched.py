"""Products of many matrices: tasks share tiles of rows, sample after sample.

A task packs the panels of a sample's B for itself as it comes to the sample's first tile that is its own: matrices of a
batch are small, and stay in the second cache. Each number is one chain of multiply-adds in the order of k, whoever
computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu._arrays import finish, placing, reader, workspace
from fastnn.kernels.cpu.compiler.machine import tile
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.gemm import Matrix, Part, pack_panel
from fastnn.kernels.cpu.jit import flat, kernel, reads, writes
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.tile import gemm_tile
from fastnn.kernels.cpu.teams import threads
from fastnn.kernels.planned import Planned

# One core's multiply-adds of small products a nanosecond, roughly.
_FLOPS_PER_NS = 30.0


@compiled_in
def _sample(x, s):
    """One of many matrices (s, rows, columns)."""
    step, row, column = x.strides[0] // x.itemsize, x.strides[1] // x.itemsize, x.strides[2] // x.itemsize
    return Matrix(address(x, s * step), row, column)


@kernel(lambda dtype: types.void(reads(dtype, 3), reads(dtype, 3), writes(dtype, 3), flat(dtype)))
def _batch(MR: int, NR: int) -> Any:
    def batch(a, b, c, scratch, words, t, team):
        (samples, n, k), m = a.shape, b.shape[2]
        size, tiles = (m + NR - 1) // NR * NR * k, (n + MR - 1) // MR
        tasks = min(team, scratch.size // size)
        if t >= tasks:
            return
        panels, packed = address(scratch, t * size), -1
        for unit in range(t * samples * tiles // tasks, (t + 1) * samples * tiles // tasks):
            s, i = unit // tiles, unit % tiles
            left, right, y = _sample(a, s), _sample(b, s), _sample(c, s)
            if s != packed:
                for j in range(0, m, NR):
                    pack_panel(right, Part(0, k, j, min(NR, m - j)), address(panels, j * k), NR)
                packed = s
            low, high = i * n // tiles, (i + 1) * n // tiles
            for j in range(0, m, NR):
                gemm_tile(
                    high - low, min(NR, m - j), k, address(left.at, low * left.row), left.row, left.column,
                    address(panels, j * k), NR, address(y.at, low * y.row + j), y.row, 0,
                )  # fmt: skip

    return batch


@Planned
def batch_matmul(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
    """Each product by itself."""
    (s, n, k), m, dtype = a.shape, b.shape[2], a.dtype
    place, read_a, read_b = placing(out, (s, n, m), dtype, a, b), reader(a), reader(b)
    NR, nanoseconds = tile(dtype.itemsize).NR, 2.0 * s * n * k * m / _FLOPS_PER_NS
    size, compute = -(-m // NR) * NR * k, _batch.planned(dtype, nanoseconds)

    def run(a: Any, b: Any, *, out: Any = None) -> Any:
        y = place(out, a, b)
        if s * n * m and k:
            compute(read_a(a), read_b(b), y, workspace(threads.count(nanoseconds) * size, dtype))
        else:  # an empty sum is 0
            np.copyto(y, 0)
        return finish(y, out)

    return run
