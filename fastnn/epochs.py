"""A program run on batch after batch: what it is given, the graph that gathers its batches, what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn import backends, checks
from fastnn.adoption import adopted
from fastnn.kernels.addresses import ON_HOST, Arrays
from fastnn.kernels.graph import GATHER, PUT, Block, Call, Figure, Graph, Order, Sparse, View
from fastnn.recorder import rebuilt

Array = Any


class Epoch:
    """Data, the order of their rows, rows of a batch; numbers by batch, and arguments that are the same for all.

    ``arrays`` are those that the data consist of: a CSR matrix has three.
    Where they are to be ``joined``, arrays of all batches are wanted, not those of the last.
    """

    def __init__(
        self, data: Any, order: Any, batch: Any, each: Mapping[str, Any], joined: bool, others: Mapping[str, Any]
    ) -> None:
        given = data if isinstance(data, (tuple, list)) else [data]
        self.kind = backends.arrays_of("cuda") if any(map(checks.is_on_device, given)) else ON_HOST
        self.data = [_rows(f"data[{place}]", array, given[0], self.kind) for place, array in enumerate(given)]
        if not self.data:
            raise ValueError("data: got no arrays, wants one or more whose rows make the batches")
        self.arrays: list[Array] = []
        likeness: list[Any] = []
        for place, held in enumerate(self.data):
            csr = checks.is_csr(held)
            self.arrays += checks.csr_parts(f"data[{place}]", held) if csr else [held]
            kind = checks.csr_kind(held) if csr else type(held)
            likeness.append((kind, held.dtype, held.shape, None if csr else held.strides))
        self.likeness = tuple(likeness)
        self.batch = checks.integer("batch", batch, 1)
        self.order = _order(order, self.data[0].shape[0], self.kind)
        self.joined, self.others = joined, others
        self.each = {name: _by_batch(f"each[{name!r}]", values, self._batches) for name, values in each.items()}

    @property
    def _batches(self) -> int:
        return -(-len(self.order) // self.batch)

    def parts(self) -> Iterator[tuple[int, int]]:
        """Batches of one size: the first of them and how many they are."""
        whole = len(self.order) // self.batch
        if whole:
            yield 0, whole
        if whole < self._batches:
            yield whole, 1

    def arguments(self, batch: int) -> list[Array]:
        """The data of a batch."""
        rows = self.order[batch * self.batch : (batch + 1) * self.batch]
        return [self.kind.rows(array, rows) for array in self.data]

    def named(self, batch: int) -> dict[str, Any]:
        """The other arguments of a batch."""
        return {**self.others, **{name: values[batch].item() for name, values in self.each.items()}}

    def kept(self, value: Any) -> Any:
        """What is wanted of a batch's result: a number or array as one of many, or any other value as it is."""
        if self.kind.holds(value) and self.keeps(value):
            return Series((value if value.ndim else value.reshape(1)).copy())
        return constant(value, 1)

    def keeps(self, result: Any) -> bool:
        """Whether of an array, or of its view, all batches' are wanted: on a device an array () is a number."""
        return self.joined or not (result.ndim or self.kind.makes_numbers)

    def series(self, values: Sequence[Any]) -> Any:
        """What batches gave, one behind the other."""
        return (self.kind.joined if self.kind.holds(values[0]) else np.concatenate)(values)


def _rows(name: str, array: Any, first: Any, kind: Arrays) -> Array:
    array = adopted(name, array)
    csr = checks.is_csr(array)
    if not (kind.holds(array.data) if csr else kind.holds(array) and array.ndim):
        got = checks.of_device(array) if checks.is_on_device(array) else checks.describe(array)
        raise TypeError(f"{name}: got {got}, wants a {kind.name} array of rows, or a CSR matrix")
    if array.shape[0] != first.shape[0]:
        raise ValueError(f"{name}: got {array.shape[0]} rows, wants {first.shape[0]}, as data[0] has")
    return array if csr else kind.in_order(array)


def _order(order: Any, rows: int, kind: Arrays) -> Array:
    """Row numbers as an array of a kind; those that are on a device are not looked at."""
    on_device = checks.is_on_device(order)
    if on_device and not kind.holds(order):
        raise TypeError(f"order: got {checks.of_device(order)}, wants row numbers (n,) in a {kind.name} array")
    found = order if on_device else np.asarray(adopted("order", order))
    if found.ndim != 1 or not (found.dtype.kind in "iu" or found.size == 0):
        raise TypeError(f"order: got {checks.describe(order)}, wants row numbers (n,)")
    if found.size == 0:
        raise ValueError("order: got no rows, wants one or more")
    if on_device:
        return kind.in_order(found.astype(np.int64, copy=False))
    if found.min() < 0 or found.max() >= rows:
        raise IndexError(f"order: got row {found.min() if found.min() < 0 else found.max()}, wants rows in [0, {rows})")
    return kind.copied(np.ascontiguousarray(found, np.int64))


