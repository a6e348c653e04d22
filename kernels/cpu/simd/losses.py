"""Losses and penalties of rows of numbers: their sums and derivatives in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from numba.core import cgutils

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Number, Pointer, Size, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span, Total, for_each, switch_on
from fastnn.kernels.cpu.simd.vectors import I32, I64
from fastnn.kernels.formulas.losses import CLIP, LOSS_CODES, LOSSES, Loss, focal
from fastnn.kernels.formulas.penalties import l1_l2

# Losses that take a row as a whole, behind those of one number.
ROW_LOSSES = ("cosine", "categorical_hinge", "multiclass_hinge", "focal", "softmax_focal")
LOSS_ROW_CODES = {**LOSS_CODES, **{name: len(LOSS_CODES) + place for place, name in enumerate(ROW_LOSSES)}}


@micro_kernel
def loss_row(
    v: Vectors,
    code: Size,
    count: Size,
    pred: Pointer,
    target: Pointer,
    numbers: Pointer,
    scale: Number,
    dpred: Pointer,
) -> Number:
    """The loss of a row, by code in ``LOSS_ROW_CODES`` with the ``numbers`` it takes; dpred = derivative * scale.

    Of the losses of one number it is the sum. dpred may be target.
    """
    row = Row(v, count, pred, target, v.splat(scale), dpred)
    result = cgutils.alloca_once(v.builder, v.format.scalar)

    def number(i: int) -> Any:
        return v.splat(v.builder.load(v.builder.gep(numbers, [I64(i)])))

    def case(loss: Loss) -> Callable[[], None]:
        return lambda: v.builder.store(_sum(row, loss, [number(i) for i in range(len(loss.numbers))]), result)

    def whole(f: Callable[..., Any], *taken: int) -> Callable[[], None]:
        return lambda: v.builder.store(f(row, *map(number, taken)), result)

    rows = [
        whole(_cosine),
        whole(_categorical_hinge),
        whole(_multiclass_hinge),
        whole(_focal, 0),
        whole(_softmax_focal, 0),
    ]
    switch_on(v.builder, code, [*map(case, LOSSES.values()), *rows])
    return v.builder.load(result)


class Row(NamedTuple):
    """A row of predictions and its targets, and where their derivative goes, times ``factor``."""

    v: Vectors
    count: Any
    pred: Any
    target: Any
    factor: Any
    dpred: Any

    def for_each(self, body: Callable[[Span, Any, Any], None]) -> None:
        """Run ``body(at, predictions, targets)``."""
        for_each(self.v, self.count, lambda at: body(at, at.load(self.pred), at.load(self.target)))

    def sum(self, f: Callable[[Any, Any], Any]) -> Any:
        """Sum of ``f(predictions, targets)``, in every lane."""
        total = Total(self.v)
        self.for_each(lambda at, p, t: total.add(at, f(p, t)))
        return self.v.splat(total.value())

    def derive(self, f: Callable[[Any, Any], Any]) -> None:
        """Write ``f(predictions, targets)``, times the factor."""
        self.for_each(lambda at, p, t: at.store(self.v.mul(f(p, t), self.factor), self.dpred))


def _first(row: Row, vector: Any) -> Any:
    return row.v.builder.extract_element(vector, I32(0))


def _sum(row: Row, loss: Loss, numbers: Sequence[Any]) -> Any:
    """The sum of a loss of one number."""
    v, total = row.v, Total(row.v)

    def body(at: Span, p: Any, t: Any) -> None:
        value, slope = loss.formula(v, p, t, *numbers)
        total.add(at, value)
        at.store(v.mul(slope, row.factor), row.dpred)

    row.for_each(body)
    return total.value()


def _cosine(row: Row) -> Any:
    """-cos of the angle between p and t; norms are ``CLIP`` at least."""
    v, least = row.v, row.v.constant(CLIP)
    p_norm, t_norm = (
        v.max(v.sqrt(row.sum(square)), least) for square in (lambda p, t: v.mul(p, p), lambda p, t: v.mul(t, t))
    )
    cosine = v.div(v.div(row.sum(v.mul), t_norm), p_norm)
    along = v.div(cosine, v.mul(p_norm, p_norm))
    across = v.div(v.constant(-1.0), v.mul(p_norm, t_norm))
    row.derive(lambda p, t: v.fma(along, p, v.mul(across, t)))
    return v.builder.fneg(_first(row, cosine))


def _categorical_hinge(row: Row) -> Any:
    """max(largest of (1 - t) p - sum of t p + 1, 0); of equal ones the first is the largest."""
    v, one, zero = row.v, row.v.constant(1.0), row.v.constant(0.0)
    right, top = row.sum(v.mul), Total(row.v, row.v.constant(-math.inf))

    def others(p: Any, t: Any) -> Any:
        return v.mul(v.sub(one, t), p)

    row.for_each(lambda at, p, t: top.raise_to(at.keep(others(p, t), v.constant(-math.inf))))
    largest = v.splat(top.top())
    margin = v.add(v.sub(largest, right), one)
    counts = v.where(">", margin, zero, row.factor, zero)
    free = cgutils.alloca_once_value(v.builder, one)  # 0 behind the first of the largest

    def body(at: Span, p: Any, t: Any) -> None:
        equal = at.keep(v.where("==", others(p, t), largest, one, zero), zero)
        place = v.first_one(v.bits(v.builder.fcmp_ordered("==", equal, one)))
        here = v.builder.icmp_signed("==", v.lane_numbers, v.isplat(place))
        chosen = v.mul(v.builder.select(here, one, zero), v.builder.load(free))
        found = v.builder.icmp_signed("<", place, I64(v.lanes))
        v.builder.store(v.builder.select(found, zero, v.builder.load(free)), free)
        at.store(v.mul(counts, v.sub(v.mul(v.sub(one, t), chosen), t)), row.dpred)

    row.for_each(body)
    return _first(row, v.max(margin, zero))


def _multiclass_hinge(row: Row) -> Any:
    """Sum over the classes j that are not the target y of max(0, p_j - p_y + 1) (Weston and Watkins 1999)."""
    v, one, zero = row.v, row.v.constant(1.0), row.v.constant(0.0)
    right = row.sum(v.mul)

    def margin(p: Any, t: Any) -> Any:
        return v.where("==", t, zero, v.max(v.add(v.sub(p, right), one), zero), zero)

    count = row.sum(lambda p, t: v.where(">", margin(p, t), zero, one, zero))
    loss = row.sum(margin)
    row.derive(lambda p, t: v.where("==", t, zero, v.where(">", margin(p, t), zero, one, zero), v.sub(zero, count)))
    return _first(row, loss)


def _focal_slopes(row: Row, gamma: Any, shares: Callable[[Any], Any]) -> tuple[Any, Any]:
    """(sum of -t (1 - q)^gamma log q, sum of s q); s, the derivative by q, goes to dpred, 0 where q was clipped."""
    v, loss, dot = row.v, Total(row.v), Total(row.v)

    def body(at: Span, p: Any, t: Any) -> None:
        q = shares(p)
        value, slope = focal(v, q, t, gamma)
        loss.add(at, value)
        dot.add(at, v.mul(slope, q))
        at.store(slope, row.dpred)

    row.for_each(body)
    return loss.value(), v.splat(dot.value())


def _focal(row: Row, gamma: Any) -> Any:
    """Of probabilities q = p / sum of p: dL/dp = (s - sum of s q) / sum of p."""
    v = row.v
    mass = row.sum(lambda p, t: p)
    loss, dot = _focal_slopes(row, gamma, lambda p: v.div(p, mass))
    factor = v.div(row.factor, mass)
    for_each(v, row.count, lambda at: at.store(v.mul(v.sub(at.load(row.dpred), dot), factor), row.dpred))
    return loss


def _softmax_focal(row: Row, gamma: Any) -> Any:
    """Of logits, q = softmax: dL/dz = q (s - sum of s q)."""
    v, top, mass = row.v, Total(row.v, row.v.constant(-math.inf)), Total(row.v)
    for_each(v, row.count, lambda at: top.raise_to(at.load(row.pred, -math.inf)))
    largest = v.splat(top.top())
    for_each(v, row.count, lambda at: mass.add(at, v.exp(v.sub(at.load(row.pred), largest))))
    inverse = v.div(v.constant(1.0), v.splat(mass.value()))

    def share(z: Any) -> Any:
        return v.mul(v.exp(v.sub(z, largest)), inverse)

    loss, dot = _focal_slopes(row, gamma, share)

    def body(at: Span) -> None:
        slope = v.sub(at.load(row.dpred), dot)
        at.store(v.mul(v.mul(share(at.load(row.pred)), slope), row.factor), row.dpred)

    for_each(v, row.count, body)
    return loss


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
def total_row(v: Vectors, count: Size, x: Pointer, share: Number, dx: Pointer) -> Number:
    """Sum of share * x; dx = share."""
    total, every = Total(v), v.splat(share)

    def body(at: Span) -> None:
        total.add(at, v.mul(every, at.load(x)))
        at.store(every, dx)

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
