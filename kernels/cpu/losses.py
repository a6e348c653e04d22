"""Losses with their derivatives in one pass.

Sums run over units of fixed size (a row where rows have weights, ``_UNIT`` elements else), each unit's sum in the
dtype, the sum of units in float64 and in order: the result does not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastnn.kernels.cpu._arrays import contiguous, direct, in_order
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.records import CROSS_ENTROPY, FIGURES, SOFTMAX_CROSS_ENTROPY
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.losses import loss_row, penalty_row, total_row
from fastnn.kernels.cpu.simd.softmax import cross_entropy_row, label_row, probability_loss_row, softmax_row
from fastnn.kernels.cpu.teams.barrier import wait
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import TABLE
from fastnn.kernels.table import losses as table
from fastnn.kernels.table.losses import IN_UNIT, LOSSES, PROBABILITIES
from fastnn.kernels.table.row import MOST_OFF, implements

_UNIT = 1024
_NS_PER_ELEMENT = 0.4

# The sum of a row that the checks let pass may be a little further off by another order of its terms.
_MOST_OFF = 2 * MOST_OFF


def _loss_signature(dtype: Any) -> Any:
    size, run = types.int64, flat(dtype)
    operands = run, run, flat(types.int64), run, types.float64
    return types.float64(size, size, size, run, *operands, run, flat(types.float64))


class Rule(NamedTuple):
    """What a loss is: its code, elements of a unit, what its targets must be, its numbers, 1 in their dtype."""

    code: Any
    unit: Any
    wanted: Any
    numbers: Any
    one: Any


class Scored(NamedTuple):
    """``size`` predictions and what they are compared with: targets or, where ``labelled``, labels, one a unit.

    ``weights`` are one a unit where the loss is ``weighted``; derivatives are multiplied with ``scale``.
    """

    size: Any
    pred: Any
    target: Any
    labels: Any
    labelled: Any
    weights: Any
    weighted: Any
    scale: Any


@compiled_in
def wrong_units(first, last, rule, scored):
    """Whether a label of these units is none of the classes, or a target is not what is wanted; NaN is nothing of it.

    Labels and probabilities are of units that are rows.
    """
    wrong, low, high = 0, first * rule.unit, min(last * rule.unit, scored.size)
    if scored.labelled:
        for u in range(first, last):
            wrong += scored.labels[u] < 0 or scored.labels[u] >= rule.unit
    elif rule.wanted == IN_UNIT:
        for i in range(low, high):
            wrong += not (scored.target[i] >= 0 and scored.target[i] <= 1)
    elif rule.wanted == PROBABILITIES:
        for row in range(low, high, rule.unit):
            total = 0.0
            for i in range(row, row + rule.unit):
                wrong += not scored.target[i] >= 0
                total += scored.target[i]
            wrong += not abs(total - 1) <= _MOST_OFF
    return wrong > 0


@compiled_in
def units_share(first, last, rule, scored, dpred, sums):
    """Units ``first`` to ``last`` of a loss: their sums, and the derivatives of their elements."""
    code, unit, one, pred = rule.code, rule.unit, rule.one, scored.pred
    for u in range(first, last):
        low = u * unit
        count = min(unit, scored.size - low)
        weight = scored.weights[u] if scored.weighted else one
        share = weight * scored.scale
        p, g, goal = address(pred, low), address(dpred, low), address(scored.target, low)
        if scored.labelled:
            if code == SOFTMAX_CROSS_ENTROPY:
                sums[u] = weight * label_row(count, p, scored.labels[u], share, g)
                continue
            for i in range(count):  # a row with a 1 in it, where the derivative will be
                g[i] = 0 * one
            g[scored.labels[u]] = one
            goal = g
        if code == SOFTMAX_CROSS_ENTROPY:
            top, mass = softmax_row(count, p, share, g)
            log_sum = top + one * math.log(mass)
            sums[u] = weight * cross_entropy_row(count, p, log_sum, goal, share, g)[0]
        elif code == CROSS_ENTROPY:
            sums[u] = weight * probability_loss_row(count, p, goal, share, g)
        else:
            sums[u] = weight * loss_row(code, count, p, goal, rule.numbers, share, g)


@compiled_in
def total_of(sums, units):
    """The sum of the units' sums, in order."""
    total = 0.0
    for u in range(units):
        total += sums[u]
    return total


@compiled_in
def _rule(code, unit, wanted, numbers):
    return Rule(code, unit, wanted, address(numbers, 0), numbers.dtype.type(1))


@compiled_in
def _scored(pred, target, labels, weights, scale):
    operands = pred.size, address(pred, 0), address(target, 0), address(labels, 0), labels.size > 0
    return Scored(*operands, address(weights, 0), weights.size > 0, pred.dtype.type(scale))


@kernel(_loss_signature)
def _loss(MR: int, NR: int) -> Any:
    def loss(code, unit, wanted, numbers, pred, target, labels, weights, scale, dpred, sums, words, t, tasks):
        rule, scored = _rule(code, unit, wanted, numbers), _scored(pred, target, labels, weights, scale)
        first, last = t * sums.size // tasks, (t + 1) * sums.size // tasks
        if wrong_units(first, last, rule, scored):
            sums[first] = np.nan  # and so is the total
        else:
            units_share(first, last, rule, scored, address(dpred, 0), address(sums, 0))
        wait(tasks, words)
        return total_of(address(sums, 0), sums.size)

    return loss


