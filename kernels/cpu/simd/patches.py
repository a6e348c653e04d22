"""Sums of patches: each time the one that an index chooses, times a number."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba.core import cgutils

from fastnn.kernels.cpu.compiler.machine import isa
from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Indices, Nothing, Pointer, Size, Sizes, micro_kernel
from fastnn.kernels.cpu.simd.vectors import I64

# Most maps whose sums a tile holds.
_MOST_MAPS = 8


def most_sums() -> int:
    """Vectors of sums that a tile holds: the other registers are for factors, and for what is on its way."""
    return isa().registers * 3 // 4


def most_vectors() -> int:
    """Vectors of a patch in a tile, so that it holds the sums of two maps."""
    return most_sums() // 2


def _maps_of(vectors: int) -> list[int]:
    """How many maps a tile of so many vectors may be of, most first: any number of maps falls into such tiles."""
    return [maps for maps in (8, 4, 2, 1) if maps <= _MOST_MAPS and maps * vectors <= most_sums()]


class Patches(NamedTuple):
    """``rows`` of ``columns`` windows, whose patches in x lie ``down`` and ``across`` numbers apart.

    Rows of dz and of cells, one for each window, are ``wide``, those of sums, one for each map, ``row`` numbers apart.
    """

    rows: Size
    columns: Size
    down: Size
    across: Size
    wide: Size
    dz: Pointer
    cells: Indices
    offsets: Sizes
    x: Pointer
    sums: Pointer
    row: Size


@micro_kernel
def sum_patches(v: Vectors, vectors: Size, maps: Size, given: Patches) -> Nothing:
    """sums[m, :] += dz[i, m] * x[patch of window i + offsets[cells[i, m]]:] over all windows i, for each of ``maps``.

    So many whole ``vectors`` of a patch, at most ``most_vectors``.
    """
    builder = v.builder
    done = builder.append_basic_block("patches.done")
    switch = builder.switch(vectors, done)
    for count in range(1, most_vectors() + 1):
        block = builder.append_basic_block(f"patches.{count}")
        switch.add_case(I64(count), block)
        builder.position_at_end(block)
        first: Any = I64(0)
        for tile in _maps_of(count):
            times = builder.sdiv(builder.sub(maps, first), I64(tile))
            with cgutils.for_range(builder, times, intp=I64) as loop:
                begin = builder.add(first, builder.mul(loop.index, I64(tile)))
                own = given._replace(
                    dz=builder.gep(given.dz, [begin]),
                    cells=builder.gep(given.cells, [begin]),
                    sums=builder.gep(given.sums, [builder.mul(begin, given.row)]),
                )
                _emit_tile(v, tile, count, own)
            first = builder.add(first, builder.mul(times, I64(tile)))
        builder.branch(done)
    builder.position_at_end(done)


def _emit_tile(v: Vectors, maps: int, vectors: int, given: Patches) -> None:
    """The sums of so many maps, which stay in registers from the first window to the last."""
    builder = v.builder
    held = {(m, j): cgutils.alloca_once(builder, v.type) for m in range(maps) for j in range(vectors)}
    for slot in held.values():
        builder.store(v.constant(0.0), slot)
    with cgutils.for_range(builder, given.rows, intp=I64) as vertical:
        line = builder.gep(given.x, [builder.mul(vertical.index, given.down)])
        with cgutils.for_range(builder, given.columns, intp=I64) as horizontal:
            window = builder.gep(line, [builder.mul(horizontal.index, given.across)])
            number = builder.add(builder.mul(vertical.index, given.columns), horizontal.index)
            place = builder.mul(number, given.wide)
            slopes, chosen = builder.gep(given.dz, [place]), builder.gep(given.cells, [place])
            for m in range(maps):
                cell = builder.zext(builder.load(builder.gep(chosen, [I64(m)])), I64)
                patch = builder.gep(window, [builder.load(builder.gep(given.offsets, [cell]))])
                slope = v.splat(builder.load(builder.gep(slopes, [I64(m)])))
                for j in range(vectors):
                    grown = v.fma(slope, v.load(patch, I64(j * v.lanes)), builder.load(held[m, j]))
                    builder.store(grown, held[m, j])
    for (m, j), slot in held.items():
        total, at = builder.gep(given.sums, [builder.mul(given.row, I64(m))]), I64(j * v.lanes)
        v.store(v.add(v.load(total, at), builder.load(slot)), total, at)
