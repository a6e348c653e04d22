"""Where the machine and the program change how the cost grows: sizes in bytes against caches, times against times.

A limit compares an amount with a bound, both computed from a setting, the machine's caches and register tile, and the
parts of a step that were measured alone. Where the two cross along a sweep, the curve may have a knee.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import pairwise

from bench.scaling.knees import TOLERANCE
from bench.scaling.measure import DTYPE, Parts
from bench.scaling.sweeps import Setting, Sweep
from fastnn.engine.inputs import SPARSE_BELOW
from fastnn.engine.session import region_nanoseconds
from fastnn.kernels.cpu import machine, records, threads
from fastnn.kernels.cpu.epoch import splits_panels

_LINE = 64  # bytes of a cache line
_ENTRY = DTYPE.itemsize + 4  # a stored non-zero: its value and its int32 column

# A cost this many times smaller than another one no longer shows in their sum's slope.
_DWARFS = 10

# How finely a crossing between two values of a continuous parameter is looked for, relative.
_PRECISION = 1.002


class Kind(Enum):
    """What happens to the cost of a useful FLOP where a limit is crossed."""

    OVERHEAD = "what made it fall is outgrown"
    CAPACITY = "something no longer fits, and it rises"
    RELIEF = "work is saved, and it rises less or falls"

    def bends(self, before: float, after: float) -> bool:
        """Whether a limit of this kind changes the exponent of the cost like that."""
        if self is Kind.RELIEF:
            return after < before
        return after > before and (before < -TOLERANCE if self is Kind.OVERHEAD else after > TOLERANCE)


@dataclass(frozen=True)
class Limit:
    """An amount and a bound in ``unit``; ``why`` says what becomes different where the amount exceeds the bound.

    ``applies`` tells the settings that it is a limit of.
    """

    name: str
    why: str
    unit: str
    kind: Kind
    amount: Callable[[Setting, Parts], float]
    bound: Callable[[Setting, Parts], float]
    applies: Callable[[Setting], bool] = lambda _: True


@dataclass(frozen=True)
class Crossing:
    """The first value of a sweep's parameter on the other side of a limit, and both sides of the comparison there."""

    limit: Limit
    value: float
    amount: float
    bound: float

    @property
    def why(self) -> str:
        """What becomes different here."""
        return self.limit.why if self._exceeds else f"it is no longer so that {self.limit.why}"

    @property
    def kind(self) -> Kind:
        """What happens to the cost here: where the amount falls below the bound, the reverse."""
        if self._exceeds:
            return self.limit.kind
        return Kind.RELIEF if self.limit.kind is Kind.CAPACITY else Kind.CAPACITY

    @property
    def _exceeds(self) -> bool:
        return self.amount >= self.bound


@dataclass(frozen=True)
class Footprint:
    """Bytes that a training step touches. ``entries`` are a sparse batch's, which then has no gathered inputs.

    ``first`` are those of ``weights`` that belong to the first stage, in so many ``panels``.
    """

    weights: int
    first: int
    panels: int
    transposed: int
    state: int
    inputs: int
    activations: int
    entries: int

    @property
    def everything(self) -> int:
        """All of it, which the cores share an L3 for."""
        return self.weights + self.transposed + self.state + self.inputs + self.activations + self.entries

    def of_a_core(self, tasks: int) -> float:
        """Weights are read by every core, forward and transposed; the first stage's panels and the state are shared."""
        first = self.first / tasks if splits_panels(self.panels, tasks) else self.first
        return first + self.weights - self.first + self.transposed + self.state / tasks


@cache
def footprint(setting: Setting) -> Footprint:
    """The bytes of a step, from the layout that the engine itself uses, padding included."""
    stages = len(setting.sizes) - 1
    layout = records.Layout(setting.sizes, setting.batch, DTYPE.itemsize, setting.sparse)
    table, parameters, scratch = layout.stages([0] * stages, [True] * stages, [records.KERNEL | records.BIAS] * stages)
    transposed = sum(layout.padded(k, layout.NR) * n for k, n in pairwise(setting.sizes[1:]))
    inputs = setting.batch * layout.leading(setting.inputs)
    entries = round(setting.batch * setting.inputs * setting.density) if setting.sparse else 0
    return Footprint(
        weights=parameters * DTYPE.itemsize,
        first=int(table[0, records.B]) * DTYPE.itemsize,
        panels=int(records.panel_count(table[0])),
        transposed=transposed * DTYPE.itemsize,
        state=parameters * DTYPE.itemsize,
        inputs=0 if setting.sparse else inputs * DTYPE.itemsize,
        activations=(scratch - inputs - transposed) * DTYPE.itemsize,
        entries=2 * entries * _ENTRY,  # as stored by row, and sorted by feature
    )


def tasks(setting: Setting) -> int:
    """Tasks that a region of a step is split into."""
    little = region_nanoseconds(setting.sizes, setting.batch) < threads.SERIAL_BELOW_NS
    return 1 if little else setting.threads


