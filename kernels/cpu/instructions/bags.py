"""Means of words' vectors in a program, which never lie in memory: a step that sums them, and what it sends back.

Where nobody but a mean over steps looks at the rows that ``embedding`` gives, they are added up as they are found, and
the gradient of a mean is added to the rows of its words: in the order of the ops one by one, so with their bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu._arrays import between, contiguous, in_order
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.gather import are_rows
from fastnn.kernels.cpu.jit import flat, kernel, matrix
from fastnn.kernels.cpu.notes import Note
from fastnn.kernels.cpu.simd.elementwise import add_row, sum_rows
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.teams import threads
from fastnn.kernels.cpu.teams.barrier import wait
from fastnn.kernels.graph import Call, Graph, is_same

# What a plan calls them.
MEAN, MEAN_BACKWARD = "mean of rows", "gradient of rows"

# One core's nanoseconds for a word's row, and for each number of it, roughly.
_NS_PER_ROW, _NS_PER_NUMBER = 2.0, 0.1


@compiled_in
def _kept(steps, first, low, high, index, mask, into):
    """How many of a sample's words, from ``first`` on, are rows ``low`` to ``high`` and not masked; ``into`` has them.

    Without branches: words come in no order that a CPU could foresee.
    """
    found = 0
    for s in range(first, first + steps):
        word = index[s]
        into[found] = word
        mine = (low <= word) & (word < high)
        if mask.size > 0:
            mine &= mask[s] != 0
        found += int(mine)
    return found


def _signature(dtype: Any) -> Any:
    """Steps a sample, words, a matrix, a mask or nothing, room for each task's words, the result."""
    return types.boolean(types.int64, flat(types.int64), matrix(dtype), flat(dtype), flat(types.int64), matrix(dtype))


