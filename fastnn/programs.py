"""Programs: a step over ``fastnn.ops``, recorded once and replayed by one call."""

from __future__ import annotations

import inspect
import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, update_wrapper
from itertools import accumulate
from typing import Any, overload

import numpy as np

from fastnn import backends, checks, tape
from fastnn.adoption import adopted
from fastnn.epochs import Epoch, Series, constant, gathering, joined, putting
from fastnn.kernels.graph import Block, Call, Figure, Graph, Sparse, View
from fastnn.kernels.table import TABLE, Integer, Real
from fastnn.recorder import Recorder, rebuilt

Array = Any

# Recordings that a thread keeps of a program: each has memory of its own.
_REMEMBERED = 64

# The largest integer that float64 holds, as all below it; a larger one, a seed say, is a constant of its recording.
_MOST = 2**53


@overload
def program(f: Callable[..., Any]) -> Program: ...
@overload
def program(*, static: Sequence[str] = (), copy: bool = False) -> Callable[[Callable[..., Any]], Program]: ...
def program(f: Callable[..., Any] | None = None, *, static: Sequence[str] = (), copy: bool = False) -> Any:
    """Make a program of a function over ``fastnn.ops``: recorded at its first call, replayed by one call from then on.

    The function takes arrays and numbers, also in tuples, lists and dictionaries, and returns results of ops and what
    is calculated of them with + - * /, in such structures as well. A CSR matrix of SciPy's is an argument like an
    array, whatever number of non-zeros it has. Arrays from outside (weights) are used where they lie. At the first call
    with arguments of new shapes, strides or dtypes the ops run as ever, and are recorded. A later call runs just these
    ops: the rest of the function's Python is not run again. So

    - branches and loops of Python are those of the recording; arguments named in ``static``, and all that are neither
      arrays nor numbers (True, None, strings), are constants of it, and another value makes another recording;
    - numbers that change from call to call (a learning rate, the number of a step) have to be arguments;
    - a random number that Python draws, a clock, a counter is frozen as it was.

    What would be lost raises TypeError by name as it is recorded: a NumPy expression on an argument or a result, an
    array that the function made or wrote to by other means than ops.

    Results are valid until the program's next call in the same thread, unless ``copy``. On the CPU a call takes some
    microseconds beside its kernels; its bits are those of the same ops called one by one, with any number of threads.
    Inside of another program, or of ``gradients``, the function is called as it is.

    With CuPy arrays for arguments, or the backend "cuda" chosen, all arrays have to be CuPy's, on the current device.
    There the third call captures a CUDA graph, which later ones launch on the current stream; at other addresses of
    arguments than four, these are copied to the graph's own first. Calls that cannot be captured, those of CSR
    matrices above all, are made in between: ``plan`` says which. A loss is an array () that nobody waits for, and so is
    what is calculated of it. Nobody looks at what arrays hold: whether they were written to by other than ops is not
    noticed. Calls may share a launch, which may add in another order than the ops one by one: results are the same to
    rounding, and the same bits run after run.

    >>> @fastnn.program
    ... def step(x, t, rate):
    ...     loss, (dw, db) = fastnn.gradients(lambda w, b: ops.mse(ops.linear(x, w, b), t)[0], (w, b))
    ...     ops.sgd_step(w, dw, learning_rate=rate)
    ...     ops.sgd_step(b, db, learning_rate=rate)
    ...     return loss
    """
    if f is None:
        return partial(program, static=static, copy=copy)
    return Program(f, static, copy)


