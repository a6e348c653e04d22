"""Softmax, its derivative, and the cross-entropies of a row: what takes a row as a whole."""

from __future__ import annotations

from typing import Any

from numba.core import cgutils

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Number, Pair, Pointer, Size, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span, Total, for_each
from fastnn.kernels.cpu.simd.vectors import I32, I64, ZERO
from fastnn.kernels.formulas.losses import clipped

_LOWEST = float("-inf")


def _largest(v: Vectors, count: Any, x: Any) -> Any:
    """The largest of ``count`` numbers; NaN wherever it stands is the result."""
    top = Total(v, v.constant(_LOWEST))
    for_each(v, count, lambda at: top.raise_to(at.load(x, _LOWEST)))
    return top.top()


@micro_kernel
def argmax_row(v: Vectors, count: Size, x: Pointer) -> Size:
    """Place of the first of the largest numbers; 0 where one is NaN."""
    builder = v.builder
    top = v.splat(_largest(v, count, x))
    place = cgutils.alloca_once_value(builder, I64(-1))

    def body(at: Span) -> None:
        equal = v.bits(builder.fcmp_ordered("==", at.load(x, _LOWEST), top))
        here = builder.add(at.offset, v.first_one(equal))
        first = builder.and_(
            builder.icmp_signed("<", builder.load(place), ZERO), builder.icmp_signed("!=", equal, ZERO)
        )
        builder.store(builder.select(first, here, builder.load(place)), place)

    for_each(v, count, body)
    found = builder.load(place)
    return builder.select(builder.icmp_signed("<", found, ZERO), ZERO, found)


def softmax(v: Vectors, count: Any, x: Any, y: Any, scale: Any = None) -> tuple[Any, Any]:
    """y = softmax(x), times ``scale`` where one is given; (max of x, sum of exp(x - max)). y may be x."""
    total = Total(v)
    largest = _largest(v, count, x)
    shift = v.splat(largest)

    def exponential(at: Span) -> None:
        e = v.exp(v.sub(at.load(x), shift))
        total.add(at, e)
        at.store(e, y)

    for_each(v, count, exponential)
    mass = total.value()
    factor = v.splat(v.builder.fdiv(v.format.scalar(1.0) if scale is None else scale, mass))
    for_each(v, count, lambda at: at.store(v.mul(at.load(y), factor), y))
    return largest, mass


@micro_kernel
def softmax_row(v: Vectors, count: Size, x: Pointer, scale: Number, y: Pointer) -> Pair:
    """y = scale * softmax(x); returns (max of x, sum of exp(x - max)). y may be x."""
    return softmax(v, count, x, y, scale)


@micro_kernel
def label_row(v: Vectors, count: Size, x: Pointer, label: Size, scale: Number, dx: Pointer) -> Number:
    """Cross-entropy of softmax(x) with class ``label``: log(sum of exp(x)) - x[label]; dx = scale * its derivative.

    A row of at most VL classes stays in registers from its logits to their derivative.
    """
    builder = v.builder
    chosen = builder.load(builder.gep(x, [label]))
    result = cgutils.alloca_once(builder, v.format.scalar)

    def finish(top: Any, mass: Any) -> None:
        log_mass = builder.extract_element(v.log(v.splat(mass)), I32(0))
        builder.store(builder.fadd(builder.fsub(top, chosen), log_mass), result)

    with builder.if_else(builder.icmp_signed("<=", count, I64(v.lanes))) as (short, long):
        with short:
            at = Span(v, ZERO, v.mask(count))
            logits = at.load(x, _LOWEST)
            top = v.largest(logits)
            e = v.exp(v.sub(logits, v.splat(top)))
            mass = v.sum(at.keep(e, v.constant(0.0)))
            wanted = builder.icmp_signed("==", v.lane_numbers, v.isplat(label))
            there = builder.select(wanted, v.splat(scale), v.constant(0.0))
            at.store(v.sub(v.mul(e, v.splat(builder.fdiv(scale, mass))), there), dx)
            finish(top, mass)
        with long:
            finish(*softmax(v, count, x, dx, scale))
            slope = builder.gep(dx, [label])
            builder.store(builder.fsub(builder.load(slope), scale), slope)
    return builder.load(result)


