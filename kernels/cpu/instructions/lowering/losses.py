"""Instructions of losses and penalties, and of the sums that these are."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cpu import losses
from fastnn.kernels.cpu.instructions.lowering.instructions import Lowering, UnfitError, numbers_by
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.graph import Call, Figure, View
from fastnn.kernels.table import TABLE


def lower_loss(to: Lowering, call: Call) -> None:
    """A loss with its derivative, and the sum that it is."""
    op = TABLE[call.op]
    pred, target = (call.given[name] for name in list(op.operands)[:2])
    weights = call.given["sample_weight"]
    options = [call.given[name] for name in op.options]
    loss, dpred = call.results
    to.plain(pred, dpred)
    for view in (target, weights):
        if view is not None and not view.contiguous:
            raise UnfitError
    labelled = target.ndim < pred.ndim
    if target.dtype != (np.int64 if labelled else to.dtype) or any(isinstance(option, Figure) for option in options):
        raise UnfitError
    code, unit, wanted, numbers, divisor = losses.described(call.op, pred, target, weights, options)
    units = -(-pred.size // unit)
    sums = to.temporary((units,), np.float64)
    goal = {"c": target} if labelled else {"b": target}
    to.add(
        Kind.LOSS, losses.nanoseconds(pred.size), reads={"a": pred, **goal, "d": weights},
        writes={"e": dpred, "f": sums}, code=code, n=pred.size, m=unit, wanted=wanted, divisor=divisor,
        numbers=to.constants(numbers),
    )  # fmt: skip
    _total(to, sums, divisor, loss)


def _total(to: Lowering, sums: View, divisor: float, figure: Figure) -> None:
    """figure = the sum of sums / divisor."""
    fields: dict[str, Any] = {"n": sums.size, "divisor": divisor, "figure": figure.place}
    to.add(Kind.TOTAL, float(sums.size), reads={"a": sums}, makes=[figure.place], **fields)


def lower_penalty(to: Lowering, call: Call) -> None:
    """A penalty of weights with its derivative."""
    w, (value, dw) = call.given["w"], call.results
    to.plain(w, dw)
    options = {name: call.given[name] for name in TABLE[call.op].options}
    numbers = numbers_by(to, call.op, options, len(options), lambda given: [*map(given, options.values())])
    sums, work = to.temporary((losses.units_of(w.size),), np.float64), losses.nanoseconds(w.size)
    to.add(Kind.PENALTY, work, reads={"a": w}, writes={"e": dw, "f": sums}, n=w.size, numbers=numbers)
    _total(to, sums, 1.0, value)
