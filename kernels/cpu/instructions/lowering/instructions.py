"""What instructions are made with: their operands, numbers and memory, as they are found for a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.addresses import address
from fastnn.kernels.cpu import elementwise, notes
from fastnn.kernels.cpu.gemm import Panels
from fastnn.kernels.cpu.instructions import replay
from fastnn.kernels.cpu.instructions.lowering.sparse import Room
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.graph import Block, Figure, Range, Sparse, View, range_of


class UnfitError(Exception):
    """A call has operands that no instruction takes."""


@dataclass
class StandIns:
    """Arrays in place of views, while an op's calls of kernels are noted."""

    to: Lowering
    lies: list[tuple[int, int, View]] = field(default_factory=list)
    arrays: list[Any] = field(default_factory=list)

    def take(self, array: Any, view: View) -> Any:
        """Let an array stand for a view."""
        self.arrays.append(array)
        self.lies.append((address(array), address(array) + array.nbytes, view))
        return array

    def make(self, given: Any) -> Any:
        """What an op is given for a view; anything else as it is, but figures and CSR matrices."""
        if isinstance(given, View):
            if given.size == 0:
                raise UnfitError
            view = self.to.in_order(given)
            return self.take(np.empty(view.shape, view.dtype), view)
        if isinstance(given, (Figure, Sparse, Panels, list)):
            raise UnfitError
        return given

    def view(self, at: int) -> View | None:
        """The place that an address stands for."""
        for low, high, view in self.lies:
            if low <= at < high:
                return replace(view, offset=view.offset + at - low, shape=(), strides=())
        return None


class Noted(NamedTuple):
    """A kernel's call on arrays that stand for views."""

    note: notes.Note
    stand_ins: StandIns

    @property
    def judges(self) -> bool:
        """Whether the kernel says if its operands are right."""
        return bool(self.note.kernel.judges(self.note.dtype))

    @property
    def words(self) -> list[View | int]:
        """What an instruction has of it."""
        function, *record = self.note.kernel.noted(self.note.dtype, self.note.arguments)
        places = [self.stand_ins.view(word) for word in record]
        return [function, *(word if place is None else place for word, place in zip(record, places, strict=True))]


@dataclass
class Instruction:
    """One instruction before its tasks are chosen.

    ``views`` are its operands by field, more than one for a field whose neighbours are the slots behind it. An update
    ``rests`` where it leaves weights without a gradient as they are, and of their state all but the first part, which
    it multiplies by the number at place ``rho`` of its own, if there is one. What is
    ``noted`` of a kernel's call has to stay as long as it may be run.
    """

    call: int
    kind: int
    fields: Mapping[str, Any]
    views: Mapping[str, tuple[View | None, ...]]
    reads: list[Range]
    writes: list[Range]
    nanoseconds: float
    first: int = 0
    tasks: int = 1
    waits: bool = False
    rests: bool = False
    rho: int | None = None
    noted: Noted | None = None

    @property
    def stops(self) -> bool:
        """Whether it stops a step where it finds what it must not take."""
        return self.kind in replay.STOPPING or (self.noted is not None and self.noted.judges)


def _figure(place: int) -> Range:
    return Range(None, place, place + 1)


class Numbers(NamedTuple):
    """``size`` numbers from place ``at`` on that follow from ``figures``, whose values ``make`` is told."""

    at: int
    size: int
    figures: tuple[int, ...]
    make: Callable[[Callable[[Any], Any]], Sequence[Any]]


