"""Losses and penalties of rows of numbers: their sums and derivatives in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Number, Pointer, Size, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span, Total, for_each, switch_on
from fastnn.kernels.formulas.losses import LOSSES
from fastnn.kernels.formulas.penalties import l1_l2


@micro_kernel
def loss_row(
    v: Vectors, code: Size, count: Size, pred: Pointer, target: Pointer, scale: Number, dpred: Pointer
) -> Number:
    """Sum of the losses of ``count`` elements, by code in ``LOSS_CODES``; dpred = derivative * scale."""
    total, factor = Total(v), v.splat(scale)

    def case(f: Callable[..., Any]) -> Callable[[], None]:
        def body(at: Span) -> None:
            loss, slope = f(v, at.load(pred), at.load(target))
            total.add(at, loss)
            at.store(v.mul(slope, factor), dpred)

        return lambda: for_each(v, count, body)

    switch_on(v.builder, code, [case(f) for f in LOSSES.values()])
    return total.value()


def _penalty(v: Vectors, count: Any, x: Any, l1: Any, l2: Any, dx: Any, add: bool) -> Any:
    """Sum of l1 |x| + l2 x^2; l1 sign(x) + 2 l2 x is written to dx, or added to it."""
    total, first, second = Total(v), v.splat(l1), v.splat(l2)

    def body(at: Span) -> None:
        penalty, slope = l1_l2(v, first, second, at.load(x))
        total.add(at, penalty)
        at.store(v.add(at.load(dx), slope) if add else slope, dx)

    for_each(v, count, body)
    return total.value()


@micro_kernel
def penalty_row(v: Vectors, count: Size, x: Pointer, l1: Number, l2: Number, dx: Pointer) -> Number:
    """Sum of l1 |x| + l2 x^2; dx = l1 sign(x) + 2 l2 x."""
    return _penalty(v, count, x, l1, l2, dx, add=False)


@micro_kernel
def add_penalty_row(v: Vectors, count: Size, x: Pointer, l1: Number, l2: Number, dx: Pointer) -> Number:
    """Sum of l1 |x| + l2 x^2; dx += l1 sign(x) + 2 l2 x."""
    return _penalty(v, count, x, l1, l2, dx, add=True)
