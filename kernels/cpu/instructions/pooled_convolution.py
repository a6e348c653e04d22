"""Convolutions whose results a max pool is all that looks at, in a program: neither these nor their gradient are kept.

Rows of outputs under a row of windows are made in L1, and the largest numbers of the windows go to memory, each with
the number of its cell. Only those cells have a gradient: dW sums one patch of x for each largest number, a quarter of
the multiply-adds of all outputs where windows are 2x2. Patches lie in strips: of each column of outputs the numbers
under its windows, row by row, so that the patch of a window is a run of ``kh kw c`` numbers. What they cannot serve
(dilation, groups, windows of a few cells) is done with the gradient of all outputs, as is the one by x.

Numbers are those of the ops one by one; sums of dW are those of groups of images, of which tasks have some each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types

from fastnn.kernels.cpu import elementwise, gemm
from fastnn.kernels.cpu._arrays import between, in_order, workspace
from fastnn.kernels.cpu.compiler.machine import LINE, NV, caches, tile
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.convolution import (
    IMAGES,
    PHASE,
    PRODUCT,
    Product,
    Shapes,
    as_rows,
    direct_product,
    gradient_by_w,
    gradient_by_x,
    lay_row,
    pack_taps,
    phase_rows,
    shapes_of,
    table,
)
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.records import record
from fastnn.kernels.cpu.simd.elementwise import add_row, sum_columns
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.patches import most_vectors, sum_patches
from fastnn.kernels.cpu.simd.pooling import AS_THEY_ARE, BRIEF, pool_cells_row, spread_cells_row
from fastnn.kernels.cpu.simd.tile import copy_rows
from fastnn.kernels.cpu.teams import threads
from fastnn.kernels.cpu.teams.barrier import wait
from fastnn.kernels.formulas.activations import ACTIVATIONS, CODES
from fastnn.kernels.graph import Block, Call, Graph, View, is_same
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS

# What a plan calls them.
POOLED, POOLED_BACKWARD = "conv2d and max_pool2d", "gradient of conv2d and max_pool2d"

# Outputs under a window from which on it pays to sum patches one by one: each comes with a load.
_CELLS = 3

# Groups of images at most, each with sums of its own, so that bits are those of any number of tasks.
_GROUPS = 16

# Windows: rows and columns of them in an image, their height and width, rows of them at a time; outputs, by rows and
# columns, and maps; what becomes of outputs before the largest is found; numbers of rows of outputs that a task needs.
WINDOWS = record(
    *((name, np.int64) for name in ("p", "q", "height", "width", "at_once", "oh", "ow", "maps", "code", "rows"))
)

# Strips of images (n, h, w, c) with ``top`` and ``left`` zeros: columns of outputs, rows, numbers of a row, how far
# columns are apart; numbers of an image. Rows and columns of windows, how far their patches are apart, maps. A patch's
# numbers, as whole vectors, and how many of them at a time. Groups of images, and numbers of the sums of one.
STRIPS = record(
    *((name, np.int64) for name in ("n", "h", "w", "c", "top", "left", "columns", "rows", "run", "step", "size")),
    *((name, np.int64) for name in ("p", "q", "down", "across", "maps", "depth", "vectors", "block", "groups", "sums")),
)


# ----------------------------------------------------------------------------------------------------- forward


@compiled_in
def _pooled_share(t, tasks, images, product, phase, runs, epilogue, pool, x, panels, buffer, lines, bias, y, cells, NR):
    """Task t's share of all rows of windows."""
    size, line = images.columns * images.share, pool.ow * pool.maps
    unit, end = t * images.n * pool.p // tasks, (t + 1) * images.n * pool.p // tasks
    while unit < end:
        image, low = unit // pool.p, unit % pool.p
        high = min(pool.p, low + min(pool.at_once, end - unit))
        unit += high - low
        first, last = low * pool.height, high * pool.height
        into = address(lines, -(image * pool.oh + first) * line)
        for group in range(product.maps // product.share):
            source = address(x, (image * images.h + first * product.down) * images.w * images.c)
            if product.copied:
                source = address(buffer, 0)
                for r in range((last - first - 1) * product.down + product.reach):
                    lay_row(x, images, image, first * product.down + r, group, address(source, r * size))
            phase_rows(image, first, last, group, images, product, phase, runs, epilogue, source, panels, into, NR)
        for r in range(high - low):
            made = (image * pool.p + low + r) * pool.q * pool.maps
            pool_cells_row(
                pool.code, pool.q, pool.width * pool.maps, pool.height, pool.width, line, pool.maps,
                address(lines, r * pool.height * line), bias, address(y, made), address(cells, made),
            )  # fmt: skip


def _pooled_signature(dtype: Any) -> Any:
    images, product, phase, pool = (types.Array(from_dtype(each), 1, "C") for each in (IMAGES, PRODUCT, PHASE, WINDOWS))
    size, sizes, numbers, cells = types.int64, flat(types.int64), flat(dtype), flat(types.int32)
    return types.void(size, numbers, images, product, phase, sizes, sizes, pool, *[numbers] * 7, cells)


@kernel(_pooled_signature)
def _multiply_pooled(MR: int, NR: int) -> Any:
    def multiply_pooled(
        code, numbers, images, product, phases, places, runs, pools, bias, x, w, panels, buffers, lines, y, cells,
        words, t, team,
    ):  # fmt: skip
        of_images, of_product, pool, into = images[0], product[0], pools[0], address(panels, 0)
        pack_taps(t, team, of_product, phases, address(places, 0), of_images.share, address(w, 0), into, NR)
        wait(team, words)
        tasks = min(team, lines.size // pool.rows)
        if of_product.copied:
            tasks = min(tasks, buffers.size // of_product.buffer)
        if t < tasks:
            epilogue = gemm.Epilogue(code, address(bias, 0), address(numbers, 0))
            _pooled_share(
                t, tasks, of_images, of_product, phases[0], address(runs, 0), epilogue, pool, address(x, 0), into,
                address(buffers, t * of_product.buffer), address(lines, t * pool.rows), address(bias, 0),
                address(y, 0), address(cells, 0), NR,
            )  # fmt: skip

    return multiply_pooled


# ------------------------------------------------------------------------------------------------- the gradient by w


@compiled_in
def _lay_strips(strips, image, x, into, vector):
    """The strips of an image, zeros where nothing of it lies."""
    wide, run, room = strips.w * strips.c, strips.run, (strips.run + vector - 1) // vector * vector
    top = min(strips.top, strips.rows)
    bottom = min(strips.rows, top + strips.h)
    for column in range(strips.columns):
        target, first = address(into, column * strips.rows * run), (column * strips.step - strips.left) * strips.c
        low, high = max(0, -first), max(0, min(run, wide - first))
        for k in range(top * run):
            target[k] = 0.0
        source = address(x, image * strips.h * wide + first)
        if low == 0 and high == run:
            copy_rows(bottom - top, run, room, source, wide, address(target, top * run), run)
        else:
            for row in range(top, bottom):
                for k in range(run):
                    target[row * run + k] = source[(row - top) * wide + k] if low <= k < high else 0.0
        for k in range(bottom * run, strips.rows * run):
            target[k] = 0.0


@compiled_in
def _sum_image(strips, offsets, x, dz, cells, sums, vector):
    """The sums of all maps with those of an image."""
    depth = strips.vectors * vector
    for first in range(0, strips.vectors, strips.block):
        sum_patches(
            min(strips.block, strips.vectors - first), strips.maps, strips.p, strips.q, strips.down, strips.across,
            strips.maps, dz, cells, offsets, address(x, first * vector), address(sums, first * vector), depth,
        )  # fmt: skip


@compiled_in
def _gather_sums(low, high, strips, sums, dw, vector):
    """dw of maps ``low`` to ``high``: the sums of all groups, in their order."""
    depth = strips.vectors * vector
    for m in range(low, high):
        total = address(sums, m * depth)
        for group in range(1, strips.groups):
            add_row(depth, total, address(total, group * strips.sums), total, 0)
        for k in range(strips.depth):
            dw[k * strips.maps + m] = total[k]


def _sums_signature(dtype: Any) -> Any:
    numbers = flat(dtype)
    strips = types.Array(from_dtype(STRIPS), 1, "C")
    return types.void(strips, flat(types.int64), numbers, numbers, flat(types.int32), *[numbers] * 4)


@kernel(_sums_signature)
def _sum_pooled(MR: int, NR: int) -> Any:
    def sum_pooled(strips, offsets, x, dz, cells, buffers, sums, dw, db, words, t, team):
        how, vector = strips[0], NR // NV
        each, own, of_bias = how.p * how.q * how.maps, how.maps * how.vectors * vector, db.size > 0
        tasks = min(team, buffers.size // how.size)
        buffer = address(buffers, min(t, tasks - 1) * how.size)
        for group in range(t * how.groups // tasks, min(tasks, t + 1) * how.groups // tasks):
            begin, end, into = group * how.n // how.groups, (group + 1) * how.n // how.groups, group * how.sums
            for k in range(own):
                sums[into + k] = 0.0
            for image in range(begin, end):
                _lay_strips(how, image, address(x, 0), buffer, vector)
                slopes, chosen = address(dz, image * each), address(cells, image * each)
                _sum_image(how, address(offsets, 0), buffer, slopes, chosen, address(sums, into), vector)
            if of_bias:
                lines = (end - begin) * how.p * how.q
                sum_columns(how.maps, lines, address(dz, begin * each), how.maps, address(sums, into + own))
        wait(team, words)
        _gather_sums(t * how.maps // team, (t + 1) * how.maps // team, how, address(sums, 0), address(dw, 0), vector)
        if of_bias and t == 0:
            for m in range(how.maps):
                total = sums[own + m]
                for group in range(1, how.groups):
                    total += sums[group * how.sums + own + m]
                db[m] = total

    return sum_pooled


def _spread_signature(dtype: Any) -> Any:
    return types.void(types.Array(from_dtype(WINDOWS), 1, "C"), flat(dtype), flat(types.int32), flat(dtype))


@kernel(_spread_signature)
def _spread_cells(MR: int, NR: int) -> Any:
    def spread_cells(pools, dz, cells, dx, words, t, tasks):
        pool = pools[0]
        line, each = pool.ow * pool.maps, pool.q * pool.maps
        lines = dx.size // line
        wide = pool.q * pool.width * pool.maps
        for at in range(t * lines // tasks, (t + 1) * lines // tasks):
            image, row = at // pool.oh, at % pool.oh
            beyond = row >= pool.p * pool.height
            for k in range(at * line + (0 if beyond else wide), (at + 1) * line):
                dx[k] = 0.0
            if not beyond and row % pool.height == 0:
                place = (image * pool.p + row // pool.height) * each
                spread_cells_row(
                    pool.q, pool.width * pool.maps, pool.height, pool.width, line, pool.maps, address(dz, place),
                    address(cells, place), address(dx, at * line),
                )  # fmt: skip

    return spread_cells


# --------------------------------------------------------------------------------------------------------------- plans


class Joined(NamedTuple):
    """A convolution with its activation and the windows over its results: their height and width."""

    shapes: Shapes
    activation: str
    pool: tuple[int, int]

    @property
    def places(self) -> tuple[int, ...]:
        """The shape of the result."""
        n, oh, ow, maps = self.shapes.y
        return n, oh // self.pool[0], ow // self.pool[1], maps

    @property
    def in_windows(self) -> float:
        """The share of the outputs that is under windows."""
        return math.prod(self.places) * math.prod(self.pool) / math.prod(self.shapes.y)

    def by_patches(self, itemsize: int) -> bool:
        """Whether the gradient by w is summed patch by patch: where they pay, and an image's stay in L2."""
        dilated = any(axis.dilation > 1 for axis in self.shapes.axes)
        fits = self.shapes.groups == 1 and not dilated and math.prod(self.pool) >= _CELLS
        return fits and _strips_of(self, itemsize)[0]["size"] * itemsize <= caches().l2


def _windows_of(given: Joined, itemsize: int, **more: int) -> dict[str, int]:
    (_, oh, ow, maps), (height, width), (_, p, q, _) = given.shapes.y, given.pool, given.places
    line = height * ow * maps
    at_once = max(1, caches().l1 // 2 // (line * itemsize))
    return {
        "p": p, "q": q, "height": height, "width": width, "at_once": at_once, "oh": oh, "ow": ow, "maps": maps, **more,
    }  # fmt: skip


def _direct(given: Joined, dtype: Any) -> Product | None:
    """The product that gives the outputs, if rows of windows fit into what it makes at a time."""
    product = direct_product(given.shapes, dtype.itemsize)
    return product if product and product.tables[1]["at_once"][0] >= given.pool[0] else None


def _forward(given: Joined, dtype: Any) -> Callable[..., None]:
    """The largest numbers and their cells: of (x, w, bias, y, cells), all in C order."""
    product = _direct(given, dtype)
    assert product is not None
    images, of_product, phases, places, runs = product.tables
    code, numbers, name = gemm.NO_EPILOGUE, np.zeros(1, dtype), ELEMENTWISE_ACTIVATIONS[given.activation]
    before = BRIEF.index(name) if name in BRIEF else AS_THEY_ARE
    if before == AS_THEY_ARE:
        code, numbers = CODES[name], elementwise.numbers_of(name, dtype)
    pool = _windows_of(given, dtype.itemsize, code=before)
    rows = min(int(of_product["at_once"][0]), given.shapes.y[1]) // given.pool[0]
    pool["at_once"] = min(pool["at_once"], rows)
    pool["rows"] = pool["at_once"] * given.pool[0] * given.shapes.y[2] * given.shapes.y[3]
    phases = phases.copy()
    phases["columns"] = pool["q"] * pool["width"]
    tables = images, of_product, phases, places, runs, table(WINDOWS, pool)
    work = product.nanoseconds * given.in_windows
    compute = _multiply_pooled.planned(dtype, work, code, numbers, *tables)

    def run(x: Any, w: Any, bias: Any, y: Any, cells: Any) -> None:
        tasks = threads.count(work)
        scratch = workspace(product.panels + tasks * (product.copies + pool["rows"]), dtype)
        panels, copies = scratch[: product.panels], tasks * product.copies
        compute(
            bias, x.reshape(-1), w.reshape(-1), panels, scratch[panels.size : panels.size + copies],
            scratch[panels.size + copies :][: tasks * pool["rows"]], y.reshape(-1), cells.reshape(-1),
        )  # fmt: skip

    return run


@lru_cache(gemm.PLANS)
def _strips_of(given: Joined, itemsize: int) -> tuple[dict[str, int], Any]:
    """How strips lie, and where a cell's patch begins behind its window's."""
    (n, h, w, c), (kh, kw, _, maps), (height, width) = given.shapes.x, given.shapes.w, given.pool
    (down, across), (_, p, q, _), vector = given.shapes.axes, given.places, tile(itemsize).VL
    run, rows = kw * c, (p * height - 1) * down.stride + kh
    vectors = -(-kh * run // vector)
    line = LINE // itemsize
    size = -(-(q * width * rows * run + vector) // line) * line
    strips = {
        "n": n, "h": h, "w": w, "c": c, "top": down.before, "left": across.before, "columns": q * width, "rows": rows,
        "run": run, "step": across.stride, "size": size, "p": p, "q": q, "down": height * down.stride * run,
        "across": width * rows * run, "maps": maps, "depth": kh * run, "vectors": vectors,
        "block": -(-vectors // -(-vectors // most_vectors())),
        "groups": min(n, _GROUPS), "sums": maps * vectors * vector + -(-maps // line) * line,
    }  # fmt: skip
    offsets = [(j * rows + i * down.stride) * run for i in range(height) for j in range(width)]
    return strips, np.array(offsets, np.int64)


def _by_patches(given: Joined, dtype: Any) -> Callable[..., None]:
    """The gradients by w and by the bias: of (x, dz, cells, dw, db), all in C order; without db where it is empty."""
    strips, offsets = _strips_of(given, dtype.itemsize)
    sums = strips["groups"] * strips["sums"]
    work = 2.0 * math.prod(given.places) * strips["vectors"] * tile(dtype.itemsize).VL / gemm.FLOPS_PER_NS
    compute = _sum_pooled.planned(dtype, work, table(STRIPS, strips), offsets)

    def run(x: Any, dz: Any, cells: Any, dw: Any, db: Any) -> None:
        buffers = min(threads.count(work), strips["groups"]) * strips["size"]
        scratch = workspace(sums + buffers, dtype)
        flat_dz, flat_cells = dz.reshape(-1), cells.reshape(-1)
        compute(x.reshape(-1), flat_dz, flat_cells, scratch[sums:][:buffers], scratch[:sums], dw.reshape(-1), db)

    return run


def _spread(given: Joined, dz: Any, cells: Any) -> Any:
    """The gradient of all outputs."""
    whole = between(given.shapes.y, dz.dtype)
    work = whole.size / gemm.FLOPS_PER_NS
    pool = table(WINDOWS, _windows_of(given, dz.dtype.itemsize))
    _spread_cells(dz.dtype, work, pool, dz.reshape(-1), cells.reshape(-1), whole.reshape(-1))
    return whole


# ------------------------------------------------------------------------------------------------------------- programs


def _cells_of(given: Joined) -> View:
    """Memory for the cells of the largest numbers."""
    kind, shape = np.dtype(np.int32), given.places
    strides = tuple(math.prod(shape[place + 1 :]) * kind.itemsize for place in range(len(shape)))
    return View(Block(math.prod(shape) * kind.itemsize), 0, shape, strides, kind)


def _run_forward(given: Joined) -> Callable[..., Any]:
    def run(x: Any, w: Any, b: Any) -> Any:
        y, cells = np.empty(given.places, x.dtype), np.empty(given.places, np.int32)
        bias = np.zeros(given.shapes.w[3], x.dtype) if b is None else in_order(b)
        _forward(given, x.dtype)(in_order(x), in_order(w), bias, y, cells)
        return y, cells

    return run


def _run_backward(given: Joined, need: Sequence[str]) -> Callable[..., Any]:
    def run(dy: Any, x: Any, w: Any, y: Any, activation: str, z: Any, cells: Any) -> Any:
        derive, _ = gemm.derivative(as_rows(dy), as_rows(y), activation, None)
        dz, shapes, dtype = derive(as_rows(dy), as_rows(y), None), given.shapes, dy.dtype
        dx, dw, db = (
            np.empty(shape, dtype) if name in need else None
            for name, shape in zip(("dx", "dw", "db"), (shapes.x, shapes.w, shapes.w[3:]), strict=True)
        )
        patches = dw is not None and given.by_patches(dtype.itemsize)
        whole = as_rows(_spread(given, dz, cells)) if dx is not None or not patches else None
        if dx is not None:
            gradient_by_x(shapes, dtype)(whole, in_order(w), dx)
        if patches:
            _by_patches(given, dtype)(in_order(x), dz, cells, dw, np.empty(0, dtype) if db is None else db)
        elif dw is not None:
            gradient_by_w(shapes, dtype)(in_order(x), whole, dw, *([] if db is None else [db]))
        if db is not None and dw is None:
            gemm.sums_into(db, dz)(db, dz)
        return dx, dw, db

    return run


def joined(graph: Graph) -> Graph:
    """The graph with one call for each convolution and the pool that is all that looks at its results."""
    calls, kept = [*graph.calls], {view.block for view in graph.kept}
    for call in graph.calls:
        if call.op == "conv2d":
            calls = _with_pool(calls, call, kept)
    return graph if len(calls) == len(graph.calls) else replace(graph, calls=tuple(calls))


def _with_pool(calls: Sequence[Call], convolution: Call, kept: set[Block]) -> list[Call]:
    """The calls without what ``convolution`` gives, if nobody but a max pool, and both's gradients, wants it."""
    (outputs,), given = convolution.results, convolution.given
    pools = [call for call in calls if call.op == "max_pool2d" and is_same(call.given["x"], outputs)]
    users = [call for call in calls if outputs.block in call.touched() and call is not convolution]
    if len(pools) != 1 or outputs.block in kept or given.get("out") is not None:
        return [*calls]
    (pool,) = pools
    joined = _joined_of(convolution, pool)
    backward = _backward_of(calls, [call for call in users if call is not pool], convolution, pool, kept)
    if joined is None or backward is None or _direct(joined, outputs.dtype) is None:
        return [*calls]
    sources = {name: given.get(name) for name in ("x", "w", "b")}
    cells = _cells_of(joined)
    changed: dict[int, Call | None] = {
        id(convolution): Call(POOLED, sources, (*pool.results, cells), (), _run_forward(joined)),
        id(pool): None,
    }
    if backward:
        back, end = backward
        taken = {
            "dy": back.given["dy"], "x": given["x"], "w": given["w"], "y": pool.results[0],
            "activation": joined.activation, "z": None, "cells": cells,
        }  # fmt: skip
        changed[id(back)] = None
        changed[id(end)] = Call(POOLED_BACKWARD, taken, end.results, (), _run_backward(joined, end.given["need"]))
    made = [changed.get(id(call), call) for call in calls]
    return [call for call in made if call is not None]


def _joined_of(convolution: Call, pool: Call) -> Joined | None:
    """Both, where windows lie side by side and are all of outputs, and the activation's results tell its derivative."""
    given, size = convolution.given, tuple(pool.given["pool_size"])
    activation = ACTIVATIONS.get(ELEMENTWISE_ACTIVATIONS.get(given["activation"], ""))
    side_by_side = tuple(pool.given["strides"]) == size and pool.given["padding"] == "valid"
    if not side_by_side or activation is None or activation.needs == "x" or pool.given.get("out") is not None:
        return None
    how = (given[name] for name in ("strides", "padding", "dilation", "groups"))
    found = Joined(shapes_of(given["x"], given["w"], *how), given["activation"], (size[0], size[1]))
    return found if math.prod(found.places) > 0 else None


def _backward_of(
    calls: Sequence[Call], users: Sequence[Call], convolution: Call, pool: Call, kept: set[Block]
) -> tuple[Call, ...] | None:
    """The gradients of the pool and of the convolution, none where there are no users; None if these are others."""
    if not users:
        return ()
    (outputs,), (top,), given = convolution.results, pool.results, convolution.given
    if len(users) != 2 or [call.op for call in users] != ["max_pool2d_backward", "conv2d_backward"]:
        return None
    back, end = users
    (slopes,) = back.results
    same = (
        is_same(back.given["x"], outputs)
        and is_same(back.given["y"], top)
        and is_same(end.given["dy"], slopes)
        and (end.given["y"] is None or is_same(end.given["y"], outputs))
        and end.given.get("z") is None
        and all(back.given[name] == pool.given[name] for name in ("pool_size", "strides", "padding"))
        and all(
            end.given[name] == given[name]
            for name in ("x", "w", "activation", "strides", "padding", "dilation", "groups")
        )
    )
    takers = [call for call in calls if slopes.block in call.touched() and call is not back]
    placed = [call.given.get(name) for call in (back, end) for name in ("out", "dx", "dw", "db")]
    alone = takers == [end] and slopes.block not in kept and not any(place is not None for place in placed)
    between_both = calls[calls.index(back) : calls.index(end)]
    blocks = {view.block for view in (back.given["dy"], top)}
    written = {view.block for call in between_both for view in call.writes}
    return (back, end) if same and alone and not blocks & written else None
