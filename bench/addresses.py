"""Square products by size and by where operands lie: no size and no address may be slower than NumPy, or than the next.

A CPU's L1 keeps rows that are a multiple of 4096 bytes apart in the few lines of one set. Sizes are powers of two,
whose rows are, and their neighbours, whose rows are not; all operands begin at the same place of a page, 16 bytes into
one, as fresh large arrays of NumPy do.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from bench import kernels, timing
from bench.peers.numpy_ops import NUMPY as NUMPY_OPS
from bench.placing import together
from bench.suite import FASTNN, NUMPY, Case, Gauge, Workload, assert_agree
from fastnn import ops
from fastnn.kernels.table import TABLE

_OFFSET = 16

_SIZES, _APART = (256, 512, 1024, 2048, 4096), 16
# How operands lie, beside in rows: the name of the line, which one is a transposed view, whether B is packed for us.
_LAYOUTS = (("matmul X.T @ Y", "a", False), ("matmul X @ Y.T", "b", False), ("matmul, packed", None, True))
_LAID_OUT = (512, 1024, 2048)

_AT_LEAST = {NUMPY: 0.95}
# Percent of the rate at the neighbouring sizes: none is more than 7% below.
_OF_NEIGHBOURS = 93.0
_BLOCK_SECONDS = 0.04
# A product that takes longer gets fewer blocks.
_SLOW_FROM = 4000

# float32 sums of up to 4112 terms in another order, relative to the largest result.
_TOLERANCE = 2e-4


def cases() -> list[Case]:
    """In rows, each size and its neighbours; in other layouts, powers of two."""
    sizes = [size for middle in _SIZES for size in _around(middle)]
    listed = [_case("matmul", size) for size in sizes]
    return listed + [_case(name, size, *layout) for name, *layout in _LAYOUTS for size in _LAID_OUT]


def gauges() -> list[Gauge]:
    """Each size's rate as a share of its neighbours', or theirs of its: the smallest of the three."""
    return [
        Gauge(f"matmul {middle}: slowest of it and {middle} +- {_APART}", "%", partial(_evenness, middle),
              at_least=_OF_NEIGHBOURS)
        for middle in _SIZES
    ]  # fmt: skip


def _around(middle: int) -> tuple[int, int, int]:
    return middle - _APART, middle, middle + _APART


def _case(name: str, size: int, transposed: str | None = None, packed: bool = False) -> Case:
    make = partial(_workload, size, transposed, packed)
    return Case(f"{name} {size}x{size}x{size}, one offset", make, _AT_LEAST, slow=size >= _SLOW_FROM)


def _operands(size: int, transposed: str | None = None) -> dict[str, Any]:
    with together(_OFFSET):
        return kernels.operands(TABLE["matmul"], _cube(size), ops.matmul, transposed)


def _cube(size: int) -> dict[str, int]:
    return {"n": size, "k": size, "m": size}


def _workload(size: int, transposed: str | None, packed: bool) -> Workload:
    ours, theirs = _operands(size, transposed), _operands(size, transposed)
    if packed:
        ours["b"] = ops.pack(ours["b"])
    runs = {FASTNN: partial(ops.matmul, **ours), NUMPY: partial(NUMPY_OPS["matmul"], **theirs)}

    def check() -> None:
        assert_agree("matmul, fastnn against NumPy", runs[FASTNN](), runs[NUMPY](), _TOLERANCE)

    return Workload({name: kernels.contender(TABLE["matmul"], _cube(size), run) for name, run in runs.items()}, check)


def _evenness(middle: int, count: int) -> list[float]:
    """Percent, of medians of the three sizes by turns: one reading of many blocks, since a block alone is too noisy."""
    runs = {size: partial(ops.matmul, **_operands(size)) for size in _around(middle)}
    named = {str(size): run for size, run in runs.items()}
    samples = timing.interleave(named, count if middle >= _SLOW_FROM else 3 * count, _BLOCK_SECONDS)
    rates = {size: size**3 / samples[str(size)].seconds for size in runs}
    aside = [rates[size] for size in rates if size != middle]
    return [100 * min(rates[middle] / max(aside), min(aside) / rates[middle])]
