"""Rows of a table, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.naive._lists import deliver


def gather(data: Any, index: Any, scale: float = 1 / 255, offset: float = 0.0, *, out: Any = None) -> Any:
    """Each row's numbers behind those of the row before."""
    places = index.tolist()
    if hasattr(data, "indptr"):
        return _rows_of_csr(data, places)
    shape = (len(places), *data.shape[1:])
    numbers = [v for i in places for v in data[i].ravel().tolist()]
    if data.dtype == np.uint8:
        return deliver([scale * v + offset for v in numbers], shape, np.float32, out)
    return deliver(numbers, shape, data.dtype, out)


def _rows_of_csr(data: Any, places: list[int]) -> Any:
    """The non-zeros of each row behind those of the row before."""
    bounds, columns, values = data.indptr.tolist(), data.indices.tolist(), data.data.tolist()
    ends, kept_columns, kept_values = [0], [], []
    for i in places:
        kept_columns += columns[bounds[i] : bounds[i + 1]]
        kept_values += values[bounds[i] : bounds[i + 1]]
        ends.append(len(kept_columns))
    parts = np.array(kept_values, data.dtype), np.array(kept_columns, data.indices.dtype), np.array(ends)
    return type(data)(parts, shape=(len(places), data.shape[1]))
