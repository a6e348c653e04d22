"""Losses and penalties on the device, with their derivatives: sums in two stages that repeat bit for bit.

A loss comes back as an array () of float64 on the device: nobody waits for it. Where labels or targets are not what it
wants it is NaN.

In a recorded step the launch of a loss may go on (``Further``): back through the activation that its predictions come
from, where that is of rows also forward through it. So are loss and derivative multiplied by numbers, and targets made
of others (``goals.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product as product_of
from typing import Any, NamedTuple

import cupy
import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import in_order
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.cuda.goals import AS_THEY_ARE, LOOKED_AT, MOST_CHOSEN, MOST_CONSTANTS, Goals
from fastnn.kernels.cuda.recorded import OF_ROWS
from fastnn.kernels.formulas.activations import ACTIVATIONS, MOST_NUMBERS
from fastnn.kernels.formulas.losses import LOSSES, Loss
from fastnn.kernels.formulas.penalties import l1_l2
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES, TABLE
from fastnn.kernels.table.losses import ANYTHING, IN_UNIT, PROBABILITIES, Described, described
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
    Field("s", "const real*"),
    Field("y", "real*"),
)
_SCORED = (
    Field("n", "int64"),
    Field("scale", "real"),
    Field("divisor", "double"),
    Field("unit_targets", "int"),
    Field("back", "real", (MOST_NUMBERS,)),
)
_CONSTANTS = Field("constants", "const real*", (MOST_CONSTANTS,))
_CHOSEN = (
    Field("numbers", "real", (_NUMBERS,)),
    Field("goals", "real", (MOST_CHOSEN,)),
    Field("of_slope", "real"),
    Field("of_value", "double"),
)
SCORED = Structure("Scored", *_ADDRESSES, _CONSTANTS, *_SCORED, Field("width", "int64"), numbers=_CHOSEN)
SCORED_ROWS = Structure(
    "ScoredRows",
    *_ADDRESSES,
    Field("labels", "const int64*"),
    _CONSTANTS,
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


@dataclass(frozen=True)
class Further:
    """What the launch of a loss goes on with: the ``activation`` that makes the predictions, with these numbers.

    Its targets are made by ``goals``.
    """

    activation: str = ""
    numbers: tuple[float, ...] = ()
    goals: Goals = AS_THEY_ARE

    @property
    def of_rows(self) -> bool:
        """Whether a row has the activation as a whole: then the launch is given logits."""
        return self.activation in OF_ROWS

    def before(self, dtype: str) -> str:
        """What comes before the kernel."""
        return self.goals.before(dtype) + self._back(dtype)

    def _back(self, dtype: str) -> str:
        if self.of_rows:
            return rows_header(self.activation)
        if not self.activation:
            return ""
        entry = ACTIVATIONS[self.activation]
        given = ", ".join(["dy", "s", *(f"numbers[{place}]" for place in range(len(entry.numbers))), "&result"])
        return (
            f"{function('derivative', ('dy', 's', *entry.numbers), entry.backward, dtype)}"
            "FUNCTION real back(real dy, real s, [[maybe_unused]] const real* numbers) {\n"
            f"    real result;\n    derivative({given});\n    return result;\n}}\n"
            "#define BACK(dy, s, numbers) back(dy, s, numbers)\n"
        )


_NOTHING = Further()
# Targets that are made there by a number, an array of one and the largest of all.
_OF_SIGNS = Further(goals=LOOKED_AT)


def rows_header(activation: str) -> str:
    """An activation of rows for what comes behind it."""
    return f"#define LOGARITHM {int(activation == 'log_softmax')}\n{launch.header('softmax.cuh')}"


def _formula(loss: Loss, dtype: str) -> str:
    """A loss of one number and its target as C++ that defines LOSS."""
    given = ", ".join(["p", "t", *(f"numbers[{place}]" for place in range(len(loss.numbers)))])
    return (
        f"{function('formula', ('p', 't', *loss.numbers), loss.formula, dtype)}"
        f"#define LOSS(p, t, numbers, loss, slope) formula({given}, loss, slope)\n"
    )


def _units(loss: Loss, dtype: str, further: Further) -> str:
    """What comes before the kernel of a loss of single numbers."""
    return f"{_formula(loss, dtype)}{further.before(dtype)}#define UNIT {_UNIT}\n{launch.header('total.cuh')}"


def _rows(name: str, group: int, dtype: str, further: Further) -> str:
    """What comes before the kernel of a loss of rows, so many threads each; of single numbers it adds up a row's."""
    row_function, of_logits = _ROW_FUNCTIONS.get(name, ("summed", False))
    formula = _formula(LOSSES[name], dtype) if name in LOSSES else ""
    defined = f"#define GROUP {group}\n#define ROW_LOSS {row_function}\n#define SOFTMAX {int(of_logits)}\n"
    return f"{formula}{defined}{further.before(dtype)}{launch.header('total.cuh')}"


