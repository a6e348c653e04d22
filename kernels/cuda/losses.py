"""Losses and penalties on the device, with their derivatives: sums in two stages that repeat bit for bit.

A loss comes back as an array () of float64 on the device: nobody waits for it. Where labels or targets are not what it
wants it is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product as product_of
from typing import Any, NamedTuple

import cupy
import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import in_order
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.formulas.losses import LOSSES, Loss
from fastnn.kernels.formulas.penalties import l1_l2
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES, TABLE
from fastnn.kernels.table.losses import IN_UNIT, PROBABILITIES, described
from fastnn.kernels.table.losses import LOSSES as OPS
from fastnn.kernels.table.row import MOST_OFF, implements

# Numbers that losses.cu sums up at a time.
_UNIT = 4096
# Numbers that a loss has at most, beside predictions and targets.
_NUMBERS = 4

# What launches write comes first, as they write it.
_ADDRESSES = (
    Field("pred", "const real*"),
    Field("target", "const real*"),
    Field("weights", "const real*"),
    Field("dpred", "real*"),
    Field("sums", "double*"),
    Field("total", "double*"),
    Field("counters", "int*"),
)
_SCORED = (Field("n", "int64"), Field("scale", "real"), Field("divisor", "double"))
_CHOSEN = (Field("numbers", "real", (_NUMBERS,)),)
SCORED = Structure(
    "Scored", *_ADDRESSES, *_SCORED, Field("width", "int64"), Field("unit_targets", "int"), numbers=_CHOSEN
)
SCORED_ROWS = Structure(
    "ScoredRows",
    *_ADDRESSES,
    Field("labels", "const int64*"),
    *_SCORED,
    Field("c", "int64"),
    Field("most_off", "double"),
    numbers=_CHOSEN,
)

# The losses of rows: their functions in row_losses.cu, which sums up those of single numbers, and whether of logits.
_ROW_FUNCTIONS = {
    "softmax_cross_entropy": ("softmax_cross_entropy", True),
    "cross_entropy": ("cross_entropy", False),
    "focal": ("focal", False),
    "softmax_focal": ("focal", True),
    "cosine": ("cosine", False),
    "categorical_hinge": ("categorical_hinge", False),
    "multiclass_hinge": ("multiclass_hinge", False),
    "divergence": ("summed", False),
    "likelihood": ("summed", False),
}


# A penalty as a loss whose target is of no account.
_PENALTY = Loss(lambda v, p, t, l1, l2: l1_l2(v, l1, l2, p), ("l1", "l2"))

# So is a sum.
_TOTAL = Loss(lambda v, p, t, share: (v.mul(share, p), share), ("share",))


def _formula(loss: Loss, dtype: str) -> str:
    """A loss of one number and its target as C++ that defines LOSS."""
    given = ", ".join(["p", "t", *(f"numbers[{place}]" for place in range(len(loss.numbers)))])
    return (
        f"{function('formula', ('p', 't', *loss.numbers), loss.formula, dtype)}"
        f"#define LOSS(p, t, numbers, loss, slope) formula({given}, loss, slope)\n"
    )


def _units(loss: Loss, dtype: str) -> str:
    """What comes before the kernel of a loss of single numbers."""
    return f"{_formula(loss, dtype)}#define UNIT {_UNIT}\n{launch.header('total.cuh')}"


def _rows(name: str, group: int, dtype: str) -> str:
    """What comes before the kernel of a loss of rows, so many threads each."""
    row_function, of_logits = _ROW_FUNCTIONS[name]
    formula = _formula(LOSSES[name], dtype) if name in LOSSES else ""
    defined = f"#define GROUP {group}\n#define ROW_LOSS {row_function}\n#define SOFTMAX {int(of_logits)}\n"
    return f"{formula}{defined}{launch.header('total.cuh')}"


def modules() -> Iterator[launch.Module]:
    """Every loss of numbers, every one of rows for the fewest threads, a warp and a block."""
    for dtype in DTYPES:
        for name, loss in {**LOSSES, "l1_l2": _PENALTY, "total": _TOTAL}.items():
            text = launch.text("losses.cu", dtype, (SCORED,), _units(loss, dtype))
            yield launch.Module(f"{name} {dtype}", text)
        for name, group in product_of(_ROW_FUNCTIONS, launch.GROUPS):
            text = launch.text("row_losses.cu", dtype, (SCORED_ROWS,), _rows(name, group, dtype))
            yield launch.Module(f"rows {name} {group} {dtype}", text)


class _Stage(NamedTuple):
    """The launch of a loss, how many sums its first stage leaves, and whether it may be given labels."""

    launch: launch.Launch
    sums: int
    labels: bool


def _of_elements(pred: Any, loss: Loss, numbers: Sequence[float], divisor: float, in_unit: bool) -> _Stage:
    """That of single numbers, in units."""
    units, dtype, record = -(-pred.size // _UNIT), pred.dtype.name, SCORED.record(pred.dtype)
    given = record[0]
    given["n"], given["scale"], given["divisor"], given["unit_targets"] = pred.size, 1.0 / divisor, divisor, in_unit
    given["numbers"][: len(numbers)] = numbers
    given["width"] = pred.size // (pred.shape[0] if pred.ndim else 1)
    kernel = launch.kernel("losses.cu", "units", dtype, (SCORED,), _units(loss, dtype))
    return _Stage(
        launch.Launch(kernel, launch.blocks(units * launch.THREADS), record, "pred", len(_ADDRESSES)), units, False
    )


def _of_rows(pred: Any, name: str, numbers: Sequence[float], divisor: float, most_off: float) -> _Stage:
    """That of rows."""
    (n, c), dtype, record = pred.shape, pred.dtype.name, SCORED_ROWS.record(pred.dtype)
    given, group = record[0], launch.group(c)
    given["n"], given["c"], given["most_off"] = n, c, most_off
    given["scale"], given["divisor"] = 1.0 / divisor, divisor
    given["numbers"][: len(numbers)] = numbers
    kernel = launch.kernel("row_losses.cu", "rows", dtype, (SCORED_ROWS,), _rows(name, group, dtype))
    return _Stage(launch.Launch(kernel, launch.blocks(n * group), record, "pred", len(_ADDRESSES) + 1), n, True)


def _scoring(stage: _Stage, pred: Any, labelled: bool = False) -> Callable[..., tuple[Any, Any]]:
    """What launches it: ``score(pred, target, weights)`` of arrays like those that it is made for."""
    shape, dtype, count = pred.shape, pred.dtype, stage.sums
    none = (0,) * stage.labels

    def score(pred: Any, target: Any, weights: Any) -> tuple[Any, Any]:
        target = target.astype(np.int64, copy=False) if labelled else target
        kept = [None if each is None else in_order(each) for each in (pred, target, weights)]
        at_pred, at_target, at_weights = [0 if each is None else each.data.ptr for each in kept]
        dpred, sums, total = cupy.empty(shape, dtype), cupy.empty(count, np.float64), cupy.empty((), np.float64)
        goal, labels = (0, (at_target,)) if labelled else (at_target, none)
        own = dpred.data.ptr, sums.data.ptr, total.data.ptr, launch.counters()
        stage.launch(at_pred, goal, at_weights, *own, *labels)
        return total, dpred

    return score


def _of_nothing(pred: Any) -> Callable[..., tuple[Any, Any]]:
    shape, dtype = pred.shape, pred.dtype
    return lambda *_: (cupy.zeros((), np.float64), cupy.empty(shape, dtype))


def loss_op(op: str) -> Planned:
    """A loss."""

    def plan(pred: Any, target: Any, sample_weight: Any = None, *options: Any) -> Callable[..., tuple[Any, Any]]:
        if pred.size == 0:
            return _of_nothing(pred)
        name, of_rows, wanted, numbers, divisor = described(op, pred, target, options)
        labelled = target.ndim < pred.ndim and of_rows
        if of_rows:
            most_off = 2 * MOST_OFF if wanted == PROBABILITIES and not labelled else 0.0
            stage = _of_rows(pred, name, numbers, divisor, most_off)
        else:
            stage = _of_elements(pred, LOSSES[name], numbers, divisor, wanted == IN_UNIT)
        score = _scoring(stage, pred, labelled)
        return lambda pred, target, sample_weight=None, *options: score(pred, target, sample_weight)

    return Planned(implements(op, plan))


globals().update({op: loss_op(op) for op in OPS if TABLE[op].module == "losses"})


def _of_one(name: str, loss: Loss) -> Planned:
    """What is summed of single numbers that no target belongs to; the op's options are the formula's numbers."""

    def plan(x: Any, *numbers: float) -> Callable[..., tuple[Any, Any]]:
        if x.size == 0:
            return _of_nothing(x)
        score = _scoring(_of_elements(x, loss, numbers, 1.0, False), x)
        return lambda x, *_: score(x, None, None)

    return Planned(implements(name, plan))


l1_l2_penalty, total = _of_one("l1_l2_penalty", _PENALTY), _of_one("total", _TOTAL)
