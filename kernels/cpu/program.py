"""A recorded step on the CPU: its memory, who does what of it when, and its replay.

Results live in one arena, each where nothing else lies that is still needed. Instructions are shared out among the
tasks of a team: what is worth it by all of them, the rest by one each, so that small ones which do not depend on one
another run side by side; where one needs what another task has made, all wait. A replay is one compiled call, or one
for each stretch between calls that have no instructions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.addresses import address
from fastnn.kernels.cpu._arrays import aligned
from fastnn.kernels.cpu.compiler.machine import LINE
from fastnn.kernels.cpu.instructions import bags, pooled_convolution, replay
from fastnn.kernels.cpu.instructions.fusion import fuse
from fastnn.kernels.cpu.instructions.holding import Held, in_panels
from fastnn.kernels.cpu.instructions.lowering import LOWERED
from fastnn.kernels.cpu.instructions.lowering.instructions import Instruction, Lowering, Noted, UnfitError
from fastnn.kernels.cpu.instructions.row_steps import resting
from fastnn.kernels.cpu.instructions.sparse_fusion import holding
from fastnn.kernels.cpu.teams import team, threads
from fastnn.kernels.graph import Block, Call, CallByCall, Graph, Range, Stage, View, hinder, lifetimes, views_of
from fastnn.kernels.interrupts import held

# Work that one task does alone: to wait for one another costs some hundred nanoseconds.
_ALONE_BELOW_NS = 3_000.0

# Turns from which on it pays to move weights and states into panels and back.
_MANY = 8

# Work of one compiled call, if no single instruction takes longer, so that an interrupt is noticed soon.
_AT_ONCE_NS = 100e6


@dataclass
class _Outside:
    """A call that has no instructions, at its place among those."""

    call: Call


_Stretch = list[Instruction]


def _dtype(graph: Graph) -> np.dtype[Any]:
    """The dtype of the kernels: that of the first operand which has one."""
    kinds = [view.dtype for call in graph.calls for view in (*call.views(), *views_of(call.results))]
    return next((kind for kind in kinds if kind.char in "fd"), np.dtype(np.float32))


# -------------------------------------------------------------------------------------------------------------- memory


def _moments(stretches: Sequence[_Stretch | _Outside]) -> Iterator[list[Block | None]]:
    """What each instruction, or call outside of them, touches."""
    for stretch in stretches:
        if isinstance(stretch, _Outside):
            yield [*stretch.call.touched()]
        else:
            yield from ([each.block for each in (*one.reads, *one.writes)] for one in stretch)


def _places(lives: Mapping[Block, tuple[int, int]]) -> tuple[dict[Block, int], int]:
    """Where each block lies in an arena, and the bytes of that: the largest first, each at the first place free.

    A place is free where what lies there is needed at other moments only.
    """
    places: dict[Block, int] = {}
    total = 0
    for block in sorted(lives, key=lambda block: -block.size):
        first, last = lives[block]
        taken = sorted(
            (at, at + other.size)
            for other, at in places.items()
            if lives[other][0] <= last and first <= lives[other][1]
        )
        at = 0
        for low, high in taken:
            if at + block.size <= low:
                break
            at = max(at, -(-high // LINE) * LINE)
        places[block] = at
        total = max(total, at + block.size)
    return places, total


def _passed_on(stretches: Sequence[_Stretch | _Outside], kept: Sequence[View]) -> list[Block]:
    """Blocks that are results of calls outside of instructions, in C order, and that such calls alone look at."""
    calls = [stretch.call for stretch in stretches if isinstance(stretch, _Outside)]
    made = [view for call in calls for view in views_of(call.results)]
    seen = {range_.block for each in stretches if isinstance(each, list) for one in each for range_ in one.reads}
    seen |= {range_.block for each in stretches if isinstance(each, list) for one in each for range_ in one.writes}
    seen |= {view.block for view in (*kept, *(view for call in calls for view in call.writes))}
    whole = [view for view in made if view.contiguous and view.offset == 0 and view.block.inner]
    return [
        view.block for view in whole if view.block not in seen and view.size * view.dtype.itemsize == view.block.size
    ]


# --------------------------------------------------------------------------------------------------------------- tasks


def _share_out(stretch: _Stretch, tasks: int, lies: Callable[[Range], Range]) -> int:
    """Choose the tasks of each instruction, and where all wait; how many tasks there are.

    ``lies`` gives memory where it really is: two blocks may share a place, one after the other.
    """
    if sum(each.nanoseconds for each in stretch) < threads.SERIAL_BELOW_NS:
        tasks = 1
    touched: list[tuple[Instruction, list[Range], list[Range]]] = []
    loads = [0.0] * tasks
    for place, each in enumerate(stretch):
        reads, writes = [lies(range_) for range_ in each.reads], [lies(range_) for range_ in each.writes]
        pairs = [
            (other, hinder(other_reads, other_writes, reads, writes)) for other, other_reads, other_writes in touched
        ]
        before = [other for other, hinders in pairs if hinders]
        wide = tasks > 1 and each.nanoseconds >= _ALONE_BELOW_NS
        same = {other.first for other in before}
        if before and (wide or any(other.tasks > 1 for other in before) or len(same) > 1) and tasks > 1:
            stretch[place - 1].waits = True
            touched, loads, before = [], [0.0] * tasks, []
        each.first, each.tasks = (0, tasks) if wide else (before[0].first if before else loads.index(min(loads)), 1)
        for task in range(each.first, each.first + each.tasks):
            loads[task] += each.nanoseconds / each.tasks
        touched.append((each, reads, writes))
        if each.stops:  # where it finds wrong labels, nothing behind it may run
            each.waits = True
            touched, loads = [], [0.0] * tasks
    if stretch:
        stretch[-1].waits = True
    return tasks


# -------------------------------------------------------------------------------------------------------------- replay


@dataclass
class _Compiled:
    """A stretch as the compiled call gets it; ``noted`` keeps alive what notes have addresses of."""

    table: Any
    tasks: int
    calls: list[int]
    nanoseconds: float
    noted: Sequence[Noted | None]


class _Turn(NamedTuple):
    """A stretch, and what comes before and behind all its turns for the weights that they hold."""

    compiled: _Compiled
    holds: Sequence[Held]
    before: _Compiled
    after: _Compiled


class Replay(CallByCall):
    """A graph, ready to be run again and again by as many tasks as threads are chosen now."""

    def __init__(self, graph: Graph) -> None:
        graph = pooled_convolution.joined(bags.joined(graph))
        super().__init__(graph)
        self._tasks = threads.get_num_threads()
        self._dtype = _dtype(graph)
        self._lowering = Lowering(self._dtype, self._tasks, len(graph.arguments))
        stretches = _cut(_fused(_lowered(graph, self._lowering), self._lowering, graph.kept))
        self._passed: dict[Block, Any] = dict.fromkeys(_passed_on(stretches, graph.kept))
        lives = lifetimes(_moments(stretches), graph.kept)
        self._places, size = _places({block: life for block, life in lives.items() if block not in self._passed})
        self._arena = aligned((max(1, size),), np.uint8)
        self._rooms = [[np.empty(0, dtype) for dtype in room.blocks.values()] for room in self._lowering.rooms]
        self._start = address(self._arena)
        self._slots: dict[Any, int] = {None: replay.NONE}
        self._known: list[int] = [0]
        self._patches: list[tuple[int, int, int]] = []
        self._together = stretches[0] if len(stretches) == 1 and isinstance(stretches[0], list) else []
        holds = holding(self._together, self._lowering, self._lies)
        holds += resting(self._together, {view.block for view in graph.kept}, self._lies)
        self._steps: list[_Turn | Call] = [
            stretch.call if isinstance(stretch, _Outside) else self._turn(stretch, holds) for stretch in stretches
        ]
        self._many: _Turn | None = None
        self._addresses = np.array(self._known, np.int64)
        self._numbers = np.array([[*self._lowering.numbers, 0.0]], self._dtype)
        self._varying = tuple(self._lowering.varying.values())
        self._last: list[Any] = [None] * len(self._varying)
        self._row = self.figures.reshape(1, -1)
        self._status = np.zeros(1, replay.STATUS)
        self._failed = self._status["instruction"]
        self._run: Any = (
            replay.replay.compiled(self._dtype) if any(isinstance(step, _Turn) for step in self._steps) else None
        )

    def outdated(self) -> bool:
        """Whether another number of threads is chosen."""
        return threads.get_num_threads() != self._tasks

    def run(self, arrays: Sequence[Any], addresses: Sequence[int]) -> None:
        """Run it on these arguments, whose memory begins at these addresses.

        Where an instruction finds what it must not take, a label that is none, say, nothing behind it is run, and its
        call is made as it was recorded: that raises the error.
        """
        self._take(arrays, addresses)
        figures, last = self.figures, self._last
        for place, (at, count, taken, make) in enumerate(self._varying):
            now = [figures[figure] for figure in taken]
            if now != last[place]:
                last[place] = None  # should an interrupt come before they are complete
                self._numbers[0, at : at + count] = make(self.value)
                last[place] = now
        for step in self._steps:
            if isinstance(step, Call):
                self.again(step, arrays)
            else:
                self._replay(step, arrays, self._numbers, self._row, self.rows)

    def turns(self, arrays: Sequence[Any], addresses: Sequence[int], order: Any, figures: Any) -> None:
        """A run for each row of ``figures``, see ``CallByCall``: in one compiled call, or some where it takes long."""
        if len(self._steps) != 1 or isinstance(self._steps[0], Call):
            super().turns(arrays, addresses, order, figures)
            return
        step = self._steps[0] if len(figures) < _MANY else self._of_many(self._steps[0])
        self._take(arrays, addresses)
        work = max(1.0, step.compiled.nanoseconds)
        batch, most = len(order) // max(1, len(figures)), max(1, int(_AT_ONCE_NS / work))
        for first in range(0, len(figures), most):
            part = figures[first : first + most]
            rows = order[first * batch : (first + len(part)) * batch]
            self._replay(step, arrays, self._numbers_of(part), part, rows)

    def stages(self) -> Sequence[Stage]:
        """What a run does, in its order."""
        stages: list[Stage] = []
        numbers = {id(call): number for number, call in enumerate(self.graph.calls)}
        for step in self._steps:
            if isinstance(step, Call):
                stages.append(Stage(numbers[id(step)], step.op, "called"))
                continue
            each = step.compiled
            for call, row in zip(each.calls, each.table, strict=True):
                several = row["tasks"] > 1 or each.tasks == 1
                tasks = "all" if several else f"task {row['first']}"
                stages.append(Stage(call, str(replay.Kind(row["kind"])), tasks, bool(row["waits"]) and each.tasks > 1))
        return stages

    @property
    def bytes(self) -> int:
        """Of the memory that is its own."""
        return int(self._arena.size) + sum(memory.nbytes for room in self._rooms for memory in room)

    def _take(self, arrays: Sequence[Any], addresses: Sequence[int]) -> None:
        known, rooms = self._addresses, self._lowering.rooms
        if rooms:
            addresses = [*addresses, *self._room(arrays)]
        for slot, argument, offset in self._patches:
            known[slot] = addresses[argument] + offset

    def _room(self, arrays: Sequence[Any]) -> list[int]:
        """Addresses of memory for as many non-zeros as batches of these arguments may have."""
        for place, room in enumerate(self._lowering.rooms):
            most = room.most(arrays)
            if most > self._rooms[place][0].size:
                self._rooms[place] = [aligned((most,), dtype) for dtype in room.blocks.values()]
        return [address(memory) for room in self._rooms for memory in room]

    def _numbers_of(self, figures: Any) -> Any:
        """The numbers of turns: a row for each, or one where all have the same."""
        taken = sorted({figure for each in self._varying for figure in each.figures})
        same = all((figures[:, figure] == figures[0, figure]).all() for figure in taken)
        numbers = np.repeat(self._numbers, 1 if same else len(figures), axis=0)
        for row, turn in zip(numbers, figures, strict=False):
            self.figures[:] = turn
            for at, count, _, make in self._varying:
                row[at : at + count] = make(self.value)
        return numbers

    def memory(self, block: Block) -> tuple[int, Any]:
        """Where a block lies that is no argument's, and what keeps it alive."""
        if block in self._passed:
            return address(self._passed[block]), self._passed[block]
        return self._address(block), self._arena if block.inner else block.owner

    def keep(self, place: View, result: Any, arrays: Sequence[Any]) -> None:
        """Put a result where it is looked for: what calls alone look at stays where it was made."""
        if place.block in self._passed:
            self._passed[place.block] = result if result.strides == place.strides else np.ascontiguousarray(result)
        else:
            super().keep(place, result, arrays)

    def _turn(self, stretch: _Stretch, holds: Sequence[Held]) -> _Turn:
        """A stretch made ready, with what it holds while its turns last."""
        before, after = (self._compiled([each for one in holds for each in part(one)]) for part in _AROUND)
        return _Turn(self._compiled(stretch), holds, before, after)

    def _of_many(self, turn: _Turn) -> _Turn:
        """The one turn for so many that it pays to hold more weights."""
        if self._many is None:
            stretch, holds = in_panels(self._together, self._lies)
            self._many = self._turn(stretch, [*turn.holds, *holds]) if holds else turn
            self._addresses = np.array(self._known, np.int64)
        return self._many

    def _replay(self, turn: _Turn, arrays: Sequence[Any], numbers: Any, figures: Any, order: Any) -> None:
        try:
            if turn.holds:
                with held():  # what is held must be put back
                    self._hold(turn, numbers, figures, order)
                    self._go(turn.compiled, numbers, figures, order)
                    self._put_back(turn, numbers, figures, order)
            else:
                self._go(turn.compiled, numbers, figures, order)
            if self._failed[0]:
                self._explain(turn.compiled, arrays, figures, order)
        except BaseException:  # an interrupt, say, before the error was told
            self._forget()
            raise

    def _go(self, step: _Compiled, numbers: Any, figures: Any, order: Any) -> None:
        team.run(self._run, step.tasks, (step.table, self._addresses, numbers, figures, order, self._status))

    def _hold(self, turn: _Turn, numbers: Any, figures: Any, order: Any) -> None:
        """Take what turns hold."""
        for each in turn.holds:
            if each.touched is not None:
                each.touched[0] = -1
            if each.slopes is not None:
                each.slopes[...] = 0
        self._go(turn.before, numbers, figures[:1], order)

    def _put_back(self, turn: _Turn, numbers: Any, figures: Any, order: Any) -> None:
        """Put back what turns held; what rested catches up with all turns, or with those before one that failed."""
        failed, last = int(self._failed[0]), int(self._status["turn"][0])
        turns = [last + (each.place < failed - 1) if failed else len(figures) for each in turn.holds]
        turn.after.table["n"] = np.repeat(turns, [len(each.after) for each in turn.holds])
        self._go(turn.after, numbers, figures[:1], order)

    def _explain(self, step: _Compiled, arrays: Sequence[Any], figures: Any, order: Any) -> None:
        """Make the call at which a replay stopped as it was recorded."""
        turn, batch = int(self._status["turn"][0]), len(order) // len(figures)
        call = self.graph.calls[step.calls[int(self._failed[0]) - 1]]
        self._forget()
        self.figures[:] = figures[turn]
        self.rows = order[turn * batch : (turn + 1) * batch]
        self.again(call, arrays)
        raise RuntimeError(f"{call.op}: got operands that its kernel does not take and its checks let pass")

    def _forget(self) -> None:
        """Be as before a run."""
        self._failed[0] = 0

    # ------------------------------------------------------------------------------------------------------- addresses

    def _address(self, block: Block) -> int:
        if block.address is not None:
            return block.address
        return int(self._start + self._places[block])

    def _slot(self, view: View | int | None, anew: bool = False) -> int:
        """The place of a view's address in the table, or of a number, ``anew`` at its end."""
        if isinstance(view, int):
            self._known.append(view)
            return len(self._known) - 1
        key = None if view is None else (view.block, view.offset)
        if key in self._slots and not anew:
            return self._slots[key]
        slot = len(self._known)
        if view is None:
            self._known.append(0)
            return slot
        self._slots.setdefault(key, slot)
        argument = view.block.argument
        if argument is None:
            self._known.append(self._address(view.block) + view.offset)
        else:
            first = self.graph.arguments[argument].offset if argument < len(self.graph.arguments) else 0
            self._known.append(0)
            self._patches.append((slot, argument, view.offset - first))  # an address is that of the first number
        return slot

    def _lies(self, range_: Range) -> Range:
        """Memory that is known already by its address: two blocks may have some in common."""
        block = range_.block
        if block is None or block.argument is not None:
            return range_
        at = self._address(block)
        return Range(_KNOWN, at + range_.low, at + range_.high)

    def _compiled(self, stretch: _Stretch) -> _Compiled:
        tasks = _share_out(stretch, self._tasks, self._lies)
        table = np.zeros(len(stretch), replay.INSTRUCTION)
        for row, each in zip(table, stretch, strict=True):
            for name, views in each.views.items():
                slots = [self._slot(view, anew=len(views) > 1) for view in views]  # those of several are neighbours
                row[name] = slots[0] if slots else replay.NONE
            for name, value in each.fields.items():
                row[name] = value
            if each.noted is not None:
                row["a"] = len(self._known)
                for part in each.noted.words:
                    self._slot(part, anew=True)
            row["kind"], row["first"], row["tasks"], row["waits"] = each.kind, each.first, each.tasks, each.waits
        work = sum(each.nanoseconds for each in stretch)
        return _Compiled(table, tasks, [each.call for each in stretch], work, [each.noted for each in stretch])


