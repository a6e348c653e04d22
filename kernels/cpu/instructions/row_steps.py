"""Steps of a table by the gradients of the rows that a batch looked up, and of no others.

Where a step leaves weights without a gradient as they are, and of their state all but a decay, rows that no word of a
batch stands for are not looked at: their state is multiplied by rho as often as it was not when they are stepped next,
or behind the last turn, each time rounded, so that its bits are those of a step of all rows every turn. Their gradients
are zeros that stay: rows that a step has used are cleared by it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np

from fastnn.kernels.addresses import address
from fastnn.kernels.cpu._arrays import aligned
from fastnn.kernels.cpu.instructions import bags
from fastnn.kernels.cpu.instructions.holding import Held, looked_at, settling
from fastnn.kernels.cpu.instructions.lowering.instructions import Instruction
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.graph import Block, Range, View, range_of

# To step a row of its own takes as long as so many numbers of a step of all.
_ROW_IN_NUMBERS = 16


def resting(stretch: list[Instruction], kept: Collection[Block], lies: Callable[[Range], Range]) -> list[Held]:
    """The steps of a turn that let rows rest; they, and what makes their gradients, are changed to do so.

    Nobody else may look at such a gradient, nor at a state that decays; blocks that are ``kept`` are looked at.
    """
    found: list[Held] = []
    for place, step in enumerate(stretch):
        gradient = _gradient_of(stretch, step, kept)
        if gradient is None or not _pays(gradient):
            continue
        states = [view for view in step.views["c"] if view is not None]
        if step.rho is not None and looked_at(states, stretch, (step,), lies):
            continue
        found.append(_rest(place, step, gradient, states))
    return found


def _gradient_of(stretch: Sequence[Instruction], step: Instruction, kept: Collection[Block]) -> Instruction | None:
    """What adds up the gradient of a step from rows, if the step alone looks at it."""
    if step.kind != Kind.UPDATE or not step.rests:
        return None
    (dw,) = step.views["b"]
    if dw is None or dw.ndim != 2 or not dw.block.inner or dw.block in kept:
        return None
    touching = [each for each in stretch if any(r.block is dw.block for r in (*each.reads, *each.writes))]
    if len(touching) != 2 or touching[1] is not step or touching[0].views.get("c") != (dw,):
        return None
    first = touching[0]
    noted = first.noted is not None and bags.adds_rows(first.noted.note)
    return first if noted or first.kind == Kind.SCATTER else None


def _pays(gradient: Instruction) -> bool:
    """Whether a batch has so few words that to step their rows takes less than to step all."""
    (index,), (dw,) = gradient.views["b"], gradient.views["c"]
    assert index is not None
    assert dw is not None
    rows, count = dw.shape
    return index.size * (count + _ROW_IN_NUMBERS) <= rows * count


def _rest(place: int, step: Instruction, gradient: Instruction, states: Sequence[View]) -> Held:
    (index,), (dw,), (w,) = gradient.views["b"], gradient.views["c"], step.views["a"]
    assert index is not None
    assert dw is not None
    assert w is not None
    rows, count = dw.shape
    slopes, touched = aligned(dw.shape, dw.dtype), np.empty((2, rows), np.int32)
    there, noted_at = (View.of(memory, address(memory)) for memory in (slopes, touched))
    _add_to(gradient, dw, there)
    step.kind = Kind.STEP_ROWS
    step.fields = {
        **{name: step.fields[name] for name in ("code", "numbers")},
        "n": index.size, "k": rows, "m": count, "rho": -1 if step.rho is None else step.rho,
    }  # fmt: skip
    step.views = {"a": (w,), "b": (index,), "d": (there,), "h": (noted_at,), "c": step.views["c"]}
    step.reads = [range_of(index)]
    step.writes = [range_of(each) for each in (w, *states, there, noted_at)]
    after = [] if step.rho is None else [settling(step, states[0], noted_at)]
    return Held(place, [], after, touched, slopes)


def _add_to(gradient: Instruction, dw: View, there: View) -> None:
    """Let rows be added to what is in other memory, which is zeros."""
    gradient.writes = [range_of(there) if each.block is dw.block else each for each in gradient.writes]
    gradient.views = {**gradient.views, "c": (there,)}
    if gradient.noted is None:
        gradient.fields = {**gradient.fields, "added": True}
        return
    note, stand_ins = gradient.noted
    lies = [(low, high, there if view.block is dw.block else view) for low, high, view in stand_ins.lies]
    gradient.noted = gradient.noted._replace(note=bags.added(note), stand_ins=replace(stand_ins, lies=lies))
