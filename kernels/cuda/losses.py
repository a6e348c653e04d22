"""Losses and penalties on the device, with their derivatives: sums in two stages that repeat bit for bit.

A loss comes back as an array () of float64 on the device: nobody waits for it. Where labels or targets are not what it
wants it is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product as product_of
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.formulas.losses import LOSSES, Loss
from fastnn.kernels.formulas.penalties import l1_l2
from fastnn.kernels.table import DTYPES, TABLE
from fastnn.kernels.table.losses import IN_UNIT, PROBABILITIES, described
from fastnn.kernels.table.losses import LOSSES as OPS
from fastnn.kernels.table.row import MOST_OFF, implements

# Numbers that losses.cu sums up at a time.
_UNIT = 4096
# Numbers that a loss has at most, beside predictions and targets.
_NUMBERS = 4

_SCORED = (
    Field("n", "int64"),
    Field("pred", "const real*"),
    Field("target", "const real*"),
    Field("weights", "const real*"),
    Field("dpred", "real*"),
    Field("sums", "double*"),
    Field("scale", "real"),
    Field("numbers", "real", (_NUMBERS,)),
)
SCORED = Structure("Scored", *_SCORED, Field("width", "int64"), Field("unit_targets", "int"))
SCORED_ROWS = Structure(
    "ScoredRows", *_SCORED, Field("c", "int64"), Field("labels", "const int64*"), Field("most_off", "double")
)
TOTAL = Structure(
    "Total", Field("n", "int64"), Field("sums", "const double*"), Field("divisor", "double"), Field("total", "double*")
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


def _formula(loss: Loss, dtype: str) -> str:
    """A loss of one number and its target as C++ that defines LOSS."""
    given = ", ".join(["p", "t", *(f"numbers[{place}]" for place in range(len(loss.numbers)))])
    return (
        f"{function('formula', ('p', 't', *loss.numbers), loss.formula, dtype)}"
        f"#define LOSS(p, t, numbers, loss, slope) formula({given}, loss, slope)\n"
    )


def _rows(name: str, group: int, dtype: str) -> str:
    """What comes before the kernel of a loss of rows, so many threads each."""
    row_function, of_logits = _ROW_FUNCTIONS[name]
    formula = _formula(LOSSES[name], dtype) if name in LOSSES else ""
    return f"{formula}#define GROUP {group}\n#define ROW_LOSS {row_function}\n#define SOFTMAX {int(of_logits)}\n"


def modules() -> Iterator[launch.Module]:
    """Every loss of numbers, every one of rows for the fewest threads, a warp and a block, and the second stage."""
    for dtype in DTYPES:
        for name, loss in {**LOSSES, "l1_l2": _PENALTY}.items():
            text = launch.text("losses.cu", dtype, (SCORED,), _formula(loss, dtype))
            yield launch.Module(f"{name} {dtype}", text)
        for name, group in product_of(_ROW_FUNCTIONS, launch.GROUPS):
            text = launch.text("row_losses.cu", dtype, (SCORED_ROWS,), _rows(name, group, dtype))
            yield launch.Module(f"rows {name} {group} {dtype}", text)
    yield launch.Module("total", launch.text("total.cu", "float64", (TOTAL,)))


def _sum(sums: Any, divisor: float) -> Any:
    """The second stage."""
    total, record = cupy.empty((), np.float64), TOTAL.record(np.float64)
    record[0] = sums.size, address(sums), divisor, address(total)
    kernel = launch.kernel("total.cu", "total", "float64", (TOTAL,))
    kernel((1,), (launch.THREADS,), (record,))
    return total


def _of_elements(
    pred: Any, target: Any, weights: Any, loss: Loss, numbers: Sequence[float], scale: float, in_unit: bool
) -> tuple[Any, Any]:
    """The sums of units, and the derivative."""
    dpred, units = cupy.empty(pred.shape, pred.dtype), -(-pred.size // _UNIT)
    sums, record = cupy.empty(units, np.float64), SCORED.record(pred.dtype)
    given, kept = record[0], [None if each is None else in_order(each) for each in (pred, target, weights)]
    given["n"], given["scale"], given["unit_targets"] = pred.size, scale, in_unit
    given["pred"], given["target"], given["weights"] = [0 if each is None else address(each) for each in kept]
    given["dpred"], given["sums"] = address(dpred), address(sums)
    given["numbers"][: len(numbers)] = numbers
    given["width"] = pred.size // (pred.shape[0] if pred.ndim else 1)
    kernel = launch.kernel("losses.cu", "units", pred.dtype.name, (SCORED,), _formula(loss, pred.dtype.name))
    kernel((launch.blocks(units * launch.THREADS),), (launch.THREADS,), (record,))
    return sums, dpred


def _of_rows(
    pred: Any, target: Any, weights: Any, name: str, numbers: Sequence[float], scale: float, most_off: float
) -> tuple[Any, Any]:
    """The rows' losses, and the derivative."""
    (n, c), dtype = pred.shape, pred.dtype.name
    labelled = target.ndim < pred.ndim
    target = target.astype(np.int64, copy=False) if labelled else target
    dpred, sums, record = cupy.empty((n, c), pred.dtype), cupy.empty(n, np.float64), SCORED_ROWS.record(pred.dtype)
    given, kept = record[0], [None if each is None else in_order(each) for each in (pred, target, weights)]
    given["n"], given["c"], given["scale"], given["most_off"] = n, c, scale, 0 if labelled else most_off
    given["pred"], given["labels" if labelled else "target"], given["weights"] = [
        0 if each is None else address(each) for each in kept
    ]
    given["dpred"], given["sums"] = address(dpred), address(sums)
    given["numbers"][: len(numbers)] = numbers
    group = launch.group(c)
    kernel = launch.kernel("row_losses.cu", "rows", dtype, (SCORED_ROWS,), _rows(name, group, dtype))
    kernel((launch.blocks(n * group),), (launch.THREADS,), (record,))
    return sums, dpred


def loss_op(op: str) -> Callable[..., tuple[Any, Any]]:
    """A loss."""

    def loss(pred: Any, target: Any, sample_weight: Any = None, *options: Any) -> tuple[Any, Any]:
        if pred.size == 0:
            return cupy.zeros((), np.float64), cupy.empty(pred.shape, pred.dtype)
        name, of_rows, wanted, numbers, divisor = described(op, pred, target, options)
        given = pred, target, sample_weight
        if of_rows:
            most_off = 2 * MOST_OFF if wanted == PROBABILITIES else 0.0
            sums, dpred = _of_rows(*given, name, numbers, 1.0 / divisor, most_off)
        else:
            sums, dpred = _of_elements(*given, LOSSES[name], numbers, 1.0 / divisor, wanted == IN_UNIT)
        return _sum(sums, divisor), dpred

    return implements(op, loss)


globals().update({op: loss_op(op) for op in OPS if TABLE[op].module == "losses"})


def l1_l2_penalty(w: Any, l1: float = 0.0, l2: float = 0.0) -> tuple[Any, Any]:
    """The sum of l1 |w| + l2 w^2."""
    if w.size == 0:
        return cupy.zeros((), np.float64), cupy.empty(w.shape, w.dtype)
    sums, dw = _of_elements(w, None, None, _PENALTY, (l1, l2), 1.0, False)
    return _sum(sums, 1.0), dw
