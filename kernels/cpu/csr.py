"""The ops of CSR matrices: products with dense ones, their gradients, rows by their numbers.

A product S @ B walks the non-zeros of a row of S, each times a strip of a row of B, in registers: strip after strip, so
that the rows of B that they touch stay in L2. Each number of the result is one chain of multiply-adds in the order of
the non-zeros, whoever has its row. S.T @ B is such a product of S transposed, by a count of its columns' non-zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu import elementwise, gemm, linear_steps, softmax
from fastnn.kernels.cpu._arrays import aligned, direct, finish, in_order, placing
from fastnn.kernels.cpu.compiler.machine import ALIASED, LINE, tile
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.gather import all_are_rows
from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.simd.elementwise import forward_bias_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.sparse import SPARSE_TILES
from fastnn.kernels.cpu.sparse_shares import first_behind, strip_of_row
from fastnn.kernels.cpu.teams.barrier import wait
from fastnn.kernels.formulas.activations import CODES
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, MALFORMED_CSR, TABLE, Op
from fastnn.kernels.table.row import implements

# Nanoseconds on one core, roughly: a number of the result for each non-zero, a non-zero that is moved, a byte of a row.
_NS_PER_PRODUCT = 0.03
_NS_PER_MOVE = 2.0
_NS_PER_BYTE = 0.1

# Distances of rows, in bytes, that are multiples of this one crowd a strip into a quarter of the sets of a cache, or
# less. On a core of a Xeon (Ice Lake), 128x784, a fifth of it non-zeros, times 784x512 took 1.6 ms, and 0.9 with a copy
# of other distances. That pays from so many non-zeros for each row.
_CROWDED, _APART_FROM = ALIASED // 4, 4

# In place of an activation's code: nothing is done to the product.
NO_EPILOGUE = -1

# Under this dtype the kernel is kept that copies words, whatever these are of.
_WORDS = np.dtype(np.float32)


@compiled_in
def _are_entries(n, k, stored, indptr, indices):
    """Whether n rows of non-zeros lie one behind the other within what is ``stored``, in columns below k."""
    others = 0
    for i in range(n):
        others += indptr[i + 1] < indptr[i]
    if indptr[0] < 0 or indptr[n] > stored or others > 0:
        return False
    for i in range(indptr[0], indptr[n]):
        others += indices[i] < 0 or indices[i] >= k
    return others == 0


@compiled_in
def _first_row(t, tasks, n, indptr):
    """The first of n rows that task t has: rows and non-zeros are shared evenly."""
    return first_behind(indptr[0] + t * (indptr[n] - indptr[0] + n) // tasks, n, indptr)


@compiled_in
def product_share(t, tasks, n, m, width, indptr, indices, values, b, row_stride_b, code, bias, numbers, c):
    """What task t has of C = f(S @ B + bias), S of n rows, B and C of m columns, f by its code, none if negative.

    ``width`` is that of ``sparse_row``; rows of C are contiguous.
    """
    low, high = _first_row(t, tasks, n, indptr), _first_row(t + 1, tasks, n, indptr)
    for j in range(0, m, width):
        columns, strip = min(width, m - j), address(b, j)
        for i in range(low, high):
            begin, y = indptr[i], address(c, i * m + j)
            count, places, factors = indptr[i + 1] - begin, address(indices, begin), address(values, begin)
            strip_of_row(columns, width, count, places, factors, strip, row_stride_b, y)
            if code >= 0:
                forward_bias_row(code, columns, y, address(bias, j), numbers, y)


def _product_signature(dtype: Any) -> Any:
    run, dense = flat(dtype), matrix(dtype)
    return types.boolean(types.int64, run, run, flat(types.int64), flat(types.int32), run, dense, dense)


@kernel(_product_signature)
def _product(MR: int, NR: int) -> Any:
    width = SPARSE_TILES * NR

    def product(code, numbers, bias, indptr, indices, values, b, c, words, t, tasks):
        k, stride = b.shape
        n, m = c.shape
        if indptr.size != n + 1 or not _are_entries(n, k, min(indices.size, values.size), indptr, indices):
            return False
        product_share(
            t, tasks, n, m, width, address(indptr, 0), address(indices, 0), address(values, 0), address(b, 0),
            stride, code, address(bias, 0), address(numbers, 0), address(c, 0),
        )  # fmt: skip
        return True

    return product


@compiled_in
def _count_share(t, tasks, n, k, indptr, indices, bounds):
    """The non-zeros of the columns that task t has, each column's number behind its place in ``bounds``."""
    low, high = t * k // tasks, (t + 1) * k // tasks
    for j in range(low, high):
        bounds[j + 1] = 0
    for i in range(indptr[0], indptr[n]):
        j = indices[i]
        if low <= j < high:
            bounds[j + 1] += 1


