"""Convolutions: products whose left matrix is made of windows over images, read where the images lie.

Rows of such a matrix are windows that follow one another along an axis of the image; they are equally far apart, as the
rows of any matrix are. Its columns are runs of numbers that are contiguous: of a kernel's row all columns and channels,
with a dilation the channels of one place. ``simd.tile.window_tile`` walks them run by run, so no matrix of patches is
made. An image that needs zeros around it is copied, some rows at a time, which stay in L2.

The gradient by x is such a product of dz and the kernel turned around (``windows.backward``). That by w sums over all
images: its tiles' rows are channels of x, its runs rows of the image, and dz is the right matrix.

Windows of 3x3 over many channels go by blocks of outputs instead, with fewer products (``winograd``).

Each element is one chain of multiply-adds a block, in the order of the kernel's places and channels, or of images, rows
and columns, however work is split over threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types

from fastnn.kernels.cpu import elementwise, gemm, softmax, windows, winograd
from fastnn.kernels.cpu._arrays import finish, in_order, placing, workspace
from fastnn.kernels.cpu.compiler.machine import caches, tile
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.records import record
from fastnn.kernels.cpu.simd.elementwise import copy_row, forward_bias_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.tile import copy_rows, gemm_tile, window_tile
from fastnn.kernels.cpu.teams import threads
from fastnn.kernels.cpu.teams.barrier import wait
from fastnn.kernels.formulas.activations import CODES
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS
from fastnn.kernels.table.windows import as_image, options_of_images, reach, spread

# ------------------------------------------------------------------------------------------------------------- records

# How images lie: sizes, channels in all and of a group; of what is put around them ``top`` and ``left``, and the rows
# and columns with it.
IMAGES = record(
    *((name, np.int64) for name in ("n", "h", "w", "c", "groups", "share", "top", "left", "rows", "columns"))
)

# A product of windows. Outputs: their sizes, maps in all and of a group, how far those of a phase are apart. Windows:
# ``down`` rows and ``across`` columns further on than the last, over ``reach`` rows. Rows of outputs at a time, whether
# images are copied, and the numbers that a task copies. The kernel: distances of taps, of groups, of a tap's rows and
# columns. Most rows of a tile.
PRODUCT = record(
    *((name, np.int64) for name in ("h", "w", "maps", "share", "row", "column", "down", "across", "reach", "at_once")),
    *((name, np.int64) for name in ("copied", "buffer", "tap", "group", "tap_row", "tap_column", "height")),
)

# Outputs of one phase: the first and how many, by row and column; runs of the windows, from which one on, their number,
# that of a block, and numbers in each; where its taps begin, and its panels.
PHASE = record(
    *((name, np.int64) for name in ("row", "rows", "column", "columns", "run", "runs", "block", "depth", "panels")),
    *((name, np.int64) for name in ("tap", "taps")),
)

# A gradient by w: sizes of dz, maps in all and of a group; windows ``down`` and ``across`` as above; images and rows of
# outputs in a chunk; whether images are copied; rows of outputs that are summed at a time; runs of the kernel, numbers
# in each, and tiles that each falls into; whether dz is read where it lies, and whether but for its last rows, behind
# which whole vectors may reach.
GRADIENT = record(
    *((name, np.int64) for name in ("h", "w", "maps", "share", "down", "across", "images", "rows", "copied", "block")),
    *((name, np.int64) for name in ("runs", "depth", "tiles", "in_place", "but_last")),
)

# Depth of a block of the gradient by w: a panel of it and the rows of x beside it stay in L1.
_DEPTH = 128

# Bytes of a row of dz up to which it is read where it lies: rows further apart share sets of L1, or pages.
_NARROW = 512

# Bytes of a chunk of images that all tasks copy, before they sum over it, at most.
_MOST_CHUNK = 4 << 20


@compiled_in
def lay_row(x, images, image, row, group, target):
    """A row of an image with what is around it, counted with the rows above, of one group's channels."""
    share, columns, source = images.share, images.columns, row - images.top
    skipped, begin = max(0, images.left), max(0, -images.left)
    count = min(images.w - begin, columns - skipped)
    if source < 0 or source >= images.h or count <= 0:
        for j in range(columns * share):
            target[j] = 0.0
        return
    for j in range(skipped * share):
        target[j] = 0.0
    first = ((image * images.h + source) * images.w + begin) * images.c + group * share
    if images.groups == 1:
        copy_row(count * share, address(x, first), address(target, skipped * share))
    else:
        for j in range(count):
            copy_row(share, address(x, first + j * images.c), address(target, (skipped + j) * share))
    for j in range((skipped + count) * share, columns * share):
        target[j] = 0.0


# ------------------------------------------------------------------------------------------------- products of windows


