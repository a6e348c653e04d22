"""Optimizer steps on runs of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Nothing, Pointer, Size, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span, for_each, switch_on
from fastnn.kernels.cpu.simd.vectors import I64
from fastnn.kernels.formulas.steps import STEPS, Step


def hyper_parameters(v: Vectors, step: Step, hyper: Any) -> Sequence[Any]:
    """The hyper-parameters of a step, each in every lane."""
    return [v.splat(v.builder.load(v.builder.gep(hyper, [I64(i)]))) for i in range(len(step.hyper))]


@micro_kernel
def update_row(
    v: Vectors, code: Size, count: Size, w: Pointer, dw: Pointer, s0: Pointer, s1: Pointer, s2: Pointer, hyper: Pointer
) -> Nothing:
    """One optimizer step on ``count`` weights in place, by code in ``STEP_CODES``.

    Behind w and dw come the states of ``STEPS`` in order (those that a step lacks are not touched) and its
    hyper-parameters.
    """
    states = s0, s1, s2

    def case(step: Step) -> Callable[[], None]:
        def run() -> None:
            h = hyper_parameters(v, step, hyper)

            def body(at: Span) -> None:
                held = [w, *states[: len(step.states)]]
                weight, *state = [at.load(pointer) for pointer in held]
                for value, pointer in zip(step.update(v, h, weight, at.load(dw), *state), held, strict=True):
                    at.store(value, pointer)

            for_each(v, count, body)

        return run

    switch_on(v.builder, code, [case(step) for step in STEPS.values()])
