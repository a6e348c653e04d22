"""A recorded step on the device: captured as a CUDA graph, which is launched again and again.

The first run is made call by call, the second is captured. What cannot be captured is called in between: an op of CSR
matrices, whose kernels are told how many non-zeros there are, cuBLAS's products, which CuPy refuses to capture, and
whatever waits for the device.

Memory that ops allocate is a pool's that nobody else takes from, so that it stays the graph's: a result goes back to it
behind the last call that needs it, for later ones, and nothing is copied to where it is wanted.

Arguments are read where they lie by a graph for these addresses: few sets of them have one, since to capture takes as
long as many launches; at any others they are copied first to where one graph for all reads them.

Numbers (a learning rate, the number of a step) stand in a table in the device's memory, see ``numbers.py``. Where they
have changed, their calls are made once more, captured to be thrown away: what they would have launched with goes to the
table, by CuPy's pinned memory, so that nobody waits. For turns over batches of data that is done beforehand for many
turns: the graph of a turn begins with a kernel that takes the turn's numbers, and its rows of the data, from arrays of
all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import cupy
import numpy as np

from fastnn.kernels.contexts import setting
from fastnn.kernels.cuda import batches, dropout, elementwise, excess, fusion, launch, random
from fastnn.kernels.cuda.arrays import ON_DEVICE, address, strides_of
from fastnn.kernels.cuda.csr import Bound
from fastnn.kernels.cuda.numbers import OtherLaunchesError, Table
from fastnn.kernels.cuda.recorded import NEXT, touched
from fastnn.kernels.graph import (
    GATHER,
    PUT,
    Block,
    Call,
    CallByCall,
    Figure,
    Graph,
    Sparse,
    Stage,
    View,
    hinder,
    lifetimes,
    views_of,
)

# Sets of addresses of arguments that have a graph of their own. Unmeasured.
_DIRECT = 4

# Turns whose numbers are found at a time, while the device is at those before. Unmeasured.
_AT_ONCE = 64

# Turns of a graph, where there are so many: it is launched less often. Unmeasured.
_UNROLLED = 8

# What calls that have counters are given.
_COUNTED = {
    **dict.fromkeys(("dropout", "dropout_backward"), dropout.MASKED),
    **dict.fromkeys(("random_uniform", "random_normal"), random.GIVEN),
}

# What becomes of a result that the next turn would write to, or that is not in C order, before it is put.
_COPY = "copy"


class _UncapturableError(Exception):
    """A call that cannot be captured, by its number."""

    def __init__(self, call: int) -> None:
        self.call = call


class _Captured(NamedTuple):
    """Graphs, and the numbers of calls between them; where results lie that are needed when all is done."""

    steps: Sequence[Any]
    rooms: dict[Block, tuple[int, Any]]


class Replay(CallByCall):
    """A graph, ready to be run again and again by launches of what was captured."""

    arrays = ON_DEVICE
    lasting = False

    def __init__(self, graph: Graph) -> None:
        self._turns: batches.Turns | None = None
        recorded = graph
        graph, self._origins, self._reasons = fusion.fused(recorded)
        self._batches: set[Block] = set()
        if any(map(_is_of_turns, graph.calls)):
            graph = self._turning(graph)
        super().__init__(graph)
        self.listed = recorded
        self._rooms_of_turns: dict[Block, Any] = {}
        self._needed = _needed(graph)
        self._called = {number for number in self._needed if not _may_be_captured(graph.calls[number])}
        self._numbered = {number: taken for number in self._needed if (taken := _figures(graph.calls[number]))}
        self._stream, self._done = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Event(disable_timing=True)
        self._rooms: dict[Block, tuple[int, Any]] = {}
        self._gathered: dict[Any, Any] = {}  # batches of CSR matrices, of the turn at hand
        self._counters = launch.new_counters()
        self._counted: dict[int, int] = {}
        self._begin()
        stream = cupy.cuda.get_current_stream()  # which has been asked for what is known beforehand
        self._done.record(stream)
        self._last_stream = stream.ptr

    def _begin(self) -> None:
        """Be as before the first run."""
        self._pool, self._table = _lasting_pool(), Table()
        self._is_first, self._is_sent = True, False
        self._values: dict[int, list[float]] = {}
        self._settle()

    def _settle(self) -> None:
        """What follows from which calls are captured; nothing has been yet."""
        calls = self.graph.calls
        self._fixed = {block for number in self._called for block in calls[number].touched() if block.inner}
        self._fixed |= self._batches
        lives = lifetimes((calls[number].touched() for number in self._needed), self.graph.kept)
        self._ending: dict[int, list[Block]] = {number: [] for number in self._needed}
        for block, (_, last) in lives.items():
            if last < len(self._needed) and block not in self._fixed:
                self._ending[self._needed[last]].append(block)
        touched = {block for number in self._needed if number not in self._called for block in calls[number].touched()}
        written = {view.block for number in self._needed for view in calls[number].writes}
        arguments = [view.block for view in self.graph.arguments]
        self._read = [place for place, block in enumerate(arguments) if block in touched]
        self._written = [place for place in self._read if arguments[place] in written]
        self._graphs: dict[Any, dict[int, _Captured]] = {}
        self._of_copies: tuple[_Captured, dict[int, Any]] | None = None
        for block in self._fixed:
            super().memory(block)

    def run(self, arrays: Sequence[Any], addresses: Sequence[int]) -> None:
        """Run it on these arguments, whose memory begins at these addresses, on the current stream."""
        with self._in_order(), self._behind(arrays):
            if not self._is_first:
                self._refresh(arrays)
            if self._is_first:
                self._run_first(arrays)
                return
            captured = self._captured_at(arrays, addresses)
            if captured is None:
                self._run_on_copies(arrays)
            else:
                self._launch(captured, arrays)

    def turns(self, arrays: Sequence[Any], addresses: Sequence[int], order: Any, figures: Any) -> None:
        """A run for each row of ``figures``, see ``CallByCall``: nothing is asked of the device before the last."""
        if self._turns is None:
            self._turns = batches.Turns(len(order) // len(figures))
            self.rows = self._turns.rows
        with self._in_order(), self._behind(arrays):
            done = 0
            while done < len(figures):
                numbers = None if self._is_first else self._numbers_of(arrays, figures[done : done + _AT_ONCE])
                turns = range(done, done + (1 if numbers is None else len(numbers) - 1))
                self._turns.begin(turns, order, self._table.alone() if numbers is None else numbers)
                self._take_batches(arrays)
                self.figures[:] = figures[done]  # of which the launches are known
                if numbers is None:
                    self._run_first(arrays)
                else:
                    self._launch_turns(arrays, addresses, figures[turns.start : turns.stop])
                done = turns.stop

    def _launch_turns(self, arrays: Sequence[Any], addresses: Sequence[int], figures: Any) -> None:
        """A turn for each row of figures, many by one launch where nothing is called in between."""
        one, done = self._captured_at(arrays, addresses, anew=True), 0
        assert one is not None
        if len(one.steps) == 1 and not isinstance(one.steps[0], int) and len(figures) >= _UNROLLED:
            many = self._captured_at(arrays, addresses, anew=True, turns=_UNROLLED)
            assert many is not None
            for _ in range(len(figures) // _UNROLLED):
                self._launch(many, arrays)
            done = len(figures) // _UNROLLED * _UNROLLED
        for row in figures[done:]:
            self.figures[:] = row
            self._launch(one, arrays)

    def room_of_turns(self, into: View, turns: int) -> Any:
        """Memory for a result of every turn: where it was the last time, for the graph that writes there."""
        held = self._rooms_of_turns.get(into.block)
        if held is None or len(held) < turns * into.shape[0]:
            held = self._rooms_of_turns[into.block] = super().room_of_turns(into, turns)
        return held[: turns * into.shape[0]]

    def stages(self) -> Sequence[Stage]:
        """What a run does, in its order: what is captured, and what is called in between."""
        return [
            Stage(self._origins[number], self.graph.calls[number].op, self._how(number))
            for number in self._needed
            if self.graph.calls[number].op != NEXT
        ]

    def _how(self, number: int) -> str:
        return "called" if number in self._called else "captured"

    @property
    def launches(self) -> int:
        """Of kernels by a run, or a turn, as they were counted when it was made the last time."""
        return sum(self._counted.get(number, 0) for number in self._needed)

    @property
    def reasons(self) -> Sequence[str]:
        """How many more there are than the fewest of a step of dense layers, and why."""
        counted = [number for number in self._needed if number in self._counted]
        found = excess.lines(
            [self.graph.calls[number] for number in counted], [self._counted[number] for number in counted]
        )
        return [*found, *self._reasons]

    @property
    def bytes(self) -> int:
        """Of the memory that is its own."""
        copies = [*self._rooms_of_turns.values(), *(self._of_copies[1].values() if self._of_copies else ())]
        total: int = super().bytes + self._pool.total_bytes() + sum(copy.nbytes for copy in copies)
        return total

    def memory(self, block: Block) -> tuple[int, Any]:
        """Where a block lies that is no argument's, and what keeps it alive."""
        if not block.inner or block in self._fixed:
            return super().memory(block)
        if block not in self._rooms:
            made = cupy.empty((max(1, block.size),), np.uint8)
            self._rooms[block] = address(made), self._held(made)
        return self._rooms[block]

    def run_of(self, call: Call) -> Callable[..., Any]:
        """What makes a call: of a calculation with a number a launch that finds it in the table."""
        of_numbers = call.op in elementwise.CALCULATED and any(isinstance(each, Figure) for each in call.given.values())
        return partial(elementwise.calculated, call.op) if of_numbers else call.run

    def keep(self, place: Any, result: Any, arrays: Sequence[Any]) -> None:
        """Leave a new result where it is; one of memory that there is already is put there."""
        block = place.block
        known = not block.inner or block in self._fixed or block in self._rooms
        if known or result.strides != place.strides:
            super().keep(place, result, arrays)
        else:
            self._rooms[block] = address(result) - place.offset, self._held(result)

    def _matrix(self, value: Sparse, arrays: Sequence[Any]) -> Any:
        """A batch of a turn is gathered once for all calls of it."""
        if not value.ordered:
            return super()._matrix(value, arrays)
        if value.parts not in self._gathered:
            self._gathered[value.parts] = super()._matrix(value, arrays)
        return self._gathered[value.parts]

    def _held(self, array: Any) -> Any:
        """An array of the pool's memory that keeps the pool alive, which CuPy's own do not."""
        memory = cupy.cuda.UnownedMemory(address(array), array.nbytes, (array, self._pool), array.device.id)
        return cupy.ndarray(array.shape, array.dtype, cupy.cuda.MemoryPointer(memory, 0), array.strides)

    # --------------------------------------------------------------------------------------------------------- running

    @contextmanager
    def _in_order(self) -> Iterator[None]:
        """Work of the current stream comes behind that of the one that was current the last time."""
        stream = cupy.cuda.get_current_stream()
        if self._last_stream != stream.ptr:
            stream.wait_event(self._done)
        self._last_stream = stream.ptr
        try:
            with setting(launch.own_counters, self._counters):
                yield
        finally:
            self._done.record(stream)

    @contextmanager
    def _behind(self, arrays: Sequence[Any]) -> Iterator[None]:
        """What calls put off is done behind the runs, whatever comes of these."""
        try:
            yield
        finally:
            for number in self._needed:
                call = self.graph.calls[number]
                if isinstance(call.run, fusion.LazyRun):
                    call.run.behind(**{name: self._given(call.given[name], arrays) for name in call.run.takes_behind})

    def _turning(self, graph: Graph) -> Graph:
        """The graph with one call at its end that puts a turn's results where they are wanted, and takes batches."""
        calls: list[Call] = []
        origins: list[int] = []
        turn: dict[str, list[View]] = {"data": [], "into": [], "x": [], "places": []}
        become = _becoming(graph)
        for call, origin in zip(graph.calls, self._origins, strict=True):
            if call.op == GATHER and call.given["data"].contiguous:
                turn["data"].append(call.given["data"])
                turn["into"] += become[id(call)].results if id(call) in become else call.results
                continue
            if any(call is each for each in become.values()):
                continue
            if call.op == PUT:
                turn["x"].append(call.given["x"])
                turn["places"].append(call.given["into"])
                continue
            calls.append(call)
            origins.append(origin)
        self._batches = {view.block for view in turn["into"]}
        for place, x in enumerate(turn["x"]):
            if not x.contiguous or x.block in self._batches:
                turn["x"][place] = copy = _like(x)
                calls.append(Call(_COPY, {"x": x}, (copy,), (), _copied))
        writes = (*turn["into"], *turn["places"])
        if self._may_end(calls[-1:], turn):
            step = calls.pop()
            run = _LastStep(step.run, self._turn)
            calls.append(replace(step, given={**step.given, **turn}, writes=(*step.writes, *writes), run=run))
        else:
            calls.append(Call(NEXT, turn, (), writes, self._next))
        self._origins = [*origins, *[-1] * (len(calls) - len(origins))]
        return replace(graph, calls=calls)

    def _may_end(self, last: Sequence[Call], turn: dict[str, list[View]]) -> bool:
        """Whether the launch of the last call of a turn can end it, too: nothing of both has to wait."""
        if not last or not isinstance(last[0].run, fusion.NormRun):
            return False
        few = all(len(views) <= batches.AT_ONCE for views in turn.values())
        ended = Call(NEXT, turn, (), (*turn["into"], *turn["places"]), self._next)
        return few and not hinder(*touched(last[0]), *touched(ended))

    def _turn(self, given: Any, taken: Sequence[Any], put: Sequence[Any]) -> int:
        """What a launch is told that ends a turn."""
        assert self._turns is not None
        return self._turns.describe(given, self._table.device, taken, put)

    def _take_batches(self, arrays: Sequence[Any]) -> None:
        """Take those of the first turn."""
        given = self.graph.calls[-1].given
        self._next(*(self._given(given[name], arrays) for name in ("data", "into")))

    def _next(self, data: Any, into: Any, x: Any = (), places: Any = ()) -> None:
        assert self._turns is not None
        self._turns.next(self._table.device, data, into, x, places)

    def _run_first(self, arrays: Sequence[Any]) -> None:
        """Call by call, noting what launches have numbers."""
        current, begun, ended = cupy.cuda.get_current_stream(), cupy.cuda.Event(), cupy.cuda.Event()
        begun.record(current)
        self._stream.wait_event(begun)
        self._rooms, self._gathered = {}, {}
        with self._apart():
            for number in self._needed:
                with self._table.noting(number) if number in self._numbered else nullcontext():
                    self._make(number, arrays)
        self._gathered = {}
        ended.record(self._stream)
        current.wait_event(ended)
        self._table.make()
        self._is_first = False
        self._exclude({number for number in self._numbered if not self._table.has(number)})

    def _exclude(self, numbers: set[int]) -> None:
        """These calls are not captured."""
        self._called |= numbers
        self._numbered = {number: taken for number, taken in self._numbered.items() if number not in self._called}
        self._settle()

    def _make(self, number: int, arrays: Sequence[Any]) -> None:
        """A call; what is not needed behind it goes back to the pool."""
        asked: list[launch.Kernel] = []
        with setting(launch.asked_for, asked):
            self.again(self.graph.calls[number], arrays)
        self._counted[number] = max(1, len(asked))  # CuPy's own are not seen
        for block in self._ending[number]:
            self._rooms.pop(block, None)

    def _refresh(self, arrays: Sequence[Any]) -> None:
        """The numbers of now in the table; as before the first run where they want other launches."""
        if self._is_sent and self._values == self._values_of(self.figures):
            return
        self._is_sent = False  # should an interrupt come before the device has them
        try:
            with self._reading():
                self._read_numbers(arrays)
        except OtherLaunchesError:
            self._begin()
        except _UncapturableError as found:
            self._exclude({found.call})
            self._refresh(arrays)
        else:
            self._table.device[...] = cupy.asarray(self._table.host)
            self._is_sent = True

    def _numbers_of(self, arrays: Sequence[Any], figures: Any) -> Any:
        """The numbers of turns (1 + turns, bytes), on the device: of those before one that wants other launches.

        The first row is added to them from turn to turn. Where the first turn is that one, None, and all is as before
        the first run.
        """
        numbers: list[bytes] = []
        counters = self._counters_of_words()
        try:
            with self._reading(), suppress(OtherLaunchesError):
                for turn in figures:
                    self.figures[:] = turn
                    self._read_numbers(arrays, counters if numbers else ())
                    numbers.append(self._table.host.tobytes())
        except _UncapturableError as found:
            self._exclude({found.call})
            return self._numbers_of(arrays, figures)
        if not numbers:
            self._begin()
            return None
        if len(numbers) < len(figures):
            self._values = {}
        nothing = bytes(len(numbers[0]))
        made = np.frombuffer(bytearray(b"".join([nothing, *numbers])), np.uint8).reshape(1 + len(numbers), -1)
        for number, places in counters.items():
            self._values.pop(number, None)  # those of the first turn are in the table
            for start, kind, place in places:
                counted = figures[: len(numbers), place].astype(kind)
                if kind.itemsize == 4 and (np.diff(counted) == 1).all():  # the device counts them
                    made[0, start : start + 4].view(np.uint32)[:] = 1
                else:
                    made[1:, start : start + kind.itemsize] = counted[:, None].view(np.uint8)
        return cupy.asarray(made)

    def _counters_of_words(self) -> dict[int, list[tuple[int, Any, int]]]:
        """Of calls whose numbers that change are counters of random words alone: their places, dtypes and figures.

        No call is made for those of many turns: what advances by 1 from turn to turn is counted by the device.
        """
        found = {}
        for number in self._numbered:
            call = self.graph.calls[number]
            if call.op in _COUNTED:
                known = random.counters(_COUNTED[call.op], call.results[0].dtype)
                start = self._table.start(number)
                taken = {name: value.place for name, value in call.given.items() if isinstance(value, Figure)}
                if taken.keys() <= known.keys():
                    found[number] = [(start + known[name][0], known[name][1], place) for name, place in taken.items()]
        return found

    def _values_of(self, figures: Any) -> dict[int, list[float]]:
        """What numbers of each call are made of."""
        return {number: [figures[place] for place in taken] for number, taken in self._numbered.items()}

    def _read_numbers(self, arrays: Sequence[Any], without: Collection[int] = ()) -> None:
        """The numbers of now, of those calls for which they have changed, ``without`` some."""
        for number, values in self._values_of(self.figures).items():
            if number not in without and values != self._values.get(number):
                call = self.graph.calls[number]
                if hasattr(call.run, "numbers"):
                    self._table.write(number, call.run.numbers({**call.given, **self._options(call)}))
                else:
                    with _capturing(number, self._stream), self._table.reading(number):
                        self.run_of(call)(**self.given(call, arrays))
                self._values[number] = values

    def _options(self, call: Call) -> dict[str, Any]:
        """The numbers that a call takes."""
        return {name: self.value(value) for name, value in call.given.items() if isinstance(value, Figure)}

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What is asked of the device is not done, what is made of memory forgotten."""
        rooms, self._rooms, self._gathered = self._rooms, {}, {}
        try:
            with self._apart(), _captured(self._stream, []):
                yield
        except BaseException:
            self._values = {}  # of which not all may be in the table
            raise
        finally:
            self._rooms = rooms

    def _launch(self, captured: _Captured, arrays: Sequence[Any]) -> None:
        self._rooms, self._gathered = captured.rooms, {}
        for step in captured.steps:
            if isinstance(step, int):
                self.again(self.graph.calls[step], arrays)
            else:
                step.launch()

    def _captured_at(
        self, arrays: Sequence[Any], addresses: Sequence[int], anew: bool = False, turns: int = 1
    ) -> _Captured | None:
        """The graph for these addresses; None where there are too many others, unless it is to be made ``anew``.

        That of so many ``turns``: so often its calls follow one another.
        """
        known = tuple(addresses[place] for place in self._read)
        if known not in self._graphs and len(self._graphs) >= _DIRECT:
            if not anew:
                return None
            self._graphs.clear()
        if turns not in self._graphs.get(known, ()):
            captured = self._captured(arrays, turns)
            known = tuple(addresses[place] for place in self._read)  # fewer, if calls were found that are not captured
            self._graphs.setdefault(known, {})[turns] = captured
        return self._graphs[known][turns]

    def _run_on_copies(self, arrays: Sequence[Any]) -> None:
        """Run the graph that reads arguments where they are copied to."""
        if self._of_copies is None:
            copies = {place: self._room_of(self.graph.arguments[place]) for place in self._read}
            captured = self._captured([copies.get(place, array) for place, array in enumerate(arrays)])
            self._of_copies = captured, copies
        captured, copies = self._of_copies
        for place, copy in copies.items():
            copy[...] = arrays[place]
        self._launch(captured, [copies.get(place, array) for place, array in enumerate(arrays)])
        for place in self._written:
            arrays[place][...] = copies[place]

    def _room_of(self, view: View) -> Any:
        """Memory for an argument, with its strides."""
        memory = cupy.empty((max(1, view.block.size),), np.uint8)
        return self.arrays.at(address(memory) + view.offset, view, memory)

    # --------------------------------------------------------------------------------------------------------- capture

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """On the stream that is captured, with memory from the pool."""
        with cupy.cuda.using_allocator(self._pool.malloc), self._stream:
            yield

    def _captured(self, arrays: Sequence[Any], turns: int = 1) -> _Captured:
        """The calls on these arguments, captured but for those that cannot be; so many times, if all of them are."""
        while True:
            self._rooms, self._gathered = {}, {}
            try:
                with self._apart():
                    steps = [
                        each if isinstance(each, int) else self._graph(each, arrays, turns) for each in self._parts()
                    ]
                return _Captured(steps, self._rooms)
            except _UncapturableError as found:
                self._exclude({found.call})

    def _parts(self) -> Iterator[Any]:
        """The numbers of calls: of those that are captured together, and of one that is not."""
        together: list[int] = []
        for number in self._needed:
            if number not in self._called:
                together.append(number)
                continue
            if together:
                yield together
            yield number
            together = []
        if together:
            yield together

    def _graph(self, numbers: Sequence[int], arrays: Sequence[Any], turns: int) -> Any:
        """These calls as a CUDA graph, so many times."""
        made: list[Any] = []
        with _captured(self._stream, made):
            for place, number in enumerate([*numbers] * turns):
                if place % len(numbers) == 0:
                    self._gathered = {}
                    self._rooms = {} if turns > 1 else self._rooms
                pointing = self._table.pointing(number) if number in self._numbered else nullcontext()
                with _capturing(number, self._stream), pointing:
                    self._make(number, arrays)
        return made[0]


class _LastStep:
    """A step whose launch ends a turn, too, as it is told by ``turn``."""

    def __init__(self, step: Any, turn: Callable[..., int]) -> None:
        self._step, self._turn, self.numbers = step, turn, step.numbers

    def __call__(self, data: Any, into: Any, x: Any, places: Any, **given: Any) -> None:
        self._step(**given, turn=partial(self._turn, taken=(data, into), put=(x, places)))


@contextmanager
def _captured(stream: Any, graphs: list[Any]) -> Iterator[None]:
    """What a stream is asked for is not done but captured, in the last of these graphs."""
    stream.begin_capture()
    try:
        yield
    except BaseException:
        with suppress(cupy.cuda.runtime.CUDARuntimeError):  # what was captured is of no use
            stream.end_capture()
        raise
    graphs.append(stream.end_capture())


@contextmanager
def _capturing(call: int, stream: Any) -> Iterator[None]:
    """Where CUDA, or CuPy, refuses to capture what is asked for, the call is named.

    Also where neither says so: CuPy's copies from the host ask an event how far it is, which voids the capture.
    """
    try:
        yield
        stream.is_capturing()
    except RuntimeError as error:  # CUDARuntimeError is one
        raise _UncapturableError(call) from error


def _lasting_pool() -> Any:
    """A pool that never frees memory: graphs use what it takes for free, and would give back where there is no more."""
    held: list[Any] = []

    def allocate(size: int) -> Any:
        held.append(cupy.cuda.Memory(size))
        return cupy.cuda.MemoryPointer(held[-1], 0)

    return cupy.cuda.MemoryPool(allocate)


def _needed(graph: Graph) -> list[int]:
    """The numbers of calls that write to something, or whose results something comes of: a launch takes its time."""
    needed, numbers = {view.block for view in graph.kept}, []
    for number, call in reversed(list(enumerate(graph.calls))):
        made = {view.block for view in views_of(call.results)}
        if call.op == NEXT or call.writes or any(not block.inner or block in needed for block in made):
            numbers.append(number)
            needed |= {view.block for view in call.views()}
    return numbers[::-1]


def _like(view: View) -> View:
    """A new place for such numbers, in C order."""
    strides = strides_of(view.shape, view.dtype.itemsize)
    return View(Block(view.size * view.dtype.itemsize), 0, view.shape, strides, view.dtype)


def _copied(x: Any) -> Any:
    return x.copy()


def _becoming(graph: Graph) -> dict[int, Call]:
    """By the id of a call that takes a batch of bytes what makes numbers of all of it, where nobody else takes it."""
    found, kept = {}, {view.block for view in graph.kept}
    for call in graph.calls:
        if call.op != GATHER or call.results[0].dtype != np.uint8 or not call.given["data"].contiguous:
            continue
        (batch,) = call.results
        touching = [each for each in graph.calls if batch.block in each.touched()]
        if len(touching) == 2 and batch.block not in kept and _is_all(touching[1], batch):
            found[id(call)] = touching[1]
    return found


def _is_all(call: Call, x: View) -> bool:
    """Whether a call takes all rows of x in their order, as they are, in a new array."""
    given = call.given
    if call.op != "gather" or given["data"] != x or (given["scale"], given["offset"], given["out"]) != (1.0, 0.0, None):
        return False
    index = given["index"]
    known = isinstance(index, View) and index.block.owner is not None and index.shape == x.shape[:1]
    is_in_order = known and np.array_equal(index.block.owner.get(), np.arange(x.shape[0]))
    return bool(is_in_order) and call.results[0].dtype == np.float32


def _is_of_turns(call: Call) -> bool:
    """Whether a call has to know which turn it is."""
    return call.op in (GATHER, PUT) or any(isinstance(each, Sparse) and each.ordered for each in call.given.values())


def _may_be_captured(call: Call) -> bool:
    """Whether nothing of a call but numbers and addresses of arguments is other from run to run."""
    return not any(isinstance(value, Sparse) and not _is_bounded(value) for value in call.given.values())


def _is_bounded(matrix: Sparse) -> bool:
    """Whether its kernels are told the same number of non-zeros each time."""
    return isinstance(matrix.kind, Bound)


def _figures(call: Call) -> list[int]:
    """The places of the numbers that a call takes."""
    return [value.place for value in call.given.values() if isinstance(value, Figure)]
