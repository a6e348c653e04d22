"""What ``cpu.peak`` measures with, not among the library's micro-kernels: no other process compiles them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import cgutils

from fastnn.kernels.cpu.compiler.machine import tile
from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import MicroKernel, Nothing, Pointer, Size
from fastnn.kernels.cpu.simd.loops import Total
from fastnn.kernels.cpu.simd.vectors import I64

#
# What ``peak`` measures with, not among MICRO_KERNELS: no other process compiles them.


def chains(dtype: Any) -> int:
    """Sums that a peak's loop keeps in registers, as many as a tile: enough to hide one multiply-add's latency."""
    shape = tile(dtype.bitwidth // 8)
    return shape.MR * shape.NV


def _repeat(v: Vectors, count: Any, sums: Any, step: Callable[[Any], Any]) -> None:
    """x = step(x), ``count`` times, for the ``chains`` vectors at ``sums``: read and written, so none is left out."""
    held = [Total(v, v.load(sums, I64(i * v.lanes))) for i in range(chains(v.dtype))]
    with cgutils.for_range(v.builder, count, intp=I64):
        for x in held:
            v.builder.store(step(v.builder.load(x.slot)), x.slot)
    for i, x in enumerate(held):
        v.store(v.builder.load(x.slot), sums, I64(i * v.lanes))


def _multiply_add(v: Vectors, count: Size, a: Pointer, b: Pointer, sums: Pointer) -> Nothing:
    """x = a x + b in every chain: x is a factor, because a product without it could be taken out of the loop."""
    left, right = v.load(a), v.load(b)
    _repeat(v, count, sums, lambda x: v.fma(left, x, right))


def _multiply_add_bfloat16(v: Vectors, count: Size, a: Pointer, b: Pointer, sums: Pointer) -> Nothing:
    """x = x + a . b in every chain, of pairs of bfloat16."""
    left, right = v.load(a), v.load(b)
    _repeat(v, count, sums, lambda x: v.dot_pairs(left, right, x))


PEAK = MicroKernel(_multiply_add)
PEAK_BFLOAT16 = MicroKernel(_multiply_add_bfloat16)
