"""A step of a recurrent cell on one sample: units side by side, the sums of a gate behind those of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Nothing, Pointer, Size, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span, for_each
from fastnn.kernels.cpu.simd.vectors import I64
from fastnn.kernels.formulas import recurrent


def _gates(v: Vectors, first: Any, units: Any, count: int) -> list[Any]:
    """Pointers to so many runs of numbers, one behind the other."""
    return [v.builder.gep(first, [v.builder.mul(units, I64(gate))]) for gate in range(count)]


def _store(at: Span, values: Sequence[Any], pointers: Sequence[Any]) -> None:
    for value, pointer in zip(values, pointers, strict=True):
        at.store(value, pointer)


@micro_kernel
def lstm_row(
    v: Vectors, units: Size, sums: Pointer, gates: Pointer, before: Pointer, c: Pointer, h: Pointer
) -> Nothing:
    """The gates (4, units) of their sums, the cell's state c and the output h; ``before`` is the old c."""
    own, places = _gates(v, sums, units, 4), _gates(v, gates, units, 4)

    def body(at: Span) -> None:
        taken = [at.load(pointer) for pointer in (*own, before)]
        _store(at, recurrent.lstm(v, *taken), [*places, c, h])

    for_each(v, units, body)


@micro_kernel
def lstm_backward_row(
    v: Vectors, units: Size, dh: Pointer, dc: Pointer, gates: Pointer, before: Pointer, c: Pointer, dsums: Pointer
) -> Nothing:
    """The gradients by the sums (4, units), and dc by ``before`` in place of that by c."""
    places, targets = _gates(v, gates, units, 4), _gates(v, dsums, units, 4)

    def body(at: Span) -> None:
        taken = [at.load(pointer) for pointer in (dh, dc, *places, before, c)]
        _store(at, recurrent.lstm_backward(v, *taken), [*targets, dc])

    for_each(v, units, body)


@micro_kernel
def gru_row(
    v: Vectors, units: Size, gates: Pointer, sums: Pointer, before: Pointer, candidates: Pointer, h: Pointer
) -> Nothing:
    """The gates (3, units) in place of the inputs' sums, ``sums`` being the state's, of which the last are kept."""
    places, own = _gates(v, gates, units, 3), _gates(v, sums, units, 3)

    def body(at: Span) -> None:
        of_state = [at.load(pointer) for pointer in own]
        at.store(of_state[2], candidates)
        taken = [*(at.load(pointer) for pointer in places), *of_state, at.load(before)]
        _store(at, recurrent.gru(v, *taken), [*places, h])

    for_each(v, units, body)


@micro_kernel
def gru_backward_row(
    v: Vectors,
    units: Size,
    dh: Pointer,
    gates: Pointer,
    candidates: Pointer,
    before: Pointer,
    dsums: Pointer,
    dstate: Pointer,
) -> Nothing:
    """The gradients by the inputs' sums (3, units) and the state's; dh becomes that by ``before`` but for these."""
    places, targets, own = _gates(v, gates, units, 3), _gates(v, dsums, units, 3), _gates(v, dstate, units, 3)

    def body(at: Span) -> None:
        taken = [at.load(pointer) for pointer in (dh, *places, candidates, before)]
        dz, dr, dc, dcandidate, dbefore = recurrent.gru_backward(v, *taken)
        _store(at, [dz, dr, dc, dz, dr, dcandidate, dbefore], [*targets, *own, dh])

    for_each(v, units, body)
