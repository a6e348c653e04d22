"""A recorded step as a backend gets it to make it ready for replays: calls of ops on places in memory, and numbers.

Memory is ``Block``s: an argument's, that of an array which the step found outside, or of results, which is the
backend's to provide. What an op takes and gives are ``View``s of these. Numbers (losses, learning rates) are
``Figure``s: places in a row of float64, in which a replay finds those that it is given and leaves those that it makes.

``CallByCall`` is the replay of a backend that has no other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.addresses import ON_HOST, Arrays


@dataclass(eq=False)
class Block:
    """So many bytes: of an argument, by its place among them, of an ``owner``, at its address, or of results.

    Where it ``varies`` an argument has other bytes from call to call: the non-zeros of a CSR matrix.
    """

    size: int
    argument: int | None = None
    address: int | None = None
    owner: Any = None
    varies: bool = False

    @property
    def inner(self) -> bool:
        """Whether it is the replay's own."""
        return self.argument is None and self.address is None


@dataclass(frozen=True)
class View:
    """An array in a block, ``offset`` bytes from its start; ``behaved`` where numbers are aligned."""

    block: Block
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: Any
    behaved: bool = True

    @classmethod
    def of(cls, memory: Any, address: int) -> View:
        """All of an array, which begins at the address and lives as long as the view's block."""
        block = Block(memory.nbytes, address=address, owner=memory)
        return cls(block, 0, memory.shape, memory.strides, memory.dtype)

    @property
    def ndim(self) -> int:
        """How many dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Elements."""
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def contiguous(self) -> bool:
        """Whether its numbers lie one behind the other, in C order."""
        expected = self.dtype.itemsize
        for length, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if length != 1 and stride != expected:
                return False
            expected *= length
        return self.behaved

    @property
    def T(self) -> View:  # noqa: N802 - NumPy's name
        """With its axes in reverse."""
        return View(self.block, self.offset, self.shape[::-1], self.strides[::-1], self.dtype, self.behaved)

    def bounds(self) -> tuple[int, int]:
        """The first byte of the block that it touches and the one behind the last."""
        low = high = self.offset
        for length, stride in zip(self.shape, self.strides, strict=True):
            if length == 0:
                return self.offset, self.offset
            reach = (length - 1) * stride
            low, high = low + min(reach, 0), high + max(reach, 0)
        return low, high + self.dtype.itemsize

    def overlaps(self, other: View) -> bool:
        """Whether both may have memory in common; blocks have none."""
        low, high = self.bounds()
        begin, end = other.bounds()
        return self.block is other.block and low < end and begin < high


@dataclass(frozen=True)
class Sparse:
    """A CSR matrix: its parts, each an argument whose length varies, its shape, its class or what else makes one.

    Indices are int32, indptr is int64. Where it is ``ordered`` it is a batch: rows of the matrix that the parts are of,
    those that ``Order`` stands for.
    """

    values: View
    indices: View
    indptr: View
    shape: tuple[int, int]
    kind: Callable[..., Any]
    ordered: bool = False

    @property
    def parts(self) -> tuple[View, View, View]:
        """Values, indices, indptr."""
        return self.values, self.indices, self.indptr

    @property
    def dtype(self) -> Any:
        """Of the values."""
        return self.values.dtype

    @property
    def ndim(self) -> int:
        """How many dimensions."""
        return len(self.shape)

    @property
    def entries(self) -> float:
        """Non-zeros, about: as many a row as the matrix had that was seen first."""
        return self.values.size * self.shape[0] / max(1, self.indptr.size - 1)


@dataclass(frozen=True)
class Figure:
    """A number, by its place; ``early`` where it is known before any op runs, an int or a float by its ``kind``."""

    place: int
    early: bool = False
    kind: type = float


