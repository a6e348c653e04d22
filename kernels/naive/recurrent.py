"""Recurrent layers, one sample, one step, one unit at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastnn.kernels.naive import elementwise
from fastnn.kernels.naive._lists import deliver
from fastnn.kernels.table.recurrent import GRADIENTS

_GRADIENTS, _OF_STATES = GRADIENTS["gru"], GRADIENTS["lstm"]


def _sigmoid(x: float) -> float:
    e = math.exp(-abs(x))
    return (1.0 if x >= 0 else e) / (1.0 + e)


def _product(x: Sequence[float], w: Sequence[Sequence[float]], start: Sequence[float]) -> list[float]:
    """A row times a matrix, and ``start``."""
    total = list(start)
    for v, row in zip(x, w, strict=True):
        for j, weight in enumerate(row):
            total[j] += v * weight
    return total


def _back(d: Sequence[float], w: Sequence[Sequence[float]]) -> list[float]:
    """A row times the transpose of a matrix."""
    return [sum(a * b for a, b in zip(d, row, strict=True)) for row in w]


def _add_outer(total: list[list[float]], x: Sequence[float], d: Sequence[float]) -> None:
    for row, v in zip(total, x, strict=True):
        for j, slope in enumerate(d):
            row[j] += v * slope


def _zeros(*shape: int) -> Any:
    return [_zeros(*shape[1:]) for _ in range(shape[0])] if shape else 0.0


def _rows(array: Any, *shape: int) -> Any:
    """An array's numbers, zeros where there is none."""
    return _zeros(*shape) if array is None else array.tolist()


def _steps(mask: Any, i: int, t: int, backwards: bool) -> Iterator[tuple[int, int, bool]]:
    """(number, step of the inputs, whether it counts) for the steps of sample i, in the order of their making."""
    for number in range(t):
        at = t - 1 - number if backwards else number
        yield number, at, mask is None or bool(mask[i, at] != 0)


def _delivered(values: Sequence[Any], shapes: Sequence[tuple[int, ...]], dtype: Any) -> tuple[Any, ...]:
    return tuple(deliver(each, shape, dtype) for each, shape in zip(values, shapes, strict=True))


