"""Optimizer steps on the device: of one parameter, or of all in lists by one launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import accumulate, chain, combinations, pairwise
from itertools import product as product_of
from operator import attrgetter, itemgetter, or_
from struct import Struct, pack_into
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import WIDE, address, in_order, overlap, reach
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES, TABLE, Op
from fastnn.kernels.table.optim import chosen, hyper_of
from fastnn.kernels.table.row import implements

# Parameters of a launch: what a kernel is given by value has room for 4 KB.
_AT_ONCE = 56
# What of an array a step of lists is planned for.
_LIKENESS = attrgetter("dtype", "shape", "strides", "data.device_id")

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


def _stepping(name: str, parameters: Sequence[Sequence[Any]]) -> Callable[[Sequence[float], Sequence[int]], None]:
    """What steps parameters like these, each its arrays w, dw and states, in C order, in as few launches as can be.

    It is given the step's hyper-parameters, and the arrays' addresses one after the other.
    """
    if len(parameters) == 1:
        return _stepping_one(name, parameters[0])
    dtype, parts = parameters[0][0].dtype, len(parameters[0])
    starts = range(0, len(parameters), _AT_ONCE)
    launches = [(first, _launch(name, parameters[first : first + _AT_ONCE])) for first in starts]
    offsets = {field: STEPS_GIVEN.record(dtype).dtype.fields[field][1] for field in ("numbers", "aligned")}
    write_hyper = Struct(f"{len(STEPS[name].hyper)}{dtype.char}").pack_into
    none = (0,) * (PARTS - parts)

    def run(hyper: Sequence[float], addresses: Sequence[int]) -> None:
        each = [(*addresses[at : at + parts], *none) for at in range(0, len(addresses), parts)]
        shifted = any(start % WIDE for start in addresses)
        for first, launch_ in launches:
            if launch_ is None:
                continue
            record, given = launch_.template.copy(), each[first : first + _AT_ONCE]
            write_hyper(record, offsets["numbers"], *hyper)
            if shifted:
                flags = [not any(start % WIDE for start in some) for some in given]
                pack_into(f"{len(flags)}?", record, offsets["aligned"], *flags)
            launch_.on(launch_.template.filled(chain.from_iterable(given), record))

    return run


def _stepping_one(name: str, arrays: Sequence[Any]) -> Callable[[Sequence[float], Sequence[int]], None]:
    """The same of one parameter, without what many of them take."""
    launch_ = _launch(name, [arrays])
    if launch_ is None:
        return lambda hyper, addresses: None
    dtype, fields = arrays[0].dtype, STEPS_GIVEN.record(arrays[0].dtype).dtype.fields
    at_hyper, at_aligned = fields["numbers"][1], fields["aligned"][1]
    write_hyper, template = Struct(f"{len(STEPS[name].hyper)}{dtype.char}").pack_into, launch_.template
    none = (0,) * (PARTS - len(arrays))

    def run(hyper: Sequence[float], addresses: Sequence[int]) -> None:
        record = template.copy()
        write_hyper(record, at_hyper, *hyper)
        template.write(record, template.offset, *addresses, *none)
        if reduce(or_, addresses) % WIDE:
            pack_into("?", record, at_aligned, False)
        launch_.on(record)

    return run


def _launch(name: str, parameters: Sequence[Sequence[Any]]) -> launch.Launch | None:
    """That of so many parameters as a record has room for; None where they have no numbers."""
    dtype, count = parameters[0][0].dtype, len(parameters)
    record, size = STEPS_GIVEN.record(dtype), WIDE // dtype.itemsize
    given = record[0]
    given["count"], given["aligned"] = count, 1
    given["sizes"][:count] = [arrays[0].size for arrays in parameters]
    given["packs"][: count + 1] = [0, *accumulate(-(-arrays[0].size // size) for arrays in parameters)]
    threads = int(given["packs"][count])
    if not threads:
        return None
    kernel = launch.kernel("optim.cu", "step", dtype.name, (STEPS_GIVEN,), formula(name, dtype.name))
    return launch.Launch(kernel, launch.blocks(threads), record, "arrays", count * PARTS)


def _stepped(name: str, hyper: Sequence[float], parameters: Sequence[Sequence[Any]]) -> None:
    """A step of arrays of any strides: of what is not in C order a copy is stepped, and written back."""
    ordered = [[in_order(array) for array in arrays] for arrays in parameters]
    _stepping(name, ordered)(hyper, [*map(address, chain.from_iterable(ordered))])
    for arrays, copies in zip(parameters, ordered, strict=True):
        for place, (array, copy) in enumerate(zip(arrays, copies, strict=True)):
            if copy is not array and place != 1:
                array[...] = copy


def of_one(name: str, arrays: Sequence[Any]) -> Callable[[Sequence[float], Sequence[Any]], None]:
    """What steps one parameter, by numbers and its arrays w, dw and states, which are like these."""
    if not all(array.flags.c_contiguous for array in arrays):
        return lambda numbers, arrays: _stepped(name, numbers, [arrays])
    step = _stepping(name, [arrays])
    return lambda numbers, arrays: step(numbers, [array.data.ptr for array in arrays])


def _apart(parameters: Sequence[Sequence[Any]]) -> bool:
    """Whether no parameter's step writes what another's reads or writes."""
    return not any(
        (i != 1 or j != 1) and overlap(a, b)
        for one, other in combinations(parameters, 2)
        for i, a in enumerate(one)
        for j, b in enumerate(other)
    )


def _described(op: Op, arguments: Sequence[Any]) -> tuple[str, Callable[..., Any], Callable[..., Sequence[float]]]:
    """The step's name, what picks its arrays from the op's arguments, and what gives its hyper-parameters."""
    names = list(op.signature.parameters)
    given = dict(zip(names, arguments, strict=True))
    name, arrays = chosen(op, given)
    return name, itemgetter(*map(names.index, arrays)), hyper_of(name, op, given, tuple)


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
        arrays, device = [*chain.from_iterable(parameters)], launch.surroundings()[0]
        wanted, reaches = [*map(_LIKENESS, arrays)], [*map(reach, arrays)]
        ordered = all(array.flags.c_contiguous for array in arrays)
        step = _stepping(name, parameters) if ordered else None

        def run(*arguments: Any) -> bool:
            parameters = [*zip(*pick(arguments), strict=True)]
            arrays = [*chain.from_iterable(parameters)]
            if not _are_alike(arrays, wanted) or launch.surroundings()[0] != device:
                return False
            numbers, addresses = hyper(*arguments), [array.data.ptr for array in arrays]
            if not (_meet_nowhere(addresses, reaches) or _apart(parameters)):  # one after the other, as they were given
                for each in parameters:
                    _stepped(name, numbers, [each])
            elif step is None:
                _stepped(name, numbers, parameters)
            else:
                step(numbers, addresses)
            return True

        return run


def _meet_nowhere(addresses: Sequence[int], reaches: Sequence[tuple[int, int]]) -> bool:
    """Whether no two arrays share memory: nearly always so, and sooner told than which of them do."""
    spans = sorted((at + low, at + high) for at, (low, high) in zip(addresses, reaches, strict=True))
    return all(high <= low for (_, high), (low, _) in pairwise(spans))


def _are_alike(arrays: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Whether they are device arrays of this likeness."""
    try:
        return [*map(_LIKENESS, arrays)] == wanted
    except AttributeError:
        return False


globals().update({name: Steps(op) for name, op in TABLE.items() if op.module == "optim"})
