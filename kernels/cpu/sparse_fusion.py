"""Steps of weights by the non-zeros of a batch: in place of gradients, and only where there are any.

Rows of weights that a batch does not touch get no gradient. Where the step leaves such weights as they are, and of its
state all but a decay, they are not looked at before they are touched again, or before the last turn is over: then the
state is multiplied by rho as often as it was not, each time rounded, so that its bits are those of a step every turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.cpu import replay
from fastnn.kernels.cpu.lowering import Instruction, Range, range_of
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.graph import Block, View

# One core's nanoseconds for a number of a state that catches up.
_NS_PER_DECAY = 0.2


def stepping(gradient: Instruction, update: Instruction) -> Instruction:
    """The gradient with the update in place of its result."""
    (dw,) = gradient.views["c"]
    assert dw is not None
    code = update.fields["code"]
    return replace(
        gradient,
        kind=replay.SPARSE_STEP,
        fields={
            **gradient.fields,
            "code": code,
            "numbers": update.fields["numbers"],
            "direct": list(STEPS.values())[code].direct,
            "all_rows": not update.rests or update.rho is not None,
        },
        views={**gradient.views, "c": update.views["a"], "b": update.views["c"]},
        writes=[*(each for each in gradient.writes if each.block is not dw.block), *update.writes],
        nanoseconds=gradient.nanoseconds + update.nanoseconds,
        rests=update.rests,
        rho=update.rho,
    )


# ------------------------------------------------------------------------------------------------------- rows that rest


class Resting(NamedTuple):
    """A step, by its place in the turn, of just the rows that have non-zeros, and what settles the others in the end.

    ``touched`` holds the last turn of each row's, and what it missed before.
    """

    place: int
    settle: Instruction
    touched: Any


def resting(stretch: list[Instruction], lies: Callable[[Range], Range]) -> list[Resting]:
    """The steps of a turn whose rows may rest until later ones: a state decays, and nobody else looks at it meanwhile.

    They, and those that sort for them, are changed to do so. ``lies`` gives memory where it really is.
    """
    found: list[Resting] = []
    for place, step in enumerate(stretch):
        if step.kind != replay.SPARSE_STEP or not step.rests or step.rho is None or not step.fields["ordered"]:
            continue
        (state,), k = step.views["b"], step.fields["k"]
        assert state is not None
        others = [range_ for each in stretch if each is not step for range_ in (*each.reads, *each.writes)]
        if any(lies(range_).meets(lies(range_of(state))) for range_ in others):
            continue
        sorts = (each for each in stretch if each.kind == replay.ALLOT_COLUMNS)
        allot = next(each for each in sorts if each.views["d"] == step.views["d"])
        touched = np.empty((2, k), np.int32)
        block = Block(touched.nbytes, address=touched.__array_interface__["data"][0], owner=touched)
        view = View(block, 0, touched.shape, touched.strides, touched.dtype)
        for each in (allot, step):
            each.views = {**each.views, "h": (view,)}
        allot.writes.append(range_of(view))
        step.reads.append(range_of(view))
        fields = {name: step.fields[name] for name in ("k", "m", "numbers")} | {"rho": step.rho}
        step.fields = {**step.fields, "all_rows": False, "rho": step.rho}
        settle = replace(
            step, kind=replay.SETTLE, fields=fields, views={"b": step.views["b"], "h": (view,)},
            reads=[range_of(view)], writes=[range_of(state)], nanoseconds=k * step.fields["m"] * _NS_PER_DECAY,
        )  # fmt: skip
        found.append(Resting(place, settle, touched))
    return found