@dataclass
class Lowering:
    """The instructions of a graph as they are found; the lowering functions below add to it.

    Behind its ``arguments`` come blocks of ``rooms``: memory whose size is known when it runs.
    """

    dtype: np.dtype[Any]
    tasks: int
    arguments: int
    rooms: list[Room] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    varying: dict[Any, Numbers] = field(default_factory=dict)
    known: dict[int, Block] = field(default_factory=dict)
    call: int = 0

    def add(
        self,
        kind: int,
        nanoseconds: float,
        *,
        reads: Mapping[str, View | None] | None = None,
        writes: Mapping[str, View] | None = None,
        takes: Sequence[int] = (),
        makes: Sequence[int] = (),
        **fields: Any,
    ) -> None:
        """An instruction with operands by the names of their slots, and the figures that it takes and makes."""
        read, written = reads or {}, writes or {}
        views: dict[str, tuple[View | None, ...]] = {name: (view,) for name, view in {**read, **written}.items()}
        self.instructions.append(
            Instruction(
                self.call,
                kind,
                fields,
                views,
                [range_of(view) for view in read.values() if view is not None] + [_figure(place) for place in takes],
                [range_of(view) for view in written.values()] + [_figure(place) for place in makes],
                nanoseconds,
            )
        )

    def constants(self, numbers: Sequence[float]) -> int:
        """Where these numbers stand in a turn's row."""
        self.numbers += numbers
        return len(self.numbers) - len(numbers)

    def following(
        self, key: Any, figures: Sequence[Figure], count: int, make: Callable[[Callable[[Any], Any]], Sequence[Any]]
    ) -> int:
        """Where so many numbers stand that follow from figures; those of one ``key`` are the same."""
        if key not in self.varying:
            at = self.constants([0.0] * count)
            self.varying[key] = Numbers(at, count, tuple(figure.place for figure in figures), make)
        return self.varying[key].at

    def temporary(self, shape: tuple[int, ...], dtype: Any = None) -> View:
        """Memory of a call's own."""
        kind = self.dtype if dtype is None else np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        strides = tuple(int(np.prod(shape[place + 1 :], dtype=np.int64)) * kind.itemsize for place in range(len(shape)))
        return View(Block(max(1, count) * kind.itemsize), 0, shape, strides, kind)

    def holding(self, number: float, shape: tuple[int, ...]) -> View:
        """Memory that holds one number again and again, in the kernels' dtype."""
        held = np.full(shape, number, self.dtype)
        return View.of(held, address(held))

    def room(self, x: Sparse) -> Room:
        """Memory for a batch's non-zeros."""
        first = self.arguments + sum(len(room.blocks) for room in self.rooms)
        self.rooms.append(Room(x, Block(0, argument=first), Block(0, argument=first + 1), self.dtype))
        return self.rooms[-1]

    def packed(self, panels: Panels) -> View:
        """The memory of packed weights, which are known by their address."""
        memory = panels.panels
        at = address(memory)
        block = self.known.setdefault(at, Block(memory.nbytes, address=at, owner=memory))
        return View(block, 0, memory.shape, memory.strides, memory.dtype)

    def in_order(self, view: Any) -> Any:
        """The view, or where its numbers do not lie in C order a copy in which they do."""
        if not isinstance(view, View) or view.contiguous:
            return view
        copy = self.temporary(view.shape)
        self.lay_out(view, copy)
        return copy

    def lay_out(self, view: View, copy: View) -> None:
        """An instruction that puts the numbers of a view into a copy in C order."""
        sizes, strides = _axes(view)
        if not view.behaved or view.dtype != self.dtype or view.size == 0 or len(sizes) > len(_SIZES):
            raise UnfitError
        fields: dict[str, Any] = dict(zip(_SIZES, sizes, strict=True)) | dict(zip(_STRIDES, strides, strict=True))
        work = elementwise.nanoseconds(view.size)
        self.add(Kind.LAY_OUT, work, reads={"a": view}, writes={"c": copy}, **fields)

    def plain(self, *views: Any) -> None:
        """Raise ``UnfitError`` unless all are in C order, in the kernels' dtype, and not empty."""
        for view in views:
            if not isinstance(view, View) or not view.contiguous or view.dtype != self.dtype or view.size == 0:
                raise UnfitError


# Fields of the sizes of what is laid out, and of its strides, the outermost first.
_SIZES, _STRIDES = ("outer", "n", "k", "m"), ("column_b", "row_a", "column_a", "row_b")


def _axes(view: View) -> tuple[list[int], list[int]]:
    """Sizes and strides, in numbers, of as few axes as a view's numbers lie along; at least as many as are named."""
    sizes, strides = [1] * len(_SIZES), [0] * len(_SIZES)
    for size, stride in zip(view.shape, view.strides, strict=True):
        if size != 1 and sizes[-1] != 1 and strides[-1] != stride * size:
            sizes, strides = [*sizes, size], [*strides, stride]
        elif size != 1:
            sizes[-1], strides[-1] = sizes[-1] * size, stride
    while len(sizes) > len(_SIZES) and sizes[0] == 1:
        sizes, strides = sizes[1:], strides[1:]
    return sizes, [stride // view.dtype.itemsize for stride in strides]


def apart(result: View, *sources: View | None, same: bool = False) -> None:
    """Raise ``UnfitError`` where a result lies over a source, but for the ``same`` place, or a source is no array."""
    for source in sources:
        if source is not None and not isinstance(source, View):
            raise UnfitError
        if source is not None and result.overlaps(source) and not (same and _same(result, source)):
            raise UnfitError


def _same(a: View, b: View) -> bool:
    return a.block is b.block and a.offset == b.offset and a.shape == b.shape


def numbers_by(
    to: Lowering,
    key: Any,
    options: Mapping[str, Any],
    count: int,
    make: Callable[[Callable[[Any], Any]], Sequence[Any]],
) -> int:
    """Where so many numbers stand that follow from options; of one ``key`` they follow in one way."""
    figures = [option for option in options.values() if isinstance(option, Figure)]
    if figures:
        return to.following((key, *options.items()), figures, count, make)
    return to.constants([*make(lambda option: option), 0.0])


def integer(value: Any) -> int:
    """An integer as an instruction has it: of a figure, ~ its place."""
    return ~value.place if isinstance(value, Figure) else int(value)


def constant(value: Any) -> float:
    """A number that is the same at every turn."""
    if isinstance(value, Figure):
        raise UnfitError
    return float(value)