def _needed(need: Sequence[str], names: Sequence[str], results: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(result if name in need else None for name, result in zip(names, results, strict=True))


def simple_rnn(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any = None,
    mask: Any = None,
    h0: Any = None,
    activation: str = "tanh",
    go_backwards: bool = False,
) -> tuple[Any, ...]:
    """Each step's sums, through the activation."""
    (n, t, _), u = x.shape, recurrent_kernel.shape[0]
    xs, w, r, b = x.tolist(), kernel.tolist(), recurrent_kernel.tolist(), _rows(bias, u)
    states, y = _rows(h0, n, u), _zeros(n, t, u)
    for i in range(n):
        for number, at, counts in _steps(mask, i, t, go_backwards):
            if counts:
                sums = _product(states[i], r, _product(xs[i][at], w, b))
                states[i] = elementwise.forward("identity" if activation == "linear" else activation, sums)
            y[i][number] = states[i]
    return _delivered((y, states), ((n, t, u), (n, u)), x.dtype)


def lstm(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any = None,
    mask: Any = None,
    h0: Any = None,
    c0: Any = None,
    go_backwards: bool = False,
) -> tuple[Any, ...]:
    """Each step's gates, then the cell, then the output; what is kept of steps that do not count is 0."""
    (n, t, _), u = x.shape, recurrent_kernel.shape[0]
    xs, w, r, b = x.tolist(), kernel.tolist(), recurrent_kernel.tolist(), _rows(bias, 4 * u)
    h, c = _rows(h0, n, u), _rows(c0, n, u)
    y, gates, cells = _zeros(n, t, u), _zeros(n, t, 4 * u), _zeros(n, t, u)
    for i in range(n):
        for number, at, counts in _steps(mask, i, t, go_backwards):
            if counts:
                sums = _product(h[i], r, _product(xs[i][at], w, b))
                gate = [math.tanh(v) if 2 * u <= j < 3 * u else _sigmoid(v) for j, v in enumerate(sums)]
                gates[i][at] = gate
                c[i] = [gate[u + j] * c[i][j] + gate[j] * gate[2 * u + j] for j in range(u)]
                h[i] = [gate[3 * u + j] * math.tanh(c[i][j]) for j in range(u)]
            y[i][number], cells[i][number] = h[i], c[i]
    shapes = (n, t, u), (n, u), (n, u), (n, t, 4 * u), (n, t, u)
    return _delivered((y, h, c, gates, cells), shapes, x.dtype)


def gru(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any = None,
    mask: Any = None,
    h0: Any = None,
    go_backwards: bool = False,
) -> tuple[Any, ...]:
    """Each step's gates, then the candidate, then the output."""
    (n, t, _), u = x.shape, recurrent_kernel.shape[0]
    xs, w, r, b = x.tolist(), kernel.tolist(), recurrent_kernel.tolist(), _rows(bias, 2, 3 * u)
    h = _rows(h0, n, u)
    y, gates, candidates = _zeros(n, t, u), _zeros(n, t, 3 * u), _zeros(n, t, u)
    for i in range(n):
        for number, at, counts in _steps(mask, i, t, go_backwards):
            if counts:
                of_x, of_h = _product(xs[i][at], w, b[0]), _product(h[i], r, b[1])
                z, reset = ([_sigmoid(of_x[k + j] + of_h[k + j]) for j in range(u)] for k in (0, u))
                c = [math.tanh(of_x[2 * u + j] + reset[j] * of_h[2 * u + j]) for j in range(u)]
                gates[i][at], candidates[i][number] = [*z, *reset, *c], of_h[2 * u :]
                h[i] = [z[j] * h[i][j] + (1.0 - z[j]) * c[j] for j in range(u)]
            y[i][number] = h[i]
    return _delivered((y, h, gates, candidates), ((n, t, u), (n, u), (n, t, 3 * u), (n, t, u)), x.dtype)


def _through_time(
    cell: Callable[..., Any],
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    y: Any,
    dy: Any,
    dh: Any,
    mask: Any,
    h0: Any,
    backwards: bool,
) -> list[Any]:
    """Gradients by x, kernel, recurrent_kernel, both biases and h0, of a cell's (dsums, dstate, dbefore) step by step.

    ``cell(i, number, at, dh, before)`` gives the gradients by the sums of the inputs and of the state, and that by the
    state ``before`` which does not go through the sums.
    """
    (n, t, f), (u, g) = x.shape, recurrent_kernel.shape
    xs, w, r, outputs, first = x.tolist(), kernel.tolist(), recurrent_kernel.tolist(), y.tolist(), _rows(h0, n, u)
    slopes, carry = _rows(dy, n, t, u), _rows(dh, n, u)
    dx, dw, dr, db, dstart = _zeros(n, t, f), _zeros(f, g), _zeros(u, g), _zeros(g), _zeros(g)
    for i in range(n):
        for number, at, counts in reversed(list(_steps(mask, i, t, backwards))):
            carry[i] = [a + b for a, b in zip(carry[i], slopes[i][number], strict=True)]
            if not counts:
                continue
            before = outputs[i][number - 1] if number else first[i]
            dsums, dstate, direct = cell(i, number, at, carry[i], before)
            dx[i][at] = _back(dsums, w)
            _add_outer(dw, xs[i][at], dsums)
            _add_outer(dr, before, dstate)
            db = [a + b for a, b in zip(db, dsums, strict=True)]
            dstart = [a + b for a, b in zip(dstart, dstate, strict=True)]
            carry[i] = [a + b for a, b in zip(direct, _back(dstate, r), strict=True)]
    return [dx, dw, dr, db, dstart, carry]


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
) -> tuple[Any, ...]:
    """The activation's derivative at each step's output."""
    u = recurrent_kernel.shape[0]
    name = "identity" if activation == "linear" else activation

    def cell(i: int, number: int, at: int, dh: list[float], before: list[float]) -> Any:
        out = y[i, number].tolist()
        dsums = elementwise.backward(name, dh, out, out)
        return dsums, dsums, [0.0] * u

    dx, dw, dr, db, _, dh0 = _through_time(cell, x, kernel, recurrent_kernel, y, dy, dh, mask, h0, go_backwards)
    shapes = x.shape, kernel.shape, recurrent_kernel.shape, (u,), (x.shape[0], u)
    return _needed(need, _GRADIENTS, _delivered((dx, dw, dr, db, dh0), shapes, x.dtype))


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
) -> tuple[Any, ...]:
    """The cell's gradient goes back beside the output's."""
    n, u = x.shape[0], recurrent_kernel.shape[0]
    gate, cell_states, first, of_cells = gates.tolist(), cells.tolist(), _rows(c0, n, u), _rows(dc, n, u)

    def cell(i: int, number: int, at: int, dh: list[float], _: list[float]) -> Any:
        before = cell_states[i][number - 1] if number else first[i]
        dsums, back = [0.0] * (4 * u), [0.0] * u
        for j in range(u):
            a, f, g, o = (gate[i][at][k * u + j] for k in range(4))
            squashed = math.tanh(cell_states[i][number][j])
            d = of_cells[i][j] + dh[j] * o * (1 - squashed) * (1 + squashed)
            dsums[j], dsums[u + j] = d * g * a * (1 - a), d * before[j] * f * (1 - f)
            dsums[2 * u + j], dsums[3 * u + j] = d * a * (1 - g) * (1 + g), dh[j] * squashed * o * (1 - o)
            back[j] = d * f
        of_cells[i] = back
        return dsums, dsums, [0.0] * u

    dx, dw, dr, db, _, dh0 = _through_time(cell, x, kernel, recurrent_kernel, y, dy, dh, mask, h0, go_backwards)
    shapes = x.shape, kernel.shape, recurrent_kernel.shape, (4 * u,), (n, u), (n, u)
    return _needed(need, _OF_STATES, _delivered((dx, dw, dr, db, dh0, of_cells), shapes, x.dtype))


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
) -> tuple[Any, ...]:
    """What resets comes between the state's sum and the candidate."""
    n, u = x.shape[0], recurrent_kernel.shape[0]
    gate, kept = gates.tolist(), candidates.tolist()

    def cell(i: int, number: int, at: int, dh: list[float], before: list[float]) -> Any:
        dsums, dstate, direct = [0.0] * (3 * u), [0.0] * (3 * u), [0.0] * u
        for j in range(u):
            z, r, c = (gate[i][at][k * u + j] for k in range(3))
            dz, dc = dh[j] * (before[j] - c) * z * (1 - z), dh[j] * (1 - z) * (1 - c) * (1 + c)
            dr = dc * kept[i][number][j] * r * (1 - r)
            for k, (of_x, of_h) in enumerate(((dz, dz), (dr, dr), (dc, dc * r))):
                dsums[k * u + j], dstate[k * u + j] = of_x, of_h
            direct[j] = dh[j] * z
        return dsums, dstate, direct

    dx, dw, dr, db, dstart, dh0 = _through_time(cell, x, kernel, recurrent_kernel, y, dy, dh, mask, h0, go_backwards)
    shapes = x.shape, kernel.shape, recurrent_kernel.shape, (2, 3 * u), (n, u)
    return _needed(need, _GRADIENTS, _delivered((dx, dw, dr, [db, dstart], dh0), shapes, x.dtype))