def times(setting: Setting, parts: Parts) -> dict[str, float]:
    """Seconds a sample by part of the step, from what the parts cost alone: no cache is too small, nothing waits."""
    bytes_ = footprint(setting)
    held = bytes_.weights + bytes_.state
    caches = machine.caches()
    level = 0 if held <= caches.l2 * setting.threads else 1 if held <= caches.l3 else 2
    products, sample = setting.flops / parts.peak, parts.sample
    if setting.sparse:
        first = 4 * setting.sizes[0] * setting.sizes[1]
        products = (setting.flops - first) / parts.peak + setting.density * first / parts.sparse_peak
        sample = parts.sparse_sample + setting.density * setting.inputs * parts.entry
    return {
        "products": products,
        "update": _updated(setting) * parts.update[level] / setting.batch,
        "sample": sample,
        "step": parts.step / setting.batch,
    }


def _updated(setting: Setting) -> float:
    """Weights that a step updates: rows of the first layer whose input is zero in the whole batch wait."""
    first = setting.sizes[0] * setting.sizes[1]
    rest = sum(k * n for k, n in pairwise(setting.sizes[1:]))
    return rest + first * (_touched(setting, None) if setting.sparse else 1.0)


def _touched(setting: Setting, _: object) -> float:
    """Share of the inputs that are not zero somewhere in a batch."""
    return -math.expm1(setting.batch * math.log1p(-setting.density)) if setting.density < 1 else 1.0


def _operands(setting: Setting, _: object) -> float:
    """Inputs and gradients of all rows that the update of the largest layer reads."""
    layout = records.Layout(setting.sizes, setting.batch, DTYPE.itemsize, setting.sparse)
    widths = list(pairwise(setting.sizes))
    k, n = max(widths, key=math.prod)
    if setting.sparse and (k, n) == widths[0]:
        return setting.batch * (k * setting.density * _ENTRY + layout.leading(n) * DTYPE.itemsize)
    return setting.batch * (layout.leading(k) + layout.leading(n)) * DTYPE.itemsize


def _tile_columns(setting: Setting, _: object) -> float:
    """What a tile of dW = X.T @ dZ reads: of every row NR columns of dZ, and MR of X, which may straddle a line."""
    tile = machine.tile(DTYPE.itemsize)
    return setting.batch * (tile.NR * DTYPE.itemsize + tile.MR * DTYPE.itemsize + _LINE)


def _unit_columns(setting: Setting, _: object) -> float:
    """What the tiles of a unit of the update read again and again: of every row NR columns of dZ, UNIT_ROWS of X."""
    tile = machine.tile(DTYPE.itemsize)
    return setting.batch * ((tile.NR + records.UNIT_ROWS) * DTYPE.itemsize + _LINE)


def _panel(setting: Setting, _: object) -> float:
    """What a tile of X @ W reads in the layer after the first hidden one: MR rows of X and a panel of W."""
    tile = machine.tile(DTYPE.itemsize)
    return setting.hidden[0] * (tile.NR + tile.MR) * DTYPE.itemsize


def _step_work(setting: Setting, parts: Parts) -> float:
    found = times(setting, parts)
    return setting.batch * (found["update"] + found["step"])


def _sample_work(setting: Setting, parts: Parts) -> float:
    found = times(setting, parts)
    return setting.batch * (found["products"] + found["sample"])


