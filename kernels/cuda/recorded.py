"""Calls of a recorded step as those look at them who join several to one launch: who makes what, who else needs it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fastnn.kernels.graph import Block, Call, Range, View, hinder, range_of, views_of
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, NUMBERS
from fastnn.kernels.table.elementwise import FROM_INPUT

# What calls are named that stand for a part of one, or for parts of several: of a layer's way back dz = dy f'(s) and
# dx = dz @ w.T, gradients that are written, and steps by gradients that are not, also of rows of weights.
SLOPE, BACK = "activation's slope", "back to the input"
GRADIENTS, STEP = "gradients", "gradients and step"
ROWS_STEP = {False: "gradient and step", True: "gradient and step of rows with non-zeros"}

# Calls that clip gradients before a step, by value or by norms, and whether by that of all together.
BY_VALUE, BY_NORM = "clip by value", {"clip by norm": False, "clip by global norm": True}
CLIPPINGS = (BY_VALUE, *BY_NORM)

# What adds penalties to gradients and the loss.
PENALTIES = "penalties on weights"

# What a turn ends with: its results are put where they are wanted, and the next one's batches taken.
NEXT = "next turn"

# Activations of a row as a whole.
OF_ROWS = ("softmax", "log_softmax")

# All memory whose address is known: blocks of it may have some in common.
_KNOWN = Block(0)


@dataclass(frozen=True, eq=False)
class Origin:
    """A call, and the number of the one that was recorded which it is of."""

    call: Call
    number: int


def place_of(view: View) -> Range:
    """What is touched of a view; of memory whose address is known, by that."""
    block, low, high = range_of(view)
    assert block is not None
    return Range(_KNOWN, block.address + low, block.address + high) if block.address else Range(block, low, high)


def touched(call: Call) -> tuple[list[Range], list[Range]]:
    """What a call reads, and what it writes."""
    return [*map(place_of, call.views())], [*map(place_of, (*call.writes, *views_of(call.results)))]


def is_written(view: View, calls: Sequence[Origin]) -> bool:
    """Whether one of these calls makes it, or writes over it."""
    place = [place_of(view)]
    return any(hinder((), touched(each.call)[1], place, ()) for each in calls)


def made_by(calls: Sequence[Origin], op: str, result: View) -> Origin | None:
    """The call of an op that gives this, in a new array."""
    found = (each for each in calls if each.call.op == op and each.call.results[:1] == (result,))
    return next((each for each in found if each.call.given.get("out") is None), None)


def passes(calls: Sequence[Origin], view: View, kept: Collection[Block], *both: Origin) -> bool:
    """Whether a result is one call's and another's alone."""
    touching = [each for each in calls if view.block in each.call.touched()]
    return touching == [*both] and view.block.inner and view.block not in kept


class Slope(NamedTuple):
    """dy f'(s) of an activation, with its numbers."""

    dy: View
    s: View
    activation: str
    numbers: tuple[float, ...] = ()

    @property
    def of_rows(self) -> bool:
        """Whether a row has it as a whole."""
        return self.activation in OF_ROWS


def numbers_of(call: Call, activation: str) -> tuple[float, ...] | None:
    """The numbers of a call that is an activation's of matrices, or its derivative's, in a new array; else None.

    They are the same each time.
    """
    given = call.given
    if activation not in ELEMENTWISE_ACTIVATIONS or activation == "linear" or given["out"] is not None:
        return None
    numbers = tuple(given[name] for name in NUMBERS[activation])
    fixed = all(isinstance(number, (int, float)) for number in numbers)
    return numbers if fixed and isinstance(given["x"], View) and given["x"].ndim == 2 else None


def slope_of(call: Call) -> Slope | None:
    """What a call calculates, if it is that."""
    given, name = call.given, call.op.removesuffix("_backward")
    if call.op == SLOPE:
        name = ELEMENTWISE_ACTIVATIONS.get(given["activation"], given["activation"])
        return Slope(given["dy"], given["s"], name, tuple(NUMBERS.get(name, {}).values()))
    if name == call.op:
        return None
    if name in OF_ROWS:
        return Slope(given["dy"], given["y"], name) if given["out"] is None and given["dy"].ndim == 2 else None
    numbers = numbers_of(call, name)
    if numbers is None:
        return None
    return Slope(given["dy"], given["x" if name in FROM_INPUT else "y"], ELEMENTWISE_ACTIVATIONS[name], numbers)
