"""Recurrent layers over whole sequences: tasks share chunks of the samples, each of which goes through all steps.

A chunk is a tile high at most, so that what a step touches stays in the first cache: panels of both kernels, and the
sums of a step side by side; where they go, a sample's steps lie one behind the other, and those of the next one t g
numbers further. Backwards the same with the transposed weights, and with the gradients by these: of some steps the
gradients by the sums, and beside them what these were made of, stay in the second cache until they are multiplied. So
neither the inputs' sums nor the gradients by any are a pass over memory of their own. Each chunk adds up gradients of
its own, and these are joined in their order: chunks follow from sizes alone, so no number of threads changes a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu._arrays import contiguous, in_order, workspace
from fastnn.kernels.cpu.compiler.machine import LINE, tile
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.gemm import Matrix, Part, pack_panel
from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.simd.elementwise import add_row, backward_row, copy_row, forward_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.recurrent import gru_backward_row, gru_row, lstm_backward_row, lstm_row
from fastnn.kernels.cpu.simd.tile import gemm_tile
from fastnn.kernels.cpu.teams.barrier import wait
from fastnn.kernels.formulas.activations import CODES
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS
from fastnn.kernels.table.recurrent import GRADIENTS

# Which cell a kernel steps.
_SIMPLE, _LSTM, _GRU = range(3)

# One core's multiply-adds of small products a nanosecond, and its nanoseconds for a gate, roughly.
_FLOPS_PER_NS, _NS_PER_GATE = 30.0, 2.0

# Samples of a chunk, at least, where there are as many; chunks are in fours, for as many threads.
_LEAST_ROWS, _CHUNKS_TOGETHER = 4, 4

# Rows of sums whose gradients wait for the product with what they were made of: some steps of a chunk.
_DEPTH = 64

_GRADIENTS, _OF_STATES = GRADIENTS["gru"], GRADIENTS["lstm"]
_OF_WEIGHTS = ("dkernel", "drecurrent_kernel", "dbias")


@compiled_in
def _clear(count, row):
    for j in range(count):
        row[j] = 0


@compiled_in
def _pack(t, tasks, b, k, m, panels, NR):
    """Task t's share of the panels [m/NR, k, NR] of B (k, m), one behind the other."""
    count = (m + NR - 1) // NR
    for p in range(t * count // tasks, (t + 1) * count // tasks):
        pack_panel(b, Part(0, k, p * NR, min(NR, m - p * NR)), address(panels, p * k * NR), NR)


@compiled_in
def _product(rows, k, m, a, row_a, panels, c, row_c, accumulate, MR, NR):
    """C (rows, m) = A (rows, k) @ B, whose panels [m/NR, k, NR] lie one behind the other; or added to C."""
    for j in range(0, m, NR):
        for i in range(0, rows, MR):
            gemm_tile(
                min(MR, rows - i), min(NR, m - j), k, address(a, i * row_a), row_a, 1,
                address(panels, j * k), NR, address(c, i * row_c + j), row_c, accumulate,
            )  # fmt: skip


@compiled_in
def _outer_product(k, n, m, a, row_a, b, row_b, c, accumulate, MR, NR):
    """C (n, m) = A.T @ B of A (k, n) and B (k, m); or added to C."""
    tiles = (n + MR - 1) // MR
    for j in range(0, m, NR):
        for i in range(tiles):
            low, high = i * n // tiles, (i + 1) * n // tiles
            gemm_tile(
                high - low, min(NR, m - j), k, address(a, low), 1, row_a,
                address(b, j), row_b, address(c, low * m + j), m, accumulate,
            )  # fmt: skip


def _forward_signature(dtype: Any) -> Any:
    size, rows, run = types.int64, matrix(dtype), flat(dtype)
    return types.void(*[size] * 5, *[rows] * 3, run, run, rows, rows, run, *[rows] * 5)


@kernel(_forward_signature)
def _forward(MR: int, NR: int) -> Any:
    def forward(
        cell, code, backwards, steps, chunks, x, kernel, recurrent_kernel, bias, mask, h0, c0, scratch, gates, y, kept,
        h, c, words, t, tasks,
    ):  # fmt: skip
        (n, u), (f, g) = h.shape, kernel.shape
        panels = (g + NR - 1) // NR * NR
        of_inputs, of_states = address(scratch, 0), address(scratch, panels * f)
        _pack(t, tasks, Matrix(address(kernel, 0), g, 1), f, g, of_inputs, NR)
        _pack(t, tasks, Matrix(address(recurrent_kernel, 0), g, 1), u, g, of_states, NR)
        wait(tasks, words)
        row_h0, row_c0 = u if h0.shape[0] == n else 0, u if c0.shape[0] == n else 0
        for chunk in range(t * chunks // tasks, (t + 1) * chunks // tasks):
            first, end = chunk * n // chunks, (chunk + 1) * n // chunks
            rows = end - first
            own = address(scratch, panels * (f + u) + first * g)
            for s in range(steps):
                at = steps - 1 - s if backwards else s
                here = address(gates, (first * steps + at) * g)
                before, row = address(h0, first * row_h0), row_h0
                if s > 0:
                    before, row = address(y, (first * steps + s - 1) * u), steps * u
                for r in range(rows):
                    if cell == _GRU:
                        copy_row(g, address(bias, 0), address(here, r * steps * g))
                    copy_row(g, address(bias, g if cell == _GRU else 0), address(own, r * g))
                if f > 0:
                    sums, row_of_sums = own, g
                    if cell == _GRU:
                        sums, row_of_sums = here, steps * g
                    source = address(x, (first * steps + at) * f)
                    _product(rows, f, g, source, steps * f, of_inputs, sums, row_of_sums, 1, MR, NR)
                _product(rows, u, g, before, row, of_states, own, g, 1, MR, NR)
                for r in range(rows):
                    i = first + r
                    gate, output = address(here, r * steps * g), address(y, (i * steps + s) * u)
                    cells, old = address(kept, (i * steps + s) * u), address(before, r * row)
                    last = address(kept, (i * steps + s - 1) * u) if s > 0 else address(c0, i * row_c0)
                    state = address(own, r * g)
                    if mask.size > 0 and mask[i * steps + at] == 0:
                        copy_row(u, old, output)
                        if cell == _LSTM:
                            copy_row(u, last, cells)
                            _clear(g, gate)
                        elif cell == _GRU:
                            _clear(u, cells)
                            _clear(g, gate)
                    elif cell == _LSTM:
                        lstm_row(u, state, gate, last, cells, output)
                    elif cell == _GRU:
                        gru_row(u, gate, state, old, cells, output)
                    else:
                        forward_row(code, u, state, state, output, 0)  # no numbers
            for i in range(first, end):
                last = (i + 1) * steps - 1
                copy_row(u, address(y, last * u) if steps > 0 else address(h0, i * row_h0), address(h, i * u))
                if cell == _LSTM:
                    copy_row(u, address(kept, last * u) if steps > 0 else address(c0, i * row_c0), address(c, i * u))

    return forward


def _backward_signature(dtype: Any) -> Any:
    size, rows, run = types.int64, matrix(dtype), flat(dtype)
    return types.void(*[size] * 8, dtype, *[rows] * 3, run, *[rows] * 8, run, *[rows] * 5, run)


@kernel(_backward_signature)
def _backward(MR: int, NR: int) -> Any:
    def backward(
        cell, code, backwards, steps, chunks, height, wide, weighed, one, x, kernel, recurrent_kernel, mask, dy, dh, dc,
        h0, c0, gates, y, kept, scratch, dx, dh0, dc0, dkernel, drecurrent_kernel, dbias, words, t, tasks,
    ):  # fmt: skip
        (n, u), (f, g) = dh0.shape, kernel.shape
        together = max(1, _DEPTH // height)
        of_states = address(scratch, 0)
        of_inputs = address(of_states, (u + NR - 1) // NR * NR * g)
        parts = address(of_inputs, (f + NR - 1) // NR * NR * g if dx.size > 0 else 0)
        size = (f + u + 2) * g
        slabs, slab = address(parts, chunks * size), together * height * (f + u + 2 * wide)
        _pack(t, tasks, Matrix(address(recurrent_kernel, 0), 1, g), g, u, of_states, NR)
        if dx.size > 0:
            _pack(t, tasks, Matrix(address(kernel, 0), 1, g), g, f, of_inputs, NR)
        wait(tasks, words)
        row_h0, row_c0 = u if h0.shape[0] == n else 0, u if c0.shape[0] == n else 0
        for chunk in range(t * chunks // tasks, (t + 1) * chunks // tasks):
            first, end = chunk * n // chunks, (chunk + 1) * n // chunks
            rows, part = end - first, address(parts, chunk * size)
            sums = address(slabs, chunk * slab)
            states = address(sums, together * height * wide) if cell == _GRU else sums
            made_of = address(sums, 2 * together * height * wide)
            of_bias = address(part, (f + u) * g)
            _clear(2 * g, of_bias)
            for i in range(first, end):
                if dh.size > 0:
                    copy_row(u, address(dh, i * u), address(dh0, i * u))
                else:
                    _clear(u, address(dh0, i * u))
                if dc.size > 0:
                    copy_row(u, address(dc, i * u), address(dc0, i * u))
                elif cell == _LSTM:
                    _clear(u, address(dc0, i * u))
            for back in range(steps):
                s = steps - 1 - back
                at = back if backwards else s
                waiting = back % together * rows
                for r in range(rows):
                    i = first + r
                    place, slope = i * steps + s, address(dh0, i * u)
                    to, of_state = address(sums, (waiting + r) * wide), address(states, (waiting + r) * wide)
                    source = address(made_of, (waiting + r) * (f + u))
                    old = address(y, (place - 1) * u) if s > 0 else address(h0, i * row_h0)
                    gate = address(gates, (i * steps + at) * g)
                    if dy.size > 0:
                        add_row(u, slope, address(dy, place * u), slope, 0)
                    if mask.size > 0 and mask[i * steps + at] == 0:
                        _clear(g, to)
                        _clear(g, of_state)
                        _clear(f + u, source)
                        continue
                    if cell == _LSTM:
                        last = address(kept, (place - 1) * u) if s > 0 else address(c0, i * row_c0)
                        lstm_backward_row(u, slope, address(dc0, i * u), gate, last, address(kept, place * u), to)
                        _clear(u, slope)
                    elif cell == _GRU:
                        gru_backward_row(u, slope, gate, address(kept, place * u), old, to, of_state)
                    else:
                        output = address(y, place * u)
                        backward_row(code, u, slope, one, output, one, output, to, 0)  # no numbers
                        _clear(u, slope)
                    if weighed:
                        copy_row(f, address(x, (i * steps + at) * f), source)
                        copy_row(u, old, address(source, f))
                        add_row(g, of_bias, to, of_bias, 0)
                        if cell == _GRU:
                            add_row(g, address(of_bias, g), of_state, address(of_bias, g), 0)
                to, of_state = address(sums, waiting * wide), address(states, waiting * wide)
                _product(rows, g, u, of_state, wide, of_states, address(dh0, first * u), u, 1, MR, NR)
                if dx.size > 0:
                    target = address(dx, (first * steps + at) * f)
                    _product(rows, g, f, to, wide, of_inputs, target, steps * f, 0, MR, NR)
                if weighed and (back % together == together - 1 or s == 0):
                    depth, later = waiting + rows, int(back >= together)
                    source = address(made_of, f)
                    _outer_product(depth, f, g, made_of, f + u, sums, wide, part, later, MR, NR)
                    _outer_product(depth, u, g, source, f + u, states, wide, address(part, f * g), later, MR, NR)
        wait(tasks, words)
        made = chunks if steps > 0 else 0
        _join(t, tasks, made, size, f * g, parts, dkernel)
        _join(t, tasks, made, size, u * g, address(parts, f * g), drecurrent_kernel)
        _join(t, tasks, made, size, dbias.size, address(parts, (f + u) * g), dbias)

    return backward


@compiled_in
def _join(t, tasks, chunks, size, count, parts, total):
    """Task t's share of the sums of so many numbers of all chunks, in their order, if they are wanted."""
    low, high = t * count // tasks, (t + 1) * count // tasks
    if total.size > 0:
        to = address(total, low)
        _clear(high - low, to)
        for chunk in range(chunks):
            add_row(high - low, to, address(parts, chunk * size + low), to, 0)


def _nanoseconds(n: int, t: int, u: int, g: int) -> float:
    """One core's work for all steps."""
    return n * t * g * (2.0 * u / _FLOPS_PER_NS + _NS_PER_GATE)


def _chunks(n: int, itemsize: int) -> int:
    """How many chunks n samples are: no higher than a tile, and as many for each of up to four threads."""
    least = -(-n // tile(itemsize).MR)
    return min(-(-least // _CHUNKS_TOGETHER) * _CHUNKS_TOGETHER, max(least, -(-n // _LEAST_ROWS)))


def _in_panels(k: int, m: int, NR: int) -> int:
    """Numbers of the panels of a matrix (k, m)."""
    return -(-m // NR) * NR * k


def _in_steps(x: Any) -> Any:
    """The steps of a sequence as rows, in C order."""
    n, t, f = x.shape
    return in_order(x).reshape(n * t, f)


class _Shape:
    """What both directions share: sizes, and what stands for arrays that are not given."""

    def __init__(self, x: Any, recurrent_kernel: Any) -> None:
        (self.n, self.t, self.f), (self.u, self.g), self.dtype = x.shape, recurrent_kernel.shape, x.dtype
        self.chunks = _chunks(self.n, self.dtype.itemsize)
        self.none, self.no_rows = np.empty(0, self.dtype), np.empty((0, self.u), self.dtype)
        self._zeros = np.zeros((1, self.u), self.dtype)
        self.NR = tile(self.dtype.itemsize).NR
        self.work = _nanoseconds(self.n, self.t, self.u, self.g)

    def first(self, state: Any) -> Any:
        """A first state, or a row of zeros, which stands for all."""
        return self._zeros if state is None else in_order(state)

    def rows(self, given: Any) -> Any:
        """The rows of an array, or none."""
        if given is None:
            return self.no_rows
        return in_order(given) if given.ndim == 2 else _in_steps(given)

    def flags(self, mask: Any) -> Any:
        """A mask, or nothing."""
        return self.none if mask is None else contiguous(mask)


class _Sweep(_Shape):
    """All steps forwards of a cell whose gates' sums are ``g`` wide, for arrays like these."""

    def __init__(self, cell: int, x: Any, recurrent_kernel: Any, code: int, backwards: bool) -> None:
        super().__init__(x, recurrent_kernel)
        self.cell, g = cell, self.g
        self._no_bias = np.zeros(2 * g, self.dtype)
        self._scratch = _in_panels(self.f, g, self.NR) + _in_panels(self.u, g, self.NR) + self.n * g
        self._compute = _forward.planned(self.dtype, self.work, cell, code, int(backwards), self.t, self.chunks)

    def __call__(
        self, x: Any, kernel: Any, recurrent_kernel: Any, bias: Any, mask: Any, h0: Any, c0: Any = None
    ) -> tuple[Any, Any, Any, Any, Any]:
        """(y, h, c, gates, what else is kept), each None where the cell has none."""
        n, t, u, dtype = self.n, self.t, self.u, self.dtype
        y, h = np.empty((n, t, u), dtype), np.empty((n, u), dtype)
        c = np.empty((n, u), dtype) if self.cell == _LSTM else None
        gates, kept = (
            np.empty((n, t, width), dtype) if self.cell != _SIMPLE else None for width in (self.g, u)
        )  # as ``y``
        self._compute(
            _in_steps(x), in_order(kernel), in_order(recurrent_kernel),
            self._no_bias if bias is None else contiguous(bias), self.flags(mask), self.first(h0), self.first(c0),
            workspace(self._scratch, dtype), self.rows(gates), _in_steps(y), self.rows(kept), h, self.rows(c),
        )  # fmt: skip
        return y, h, c, gates, kept


class _SweepBack(_Shape):
    """All steps backwards, for arrays like these."""

    def __init__(
        self, cell: int, x: Any, kernel: Any, recurrent_kernel: Any, code: int, backwards: bool, need: Sequence[str]
    ) -> None:
        super().__init__(x, recurrent_kernel)
        f, g, u, number = self.f, self.g, self.u, self.dtype.itemsize
        self.need, weighed = need, not {*need}.isdisjoint(_OF_WEIGHTS)
        self._cell, height = cell, -(-self.n // max(1, self.chunks))
        # rows that far apart fall into all sets of a cache
        wide = (-(-g * number // LINE) + 1) * LINE // number
        slab = max(1, _DEPTH // max(1, height)) * height * (f + u + 2 * wide)
        self._scratch = _in_panels(g, u, self.NR) + _in_panels(g, f, self.NR) + self.NR
        self._scratch += self.chunks * ((f + u + 2) * g + slab)
        leading = cell, code, int(backwards), self.t, self.chunks, max(1, height), wide, int(weighed)
        self._compute = _backward.planned(self.dtype, 2 * self.work, *leading, self.dtype.type(1))

    def __call__(
        self, x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, kept: Any,
        dy: Any, dh: Any, dc: Any, mask: Any, h0: Any, c0: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        """(dx, dkernel, drecurrent_kernel, dbias, dh0, dc0), None for what is not needed."""
        n, g, u = self.n, self.g, self.u
        shapes: dict[str, tuple[int, ...]] = {"dx": x.shape, "dkernel": kernel.shape, "drecurrent_kernel": (u, g)}
        shapes |= {"dbias": (2, g) if self._cell == _GRU else (g,), "dh0": (n, u), "dc0": (n, u)}
        made = {name: np.empty(shapes[name], self.dtype) for name in _OF_STATES if name in (*self.need, "dh0", "dc0")}
        dx, dkernel, drecurrent_kernel, dbias, dh0, dc0 = map(made.get, _OF_STATES)
        self._compute(
            _in_steps(x), in_order(kernel), in_order(recurrent_kernel), self.flags(mask), self.rows(dy), self.rows(dh),
            self.rows(dc), self.first(h0), self.first(c0), self.rows(gates), _in_steps(y), self.rows(kept),
            workspace(self._scratch, self.dtype), self.rows(dx), dh0, dc0, self.rows(dkernel),
            self.rows(drecurrent_kernel), self.none if dbias is None else dbias.reshape(-1),
        )  # fmt: skip
        return tuple(made[name] if name in self.need else None for name in _OF_STATES)


@Planned
def simple_rnn(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any = None,
    mask: Any = None,
    h0: Any = None,
    activation: str = "tanh",
    go_backwards: bool = False,
) -> Callable[..., tuple[Any, Any]]:
    """Sums are not kept: the outputs tell the derivative."""
    sweep = _Sweep(_SIMPLE, x, recurrent_kernel, _code(activation), go_backwards)

    def run(
        x: Any,
        kernel: Any,
        recurrent_kernel: Any,
        bias: Any = None,
        mask: Any = None,
        h0: Any = None,
        *_: Any,
        **__: Any,
    ) -> tuple[Any, Any]:
        return sweep(x, kernel, recurrent_kernel, bias, mask, h0)[:2]

    return run


def _code(activation: str) -> int:
    return CODES[ELEMENTWISE_ACTIVATIONS[activation]]


@Planned
def lstm(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any = None,
    mask: Any = None,
    h0: Any = None,
    c0: Any = None,
    go_backwards: bool = False,
) -> Callable[..., tuple[Any, ...]]:
    """What is kept beside the gates are the cells' states."""
    sweep = _Sweep(_LSTM, x, recurrent_kernel, 0, go_backwards)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, mask: Any = None, h0: Any = None, c0: Any = None,
        *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        return sweep(x, kernel, recurrent_kernel, bias, mask, h0, c0)

    return run


@Planned
def gru(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any = None,
    mask: Any = None,
    h0: Any = None,
    go_backwards: bool = False,
) -> Callable[..., tuple[Any, ...]]:
    """What is kept beside the gates are the state's sums for the candidates."""
    sweep = _Sweep(_GRU, x, recurrent_kernel, 0, go_backwards)

    def run(
        x: Any,
        kernel: Any,
        recurrent_kernel: Any,
        bias: Any = None,
        mask: Any = None,
        h0: Any = None,
        *_: Any,
        **__: Any,
    ) -> tuple[Any, ...]:
        y, h, _, gates, candidates = sweep(x, kernel, recurrent_kernel, bias, mask, h0)
        return y, h, gates, candidates

    return run


@Planned
def simple_rnn_backward(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    y: Any,
    dy: Any = None,
    dh: Any = None,
    mask: Any = None,
    h0: Any = None,
    activation: str = "tanh",
    go_backwards: bool = False,
    need: Sequence[str] = _GRADIENTS,
) -> Callable[..., tuple[Any, ...]]:
    """Through time, then the products."""
    sweep = _SweepBack(_SIMPLE, x, kernel, recurrent_kernel, _code(activation), go_backwards, need)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, y: Any, dy: Any = None, dh: Any = None, mask: Any = None,
        h0: Any = None, *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        return sweep(x, kernel, recurrent_kernel, y, None, None, dy, dh, None, mask, h0, None)[:-1]

    return run


@Planned
def lstm_backward(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    y: Any,
    gates: Any,
    cells: Any,
    dy: Any = None,
    dh: Any = None,
    dc: Any = None,
    mask: Any = None,
    h0: Any = None,
    c0: Any = None,
    go_backwards: bool = False,
    need: Sequence[str] = _OF_STATES,
) -> Callable[..., tuple[Any, ...]]:
    """Through time, then the products."""
    sweep = _SweepBack(_LSTM, x, kernel, recurrent_kernel, 0, go_backwards, need)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, cells: Any, dy: Any = None, dh: Any = None,
        dc: Any = None, mask: Any = None, h0: Any = None, c0: Any = None, *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        return sweep(x, kernel, recurrent_kernel, y, gates, cells, dy, dh, dc, mask, h0, c0)

    return run


@Planned
def gru_backward(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    y: Any,
    gates: Any,
    candidates: Any,
    dy: Any = None,
    dh: Any = None,
    mask: Any = None,
    h0: Any = None,
    go_backwards: bool = False,
    need: Sequence[str] = _GRADIENTS,
) -> Callable[..., tuple[Any, ...]]:
    """Through time, then the products."""
    sweep = _SweepBack(_GRU, x, kernel, recurrent_kernel, 0, go_backwards, need)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, candidates: Any, dy: Any = None, dh: Any = None,
        mask: Any = None, h0: Any = None, *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        return sweep(x, kernel, recurrent_kernel, y, gates, candidates, dy, dh, None, mask, h0, None)[:-1]

    return run
