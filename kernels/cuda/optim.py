"""Optimizer steps on the device: of one parameter, or of all in lists by one launch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, combinations, pairwise
from itertools import chain as chain_of
from itertools import product as product_of
from operator import attrgetter, itemgetter
from struct import Struct
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import WIDE, address, in_order, is_in_order, like, overlap, reach
from fastnn.kernels.cuda.chain import Chain, Chains, Launches
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES, TABLE, Op
from fastnn.kernels.table.optim import chosen, hyper_of
from fastnn.kernels.table.row import implements

flattened = chain_of.from_iterable

# Parameters of a launch: what a kernel is given by value has room for 4 KB.
_AT_ONCE = 56
# What of an array a step of lists is planned for, beside the device.
_LIKENESS = attrgetter("dtype", "shape", "strides")
_DATA, _DEVICE, _ADDRESS = attrgetter("data"), attrgetter("device_id"), attrgetter("ptr")

PARTS = 2 + max(len(step.states) for step in STEPS.values())
_HYPER = max(len(step.hyper) for step in STEPS.values())

STEPS_GIVEN = Structure(
    "Steps",
    Field("count", "int"),
    Field("packs", "int64", (_AT_ONCE + 1,)),
    Field("sizes", "int64", (_AT_ONCE,)),
    Field("aligned", "char", (_AT_ONCE,)),
    Field("arrays", "real*", (_AT_ONCE, PARTS)),
    numbers=(Field("numbers", "real", (_HYPER,)),),
)


def formula(name: str, dtype: str) -> str:
    """A step as C++ that defines STATES and STEP, and the header that wants them."""
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
        f"{launch.header('optim.cuh')}"
    )


def modules() -> Iterator[launch.Module]:
    """Every step."""
    for name, dtype in product_of(STEPS, DTYPES):
        yield launch.Module(f"{name} {dtype}", launch.text("optim.cu", dtype, (STEPS_GIVEN,), formula(name, dtype)))


def packing(name: str, dtype: Any) -> Callable[[Sequence[float]], bytes]:
    """What makes, of a step's hyper-parameters, bytes as kernels take them."""
    pack = Struct(f"{len(STEPS[name].hyper)}{dtype.char}").pack
    return lambda hyper: pack(*hyper)