class Program:
    """A function over ops with its recordings; see ``program``."""

    def __init__(self, f: Callable[..., Any], static: Sequence[str] = (), copy: bool = False) -> None:
        if not callable(f):
            raise TypeError(f"f: got {checks.describe(f)}, wants a function over fastnn.ops")
        if isinstance(static, str) or not all(isinstance(name, str) for name in static):
            raise TypeError(f"static: got {checks.describe(static)}, wants names of arguments, such as ['depth']")
        update_wrapper(self, f)
        self._function, self._copy, self._static = f, copy, frozenset(static)
        self._names = [
            parameter.name
            for parameter in inspect.signature(f).parameters.values()
            if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        ]
        self._threads = threading.local()

    def __repr__(self) -> str:
        return f"<program {getattr(self._function, '__qualname__', self._function)}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        # arrays and numbers by position: a loop of its own, for a small step takes no longer than the general way
        known: list[Any] = [backends.override.get() or backends.default]
        arrays: list[Array] = []
        numbers: list[float] = []
        for value in args:
            kind = type(value)
            if kind is np.ndarray:
                arrays.append(value)
                known += (value.dtype, value.shape, value.strides, value.flags.num)
            elif kind is float or (kind is int and -_MOST <= value <= _MOST):
                numbers.append(value)
                known.append(kind)
            else:
                return self._call(args, kwargs)
        if kwargs or self._static:
            return self._call(args, kwargs)
        recording = self._recordings.get(tuple(known))
        return self._call(args, kwargs) if recording is None else self._run(recording, arrays, numbers, args, kwargs)

    def repeat(
        self,
        data: Array | Sequence[Array],
        order: Any,
        batch: int,
        /,
        *,
        each: Mapping[str, Any] | None = None,
        join: bool = False,
        **others: Any,
    ) -> Any:
        """Run the program on batch after batch: an epoch in one compiled call.

        ``data`` are arrays, or CSR matrices, of equal length whose rows become the program's first arguments: ``batch``
        rows at a time, in ``order``, row numbers (n,). ``others`` are its other arguments by name, ``each`` those
        numbers that have a value for each batch, as sequences of ceil(n / batch) of them. A short last batch is run as
        it is.

        Returns what the function does, with float64 arrays (batches,) in place of its numbers; its arrays are those of
        the last batch. To ``join`` them makes one array of what ops gave in all batches, along the first axis: outputs
        (batch, k) become (n, k), in ``order``. The bits are those of a call for each batch.

        On a device nothing waits before the caller reads the results: a number that ops gave, an array () there, is one
        of all batches' in a CuPy array (batches,). Row numbers in a CuPy array are not looked at: of a row that there
        is not all bits are set, which is NaN or -1. CSR matrices are the exception, whose rows wait for the device.

        Raises TypeError, ValueError or IndexError for what does not fit, before the first batch; where labels of a
        batch are wrong, or a number of ``each`` that an op checks, batches before it have been trained on.

        >>> losses = step.repeat((x, t), rng.permutation(len(x)), 128, rate=1e-3)
        """
        epoch = Epoch(data, order, batch, each or {}, join, others)
        results: list[Any] = []
        for first, turns in epoch.parts():
            results += self._turns(epoch, first, turns)
        return joined(results, epoch)

    def _turns(self, epoch: Epoch, first: int, turns: int) -> list[Any]:
        """The results of so many batches of one size, one after the other or together."""
        results: list[Any] = []
        while len(results) < turns:
            batch = first + len(results)
            arguments, named = epoch.arguments(batch), epoch.named(batch)
            given = self._given(arguments, named)
            recording, left = self._recordings.get(given.known()), turns - len(results)
            if recording is not None and left > 1 and recording.gathers(epoch, given):
                return [*results, self._own(recording.turns(epoch, given, batch, left))]
            results.append(rebuilt(epoch.kept, self._call(arguments, named)))
        return results

    def _own(self, results: Any) -> Any:
        """Results that stay, if that was asked for."""
        return rebuilt(_copied, results) if self._copy else results

    @property
    def launches(self) -> int:
        """Of kernels by a run of what was recorded in this thread, or by a batch of ``repeat``: counted on a device.

        The most that any of its runs has taken; 0 before the first, and where there is no device.
        """
        return max((recording.launches for recording in self._recordings.values()), default=0)

    @property
    def reasons(self) -> list[str]:
        """Why launches are more than the fewest that a step of such layers takes; on a device."""
        busiest = max(self._recordings.values(), key=lambda recording: recording.launches, default=None)
        return [] if busiest is None else busiest.reasons

    def plan(self, file: Any = None) -> None:
        """Print what the program's last recording in this thread does: ops, kernels, waits, memory, work.

        A line for each kernel of a replay: whether all threads share it, or one has it alone beside others; and whether
        all wait for one another behind it. On a device it is one for each call: whether a graph has captured it, or it
        is called between graphs. RuntimeError where nothing has been recorded in this thread yet.
        """
        if not self._recordings:
            raise RuntimeError(f"{self!r} has no plan in this thread yet: call it first")
        recording = list(self._recordings.values())[-1]
        print(described(repr(self), recording.replay), file=file)

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The same for arguments of any kind."""
        given = self._given(args, kwargs)
        if given.followed or backends.recorder() is not None:
            return self._function(*args, **kwargs)
        recording = self._recordings.get(given.known())
        if recording is None:
            return self._record(given, args, kwargs)
        return self._run(recording, given.arrays, given.numbers, args, kwargs)

    def _run(
        self,
        recording: _Recording,
        arrays: Sequence[Array],
        numbers: Sequence[float],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        addresses = recording.addresses(arrays)
        if not recording.keeps_apart(arrays, addresses):
            return self._function(*args, **kwargs)
        return self._own(recording.run(arrays, addresses, numbers))

    @property
    def _recordings(self) -> dict[Any, _Recording]:
        try:
            held: dict[Any, _Recording] = self._threads.recordings
        except AttributeError:
            held = self._threads.recordings = {}
        return held

    def _given(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Given:
        given = _Given()
        for place, value in enumerate(args):
            self._take(given, self._names[place] if place < len(self._names) else f"argument {place}", value)
        for name, value in kwargs.items():
            given.likeness.append(name)
            self._take(given, name, value)
        return given

    def _take(self, given: _Given, name: str, value: Any) -> None:
        if name in self._static:
            given.constant(name, value)
        else:
            given.take(name, value)

    def _record(self, given: _Given, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run the function op by op, and remember what it did."""
        given.check()
        recorder = Recorder(given.backend)
        stand_in = partial(rebuilt, partial(_stand_in, recorder))
        names = [*self._names, *[""] * len(args)]
        values = [value if name in self._static else stand_in(value) for name, value in zip(names, args, strict=False)]
        named = {name: value if name in self._static else stand_in(value) for name, value in kwargs.items()}
        results = backends.recorded(recorder, self._function, *values, **named)
        del values, named
        recording, recordings = _Recording(recorder, results), self._recordings
        if len(recordings) >= _REMEMBERED:
            recordings.clear()
        recordings[given.known()] = recording
        return rebuilt(_plain, results)