@compiled_in
def _move_share(t, tasks, n, k, indptr, indices, values, ends, rows, moved):
    """The non-zeros of the columns that task t has, with their rows, in order; ``ends`` is where each one's begin."""
    low, high = t * k // tasks, (t + 1) * k // tasks
    for row in range(n):
        for i in range(indptr[row], indptr[row + 1]):
            j = indices[i]
            if low <= j < high:
                at = ends[j]
                rows[at], moved[at], ends[j] = row, values[i], at + 1


def _transpose_signature(dtype: Any) -> Any:
    places, sizes, run = flat(types.int32), flat(types.int64), flat(dtype)
    return types.boolean(sizes, places, run, sizes, sizes, places, run)


@kernel(_transpose_signature)
def _transpose(MR: int, NR: int) -> Any:
    def transpose(indptr, indices, values, bounds, ends, rows, moved, words, t, tasks):
        n, k = indptr.size - 1, ends.size
        if not _are_entries(n, k, min(indices.size, values.size), indptr, indices):
            return False
        _count_share(t, tasks, n, k, indptr, indices, bounds)
        wait(tasks, words)
        if t == 0:
            bounds[0] = 0
            for j in range(k):
                ends[j] = bounds[j]
                bounds[j + 1] += bounds[j]
        wait(tasks, words)
        _move_share(t, tasks, n, k, indptr, indices, values, ends, rows, moved)
        return True

    return transpose


def nanoseconds(entries: float, m: int) -> float:
    """One core's work for a product of so many non-zeros with rows of m numbers."""
    return entries * m * _NS_PER_PRODUCT


def nanoseconds_of_moves(entries: float) -> float:
    """One core's work for so many non-zeros that are moved."""
    return entries * _NS_PER_MOVE


# What the kernels read of a CSR matrix: where its rows' non-zeros begin, their columns, their values.
_Entries = tuple[Any, Any, Any]


def _entries(s: Any) -> _Entries:
    return in_order(s.indptr, np.int64), in_order(s.indices, np.int32), in_order(s.data)


def _transposed(s: Any) -> _Entries | None:
    """Those of the transposed matrix, in order; None where the matrix is malformed."""
    entries, (n, k) = _entries(s), s.shape
    if len(entries[0]) != n + 1:
        return None
    count = max(0, min(len(entries[1]), int(entries[0][-1] - entries[0][0])))
    found = np.empty(k + 1, np.int64), np.empty(count, np.int32), np.empty(count, s.dtype)
    bounds, rows, moved = found
    done = _transpose(s.dtype, nanoseconds_of_moves(count), *entries, bounds, np.empty(k, np.int64), rows, moved)
    return found if done else None


def _multiply(name: str, entries: _Entries | None, b: Any, c: Any, *epilogue: Any) -> None:
    """C = f(S @ B + bias); raises for a malformed S, by the ``name`` that it has."""
    if entries is not None:
        work = nanoseconds(len(entries[1]), b.shape[1])
        if _product(b.dtype, work, *epilogue, *entries, _apart(b, len(entries[1])), c):
            return
    raise ValueError(f"{name}: {MALFORMED_CSR}")


def pays_apart(k: int, m: int, itemsize: int, entries: float) -> bool:
    """Whether to copy a dense matrix (k, m) of so many bytes a number, of which so many non-zeros want a row each.

    A strip of its rows has but few sets of the caches else, and the rows are read often enough.
    """
    crowded = math.gcd(m * itemsize, ALIASED) >= _CROWDED and m > SPARSE_TILES * tile(itemsize).NR
    return crowded and entries >= _APART_FROM * k


