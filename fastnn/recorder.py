"""What records a program: the calls of ops in one run of a function, on what memory, with which numbers.

While it records, the function's arrays and numbers are stand-ins (``Recorded``), and ops run as ever. What a replay
would not do is found and named: a NumPy expression on a stand-in at once, one on arrays from outside at the end, by
what it made or changed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from fastnn import backends, checks, tape
from fastnn.kernels.addresses import Arrays
from fastnn.kernels.graph import Block, Call, Figure, Graph, Sparse, View
from fastnn.kernels.table import Op

Array = Any

# Calculations of numbers alone.
_OF_NUMBERS = ("plus", "minus", "times", "over")


class Recorded(tape.Followed):
    """A value in a program: an array with its view of memory, or a number with its figure."""

    __slots__ = ("_recorder", "place")

    purpose, hint = "in a program", ", or the calculation outside of the program"

    def __init__(self, value: Any, place: Any, recorder: Recorder) -> None:
        super().__init__(value)
        self.place, self._recorder = place, recorder

    def made(self, name: str, given: Mapping[str, Any]) -> Any:
        """A calculation, recorded."""
        return self._recorder.calculated(name, given)

    def __format__(self, spec: str) -> str:
        raise TypeError(
            f"format: got {self!r} in a program, wants it printed outside, when the program has returned it"
        )


def _each(value: Any) -> Iterator[Any]:
    """The value, or the entries of a list of such."""
    if isinstance(value, (list, tuple)):
        yield from value
    else:
        yield value


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """The function of the value, or the list of that of the entries."""
    return type(value)(map(function, value)) if isinstance(value, (list, tuple)) else function(value)


def _plain(value: Any) -> Any:
    """What a stand-in stands for, in lists too."""
    return _mapped(lambda each: each._value if isinstance(each, Recorded) else each, value)


def _memory(value: Any) -> Any:
    """The array that holds packed weights; any other value itself."""
    return value.panels if hasattr(value, "packed_for") else value


class _Outside:
    """An array that a program found outside: who asked for it first, whether to read it, what it held at the last."""

    def __init__(self, array: Array, asked: str, read: bool, arrays: Arrays) -> None:
        self.array, self.asked, self.read, self._arrays = array, asked, read, arrays
        self.block: Block | None = None
        self.look()

    def look(self) -> None:
        """Note what it holds."""
        self.seen = self._arrays.seen(self.array)

    @property
    def changed(self) -> bool:
        """Whether it holds anything else since then."""
        return bool(self.seen != self._arrays.seen(self.array))


def _references(outside: _Outside, of: Callable[[Array], Array]) -> int:
    """How often an array is referred to, and a constant more."""
    return sys.getrefcount(of(outside.array))


class Recorder:
    """Writes down the calls of ops in one run of a function on a backend.

    ``constants`` and ``early`` tell the figures that are known before any op runs: from the function's text, or
    calculated from its arguments. On a device nobody looks at what arrays hold, and what was written to them by other
    than ops is not noticed.
    """

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.arrays = backends.arrays_of(backend)
        self.constants: dict[int, float] = {}
        self.early: list[tuple[Figure, str, Figure, Figure]] = []
        self.arguments: list[View] = []
        self.numbers: list[Figure] = []
        self._calls: list[Call] = []
        self._figures = 0
        # With the addresses of the first byte and behind the last; not arguments', which may lie where others do.
        self._blocks: list[tuple[int, int, Block]] = []
        self._alive: list[Any] = []  # memory that is known by its address must not become another result's
        self._outside: dict[int, _Outside] = {}

    def argument(self, value: Any) -> Recorded:
        """The stand-in of an argument: an array, a CSR matrix or a number."""
        if self.arrays.holds(value):
            return Recorded(value, self._argument(value), self)
        if checks.is_csr(value):
            parts = checks.csr_parts("matrix", value)
            values, indices, indptr = (self._argument(part, varies=True) for part in parts)
            return Recorded(value, Sparse(values, indices, indptr, value.shape, checks.csr_kind(value)), self)
        self.numbers.append(self._figure(type(value), early=True))
        return Recorded(value, self.numbers[-1], self)

    def _argument(self, array: Array, varies: bool = False) -> View:
        low, high = self.arrays.bounds(array)
        block = Block(high - low, argument=len(self.arguments), varies=varies)
        self.arguments.append(self._view(array, block, low))
        return self.arguments[-1]

    def _view(self, array: Array, block: Block, start: int) -> View:
        """An array in a block that begins at an address."""
        offset = self.arrays.address(array) - start
        return View(block, offset, array.shape, array.strides, array.dtype, self.arrays.is_aligned(array))

    def call(self, op: Op, function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
        """What the op returns, recorded."""
        for name in (*op.operands, *op.into):
            for array in _each(given[name]):
                self._look_at(array, f"{op.name}: {name}", name in op.operands)
        for name in op.options:
            _check_option(op, name, given[name])
        with backends.chosen(self.backend):
            results = function(**{name: _plain(value) for name, value in given.items()})
        written = [array for name in (*op.inplace, *op.into) for array in _each(given[name]) if array is not None]
        places = {name: self._placed(value) for name, value in given.items()}
        inputs = [given[name] for name in op.into]
        return self._note(op.name, places, results, function, [self._place(_memory(each)) for each in written], inputs)

    def changed(self, name: str, function: Callable[..., None], lists: Mapping[str, Any], **fixed: Any) -> None:
        """The function changes arrays in lists, which is recorded under this name; other arguments stay as they are."""
        for array in [each for arrays in lists.values() for each in arrays]:
            self._look_at(array, name, read=True)
        with backends.chosen(self.backend):
            function(**{key: _plain(arrays) for key, arrays in lists.items()}, **fixed)
        places = {key: self._placed(arrays) for key, arrays in lists.items()}
        self._note(name, {**places, **fixed}, None, function, [view for each in places.values() for view in each])

    def calculated(self, name: str, given: Mapping[str, Any]) -> Any:
        """What is calculated, recorded; where that is an array in another shape it is no call."""
        for value in given.values():
            if isinstance(value, Recorded) and isinstance(value.place, Sparse):
                raise TypeError(f"{name}: got a CSR matrix in a program, wants it as an operand of ops only")
            self._look_at(value, name, read=True)
        result = tape.CALCULATIONS[name](**{key: _plain(value) for key, value in given.items()})
        if name in _OF_NUMBERS:
            a, b = self._number(given["a"]), self._number(given["b"])
            if all(isinstance(each, Figure) and each.early for each in (a, b)):
                made = self._figure(type(result), early=True)
                self.early.append((made, name, a, b))
                return Recorded(result, made, self)
            return self._note(name, {"a": a, "b": b}, result, tape.CALCULATIONS[name], [])
        source, parts = _plain(given["x"]), result if isinstance(result, tuple) else (result,)
        if all(self._share_memory(part, source) for part in parts):
            place = self._place(given["x"])
            start = self.arrays.address(source) - place.offset
            views = tuple(Recorded(part, self._view(part, place.block, start), self) for part in parts)
            return views if isinstance(result, tuple) else views[0]
        places = {key: self._placed(value) for key, value in given.items()}
        if "factor" in given:
            places["factor"] = self._number(given["factor"])
        return self._note(name, places, result, tape.CALCULATIONS[name], [])

    def finish(self, results: Any) -> tuple[Graph, Any]:
        """The graph, and what the function returned with places in place of stand-ins."""
        self._alive.clear()
        kept: list[View] = []
        returned: dict[int, Recorded] = {}

        def placed(value: Any) -> Any:
            if not isinstance(value, Recorded):
                return value
            if isinstance(value.place, Sparse):
                raise TypeError("result: got a CSR matrix in a program, wants arrays and numbers")
            if isinstance(value.place, View):
                kept.append(value.place)
                returned[id(value)] = value
            return value.place

        template = rebuilt(placed, results)
        for outside in self._outside.values():
            self._check(outside, returned.values())
        for outside in self._outside.values():
            if outside.block is not None:
                outside.block.owner = outside.array
        return Graph(tuple(self._calls), tuple(self.arguments), self._figures, tuple(kept)), template

    # ----------------------------------------------------------------------------------------------------------- places

    def _figure(self, kind: type, early: bool) -> Figure:
        self._figures += 1
        return Figure(self._figures - 1, early, int if kind is int else float)

    def _share_memory(self, a: Array, b: Array) -> bool:
        (low, high), (begin, end) = map(self.arrays.bounds, (a, b))
        return low < end and begin < high

    def _number(self, value: Any) -> Any:
        """The figure of a number, or the view of an array () that has one; a constant gets a figure."""
        if isinstance(value, Recorded):
            return value.place
        if self.arrays.holds(value):
            return self._place(value)
        made = self._figure(type(value), early=True)
        self.constants[made.place] = value
        return made

    def _placed(self, value: Any) -> Any:
        """What a call is given, with views for arrays, and figures for numbers of the program's."""
        return _mapped(self._place, value)

    def _place(self, value: Any) -> Any:
        if isinstance(value, Recorded):
            return value.place
        if not self.arrays.holds(value):
            return value
        low, high = self.arrays.bounds(value)
        for begin, end, block in self._blocks:
            if begin <= low and high <= end:
                return self._view(value, block, begin)
        outside = self._outside.get(id(value))
        block = Block(high - low, address=None if outside is None else low)
        if outside is not None:
            outside.block = block
        self._blocks.append((low, high, block))
        return self._view(value, block, low)

    def _place_of(self, result: Any, inputs: Iterable[Any]) -> Any:
        """That of the stand-in which a result is an op's destination of, else its own."""
        stand_ins = (value for value in inputs if isinstance(value, Recorded))
        return next((value.place for value in stand_ins if value._value is result), None) or self._place(result)

    def _note(
        self, name: str, given: Mapping[str, Any], results: Any, run: Any, written: Sequence[View], inputs: Any = ()
    ) -> Any:
        """Write a call down; its results as stand-ins. ``inputs`` are the arrays that they may be written to."""
        together = results if isinstance(results, tuple) else (results,)
        for result in together:
            if not (self.arrays.holds(result) or isinstance(result, (int, float, type(None)))):
                raise TypeError(f"{name}: got a result of {type(result).__name__}, which a program cannot hold")
        self._alive += together
        places = tuple(
            self._figure(float, early=False) if isinstance(result, (int, float)) else self._place_of(result, inputs)
            for result in together
        )
        self._calls.append(Call(name, given, () if results is None else places, tuple(written), run))
        blocks = {view.block for view in written}
        for outside in self._outside.values():
            if self._known(outside.array) in blocks:
                outside.look()
        made = [
            None if place is None else Recorded(result, place, self)
            for result, place in zip(together, places, strict=True)
        ]
        return tuple(made) if isinstance(results, tuple) else made[0]

    def _known(self, array: Array) -> Block | None:
        low, high = self.arrays.bounds(array)
        return next((block for begin, end, block in self._blocks if begin <= low and high <= end), None)

    # ----------------------------------------------------------------------------------------------- found outside

    def _look_at(self, value: Any, asked: str, read: bool) -> None:
        """Note an array that is no stand-in, or that of packed weights; it must be as ops left it."""
        array = _memory(value)
        if not self.arrays.holds(array):
            if checks.is_on_device(array):
                wanted = "a CuPy array (cupy.from_dlpack makes one over the same memory)"
                if self.backend != "cuda":
                    wanted = "one of NumPy's, as the program's arguments are, or those and the backend 'cuda'"
                raise TypeError(f"{asked}: got {checks.of_device(array)} in a program, wants {wanted}")
            return
        outside = self._outside.get(id(array))
        if outside is None:
            self._outside[id(array)] = _Outside(array, asked, read, self.arrays)
        elif outside.changed:
            raise TypeError(_written_to(asked))

    def _check(self, outside: _Outside, returned: Collection[Recorded]) -> None:
        """Raise TypeError where an array from outside was written to by other than ops, or is nobody else's.

        The stand-ins that the function returned refer to arrays, too.
        """
        if outside.changed:
            raise TypeError(_written_to(outside.asked))
        if outside.read and self._is_temporary(outside, returned):
            raise TypeError(
                f"{outside.asked}: got an array that was made inside the program by other than ops, wants an op of "
                "fastnn.ops to make it, or it made outside"
            )

    def _is_temporary(self, outside: _Outside, returned: Collection[Recorded]) -> bool:
        """Whether nothing but this recorder refers to the array, nor to the one whose memory it is a part of."""
        arrays = self.arrays
        if arrays.is_lent(arrays.owner(outside.array)):
            return False
        other = _Outside(arrays.empty((1,), "float32"), "", read=False, arrays=arrays)
        return all(
            _references(outside, of) - _references(other, of)
            < sum(_is_held(each.array, outside, of) for each in self._outside.values())
            + sum(_is_held(each._value, outside, of) for each in returned)
            for of in (_itself, arrays.owner)
        )


def _itself(array: Array) -> Array:
    return array


def _is_held(array: Array, outside: _Outside, of: Callable[[Array], Array]) -> bool:
    """Whether an array refers to the one that counts, or is it."""
    counted = of(outside.array)
    return array is counted or array.base is counted


def _written_to(asked: str) -> str:
    return f"{asked}: got an array that was written to inside the program, wants an op of fastnn.ops to do that"


def _check_option(op: Op, name: str, value: Any) -> None:
    if op.shapes(name) and any(isinstance(each, Recorded) for each in _each(value)):
        raise TypeError(
            f"{name}: got a number of the program's, which may change, and {op.name} makes shapes of it, wants one "
            "from outside"
        )
    if isinstance(value, Recorded) and not (isinstance(value.place, Figure) and value.place.early):
        raise TypeError(
            f"{name}: got a result as an option of {op.name} in a program, wants a number, an argument of the program, "
            "or what is calculated of such"
        )


def rebuilt(function: Callable[[Any], Any], value: Any) -> Any:
    """A structure of tuples, lists and dictionaries with the function of each of its leaves."""
    if isinstance(value, dict):
        return {key: rebuilt(function, each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        made = [rebuilt(function, each) for each in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    return function(value)
