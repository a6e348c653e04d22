"""A program run on batch after batch: what it is given, the graph that gathers its batches, what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.kernels.graph import GATHER, PUT, Block, Call, Figure, Graph, Order, View
from fastnn.recorder import rebuilt

Array = Any


class Epoch:
    """Data, the order of their rows, rows of a batch; numbers by batch, and arguments that are the same for all.

    Where they are to be ``joined``, arrays of all batches are wanted, not those of the last.
    """

    def __init__(
        self, data: Any, order: Any, batch: Any, each: Mapping[str, Any], joined: bool, others: Mapping[str, Any]
    ) -> None:
        arrays = data if isinstance(data, (tuple, list)) else [data]
        self.data = [_rows(f"data[{place}]", array, arrays[0]) for place, array in enumerate(arrays)]
        if not self.data:
            raise ValueError("data: got no arrays, wants one or more whose rows make the batches")
        self.batch = checks.integer("batch", batch, 1)
        self.order = _order(order, len(self.data[0]))
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
        return [array[rows] for array in self.data]

    def named(self, batch: int) -> dict[str, Any]:
        """The other arguments of a batch."""
        return {**self.others, **{name: values[batch].item() for name, values in self.each.items()}}

    def kept(self, value: Any) -> Any:
        """What is wanted of a batch's result: a number or array as one of many, or any other value as it is."""
        if isinstance(value, (int, float)):
            return Series(np.array([value], np.float64))
        return Series(np.array(value, ndmin=1)) if self.joined and isinstance(value, np.ndarray) else value


def _rows(name: str, array: Any, first: Any) -> Array:
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise TypeError(f"{name}: got {checks.describe(array)}, wants a NumPy array of rows")
    if len(array) != len(first):
        raise ValueError(f"{name}: got {len(array)} rows, wants {len(first)}, as data[0] has")
    return np.ascontiguousarray(array)


def _order(order: Any, rows: int) -> Array:
    found = np.asarray(order)
    if found.ndim != 1 or not (np.issubdtype(found.dtype, np.integer) or found.size == 0):
        raise TypeError(f"order: got {checks.describe(order)}, wants row numbers (n,)")
    if found.size == 0:
        raise ValueError("order: got no rows, wants one or more")
    if found.min() < 0 or found.max() >= rows:
        raise IndexError(f"order: got row {found.min() if found.min() < 0 else found.max()}, wants rows in [0, {rows})")
    return np.ascontiguousarray(found, np.int64)


def _by_batch(name: str, values: Any, batches: int) -> Array:
    found = np.asarray(values)
    if found.shape != (batches,) or found.dtype.kind not in "fiu":
        raise ValueError(f"{name}: got {checks.describe(values)}, wants {batches} numbers, one for each batch")
    return found


# ----------------------------------------------------------------------------------------------------------- the graph


def gathering(graph: Graph, template: Any, data: Sequence[Array]) -> tuple[Graph, Any]:
    """The graph, and its results, with data in place of its first arguments: each turn gathers a batch of them."""
    arguments = list(graph.arguments)
    moved: dict[Block, Block] = {}
    calls: list[Call] = []
    for place, array in enumerate(data):
        whole = arguments[place]
        moved[whole.block] = Block(whole.block.size)
        arguments[place] = View(Block(array.nbytes, argument=place), 0, array.shape, array.strides, array.dtype)
        batch = _moved(moved)(whole)
        calls.append(Call(GATHER, {"data": arguments[place], "rows": Order()}, (batch,), (), _take))
    move = _moved(moved)
    for call in graph.calls:
        given = {name: _each(move, value) for name, value in call.given.items()}
        calls.append(Call(call.op, given, _each(move, call.results), _each(move, call.writes), call.run))
    kept = tuple(move(view) for view in graph.kept)
    return Graph(tuple(calls), tuple(arguments), graph.figures, kept), rebuilt(move, template)


def putting(graph: Graph, template: Any) -> tuple[Graph, Any]:
    """The graph, and its results, with what it returns of every turn put into arrays, arguments behind its own.

    The last figure is the number of the turn.
    """
    turn = Figure(graph.figures, early=True, kind=int)
    arguments, calls = list(graph.arguments), list(graph.calls)

    def put(place: Any) -> Any:
        if not isinstance(place, View):
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


def _take(data: Array, rows: Array) -> Array:
    return data[rows]


def _moved(blocks: Mapping[Block, Block]) -> Callable[[Any], Any]:
    """Views in other blocks; what is no view stays."""

    def move(value: Any) -> Any:
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


def joined(results: Sequence[Any]) -> Any:
    """The results of batches: what is one of many together, and of all else the last."""
    last = results[-1]
    if isinstance(last, Series):
        return np.concatenate([each.values for each in results])
    if isinstance(last, dict):
        return {key: joined([each[key] for each in results]) for key in last}
    if isinstance(last, (list, tuple)):
        parts = [joined(column) for column in zip(*results, strict=True)]
        return type(last)(*parts) if hasattr(last, "_fields") else type(last)(parts)
    return last