class Described(NamedTuple):
    """A loss of predictions: its code, elements of a unit, what its targets must be, its numbers, what divides it."""

    code: int
    unit: int
    wanted: int
    numbers: list[float]
    divisor: float


def described(op: str, pred: Any, target: Any, sample_weight: Any, options: Sequence[Any]) -> Described:
    """What the op computes of operands like these, which need not be arrays but have shapes."""
    name, of_rows, wanted, numbers, divisor = table.described(op, pred, target, options)
    rows = pred.shape[0] if pred.shape else 1
    unit = pred.shape[1] if of_rows else _UNIT if sample_weight is None else pred.size // max(1, rows)
    return Described(FIGURES[name], unit, wanted, [*numbers, 0.0], divisor)


@compiled_in
def units_of(size):
    """Units of a penalty of so many weights."""
    return -(-size // _UNIT)


def nanoseconds(size: int) -> float:
    """One core's work for a loss of so many predictions."""
    return size * _NS_PER_ELEMENT


def loss_op(op: str) -> Planned:
    """A loss. Where labels or targets are not what it wants it is NaN: nobody needs to look at them beforehand."""

    def plan(pred: Any, target: Any, sample_weight: Any = None, *options: Any) -> Callable[..., tuple[float, Any]]:
        shape, dtype = pred.shape, pred.dtype
        if pred.size == 0:
            return lambda *_: (0.0, np.empty(shape, dtype))
        code, unit, wanted, numbers, divisor = described(op, pred, target, sample_weight, options)
        compute = _loss.planned(dtype, nanoseconds(pred.size), code, unit, wanted, np.array(numbers, dtype))
        none, scale, units = np.empty(0, dtype), 1.0 / divisor, -(-pred.size // unit)
        labelled, no_labels = target.ndim < pred.ndim, np.empty(0, np.int64)
        kind = np.dtype(np.int64) if labelled else dtype
        given = [pred, target] if sample_weight is None else [pred, target, sample_weight]
        plain = direct(None, *given) and target.dtype == kind

        def run(pred: Any, target: Any, sample_weight: Any = None, *_: Any) -> tuple[float, Any]:
            dpred, weights = np.empty(shape, dtype), none if sample_weight is None else sample_weight
            if not plain:
                pred, target, weights = in_order(pred), in_order(target, kind), in_order(weights)
            goal, labels = (none, target) if labelled else (target.ravel(), no_labels)
            total = compute(pred.ravel(), goal, labels, weights, scale, dpred.ravel(), np.empty(units))
            return total / divisor, dpred

        return run

    return Planned(implements(op, plan))


@compiled_in
def penalty_share(t, tasks, size, l1, l2, w, dw, sums):
    """What task t has of a penalty of ``size`` weights: units, whose sums it leaves in ``sums``, and their derivative.

    There are ``units_of(size)`` of them.
    """
    units = units_of(size)
    for u in range(t * units // tasks, (t + 1) * units // tasks):
        low = u * _UNIT
        sums[u] = penalty_row(min(_UNIT, size - low), address(w, low), l1, l2, address(dw, low))


def _penalty_signature(dtype: Any) -> Any:
    return types.float64(dtype, dtype, flat(dtype), flat(dtype), flat(types.float64))


@kernel(_penalty_signature)
def _penalty(MR: int, NR: int) -> Any:
    def penalty(l1, l2, w, dw, sums, words, t, tasks):
        penalty_share(t, tasks, w.size, l1, l2, address(w, 0), address(dw, 0), address(sums, 0))
        wait(tasks, words)
        return total_of(address(sums, 0), sums.size)

    return penalty


globals().update({op: loss_op(op) for op in LOSSES if TABLE[op].module == "losses"})


@Planned
def l1_l2_penalty(w: Any, l1: float = 0.0, l2: float = 0.0) -> Callable[..., tuple[float, Any]]:
    """Sum over elements."""
    shape, dtype, units = w.shape, w.dtype, units_of(w.size)
    compute = _penalty.planned(dtype, nanoseconds(w.size), dtype.type(l1), dtype.type(l2))

    def run(w: Any, *_: Any) -> tuple[float, Any]:
        dw, sums = np.empty(shape, dtype), np.empty(units)
        return compute(contiguous(w), dw.reshape(-1), sums), dw

    return run


def _total_signature(dtype: Any) -> Any:
    return types.float64(dtype, flat(dtype), flat(dtype), flat(types.float64))


@kernel(_total_signature)
def _total(MR: int, NR: int) -> Any:
    def summed(share, x, dx, sums, words, t, tasks):
        for u in range(t * sums.size // tasks, (t + 1) * sums.size // tasks):
            low = u * _UNIT
            sums[u] = total_row(min(_UNIT, x.size - low), address(x, low), share, address(dx, low))
        wait(tasks, words)
        return total_of(address(sums, 0), sums.size)

    return summed


@Planned
def total(x: Any, share: float = 1.0) -> Callable[..., tuple[float, Any]]:
    """Sum over elements."""
    shape, dtype, units = x.shape, x.dtype, units_of(x.size)
    compute = _total.planned(dtype, nanoseconds(x.size), dtype.type(share))

    def run(x: Any, *_: Any) -> tuple[float, Any]:
        dx, sums = np.empty(shape, dtype), np.empty(units)
        return compute(contiguous(x), dx.reshape(-1), sums), dx

    return run