class _Given:
    """The arguments of a call: its arrays, its numbers, and what another call has to be alike in."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self.numbers: list[float] = []
        self.places: dict[str, int] = {}
        self.likeness: list[Any] = []
        self.followed = False
        self._on_host = self._on_device = ""  # the names of such arrays

    @property
    def backend(self) -> str:
        """That of the arrays, or where there are none the one that is chosen."""
        return "cuda" if self._on_device else backends.current()

    def known(self) -> Any:
        """What a recording is known by."""
        if self.backend != "cuda":
            return (self.backend, *self.likeness)
        return (self.backend, backends.implementation("cuda", "launch", "surroundings")(), *self.likeness)

    def check(self) -> None:
        """Raise TypeError where arrays are in two places, or not in that of the backend."""
        if self._on_host and self.backend == "cuda":
            other = f"beside {self._on_device}, which is on a CUDA device" if self._on_device else ""
            beside = other or "for the backend 'cuda'"
            raise TypeError(f"{self._on_host}: got a NumPy array {beside}, wants all arrays of a program in one place")

    def take(self, name: str, value: Any) -> None:
        """An argument, or an entry of one."""
        kind = type(value)
        if kind is np.ndarray:
            self._on_host = name
            self.arrays.append(value)
            self.likeness += (value.dtype, value.shape, value.strides, value.flags.num)
        elif _is_number(value):
            self.places[name] = len(self.numbers)
            self.numbers.append(value)
            self.likeness.append(kind)
        elif isinstance(value, tape.Followed):
            self.followed = True
        elif isinstance(value, dict):
            self.likeness += (kind, *value)
            for key, each in value.items():
                self.take(f"{name}[{key!r}]", each)
        elif isinstance(value, (list, tuple)):
            self.likeness += (kind, len(value))
            for place, each in enumerate(value):
                self.take(f"{name}[{place}]", each)
        else:
            self._other(name, value)

    def _other(self, name: str, value: Any) -> None:
        """What is seldom an argument."""
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{name}: got {checks.describe(value)}, wants a NumPy array in a program, or one of CuPy's")
        taken = adopted(name, value)
        if taken is not value:
            self.take(name, taken)
        elif checks.is_on_device(value):
            self._of_device(name, value)
        elif isinstance(value, np.ndarray):
            self.take(name, value.view(np.ndarray))
        elif isinstance(value, (np.floating, np.integer)):
            self.take(name, value.item())
        elif checks.is_csr(value):  # whatever number of non-zeros it has
            self._on_host = name
            self.arrays += checks.csr_parts(name, value)
            self.likeness += (type(value), value.dtype, value.shape)
        else:
            self.constant(name, value)

    def _of_device(self, name: str, value: Any) -> None:
        """A CuPy array, or a CSR matrix of such."""
        self._on_device = name
        parts = checks.csr_parts(name, value) if checks.is_csr(value) else (value,)
        if not all(map(backends.arrays_of("cuda").holds, parts)):
            wanted = "a CuPy array in a program (cupy.from_dlpack makes one over the same memory)"
            raise TypeError(f"{name}: got {checks.of_device(value)}, wants {wanted}")
        self.arrays += parts
        if checks.is_csr(value):  # whatever number of non-zeros it has
            self.likeness += (checks.csr_kind(value), value.dtype, value.shape)
        else:
            self.likeness += (type(value), value.dtype, value.shape, value.strides)

    def constant(self, name: str, value: Any) -> None:
        """What a recording is made for."""
        try:
            hash(value)
        except TypeError:
            wanted = "an array, a number, or what can be a key of a dictionary"
            raise TypeError(f"{name}: got {checks.describe(value)}, wants {wanted} in a program") from None
        self.likeness += (type(value), value)


def _stand_in(recorder: Recorder, value: Any) -> Any:
    value = adopted("argument", value)
    if isinstance(value, np.ndarray):
        return recorder.argument(value.view(np.ndarray))
    if checks.is_on_device(value):
        return recorder.argument(value)
    if isinstance(value, (np.floating, np.integer)):
        return _stand_in(recorder, value.item())
    return recorder.argument(value) if _is_number(value) or checks.is_csr(value) else value


def _is_number(value: Any) -> bool:
    """Whether it can be an argument that changes: float64 holds it."""
    return type(value) is float or (type(value) is int and -_MOST <= value <= _MOST)


def _plain(value: Any) -> Any:
    return value._value if isinstance(value, tape.Followed) else value


def _copied(value: Any) -> Any:
    return value.copy() if hasattr(value, "strides") else value


# ----------------------------------------------------------------------------------------------------------- recordings


class _Recording:
    """What a program does with arguments like those that it was recorded with."""

    def __init__(self, recorder: Recorder, results: Any) -> None:
        self.graph, self._template = recorder.finish(results)
        self._numbers = [figure.place for figure in recorder.numbers]
        self._constants, self._early = recorder.constants, recorder.early
        self._make = backends.implementation(recorder.backend, "program", "Replay")
        self._check = _check_of(self.graph)
        self._arrays, self._address = recorder.arrays, recorder.arrays.address
        self._made = self._ready()
        self._epochs: dict[Any, tuple[Any, Any, _Apart]] = {}
        self.keeps_apart = _Apart(self.graph)

    def run(self, arrays: Sequence[Array], addresses: Sequence[int], numbers: Sequence[float]) -> Any:
        """The results for these arguments, valid until the next run."""
        replay, results = self._made
        if replay.outdated():
            replay, results = self._made = self._ready()
        figures = replay.figures
        for place, value in zip(self._numbers, numbers, strict=True):
            figures[place] = value
        self._calculate(replay)
        self._check(figures)
        replay.run(arrays, addresses)
        return results(arrays)

    @property
    def replay(self) -> Any:
        """What runs it."""
        return self._made[0]

    @property
    def launches(self) -> int:
        """Of kernels by a run, or a turn."""
        return int(self._busiest.launches)

    @property
    def reasons(self) -> list[str]:
        """Why that many."""
        return [*self._busiest.reasons]

    @property
    def _busiest(self) -> Any:
        """The replay that takes the most launches."""
        replays = [self._made[0], *(held[0] for held in self._epochs.values())]
        return max(replays, key=lambda replay: replay.launches)

    def addresses(self, arrays: Sequence[Array]) -> list[int]:
        """Where the arguments' numbers begin."""
        return [*map(self._address, arrays)]

    def gathers(self, epoch: Epoch, given: _Given) -> bool:
        """Whether batches can be gathered by the replay: no data lie where the program writes."""
        arrays = _whole(epoch, given)
        return self._gathering(epoch)[2](arrays, self.addresses(arrays))

    def _gathering(self, epoch: Epoch) -> tuple[Any, Any, _Apart]:
        """A replay that gathers batches of such data, the places of its results, what tells memory apart."""
        likeness = epoch.joined, epoch.likeness
        held = self._epochs.get(likeness)
        if held is None or held[0].outdated():
            graph, template = gathering(self.graph, self._template, epoch)
            apart = _Apart(graph)
            if any(map(epoch.keeps, graph.kept)):
                graph, template = putting(graph, template, epoch)
            held = self._epochs[likeness] = self._make(graph), template, apart
        return held

    def turns(self, epoch: Epoch, given: _Given, first: int, turns: int) -> Any:
        """The results of so many batches, numbers as arrays."""
        replay, template, _ = self._gathering(epoch)
        arrays = _whole(epoch, given)
        first_put = len(arrays)
        arrays += (replay.room_of_turns(into, turns) for into in replay.graph.arguments[first_put:])
        addresses = self.addresses(arrays)
        figures = self._figures(replay, epoch, given, first, turns)
        replay.turns(arrays, addresses, epoch.order[first * epoch.batch : (first + turns) * epoch.batch], figures)

        def result(place: Any) -> Any:
            if isinstance(place, Figure):
                return Series(figures[:, place.place])
            if isinstance(place, View):
                array = replay.array(place, arrays)
                argument = place.block.argument
                return array if argument is None or argument < first_put else Series(array)
            return constant(place, turns)

        return rebuilt(result, template)

    def _figures(self, replay: Any, epoch: Epoch, given: _Given, first: int, turns: int) -> Any:
        """A row of figures for every turn, with what is known beforehand."""
        figures = np.zeros((turns, replay.graph.figures))
        if replay.graph.figures > self.graph.figures:  # which turn it is
            figures[:, -1] = np.arange(turns)
        for place, value in (*self._constants.items(), *zip(self._numbers, given.numbers, strict=True)):
            figures[:, place] = value
        for name, values in epoch.each.items():
            figures[:, self._numbers[given.places[name]]] = values[first : first + turns]
        for row in figures if self._early else ():
            replay.figures[:] = row
            self._calculate(replay)
            row[:] = replay.figures
        for row in figures:
            self._check(row)
        return figures

    def _calculate(self, replay: Any) -> None:
        """The figures that are calculated before any op runs."""
        for made, name, a, b in self._early:
            replay.figures[made.place] = tape.CALCULATIONS[name](replay.value(a), replay.value(b))

    def _ready(self) -> tuple[Any, Callable[[Sequence[Array]], Any]]:
        """A replay, and what makes the results of its runs."""
        replay = self._make(self.graph)
        for place, value in self._constants.items():
            replay.figures[place] = value
        return replay, _results(self._template, replay)