def _apart(b: Any, entries: int) -> Any:
    """B, or a copy whose rows lie a line further apart, where that pays."""
    k, m = b.shape
    if not pays_apart(k, m, b.itemsize, entries):
        return in_order(b)
    copy = aligned((k, m + LINE // b.itemsize), b.dtype)
    copy[:, :m] = b
    return copy


def _no_epilogue(dtype: Any) -> tuple[int, Any, Any]:
    return NO_EPILOGUE, np.zeros(1, dtype), np.zeros(1, dtype)


def _placing(out: Any, shape: tuple[int, ...], dtype: Any, *sources: Any) -> Callable[..., Any]:
    """``placing`` in C order, of (out, S, *sources): where S has no memory in common either."""
    place = placing(out if direct(out) else None, shape, dtype, *sources)

    def beside(out: Any, s: Any, *sources: Any) -> Any:
        y = place(out, *sources)
        shared = y is out and any(np.may_share_memory(y, part) for part in _entries(s))
        return np.empty(shape, dtype) if shared else y

    return beside


@Planned
def matmul(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
    """The product without epilogue."""
    place, epilogue = _placing(out, (a.shape[0], b.shape[1]), b.dtype, b), _no_epilogue(b.dtype)

    def run(a: Any, b: Any, *, out: Any = None) -> Any:
        c = place(out, a, b)
        _multiply("a", _entries(a), b, c, *epilogue)
        return finish(c, out)

    return run


@Planned
def linear(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Callable[..., Any]:
    """Bias and elementwise activation run on each strip of a row; what needs whole rows follows."""
    shape, dtype = (x.shape[0], w.shape[1]), w.dtype
    place, epilogue = _placing(out, shape, dtype, w, b), _no_epilogue(dtype)
    fused = ELEMENTWISE_ACTIVATIONS.get(activation, "identity")
    if b is not None or fused != "identity":
        epilogue = CODES[fused], elementwise.numbers_of(fused, dtype), np.zeros(shape[1], dtype)
    like = np.empty(shape, dtype)
    of_rows = None if activation in ELEMENTWISE_ACTIVATIONS else getattr(softmax, activation).plan(like, out=like)

    def run(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Any:
        y = place(out, x, w, b)
        code, numbers, bias = epilogue
        _multiply("x", _entries(x), w, y, code, numbers, bias if b is None else in_order(b))
        if of_rows is not None:
            of_rows(y, out=y)
        return finish(y, out)

    return run


@Planned
def linear_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any,
    activation: str = "linear",
    z: Any = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    *,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
) -> Callable[..., tuple[Any, Any, Any]]:
    """dz first, then dw by the transposed x; the others are those of a dense x, which they do not read."""
    derive, dz = gemm.derivative(dy, y, activation, z)
    others = tuple(name for name in need if name != "dw")
    dense = gemm.linear_backward.plan(dz, None, w, dz, "linear", None, others, dx=dx, db=db)
    place, epilogue = _placing(dw, w.shape, w.dtype, dy, w, y, z), _no_epilogue(w.dtype)

    def run(
        dy: Any, x: Any, w: Any, y: Any, activation: str = "linear", z: Any = None, need: Any = (),
        *, dx: Any = None, dw: Any = None, db: Any = None,
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        dz, slope_w = derive(dy, y, z), None
        if "dw" in need:
            slope_w = place(dw, x, dy, w, y, z)
            _multiply("x", _transposed(x), dz, slope_w, *epilogue)
        slope_x, _, slope_b = dense(dz, None, w, dz, "linear", None, others, dx=dx, db=db)
        return slope_x, None if slope_w is None else finish(slope_w, dw), slope_b

    return run


def _layer_step(op: Op) -> Planned:
    """The gradients, then the steps of w and of b."""
    parameters = list(op.signature.parameters)

    def plan(*arguments: Any, dx: Any = None) -> Callable[..., Any]:
        return linear_steps.one_by_one(linear_backward, op, dict(zip(parameters, arguments, strict=False)), dx)

    return Planned(implements(op.name, plan))


globals().update({name: _layer_step(op) for name, op in TABLE.items() if op.module == "linear_steps"})


def _copy_signature(dtype: Any) -> Any:
    places, words = flat(types.int64), flat(types.int32)
    return types.void(types.int64, places, places, words, words)


@kernel(_copy_signature)
def _copy_runs(MR: int, NR: int) -> Any:
    def copy_runs(width, starts, bounds, source, target, words, t, tasks):
        n = starts.size
        for i in range(t * n // tasks, (t + 1) * n // tasks):
            low, at = starts[i] * width, bounds[i] * width
            for j in range((bounds[i + 1] - bounds[i]) * width):
                target[at + j] = source[low + j]

    return copy_runs


def _runs(source: Any, starts: Any, bounds: Any) -> Any:
    """The runs of an array that begin at ``starts``, end to end: the next one begins where ``bounds`` say."""
    target, source = np.empty(bounds[-1], source.dtype), in_order(source)
    width = source.itemsize // np.dtype(np.int32).itemsize
    nanoseconds = target.nbytes * _NS_PER_BYTE
    _copy_runs(_WORDS, nanoseconds, width, starts, bounds, source.view(np.int32), target.view(np.int32))
    return target


def gather(data: Any, index: Any, scale: float = 1 / 255, offset: float = 0.0, *, out: Any = None) -> Any:
    """As a matrix of the same class; None where a number is none of a row."""
    index = in_order(index, np.int64)
    if not all_are_rows(index, data.shape[0]):
        return None
    starts, ends = (data.indptr[places].astype(np.int64) for places in (index, index + 1))
    stored = min(len(data.indices), len(data.data))
    if not ((starts >= 0) & (starts <= ends) & (ends <= stored)).all():
        raise ValueError(f"data: {MALFORMED_CSR}")
    bounds = np.zeros(len(index) + 1, np.int64)
    np.cumsum(ends - starts, out=bounds[1:])
    parts = _runs(data.data, starts, bounds), _runs(data.indices, starts, bounds), bounds
    return type(data)(parts, shape=(len(index), data.shape[1]))
