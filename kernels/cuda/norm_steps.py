"""Steps of all parameters by one launch, by gradients clipped by their norms, of which partial sums are there.

Those are ``steps.gradients``', a few for each parameter. The launch may end a turn over batches of data as well, see
``batches.py``: weights are not what a batch is read for, so that nothing of both has to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from fastnn.kernels.cuda import batches, launch, optim
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import WIDE, address
from fastnn.kernels.cuda.epilogues import STEP_NUMBERS
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.table import DTYPES

# Parameters of a launch: what a kernel is given by value has room for 4 KB.
_AT_ONCE = 32

NORM_STEPS = Structure(
    "NormSteps",
    *batches.TURN,
    *(Field(name, "int") for name in ("count", "blocks")),
    Field("together", "int64"),
    Field("limit", "double"),
    Field("squares", "const double*"),
    Field("packs", "int64", (_AT_ONCE + 1,)),
    Field("sizes", "int64", (_AT_ONCE,)),
    Field("tiles", "int", (_AT_ONCE + 1,)),
    *(Field(name, "char", (_AT_ONCE,)) for name in ("aligned", "decays")),
    Field("arrays", "real*", (_AT_ONCE, optim.PARTS)),
    numbers=(Field("numbers", "real", (STEP_NUMBERS,)),),
)


def _before(name: str, dtype: str, decays: bool) -> str:
    sizes = {"AT_ONCE": _AT_ONCE, "HYPER": len(STEPS[name].hyper), "DECAYS": int(decays)}
    defined = "".join(f"#define {size} {value}\n" for size, value in sizes.items())
    return defined + optim.formula(name, dtype) + launch.header("batches.cuh")


def modules() -> Iterator[launch.Module]:
    """The step that takes most."""
    for dtype in DTYPES:
        text = launch.text("norm_steps.cu", dtype, (NORM_STEPS,), _before("amsgrad", dtype, True))
        yield launch.Module(f"norm_steps {dtype}", text)


def step(
    name: str,
    parameters: Sequence[Sequence[Any]],
    squares: Any,
    tiles: Sequence[int],
    limit: float,
    numbers: Sequence[float],
    *,
    together: bool = False,
    left: float | None = None,
    decays: Sequence[bool] = (),
    turn: Callable[[Any], int] | None = None,
) -> None:
    """The step of this name, with these numbers, of all parameters: their arrays w, dw and states, in C order.

    ``squares`` of parameter p are the numbers ``tiles[p]`` to ``tiles[p + 1] - 1``. Norms above the limit are clipped,
    each by itself or all ``together``. ``left`` is the share of weights which is left before the step, of those that do
    ``decay``. ``turn`` describes the end of a turn, and says how many threads have something to do there.
    """
    dtype = parameters[0][0].dtype
    given = [*numbers, *([] if left is None else [left])]
    kernel = launch.kernel(
        "norm_steps.cu", "norm_steps", dtype.name, (NORM_STEPS,), _before(name, dtype.name, left is not None)
    )
    for first in range(0, len(parameters), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        record = NORM_STEPS.record(dtype)
        one = record[0]
        one["numbers"][: len(given)] = given
        one["limit"], one["squares"], one["together"] = limit, address(squares), tiles[-1] if together else 0
        threads = _describe(one, parameters[some], tiles[first : first + _AT_ONCE + 1])
        one["decays"][: len(decays[some])] = decays[some]
        one["blocks"] = blocks = launch.blocks(threads)
        if turn is not None and first + _AT_ONCE >= len(parameters):
            blocks += launch.blocks(turn(one))
        kernel((blocks,), launch.BLOCK, (record,))


def _describe(given: Any, parameters: Sequence[Sequence[Any]], tiles: Sequence[int]) -> int:
    """Parameters of a launch; how many threads have something to do."""
    count, size = len(parameters), WIDE // parameters[0][0].itemsize
    given["count"], given["tiles"][: count + 1] = count, tiles
    given["sizes"][:count] = [arrays[0].size for arrays in parameters]
    given["packs"][: count + 1] = [0, *accumulate(-(-arrays[0].size // size) for arrays in parameters)]
    for place, arrays in enumerate(parameters):
        addresses = [*map(address, arrays)]
        given["arrays"][place][: len(addresses)] = addresses
        given["aligned"][place] = not any(start % WIDE for start in addresses)
    return int(given["packs"][count])
