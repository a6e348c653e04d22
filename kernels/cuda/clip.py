"""Gradients on the device clipped in place: numbers, the norm of each array, or the norm of all arrays together.

Norms are sums in two stages that repeat bit for bit, and stay on the device: nobody waits for them. Arrays are those of
all parameters of a model, of one dtype; a few launches clip all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import cupy
import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order
from fastnn.kernels.table import DTYPES

# Numbers that a block takes at a time, and parameters of a launch: what a kernel is given by value has room for 4 KB.
_UNIT, _AT_ONCE = 4096, 128

CLIPPED = Structure(
    "Clipped",
    Field("count", "int"),
    Field("together", "int64"),
    Field("limit", "double"),
    Field("squares", "double*"),
    Field("factors", "double*"),
    Field("units", "int64", (_AT_ONCE + 1,)),
    Field("sizes", "int64", (_AT_ONCE,)),
    Field("arrays", "real*", (_AT_ONCE,)),
)

_BEFORE = f"#define UNIT {_UNIT}\n"


def modules() -> Iterator[launch.Module]:
    """The one, of both dtypes."""
    for dtype in DTYPES:
        yield launch.Module(dtype, launch.text("clip.cu", dtype, (CLIPPED,), _BEFORE))


class _Group(NamedTuple):
    """Arrays of one launch: what a kernel is given, their dtype, and how many units they have."""

    record: Any
    dtype: str
    units: int

    def launch(self, entry: str, blocks: int = 0) -> None:
        """On so many blocks, or on those that the units keep busy."""
        kernel = launch.kernel("clip.cu", entry, self.dtype, (CLIPPED,), _BEFORE)
        kernel((blocks or launch.blocks(self.units * launch.THREADS),), launch.BLOCK, (self.record,))


def _group(arrays: Sequence[Any], limit: float) -> _Group:
    record = CLIPPED.record(arrays[0].dtype)
    given, count = record[0], len(arrays)
    given["count"], given["limit"] = count, limit
    given["sizes"][:count] = [array.size for array in arrays]
    given["units"][: count + 1] = [0, *accumulate(-(-array.size // _UNIT) for array in arrays)]
    given["arrays"][:count] = [address(array) for array in arrays]
    return _Group(record, arrays[0].dtype.name, int(given["units"][count]))


def _clipping(clip: Callable[[Sequence[_Group]], None]) -> Callable[[Sequence[Any], float], None]:
    """The function of arrays: in as many groups as it takes, what is not in C order by copies that are written back."""

    def clipped(gradients: Sequence[Any], limit: float) -> None:
        whole = [array for array in gradients if array.size]
        ordered = [in_order(array) for array in whole]
        groups = [_group(ordered[first : first + _AT_ONCE], limit) for first in range(0, len(ordered), _AT_ONCE)]
        if groups:
            clip(groups)
        for array, copy in zip(whole, ordered, strict=True):
            if copy is not array:
                array[...] = copy

    clipped.__name__, clipped.__qualname__, clipped.__doc__ = clip.__name__, clip.__qualname__, clip.__doc__
    return clipped


@_clipping
def by_value(groups: Sequence[_Group]) -> None:
    """Every number g becomes min(max(g, -limit), limit), NaN where it is not finite."""
    for group in groups:
        group.launch("clip_values")


@_clipping
def by_norm(groups: Sequence[_Group]) -> None:
    """Every array whose norm is above the limit is multiplied with limit / norm."""
    factors = cupy.empty((_AT_ONCE,), np.float64)
    for group in groups:
        squares = cupy.empty((group.units,), np.float64)
        group.record["squares"], group.record["factors"] = address(squares), address(factors)
        group.launch("unit_squares")
        group.launch("norm_factors", int(group.record["count"][0]))
        group.launch("scale_values")


@_clipping
def by_global_norm(groups: Sequence[_Group]) -> None:
    """Where the norm of all arrays together is above the limit, all are multiplied with limit / norm."""
    starts = [0, *accumulate(group.units for group in groups)]
    squares, factors = cupy.empty((starts[-1],), np.float64), cupy.empty((1,), np.float64)
    for group, start in zip(groups, starts, strict=False):
        group.record["squares"] = address(squares) + start * squares.itemsize
        group.record["together"], group.record["factors"] = starts[-1], address(factors)
        group.launch("unit_squares")
    groups[0].launch("norm_factors", 1)
    for group in groups:
        group.launch("scale_values")


# By the name of the optimizers' argument that asks for it.
CLIPS = {"clipvalue": by_value, "clipnorm": by_norm, "global_clipnorm": by_global_norm}
