"""Where a runner's arrays live, and how those of the host come there and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from fastnn.engine.data import Batch
from fastnn.engine.protocols import Array
from fastnn.engine.wiring import mapped


class Placement(Protocol):
    """What a runner asks of the place of its arrays.

    ``programs`` tells whether steps can be recorded there, ``runs_op_by_op`` whether they run so as well.
    """

    programs: bool
    runs_op_by_op: bool

    def put(self, array: Array) -> Any:
        """An array of the host's, there."""
        ...

    def read(self, array: Any) -> Array:
        """An array from there, on the host."""
        ...

    def all_finite(self, arrays: Sequence[Any]) -> bool:
        """Whether all numbers of arrays there are."""
        ...


class _OnHost:
    """Ordinary arrays, where they are."""

    programs, runs_op_by_op = True, True

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


ON_HOST: Placement = _OnHost()
AS_THEY_COME: Placement = _AsTheyCome()


def placed(batch: Batch, placement: Placement) -> Batch:
    """A batch of the host's, there."""

    def put(array: Array | None) -> Any:
        return None if array is None else placement.put(array)

    return Batch(mapped(put, batch.x), mapped(put, batch.y), mapped(put, batch.sample_weight), batch.rows)
