"""How many launches a step of dense layers takes beside two and two for each layer, and why: a line for each cause.

Those two and two: a layer's product forwards and that back to its input, which the first one has not, the loss, the
step of all weights, and the end of a turn.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from fastnn.kernels.cuda.recorded import (
    BACK,
    CLIPPINGS,
    GRADIENTS,
    NEXT,
    OF_ROWS,
    PENALTIES,
    ROWS_STEP,
    SLOPE,
    STEP,
)
from fastnn.kernels.graph import Call, Sparse
from fastnn.kernels.table import TABLE
from fastnn.kernels.table.losses import LOSSES

_OF_CSR = "rows of CSR matrices are copied to a batch before their product, and put in order of columns before the step"
_WRITTEN = "gradients are written that somebody else needs, or that are too large to be formed as weights are stepped"
_BESIDE = "numbers are added or multiplied by themselves"

# Why calls have launches of their own, or more than one, by their name or the module of their op. What is in none of
# these belongs to other layers than dense ones: then nothing is said.
_WHY = {
    "dropout": "masks are drawn by themselves",
    "elementwise": _BESIDE,
    "gather": "bytes are made numbers by themselves",
    "gemm": "operands of products on tensor cores are packed first",
    "linear_backward": _WRITTEN,
    "losses": "penalties on outputs are summed by themselves",
    "normalization": "means and variances are known before any number is normalized",
    "optim": "weights are stepped by themselves whose gradients are written",
    "prelu": "slopes that are learned have gradients that are sums over samples",
    "random": "noise is drawn by itself",
    "softmax": "softmax takes rows as a whole, which no block of a product has",
    **dict.fromkeys(("plus", "minus", "times", "over", "scaled", "divided", "zeros"), _BESIDE),
    **dict.fromkeys((*CLIPPINGS, PENALTIES), _WRITTEN),
}

# Calls that are among the two and two.
_COUNTED = {"linear", BACK, GRADIENTS, STEP, NEXT, *LOSSES}


def lines(calls: Sequence[Call], counts: Sequence[int]) -> list[str]:
    """What to say of a step's calls with so many launches each; nothing of other layers, or where there are no more."""
    causes: dict[str, list[str]] = {}
    names, total = {call.op for call in calls}, 0
    for call, count in zip(calls, counts, strict=True):
        why, more = _why(call), count - _is_counted(call, names)
        if why is None:
            return []
        if more > 0:
            causes.setdefault(why, []).append(f"{more} {call.op}")
            total += more
    if total == 0:
        return []
    return [
        f"{total} more than two and two for each dense layer",
        *(f"{', '.join(found)}: {why}" for why, found in causes.items()),
    ]


def _why(call: Call) -> str | None:
    """Why it may have launches of its own; None of what belongs to other layers."""
    if any(isinstance(value, Sparse) for value in call.given.values()):
        return _OF_CSR
    if call.op == SLOPE:
        return _WHY["softmax"] if call.given["activation"] in OF_ROWS else _BESIDE
    if call.op in (BACK, GRADIENTS, STEP, NEXT, *ROWS_STEP.values()):
        return _WHY["gemm"]
    if call.op == "linear" and call.given.get("activation") in OF_ROWS:
        return _WHY["softmax"]
    return _WHY.get(call.op) or _WHY.get(TABLE[call.op].module if call.op in TABLE else "")


def _is_counted(call: Call, names: Set[str]) -> bool:
    """Whether a launch of it is among the two and two, in a step of calls of these names."""
    if call.op == "linear_backward":
        return call.results[0] is not None
    if call.op in TABLE and TABLE[call.op].module == "optim":
        return STEP not in names and not {GRADIENTS, NEXT} <= names
    return call.op in _COUNTED