def modules() -> Iterator[launch.Module]:
    """Every loss of numbers, every one of rows for the fewest threads, a warp and a block; some that go on.

    Some of targets that are made there, of which the largest is looked at.
    """
    for dtype in DTYPES:
        for name, loss in {**LOSSES, "l1_l2": _PENALTY, "total": _TOTAL}.items():
            yield _module("losses.cu", name, dtype, SCORED, _units(loss, dtype, _NOTHING))
        for name, group in product_of(_ROW_FUNCTIONS, launch.GROUPS):
            yield _module(
                "row_losses.cu", f"rows {name} {group}", dtype, SCORED_ROWS, _rows(name, group, dtype, _NOTHING)
            )
        yield _module("losses.cu", "hinge of signs", dtype, SCORED, _units(LOSSES["hinge"], dtype, _OF_SIGNS))
        yield _module(
            "row_losses.cu", "rows of signs", dtype, SCORED_ROWS, _rows("softmax_cross_entropy", 32, dtype, _OF_SIGNS)
        )
        for name in ("squared", "bernoulli_logit_focal"):
            yield _module("losses.cu", f"{name} gelu", dtype, SCORED, _units(LOSSES[name], dtype, Further("gelu")))
        for name, group, last in product_of(("squared", "cosine"), launch.GROUPS, ("gelu", *OF_ROWS)):
            before = _rows(name, group, dtype, Further(last))
            yield _module("row_losses.cu", f"rows {name} {last} {group}", dtype, SCORED_ROWS, before)


def _module(source: str, name: str, dtype: str, structure: Structure, before: str) -> launch.Module:
    return launch.Module(f"{name} {dtype}", launch.text(source, dtype, (structure,), before))


class _Stage(NamedTuple):
    """The launch of a loss, how many sums its first stage leaves, and whether it may be given labels."""

    launch: launch.Launch
    sums: int
    labels: bool


class Factors(NamedTuple):
    """What loss and derivative are multiplied by, and the numbers that targets are made with."""

    of_value: float = 1.0
    of_slope: float = 1.0
    goals: Sequence[float] = ()


_PLAIN = Factors()


def _describe(given: Any, n: int, loss: Described, further: Further, factors: Factors) -> None:
    """What both kinds of launches are told."""
    given["n"], given["divisor"], given["scale"] = n, loss.divisor, 1.0 / loss.divisor
    given["of_value"], given["of_slope"], given["goals"][: len(factors.goals)] = factors
    given["unit_targets"] = loss.wanted == IN_UNIT
    given["numbers"][: len(loss.numbers)] = loss.numbers
    given["back"][: len(further.numbers)] = further.numbers