# What comes before all turns, and behind them.
_AROUND = attrgetter("before"), attrgetter("after")

# All memory whose addresses are known when a replay is made ready.
_KNOWN = Block(0)


def _fused(
    stretches: Sequence[_Stretch | _Outside], lowering: Lowering, kept: Sequence[View]
) -> list[_Stretch | _Outside]:
    """The stretches with neighbours fused, but for what somebody else looks at in between."""
    called = [stretch.call for stretch in stretches if isinstance(stretch, _Outside)]
    seen = {view.block for call in called for view in (*call.views(), *views_of(call.results))}
    seen |= {view.block for view in kept}
    instructed = [stretch for stretch in stretches if isinstance(stretch, list)]
    touched = Counter(block for stretch in instructed for block in {*_blocks_of(stretch)} if block is not None)
    seen |= {block for block, stretches_of_it in touched.items() if stretches_of_it > 1}
    return [stretch if isinstance(stretch, _Outside) else fuse(stretch, lowering, seen) for stretch in stretches]


def _blocks_of(stretch: _Stretch) -> Iterator[Block | None]:
    """What its instructions read and write."""
    return (range_.block for each in stretch for range_ in (*each.reads, *each.writes))


def _cut(stretches: Sequence[_Stretch | _Outside]) -> list[_Stretch | _Outside]:
    """Long stretches in parts, between which Python looks for interrupts; all tasks wait at the end of each."""
    parts: list[_Stretch | _Outside] = []
    for stretch in stretches:
        if isinstance(stretch, _Outside):
            parts.append(stretch)
            continue
        part: _Stretch = []
        for each in stretch:
            if part and sum(other.nanoseconds for other in (*part, each)) > _AT_ONCE_NS:
                parts.append(part)
                part = []
            part.append(each)
        parts.append(part)
    return parts


def _lowered(graph: Graph, lowering: Lowering) -> list[_Stretch | _Outside]:
    """Instructions, and calls outside of them, in their order."""
    stretches: list[_Stretch | _Outside] = []
    for number, call in enumerate(graph.calls):
        lowering.call, lowering.instructions = number, []
        lower = LOWERED.get(call.op)
        try:
            if lower is None:
                raise UnfitError
            lower(lowering, call)
        except UnfitError:
            stretches.append(_Outside(call))
            continue
        if not stretches or isinstance(stretches[-1], _Outside):
            stretches.append([])
        last = stretches[-1]
        assert isinstance(last, list)
        last += lowering.instructions
    return stretches
