"""Tiles of products: what a block computes and a thread or a warp of it, and which of them a product takes.

``plan`` chooses by shape, with the number of splits of the sums; ``tiles_for`` says what there is to choose from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import cupy

from fastnn.kernels import precision
from fastnn.kernels.cuda import launch


class Tile(NamedTuple):
    """Numbers of C that a block computes and that a thread does, and those at hand of each row and column.

    With a format operands are rounded to it where they are loaded.
    """

    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int
    format: str | None = None

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows // self.thread_rows * (self.columns // self.thread_columns)

    @property
    def work(self) -> int:
        """What a step along the sums takes a block, in multiply-adds."""
        return self.rows * self.columns + READ * (self.rows + self.columns)

    @property
    def before(self) -> str:
        """The tile as the kernels know it, and the headers that they take."""
        sizes = self._asdict()
        format_ = sizes.pop("format")
        rounded = "number" if format_ is None else f"{format_}::rounded(number)"
        formats = "" if format_ is None else launch.header("ptx.cuh")
        headers = launch.header("gemm.cuh") + launch.header("simt.cuh")
        return f"{formats}#define ROUNDED(number) {rounded}\n{_sizes(**sizes)}{headers}"


def _sizes(**sizes: int) -> str:
    return "".join(f"constexpr int {name.upper()} = {size};\n" for name, size in sizes.items())


class TensorTile(NamedTuple):
    """The same on tensor cores: numbers of C that a block computes and a warp does, and the numbers of a step."""

    rows: int
    columns: int
    depth: int
    warp_rows: int
    warp_columns: int
    format: str

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * (self.rows // self.warp_rows) * (self.columns // self.warp_columns)

    @property
    def work(self) -> int:
        """What a step along the sums takes a block, in multiply-adds."""
        return self.rows * self.columns + READ * (self.rows + self.columns)

    @property
    def before(self) -> str:
        """The tile as the kernels know it, and the headers that they take."""
        sizes = self._asdict()
        format_ = f"typedef {sizes.pop('format')} Format;\n"
        return launch.header("ptx.cuh") + format_ + _sizes(**sizes) + launch.header("gemm.cuh")

    @property
    def unit(self) -> int:
        """Numbers of the sums that a fragment has."""
        return _DEPTHS[self.format]


# Large ones read each number of the operands less often; narrow ones are for few rows or columns.
TILES = {
    "float32": (
        Tile(128, 128, 16, 8, 8),
        Tile(64, 64, 16, 4, 4),
        Tile(32, 32, 32, 4, 4),
        Tile(128, 16, 16, 8, 4),
        Tile(16, 128, 16, 4, 8),
    ),
    "float64": (
        Tile(64, 64, 16, 4, 4),
        Tile(32, 32, 16, 4, 4),
        Tile(64, 16, 16, 4, 4),
        Tile(16, 64, 16, 4, 4),
    ),
}

# The formats of ptx.cuh by precision, and the depth of their fragments.
FORMATS = {"tf32": "Tf32", "bfloat16": "Bf16"}
_DEPTHS = {"Tf32": 8, "Bf16": 16}

TENSOR_TILES = {
    name: tuple(
        TensorTile(rows, columns, 2 * _DEPTHS[format_], warp_rows, 32, format_)
        for rows, columns, warp_rows in ((128, 128, 64), (64, 64, 32))
    )
    for name, format_ in FORMATS.items()
}

# Those of smaller products, which round what they load.
ROUNDING_TILES = {
    name: tuple(tile._replace(format=format_) for tile in TILES["float32"]) for name, format_ in FORMATS.items()
}

# The least compute capability, as CuPy writes it, that has tensor cores for these formats.
TENSOR_FROM = 80

# Multiply-adds from which a product is theirs, and the device on which a run found that: none has yet.
TENSOR_WORK_FROM = 2**27
TENSOR_MEASURED_ON: str | None = None

# What it takes to read a number of a panel, in multiply-adds; a split's depth at least, and splits at most. Unmeasured.
READ, LEAST_DEPTH, MOST_SPLITS = 16, 128, 32


class Plan(NamedTuple):
    """The tile, how many parts the sums have, and how long each is: a multiple of the tile's depth."""

    tile: Tile | TensorTile
    splits: int
    depth: int


@lru_cache(1024)
def plan(n: int, k: int, m: int, tiles: Sequence[Tile | TensorTile], multiprocessors: int) -> Plan:
    """The cheapest."""
    plans = (plan for tile in tiles for plan in _splits(n, k, m, tile))
    return min(plans, key=lambda plan: (_cost(n, m, plan, multiprocessors), plan.splits))


def _cost(n: int, m: int, plan: Plan, multiprocessors: int) -> float:
    """Blocks in turn on the multiprocessors, each as long as its multiply-adds and what it reads take."""
    tile, splits, depth = plan
    blocks = -(-n // tile.rows) * -(-m // tile.columns) * splits
    turns = -(-blocks // multiprocessors)
    sums = 0.0 if splits == 1 else READ * n * m * splits / multiprocessors
    return turns * tile.work * max(depth, 1) + sums


def _splits(n: int, k: int, m: int, tile: Tile | TensorTile) -> list[Plan]:
    """A tile with 1, 2, 4 and more splits of the sums, all of one depth but for the last; each tile has its counter."""
    plans = [Plan(tile, 1, -(-k // tile.depth) * tile.depth)]
    if -(-n // tile.rows) * -(-m // tile.columns) > launch.COUNTERS:
        return plans
    while plans[-1].depth >= 2 * LEAST_DEPTH and plans[-1].splits < MOST_SPLITS:
        depth = -(-k // (2 * plans[-1].splits * tile.depth)) * tile.depth
        plans.append(Plan(tile, -(-k // depth), depth))
    return plans


@cache
def lacking(device: int) -> str | None:
    """Why a device cannot multiply numbers of the formats; None where it can."""
    found = str(cupy.cuda.Device(device).compute_capability)
    if int(found) >= TENSOR_FROM:
        return None
    return f"it wants a device of compute capability {TENSOR_FROM / 10}, and this one has {int(found) / 10}"


def format_of(dtype: str) -> str | None:
    """The format that products of this dtype round their operands to now; RuntimeError where the device has it not."""
    return tiles_for(dtype, precision.current(), 0)[0].format


def tiles_for(dtype: str, wanted: str, work: int) -> Sequence[Tile | TensorTile]:
    """Those of products of so many multiply-adds, for a dtype and a precision; RuntimeError where there are none."""
    if dtype != "float32" or wanted == "float32":
        return TILES[dtype]
    lack = lacking(cupy.cuda.runtime.getDevice())
    if lack is not None:
        raise RuntimeError(f"precision: got {wanted!r}, which cannot serve because {lack}")
    return TENSOR_TILES[wanted] if work >= TENSOR_WORK_FROM else ROUNDING_TILES[wanted]
