"""Where a runner's arrays live, how those of the host come there and back, and how batches are taken from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastnn.engine.data import Batch, DataSet
from fastnn.engine.inputs import arrays_of
from fastnn.engine.protocols import Array
from fastnn.engine.wiring import mapped


class Together(NamedTuple):
    """Inputs, targets and weights of samples, there, and the rows in them of those that batches are made of.

    ``meanwhile`` is to be called when these batches have been asked for, and before their results are read.
    """

    arrays: Sequence[Any]
    rows: Array
    meanwhile: Callable[[], None]


class Batches(Protocol):
    """The batches of an epoch, there."""

    def at_hand(self, step: int) -> int:
        """How many from ``step`` on can be taken together; 0 where only one by one."""
        ...

    def together(self, step: int, steps: int) -> Together:
        """So many of them, no more than are at hand."""
        ...

    def alone(self, step: int) -> Batch:
        """One of them."""
        ...


class Placement(Protocol):
    """What a runner asks of the place of its arrays.

    ``programs`` tells whether steps can be recorded there, ``clips`` whether clipping of gradients can,
    ``runs_op_by_op`` whether they run so as well.
    """

    programs: bool
    clips: bool
    runs_op_by_op: bool

    def batches(self, data: DataSet, order: Array, batch_size: int) -> Batches:
        """The batches of so many samples in their order; what is there of the samples stays for later epochs."""
        ...

    def put(self, array: Array) -> Any:
        """An array of the host's, there; one that is there stays as it is."""
        ...

    def read(self, array: Any) -> Array:
        """An array from there, on the host."""
        ...

    def all_finite(self, arrays: Sequence[Any]) -> bool:
        """Whether all numbers of arrays there are."""
        ...


def nothing() -> None:
    """What there is to do meanwhile where all samples are at hand."""


class _HostBatches:
    """Batches of ordinary arrays: many at a time where all samples have the dtypes that batches have."""

    def __init__(self, arrays: Callable[[], Sequence[Array] | None], data: DataSet, order: Array, size: int) -> None:
        self._arrays, self._data, self._order, self._size = arrays, data, order, size

    def at_hand(self, step: int) -> int:
        return 0 if self._arrays() is None else -(-(self._order.size - step * self._size) // self._size)

    def together(self, step: int, steps: int) -> Together:
        rows = self._order[step * self._size : (step + steps) * self._size]
        return Together(self._arrays() or (), rows, nothing)

    def alone(self, step: int) -> Batch:
        rows = self._order[step * self._size : (step + 1) * self._size]
        return self._data.batch(rows, rows.size)


class _OnHost:
    """Ordinary arrays, where they are."""

    programs, clips, runs_op_by_op = True, False, True

    def __init__(self) -> None:
        self._data: DataSet | None = None
        self._arrays: Sequence[Array] | None = None

    def batches(self, data: DataSet, order: Array, batch_size: int) -> Batches:
        return _HostBatches(lambda: self._arrays_of(data), data, order, batch_size)

    def _arrays_of(self, data: DataSet) -> Sequence[Array] | None:
        """Its arrays, found once, when they are asked for."""
        if self._data is not data:
            self._data, self._arrays = data, arrays_of(data)
        return self._arrays

    def put(self, array: Array) -> Any:
        return array

    def read(self, array: Any) -> Array:
        made: Array = array
        return made

    def all_finite(self, arrays: Sequence[Any]) -> bool:
        return all(np.isfinite(array).all() for array in arrays)


class _AsTheyCome(_OnHost):
    """The same, for a backend that has no programs."""

    programs = False


def on_host(programs: bool) -> Placement:
    """That of ordinary arrays, with programs or without."""
    return _OnHost() if programs else _AsTheyCome()


def placed(batch: Batch, placement: Placement) -> Batch:
    """A batch of the host's, there."""

    def put(array: Array | None) -> Any:
        return None if array is None else placement.put(array)

    return Batch(mapped(put, batch.x), mapped(put, batch.y), mapped(put, batch.sample_weight), batch.rows)
