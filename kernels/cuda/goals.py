"""Targets that a recorded step makes of others, number by number: C++ for the launch of their loss.

Smoothed labels are such, and signs of a hinge loss, which look at the largest of all numbers first: each block of the
launch finds that for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.cuda.recorded import Origin, is_written
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.formulas.pairs import PAIRS
from fastnn.kernels.graph import Block, Call, Figure, View

# Arrays of one number, and numbers of the step, that targets are made with at most.
MOST_CONSTANTS, MOST_CHOSEN = 4, 2

# Targets of which each block looks at all: there are as many blocks as units of these. Unmeasured.
_MOST_LOOKED_AT = 1 << 15

_LARGEST = "sequence_max"
_FORMULAS: Mapping[str, Callable[..., Any]] = {
    **PAIRS,
    **{name: entry.forward for name, entry in ACTIVATIONS.items() if not entry.numbers},
    "scaled": lambda v, x, factor: v.mul(x, factor),
}

# What a step of a formula takes: a kind of ``_NAMES``, or another step, and its place.
_Operand = tuple[str, int]
_TARGET, _TOP = ("target", 0), ("top", 0)


@dataclass(frozen=True)
class Goals:
    """How targets are made: by ``steps`` of a formula, of which the last one gives them, or as they are.

    Where one takes the ``top``, that is the largest number of what this operand says.
    """

    steps: tuple[tuple[str, tuple[_Operand, ...]], ...] = ()
    top: _Operand | None = None

    def before(self, dtype: str) -> str:
        """C++ of ``goals_of(given, chosen, count)``, of so many targets, and of ``goal_of`` these, which takes one."""
        taken = {each for _, operands in self.steps for each in operands}
        constants = [f"*given.constants[{place}]" if ("constant", place) in taken else "0" for place in _CONSTANTS]
        numbers = [f"chosen.goals[{place}]" for place in _NUMBERS]
        parts = [_GOALS, _of("goal", self, ("step", len(self.steps) - 1), dtype) if self.steps else _AS_IT_IS]
        parts += [] if self.top is None else [_of("looked_at", self, self.top, dtype)]
        found = _LARGEST_OF if self.top is not None else ""
        return "".join([*parts, _GOALS_OF.format(", ".join(constants), ", ".join(numbers), found)])

    def value(self, v: Any, operand: _Operand, made: dict[_Operand, Any]) -> Any:
        """What an operand is, by the steps that it needs."""
        kind, place = operand
        if kind != "step":
            return _NAMES[kind].format(place)
        if operand not in made:
            name, operands = self.steps[place]
            made[operand] = _FORMULAS[name](v, *[self.value(v, each, made) for each in operands])
        return made[operand]


AS_THEY_ARE = Goals()
# Some that take all that there is, for the compile gate.
LOOKED_AT = Goals((("scaled", (_TARGET, ("number", 0))), ("multiply", (_TOP, ("constant", 0))),
                   ("add", (("step", 0), ("step", 1)))), ("step", 0))  # fmt: skip

_CONSTANTS, _NUMBERS = range(MOST_CONSTANTS), range(MOST_CHOSEN)
# What operands are called in C++, and where a launch has them.
_NAMES = {"target": "t", "top": "top", "constant": "constant_{}", "number": "number_{}"}
_HELD = {"top": "goals.top"}
_HELD |= {_NAMES["constant"].format(place): f"goals.constants[{place}]" for place in _CONSTANTS}
_HELD |= {_NAMES["number"].format(place): f"goals.numbers[{place}]" for place in _NUMBERS}

_GOALS = f"struct Goals {{\n    real constants[{MOST_CONSTANTS}], numbers[{MOST_CHOSEN}], top;\n}};\n"
_AS_IT_IS = "FUNCTION real goal_of(const Goals&, real t) { return t; }\n"
_GOALS_OF = """\
template <class Given, class Numbers>
FUNCTION Goals goals_of([[maybe_unused]] const Given& given, const Numbers& chosen, [[maybe_unused]] int64 count) {{
    Goals goals = {{{{{}}}, {{{}}}, 0}};
{}    return goals;
}}
"""
_LARGEST_OF = """\
    real most = -INFINITY;
    for (int64 i = threadIdx.x; i < count; i += BLOCK) {
        const real own = looked_at_of(goals, given.target[i]);
        most = own > most || own != own ? own : most;
    }
    goals.top = largest<BLOCK>(most);