@kernel(_signature)
def _mean(MR: int, NR: int) -> Any:
    def mean(steps, index, table, mask, room, y, words, t, tasks):
        (n, count), rows, own = y.shape, table.shape[0], address(room, t * steps)
        if not are_rows(index.size, address(index, 0), rows):
            return False
        for i in range(t * n // tasks, (t + 1) * n // tasks):
            found = _kept(steps, i * steps, 0, rows, address(index, 0), mask, own)
            sum_rows(count, found, own, address(table, 0), address(y, i * count))
            for j in range(count):
                y[i, j] /= max(found, 1)
        return True

    return mean


def _backward_signature(dtype: Any) -> Any:
    """Steps a sample, whether to add, words, means' gradient, a mask or nothing, the result.

    Before it room for each task's words, and for shares of the gradient.
    """
    rows, sizes = matrix(dtype), flat(types.int64)
    return types.boolean(types.int64, types.boolean, sizes, rows, flat(dtype), sizes, rows, rows)


@kernel(_backward_signature)
def _mean_backward(MR: int, NR: int) -> Any:
    def mean_backward(steps, added, index, dy, mask, room, shares, y, words, t, tasks):
        (rows, count), n = y.shape, dy.shape[0]
        if not are_rows(index.size, address(index, 0), rows):
            return False
        for i in range(t * n // tasks, (t + 1) * n // tasks):
            found = 0
            for s in range(i * steps, (i + 1) * steps):
                found += mask.size == 0 or mask[s] != 0
            for j in range(count):
                shares[i, j] = dy[i, j] / max(found, 1)
        wait(tasks, words)
        low, high = t * rows // tasks, (t + 1) * rows // tasks
        to = address(y, 0)
        if not added:
            for j in range(low * count, high * count):
                to[j] = 0
        own = address(room, t * steps)
        for i in range(n):
            share = address(shares, i * count)
            for s in range(_kept(steps, i * steps, low, high, address(index, 0), mask, own)):
                to = address(y, own[s] * count)
                add_row(count, to, share, to, 0)
        return True

    return mean_backward


def _nanoseconds(words: int, count: int) -> float:
    return words * (_NS_PER_ROW + count * _NS_PER_NUMBER)


def _room(steps: int) -> Any:
    """For a sample's words, of each task."""
    return between((threads.get_num_threads() * steps,), np.dtype(np.int64))


def _flags(mask: Any, dtype: Any) -> Any:
    return np.empty(0, dtype) if mask is None else contiguous(mask)


def _mean_of(embedding: Call) -> Callable[..., Any]:
    """The function of a call that is the mean of what ``embedding`` gives."""

    def run(indices: Any, table: Any, mask: Any) -> Any:
        n, t = indices.shape
        y = np.empty((n, table.shape[1]), table.dtype)
        words = in_order(indices, np.int64).reshape(-1)
        work = _nanoseconds(words.size, table.shape[1])
        if not _mean(table.dtype, work, t, words, in_order(table), _flags(mask, table.dtype), _room(t), y):
            embedding.run(indices=indices, table=table)  # says which is no row
        return y

    return run


def _mean_backward_of(embedding: Call) -> Callable[..., Any]:
    """The function of a call that is the gradient of that mean by the table."""

    def run(dy: Any, indices: Any, table: Any, mask: Any) -> Any:
        (_, t), y, dtype = indices.shape, np.empty(table.shape, table.dtype), table.dtype
        words, flags = in_order(indices, np.int64).reshape(-1), _flags(mask, dtype)
        work = _nanoseconds(words.size, table.shape[1]) + table.size * _NS_PER_NUMBER
        operands = words, in_order(dy), flags, _room(t), between(dy.shape, dtype), y
        if not _mean_backward(dtype, work, t, False, *operands):
            embedding.run(indices=indices, table=table)
        return y

    return run


def adds_rows(note: Note) -> bool:
    """Whether a call adds up gradients of rows."""
    return note.kernel is _mean_backward


def added(note: Note) -> Note:
    """The same, added to what is there in place of zeros."""
    steps, _, *operands = note.arguments
    return note._replace(arguments=(steps, True, *operands))


def joined(graph: Graph) -> Graph:
    """The graph with one call for each mean of words, and one for its gradient."""
    calls = [*graph.calls]
    for embedding in graph.calls:
        if embedding.op == "embedding":
            calls = _without(calls, embedding, {view.block for view in graph.kept})
    return graph if len(calls) == len(graph.calls) else replace(graph, calls=tuple(calls))


def _without(calls: Sequence[Call], embedding: Call, kept: set[Any]) -> list[Call]:
    """The calls without the vectors that ``embedding`` gives, if nobody but a mean and its gradient wants them."""
    (rows,), given = embedding.results, embedding.given
    means = [call for call in calls if call.op == "sequence_mean" and is_same(call.given["x"], rows)]
    backs = [call for call in calls if call.op == "sequence_mean_backward" and is_same(call.given["x"], rows)]
    taken = [call for call in calls if rows.block in call.touched() and call is not embedding]
    alone = rows.block not in kept and len(means) == 1 and len(backs) <= 1
    if not alone or given.get("out") is not None or len(taken) != len(means) + len(backs):
        return [*calls]
    changed: dict[int, Call | None] = {id(embedding): None}
    (mean,) = means
    words = {"indices": given["indices"], "table": given["table"], "mask": mean.given["mask"]}
    changed[id(mean)] = Call(MEAN, words, mean.results, (), _mean_of(embedding))
    for back in backs:
        (slope,) = back.results
        users = [call for call in calls if slope.block in call.touched() and call is not back]
        ends = [call for call in users if call.op == "embedding_backward" and is_same(call.given["dy"], slope)]
        if len(users) != 1 or len(ends) != 1 or slope.block in kept or back.given.get("out") is not None:
            return [*calls]
        (end,) = ends
        if end.given["indices"] != given["indices"] or end.given.get("out") is not None:
            return [*calls]
        changed[id(back)] = None
        run = _mean_backward_of(embedding)
        changed[id(end)] = Call(MEAN_BACKWARD, {"dy": back.given["dy"], **words}, end.results, (), run)
    made = [changed.get(id(call), call) for call in calls]
    return [call for call in made if call is not None]
