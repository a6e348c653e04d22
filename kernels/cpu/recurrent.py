"""Recurrent layers over whole sequences: the inputs' sums of all steps are one product, then tasks share the samples.

A task takes MR samples at a time through all steps, a tile high, so that what a step touches stays in the first cache:
panels of the recurrent weights, and the sums of a step side by side; where they came from, a sample's steps lie one
behind the other, and those of the next one t g numbers further. Backwards the same with the transposed weights:
gradients by the sums of all steps first, then those by the weights, a product each. A result depends on its own sample
alone, or is a sum in the order of the samples: no number of threads changes it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu import gemm
from fastnn.kernels.cpu._arrays import aligned, contiguous, in_order
from fastnn.kernels.cpu.gemm import Panels
from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.parts import compiled_in
from fastnn.kernels.cpu.simd.elementwise import add_row, backward_row, copy_row, forward_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.recurrent import gru_backward_row, gru_row, lstm_backward_row, lstm_row
from fastnn.kernels.cpu.simd.tile import gemm_tile
from fastnn.kernels.formulas.activations import CODES
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS
from fastnn.kernels.table.recurrent import GRADIENTS

# Which cell a kernel steps.
_SIMPLE, _LSTM, _GRU = range(3)

# One core's multiply-adds of small products a nanosecond, and its nanoseconds for a gate, roughly.
_FLOPS_PER_NS, _NS_PER_GATE = 30.0, 2.0

_GRADIENTS, _OF_STATES = GRADIENTS["gru"], GRADIENTS["lstm"]

# The gradients that are products with those of sums: of all, or where they differ of the inputs' sums and the state's.
_TOGETHER = (("dkernel", "drecurrent_kernel", "dbias"),)
_SPLIT = (("dkernel", "dbias"), ("drecurrent_kernel", "dbias"))

_rooms = threading.local()


@compiled_in
def _clear(count, row):
    for j in range(count):
        row[j] = 0


@compiled_in
def _add_product(rows, k, m, a, row_a, panels, c, row_c, MR, NR):
    """C (rows, m) += A (rows, k) @ B, whose panels [m/NR, k, NR] lie one behind the other."""
    for j in range(0, m, NR):
        for i in range(0, rows, MR):
            gemm_tile(
                min(MR, rows - i), min(NR, m - j), k, address(a, i * row_a), row_a, 1,
                address(panels, j * k), NR, address(c, i * row_c + j), row_c, 1,
            )  # fmt: skip


def _forward_signature(dtype: Any) -> Any:
    size, rows, run = types.int64, matrix(dtype), flat(dtype)
    return types.void(size, size, size, run, run, run, rows, rows, rows, rows, rows, rows)


@kernel(_forward_signature)
def _forward(MR: int, NR: int) -> Any:
    def forward(cell, code, backwards, panels, bias, mask, h0, c0, sums, gates, y, kept, words, t, tasks):
        n, u = h0.shape
        steps, g = gates.shape[0] // max(n, 1), gates.shape[1]
        low, high = t * n // tasks, (t + 1) * n // tasks
        own = address(sums, low * g)
        for first in range(low, high, MR):
            rows = min(MR, high - first)
            for s in range(steps):
                at = steps - 1 - s if backwards else s
                before, row = (address(y, (s - 1) * u), steps * u) if s > 0 else (address(h0, 0), u)
                for i in range(rows):
                    of_inputs = address(gates, ((first + i) * steps + at) * g)
                    copy_row(g, address(bias, 0) if cell == _GRU else of_inputs, address(own, i * g))
                _add_product(rows, u, g, address(before, first * row), row, address(panels, 0), own, g, MR, NR)
                for i in range(first, first + rows):
                    gate, h = address(gates, (i * steps + at) * g), address(y, (i * steps + s) * u)
                    c, old = address(kept, (i * steps + s) * u), address(before, i * row)
                    last = address(kept, (i * steps + s - 1) * u) if s > 0 else address(c0, i * u)
                    state = address(own, (i - first) * g)
                    if mask.size > 0 and mask[i * steps + at] == 0:
                        copy_row(u, old, h)
                        if cell == _LSTM:
                            copy_row(u, last, c)
                            _clear(g, gate)
                        elif cell == _GRU:
                            _clear(u, c)
                            _clear(g, gate)
                    elif cell == _LSTM:
                        lstm_row(u, state, gate, last, c, h)
                    elif cell == _GRU:
                        gru_row(u, gate, state, old, c, h)
                    else:
                        forward_row(code, u, state, state, h, 0)  # no numbers

    return forward


def _backward_signature(dtype: Any) -> Any:
    size, rows, run = types.int64, matrix(dtype), flat(dtype)
    return types.void(size, size, size, dtype, run, run, run, *[rows] * 10)


@kernel(_backward_signature)
def _backward(MR: int, NR: int) -> Any:
    def backward(
        cell,
        code,
        backwards,
        one,
        panels,
        mask,
        dy,
        h0,
        c0,
        gates,
        y,
        kept,
        dh,
        dc,
        dsums,
        dstate,
        flat,
        words,
        t,
        tasks,
    ):
        n, u = dh.shape
        steps, g = dsums.shape[0] // max(n, 1), dsums.shape[1]
        low, high = t * n // tasks, (t + 1) * n // tasks
        own = address(flat, low * g)
        for first in range(low, high, MR):
            rows = min(MR, high - first)
            for back in range(steps):
                s = steps - 1 - back
                at = back if backwards else s
                for i in range(first, first + rows):
                    place, slope = i * steps + s, address(dh, i * u)
                    to, of_state = address(dsums, (i * steps + at) * g), address(dstate, (i * steps + at) * g)
                    old = address(y, (place - 1) * u) if s > 0 else address(h0, i * u)
                    if dy.size > 0:
                        add_row(u, slope, address(dy, place * u), slope, 0)
                    if mask.size > 0 and mask[i * steps + at] == 0:
                        _clear(g, to)
                        _clear(g, of_state)
                    elif cell == _LSTM:
                        last = address(kept, (place - 1) * u) if s > 0 else address(c0, i * u)
                        gate = address(gates, (i * steps + at) * g)
                        lstm_backward_row(u, slope, address(dc, i * u), gate, last, address(kept, place * u), to)
                        _clear(u, slope)
                    elif cell == _GRU:
                        gate = address(gates, (i * steps + at) * g)
                        gru_backward_row(u, slope, gate, address(kept, place * u), old, to, of_state)
                    else:
                        h = address(y, place * u)
                        backward_row(code, u, slope, one, h, one, h, to, 0)  # no numbers
                        _clear(u, slope)
                    copy_row(g, of_state, address(own, (i - first) * g))
                _add_product(rows, g, u, own, g, address(panels, 0), address(dh, first * u), u, MR, NR)

    return backward


def _nanoseconds(n: int, t: int, u: int, g: int) -> float:
    """One core's work for all steps, but for the products of the inputs."""
    return n * t * g * (2.0 * u / _FLOPS_PER_NS + _NS_PER_GATE)