"""


def _of(name: str, goals: Goals, operand: _Operand, dtype: str) -> str:
    """C++ of what an operand is of a target: ``NAME_of(goals, t)``."""
    formula = function(name, ["t", *_HELD], lambda v, *_: goals.value(v, operand, {}), dtype)
    given = ", ".join(["t", *_HELD.values(), "&result"])
    head = f"FUNCTION real {name}_of(const Goals& goals, real t) {{"
    return f"{formula}{head}\n    real result;\n    {name}({given});\n    return result;\n}}\n"


class Source(NamedTuple):
    """What targets are made of: others, arrays of one number, and numbers; by these calls, which nobody else needs."""

    goals: Goals
    targets: View
    constants: list[View]
    numbers: list[Figure]
    calls: list[Origin]


def source_of(calls: Sequence[Origin], loss: Origin, targets: View, kept: Collection[Block]) -> Source | None:
    """What a loss's targets are made of, where they are made number by number, for it alone."""
    if targets.size <= 1:
        return None
    before = calls[: calls.index(loss)]
    makers = _makers(before, targets)
    if not makers or not _are_own(makers, calls, loss, targets, kept):
        return None
    made = {each.call.results[0].block for each in makers}
    read = [view for each in makers for view in each.call.views() if view.block not in made]
    others = [*dict.fromkeys(view for view in read if view.size > 1)]
    constants = [*dict.fromkeys(view for view in read if view.size == 1)]
    if len(others) != 1 or others[0].shape != targets.shape or not others[0].contiguous:
        return None
    between = before[before.index(makers[0]) :]
    if any(view.dtype != targets.dtype or is_written(view, between) for view in (*others, *constants)):
        return None
    numbers = [*dict.fromkeys(each for one in makers for each in one.call.given.values() if isinstance(each, Figure))]
    if len(constants) > MOST_CONSTANTS or len(numbers) > MOST_CHOSEN:
        return None
    goals = _goals(makers, others[0], constants, numbers)
    return None if goals is None else Source(goals, others[0], constants, numbers, makers)


def _makers(before: Sequence[Origin], targets: View) -> list[Origin]:
    """The calls that targets come of number by number, in their order."""
    wanted, found = {targets.block}, list[Origin]()
    for each in reversed(before):
        if _is_step(each.call, targets) and each.call.results[0].block in wanted:
            wanted |= {view.block for view in each.call.views()}
            found.append(each)
    return found[::-1]


def _is_step(call: Call, targets: View) -> bool:
    """Whether a call makes an array, like the targets or of one number, by a formula, or finds the largest number."""
    known = call.op in _FORMULAS or call.op == _LARGEST
    if not known or call.writes or call.given.get("out") is not None or len(call.results) != 1:
        return False
    if call.op == _LARGEST and (call.given["mask"] is not None or targets.size > _MOST_LOOKED_AT):
        return False
    if any(isinstance(each, Figure) and not each.early for each in call.given.values()):
        return False
    views = (*call.views(), *call.results)
    return all(view.contiguous and view.size in (1, targets.size) for view in views)


def _are_own(
    makers: Sequence[Origin], calls: Sequence[Origin], loss: Origin, targets: View, kept: Collection[Block]
) -> bool:
    """Whether nobody but these, and the loss for its targets, needs what they make."""
    made = {each.call.results[0].block for each in makers}
    if any(not block.inner or block in kept for block in made):
        return False
    if [view for view in loss.call.views() if view.block in made] != [targets]:
        return False
    return not any(made & set(each.call.touched()) for each in calls if each is not loss and each not in makers)


def _goals(
    makers: Sequence[Origin], targets: View, constants: Sequence[View], numbers: Sequence[Figure]
) -> Goals | None:
    """The formula; None where it looks at the largest number of what it knows by such a one, or of one number."""
    known: dict[Any, _Operand] = {targets: _TARGET}
    known |= {view: ("constant", place) for place, view in enumerate(constants)}
    known |= {number: ("number", place) for place, number in enumerate(numbers)}
    top, steps = None, list[tuple[str, tuple[_Operand, ...]]]()
    for each in makers:
        taken = [value for value in each.call.given.values() if isinstance(value, (View, Figure))]
        operands = tuple(known.get(value) or known[value.block] for value in taken)
        block = each.call.results[0].block
        if each.call.op != _LARGEST:
            known[block] = "step", len(steps)
            steps.append((each.call.op, operands))
        elif top is None and taken[0].size > 1:
            known[block], top = _TOP, operands[0]
        else:
            return None
    return Goals(tuple(steps), top)
