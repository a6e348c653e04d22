"""Random numbers on the device: of the same words as on the CPU, from the same counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from struct import Struct
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, placing
from fastnn.kernels.cuda.chain import Chain, Chains
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.formulas.random import normal_pair
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.random import NUMBERS
from fastnn.kernels.table.row import implements

# What words follow from, in the numbers of a launch.
COUNTERS = (Field("seed", "uint64"), Field("step", "unsigned"), Field("stream", "unsigned"))
# As they lie in a record.
COUNTED = Struct("=QII")

GIVEN = Structure(
    "Drawn",
    Field("n", "int64"),
    Field("c", "int64"),
    Field("y", "real*"),
    numbers=(Field("low", "real"), Field("scale", "real"), *COUNTERS),
)


@cache
def _before(dtype: str) -> str:
    formula = function("normal_pair", ("below", "above", "turn"), normal_pair, dtype)
    return f"{launch.header('philox.cuh')}{formula}"


def modules() -> Iterator[launch.Module]:
    """The one, of both dtypes."""
    for dtype in DTYPES:
        yield launch.Module(dtype, launch.text("random.cu", dtype, (GIVEN,), _before(dtype)))


def counters(structure: Structure, dtype: Any) -> dict[str, tuple[int, Any]]:
    """Options that are counters: of each, where it is among a launch's numbers, and its dtype there."""
    fields, span = structure.record(dtype).dtype.fields, structure.span(dtype)
    assert span is not None
    return {field.name: (fields[field.name][1] - span.offset, fields[field.name][0]) for field in COUNTERS}


def blocks(n: int, c: int) -> int:
    """Blocks of a launch that makes the words of n rows of c columns: a thread makes four."""
    return launch.blocks(n * -(-c // 64) * 16)


def _op(name: str) -> Planned:
    def plan(
        like: Any, seed: int, step: int = 0, stream: int = 0, *numbers: float, out: Any = None
    ) -> Callable[..., Any]:
        (n, c), dtype = like.shape, like.dtype
        place = placing(out, (n, c), dtype, ordered=True)
        if like.size == 0:
            return lambda like, *_, out=None: place(out)
        record = GIVEN.record(dtype)
        given = record[0]
        given["n"], given["c"], (given["low"], given["scale"]) = n, c, NUMBERS[name](*numbers)

        def build(chain: Chain, _: Any) -> None:
            entry = name.removeprefix("random_")
            kernel = launch.kernel("random.cu", entry, dtype.name, (GIVEN,), _before(dtype.name))
            chain.add(kernel, blocks(n, c), record, {"y": "y"}, ("seed", COUNTED.size))

        launches = Chains(("y",), build)

        def run(like: Any, seed: int, step: int = 0, stream: int = 0, *numbers: float, out: Any = None) -> Any:
            y = place(out)
            launches((y.data.ptr,), numbers=COUNTED.pack(seed, step, stream))
            return finish(y, out)

        return run

    return Planned(implements(name, plan))


random_uniform, random_normal = map(_op, NUMBERS)