def _whole(epoch: Epoch, given: _Given) -> list[Array]:
    """The arguments of a batch with all of the data in place of its rows."""
    return [*epoch.arrays, *given.arrays[len(epoch.arrays) :]]


def _results(template: Any, replay: Any) -> Callable[[Sequence[Array]], Any]:
    """What makes the results of a run with these arguments: what can be made beforehand is."""
    if isinstance(template, Figure):
        figures, place, kind = replay.figures, template.place, template.kind
        return lambda arrays: kind(figures[place])
    if isinstance(template, View):
        if template.block.argument is not None or not replay.lasting:
            return lambda arrays: replay.array(template, arrays)
        array = replay.array(template, ())
        return lambda arrays: array
    if isinstance(template, tuple) and not hasattr(template, "_fields"):
        parts = [_results(each, replay) for each in template]
        return lambda arrays: tuple([part(arrays) for part in parts])
    if isinstance(template, (tuple, list, dict)):
        made = rebuilt(lambda each: _results(each, replay), template)
        return lambda arrays: rebuilt(lambda part: part(arrays), made)
    return lambda arrays: template


def _check_of(graph: Graph) -> Callable[[Any], object]:
    """What raises, for a row of figures, unless they are what the ops want that take them as options.

    All of those are known before any op runs.
    """
    options = {
        (value.place, value.kind, spec): name
        for call in graph.calls
        for name, spec in (TABLE[call.op].options.items() if call.op in TABLE else ())
        if isinstance(value := call.given.get(name), Figure) and isinstance(spec, (Real, Integer))
    }

    def explain(figures: Any) -> None:
        for (place, kind, spec), name in options.items():
            checks.option(name, kind(figures[place]), spec)

    kept = " and ".join(checks.bounds(f"figures[{place}]", spec) for place, _, spec in options) or "True"
    # written out: a loop over them would take longer than a small step
    names = {"inf": math.inf, "explain": explain}
    check: Callable[[Any], object] = eval(f"lambda figures: ({kept}) or explain(figures)", names)
    return check