def _of_elements(pred: Any, formula: Loss, loss: Described, further: Further, factors: Factors) -> _Stage:
    """That of single numbers, in units."""
    units, dtype, record = -(-pred.size // _UNIT), pred.dtype.name, SCORED.record(pred.dtype)
    _describe(record[0], pred.size, loss, further, factors)
    record[0]["width"] = pred.size // (pred.shape[0] if pred.ndim else 1)
    kernel = launch.kernel("losses.cu", "units", dtype, (SCORED,), _units(formula, dtype, further))
    blocks = launch.blocks(units * launch.THREADS)
    return _Stage(launch.Launch(kernel, blocks, record, "pred", len(_ADDRESSES) + MOST_CONSTANTS), units, False)


def _of_rows(pred: Any, labelled: bool, loss: Described, further: Further, factors: Factors) -> _Stage:
    """That of rows."""
    (n, c), dtype, record = pred.shape, pred.dtype.name, SCORED_ROWS.record(pred.dtype)
    _describe(record[0], n, loss, further, factors)
    group = launch.group(c)
    record[0]["c"] = c
    record[0]["most_off"] = 2 * MOST_OFF if loss.wanted == PROBABILITIES and not labelled else 0.0
    kernel = launch.kernel("row_losses.cu", "rows", dtype, (SCORED_ROWS,), _rows(loss.formula, group, dtype, further))
    count = len(_ADDRESSES) + 1 + MOST_CONSTANTS
    return _Stage(launch.Launch(kernel, launch.blocks(n * group), record, "pred", count), n, True)


def _planned(
    op: str,
    pred: Any,
    target: Any,
    options: Sequence[Any],
    further: Further = _NOTHING,
    factors: Factors = _PLAIN,
) -> Callable[..., tuple[Any, ...]]:
    """What launches an op's."""
    loss = described(op, pred, target, options)
    labelled = target.ndim < pred.ndim and loss.of_rows
    if loss.of_rows or further.of_rows:
        stage = _of_rows(pred, labelled, loss, further, factors)
    else:
        stage = _of_elements(pred, LOSSES[loss.formula], loss, further, factors)
    return _scoring(stage, pred, labelled, further.of_rows)


def _scoring(stage: _Stage, pred: Any, labelled: bool = False, makes: bool = False) -> Callable[..., tuple[Any, ...]]:
    """What launches it: ``score(pred, target, weights, s, constants)`` of arrays like those that it is made for.

    What it ``makes`` of logits are outputs, which come behind loss and derivative.
    """
    shape, dtype, count = pred.shape, pred.dtype, stage.sums
    none = (0,) * stage.labels

    def score(pred: Any, target: Any, weights: Any, s: Any = None, constants: Sequence[Any] = ()) -> tuple[Any, ...]:
        target = target.astype(np.int64, copy=False) if labelled else target
        kept = [None if each is None else in_order(each) for each in (pred, target, weights, s)]
        at_pred, at_target, at_weights, at_s = [0 if each is None else each.data.ptr for each in kept]
        dpred, sums, total = cupy.empty(shape, dtype), cupy.empty(count, np.float64), cupy.empty((), np.float64)
        made: tuple[Any, ...] = (cupy.empty(shape, dtype),) if makes else ()
        goal, labels = (0, (at_target,)) if labelled else (at_target, none)
        own = dpred.data.ptr, sums.data.ptr, total.data.ptr, launch.counters()
        given = [each.data.ptr for each in constants] + [0] * (MOST_CONSTANTS - len(constants))
        stage.launch(at_pred, goal, at_weights, *own, at_s, made[0].data.ptr if makes else 0, *labels, *given)
        return total, dpred, *made

    return score


def _of_nothing(pred: Any) -> Callable[..., tuple[Any, Any]]:
    shape, dtype = pred.shape, pred.dtype
    return lambda *_: (cupy.zeros((), np.float64), cupy.empty(shape, dtype))


def loss_op(op: str) -> Planned:
    """A loss."""

    def plan(pred: Any, target: Any, sample_weight: Any = None, *options: Any) -> Callable[..., tuple[Any, ...]]:
        if pred.size == 0:
            return _of_nothing(pred)
        score = _planned(op, pred, target, options)
        return lambda pred, target, sample_weight=None, *options: score(pred, target, sample_weight)

    return Planned(implements(op, plan))


# What a call is given the numbers by that targets are made with.
GOALS_NAMED = tuple(f"goal_{place}" for place in range(MOST_CHOSEN))


class Scored:
    """A loss whose launch goes on, by the names of its operands and options: of predictions, or of logits.

    Of an activation of single numbers its derivative takes ``s``, inputs or outputs. Loss and derivative come back, and
    outputs where it is given logits.
    """

    def __init__(self, op: str, further: Further = _NOTHING) -> None:
        self._op, self.further = op, further

    def __call__(
        self,
        s: Any = None,
        of_value: float = 1.0,
        of_slope: float = 1.0,
        constants: Sequence[Any] = (),
        **given: Any,
    ) -> tuple[Any, ...]:
        """Launch it; loss and derivative are multiplied by these numbers, targets made with those and ``constants``."""
        pred, target, weights = (given[name] for name in TABLE[self._op].operands)
        options = [given[name] for name in TABLE[self._op].options]
        factors = Factors(of_value, of_slope, [given[name] for name in GOALS_NAMED if name in given])
        score = _planned(self._op, pred, target, options, self.further, factors)
        return score(pred, target, weights, s, constants)


globals().update({op: loss_op(op) for op in OPS if TABLE[op].module == "losses"})


def _of_one(name: str, loss: Loss) -> Planned:
    """What is summed of single numbers that no target belongs to; the op's options are the formula's numbers."""

    def plan(x: Any, *numbers: float) -> Callable[..., tuple[Any, Any]]:
        if x.size == 0:
            return _of_nothing(x)
        given = Described(name, False, ANYTHING, numbers, 1.0)
        score = _scoring(_of_elements(x, loss, given, _NOTHING, _PLAIN), x)
        return lambda x, *_: score(x, None, None)

    return Planned(implements(name, plan))


l1_l2_penalty, total = _of_one("l1_l2_penalty", _PENALTY), _of_one("total", _TOTAL)