@dataclass(frozen=True)
class Call:
    """One call: ``run(**given)`` with arrays for views and floats for figures does what was recorded.

    ``writes`` are the views that it writes to beside its results. ``op`` is a name of the table, or of a calculation.
    """

    op: str
    given: Mapping[str, Any]
    results: tuple[Any, ...]
    writes: tuple[View, ...]
    run: Callable[..., Any]

    def touched(self) -> list[Block]:
        """The blocks that it reads or writes."""
        return [view.block for view in (*self.views(), *views_of(self.results), *self.writes)]

    def views(self) -> list[View]:
        """All that it takes, those in lists too, and the parts of CSR matrices."""
        found: list[View] = []
        for value in self.given.values():
            for each in value if isinstance(value, (list, tuple)) else [value]:
                found += each.parts if isinstance(each, Sparse) else [each] if isinstance(each, View) else []
        return found


@dataclass(frozen=True)
class Order:
    """In place of an argument of a call: the rows of data that a batch is made of, which change from turn to turn."""


# What makes a batch of data: ``data[rows]``.
GATHER = "rows of data"

# What keeps a result of every turn: ``into`` has them one behind the other, that of turn ``turn`` is ``x``.
PUT = "result of a turn"


@dataclass(frozen=True)
class Graph:
    """Calls in their order, the arguments' arrays, how many figures there are, what is handed to the caller."""

    calls: Sequence[Call]
    arguments: Sequence[View]
    figures: int
    kept: Sequence[View]


def views_of(values: Iterable[Any]) -> list[View]:
    """Those of them that are views."""
    return [value for value in values if isinstance(value, View)]


def is_same(view: Any, other: Any) -> bool:
    """Whether a view is just another one, a whole block in C order."""
    both = isinstance(view, View) and isinstance(other, View)
    return (
        both
        and view.block is other.block
        and view.shape == other.shape
        and view.offset == other.offset == 0
        and view.contiguous
    )


class Range(NamedTuple):
    """Memory that is touched: bytes of a block, or with no block a figure."""

    block: Block | None
    low: int
    high: int

    def meets(self, other: Range) -> bool:
        """Whether both have something in common."""
        return self.block is other.block and self.low < other.high and other.low < self.high


def range_of(view: View) -> Range:
    """What is touched of a view."""
    return Range(view.block, *view.bounds())


def hinder(
    reads: Iterable[Range], writes: Iterable[Range], later_reads: Collection[Range], later_writes: Collection[Range]
) -> bool:
    """Whether what comes later has to wait for what reads and writes these: not where both only read."""
    return any(one.meets(other) for one in writes for other in (*later_reads, *later_writes)) or any(
        one.meets(other) for one in reads for other in later_writes
    )


def lifetimes(moments: Iterable[Iterable[Block | None]], kept: Sequence[View]) -> dict[Block, tuple[int, int]]:
    """From which moment to which each block of results is needed, those that are kept to the moment behind the last.

    A moment is what is done at a time, of which the blocks that it touches are given.
    """
    lives: dict[Block, tuple[int, int]] = {}
    behind = 0
    for moment, blocks in enumerate(moments):
        for block in blocks:
            if block is not None and block.inner:
                lives[block] = lives.get(block, (moment, moment))[0], moment
        behind = moment + 1
    for view in kept:
        if view.block.inner:
            lives[view.block] = lives.get(view.block, (0, 0))[0], behind
    return lives


class Stage(NamedTuple):
    """A part of a run: of which call it is, its kernel, who runs it, and whether all wait for one another behind it."""

    call: int
    kernel: str
    tasks: str
    waits: bool = False