LIMITS = (
    Limit(
        "samples outweigh the step",
        "the samples of a batch take longer than what a step costs whatever its batch, the update of all weights above "
        "all",
        "s",
        Kind.OVERHEAD,
        amount=_sample_work,
        bound=_step_work,
    ),
    Limit(
        "samples dwarf the step",
        f"the samples of a batch take {_DWARFS} times as long as what a step costs whatever its batch",
        "s",
        Kind.OVERHEAD,
        amount=_sample_work,
        bound=lambda setting, parts: _DWARFS * _step_work(setting, parts),
    ),
    Limit(
        "products outweigh the sample",
        "the products of a sample take longer than what else a sample costs: gathering its inputs, loss, metric",
        "s",
        Kind.OVERHEAD,
        amount=lambda setting, parts: times(setting, parts)["products"],
        bound=lambda setting, parts: times(setting, parts)["sample"],
    ),
    Limit(
        "products dwarf the sample",
        f"the products of a sample take {_DWARFS} times as long as what else a sample costs",
        "s",
        Kind.OVERHEAD,
        amount=lambda setting, parts: times(setting, parts)["products"],
        bound=lambda setting, parts: _DWARFS * times(setting, parts)["sample"],
    ),
    Limit(
        "rows fill a tile",
        "a task has the rows of a whole register tile; with fewer, every weight is loaded for fewer products",
        "rows",
        Kind.OVERHEAD,
        amount=lambda setting, _: setting.batch / tasks(setting),
        bound=lambda *_: machine.tile(DTYPE.itemsize).MR,
    ),
    Limit(
        "units fill a tile",
        "a hidden layer has the columns of a whole register tile; with fewer, the tile computes padding",
        "units",
        Kind.OVERHEAD,
        amount=lambda setting, _: setting.hidden[0],
        bound=lambda *_: machine.tile(DTYPE.itemsize).NR,
    ),
    Limit(
        "threads start",
        "a region is enough work to be split over the threads",
        "s",
        Kind.RELIEF,
        amount=lambda setting, _: region_nanoseconds(setting.sizes, setting.batch) * 1e-9,
        bound=lambda *_: threads.SERIAL_BELOW_NS * 1e-9,
        applies=lambda setting: setting.threads > 1,
    ),
    Limit(
        "W panel, L1",
        "a panel of the weights after the first hidden layer and the rows of a tile no longer stay in L1",
        "B",
        Kind.CAPACITY,
        amount=_panel,
        bound=lambda *_: machine.caches().l1,
    ),
    Limit(
        "dW tile, L1",
        "the columns of X and dZ that a tile of dW = X.T @ dZ reads no longer stay in L1",
        "B",
        Kind.CAPACITY,
        amount=_tile_columns,
        bound=lambda *_: machine.caches().l1,
    ),
    Limit(
        "dW unit, L2",
        "the columns of X and dZ that the tiles of a unit of dW share no longer stay in L2",
        "B",
        Kind.CAPACITY,
        amount=_unit_columns,
        bound=lambda *_: machine.caches().l2,
    ),
    Limit(
        "weights, L2",
        "the weights, their transposed copy, and a core's shares of the first layer and RMSprop's state no longer stay "
        "in its L2",
        "B",
        Kind.CAPACITY,
        amount=lambda setting, _: footprint(setting).of_a_core(tasks(setting)),
        bound=lambda *_: machine.caches().l2,
    ),
    Limit(
        "activations, L2",
        "the batch's inputs and gradients that the update of the largest layer reads no longer stay in L2",
        "B",
        Kind.CAPACITY,
        amount=_operands,
        bound=lambda *_: machine.caches().l2,
    ),
    Limit(
        "everything, L3",
        "weights, state, inputs, activations and gradients together no longer stay in L3",
        "B",
        Kind.CAPACITY,
        amount=lambda setting, _: footprint(setting).everything,
        bound=lambda *_: machine.caches().l3,
    ),
    Limit(
        "rows of W touched",
        "a batch has a non-zero for more than half of the inputs, so that most rows of W are updated at every step",
        "share",
        Kind.RELIEF,
        amount=_touched,
        bound=lambda *_: 0.5,
        applies=lambda setting: setting.sparse,
    ),
    Limit(
        "sparse products outweigh the rest",
        "the products of the non-zero inputs take longer than those of the other layers",
        "FLOP",
        Kind.OVERHEAD,
        amount=lambda setting, _: setting.density * 4 * setting.sizes[0] * setting.sizes[1],
        bound=lambda setting, _: setting.flops - 4 * setting.sizes[0] * setting.sizes[1],
        applies=lambda setting: setting.sparse,
    ),
    Limit(
        "dense first layer",
        "the engine no longer skips zeros: the first layer then costs the same whatever the density",
        "share",
        Kind.RELIEF,
        amount=lambda setting, _: setting.density,
        bound=lambda *_: SPARSE_BELOW,
    ),
)


def crossings(sweep: Sweep, threads_: int, parts: Mapping[int, Parts]) -> list[Crossing]:
    """The limits that are crossed between the first and the last value of the sweep, in order.

    ``parts`` by number of threads; those of the next smaller number stand for one that was not measured.
    """
    found = [_crossing(limit, sweep, threads_, parts) for limit in LIMITS]
    return sorted((crossing for crossing in found if crossing is not None), key=lambda crossing: crossing.value)


def _crossing(limit: Limit, sweep: Sweep, threads_: int, parts: Mapping[int, Parts]) -> Crossing | None:
    def sides(value: float) -> tuple[float, float]:
        setting = sweep.at(value, threads_)
        measured = parts[max(count for count in parts if count <= setting.threads)]
        return limit.amount(setting, measured), limit.bound(setting, measured)

    values = [value for value in sweep.values if limit.applies(sweep.at(value, threads_))]
    value = _first_change(values, sweep.continuous, lambda value: operator.ge(*sides(value)))
    return None if value is None else Crossing(limit, value, *sides(value))


def _first_change(values: Sequence[float], continuous: bool, exceeded: Callable[[float], bool]) -> float | None:
    """The least value, between two of those given, at which ``exceeded`` differs from what it is at the first one."""
    for low, high in pairwise(values):
        if exceeded(high) == exceeded(values[0]):
            continue
        while (high / low > _PRECISION) if continuous else (high - low > 1):
            middle = math.sqrt(low * high) if continuous else float((low + high) // 2)
            low, high = (middle, high) if exceeded(middle) == exceeded(values[0]) else (low, middle)  # noqa: PLW2901
        return high
    return None
