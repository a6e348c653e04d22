"""Attention: tasks share heads of samples, and forwards blocks of their queries, too.

The scores of a block are a product whose panels a task packs for itself, in scratch memory that stays in the second
cache: they are masked, become weights, and are summed over the values there. Backwards they are made anew, which takes
less time than to read them from memory. Blocks follow from sizes alone, so that sums are the same for any team.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastnn.kernels.cpu._arrays import finish, placing, reader, workspace
from fastnn.kernels.cpu.compiler.machine import tile
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.gemm import Matrix, Part, pack_panel
from fastnn.kernels.cpu.jit import flat, kernel, reads, writes
from fastnn.kernels.cpu.simd.elementwise import ROW_CODES, scale_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.tile import gemm_tile
from fastnn.kernels.cpu.softmax import backward_rows_share, forward_rows_share
from fastnn.kernels.cpu.teams import threads
from fastnn.kernels.planned import Planned
from fastnn.kernels.table.attention import FAR_BELOW, GRADIENTS

# Scores of a block of queries, about: with those of the derivatives they leave the second cache room for the rest.
_SCORES = 1 << 14

# One core's multiply-adds of small products a nanosecond, and its nanoseconds for a score's weight, roughly.
_FLOPS_PER_NS, _NS_PER_WEIGHT = 30.0, 0.5

_SOFTMAX = ROW_CODES["softmax"]


class Sizes(NamedTuple):
    """Values of a sample, features of queries and of values, and a block's queries."""

    s: Any
    d: Any
    e: Any
    block: Any


class Mask(NamedTuple):
    """Which values count for which queries of a sample, if ``given``; and whether none behind a query does."""

    counts: Matrix
    given: Any
    causal: Any