class _Apart:
    """Whether arguments share no memory with what a program writes to, nor those that it writes to with any other."""

    def __init__(self, graph: Graph) -> None:
        written = {view.block for call in graph.calls for view in call.writes}
        touched = {view.block for call in graph.calls for view in (*call.views(), *call.writes)}
        self._extents = [(argument.offset, argument.block.size) for argument in graph.arguments]
        self._varying = [place for place, argument in enumerate(graph.arguments) if argument.block.varies]
        self._writes = [place for place, argument in enumerate(graph.arguments) if argument.block in written]
        of_written, of_touched = _Intervals(written), _Intervals(touched)
        self._known = [of_touched if argument.block in written else of_written for argument in graph.arguments]

    def __call__(self, arrays: Sequence[Array], addresses: Sequence[int]) -> bool:
        """Whether these arguments, at these addresses, do."""
        for place in self._varying:
            self._extents[place] = 0, arrays[place].nbytes
        for at, (offset, size), known in zip(addresses, self._extents, self._known, strict=True):
            if known.meets(at - offset, at - offset + size):
                return False
        return not self._writes or self._are_apart(addresses)

    def _are_apart(self, addresses: Sequence[int]) -> bool:
        """Whether what is written to shares no memory with another argument."""
        memory = [
            (at - offset, at - offset + size) for at, (offset, size) in zip(addresses, self._extents, strict=True)
        ]
        return not any(
            low < memory[place][1] and memory[place][0] < high
            for place in self._writes
            for other, (low, high) in enumerate(memory)
            if other != place
        )