def softmax_backward(v: Vectors, count: Any, dy: Any, y: Any, dx: Any) -> None:
    """dx = y (dy - sum of dy y); dx may be dy or y."""
    total = Total(v)
    for_each(v, count, lambda at: total.add(at, v.mul(at.load(dy), at.load(y))))
    dot = v.splat(total.value())
    for_each(v, count, lambda at: at.store(v.mul(at.load(y), v.sub(at.load(dy), dot)), dx))


def log_softmax(v: Vectors, count: Any, x: Any, y: Any) -> None:
    """y = x - max x - log(sum of exp(x - max x)); y may be x."""
    total = Total(v)
    shift = v.splat(_largest(v, count, x))
    for_each(v, count, lambda at: total.add(at, v.exp(v.sub(at.load(x), shift))))
    log_mass = v.log(v.splat(total.value()))
    for_each(v, count, lambda at: at.store(v.sub(v.sub(at.load(x), shift), log_mass), y))


def log_softmax_backward(v: Vectors, count: Any, dy: Any, y: Any, dx: Any) -> None:
    """dx = dy - exp(y) * sum of dy; dx may be dy or y."""
    total = Total(v)
    for_each(v, count, lambda at: total.add(at, at.load(dy)))
    mass = v.splat(total.value())
    for_each(v, count, lambda at: at.store(v.sub(at.load(dy), v.mul(v.exp(at.load(y)), mass)), dx))


@micro_kernel
def cross_entropy_row(
    v: Vectors, count: Size, x: Pointer, log_sum: Number, t: Pointer, scale: Number, y: Pointer
) -> Pair:
    """For y = scale * softmax(x): returns (sum t (log_sum - x), sum t) and leaves y = y * sum t - scale * t."""
    loss, mass = Total(v), Total(v)
    shift, factor = v.splat(log_sum), v.splat(scale)

    def sums(at: Span) -> None:
        share = at.load(t)
        loss.add(at, v.mul(share, v.sub(shift, at.load(x))))
        mass.add(at, share)

    for_each(v, count, sums)
    total = mass.value()
    weight = v.splat(total)
    for_each(v, count, lambda at: at.store(v.sub(v.mul(at.load(y), weight), v.mul(at.load(t), factor)), y))
    return loss.value(), total


@micro_kernel
def probability_loss_row(v: Vectors, count: Size, p: Pointer, t: Pointer, scale: Number, dp: Pointer) -> Number:
    """Sum of -t log q, q = p / sum of p kept ``CLIP`` from 0 and 1; dp = derivative * scale. dp may be t.

    With s = dL/dq where q was not clipped: dp = (s - sum of s q) / sum of p. Classes without a share cost nothing,
    whatever their p.
    """
    mass, loss, dot = Total(v), Total(v), Total(v)
    zero, factor = v.constant(0.0), v.splat(scale)
    for_each(v, count, lambda at: mass.add(at, at.load(p)))
    total = v.splat(mass.value())

    def slopes(at: Span) -> None:
        scaled, share = v.div(at.load(p), total), at.load(t)
        q = clipped(v, scaled)
        logarithm = v.where("==", q, q, v.log(q), q)  # NaN stays
        loss.add(at, v.where("!=", share, zero, v.mul(share, logarithm), zero))
        slope = v.where("==", q, scaled, v.div(v.mul(share, factor), q), zero)
        dot.add(at, v.mul(slope, scaled))
        at.store(slope, dp)

    for_each(v, count, slopes)
    mean = v.splat(dot.value())
    for_each(v, count, lambda at: at.store(v.div(v.sub(mean, at.load(dp)), total), dp))
    return v.builder.fneg(loss.value())
