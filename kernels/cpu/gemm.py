"""Matrix product and linear layer: a register-tiled product with a fused epilogue.

C[n, m] = f(A[n, k] @ B[k, m] + bias). The loops, outermost first (the names are those of Goto and van de Geijn 2008):

1. column blocks of NC columns of B;
2. row blocks of MC rows of A, which is read through its strides and never packed;
3. tasks, one a thread: contiguous ranges of the block's tiles, panel after panel of NR columns of B; or the same
   number of rows and all panels, where that is fewer numbers to read: more rows of A than columns of B;
4. depth blocks of KC, so that a panel's part [KC, NR] stays in L2: packed by the task that is about to use it where
   that pays, or beforehand (``Panels``), else read where it lies; partial sums of C stay in C;
5. tiles of at most MR x NR (``simd.gemm_tile``), heights balanced so that no sliver is left over.

Each element of C is the sum over depth blocks of one chain of multiply-adds in the order of k, however the work is
split over threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numba import prange, types
from numba.extending import register_jitable

from fastnn.kernels.cpu import elementwise, softmax
from fastnn.kernels.cpu._arrays import Planned, aligned, finish, placing, readable, reader, workspace
from fastnn.kernels.cpu.jit import flat, kernel, reads, writes
from fastnn.kernels.cpu.machine import ALIASED, NV, caches, tile
from fastnn.kernels.cpu.simd import CODES, address, copy_rows, forward_bias_row, gemm_tile, transpose_block
from fastnn.kernels.cpu.threads import get_num_threads
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS

# What one core does per nanosecond, roughly: only to tell work that is worth a second thread from work that is not.
_FLOPS_PER_NS = 100.0

# Rows of A from which copying B into panels costs less than it saves where B could also be read in place: only for B
# beyond L2. And rows of A times rows of B from which it does where these are 4096 bytes apart and fight for the same
# sets of L1; half as many where they are 8192 apart. Measured for A of 12 to 1024 rows, B of 256 to 4096.
_PACK_FROM_ROWS = 256
_PACK_ALIASED_FROM = 96 << 10

# Where the panels of B come from.
_IN_PLACE, _PACKED_HERE, _PACKED_BEFORE = range(3)

# Panels of B that a task packs at a time, and rows of each in turn: a panel takes so little of a row of B that the next
# takes its share while the row is at hand. For 1024 x 1024 float32, the product 2% faster than panel by panel.
_TOGETHER, _PACK_ROWS = 2, 8

# Products whose plan is remembered.
_PLANS = 1024

# Depth of a block where A is walked down its columns (A = X.T): each step is on another page, and the TLB must hold
# them.
_KC_TRANSPOSED = 256


def _gemm_signature(dtype: Any) -> Any:
    size = types.int64
    operand, bias = reads(dtype, 2), flat(dtype, readonly=True)
    return types.void(operand, operand, bias, writes(dtype, 2), flat(dtype), *[size] * 6)


@register_jitable
def _pack_strided(b, k0, rows, first, columns, width, panels, at):
    """The panel of B with any strides, zeros in the columns beyond."""
    for j in range(width):
        if j < columns:
            for i in range(rows):
                panels[at + i * width + j] = b[k0 + i, first + j]
        else:
            for i in range(rows):
                panels[at + i * width + j] = 0.0


@register_jitable
def _pack_transposed(b, k0, rows, first, columns, step, VL, width, panels, at):
    """The same for B whose columns are contiguous (a transposed view), ``step`` apart: VL x VL numbers at a time.

    Columns beyond are not zeros but copies, and beyond the next multiple of VL not written: no result depends on them.
    """
    whole = rows // VL * VL
    for j in range(0, columns, VL):
        count = min(VL, columns - j)
        for i in range(0, whole, VL):
            source = address(b, (first + j) * step + k0 + i)
            transpose_block(count, VL, source, step, address(panels, at + i * width + j), width)
        for i in range(whole, rows):
            for c in range(j, j + count):
                panels[at + i * width + c] = b[k0 + i, first + c]


@register_jitable
def _pack(b, k0, rows, j, m, row_b, column_b, NR, panels, at):
    """panels[at : at + rows * NR] = B's rows from k0 on, columns j to j + NR or to the last one."""
    columns = min(NR, m - j)
    if column_b == 1:
        copy_rows(rows, columns, NR, address(b, k0 * row_b + j), row_b, address(panels, at))
    elif row_b == 1 and column_b > 0:
        _pack_transposed(b, k0, rows, j, columns, column_b, NR // NV, NR, panels, at)
    else:
        _pack_strided(b, k0, rows, j, columns, NR, panels, at)


@register_jitable
def _pack_together(b, k0, depth, j, end, m, row_b, column_b, NR, panels, at):
    """The panels [depth, NR] of B's rows from k0 on, columns j to ``end``, one behind the other from ``at`` on."""
    in_turn = depth if row_b == 1 else _PACK_ROWS  # a column that is contiguous is best read as a whole
    for i in range(0, depth, in_turn):
        rows = min(in_turn, depth - i)
        for first in range(j, end, NR):
            to = at + (first - j) * depth + i * NR
            _pack(b, k0 + i, rows, first, m, row_b, column_b, NR, panels, to)


@register_jitable
def _share(t, tasks, count, tiles, by_rows):
    """(tiles of a panel, the first of them, first and last tile of all) that task t has of ``count`` panels.

    By rows it has the same tiles of every panel, else all of a panel's or, at the ends of its range, a part of them.
    """
    if by_rows:
        height = tiles // tasks
        return height, t * height, 0, count * height
    return tiles, 0, t * count * tiles // tasks, (t + 1) * count * tiles // tasks


@register_jitable
def _bias_and_activate(code, low, high, width, c, row_c, j, bias):
    """c = f(c + bias) in rows ``low`` to ``high`` of the columns from j on."""
    for r in range(low, high):
        z = address(c, r * row_c + j)
        forward_bias_row(code, width, z, address(bias, j), z)


@kernel(_gemm_signature)
def _gemm(MR: int, NR: int) -> Any:
    def gemm(a, b, bias, c, panels, packed, code, MC, KC, NC, tasks):
        n, k = a.shape
        m = b.shape[1]
        item = a.itemsize
        row_a, column_a = a.strides[0] // item, a.strides[1] // item
        row_c = c.strides[0] // item
        row_b, column_b = b.strides[0] // item, b.strides[1] // item
        together = _TOGETHER if packed == _PACKED_HERE else 1
        part = together * min(k, KC) * NR  # of the panels: a task's own
        packs_from = m  # columns from this one on are packed here
        if packed != _PACKED_BEFORE:
            packs_from = 0 if packed == _PACKED_HERE else m // NR * NR
            tasks = min(tasks, panels.size // part)  # another Python thread may have asked for more since
        for j0 in range(0, m, NC):
            count = (min(NC, m - j0) + NR - 1) // NR
            for i0 in range(0, n, MC):
                rows = min(MC, n - i0)
                tiles = (rows + MR - 1) // MR
                by_rows = packed != _PACKED_HERE and rows > m and rows >= tasks * MR
                if by_rows:  # the same number of tiles for every task
                    tiles = (tiles + tasks - 1) // tasks * tasks
                for t in prange(tasks):
                    height, top, begin, end = _share(t, tasks, count, tiles, by_rows)
                    while begin < end:
                        first = begin // height
                        last = min(first + together, (end + height - 1) // height)
                        packs = j0 + first * NR >= packs_from
                        for k0 in range(0, k, KC):
                            depth = min(KC, k - k0)
                            if packs:
                                j, stop = j0 + first * NR, min(j0 + last * NR, m)
                                _pack_together(b, k0, depth, j, stop, m, row_b, column_b, NR, panels, t * part)
                            for p in range(first, last):
                                j = j0 + p * NR
                                width = min(NR, m - j)
                                if packed == _PACKED_BEFORE:
                                    panel, row_p = address(panels, (p * k + k0) * NR), NR
                                elif packs:
                                    panel, row_p = address(panels, t * part + (p - first) * depth * NR), NR
                                else:
                                    panel, row_p = address(b, k0 * row_b + j), row_b
                                for s in range(max(begin, p * height), min(end, (p + 1) * height)):
                                    i = top + s - p * height
                                    low, high = i0 + i * rows // tiles, i0 + (i + 1) * rows // tiles
                                    gemm_tile(
                                        high - low, width, depth,
                                        address(a, low * row_a + k0 * column_a), row_a, column_a,
                                        panel, row_p, address(c, low * row_c + j), row_c, k0,
                                    )  # fmt: skip
                                    if k0 + KC >= k and code >= 0:
                                        _bias_and_activate(code, low, high, width, c, row_c, j, bias)
                        begin = min(end, last * height)

    return gemm


@cache
def _blocks(k: int, itemsize: int, transposed: bool) -> tuple[int, int, int]:
    """(MC, KC, NC): KC * NR numbers of a panel fill half of L2, MC * KC of A and NC * k of B a quarter of L3 each."""
    memory, NR = caches(), tile(itemsize).NR
    KC = _KC_TRANSPOSED if transposed else max(256, memory.l2 // 2 // (NR * itemsize))
    MC = max(NR, memory.l3 // 4 // (min(k, KC) * itemsize))
    NC = max(1, memory.l3 // 4 // (k * itemsize) // NR) * NR
    return MC, KC, NC


def _packs(rows: int, k: int, m: int, strides: tuple[int, int], itemsize: int) -> bool:
    """Whether B (k, m) is copied into panels for a product with this many rows of A."""
    if strides[1] != itemsize or strides[0] < 0:
        return True
    pages = math.gcd(strides[0], 2 * ALIASED) // ALIASED
    if pages:
        return rows * k * pages >= _PACK_ALIASED_FROM
    return rows >= _PACK_FROM_ROWS and k * m * itemsize > caches().l2


@lru_cache(_PLANS)
def _plan(n: int, k: int, m: int, itemsize: int, transposed: bool, strides: tuple[int, int]) -> tuple[Any, ...]:
    """(nanoseconds, most numbers that a task packs at a time, where panels come from, MC, KC, NC) of a product.

    ``strides`` are those of B.
    """
    MC, KC, NC = _blocks(k, itemsize, transposed)
    part = _TOGETHER * min(k, KC) * tile(itemsize).NR
    source = _PACKED_HERE if _packs(n, k, m, strides, itemsize) else _IN_PLACE
    return 2.0 * n * k * m / _FLOPS_PER_NS, part, source, MC, KC, NC


def _planned_product(a: Any, b: Any, code: int, dtype: Any) -> Callable[..., None]:
    """What computes c = f(a @ b + bias) for operands like these, f by its code, as a function of (a, b, bias, c).

    A negative code is no epilogue and needs no bias.
    """
    (n, k), m = a.shape, b.shape[1]
    if n == 0 or m == 0:
        return _nothing
    if k == 0:  # an empty sum is 0: one product of zeros, since a tile's k starts at 1
        zeros = np.zeros((n, 1), dtype), np.zeros((1, m), dtype)
        multiply = _planned_product(*zeros, code, dtype)
        return lambda a, b, bias, c: multiply(*zeros, bias, c)
    nanoseconds, part, packed, MC, KC, NC = _plan(n, k, m, dtype.itemsize, a.strides[1] != dtype.itemsize, b.strides)
    if isinstance(b, Panels):  # all panels are there: one block of columns
        return lambda a, b, bias, c: _gemm(
            dtype, nanoseconds, a, b.like, bias, c, b.panels, _PACKED_BEFORE, code, MC, KC, b.panels.size
        )
    return lambda a, b, bias, c: _gemm(
        dtype, nanoseconds, a, b, bias, c, workspace(part * get_num_threads(), dtype), packed, code, MC, KC, NC
    )


def _nothing(*_: Any) -> None:
    """A product of no numbers."""


class Panels:
    """A matrix (k, m) as panels [m/NR, k, NR] on cache lines, zeros in the columns beyond: what tiles walk in order.

    ``like`` has its shape, strides and flags, and stands in for it where a kernel wants an array.
    """

    packed_for = "cpu"
    ndim = 2

    def __init__(self, w: Any) -> None:
        k, m = w.shape
        NR = tile(w.itemsize).NR
        self.shape, self.dtype = (k, m), w.dtype
        self.panels = aligned((max(1, -(-m // NR) * k * NR),), w.dtype)
        self.like = np.broadcast_to(self.panels[:1], (k, m))
        self.strides, self.flags = self.like.strides, self.like.flags
        _pack_panels(w.dtype, w.nbytes / 4, readable(w), self.panels)

    def __repr__(self) -> str:
        return f"<weights of shape {self.shape} and dtype {self.dtype}, packed for {self.packed_for!r}>"


@kernel(lambda dtype: types.void(reads(dtype, 2), flat(dtype), types.int64))
def _pack_panels(MR: int, NR: int) -> Any:
    def pack_panels(w, panels, tasks):
        k, m = w.shape
        row, column = w.strides[0] // w.itemsize, w.strides[1] // w.itemsize
        count = (m + NR - 1) // NR
        for t in prange(tasks):
            for p in range(t * count // tasks, (t + 1) * count // tasks):
                _pack(w, 0, k, p * NR, m, row, column, NR, panels, p * k * NR)

    return pack_panels


@Planned
def matmul(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
    """C = A @ B without epilogue."""
    dtype = a.dtype
    read_a, read_b = reader(a), reader(b)
    place = placing(out, (a.shape[0], b.shape[1]), dtype, a, b)
    multiply, no_bias = _planned_product(a, b, -1, dtype), np.empty(0, dtype)

    def run(a: Any, b: Any, *, out: Any = None) -> Any:
        c = place(out, a, b)
        multiply(read_a(a), read_b(b), no_bias, c)
        return finish(c, out)

    return run


@Planned
def linear(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Callable[..., Any]:
    """Bias and elementwise activation run on each tile while it is in L1; softmax needs whole rows and follows."""
    dtype = x.dtype
    read_x, read_w = reader(x), reader(w)
    no_bias = np.zeros(w.shape[1], dtype) if b is None else None
    place = placing(out, (x.shape[0], w.shape[1]), dtype, x, w, b)
    plain = b is None and activation in ("linear", "softmax")
    elementwise_name = ELEMENTWISE_ACTIVATIONS.get(activation, "identity")
    multiply = _planned_product(x, w, -1 if plain else CODES[elementwise_name], dtype)

    def run(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Any:
        y = place(out, x, w, b)
        multiply(read_x(x), read_w(w), np.ascontiguousarray(b) if no_bias is None else no_bias, y)
        if activation == "softmax":
            softmax.softmax(y, out=y)
        return finish(y, out)

    return run


def linear_backward(dy: Any, x: Any, w: Any, y: Any, activation: str = "linear") -> tuple[Any, Any, Any]:
    """dz first, then two products that read x and w through transposed strides, and the column sums of dz."""
    if activation == "linear":
        dz = dy
    elif activation == "softmax":
        dz = softmax.softmax_backward(dy, y, y)
    else:
        dz = elementwise.backward(ELEMENTWISE_ACTIVATIONS[activation], dy, y)
    return matmul(dz, w.T), matmul(x.T, dz), column_sums(dz)


@kernel(lambda dtype: types.void(reads(dtype, 2), flat(dtype), types.int64))
def _column_sums(MR: int, NR: int) -> Any:
    def column_sums(z, total, tasks):
        n, m = z.shape
        for t in prange(tasks):
            low, high = t * m // tasks, (t + 1) * m // tasks
            total[low:high] = 0.0
            for i in range(n):
                for j in range(low, high):
                    total[j] += z[i, j]

    return column_sums


def column_sums(z: Any) -> Any:
    """Sum of the rows of z (n, m), in order: (m,)."""
    total = np.empty(z.shape[1], z.dtype)
    _column_sums(z.dtype, z.size / 4.0, readable(z), total)
    return total