class CallByCall:
    """A graph, ready to be run again and again on memory of its own, call by call as it was recorded.

    ``figures`` is the row in which it finds and leaves numbers, ``rows`` what ``Order`` stands for. Not for two threads
    at once. ``arrays`` is the kind of arrays that it takes; results are ``lasting`` where each lies at one place from
    the beginning. ``listed`` is the graph whose calls ``stages`` numbers.
    """

    arrays: Arrays = ON_HOST
    lasting = True

    def __init__(self, graph: Graph) -> None:
        self.graph = self.listed = graph
        self.figures = np.zeros(graph.figures)
        self.rows: Any = np.empty(0, np.int64)
        self._own: dict[Block, Any] = {}

    def outdated(self) -> bool:
        """Whether another replay has to be made of the graph: it was made for what does not hold any more."""
        return False

    def run(self, arrays: Sequence[Any], addresses: Sequence[int]) -> None:
        """Run it on these arguments, whose memory begins at these addresses."""
        for call in self.graph.calls:
            self.again(call, arrays)

    def turns(self, arrays: Sequence[Any], addresses: Sequence[int], order: Any, figures: Any) -> None:
        """A run for each row of ``figures``, with as many rows of ``order`` as there are for each."""
        batch = len(order) // max(1, len(figures))
        for turn, row in enumerate(figures):
            self.rows = order[turn * batch : (turn + 1) * batch]
            self.figures[:] = row
            self.run(arrays, addresses)
            row[:] = self.figures

    def room_of_turns(self, into: View, turns: int) -> Any:
        """Memory for a result of every turn."""
        return self.arrays.empty((turns * into.shape[0], *into.shape[1:]), into.dtype)

    def stages(self) -> Sequence[Stage]:
        """What a run does, in its order."""
        return [Stage(number, call.op, "called") for number, call in enumerate(self.graph.calls)]

    @property
    def launches(self) -> int:
        """Of kernels by a run, on a device; 0 where it has not been counted, or there are none."""
        return 0

    @property
    def reasons(self) -> Sequence[str]:
        """Why launches are more than the fewest that there can be of such calls, for people to read."""
        return ()

    @property
    def bytes(self) -> int:
        """Of the memory that is its own."""
        return sum(memory.size for memory in self._own.values())

    def again(self, call: Call, arrays: Sequence[Any]) -> None:
        """One call, as it was recorded."""
        results = self.run_of(call)(**self.given(call, arrays))
        together = results if isinstance(results, tuple) else (results,)
        for place, result in zip(call.results, together, strict=bool(call.results)):
            if isinstance(place, Figure):
                self.figures[place.place] = result
            elif isinstance(place, View):
                self.keep(place, result, arrays)

    def run_of(self, call: Call) -> Callable[..., Any]:
        """What makes a call."""
        return call.run

    def given(self, call: Call, arrays: Sequence[Any]) -> dict[str, Any]:
        """What a call is given, with these arguments."""
        return {name: self._given(value, arrays) for name, value in call.given.items()}

    def keep(self, place: View, result: Any, arrays: Sequence[Any]) -> None:
        """Put a result where it is looked for."""
        array = self.array(place, arrays)
        if self.arrays.address(array) != self.arrays.address(result):
            array[...] = result

    def value(self, given: Any) -> Any:
        """What a figure stands for; anything else for itself."""
        return given.kind(self.figures[given.place]) if isinstance(given, Figure) else given

    def array(self, view: View, arrays: Sequence[Any]) -> Any:
        """What a view stands for with these arguments."""
        argument = view.block.argument
        if argument is None:
            start, owner = self.memory(view.block)
            return self.arrays.at(start + view.offset, view, owner)
        array, whole = arrays[argument], self.graph.arguments[argument]
        if view == whole:
            return array
        return self.arrays.at(self.arrays.address(array) - whole.offset + view.offset, view, array)

    def memory(self, block: Block) -> tuple[int, Any]:
        """Where a block lies that is no argument's, and what keeps it alive."""
        if block.address is not None:
            return block.address, block.owner
        if block not in self._own:
            self._own[block] = self.arrays.empty((max(1, block.size),), np.uint8)
        return self.arrays.address(self._own[block]), self._own[block]

    def _given(self, value: Any, arrays: Sequence[Any]) -> Any:
        if isinstance(value, View):
            return self.array(value, arrays)
        if isinstance(value, Sparse):
            return self._matrix(value, arrays)
        if isinstance(value, Order):
            return self.rows
        if isinstance(value, (list, tuple)):
            return type(value)(self._given(each, arrays) for each in value)
        return self.value(value)

    def _matrix(self, value: Sparse, arrays: Sequence[Any]) -> Any:
        """The CSR matrix of these parts, or the batch of it."""
        parts = tuple(self.array(view, arrays) for view in value.parts)
        whole = value.kind(parts, shape=(len(parts[2]) - 1, value.shape[1]))
        return self.arrays.rows(whole, self.rows) if value.ordered else whole