def _by_batch(name: str, values: Any, batches: int) -> Array:
    found = np.asarray(values)
    if found.shape != (batches,) or found.dtype.kind not in "fiu":
        raise ValueError(f"{name}: got {checks.describe(values)}, wants {batches} numbers, one for each batch")
    return found


# ----------------------------------------------------------------------------------------------------------- the graph


def gathering(graph: Graph, template: Any, epoch: Epoch) -> tuple[Graph, Any]:
    """The graph, and its results, with an epoch's arrays in place of its first arguments: turns gather batches of them.

    Of a CSR matrix nothing is gathered: the calls that it is given to read a batch's rows where they lie.
    """
    arguments = list(graph.arguments)
    moved: dict[Block, Block] = {}
    wholes: dict[Block, View] = {}
    calls: list[Call] = []
    for place, array in enumerate(epoch.arrays):
        batch = arguments[place]
        arguments[place] = _argument(array, place, batch.block.varies)
        if batch.block.varies:  # a part of a CSR matrix
            wholes[batch.block] = arguments[place]
            continue
        moved[batch.block] = Block(batch.block.size)
        given = {"data": arguments[place], "index": Order()}
        calls.append(Call(GATHER, given, (_moved(moved, {})(batch),), (), epoch.kind.rows))
    move = _moved(moved, wholes)
    for call in graph.calls:
        given = {name: _each(move, value) for name, value in call.given.items()}
        calls.append(Call(call.op, given, _each(move, call.results), _each(move, call.writes), call.run))
    kept = tuple(move(view) for view in graph.kept)
    return Graph(tuple(calls), tuple(arguments), graph.figures, kept), rebuilt(move, template)


def putting(graph: Graph, template: Any, epoch: Epoch) -> tuple[Graph, Any]:
    """The graph, and its results, with what is wanted of every turn put into arrays, arguments behind its own.

    The last figure is the number of the turn.
    """
    turn = Figure(graph.figures, early=True, kind=int)
    arguments, calls = list(graph.arguments), list(graph.calls)

    def put(place: Any) -> Any:
        if not isinstance(place, View) or not epoch.keeps(place):
            return place
        one = np.empty(place.shape or 1, place.dtype)
        into = View(Block(one.nbytes, argument=len(arguments)), 0, one.shape, one.strides, one.dtype)
        arguments.append(into)
        calls.append(Call(PUT, {"x": place, "into": into, "turn": turn}, (), (into,), _put))
        return into

    template = rebuilt(put, template)
    return Graph(tuple(calls), tuple(arguments), graph.figures + 1, graph.kept), template


def _put(x: Array, into: Array, turn: int) -> None:
    rows = len(into) if x.ndim == 0 else len(x)
    into[turn * rows : (turn + 1) * rows] = x


def _argument(array: Array, place: int, varies: bool) -> View:
    return View(Block(array.nbytes, argument=place, varies=varies), 0, array.shape, array.strides, array.dtype)


def _moved(blocks: Mapping[Block, Block], wholes: Mapping[Block, View]) -> Callable[[Any], Any]:
    """Views in other blocks, and CSR matrices as rows of whole ones; anything else stays."""

    def move(value: Any) -> Any:
        if isinstance(value, Sparse) and value.values.block in wholes:
            values, indices, indptr = (wholes[part.block] for part in value.parts)
            return replace(value, values=values, indices=indices, indptr=indptr, ordered=True)
        if not isinstance(value, View) or value.block not in blocks:
            return value
        return View(blocks[value.block], value.offset, value.shape, value.strides, value.dtype, value.behaved)

    return move


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    return type(value)(map(function, value)) if isinstance(value, (list, tuple)) else function(value)


# -------------------------------------------------------------------------------------------------------------- results


class Series:
    """The numbers or arrays of batches, one after the other."""

    def __init__(self, values: Array) -> None:
        self.values = values


def constant(value: Any, turns: int) -> Any:
    """What a value that is the same in so many batches becomes: of a number an array."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Series(np.full(turns, value, np.float64)) if is_number else value


def joined(results: Sequence[Any], epoch: Epoch) -> Any:
    """The results of batches: what is one of many together, and of all else the last."""
    last = results[-1]
    if isinstance(last, Series):
        return epoch.series([each.values for each in results])
    if isinstance(last, dict):
        return {key: joined([each[key] for each in results], epoch) for key in last}
    if isinstance(last, (list, tuple)):
        parts = [joined(column, epoch) for column in zip(*results, strict=True)]
        return type(last)(*parts) if hasattr(last, "_fields") else type(last)(parts)
    return last
