"""Steps of weights by the non-zeros of a batch: in place of gradients, and only where there are any.

Rows of weights that a batch does not touch get no gradient. Where the step leaves such weights as they are, and of its
state all but a decay, they are not looked at before they are touched again, or before the last turn is over: then the
state is multiplied by rho as often as it was not, each time rounded, so that its bits are those of a step every turn.

From the first turn to the last the weights and their states are the replay's: they lie in panels, strip by strip, where
each row of a strip begins at a line of the caches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.kernels.addresses import address
from fastnn.kernels.cpu.instructions.holding import Held, arrays_of, looked_at, moved, moves, panels_of, settling
from fastnn.kernels.cpu.instructions.lowering.instructions import Instruction, Lowering
from fastnn.kernels.cpu.instructions.lowering.products import written_beside
from fastnn.kernels.cpu.instructions.lowering.sparse import width_of
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.graph import Range, View, range_of


def stepping(gradient: Instruction, update: Instruction) -> Instruction:
    """The gradient with the update in place of its result."""
    (dw,) = gradient.views["c"]
    assert dw is not None
    code = update.fields["code"]
    return replace(
        gradient,
        kind=Kind.SPARSE_STEP,
        fields={
            **gradient.fields,
            "code": code,
            "numbers": update.fields["numbers"],
            "direct": list(STEPS.values())[code].direct,
            "all_rows": not update.rests or update.rho is not None,
        },
        views={**gradient.views, "c": update.views["a"], "b": update.views["c"]},
        writes=[*written_beside(gradient, dw), *update.writes],
        nanoseconds=gradient.nanoseconds + update.nanoseconds,
        rests=update.rests,
        rho=update.rho,
    )


def sorted_early(stretch: list[Instruction]) -> list[Instruction]:
    """The instructions with a batch's non-zeros sorted between those that its product is the first of.

    All wait behind these anyway, and a gradient that finds its columns sorted waits for nothing else.
    """
    for sort in [each for each in stretch if each.kind == Kind.SORT_COLUMNS]:
        parts = [each for each in stretch if each.kind in _SORTING and each.views["c"] == sort.views["c"]]
        rest = [each for each in stretch if all(each is not part for part in parts)]
        first = next((place for place, each in enumerate(rest) if _multiplies(each, sort)), None)
        last = next(place for place, each in enumerate(rest) if each.views.get("e") == sort.views["b"])
        if first is not None and first < last:
            count, allot, _ = parts
            ends = min(first + 1, last), min(first + 2, last)
            stretch = [*rest[:first], count, *rest[first : ends[0]], allot, *rest[ends[0] : ends[1]], sort]
            stretch += rest[ends[1] :]
    return stretch


# What sorts a batch's non-zeros, in order.
_SORTING = (Kind.COUNT_COLUMNS, Kind.ALLOT_COLUMNS, Kind.SORT_COLUMNS)


def _multiplies(each: Instruction, sort: Instruction) -> bool:
    """Whether it is the product of the batch that is sorted."""
    return each.kind == Kind.SPARSE_PRODUCT and all(each.views[part] == sort.views[part] for part in "aef")


# ------------------------------------------------------------------------------------------------ weights that are held


def holding(stretch: list[Instruction], to: Lowering, lies: Callable[[Range], Range]) -> list[Held]:
    """The steps of a turn whose weights and states lie in panels, as long as turns last, and may rest meanwhile.

    Nobody else looks at them but products with the weights. These, the steps, and what sorts for them are changed to
    do so. ``lies`` gives memory where it really is.
    """
    found: list[Held] = []
    for place, step in enumerate(stretch):
        if step.kind != Kind.SPARSE_STEP or not step.fields["ordered"]:
            continue
        arrays, width = arrays_of(step, "b"), width_of(to.dtype)
        products = [each for each in stretch if each.kind == Kind.SPARSE_PRODUCT and each.views["b"] == step.views["c"]]
        if looked_at(arrays, stretch, (step, *products), lies):
            continue
        panels = {range_of(view): panels_of(view, width) for view in arrays}
        around = [moves(step, view, panels[range_of(view)], width) for view in arrays]
        for each in (step, *products):
            row = {"row_b": width, "copied": False} if each.kind == Kind.SPARSE_PRODUCT else {"row_c": width}
            there = moved(each, panels, {**row, "strip": each.fields["k"] * width})
            each.views, each.reads, each.writes, each.fields = there.views, there.reads, there.writes, there.fields
        after, touched = [unpack for _, unpack in around], None
        if step.rests and step.rho is not None:
            settle, touched = _rest(step, stretch, arrays[1])
            after.append(settle)
        found.append(Held(place, [pack for pack, _ in around], after, touched))
    return found


def _rest(step: Instruction, stretch: list[Instruction], state: View) -> tuple[Instruction, Any]:
    """Let rows rest at which a batch has no non-zeros; what settles their state behind all turns, and what it reads."""
    sorts = (each for each in stretch if each.kind == Kind.ALLOT_COLUMNS)
    allot = next(each for each in sorts if each.views["d"] == step.views["d"])
    touched = np.empty((2, step.fields["k"]), np.int32)
    view = View.of(touched, address(touched))
    for each in (allot, step):
        each.views = {**each.views, "h": (view,)}
    allot.writes = [*allot.writes, range_of(view)]
    step.reads = [*step.reads, range_of(view)]
    step.fields = {**step.fields, "all_rows": False, "rho": step.rho}
    return settling(step, state, view), touched
