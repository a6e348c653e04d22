"""Steps of many weights by one launch, each by the product that is its gradient, which nobody writes.

A bias is a matrix of one row, whose gradient is the product of as many ones as there are samples. Sums of many samples
are split among blocks, as those of ``products.py``: the last block of a tile has them all, in the order of the splits.

``gradients`` is the same launch without the steps, for those that have to know the gradients' norms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from itertools import product as product_of
from typing import Any, NamedTuple

import cupy
import numpy as np

from fastnn.kernels.cuda import epilogues, launch, products
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import WIDE, address
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.cuda.epilogues import PLAIN, STEP_NUMBERS, Epilogue
from fastnn.kernels.cuda.products import PRODUCT, is_wide, steps_of
from fastnn.kernels.cuda.tiles import (
    FORMATS,
    LEAST_DEPTH,
    MOST_SPLITS,
    READ,
    ROUNDING_TILES,
    TENSOR_FROM,
    TILES,
    Tile,
    format_of,
)
from fastnn.kernels.formulas.penalties import l1_l2
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.table import DTYPES

# Products of a launch: what a kernel is given by value has room for 4 KB.
_AT_ONCE = 28

# What sizes and strides may be at most.
MOST = np.iinfo(np.int32).max

_STATES = max(len(step.states) for step in STEPS.values())
_SIZES = ("n", "k", "m", "splits", *(f"{name}_{step}" for name in "abc" for step in ("row", "column")))

STEPPED = Structure(
    "Stepped",
    *(Field(name, "const real*", (_AT_ONCE,)) for name in "ab"),
    Field("c", "real*", (_AT_ONCE,)),
    Field("states", "real*", (_AT_ONCE, _STATES)),
    Field("partial", "real*", (_AT_ONCE,)),
    Field("counters", "int*"),
    *(Field(name, "double*") for name in ("squares", "penalties", "loss")),
    Field("last_counter", "int*"),
    Field("share", "double"),
    *(Field(name, "int") for name in ("depth", "tiles")),
    *(Field(name, "real", (_AT_ONCE,)) for name in ("l1", "l2")),
    *(Field(name, "int", (_AT_ONCE,)) for name in _SIZES),
    *(Field(name, "int", (_AT_ONCE + 1,)) for name in ("first", "tile")),
    *(Field(name, "char", (_AT_ONCE,)) for name in ("a_wide", "b_wide", "c_wide", "decays", "exact")),
    numbers=(Field("numbers", "real", (STEP_NUMBERS,)),),
)

# The tiles of products by their format or dtype, with shorter panels: a thread has the places of its product to
# remember, too.
TILES = {
    name: tuple(tile._replace(depth=16) for tile in tiles)
    for name, tiles in (
        *TILES.items(),
        *((FORMATS[name], tiles) for name, tiles in ROUNDING_TILES.items()),
    )
}


class Gradient(NamedTuple):
    """Weights c (n, m) with their states, which are like them, and their gradient: a (n, k) @ b (k, m).

    ``decays`` says whether they do before the step, where any do. Their ``penalty`` (l1, l2), l1 |w| + l2 w^2, adds to
    the gradient. One that is ``exact`` is of operands that are not rounded, whatever the precision is.
    """

    a: Any
    b: Any
    c: Any
    states: Sequence[Any]
    decays: bool = False
    penalty: tuple[float, float] = (0.0, 0.0)
    exact: bool = False


class Penalties(NamedTuple):
    """Where penalties add ``share`` of theirs to gradients, and to the loss, an array of one number in float64."""

    loss: Any
    share: float


class _Finish(NamedTuple):
    """What becomes of the gradients: they are written, with their squares, or the step of a name is made by them."""

    name: str | None = None
    decays: bool = False
    clips: bool = False
    penalizes: bool = False

    def before(self, tile: Tile, dtype: str) -> str:
        """What comes before the kernel."""
        states, hyper = (0, 0) if self.name is None else map(len, (STEPS[self.name].states, STEPS[self.name].hyper))
        sizes = {"STATES": states, "HYPER": hyper, "NUMBERS": hyper + self.decays + self.clips}
        sizes |= {"DECAYS": int(self.decays), "SQUARES": int(self.name is None), "PENALTIES": int(self.penalizes)}
        defined = "".join(f"#define {size} {value}\n" for size, value in sizes.items())
        penalty = function("penalty", ("l1", "l2", "w"), l1_l2, dtype) if self.penalizes else ""
        return defined + penalty + products.before(tile, self._epilogue, dtype)

    def tiles(self, kind: str) -> tuple[Tile, ...]:
        """Those of a format or dtype that it leaves registers for: a step with penalties has none beside 8 x 8 sums."""
        crowded = self.penalizes and self.name is not None
        return tuple(each for each in TILES[kind] if not crowded or each.thread_rows * each.thread_columns < 64)

    @property
    def _epilogue(self) -> Epilogue:
        return PLAIN if self.name is None else epilogues.update(self.name, decays=self.decays, clips=self.clips)


def _structures() -> tuple[Structure, ...]:
    """What numbers are of comes first."""
    return STEPPED, PRODUCT


def modules() -> Iterator[launch.Module]:
    """Every tile, with the step that takes most, and with none; those that round with what takes most."""
    finishes = {"steps": _Finish("amsgrad", decays=True, clips=True), "gradients": _Finish()}
    finishes |= {f"penalized {name}": finish._replace(penalizes=True) for name, finish in finishes.items()}
    for kind, tiles in TILES.items():
        dtype = kind if kind in DTYPES else "float32"
        of_kind = finishes if kind == dtype else {"penalized steps": finishes["penalized steps"]}
        for tile, (name, finish) in product_of(tiles, of_kind.items()):
            if tile not in finish.tiles(kind):
                continue
            text = launch.text("steps.cu", dtype, _structures(), finish.before(tile, dtype))
            least = launch.LEAST if kind == dtype else TENSOR_FROM
            yield launch.Module(f"{name} {tile.rows}x{tile.columns}x{tile.depth} {kind}", text, least)


class Plan(NamedTuple):
    """The tile of all products, into how many parts the sums of each are split, and how long these are at most."""

    tile: Tile
    splits: tuple[int, ...]
    depth: int


@lru_cache(1024)
def plan_for(shapes: Sequence[tuple[int, int, int]], tiles: Sequence[Tile], multiprocessors: int) -> Plan:
    """The cheapest for products (n, k, m) side by side."""
    plans = (plan for tile in tiles for plan in _plans(shapes, tile))
    return min(plans, key=lambda plan: (_cost(shapes, plan, multiprocessors), sum(plan.splits)))


def _plans(shapes: Sequence[tuple[int, int, int]], tile: Tile) -> Iterator[Plan]:
    """A tile with whole sums, and with such of half the longest one and less: each tile of these has its counter."""
    has_counters = sum(_tiles(shape, tile) for shape in shapes) < launch.COUNTERS
    most, least = max(k for _, k, _ in shapes), LEAST_DEPTH if has_counters else MOST
    for halves in range(MOST_SPLITS.bit_length()):
        if halves and most >> halves < least:
            break
        depth = max(1, -(-most // (tile.depth << halves))) * tile.depth
        yield Plan(tile, tuple(max(1, -(-k // depth)) for _, k, _ in shapes), depth)


def _tiles(shape: tuple[int, int, int], tile: Tile) -> int:
    """Those of a product."""
    n, _, m = shape
    return -(-n // tile.rows) * -(-m // tile.columns)


def _cost(shapes: Sequence[tuple[int, int, int]], plan: Plan, multiprocessors: int) -> float:
    """Blocks in turn on the multiprocessors, each as long as the longest sum takes, and what partial sums do."""
    tile, blocks, partial = plan.tile, 0, 0
    for shape, splits in zip(shapes, plan.splits, strict=True):
        blocks += _tiles(shape, tile) * splits
        partial += _tiles(shape, tile) * splits * tile.rows * tile.columns if splits > 1 else 0
    turns = -(-blocks // multiprocessors)
    longest = min(plan.depth, max(k for _, k, _ in shapes))
    return turns * tile.work * max(longest, 1) + READ * partial / multiprocessors


def step(
    name: str,
    gradients: Sequence[Gradient],
    numbers: Sequence[float],
    left: float | None = None,
    limit: float | None = None,
    penalties: Penalties | None = None,
) -> None:
    """The step of this name, with these numbers, of all weights, on the current stream.

    All are of one dtype and not empty; nothing that is written may share memory with anything else. ``left`` is the
    share of those that decay which is left before the step, ``limit`` clips every number of the gradients.
    """
    given = [*numbers, *(more for more in (left, limit) if more is not None)]
    finish = _Finish(name, left is not None, limit is not None, penalties is not None)
    for first in range(0, len(gradients), _AT_ONCE):
        _launch(finish, gradients[first : first + _AT_ONCE], penalties, numbers=given)


def gradients(products: Sequence[Gradient], penalties: Penalties | None = None) -> Any:
    """Write the products, where weights would be, and sums of their squares, of which each has some: ``squares_of``.

    With penalties the first of each one's states are the weights.
    """
    starts = squares_of(_shapes(products), products[0].c.dtype.name)
    squares = cupy.empty((starts[-1],), np.float64)
    for first in range(0, len(products), _AT_ONCE):
        at = address(squares) + starts[first] * squares.itemsize
        _launch(_Finish(penalizes=penalties is not None), products[first : first + _AT_ONCE], penalties, squares=at)
    return squares


def squares_of(shapes: Sequence[tuple[int, int, int]], dtype: str) -> list[int]:
    """Where those of each product (n, k, m) begin, behind these where the last ones end: it has one of every tile."""
    found = []
    for first in range(0, len(shapes), _AT_ONCE):
        some = tuple(shapes[first : first + _AT_ONCE])
        tile = plan_for(some, _Finish().tiles(_kind(dtype)), launch.multiprocessors()).tile
        found += [_tiles(shape, tile) for shape in some]
    return [0, *accumulate(found)]


def _kind(dtype: str) -> str:
    """The format that operands of a dtype are rounded to now, or the dtype."""
    return format_of(dtype) or dtype


def _shapes(gradients: Sequence[Gradient]) -> tuple[tuple[int, int, int], ...]:
    return tuple((each.a.shape[0], *each.b.shape) for each in gradients)


def _launch(
    finish: _Finish,
    gradients: Sequence[Gradient],
    penalties: Penalties | None,
    numbers: Sequence[float] = (),
    squares: int = 0,
) -> None:
    dtype, shapes = gradients[0].c.dtype, _shapes(gradients)
    tile, splits, depth = plan_for(shapes, finish.tiles(_kind(dtype.name)), launch.multiprocessors())
    record = STEPPED.record(dtype)
    given = record[0]
    given["numbers"][: len(numbers)], given["squares"] = numbers, squares
    count, tiles = len(shapes), [_tiles(shape, tile) for shape in shapes]
    blocks = [number * split for number, split in zip(tiles, splits, strict=True)]
    given["first"] = MOST
    given["first"][: count + 1], given["tile"][: count + 1] = [0, *accumulate(blocks)], [0, *accumulate(tiles)]
    given["splits"][:count], given["depth"] = splits, depth
    partial = [number if split > 1 else 0 for number, split in zip(blocks, splits, strict=True)]
    if any(partial):
        size = tile.rows * tile.columns
        room = cupy.empty((sum(partial) * size,), dtype)
        starts = [0, *accumulate(number * size * dtype.itemsize for number in partial)]
        given["partial"][:count] = [address(room) + start for start in starts[:count]]
    given["counters"] = launch.counters()
    if penalties is not None:
        parts = cupy.empty((sum(tiles),), np.float64)
        given["penalties"], given["loss"], given["tiles"] = address(parts), address(penalties.loss), sum(tiles)
        given["share"], given["last_counter"] = penalties.share, launch.counters() + 4 * (launch.COUNTERS - 1)
        given["l1"][:count], given["l2"][:count] = zip(*(each.penalty for each in gradients), strict=True)
    for place, (each, shape) in enumerate(zip(gradients, shapes, strict=True)):
        _describe(given, place, each, shape)
    given["decays"][:count] = [each.decays for each in gradients]
    given["exact"][:count] = [each.exact for each in gradients]
    kernel = launch.kernel("steps.cu", "steps", dtype.name, _structures(), finish.before(tile, dtype.name))
    kernel((sum(blocks),), (tile.threads,), (record,))


def _describe(given: Any, place: int, gradient: Gradient, shape: tuple[int, int, int]) -> None:
    """A product, with its weights and their states."""
    for size, value in zip("nkm", shape, strict=True):
        given[size][place] = value
    for matrix, array in zip("abc", gradient, strict=False):
        given[matrix][place] = address(array)
        given[f"{matrix}_row"][place], given[f"{matrix}_column"][place] = steps_of(array)
        given[f"{matrix}_wide"][place] = address(array) % WIDE == 0 and is_wide(array)
    given["c_wide"][place] &= gradient.c.strides[1] == gradient.c.itemsize
    given["states"][place][: len(gradient.states)] = [*map(address, gradient.states)]
