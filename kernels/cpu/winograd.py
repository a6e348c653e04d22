"""Convolutions of 3x3 windows by Winograd's F(2x2, 3x3): 16 products in place of the 36 that a block of 2x2 sums takes.

Blocks of outputs, some at a time, and the numbers under their windows are transformed (``simd.winograd``): of each of
the 16 points there is a matrix of blocks and channels, times one of channels and maps. The gradient by x is such a
product of dz and the kernel turned around. That by the kernel sums over all blocks: each task has lines of points, and
channels, of its own. What lies around an image costs nothing: zeros are read in its place.

Chains of multiply-adds are a ninth as long as by taps, so that rounding errors are no larger in the mean; what is not
finite reaches all outputs of its blocks. Each sum is one chain in the order of channels, or of blocks, however work is
split.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types

from fastnn.kernels.cpu import elementwise, gemm
from fastnn.kernels.cpu._arrays import workspace
from fastnn.kernels.cpu.compiler.machine import LINE, NV, caches, tile
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.records import record
from fastnn.kernels.cpu.simd.elementwise import forward_bias_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.tile import gemm_tile
from fastnn.kernels.cpu.simd.winograd import (
    winograd_gradient,
    winograd_kernel,
    winograd_outputs,
    winograd_patch,
    winograd_patch_line,
    winograd_slopes_line,
)
from fastnn.kernels.cpu.teams import threads
from fastnn.kernels.cpu.teams.barrier import wait
from fastnn.kernels.formulas.activations import CODES

# Points of a block, taps of a kernel, outputs of a block along an axis, and numbers under their windows.
_POINTS, _TAPS, _BLOCK, _PATCH = 16, 9, 2, 4

# Lines of points; in each as many. The second one's second of derivatives is their sum.
_LINES = 4

# Channels of the kernel that are transformed together.
_CHANNELS = 16

# Blocks whose products are summed before their sums are added to those before: a panel of derivatives stays in L1.
_DEPTH = 128

# One core's work for a block's transforms, in multiply-adds a channel or map, and in those a number of a kernel.
_OF_TRANSFORM, _OF_KERNEL = 200, 45

# Images, sizes and channels; outputs, sizes and maps; zeros above and to the left; blocks of an image by rows and
# columns. The kernel's distances: of taps, of a tap's rows and columns. Blocks at a time. Numbers from one block to the
# next and from one point to the next: of transformed images, of their products or derivatives; of a transformed kernel
# from point to point. What a task needs of scratch memory.
BLOCKS = record(
    *((name, np.int64) for name in ("n", "h", "w", "c", "oh", "ow", "f", "above", "left", "down", "across")),
    *((name, np.int64) for name in ("tap", "tap_row", "tap_column", "at_once", "row", "apart", "row_of", "apart_of")),
    *((name, np.int64) for name in ("apart_kernel", "scratch")),
)


@compiled_in
def _bits(first, size, count):
    """Those of ``count`` places from ``first`` on, as far as they are among ``size``."""
    bits = 0
    for i in range(count):
        if 0 <= first + i < size:
            bits += 1 << i
    return bits


@compiled_in
def _place(block, how):
    """(image, row, column) of a block."""
    each = how.down * how.across
    return block // each, block % each // how.across, block % how.across


@compiled_in
def _next(image, row, column, how):
    """Those of the block behind it: divisions would take longer than a block of few channels."""
    if column + 1 < how.across:
        return image, row, column + 1
    if row + 1 < how.down:
        return image, row + 1, 0
    return image + 1, 0, 0


@compiled_in
def _lay_patches(low, high, how, x, zeros, patches):
    """What is under the windows of blocks ``low`` to ``high``, transformed."""
    image, row, column = _place(low, how)
    for block in range(low, high):
        i, j = row * _BLOCK - how.above, column * _BLOCK - how.left
        source = address(x, ((image * how.h + i) * how.w + j) * how.c)
        winograd_patch(
            how.c, _bits(i, how.h, _PATCH), _bits(j, how.w, _PATCH), source, how.w * how.c, how.c, zeros,
            address(patches, (block - low) * how.row), how.apart,
        )  # fmt: skip
        image, row, column = _next(image, row, column, how)


# ------------------------------------------------------------------------------------------------------------ products


@compiled_in
def _lay_kernel(t, tasks, how, places, w, taps, kernels, NR):
    """Task t's share of the kernel, transformed, as panels of each point; ``taps`` is room for some."""
    width, strips = -(-how.f // NR), -(-how.c // _CHANNELS)
    for item in range(t * width * strips // tasks, (t + 1) * width * strips // tasks):
        p, c = item // strips, item % strips * _CHANNELS
        part = gemm.Part(c, min(_CHANNELS, how.c - c), p * NR, min(NR, how.f - p * NR))
        for tap in range(_TAPS):
            source = gemm.Matrix(address(w, places[tap] * how.tap), how.tap_row, how.tap_column)
            gemm.pack_panel(source, part, address(taps, tap * _CHANNELS * NR), NR)
        into = address(kernels, (p * how.c + c) * NR)
        winograd_kernel(part.rows * NR, taps, _CHANNELS * NR, into, how.apart_kernel)


@compiled_in
def _lay_outputs(low, high, how, epilogue, sums, spare, y):
    """Blocks ``low`` to ``high`` of outputs from the sums of their points."""
    image, row, column = _place(low, how)
    for block in range(low, high):
        i, j = row * _BLOCK, column * _BLOCK
        rows, columns = min(_BLOCK, how.oh - i), min(_BLOCK, how.ow - j)
        into = address(y, ((image * how.oh + i) * how.ow + j) * how.f)
        winograd_outputs(
            how.f, (1 << rows) - 1, (1 << columns) - 1, address(sums, (block - low) * how.row_of), how.apart_of, spare,
            into, how.ow * how.f, how.f,
        )  # fmt: skip
        if epilogue.code >= 0:
            for r in range(rows):
                for s in range(columns):
                    z = address(into, (r * how.ow + s) * how.f)
                    forward_bias_row(epilogue.code, how.f, z, epilogue.bias, epilogue.numbers, z)
        image, row, column = _next(image, row, column, how)


@compiled_in
def _multiply_points(count, how, patches, kernels, sums, MR, NR):
    """The products of ``count`` blocks, point by point."""
    width, strips = -(-how.f // NR), -(-count // MR)
    for point in range(_POINTS):
        for p in range(width):
            right = address(kernels, point * how.apart_kernel + p * how.c * NR)
            for s in range(strips):
                begin, end = s * count // strips, (s + 1) * count // strips
                left = address(patches, point * how.apart + begin * how.row)
                target = address(sums, point * how.apart_of + begin * how.row_of + p * NR)
                columns = min(NR, how.f - p * NR)
                gemm_tile(end - begin, columns, how.c, left, how.row, 1, right, NR, target, how.row_of, 0)


def _product_signature(dtype: Any) -> Any:
    sizes, numbers = types.int64, flat(dtype)
    return types.void(sizes, numbers, types.Array(from_dtype(BLOCKS), 1, "C"), flat(sizes), *[numbers] * 7)


@kernel(_product_signature)
def _multiply(MR: int, NR: int) -> Any:
    def multiply(code, numbers, blocks, places, zeros, bias, x, w, kernels, scratch, y, words, t, team):
        how, into = blocks[0], address(kernels, 0)
        tasks = min(team, scratch.size // how.scratch)
        patches = address(scratch, min(t, tasks - 1) * how.scratch)
        sums = address(patches, _POINTS * how.apart)
        spare = address(sums, _POINTS * how.apart_of)
        if t < tasks:
            _lay_kernel(t, tasks, how, address(places, 0), address(w, 0), patches, into, NR)
        wait(team, words)
        count = how.n * how.down * how.across
        first, end = t * count // tasks, min(tasks, t + 1) * count // tasks
        epilogue = gemm.Epilogue(code, address(bias, 0), address(numbers, 0))
        while first < end:
            high = min(end, first + how.at_once)
            _lay_patches(first, high, how, address(x, 0), address(zeros, 0), patches)
            _multiply_points(high - first, how, patches, into, sums, MR, NR)
            _lay_outputs(first, high, how, epilogue, sums, spare, address(y, 0))
            first = high

    return multiply


# ------------------------------------------------------------------------------------------- the gradient by the kernel


@compiled_in
def _rows_of(line):
    """(first, second, sign) of the rows of a patch whose sum a line of its transform is made of."""
    if line == 0:
        return 0, 2, -1
    if line == 1:
        return 1, 2, 1
    return (2, 1, -1) if line == 2 else (1, 3, -1)


@compiled_in
def _lay_lines(line, low, high, begin, end, how, one, x, dz, zeros, patches, slopes, NR):
    """Of blocks ``low`` to ``high`` a line of points: of channels ``begin`` to ``end`` of x, and of dz as panels."""
    over, under, sign = _rows_of(line)
    image, row, column = _place(low, how)
    for at in range(high - low):
        i, j = row * _BLOCK, column * _BLOCK
        top, left = i - how.above, j - how.left
        rows = _bits(top + over, how.h, 1) + 2 * _bits(top + under, how.h, 1)
        source = address(x, ((image * how.h + top) * how.w + left) * how.c + begin)
        first, second = address(source, over * how.w * how.c), address(source, under * how.w * how.c)
        winograd_patch_line(
            end - begin, rows, _bits(left, how.w, _PATCH), one if sign > 0 else -one, first, second, how.c, zeros,
            address(patches, at * how.row), how.apart,
        )  # fmt: skip
        rows = _bits(i, how.oh, _BLOCK) & (1 if line == 0 else 2 if line == _LINES - 1 else 3)
        columns, sign_of = _bits(j, how.ow, _BLOCK), one if line == 1 else -one
        source = address(dz, ((image * how.oh + i) * how.ow + j) * how.f)
        for p in range(-(-how.f // NR)):
            first = address(source, p * NR)
            winograd_slopes_line(
                min(NR, how.f - p * NR), rows, columns, sign_of, first, address(first, how.ow * how.f), how.f, zeros,
                address(slopes, (p * how.at_once + at) * NR), how.apart_of,
            )  # fmt: skip
        image, row, column = _next(image, row, column, how)


@compiled_in
def _sum_line(count, begin, end, add, how, patches, slopes, sums, MR, NR):
    """The sums over a chunk of ``count`` blocks, of a line's points and channels ``begin`` to ``end``."""
    width, strips = -(-how.f // NR), -(-(end - begin) // MR)
    for point in range(_LINES):
        for p in range(width):
            right = address(slopes, point * how.apart_of + p * how.at_once * NR)
            for s in range(strips):
                low, high = s * (end - begin) // strips, (s + 1) * (end - begin) // strips
                left = address(patches, point * how.apart + low)
                target = address(sums, (point * how.c + begin + low) * how.f + p * NR)
                columns = min(NR, how.f - p * NR)
                gemm_tile(high - low, columns, count, left, 1, how.row, right, NR, target, how.f, add)


@compiled_in
def _sum_slopes(count, add, how, slopes, one, db, NR):
    """The sums of dz itself over a chunk, of the second line's second points: a row of ones times them."""
    for j in range(0, how.f, NR):
        right = address(slopes, how.apart_of + j * how.at_once)
        gemm_tile(1, min(NR, how.f - j), count, one, 0, 0, right, NR, address(db, j), how.f, add)


@compiled_in
def _parts(tasks, most):
    """Of the channels, so that tasks have as many lines of them each, if there may be as many as that."""
    for parts in range(1, most + 1):
        if _LINES * parts % tasks == 0:
            return parts
    return min(most, -(-tasks // _LINES))


@kernel(lambda dtype: types.void(types.Array(from_dtype(BLOCKS), 1, "C"), *[flat(dtype)] * 8))
def _sum_products(MR: int, NR: int) -> Any:
    def sum_products(blocks, one, zeros, x, dz, scratch, sums, dw, db, words, t, team):
        how, vector, like = blocks[0], NR // NV, address(one, 0)
        tasks = min(team, scratch.size // how.scratch)
        patches = address(scratch, min(t, tasks - 1) * how.scratch)
        slopes, units = address(patches, _LINES * how.apart), -(-how.c // vector)
        parts, blocks_in_all = _parts(tasks, units), how.n * how.down * how.across
        for first in range(0, blocks_in_all, how.at_once):
            high, add = min(blocks_in_all, first + how.at_once), int(first > 0)
            for item in range(t * _LINES * parts // tasks, min(tasks, t + 1) * _LINES * parts // tasks):
                line, part = item // parts, item % parts
                begin, end = part * units // parts * vector, min(how.c, (part + 1) * units // parts * vector)
                _lay_lines(
                    line, first, high, begin, end, how, like[0], address(x, 0), address(dz, 0), address(zeros, 0),
                    patches, slopes, NR,
                )  # fmt: skip
                into = address(sums, line * _LINES * how.c * how.f)
                _sum_line(high - first, begin, end, add, how, patches, slopes, into, MR, NR)
                if db.size > 0 and line == 1 and part == 0:
                    _sum_slopes(high - first, add, how, slopes, like, address(db, 0), NR)
        wait(team, words)
        for c in range(t * how.c // team, (t + 1) * how.c // team):
            source, target = address(sums, c * how.f), address(dw, c * how.f)
            winograd_gradient(how.f, source, how.c * how.f, target, how.c * how.f)

    return sum_products


# --------------------------------------------------------------------------------------------------------------- plans


class Windows(NamedTuple):
    """Windows of 3x3: images (n, h, w, c), outputs (n, oh, ow, f), and what is put above and to the left of images."""

    images: tuple[int, ...]
    outputs: tuple[int, ...]
    above: int
    left: int

    @property
    def blocks(self) -> tuple[int, int]:
        """Of an image, by rows and columns."""
        down, across = (-(-size // _BLOCK) for size in self.outputs[1:3])
        return down, across

    @property
    def multiply_adds(self) -> float:
        """Those that these products take, and as many as their transforms are worth."""
        (n, *_, c), f, (down, across) = self.images, self.outputs[3], self.blocks
        return float(n * down * across * (_POINTS * c * f + _OF_TRANSFORM * (c + f)) + _OF_KERNEL * c * f)

    @property
    def nanoseconds(self) -> float:
        """One core's work."""
        return 2 * self.multiply_adds / gemm.FLOPS_PER_NS

    @property
    def worthwhile(self) -> bool:
        """Whether they take less than products by taps."""
        (n, *_, c), (_, oh, ow, f) = self.images, self.outputs
        return self.multiply_adds < n * oh * ow * _TAPS * c * f


class Weights(NamedTuple):
    """How the numbers of a 3x3 kernel lie: where each tap does, in ``places``, and distances.

    Of taps, and within one of what is summed over, and of what is not.
    """

    places: tuple[int, ...]
    tap: int
    row: int
    column: int


def _odd(numbers: int, itemsize: int) -> int:
    """So many numbers or more, an odd number of lines: what lies so far apart shares no sets of L1."""
    line = LINE // itemsize
    return (-(-numbers // line) | 1) * line


def _blocks_of(given: Windows, at_once: int, row_of: int, itemsize: int, **more: int) -> dict[str, int]:
    """What both kernels are told: ``at_once`` blocks at a time, the other operand's ``row_of`` numbers apart."""
    (n, h, w, c), (_, oh, ow, f), (down, across) = given.images, given.outputs, given.blocks
    row = _odd(c, itemsize)
    return {
        "n": n, "h": h, "w": w, "c": c, "oh": oh, "ow": ow, "f": f, "above": given.above, "left": given.left,
        "down": down, "across": across, "at_once": at_once, "row": row, "apart": _odd(at_once * row, itemsize),
        "row_of": row_of, "apart_of": _odd(at_once * row_of, itemsize), **more,
    }  # fmt: skip


def _table(fields: dict[str, int]) -> Any:
    return np.array([tuple(fields.get(name, 0) for name in BLOCKS.names or ())], BLOCKS)


@lru_cache(gemm.PLANS)
def _product_of(given: Windows, weights: Weights, itemsize: int) -> tuple[Any, int, int]:
    """(table, numbers of the transformed kernel, numbers of a task's scratch memory)."""
    shape, (c, f) = tile(itemsize), (given.images[3], given.outputs[3])
    each = _POINTS * (c + f) * itemsize
    at_once = max(1, caches().l2 // 2 // each // shape.MR) * shape.MR
    at_once = min(at_once, _DEPTH // shape.MR * shape.MR)
    padded = -(-f // shape.NR) * shape.NR
    how = _blocks_of(
        given, at_once, _odd(f, itemsize), itemsize, tap=weights.tap, tap_row=weights.row, tap_column=weights.column,
        apart_kernel=_odd(c * padded, itemsize),
    )  # fmt: skip
    scratch = _POINTS * (how["apart"] + how["apart_of"]) + _odd(f, itemsize)
    how["scratch"] = max(scratch, _odd(_TAPS * _CHANNELS * shape.NR, itemsize))
    return _table(how), _POINTS * how["apart_kernel"], how["scratch"]


def product(given: Windows, weights: Weights, dtype: Any, activation: str | None) -> Callable[..., None]:
    """What computes y = f(windows of x times w + bias), as a function of (x, w, bias, y), all in C order."""
    table, kernels, scratch = _product_of(given, weights, dtype.itemsize)
    code, numbers = gemm.NO_EPILOGUE, np.zeros(1, dtype)
    if activation is not None:
        code, numbers = CODES[activation], elementwise.numbers_of(activation, dtype)
    zeros, places = np.zeros(given.images[3], dtype), np.array(weights.places, np.int64)
    compute = _multiply.planned(dtype, given.nanoseconds, code, numbers, table, places, zeros)

    def run(x: Any, w: Any, bias: Any, y: Any) -> None:
        room = workspace(kernels + threads.count(given.nanoseconds) * scratch, dtype)
        own = threads.count(given.nanoseconds) * scratch
        compute(bias, x.reshape(-1), w.reshape(-1), room[:kernels], room[kernels : kernels + own], y.reshape(-1))

    return run


@lru_cache(gemm.PLANS)
def _gradient_of(given: Windows, itemsize: int) -> tuple[Any, int]:
    """(table, numbers of a task's scratch memory)."""
    shape, (c, f) = tile(itemsize), (given.images[3], given.outputs[3])
    at_once = min(_DEPTH, max(_DEPTH // 4, caches().l2 // 2 // (_LINES * (c + f) * itemsize)))
    how = _blocks_of(given, at_once, -(-f // shape.NR) * shape.NR, itemsize)
    how["scratch"] = _LINES * (how["apart"] + how["apart_of"])
    return _table(how), how["scratch"]


def gradient(given: Windows, dtype: Any) -> Callable[..., None]:
    """The gradients by the kernel and the bias: of (x, dz, dw, db), all in C order; without db where it is left out."""
    table, scratch = _gradient_of(given, dtype.itemsize)
    (*_, c), (*_, f) = given.images, given.outputs
    one, none, sums = np.ones(1, dtype), np.empty(0, dtype), _POINTS * c * f
    compute = _sum_products.planned(dtype, given.nanoseconds, table, one, np.zeros(max(c, f), dtype))

    def run(x: Any, dz: Any, dw: Any, db: Any = none) -> None:
        room = workspace(sums + threads.count(given.nanoseconds) * scratch, dtype)
        own = threads.count(given.nanoseconds) * scratch
        compute(x.reshape(-1), dz.reshape(-1), room[sums : sums + own], room[:sums], dw.reshape(-1), db)

    return run