@compiled_in
def _head(x, sample, head):
    """The steps of one head."""
    outer, row, middle, column = x.strides
    at = (sample * outer + head * middle) // x.itemsize
    return Matrix(address(x, at), row // x.itemsize, column // x.itemsize)


@compiled_in
def _mask_of(mask, sample, causal):
    outer, row, column = mask.strides
    counts = Matrix(address(mask, sample * outer // mask.itemsize), row // mask.itemsize, column // mask.itemsize)
    return Mask(counts, mask.size > 0, causal)


@compiled_in
def _transposed(x):
    return Matrix(x.at, x.column, x.row)


@compiled_in
def _panels(depth, columns, b, to, NR):
    """All of b (depth, columns) in panels, one behind the other."""
    for j in range(0, columns, NR):
        pack_panel(b, Part(0, depth, j, min(NR, columns - j)), address(to, j * depth), NR)


@compiled_in
def _product(rows, depth, columns, a, panels, c, added, MR, NR):
    """c = a @ b, rows of c contiguous, b in panels; zeros where nothing is summed."""
    if depth == 0:
        for i in range(rows):
            for j in range(columns):
                c.at[i * c.row + j] = 0.0
        return
    tiles = (rows + MR - 1) // MR
    for part in range(tiles):
        low, high = part * rows // tiles, (part + 1) * rows // tiles
        for j in range(0, columns, NR):
            gemm_tile(
                high - low, min(NR, columns - j), depth, address(a.at, low * a.row), a.row, a.column,
                address(panels, j * depth), NR, address(c.at, low * c.row + j), c.row, added,
            )  # fmt: skip


@compiled_in
def _fill(first, rows, s, mask, number, scores):
    """The scores, or their derivatives, of what does not count; of the queries from ``first`` on."""
    if not (mask.given or mask.causal):
        return
    for i in range(rows):
        row = (first + i) * mask.counts.row
        for j in range(s):
            if (mask.causal and j > first + i) or (mask.given and mask.counts.at[row + j * mask.counts.column] == 0):
                scores[i * s + j] = number


@compiled_in
def _scaled_rows(rows, x, d, scale, to):
    """Rows of x times ``scale``, one behind the other."""
    for i in range(rows):
        for c in range(d):
            to[i * d + c] = x.at[i * x.row + c * x.column]
    scale_row(rows * d, to, scale)


@compiled_in
def _rows_from(x, first):
    return Matrix(address(x.at, first * x.row), x.row, x.column)


@compiled_in
def _weights(first, rows, sizes, queries, keys, mask, scores, MR, NR):
    """The weights (rows, s) of scaled queries, whose keys are packed."""
    s, d = sizes.s, sizes.d
    _product(rows, d, s, Matrix(queries, d, 1), keys, Matrix(scores, s, 1), 0, MR, NR)
    _fill(first, rows, s, mask, FAR_BELOW, scores)
    forward_rows_share(0, 1, rows, s, _SOFTMAX, scores, scores)


@compiled_in
def _width(columns, NR):
    return (columns + NR - 1) // NR * NR


def _signature(dtype: Any) -> Any:
    options = dtype, types.boolean, types.int64
    return types.void(*options, *[reads(dtype, 4)] * 3, reads(dtype, 3), writes(dtype, 4), flat(dtype))


@kernel(_signature)
def _attention(MR: int, NR: int) -> Any:
    def attention(scale, causal, block, query, key, value, mask, y, scratch, words, t, team):
        (n, steps, h, d), s, e = query.shape, key.shape[1], value.shape[3]
        of_keys, of_values = d * _width(s, NR), s * _width(e, NR)
        size, blocks = of_keys + of_values + block * (d + s), (steps + block - 1) // block
        units, tasks = n * h * blocks, min(team, scratch.size // size)
        if t >= tasks:
            return
        keys = address(scratch, t * size)
        values = address(keys, of_keys)
        queries = address(values, of_values)
        scores, packed, sizes = address(queries, block * d), -1, Sizes(s, d, e, block)
        for unit in range(t * units // tasks, (t + 1) * units // tasks):
            pair, first = unit // blocks, unit % blocks * block
            sample, head, rows = pair // h, pair % h, min(block, steps - first)
            if pair != packed:
                _panels(d, s, _transposed(_head(key, sample, head)), keys, NR)
                _panels(s, e, _head(value, sample, head), values, NR)
                packed = pair
            _scaled_rows(rows, _rows_from(_head(query, sample, head), first), d, scale, queries)
            _weights(first, rows, sizes, queries, keys, _mask_of(mask, sample, causal), scores, MR, NR)
            of_head = _rows_from(_head(y, sample, head), first)
            _product(rows, s, e, Matrix(scores, s, 1), values, of_head, 0, MR, NR)

    return attention


def _backward_signature(dtype: Any) -> Any:
    options, gradients = (dtype, types.boolean, types.int64), [writes(dtype, 4)] * 3
    return types.void(*options, *[reads(dtype, 4)] * 4, reads(dtype, 3), *gradients, flat(dtype))


@kernel(_backward_signature)
def _attention_backward(MR: int, NR: int) -> Any:
    def attention_backward(scale, causal, block, dy, query, key, value, mask, dq, dk, dv, scratch, words, t, team):
        (n, steps, h, d), s, e = query.shape, key.shape[1], value.shape[3]
        size = (d + e) * _width(s, NR) + (s + block) * _width(d, NR) + block * (_width(e, NR) + d + 2 * s)
        tasks, one = min(team, scratch.size // size), query.dtype.type(1)
        if t >= tasks:
            return
        keys = address(scratch, t * size)
        values = address(keys, d * _width(s, NR))
        keys_across = address(values, e * _width(s, NR))
        of_queries = address(keys_across, s * _width(d, NR))
        of_slopes = address(of_queries, block * _width(d, NR))
        queries = address(of_slopes, block * _width(e, NR))
        weights = address(queries, block * d)
        slopes, sizes = address(weights, block * s), Sizes(s, d, e, block)
        for pair in range(t * n * h // tasks, (t + 1) * n * h // tasks):
            sample, head = pair // h, pair % h
            k, of_sample = _head(key, sample, head), _mask_of(mask, sample, causal)
            _panels(d, s, _transposed(k), keys, NR)
            _panels(e, s, _transposed(_head(value, sample, head)), values, NR)
            if dq.size:
                _panels(s, d, k, keys_across, NR)
            for first in range(0, steps, block):
                rows, added = min(block, steps - first), min(first, 1)
                dz = _rows_from(_head(dy, sample, head), first)
                _scaled_rows(rows, _rows_from(_head(query, sample, head), first), d, scale, queries)
                _weights(first, rows, sizes, queries, keys, of_sample, weights, MR, NR)
                if dv.size:
                    _panels(rows, e, dz, of_slopes, NR)
                    _product(s, rows, e, Matrix(weights, 1, s), of_slopes, _head(dv, sample, head), added, MR, NR)
                _product(rows, e, s, dz, values, Matrix(slopes, s, 1), 0, MR, NR)
                backward_rows_share(0, 1, rows, s, _SOFTMAX, one, slopes, weights, slopes)
                _fill(first, rows, s, of_sample, 0.0, slopes)
                if dk.size:
                    _panels(rows, d, Matrix(queries, d, 1), of_queries, NR)
                    _product(s, rows, d, Matrix(slopes, 1, s), of_queries, _head(dk, sample, head), added, MR, NR)
                if dq.size:
                    to = _rows_from(_head(dq, sample, head), first)
                    _product(rows, s, d, Matrix(slopes, s, 1), keys_across, to, 0, MR, NR)
                    for i in range(rows):
                        scale_row(d, address(to.at, i * to.row), scale)

    return attention_backward


class _Plan(NamedTuple):
    """Queries of a block, numbers of a task's scratch memory forwards and backwards, one core's nanoseconds of both."""

    block: int
    scratch: int
    scratch_backwards: int
    nanoseconds: float
    nanoseconds_backwards: float


def _planned(query: Any, key: Any, value: Any) -> _Plan:
    (n, t, h, d), s, e, shape = query.shape, key.shape[1], value.shape[3], tile(query.itemsize)
    wide_s, wide_d, wide_e = (-(-size // shape.NR) * shape.NR for size in (s, d, e))
    block = max(1, min(t, max(shape.MR, _SCORES // max(1, s) // shape.MR * shape.MR)))
    scores = n * h * t * s
    return _Plan(
        block,
        d * wide_s + s * wide_e + block * (d + s),
        (d + e) * wide_s + (s + block) * wide_d + block * (wide_e + d + 2 * s),
        scores * (2.0 * (d + e) / _FLOPS_PER_NS + _NS_PER_WEIGHT),
        scores * (2.0 * (3 * d + 2 * e) / _FLOPS_PER_NS + 2 * _NS_PER_WEIGHT),
    )


@Planned
def attention(
    query: Any, key: Any, value: Any, mask: Any = None, scale: float = 1.0, causal: bool = False, *, out: Any = None
) -> Callable[..., Any]:
    """All of it in one pass over the heads."""
    plan, dtype, shape = _planned(query, key, value), query.dtype, (*query.shape[:3], value.shape[3])
    place, unmasked = placing(out, shape, dtype, query, key, value, mask), np.empty((1, 0, 0), dtype)
    readers = [reader(each) for each in (query, key, value, mask)]
    compute = _attention.planned(dtype, plan.nanoseconds, dtype.type(scale), bool(causal), plan.block)
    size = math.prod(shape)

    def run(
        query: Any, key: Any, value: Any, mask: Any = None, scale: float = 1.0, causal: bool = False, *, out: Any = None
    ) -> Any:
        y = place(out, query, key, value, mask)
        if size * key.shape[1]:
            given = [read(each) for read, each in zip(readers, (query, key, value, mask), strict=True)]
            given[3] = unmasked if mask is None else given[3]
            compute(*given, y, workspace(threads.count(plan.nanoseconds) * plan.scratch, dtype))
        else:  # the mean of no values
            np.copyto(y, 0)
        return finish(y, out)

    return run


@Planned
def attention_backward(
    dy: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    scale: float = 1.0,
    causal: bool = False,
    need: Sequence[str] = GRADIENTS,
) -> Callable[..., Any]:
    """Through the weights, which are made anew."""
    plan, dtype = _planned(query, key, value), query.dtype
    nothing, unmasked = np.empty((1, 0, 0, 0), dtype), np.empty((1, 0, 0), dtype)
    shapes = dict(zip(GRADIENTS, (query.shape, key.shape, value.shape), strict=True))
    readers = [reader(each) for each in (dy, query, key, value, mask)]
    compute = _attention_backward.planned(
        dtype, plan.nanoseconds_backwards, dtype.type(scale), bool(causal), plan.block
    )
    some = dy.size * key.shape[1] > 0

    def run(
        dy: Any,
        query: Any,
        key: Any,
        value: Any,
        mask: Any = None,
        scale: float = 1.0,
        causal: bool = False,
        need: Sequence[str] = GRADIENTS,
    ) -> Any:
        made = {name: np.empty(shape, dtype) if name in need else nothing for name, shape in shapes.items()}
        if some and need:
            given = [read(each) for read, each in zip(readers, (dy, query, key, value, mask), strict=True)]
            given[4] = unmasked if mask is None else given[4]
            tasks = threads.count(plan.nanoseconds_backwards)
            compute(*given, *made.values(), workspace(tasks * plan.scratch_backwards, dtype))
        else:
            for each in made.values():
                each[...] = 0
        return tuple(each if name in need else None for name, each in made.items())

    return run
