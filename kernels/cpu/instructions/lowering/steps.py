"""Instructions of optimizers' steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any

from fastnn.kernels.cpu import optim
from fastnn.kernels.cpu.instructions.lowering.instructions import Lowering, apart, numbers_by
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS, Step
from fastnn.kernels.graph import Call, Figure, range_of
from fastnn.kernels.table import TABLE, Op
from fastnn.kernels.table.optim import chosen


def lower_step(to: Lowering, call: Call) -> None:
    """A step of one parameter, or of all in lists of them."""
    op, lists = TABLE[call.op], [name for name, value in call.given.items() if isinstance(value, (list, tuple))]
    for each in zip(*(call.given[name] for name in lists), strict=True) if lists else [()]:
        update(to, op, {**call.given, **dict(zip(lists, each, strict=True))})


def update(to: Lowering, op: Op, given: Mapping[str, Any]) -> None:
    """A step of one parameter."""
    name, names = chosen(op, given)
    arrays = [given[operand] for operand in names]
    to.plain(*arrays)
    for written, other in permutations(arrays, 2):
        apart(written, other)
    w, dw, *states = arrays
    sizes: dict[str, Any] = {"code": STEP_CODES[name], "n": w.size, "numbers": hyper(to, STEPS[name], op, given)}
    to.add(Kind.UPDATE, optim.nanoseconds(w.size), reads={"b": dw}, writes={"a": w}, **sizes)
    made = to.instructions[-1]
    made.views = {**made.views, "c": tuple(states)}
    made.rests, made.rho = _rest(to, STEPS[name], given)
    made.writes += [range_of(state) for state in states]


def _rest(to: Lowering, step: Step, given: Mapping[str, Any]) -> tuple[bool, int | None]:
    """Whether weights without a gradient rest, and where rho is among the step's numbers, if it is.

    The same at every turn; and no state, a 0 among them, may turn the step into what is no number.
    """
    same = all(not isinstance(given[name], Figure) for name in ("rho", "epsilon") if name in step.hyper)
    finite = "epsilon" not in step.hyper or (same and to.dtype.type(given["epsilon"]) > 0)
    return step.lazy and same and finite, step.hyper.index("rho") if "rho" in step.hyper else None


def hyper(to: Lowering, step: Step, op: Op, given: Mapping[str, Any]) -> int:
    """Where a step's hyper-parameters stand."""
    options = {name: given[name] for name in op.options}

    def make(value: Callable[[Any], Any]) -> Sequence[Any]:
        return step.numbers({name: value(option) for name, option in options.items()})

    return numbers_by(to, id(step), options, len(step.hyper), make)