def _stepping(name: str, parameters: Sequence[Sequence[Any]]) -> Chains:
    """What steps parameters like these, each its arrays w, dw and states, in C order, in as few launches as can be.

    It is given the arrays' addresses one after the other, and as numbers the step's hyper-parameters.
    """
    names = [[f"{number} {part}" for part in range(len(arrays))] for number, arrays in enumerate(parameters)]

    def build(chain: Chain, _: Any) -> None:
        for first in range(0, len(parameters), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            add_to(chain, name, parameters[some], names[some])

    return Chains([*flattened(names)], build)


def add_to(chain: Chain, name: str, parameters: Sequence[Sequence[Any]], names: Sequence[Sequence[str]]) -> None:
    """Step so many parameters as a record has room for in a chain, whose arrays have these names."""
    dtype, count = parameters[0][0].dtype, len(parameters)
    record, size = STEPS_GIVEN.record(dtype), WIDE // dtype.itemsize
    given = record[0]
    given["count"] = count
    given["aligned"][:count] = [all(map(chain.is_aligned, each)) for each in names]
    given["sizes"][:count] = [math.prod(arrays[0].shape) for arrays in parameters]
    given["packs"][: count + 1] = [0, *accumulate(-(-int(numbers) // size) for numbers in given["sizes"][:count])]
    threads = int(given["packs"][count])
    if threads:
        kernel = launch.kernel("optim.cu", "step", dtype.name, (STEPS_GIVEN,), formula(name, dtype.name))
        pointers = {"arrays": [*flattened([*each, *[""] * (PARTS - len(each))] for each in names)]}
        hyper = ("numbers", len(STEPS[name].hyper) * dtype.itemsize)
        chain.add(kernel, launch.blocks(threads), record, pointers, hyper)


def _stepped(name: str, hyper: bytes, parameters: Sequence[Sequence[Any]]) -> None:
    """A step of arrays of any strides: of what is not in C order a copy is stepped, and written back."""
    ordered = [[in_order(array) for array in arrays] for arrays in parameters]
    _stepping(name, ordered)(tuple(map(address, flattened(ordered))), numbers=hyper)
    for arrays, copies in zip(parameters, ordered, strict=True):
        for place, (array, copy) in enumerate(zip(arrays, copies, strict=True)):
            if copy is not array and place != 1:
                array[...] = copy


def of_one(name: str, arrays: Sequence[Any]) -> Callable[[bytes, Sequence[Any]], None]:
    """What steps one parameter, by packed numbers and its arrays w, dw and states, which are like these."""
    if not all(map(is_in_order, arrays)):
        return lambda numbers, arrays: _stepped(name, numbers, [arrays])
    step = _stepping(name, [[*map(like, arrays)]])
    return lambda numbers, arrays: step(tuple([array.data.ptr for array in arrays]), numbers=numbers)


def _apart(parameters: Sequence[Sequence[Any]]) -> bool:
    """Whether no parameter's step writes what another's reads or writes."""
    return not any(
        (i != 1 or j != 1) and overlap(a, b)
        for one, other in combinations(parameters, 2)
        for i, a in enumerate(one)
        for j, b in enumerate(other)
    )


def _described(op: Op, arguments: Sequence[Any]) -> tuple[str, Callable[..., Any], Callable[..., bytes]]:
    """The step's name, what picks its arrays from the op's arguments, and what gives its packed hyper-parameters."""
    names = list(op.signature.parameters)
    given = dict(zip(names, arguments, strict=True))
    name, arrays = chosen(op, given)
    dtype = (given["w"][0] if isinstance(given["w"], (list, tuple)) else given["w"]).dtype
    return name, itemgetter(*map(names.index, arrays)), hyper_of(name, op, given, packing(name, dtype))


class Steps(Planned):
    """An optimizer's op, which takes lists as well."""

    def __init__(self, op: Op) -> None:
        def plan(*arguments: Any) -> Callable[..., None]:
            name, pick, hyper = _described(op, arguments)
            step = of_one(name, pick(arguments))
            return lambda *arguments: step(hyper(*arguments), pick(arguments))

        super().__init__(implements(op.name, plan))
        self._op = op

    def plan_lists(self, *arguments: Any) -> Callable[..., bool]:
        """What steps all parameters of lists like these at once, and says whether it did: they may be others' by then.

        Then nothing is written.
        """
        name, pick, hyper = _described(self._op, arguments)
        parameters = [*zip(*pick(arguments), strict=True)]
        arrays, device = [*flattened(parameters)], launch.surroundings()[0]
        wanted, reaches = [*map(_LIKENESS, arrays)], [*map(reach, arrays)]
        ordered = all(array.flags.c_contiguous for array in arrays)
        step = _stepping(name, [[*map(like, each)] for each in parameters]) if ordered else None
        ready: dict[Any, Launches] = {}  # of arrays that share no memory, by their addresses

        def run(*arguments: Any) -> bool:
            arrays = [*flattened(zip(*pick(arguments), strict=True))]
            addresses = _addresses_of(arrays, wanted, device)
            if addresses is None or launch.surroundings()[0] != device:
                return False
            numbers, made = hyper(*arguments), ready.get(addresses)
            if made is None and step is not None and _meet_nowhere(addresses, reaches):
                made = launch.known(ready, addresses, partial(step.of, addresses))
            if made is not None:
                made(addresses, (), numbers)
                return True
            parameters = [*zip(*pick(arguments), strict=True)]
            if not (_meet_nowhere(addresses, reaches) or _apart(parameters)):  # one after the other, as they were given
                for each in parameters:
                    _stepped(name, numbers, [each])
            elif step is None:
                _stepped(name, numbers, parameters)
            else:
                step(addresses, numbers=numbers)
            return True

        return run


def _meet_nowhere(addresses: Sequence[int], reaches: Sequence[tuple[int, int]]) -> bool:
    """Whether no two arrays share memory: nearly always so, and sooner told than which of them do."""
    spans = sorted((at + low, at + high) for at, (low, high) in zip(addresses, reaches, strict=True))
    return all(high <= low for (_, high), (low, _) in pairwise(spans))


def _addresses_of(arrays: Sequence[Any], wanted: Sequence[Any], device: int) -> tuple[int, ...] | None:
    """Where they are, if they are arrays of this likeness on this device."""
    try:
        places = [*map(_DATA, arrays)]
        alike = [*map(_LIKENESS, arrays)] == wanted and {*map(_DEVICE, places)} == {device}
        return tuple(map(_ADDRESS, places)) if alike else None
    except AttributeError:
        return None


globals().update({name: Steps(op) for name, op in TABLE.items() if op.module == "optim"})
