"""Rows of a table, by their numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastnn.kernels.table.row import Real, Rule, op

# What a byte is multiplied with where nothing is said: 255 becomes 1.
_SCALE = 1 / 255

_CASES = (
    {"rows": 0, "n": 0, "...": (3,)},
    {"rows": 1, "n": 4, "...": ()},
    {"rows": 5, "n": 0, "...": (2,)},
    {"rows": 3, "n": 5, "...": (0,)},
    {"rows": 7, "n": 3, "...": (1,)},
    {"rows": 9, "n": 17, "...": (2, 5)},
    {"rows": 33, "n": 33, "...": (67,)},
    {"rows": 11, "n": 6, "...": (3, 5)},
    {"rows": 40, "n": 64, "...": (300,)},
)
_DRAW = {"index": "row_numbers"}


def _of_bytes(default: float, name: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda given: given["data"].dtype == "uint8" or given[name] == default


def _has_place(given: Mapping[str, Any]) -> bool:
    return given["out"] is None or not hasattr(given["data"], "indptr")


@op(
    "gather",
    data="rows ...",
    index="n",
    returns=("n ...",),
    sampled=("data",),
    of_bytes=("data",),
    sparse=("data",),
    options={"scale": Real(), "offset": Real()},
    rules=(
        Rule("scale", "left out where data are no bytes", _of_bytes(_SCALE, "scale")),
        Rule("offset", "left out where data are no bytes", _of_bytes(0.0, "offset")),
        Rule("out", "left out beside CSR data, whose rows are new arrays", _has_place),
    ),
    cases=_CASES,
    bench=({"rows": 10_000, "n": 128, "...": (784,)},),
    draw=_DRAW,
)
def gather(data, index, scale=_SCALE, offset=0.0, *, out=None):
    """Rows of data (rows, ...) in the order of index (n,), integers: y[i] = data[index[i]], (n, ...).

    A row may be wanted more than once; one that data do not have is an IndexError, a negative number too, or on a
    device, where nobody waits to read numbers, NaN. Bytes (uint8) become float32: y[i] = scale * data[index[i]] +
    offset. Of a CSR matrix or array of SciPy's, y is one too, with its numbers as they are. That of one of CuPy's waits
    for the device, to hear how many non-zeros these rows have: its arrays are as long as that.
    """


@op(
    "gather",
    dy="n ...",
    data="rows ...",
    index="n",
    returns=("rows ...",),
    cases=_CASES,
    bench=({"rows": 10_000, "n": 1024, "...": (64,)},),
    draw=_DRAW,
    unread=("data",),
)
def gather_backward(dy, data, index, *, out=None):
    """Gradient of ``gather`` by data: zeros of data's shape, and dy[i] added to row index[i], in the order of index.

    Of data only the shape counts. A row that data do not have is an IndexError; on a device its dy[i] is left out.
    """