def _flags(mask: Any, dtype: Any) -> Any:
    """A mask, or gradients, as kernels take them: nothing where there are none."""
    return np.empty(0, dtype) if mask is None else contiguous(mask)


def _state(given: Any, n: int, u: int, dtype: Any) -> Any:
    """A first state: zeros where none is given."""
    return np.zeros((n, u), dtype) if given is None else in_order(given)


def _in_steps(x: Any) -> Any:
    """The steps of a sequence as rows, in C order."""
    n, t, f = x.shape
    return in_order(x).reshape(n * t, f)


def _room(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """Memory for what a call needs until its end, this thread's own: fresh pages cost as much as what is done there."""
    held: dict[Any, Any] = _rooms.__dict__
    key, count = f"{name} {dtype.char}", shape[0] * shape[1]
    if key not in held or held[key].size < count:
        held[key] = aligned((count,), dtype)
    return held[key][:count].reshape(shape)


class _Sweep:
    """All steps forwards of a cell whose gates' sums are ``g`` wide, for arrays like these."""

    def __init__(self, cell: int, x: Any, kernel: Any, recurrent_kernel: Any, bias: Any, code: int, backwards: bool):
        (self.n, self.t, _), (self.u, self.g), self.dtype = x.shape, recurrent_kernel.shape, x.dtype
        self.cell = cell
        self._product = gemm.linear.plan(_in_steps(x), kernel, bias)
        work = _nanoseconds(self.n, self.t, self.u, self.g)
        self._compute = _forward.planned(self.dtype, work, cell, code, int(backwards))

    def __call__(
        self, x: Any, kernel: Any, recurrent_kernel: Any, bias: Any, of_state: Any, mask: Any, h0: Any, c0: Any
    ) -> tuple[Any, Any, Any, Any]:
        """(y, last h, gates, what else is kept), whose steps are rows."""
        n, t, u, dtype = self.n, self.t, self.u, self.dtype
        gates = self._product(_in_steps(x), kernel, bias)
        y = np.empty((n * t, u), dtype)
        kept = np.empty((n * t if self.cell != _SIMPLE else 0, u), dtype)
        sums = np.empty((n, self.g), dtype)
        start, cells = _state(h0, n, u, dtype), _state(c0, n, u, dtype)
        panels = Panels(recurrent_kernel).panels
        self._compute(panels, _flags(of_state, dtype), _flags(mask, dtype), start, cells, sums, gates, y, kept)
        return y, self.last(y, start), gates, kept

    def last(self, y: Any, start: Any) -> Any:
        """The state behind the last step."""
        return (y.reshape(self.n, self.t, self.u)[:, -1] if self.t else start).copy()

    def in_sequence(self, rows: Any) -> Any:
        """Rows as the steps of sequences."""
        return rows.reshape(self.n, self.t, rows.shape[1])


class _SweepBack:
    """All steps backwards, for arrays like these; ``split`` where the state's sums have gradients of their own."""

    def __init__(
        self, cell: int, x: Any, kernel: Any, recurrent_kernel: Any, code: int, backwards: bool, need: Sequence[str]
    ) -> None:
        (self.n, self.t, _), (self.u, self.g), self.dtype = x.shape, recurrent_kernel.shape, x.dtype
        self.backwards, self.need, self.split = backwards, need, cell == _GRU
        work = _nanoseconds(self.n, self.t, self.u, self.g)
        self._compute = _backward.planned(self.dtype, work, cell, code, int(backwards), self.dtype.type(1))
        rows, widths = (
            np.empty((self.n * self.t, self.g), self.dtype),
            {"dkernel": x.shape[2], "drecurrent_kernel": self.u, "dbias": 1},
        )
        self._of_x = gemm.matmul.plan(rows, kernel.T)
        self._products = []
        for names in _SPLIT if self.split else _TOGETHER:
            parts = {name: widths[name] for name in names if name in need}
            left = np.empty((self.n * self.t, sum(parts.values())), self.dtype)
            self._products.append((parts, gemm.matmul.plan(left.T, rows)))

    def __call__(
        self, x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, kept: Any,
        dy: Any, dh: Any, dc: Any, mask: Any, h0: Any, c0: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        """(dx, dkernel, drecurrent_kernel, dbias, dh0, dc0), None for what is not needed."""
        n, u, dtype, empty = self.n, self.u, self.dtype, np.empty((0, self.u), self.dtype)
        dsums = _room("sums", (n * self.t, self.g), dtype)
        dstate = _room("states", dsums.shape, dtype) if self.split else dsums
        start, cells = _state(h0, n, u, dtype), _state(c0, n, u, dtype)
        of_h, of_c = (np.zeros((n, u), dtype) if each is None else np.array(each, order="C") for each in (dh, dc))
        self._compute(
            Panels(recurrent_kernel.T).panels, _flags(mask, dtype), _flags(dy, dtype), start, cells,
            empty if gates is None else _in_steps(gates), _in_steps(y), empty if kept is None else _in_steps(kept),
            of_h, of_c, dsums, dstate, np.empty((n, self.g), dtype),
        )  # fmt: skip
        results = self._of_weights(_in_steps(x), y, start, (dsums, dstate)) | {"dh0": of_h, "dc0": of_c}
        if "dx" in self.need:
            results["dx"] = self._of_x(dsums, kernel.T).reshape(x.shape)
        return tuple(results[name] if name in self.need else None for name in _OF_STATES)

    def _of_weights(self, x: Any, y: Any, start: Any, slopes: tuple[Any, Any]) -> dict[str, Any]:
        """Gradients of weights and biases: inputs, states and ones side by side, times the sums', are one product."""
        found: dict[str, Any] = {}
        for (parts, product), of_sums in zip(self._products, slopes, strict=False):
            left, at = _room("left", (self.n * self.t, sum(parts.values())), self.dtype), 0
            for name, width in parts.items():
                part = left[:, at : at + width]
                if name == "drecurrent_kernel":
                    self._states(left.reshape(self.n, self.t, left.shape[1])[:, :, at : at + width], y, start)
                else:
                    part[...] = x if name == "dkernel" else 1
                at += width
            whole, at = product(left.T, of_sums) if parts else None, 0
            for name, width in parts.items():
                found.setdefault(name, []).append(whole[at : at + width])
                at += width
        return {
            name: np.concatenate(each)
            if self.split and name == "dbias"
            else (each[0][0] if name == "dbias" else each[0]).copy()
            for name, each in found.items()
        }

    def _states(self, to: Any, y: Any, start: Any) -> None:
        """Put the state there that each step of x was made with."""
        if self.t and self.backwards:
            to[:, -1], to[:, :-1] = start, y[:, :-1][:, ::-1]
        elif self.t:
            to[:, 0], to[:, 1:] = start, y[:, :-1]


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
    sweep = _Sweep(_SIMPLE, x, kernel, recurrent_kernel, bias, _code(activation), go_backwards)

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
        y, h = sweep(x, kernel, recurrent_kernel, bias, None, mask, h0, None)[:2]
        return sweep.in_sequence(y), h

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
    sweep = _Sweep(_LSTM, x, kernel, recurrent_kernel, bias, 0, go_backwards)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, mask: Any = None, h0: Any = None, c0: Any = None,
        *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        y, h, gates, cells = sweep(x, kernel, recurrent_kernel, bias, None, mask, h0, c0)
        c = sweep.last(cells, _state(c0, h.shape[0], h.shape[1], x.dtype))
        return sweep.in_sequence(y), h, c, sweep.in_sequence(gates), sweep.in_sequence(cells)

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
    first = None if bias is None else bias[0]
    sweep = _Sweep(_GRU, x, kernel, recurrent_kernel, first, 0, go_backwards)
    none = np.zeros(recurrent_kernel.shape[1], x.dtype)

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
        of_x, of_h = (None, none) if bias is None else bias
        y, h, gates, candidates = sweep(x, kernel, recurrent_kernel, of_x, of_h, mask, h0, None)
        return sweep.in_sequence(y), h, sweep.in_sequence(gates), sweep.in_sequence(candidates)

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
