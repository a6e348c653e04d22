"""Optimizer steps on runs of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Nothing, Number, Pointer, Size, Sizes, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span, for_each, switch_on
from fastnn.kernels.cpu.simd.vectors import I64
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
def update_row(
    v: Vectors, code: Size, count: Size, w: Pointer, dw: Pointer, slots: Sizes, start: Size, hyper: Pointer
) -> Nothing:
    """One optimizer step on ``count`` weights in place, by code in ``STEP_CODES``.

    ``slots`` are the addresses of the step's states in the order of ``STEPS``; those of these weights begin at number
    ``start`` of each.
    """

    def case(step: Step) -> Callable[[], None]:
        def run() -> None:
            h = hyper_parameters(v, step, hyper)
            held = [w, *state_pointers(v, step, slots, start)]

            def body(at: Span) -> None:
                weight, *state = [at.load(pointer) for pointer in held]
                for value, pointer in zip(step.update(v, h, weight, at.load(dw), *state), held, strict=True):
                    at.store(value, pointer)

            for_each(v, count, body)

        return run

    switch_on(v.builder, code, [case(step) for step in STEPS.values()])


@micro_kernel
def average_row(v: Vectors, count: Size, average: Pointer, kept: Number, w: Pointer) -> Nothing:
    """average = kept * average + (1 - kept) * w."""
    rho = v.splat(kept)
    for_each(v, count, lambda at: at.store(running_mean(v, at.load(average), rho, at.load(w)), average))