class _Intervals:
    """The blocks whose addresses are known, in their order."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        ends = sorted((block.address, block.address + block.size) for block in blocks if block.address is not None)
        self.starts = [low for low, _ in ends]
        self._reached = list(accumulate((high for _, high in ends), max))

    def meets(self, low: int, high: int) -> bool:
        """Whether one of them has a byte of [low, high)."""
        before = bisect_left(self.starts, high)
        return before > 0 and self._reached[before - 1] > low


# ---------------------------------------------------------------------------------------------------------------- plans


def described(name: str, replay: Any) -> str:
    """What a replay does, as a table."""
    graph, lines = replay.listed, [name]
    for stage in replay.stages():
        call = graph.calls[stage.call]
        shapes = ", ".join("x".join(map(str, operand.shape)) or "1" for operand in _operands(call))
        lines.append(
            f"{stage.call:4} {call.op:24} {stage.kernel:14} {stage.tasks:8} {'wait' if stage.waits else '':5} {shapes}"
        )
    work, moved = (sum(column) for column in zip(*map(_cost, graph.calls), strict=True)) if graph.calls else (0.0, 0)
    waits = sum(stage.waits for stage in replay.stages())
    launches = f"{replay.launches} launches, " if replay.launches else ""
    lines.append(
        f"{len(graph.calls)} calls, {len(lines) - 1} kernels, {launches}{waits} waits; {replay.bytes:,} bytes of its "
        f"own; {work:,.0f} FLOP, {moved:,} bytes of operands a run"
    )
    return "\n".join(lines)


def _operands(call: Call) -> list[View | Sparse]:
    """All that a call takes, matrices whole."""
    parts = [value if isinstance(value, (list, tuple)) else [value] for value in call.given.values()]
    return [each for part in parts for each in part if isinstance(each, (View, Sparse))]


def _cost(call: Call) -> tuple[float, int]:
    """FLOP, as the table of ops counts them, and bytes of operands and results."""
    views = [*call.views(), *(result for result in call.results if isinstance(result, View))]
    moved = sum(view.size * view.dtype.itemsize for view in views)
    op = TABLE.get(call.op)
    if op is None or op.flops is None:
        return 0.0, moved
    sizes: dict[str, int] = {}
    for operand, spec in op.operands.items():
        shape = getattr(call.given.get(operand), "shape", ())  # a view's, or that of packed weights or a CSR matrix
        sizes |= dict(zip(spec.split(), shape, strict=False))
    options = {name: checks.option(name, call.given[name], spec) for name, spec in op.options.items() if op.derived}
    return op.flops(**op.whole(sizes, options)), moved
