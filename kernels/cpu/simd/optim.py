"""Optimizer steps on runs of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import cgutils

from fastnn.kernels.cpu.compiler.machine import NV
from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Nothing, Number, Pointer, Size, Sizes, call, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span, for_each, switch_on
from fastnn.kernels.cpu.simd.vectors import I64, ZERO
from fastnn.kernels.formulas.steps import STEPS, Step, running_mean


def hyper_parameters(v: Vectors, step: Step, hyper: Any) -> Sequence[Any]:
    """The hyper-parameters of a step, each in every lane."""
    return [v.splat(v.builder.load(v.builder.gep(hyper, [I64(i)]))) for i in range(len(step.hyper))]


def state_pointers(v: Vectors, step: Step, slots: Any, start: Any) -> Sequence[Any]:
    """Where a step's states are from place ``start`` on, by the table of their addresses."""
    builder, pointer = v.builder, v.format.scalar.as_pointer()
    addresses = [builder.load(builder.gep(slots, [I64(i)])) for i in range(len(step.states))]
    return [builder.gep(builder.inttoptr(address, pointer), [start]) for address in addresses]


@micro_kernel
def update_tile(
    v: Vectors,
    code: Size,
    rows: Size,
    columns: Size,
    w: Pointer,
    row_stride: Size,
    dw: Pointer,
    row_stride_dw: Size,
    slots: Sizes,
    start: Size,
    hyper: Pointer,
) -> Nothing:
    """One optimizer step on ``rows`` rows of ``columns`` weights in place, by code in ``STEP_CODES``.

    ``slots`` are the addresses of the step's states in the order of ``STEPS``; those of these weights begin at number
    ``start`` of each, and have their row stride.
    """
    builder = v.builder

    def whole_vectors(body: Callable[[Span], None]) -> None:
        for j in range(NV):
            body(Span(v, I64(j * v.lanes)))

    def case(step: Step) -> Callable[[], None]:
        def run() -> None:
            h = hyper_parameters(v, step, hyper)
            held = [w, *state_pointers(v, step, slots, start)]

            def by_rows(across: Callable[[Callable[[Span], None]], None]) -> None:
                with cgutils.for_range(builder, rows, intp=I64) as down:
                    at_row = builder.mul(down.index, row_stride)
                    kept = [builder.gep(pointer, [at_row]) for pointer in held]
                    gradient = builder.gep(dw, [builder.mul(down.index, row_stride_dw)])

                    def body(at: Span) -> None:
                        weight, *state = [at.load(pointer) for pointer in kept]
                        stepped = step.update(v, h, weight, at.load(gradient), *state)
                        for value, pointer in zip(stepped, kept, strict=True):
                            at.store(value, pointer)

                    across(body)

            with builder.if_else(builder.icmp_signed("==", columns, I64(NV * v.lanes))) as (whole, other):
                with whole:
                    by_rows(whole_vectors)
                with other:
                    by_rows(lambda body: for_each(v, columns, body))

        return run

    switch_on(builder, code, [case(step) for step in STEPS.values()])


@micro_kernel
def update_row(
    v: Vectors, code: Size, count: Size, w: Pointer, dw: Pointer, slots: Sizes, start: Size, hyper: Pointer
) -> Nothing:
    """``update_tile`` of one row of ``count`` weights."""
    call(v, "update_tile", code, I64(1), count, w, ZERO, dw, ZERO, slots, start, hyper)


@micro_kernel
def average_row(v: Vectors, count: Size, average: Pointer, kept: Number, w: Pointer) -> Nothing:
    """average = kept * average + (1 - kept) * w."""
    rho = v.splat(kept)
    for_each(v, count, lambda at: at.store(running_mean(v, at.load(average), rho, at.load(w)), average))
