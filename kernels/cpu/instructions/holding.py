"""Weights that a replay holds from its first turn to its last: in panels, which nobody else looks at meanwhile.

A step finds them, and what the optimizer keeps of them, where it left them, and a product does not pack what is packed.
Before the first turn they are moved there, behind the last one back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from fastnn.kernels.addresses import address
from fastnn.kernels.cpu import gemm
from fastnn.kernels.cpu._arrays import aligned
from fastnn.kernels.cpu.compiler.machine import tile
from fastnn.kernels.cpu.instructions.lowering.instructions import Instruction
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.graph import Range, View, range_of

# One core's nanoseconds for a number that is moved, and for one of a state that catches up.
_NS_PER_MOVE, _NS_PER_DECAY = 0.5, 0.2


class Held(NamedTuple):
    """A step, by its place in the turn, whose weights and states are held: what comes before and behind all turns.

    Where rows rest, ``touched`` holds the last turn at which each was stepped, and what it missed before that.
    ``slopes`` are zeros before all turns.
    """

    place: int
    before: list[Instruction]
    after: list[Instruction]
    touched: Any = None
    slopes: Any = None


def arrays_of(step: Instruction, states: str) -> list[View]:
    """The weights ``c`` of a step and the parts of their state, its operands ``states``."""
    return [view for view in (*step.views["c"], *step.views[states]) if view is not None]


def looked_at(
    arrays: Iterable[View],
    stretch: Sequence[Instruction],
    users: Collection[Instruction],
    lies: Callable[[Range], Range],
) -> bool:
    """Whether others than the ``users`` look at any of the arrays, or at a part; ``lies`` tells where memory is."""
    own = {range_of(view) for view in arrays}
    others = [
        range_
        for each in stretch
        for range_ in (*each.reads, *each.writes)
        if range_ not in own or all(each is not user for user in users)
    ]
    return any(lies(other).meets(lies(range_)) for other in others for range_ in own)


def panels_of(view: View, width: int) -> View:
    """Memory for a matrix in panels so many columns wide."""
    (k, m) = view.shape
    memory = aligned((-(-m // width) * k * width,), view.dtype)
    return View.of(memory, address(memory))


def settling(step: Instruction, state: View, turns: View) -> Instruction:
    """What lets a state catch up behind all turns with those that rows have missed, by when each was stepped."""
    fields = {name: step.fields[name] for name in ("k", "m", "numbers")} | {"rho": step.rho}
    views, work = {"b": (state,), "h": (turns,)}, state.size * _NS_PER_DECAY
    return Instruction(step.call, Kind.SETTLE, fields, views, [range_of(turns)], [range_of(state)], work)


def moves(step: Instruction, view: View, panels: View, width: int) -> tuple[Instruction, Instruction]:
    """A matrix into its panels, and back."""
    (k, m), there, here = view.shape, range_of(panels), range_of(view)
    pack = Instruction(
        step.call,
        Kind.PACK_STRIPS,
        {"k": k, "m": m, "strip": k * width},
        {"a": (view,), "c": (panels,)},
        [here],
        [there],
        k * m * _NS_PER_MOVE,
    )
    return pack, replace(pack, kind=Kind.UNPACK_STRIPS, reads=[there], writes=[here])


def moved(each: Instruction, panels: Mapping[Range, View], fields: Mapping[str, Any]) -> Instruction:
    """An instruction that finds in panels what it found elsewhere, by these ``fields``."""

    def to_panels(view: View | None) -> View | None:
        return view if view is None else panels.get(range_of(view), view)

    reads, writes = (
        [range_of(panels[range_]) if range_ in panels else range_ for range_ in ranges]
        for ranges in (each.reads, each.writes)
    )
    views = {name: tuple(map(to_panels, views)) for name, views in each.views.items()}
    return replace(each, views=views, reads=reads, writes=writes, fields={**each.fields, **fields})


def in_panels(stretch: Sequence[Instruction], lies: Callable[[Range], Range]) -> tuple[list[Instruction], list[Held]]:
    """The instructions of many turns, where weights whose gradient no memory holds lie in panels.

    That is, those of which products want no other panels: such as a layer's whose inputs need no gradient.
    """
    turn, found = [replace(each, waits=False) for each in stretch], []
    for place, step in enumerate(turn):
        if step.kind != Kind.STEPPED_PRODUCT or not _in_c_order(step):
            continue
        arrays, (w,) = arrays_of(step, "d"), step.views["c"]
        products = [each for each in turn if each.kind == Kind.PRODUCT and each.views["b"] == (w,)]
        if not products or looked_at(arrays, turn, (step, *products), lies):
            continue
        width = tile(arrays[0].dtype.itemsize).NR
        panels = {range_of(view): panels_of(view, width) for view in arrays}
        turn[place] = moved(step, panels, {"row_c": width, "column_c": arrays[0].shape[0]})
        turn = [_multiplied(each, panels) if any(each is one for one in products) else each for each in turn]
        around = [moves(step, view, panels[range_of(view)], width) for view in arrays]
        found.append(Held(place, [pack for pack, _ in around], [unpack for _, unpack in around]))
    return turn, found


def _in_c_order(step: Instruction) -> bool:
    """Whether weights and states are matrices in C order, no panels."""
    return all(len(view.shape) == 2 and view.contiguous for view in arrays_of(step, "d"))


def _multiplied(product: Instruction, panels: Mapping[Range, View]) -> Instruction:
    """A product with weights that are packed already."""
    (a,), (w,) = product.views["a"], product.views["b"]
    assert a is not None
    assert w is not None
    (k, m) = w.shape
    held, scratch = panels[range_of(w)], [range_of(view) for view in product.views["f"] if view is not None]
    plan = gemm.plan_of_packed(a.shape[0], k, m, a)
    there = moved(product, panels, {"source": plan.source, "together": plan.together})
    views = {**there.views, "f": (held,)}
    return replace(there, views=views, writes=[each for each in there.writes if each not in scratch])