@compiled_in
def pack_taps(t, tasks, product, phases, places, share, w, panels, NR):
    """Task t's share of the kernel as panels: of each phase and group the rows of its taps, one behind the other."""
    groups, width = product.maps // product.share, (product.share + NR - 1) // NR
    for s in range(phases.size):
        phase = phases[s]
        depth = phase.taps * share
        items = groups * phase.taps
        for item in range(t * items // tasks, (t + 1) * items // tasks):
            group, tap = item // phase.taps, item % phase.taps
            start = places[phase.tap + tap] * product.tap + group * product.group
            source = gemm.Matrix(address(w, start), product.tap_row, product.tap_column)
            for p in range(width):
                at = phase.panels + ((group * width + p) * depth + tap * share) * NR
                part = gemm.Part(0, share, p * NR, min(NR, product.share - p * NR))
                gemm.pack_panel(source, part, address(panels, at), NR)


@compiled_in
def _finish_tile(epilogue, rows, columns, j, y, row):
    """What the sums of a tile, whose rows are ``row`` numbers apart, become."""
    if epilogue.code >= 0:
        for r in range(rows):
            z = address(y, r * row)
            forward_bias_row(epilogue.code, columns, z, address(epilogue.bias, j), epilogue.numbers, z)


@compiled_in
def phase_rows(image, low, high, group, images, product, phase, runs, epilogue, source, panels, y, NR):
    """Rows ``low`` to ``high`` of a phase of an image's outputs, of a group; at ``source`` are the first's windows."""
    share, width = product.share, (product.share + NR - 1) // NR
    pixel = images.share if product.copied else images.c
    row_of_y, tiles = product.column * product.maps, (phase.columns + product.height - 1) // product.height
    depth = phase.runs * phase.depth
    for first in range(0, max(1, phase.runs), max(1, phase.block)):
        count = min(phase.block, phase.runs - first)
        last = first + count >= phase.runs
        for p in range(width):
            at = phase.panels + ((group * width + p) * depth + first * phase.depth) * NR
            columns, j = min(NR, share - p * NR), group * share + p * NR
            for i in range(low, high):
                place = (image * product.h + phase.row + i * product.row) * product.w + phase.column
                for s in range(tiles):
                    begin, end = s * phase.columns // tiles, (s + 1) * phase.columns // tiles
                    left = ((i - low) * product.down * images.columns + begin * product.across) * pixel
                    target = address(y, (place + begin * product.column) * product.maps + j)
                    if count > 0:
                        window_tile(
                            end - begin, columns, count, address(runs, phase.run + first), phase.depth,
                            address(source, left), product.across * pixel, 1, address(panels, at), NR,
                            target, row_of_y, first,
                        )  # fmt: skip
                    else:
                        for r in range(end - begin):
                            for c in range(columns):
                                target[r * row_of_y + c] = 0.0
                    if last:
                        _finish_tile(epilogue, end - begin, columns, j, target, row_of_y)


@compiled_in
def _product_share(t, tasks, images, product, phases, runs, epilogue, x, panels, buffer, y, NR):
    """Task t's share of all rows of outputs."""
    rows, size = 0, images.columns * images.share
    for s in range(phases.size):
        rows = max(rows, phases[s].rows)
    groups, unit, end = product.maps // product.share, t * images.n * rows // tasks, (t + 1) * images.n * rows // tasks
    while unit < end:
        image, low = unit // rows, unit % rows
        high = min(rows, low + min(product.at_once, end - unit))
        unit += high - low
        needed = min(images.rows - low * product.down, (high - low - 1) * product.down + product.reach)
        for group in range(groups):
            source = address(x, (image * images.h + low * product.down) * images.w * images.c)
            if product.copied:
                source = address(buffer, 0)
                for r in range(needed):
                    lay_row(x, images, image, low * product.down + r, group, address(source, r * size))
            for s in range(phases.size):
                most = min(high, phases[s].rows)
                phase_rows(
                    image, low, most, group, images, product, phases[s], runs, epilogue, source, panels, y, NR
                )  # fmt: skip


def _product_signature(dtype: Any) -> Any:
    images, product, phase = (types.Array(from_dtype(each), 1, "C") for each in (IMAGES, PRODUCT, PHASE))
    size, sizes, numbers = types.int64, flat(types.int64), flat(dtype)
    return types.void(size, numbers, images, product, phase, sizes, sizes, *[numbers] * 6)


@kernel(_product_signature)
def _multiply(MR: int, NR: int) -> Any:
    def multiply(code, numbers, images, product, phases, places, runs, bias, x, w, panels, buffers, y, words, t, team):
        of_images, of_product, into = images[0], product[0], address(panels, 0)
        pack_taps(t, team, of_product, phases, address(places, 0), of_images.share, address(w, 0), into, NR)
        wait(team, words)
        tasks = min(team, buffers.size // of_product.buffer) if of_product.copied else team
        if t < tasks:
            epilogue, buffer = gemm.Epilogue(code, address(bias, 0), address(numbers, 0)), t * of_product.buffer
            _product_share(
                t, tasks, of_images, of_product, phases, address(runs, 0), epilogue, address(x, 0), into,
                address(buffers, buffer), address(y, 0), NR,
            )  # fmt: skip

    return multiply


# ------------------------------------------------------------------------------------------------- the gradient by w


@compiled_in
def _lay_chunk(t, tasks, image, count, low, rows, last, images, gradient, x, dz, chunk, panels, NR):
    """Task t's share of a chunk: rows ``low`` to ``low + rows`` of the outputs of ``count`` images.

    Of x what is under their windows, group by group, and dz as panels, if need be.
    """
    groups, size = images.groups, images.columns * images.share
    needed = images.rows  # of one image in a chunk
    if gradient.copied:
        lines = count * groups * needed
        for line in range(t * lines // tasks, (t + 1) * lines // tasks):
            of, row = line // needed, line % needed
            target = address(chunk, line * size)
            lay_row(x, images, image + of // groups, low * gradient.down + row, of % groups, target)
    width = (gradient.share + NR - 1) // NR
    total, most = count * rows * gradient.w, gradient.images * gradient.rows * gradient.w
    skipped = 0
    if gradient.in_place:
        skipped = total
        if gradient.but_last and last:
            skipped = (count * rows - 1) // gradient.block * gradient.block * gradient.w
    begin, end = skipped + t * (total - skipped) // tasks, skipped + (t + 1) * (total - skipped) // tasks
    for group in range(groups):
        for p in range(width):
            source = address(dz, begin * gradient.maps + group * gradient.share + p * NR)
            target = address(panels, ((group * width + p) * most + begin) * NR)
            copy_rows(end - begin, min(NR, gradient.share - p * NR), NR, source, gradient.maps, target, NR)


@compiled_in
def _sum_chunk(
    t, tasks, rows, fresh, last, images, gradient, places, lines, one, chunk, dz, panels, dw, db, summed, NR
):
    """Task t's share of dw, by a chunk of so many rows of outputs: added, unless it is the first. dz is the chunk's.

    Where they are wanted the sums of dz are those of one more row, of ones, while a block of dz is in L1.
    """
    width, groups, pixel = (gradient.share + NR - 1) // NR, images.groups, images.share
    if not gradient.copied:
        pixel = images.c
    most = gradient.images * gradient.rows * gradient.w
    tall = gradient.runs * gradient.tiles
    each = tall + summed
    items = groups * width * each
    for first in range(0, rows, gradient.block):
        count, add = min(gradient.block, rows - first), not (fresh and first == 0)
        for item in range(t * items // tasks, (t + 1) * items // tasks):
            panel, place = item // each, item % each
            group, p = panel // width, panel % width
            columns, column = min(NR, gradient.share - p * NR), group * gradient.share + p * NR
            right, row = address(panels, (panel * most + first * gradient.w) * NR), NR
            if gradient.in_place and not (last and gradient.but_last and first + count >= rows):
                right, row = address(dz, first * gradient.w * gradient.maps + column), gradient.maps
            if place == tall:
                depth, total = count * gradient.w, address(db, column)
                gemm_tile(1, columns, depth, one, 0, 0, right, row, total, gradient.maps, add)
            else:
                run, s = place // gradient.tiles, place % gradient.tiles
                begin, end = s * gradient.depth // gradient.tiles, (s + 1) * gradient.depth // gradient.tiles
                left = group * images.rows * images.columns * pixel + places[run] + begin
                target = (run * gradient.depth + begin) * gradient.maps + column
                window_tile(
                    end - begin, columns, count, address(lines, first), gradient.w,
                    address(chunk, left), 1, gradient.across * pixel,
                    right, row, address(dw, target), gradient.maps, add,
                )  # fmt: skip


def _gradient_signature(dtype: Any) -> Any:
    images, gradient = (types.Array(from_dtype(each), 1, "C") for each in (IMAGES, GRADIENT))
    sizes, numbers = flat(types.int64), flat(dtype)
    return types.void(images, gradient, sizes, sizes, *[numbers] * 7)


@kernel(_gradient_signature)
def _sum_products(MR: int, NR: int) -> Any:
    def sum_products(images, gradient, places, lines, one, x, dz, chunks, panels, dw, db, words, t, tasks):
        of_images, how, summed = images[0], gradient[0], int(db.size > 0)
        for image in range(0, of_images.n, how.images):
            count = min(how.images, of_images.n - image)
            for low in range(0, how.h, how.rows):
                rows = min(how.rows, how.h - low)
                last = image + count == of_images.n and low + rows == how.h
                slopes = address(dz, (image * how.h + low) * how.w * how.maps)
                into, source = address(panels, 0), address(chunks, 0)
                if not how.copied:
                    source = address(x, (image * of_images.h + low * how.down) * of_images.w * of_images.c)
                _lay_chunk(
                    t, tasks, image, count, low, rows, last, of_images, how, address(x, 0), slopes, source, into, NR
                )  # fmt: skip
                wait(tasks, words)
                _sum_chunk(
                    t, tasks, count * rows, image == 0 and low == 0, last, of_images, how, address(places, 0),
                    address(lines, 0), address(one, 0), source, slopes, into, address(dw, 0), address(db, 0),
                    summed, NR,
                )  # fmt: skip
                wait(tasks, words)

    return sum_products


# --------------------------------------------------------------------------------------------------------------- plans


class Shapes(NamedTuple):
    """Of a convolution: x (n, h, w, c), the kernel (kh, kw, c / groups, f), y (n, oh, ow, f); how windows move."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    y: tuple[int, ...]
    axes: tuple[windows.Along, ...]
    groups: int

    @property
    def is_plain(self) -> bool:
        """Whether each window is one number of x, or all of an image: then it is a product of matrices."""
        ones = all(axis.window == axis.stride == 1 and axis.places == axis.size for axis in self.axes)
        whole = all(axis.window == axis.size and axis.places == 1 and axis.before == 0 for axis in self.axes)
        whole = whole and all(axis.dilation == 1 or axis.window == 1 for axis in self.axes)
        return self.groups == 1 and (ones or whole)

    @property
    def reach(self) -> int:
        """Rows of x under a window."""
        return reach(self.axes[0].window, self.axes[0].dilation)

    @property
    def flops(self) -> int:
        """Of one of the three products."""
        return 2 * math.prod(self.y) * math.prod(self.w[:3])


def shapes_of(x: Any, w: Any, strides: Any, padding: Any, dilation: Any, groups: int) -> Shapes:
    """Of arrays, or of what has their shapes."""
    axes = tuple(windows.along(x.shape, w.shape, strides, padding, dilation))
    y = (x.shape[0], *(axis.places for axis in axes), w.shape[3])
    return Shapes(tuple(x.shape), tuple(w.shape), y, axes, groups)


def table(kind: np.dtype[Any], *rows: dict[str, int]) -> Any:
    """Records of a kind, zeros in fields that are not given."""
    return np.array([tuple(row.get(name, 0) for name in kind.names or ()) for row in rows], kind)


def laid(
    shape: tuple[int, ...], groups: int, down: windows.Lines, across: windows.Lines
) -> tuple[dict[str, int], bool]:
    """How images lie that windows move over, and whether they have to be copied for it."""
    n, h, w, c = shape
    copied = groups > 1 or not (windows.is_whole(down) and windows.is_whole(across))
    rows, columns = (down.width, across.width) if copied else (h, w)
    return {
        "n": n, "h": h, "w": w, "c": c, "groups": groups, "share": c // groups,
        "top": down.before, "left": across.before, "rows": rows, "columns": columns,
    }, copied  # fmt: skip


class Product(NamedTuple):
    """What a product of windows takes beside its operands."""

    tables: tuple[Any, ...]
    copies: int  # numbers that each task copies of images
    panels: int  # numbers of the kernel's panels
    nanoseconds: float


@lru_cache(gemm.PLANS)
def product_of(
    images: tuple[int, ...],
    outputs: tuple[int, ...],
    lines: tuple[windows.Lines, ...],
    groups: int,
    kernel: Any,
    itemsize: int,
) -> Product:
    """The product of windows over ``images`` that gives ``outputs``; ``kernel`` has the sizes and distances of taps."""
    shape, memory = tile(itemsize), caches()
    down, across = lines
    how, copied = laid(images, groups, down, across)
    share, columns = how["share"], how["columns"]
    maps, width = outputs[3], -(-(outputs[3] // groups) // shape.NR)
    deepest = max(256, memory.l2 // 8 // (shape.NR * itemsize))
    places: list[int] = []
    runs: list[int] = []
    phases, panels, depth_in_all = [], 0, 0
    for of_rows in down.phases:
        for of_columns in across.phases:
            taps = [(row, column) for row in of_rows.taps for column in of_columns.taps]
            joined = windows.consecutive(of_columns.taps) and len(of_columns.taps) * share <= deepest
            depth = share * (max(1, len(of_columns.taps)) if joined else 1)
            begin = [(row, column) for row in of_rows.taps for column in of_columns.taps[: 1 if joined else None]]
            phases.append({
                "row": of_rows.first, "rows": of_rows.outputs,
                "column": of_columns.first, "columns": of_columns.outputs,
                "run": len(runs), "runs": len(begin), "block": max(1, deepest // depth), "depth": depth,
                "panels": panels, "tap": len(places), "taps": len(taps),
            })  # fmt: skip
            pixel = share if copied else images[3]
            runs += [(row.source * columns + column.source) * pixel for row, column in begin]
            places += [row.place * kernel.columns + column.place for row, column in taps]
            panels += groups * width * len(taps) * share * shape.NR
            depth_in_all += of_rows.outputs * of_columns.outputs * len(taps) * share
    tall = max(phase.taps[-1].source + 1 if phase.taps else 1 for phase in down.phases)
    line = columns * share * itemsize
    at_once = max(1, (memory.l2 // 4 // line - tall) // down.step + 1)
    most = min(max(phase.outputs for phase in down.phases), at_once)
    copies = ((most - 1) * down.step + tall) * columns * share
    height = gemm.tile_rows(shape.MR, across.step * (share if copied else images[3]) * itemsize)
    product = {
        "h": outputs[1], "w": outputs[2], "maps": maps, "share": maps // groups, "row": down.out, "column": across.out,
        "down": down.step, "across": across.step, "reach": tall, "at_once": at_once, "copied": copied,
        "buffer": copies, "tap": kernel.tap, "group": kernel.group, "tap_row": kernel.row, "tap_column": kernel.column,
        "height": height,
    }  # fmt: skip
    tables = (
        table(IMAGES, how), table(PRODUCT, product), table(PHASE, *phases),
        np.array(places or [0], np.int64), np.array(runs or [0], np.int64),
    )  # fmt: skip
    nanoseconds = (2.0 * images[0] * depth_in_all * maps / groups) / gemm.FLOPS_PER_NS
    return Product(tables, copies if copied else 0, panels, nanoseconds)


class _Kernel(NamedTuple):
    """How the numbers of a kernel (kh, kw, c, f) lie that a product takes: its columns, and distances.

    Of taps, of groups' shares, and within a tap of what is summed over and of what is not.
    """

    columns: int
    tap: int
    group: int
    row: int
    column: int


def _taps(line: windows.Lines) -> tuple[windows.Tap, ...]:
    """Of a first phase."""
    return line.phases[0].taps


def blocks_of(
    images: tuple[int, ...], outputs: tuple[int, ...], lines: Sequence[windows.Lines], groups: int
) -> winograd.Windows | None:
    """Windows of 3x3 numbers side by side, one number further on each, where products of blocks of them pay."""
    for line in lines:
        if groups > 1 or line.out > 1 or line.step > 1 or [tap.source for tap in _taps(line)] != [0, 1, 2]:
            return None
    found = winograd.Windows(images, outputs, lines[0].before, lines[1].before)
    return found if found.worthwhile else None


def _windows_times_kernel(
    dtype: Any,
    images: tuple[int, ...],
    outputs: tuple[int, ...],
    lines: tuple[windows.Lines, ...],
    groups: int,
    kernel: _Kernel,
    activation: Any,
) -> Callable[..., None]:
    """What computes y = f(windows of x times w + bias), as a function of (x, w, bias, y), all in C order."""
    blocks = blocks_of(images, outputs, lines, groups)
    if blocks is not None:
        places = tuple(
            row.place * kernel.columns + column.place for row in _taps(lines[0]) for column in _taps(lines[1])
        )
        weights = winograd.Weights(places, kernel.tap, kernel.row, kernel.column)
        return winograd.product(blocks, weights, dtype, activation)
    product = product_of(images, outputs, lines, groups, kernel, dtype.itemsize)
    code, numbers = gemm.NO_EPILOGUE, np.zeros(1, dtype)
    if activation is not None:
        code, numbers = CODES[activation], elementwise.numbers_of(activation, dtype)
    compute = _multiply.planned(dtype, product.nanoseconds, code, numbers, *product.tables)

    def run(x: Any, w: Any, bias: Any, y: Any) -> None:
        copies = threads.count(product.nanoseconds) * product.copies
        scratch = workspace(product.panels + copies, dtype)
        compute(
            bias, x.reshape(-1), w.reshape(-1), scratch[: product.panels],
            scratch[product.panels : product.panels + copies], y.reshape(-1),
        )  # fmt: skip

    return run


def _forwards(shapes: Shapes, dtype: Any, activation: str | None) -> Callable[..., None]:
    """y = f(x * w + bias): of (x, w, bias, y)."""
    lines, kernel = _forward_of(shapes)
    return _windows_times_kernel(dtype, shapes.x, shapes.y, lines, shapes.groups, kernel, activation)


def _forward_of(shapes: Shapes) -> tuple[tuple[windows.Lines, ...], _Kernel]:
    """How windows move over x, and how the kernel's numbers lie for it."""
    _, kw, share, maps = shapes.w
    return tuple(map(windows.forward, shapes.axes)), _Kernel(kw, share * maps, maps // shapes.groups, maps, 1)


def direct_product(shapes: Shapes, itemsize: int) -> Product | None:
    """The product of windows that gives y, where nothing else takes less."""
    lines, kernel = _forward_of(shapes)
    if shapes.flops == 0 or shapes.is_plain or blocks_of(shapes.x, shapes.y, lines, shapes.groups) is not None:
        return None
    return product_of(shapes.x, shapes.y, lines, shapes.groups, kernel, itemsize)


def _backwards(shapes: Shapes, dtype: Any, activation: str | None) -> Callable[..., None]:
    """The gradient by x, or what has such numbers and a bias: of (dz, w, bias, dx)."""
    _, kw, share, maps = shapes.w
    kernel = _Kernel(kw, share * maps, maps // shapes.groups, 1, maps)
    lines = tuple(map(windows.backward, shapes.axes))
    return _windows_times_kernel(dtype, shapes.y, shapes.x, lines, shapes.groups, kernel, activation)


@lru_cache(gemm.PLANS)
def _gradient_of(shapes: Shapes, itemsize: int) -> tuple[tuple[Any, ...], int, int]:
    """(tables, numbers of a chunk of images, of dz as panels) for the gradient by w."""
    tile_shape, memory = tile(itemsize), caches()
    down, across = map(windows.forward, shapes.axes)
    how, copied = laid(shapes.x, shapes.groups, down, across)
    (n, oh, ow, maps), (kh, kw, share, _) = shapes.y, shapes.w
    pixel, columns = (share if copied else shapes.x[3]), how["columns"]
    most = min(memory.l3 // 4, _MOST_CHUNK) // itemsize
    padded = tile_shape.NR * -(-(maps // shapes.groups) // tile_shape.NR) * shapes.groups

    def numbers(rows: int) -> int:
        """Of so many rows of an image's outputs: of x, and of dz as panels."""
        return ((rows - 1) * down.step + shapes.reach) * columns * shapes.x[3] + rows * ow * padded

    rows = oh
    while rows > 1 and numbers(rows) > most:
        rows = (rows + 1) // 2
    images = min(n, max(1, most // numbers(oh))) if rows == oh else 1
    if copied:
        how["rows"] = (rows - 1) * down.step + shapes.reach
    joined = shapes.axes[1].dilation == 1
    starts = [
        (k * shapes.axes[0].dilation * columns + m * shapes.axes[1].dilation) * pixel
        for k in range(kh)
        for m in range(1 if joined else kw)
    ]
    depth = share * (kw if joined else 1)
    image = how["rows"] * columns * (shapes.x[3] if copied else pixel)
    lines = [i * image + r * down.step * columns * pixel for i in range(images) for r in range(rows)]
    gradient = {
        "h": oh, "w": ow, "maps": maps, "share": maps // shapes.groups, "down": down.step, "across": across.step,
        "images": images, "rows": rows, "copied": copied, "block": max(1, _DEPTH // ow),
        "runs": len(starts), "depth": depth, "tiles": -(-depth // tile_shape.MR),
        "in_place": maps * itemsize <= _NARROW, "but_last": maps % tile_shape.VL > 0,
    }  # fmt: skip
    tables = table(IMAGES, how), table(GRADIENT, gradient), np.array(starts, np.int64), np.array(lines, np.int64)
    return tables, images * image if copied else 0, images * rows * ow * padded


def _by_kernel(shapes: Shapes, dtype: Any) -> Callable[..., None]:
    """The gradients by w and by the bias: of (x, dz, dw, db), all in C order; without db where it is left out."""
    blocks = blocks_of(shapes.x, shapes.y, [windows.forward(axis) for axis in shapes.axes], shapes.groups)
    if blocks is not None:
        return winograd.gradient(blocks, dtype)
    tables, chunk, panels = _gradient_of(shapes, dtype.itemsize)
    one, none = np.ones(1, dtype), np.empty(0, dtype)
    compute = _sum_products.planned(dtype, shapes.flops / gemm.FLOPS_PER_NS, *tables, one)

    def run(x: Any, dz: Any, dw: Any, db: Any = none) -> None:
        scratch = workspace(chunk + panels, dtype)
        compute(x.reshape(-1), dz.reshape(-1), scratch[:chunk], scratch[chunk:], dw.reshape(-1), db)

    return run


# ----------------------------------------------------------------------------------------------------------------- ops


def _into(out: Any, shape: tuple[int, ...], dtype: Any, *sources: Any) -> Callable[..., Any]:
    """``placing`` for kernels that want C order."""
    return placing(out if out is not None and out.flags.carray else None, shape, dtype, *sources)


def as_rows(array: Any) -> Any:
    """An array as a matrix of rows along its last axis, in C order; None stays."""
    return None if array is None else in_order(array).reshape(math.prod(array.shape[:-1]), array.shape[-1])


def _plain(shapes: Shapes, activation: str, b: Any, dtype: Any) -> Callable[..., None]:
    """The linear layer that a convolution is whose windows are rows of a matrix: of (x, w, bias, y)."""
    positions, depth, maps = math.prod(shapes.y[:3]), math.prod(shapes.w[:3]), shapes.w[3]
    sizes = (positions, depth), (depth, maps), (positions, maps)
    like_x, like_w, like_y = (np.empty(size, dtype) for size in sizes)
    linear = gemm.linear.plan(like_x, like_w, b, activation, out=like_y)

    def run(x: Any, w: Any, b: Any, y: Any) -> None:
        x, w, y = (each.reshape(size) for each, size in zip((x, w, y), sizes, strict=True))
        linear(x, w, b, out=y)

    return run


def _of_nothing(shape: tuple[int, ...], activation: str, b: Any, dtype: Any) -> Callable[..., None]:
    """The same of sums without terms."""
    positions, maps = math.prod(shape[:3]), shape[3]
    zeros = np.zeros((positions, 1), dtype), np.zeros((1, maps), dtype)
    linear = gemm.linear.plan(*zeros, b, activation, out=np.empty((positions, maps), dtype))
    return lambda x, w, b, y: linear(*zeros, b, out=y.reshape(positions, maps))


def fused(activation: str, b: Any) -> str | None:
    """The activation that tiles go through; None where that is nothing, and no bias either."""
    name = ELEMENTWISE_ACTIVATIONS.get(activation, "identity")
    return None if b is None and name == "identity" else name


def layer(
    multiply: Callable[..., None],
    shape: tuple[int, ...],
    activation: str,
    out: Any,
    x: Any,
    w: Any,
    b: Any,
    no_bias: Any,
) -> Callable[..., Any]:
    """What runs calls of a layer's op like this one, by ``multiply(x, w, bias, y)``.

    What an activation needs of whole rows follows.
    """
    place, like = _into(out, shape, x.dtype, x, w, b), np.empty(shape, x.dtype)
    of_rows = None
    if activation not in ELEMENTWISE_ACTIVATIONS and like.size:
        of_rows = getattr(softmax, activation).plan(as_rows(like), out=as_rows(like))

    def run(x: Any, w: Any, b: Any = None, *_: Any, out: Any = None) -> Any:
        y = place(out, x, w, b)
        multiply(in_order(x), in_order(w), no_bias if b is None else in_order(b), y)
        if of_rows is not None:
            of_rows(as_rows(y), out=as_rows(y))
        return finish(y, out)

    return run


def gradients(
    of_x: Callable[..., Any], of_w: Callable[..., Any], need: Sequence[str], activation: str,
    sources: Sequence[Any], dx: Any, dw: Any, db: Any, sums: bool = False,
) -> Callable[..., tuple[Any, Any, Any]]:  # fmt: skip
    """What runs calls of a layer's backward op like this one, by ``of_x(dz, w, dx)`` and ``of_w(x, dz, dw)``.

    ``sources`` are dy, x, w, y and z; dz is the rows of dy times the activation's derivative. ``sums`` says that
    ``of_w(x, dz, dw, db)`` gives the sums of dz as well.
    """
    dy, x, w, y, z = sources
    derive, like = gemm.derivative(as_rows(dy), as_rows(y), activation, as_rows(z))
    place_x = _into(dx, x.shape, x.dtype, *sources) if "dx" in need else None
    place_w = _into(dw, w.shape, x.dtype, *sources) if "dw" in need else None
    together = sums and "dw" in need and "db" in need
    place_b = _into(db, like.shape[1:], x.dtype, *sources) if together else None
    of_b = gemm.sums_into(db, like, *sources) if "db" in need and not together else None

    def run(
        dy: Any, x: Any, w: Any, y: Any, activation: str = "linear", z: Any = None, *_: Any,
        dx: Any = None, dw: Any = None, db: Any = None,
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        sources = dy, x, w, y, z
        dz = derive(as_rows(dy), as_rows(y), as_rows(z))
        slope_x, slope_w = place_x and place_x(dx, *sources), place_w and place_w(dw, *sources)
        if place_x is not None:
            of_x(dz, in_order(w), slope_x)
        slope_b = place_b and place_b(db, *sources)
        if place_b is not None:
            of_w(in_order(x), dz, slope_w, slope_b)
        elif place_w is not None:
            of_w(in_order(x), dz, slope_w)
        if of_b is not None:
            slope_b = of_b(db, dz, *sources)
        wanted_b = of_b or place_b
        return place_x and finish(slope_x, dx), place_w and finish(slope_w, dw), wanted_b and finish(slope_b, db)

    return run


@Planned
def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    activation: str = "linear",
    strides: Any = (1, 1),
    padding: Any = "valid",
    dilation: Any = (1, 1),
    groups: int = 1,
    *,
    out: Any = None,
) -> Callable[..., Any]:
    """Bias and elementwise activation run on each tile while it is in L1; what needs whole rows follows."""
    shapes, dtype = shapes_of(x, w, strides, padding, dilation, groups), x.dtype
    by_tile = activation if activation in ELEMENTWISE_ACTIVATIONS else "linear"
    if shapes.flops == 0:
        return layer(_of_nothing(shapes.y, by_tile, b, dtype), shapes.y, activation, out, x, w, b, None)
    if shapes.is_plain:
        return layer(_plain(shapes, by_tile, b, dtype), shapes.y, activation, out, x, w, b, None)
    multiply = _forwards(shapes, dtype, fused(activation, b))
    return layer(multiply, shapes.y, activation, out, x, w, b, np.zeros(shapes.w[3], dtype))


@Planned
def conv2d_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any,
    activation: str = "linear",
    z: Any = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    strides: Any = (1, 1),
    padding: Any = "valid",
    dilation: Any = (1, 1),
    groups: int = 1,
    *,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
) -> Callable[..., tuple[Any, Any, Any]]:
    """dz first, then a product of windows over dz, and the sums over x's windows with those of dz."""
    shapes, dtype = shapes_of(x, w, strides, padding, dilation, groups), x.dtype
    of_x, of_w, sums = (
        gradient_by_x(shapes, dtype),
        gradient_by_w(shapes, dtype),
        shapes.flops > 0 and not shapes.is_plain,
    )
    return gradients(of_x, of_w, need, activation, (dy, x, w, y, z), dx, dw, db, sums)


def gradient_by_x(shapes: Shapes, dtype: Any) -> Callable[..., Any]:
    """The gradient by x: of (dz as rows, w, dx)."""
    if shapes.flops == 0:
        return lambda dz, w, dx: dx.fill(0)
    if not shapes.is_plain:
        multiply, no_bias = _backwards(shapes, dtype, None), np.empty(0, dtype)
        return lambda dz, w, dx: multiply(dz, w, no_bias, dx)
    depth, maps, positions = math.prod(shapes.w[:3]), shapes.w[3], math.prod(shapes.y[:3])
    like = np.empty((positions, maps), dtype), np.empty((depth, maps), dtype).T
    product = gemm.product_into(np.empty((positions, depth), dtype), *like)
    return lambda dz, w, dx: product(dx.reshape(positions, depth), dz, w.reshape(depth, maps).T)


def gradient_by_w(shapes: Shapes, dtype: Any) -> Callable[..., Any]:
    """The gradient by w: of (x, dz as rows, dw)."""
    if shapes.flops == 0:
        return lambda x, dz, dw: dw.fill(0)
    if not shapes.is_plain:
        return _by_kernel(shapes, dtype)
    depth, maps, positions = math.prod(shapes.w[:3]), shapes.w[3], math.prod(shapes.y[:3])
    like = np.empty((positions, depth), dtype).T, np.empty((positions, maps), dtype)
    product = gemm.product_into(np.empty((depth, maps), dtype), *like)
    return lambda x, dz, dw: product(dw.reshape(depth, maps), x.reshape(positions, depth).T, dz)


def _mirrored(x: Any, w: Any, strides: Any, padding: Any, dilation: Any) -> Shapes:
    """Of the convolution of which a transposed one of x is the gradient."""
    along = zip(x.shape[1:3], w.shape, strides, dilation, strict=False)
    sizes = (spread(size, k, step, padding, axis, apart) for axis, (size, k, step, apart) in enumerate(along))
    source = (x.shape[0], *sizes, w.shape[2])
    axes = tuple(windows.along(source, w.shape, strides, padding, dilation))
    return Shapes(source, tuple(w.shape), tuple(x.shape), axes, 1)


@Planned
def conv2d_transpose(
    x: Any,
    w: Any,
    b: Any = None,
    activation: str = "linear",
    strides: Any = (1, 1),
    padding: Any = "valid",
    dilation: Any = (1, 1),
    *,
    out: Any = None,
) -> Callable[..., Any]:
    """``conv2d``'s gradient by x, with an epilogue."""
    shapes, dtype = _mirrored(x, w, strides, padding, dilation), x.dtype
    if shapes.flops == 0:
        by_tile = activation if activation in ELEMENTWISE_ACTIVATIONS else "linear"
        return layer(_of_nothing(shapes.x, by_tile, b, dtype), shapes.x, activation, out, x, w, b, None)
    multiply = _backwards(shapes, dtype, fused(activation, b))
    return layer(multiply, shapes.x, activation, out, x, w, b, np.zeros(shapes.x[3], dtype))


@Planned
def conv2d_transpose_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any,
    activation: str = "linear",
    z: Any = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    strides: Any = (1, 1),
    padding: Any = "valid",
    dilation: Any = (1, 1),
    *,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
) -> Callable[..., tuple[Any, Any, Any]]:
    """dz first, of which dx is the convolution; dw sums products of its windows with x."""
    shapes, dtype = _mirrored(x, w, strides, padding, dilation), x.dtype
    if shapes.flops == 0:
        of_x, of_w = gradient_by_w(shapes, dtype), gradient_by_x(shapes, dtype)
    else:
        multiply, by_kernel, no_bias = _forwards(shapes, dtype, None), _by_kernel(shapes, dtype), np.empty(0, dtype)
        of_x, of_w = lambda dz, w, dx: multiply(dz, w, no_bias, dx), lambda x, dz, dw: by_kernel(dz, x, dw)
    return gradients(of_x, of_w, need, activation, (dy, x, w, y, z), dx, dw, db)


@Planned
def conv1d(
    x: Any,
    w: Any,
    b: Any = None,
    activation: str = "linear",
    strides: Any = (1,),
    padding: Any = "valid",
    dilation: Any = (1,),
    groups: int = 1,
    *,
    out: Any = None,
) -> Callable[..., Any]:
    """``conv2d`` of images of one row."""
    options = *options_of_images(strides, padding, dilation), groups
    convolve = conv2d.plan(as_image(x), w[np.newaxis], b, activation, *options, out=as_image(out))

    def run(x: Any, w: Any, b: Any = None, *_: Any, out: Any = None) -> Any:
        y = convolve(as_image(x), w[np.newaxis], b, out=as_image(out))
        return y[:, 0] if out is None else out

    return run


@Planned
def conv1d_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any,
    activation: str = "linear",
    z: Any = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    strides: Any = (1,),
    padding: Any = "valid",
    dilation: Any = (1,),
    groups: int = 1,
    *,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
) -> Callable[..., tuple[Any, Any, Any]]:
    """``conv2d_backward`` of images of one row."""
    options = *options_of_images(strides, padding, dilation), groups
    into = {"dx": as_image(dx), "dw": None if dw is None else dw[np.newaxis], "db": db}
    arrays = as_image(dy), as_image(x), w[np.newaxis], as_image(y), activation, as_image(z)
    derive = conv2d_backward.plan(*arrays, need, *options, **into)

    def run(
        dy: Any, x: Any, w: Any, y: Any, activation: str = "linear", z: Any = None, *_: Any,
        dx: Any = None, dw: Any = None, db: Any = None,
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        into = {"dx": as_image(dx), "dw": None if dw is None else dw[np.newaxis], "db": db}
        of_x, of_w, of_b = derive(
            as_image(dy), as_image(x), w[np.newaxis], as_image(y), activation, as_image(z), **into
        )
        slope_x = None if of_x is None else of_x[:, 0]
        slope_w = None if of_w is None else of_w[0]
        return slope_x if dx is None else dx, slope_w if dw is None else dw, of_b

    return run
