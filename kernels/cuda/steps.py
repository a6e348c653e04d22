"""Steps of many weights by one launch, each by the product that is its gradient, which nobody writes.

A bias is a matrix of one row, whose gradient is the product of as many ones as there are samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.cuda import gemm, launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import WIDE, address
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.table import DTYPES

# Products of a launch: what a kernel is given by value has room for 4 KB.
_AT_ONCE = 32

# What sizes and strides may be at most.
MOST = np.iinfo(np.int32).max

_HYPER = max(len(step.hyper) for step in STEPS.values())
_STATES = max(len(step.states) for step in STEPS.values())
_SIZES = ("n", "k", "m", *(f"{name}_{step}" for name in "abc" for step in ("row", "column")))

STEPPED = Structure(
    "Stepped",
    *(Field(name, "const real*", (_AT_ONCE,)) for name in "ab"),
    Field("c", "real*", (_AT_ONCE,)),
    Field("states", "real*", (_AT_ONCE, _STATES)),
    *(Field(name, "int", (_AT_ONCE,)) for name in _SIZES),
    Field("first", "int", (_AT_ONCE + 1,)),
    *(Field(f"{name}_wide", "char", (_AT_ONCE,)) for name in "abc"),
    numbers=(Field("hyper", "real", (_HYPER,)),),
)

# The tiles of products, with shorter panels: a thread has the places of its product to remember, too.
TILES = {dtype: tuple(tile._replace(depth=16) for tile in tiles) for dtype, tiles in gemm.TILES.items()}

# What a launch of its own takes, in multiply-adds of a multiprocessor. Unmeasured.
_LAUNCH = 400_000


class Gradient(NamedTuple):
    """Weights c (n, m) with their states, which are like them, and their gradient: a (n, k) @ b (k, m)."""

    a: Any
    b: Any
    c: Any
    states: Sequence[Any]


def _before(name: str, tile: gemm.Tile, dtype: str) -> str:
    epilogue = gemm.before(tile, gemm.update(name), dtype)
    return f"#define STATES {len(STEPS[name].states)}\n#define HYPER {len(STEPS[name].hyper)}\n{epilogue}"


def _structures() -> tuple[Structure, ...]:
    """What numbers are of comes first."""
    return STEPPED, gemm.PRODUCT


def modules() -> Iterator[launch.Module]:
    """Every tile, with the step that takes most."""
    for dtype in DTYPES:
        for tile in TILES[dtype]:
            text = launch.text("steps.cu", dtype, _structures(), _before("amsgrad", tile, dtype))
            yield launch.Module(f"steps {tile.rows}x{tile.columns}x{tile.depth} {dtype}", text)


@lru_cache(1024)
def tile_for(shapes: Sequence[tuple[int, int, int]], dtype: str, multiprocessors: int) -> tuple[gemm.Tile, float]:
    """The tile for products (n, k, m) side by side, and what they cost: none is split along k."""

    def cost(tile: gemm.Tile) -> float:
        blocks = sum(-(-n // tile.rows) * -(-m // tile.columns) for n, _, m in shapes)
        turns = -(-blocks // multiprocessors)
        return turns * tile.work * max(k for _, k, _ in shapes)

    best = min(TILES[dtype], key=cost)
    return best, cost(best)


def pays(shape: tuple[int, int, int], dtype: str) -> bool:
    """Whether a product (n, k, m) is sooner done here, whole, than by a launch of its own, split along k."""
    count = launch.multiprocessors()
    return tile_for((shape,), dtype, count)[1] <= gemm.cost_of(*shape, gemm.TILES[dtype], count) + _LAUNCH


def step(name: str, gradients: Sequence[Gradient], numbers: Sequence[float]) -> None:
    """The step of this name, with these numbers, of all weights, on the current stream.

    All are of one dtype and not empty; nothing that is written may share memory with anything else.
    """
    for first in range(0, len(gradients), _AT_ONCE):
        _launch(name, gradients[first : first + _AT_ONCE], numbers)


def _launch(name: str, gradients: Sequence[Gradient], numbers: Sequence[float]) -> None:
    dtype = gradients[0].c.dtype
    shapes = tuple((each.a.shape[0], *each.b.shape) for each in gradients)
    tile, _ = tile_for(shapes, dtype.name, launch.multiprocessors())
    record = STEPPED.record(dtype)
    given = record[0]
    given["hyper"][: len(numbers)] = numbers
    blocks = [-(-n // tile.rows) * -(-m // tile.columns) for n, _, m in shapes]
    given["first"] = MOST
    given["first"][: len(blocks) + 1] = [0, *accumulate(blocks)]
    for place, (each, shape) in enumerate(zip(gradients, shapes, strict=True)):
        for size, value in zip("nkm", shape, strict=True):
            given[size][place] = value
        for matrix, array in zip("abc", each, strict=False):
            given[matrix][place] = address(array)
            given[f"{matrix}_row"][place], given[f"{matrix}_column"][place] = gemm.steps_of(array)
            given[f"{matrix}_wide"][place] = address(array) % WIDE == 0 and gemm.is_wide(array)
        given["c_wide"][place] &= each.c.strides[1] == each.c.itemsize
        given["states"][place][: len(each.states)] = [*map(address, each.states)]
    kernel = launch.kernel("steps.cu", "steps", dtype.name, _structures(), _before(name, tile, dtype.name))
    kernel((sum(blocks),), (tile.threads,), (record,))
