"""Optimizer steps on the device: of one parameter, or of all in lists by one launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, combinations
from itertools import product as product_of
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import WIDE, address, in_order, overlap
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.formulas.steps import STEPS, step_name
from fastnn.kernels.table import DTYPES, TABLE, Op
from fastnn.kernels.table.row import implements

# Parameters of a launch: what a kernel is given by value has room for 4 KB.
_AT_ONCE = 56
_PARTS = 2 + max(len(step.states) for step in STEPS.values())
_HYPER = max(len(step.hyper) for step in STEPS.values())

STEPS_GIVEN = Structure(
    "Steps",
    Field("count", "int"),
    Field("hyper", "real", (_HYPER,)),
    Field("packs", "int64", (_AT_ONCE + 1,)),
    Field("sizes", "int64", (_AT_ONCE,)),
    Field("aligned", "char", (_AT_ONCE,)),
    Field("arrays", "real*", (_AT_ONCE, _PARTS)),
)


def formula(name: str, dtype: str) -> str:
    """A step as C++ that defines STATES and STEP."""
    step = STEPS[name]
    count, states = len(step.hyper), len(step.states)
    values = (*(f"h_{each}" for each in step.hyper), "w", "g", *(f"s_{each}" for each in step.states))

    def update(v: Any, *given: Any) -> Sequence[Any]:
        return step.update(v, given[:count], *given[count:])

    held = ", ".join(f"s[{part}]" for part in range(states))
    read = ", ".join([*(f"h[{place}]" for place in range(count)), "w", "g", *([held] if held else [])])
    written = ", ".join(["&w", *(f"&s[{part}]" for part in range(states))])
    return (
        f"{function('formula', values, update, dtype)}"
        f"#define STATES {states}\n#define STEP(h, w, g, s) formula({read}, {written})\n"
    )


def modules() -> Iterator[launch.Module]:
    """Every step."""
    for name, dtype in product_of(STEPS, DTYPES):
        yield launch.Module(f"{name} {dtype}", launch.text("optim.cu", dtype, (STEPS_GIVEN,), formula(name, dtype)))


def chosen(op: Op, given: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The name of the step that an op does with these arguments, and those that are its arrays: w, dw, its states."""
    states = [operand for operand in op.operands if operand not in ("w", "dw") and given[operand] is not None]
    name = step_name(op.name, states, given)
    return name, ["w", "dw", *STEPS[name].states]


def _launch(name: str, hyper: Sequence[float], parameters: Sequence[Sequence[Any]]) -> None:
    """One step on so many parameters, each its arrays w, dw and states, in C order."""
    dtype = parameters[0][0].dtype
    record, size = STEPS_GIVEN.record(dtype), WIDE // dtype.itemsize
    given, count = record[0], len(parameters)
    given["count"] = count
    given["hyper"][: len(hyper)] = hyper
    given["sizes"][:count] = [arrays[0].size for arrays in parameters]
    given["packs"][: count + 1] = [0, *accumulate(-(-arrays[0].size // size) for arrays in parameters)]
    for place, arrays in enumerate(parameters):
        starts = [address(array) for array in arrays]
        given["aligned"][place] = not any(start % WIDE for start in starts)
        given["arrays"][place, : len(starts)] = starts
    threads = int(given["packs"][count])
    if threads:
        kernel = launch.kernel("optim.cu", "step", dtype.name, (STEPS_GIVEN,), formula(name, dtype.name))
        kernel((launch.blocks(threads),), (launch.THREADS,), (record,))


def _stepped(name: str, hyper: Sequence[float], parameters: Sequence[Sequence[Any]]) -> None:
    """The same for arrays of any strides: of what is not in C order a copy is stepped, and written back."""
    ordered = [[in_order(array) for array in arrays] for arrays in parameters]
    for first in range(0, len(ordered), _AT_ONCE):
        _launch(name, hyper, ordered[first : first + _AT_ONCE])
    for arrays, copies in zip(parameters, ordered, strict=True):
        for place, (array, copy) in enumerate(zip(arrays, copies, strict=True)):
            if copy is not array and place != 1:
                array[...] = copy


def _apart(parameters: Sequence[Sequence[Any]]) -> bool:
    """Whether no parameter's step writes what another's reads or writes."""
    return not any(
        (i != 1 or j != 1) and overlap(a, b)
        for one, other in combinations(parameters, 2)
        for i, a in enumerate(one)
        for j, b in enumerate(other)
    )


def _step(op: Op) -> Callable[..., None]:
    names = list(op.signature.parameters)

    def run(*arguments: Any) -> None:
        given = dict(zip(names, arguments, strict=True))
        name, arrays = chosen(op, given)
        _stepped(name, STEPS[name].numbers(given), [[given[each] for each in arrays]])

    def lists(*arguments: Any) -> bool:
        given = dict(zip(names, arguments, strict=True))
        name, arrays = chosen(op, given)
        parameters = [*zip(*(given[each] for each in arrays), strict=True)]
        hyper = STEPS[name].numbers({**given})
        if _apart(parameters):
            _stepped(name, hyper, parameters)
        else:  # one after the other, as they were given
            for each in parameters:
                _stepped(name, hyper, [each])
        return True

    run.plan_lists = lambda *arguments: lists  # type: ignore[attr-defined]
    return implements(op.name, run)


globals().update({name: _step(op) for name, op in TABLE.items() if op.module == "optim"})
