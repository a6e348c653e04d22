"""Normalisation of columns and rows on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product as product_of
from typing import Any

import cupy

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, in_order, placing
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements

# Rows that a thread sums up before the parts are.
_CHUNK = 128

_GRADIENTS = ("dx", "dgamma", "dbeta")

# What kernels read, and what they write; null where there is none.
_READ = ("x", "dy", "gamma", "beta", "mean", "rstd", "variance")
_WRITTEN = (
    *("moving_mean", "moving_variance", "made_mean", "made_rstd"),
    *("parts", "shift", "slant", "y", "dgamma", "dbeta"),
)

COLUMNS = Structure(
    "Columns",
    Field("n", "int64"),
    Field("c", "int64"),
    Field("moved", "int64"),
    Field("of_rows", "int64"),
    *(Field(name, "const real*") for name in _READ),
    *(Field(name, "real*") for name in _WRITTEN),
    numbers=(Field("momentum", "double"), Field("epsilon", "double")),
)


def _before(group: int) -> str:
    return f"#define CHUNK {_CHUNK}\n#define GROUP {group}\n"


def modules() -> Iterator[launch.Module]:
    """For the fewest threads that share a row, a warp and a block."""
    for group, dtype in product_of(launch.GROUPS, DTYPES):
        yield launch.Module(f"{group} {dtype}", launch.text("normalization.cu", dtype, (COLUMNS,), _before(group)))


class _Launches:
    """Kernels of arrays like x, launched one after the other: ``launches(x=..., y=...)`` by the names of the arrays."""

    def __init__(self, x: Any, entries: Sequence[str], epsilon: float, momentum: float = 0.0, **flags: int) -> None:
        (n, c), dtype, record = x.shape, x.dtype, COLUMNS.record(x.dtype)
        given, group = record[0], launch.group(x.shape[1])
        given["n"], given["c"], given["epsilon"], given["momentum"] = n, c, epsilon, momentum
        for name, flag in flags.items():
            given[name] = flag
        by_row, by_column = launch.blocks(n * group), launch.blocks(c)
        blocks = {"layer_norm": by_row, "layer_slope": by_row, "join_moments": by_column, "join_slopes": by_column}
        self._launches = [
            launch.Launch(
                launch.kernel("normalization.cu", entry, dtype.name, (COLUMNS,), _before(group)),
                blocks.get(entry, launch.blocks(n * c)),
                record,
                "x",
                len(_READ) + len(_WRITTEN),
            )
            for entry in entries
            if n * c or entry.startswith("join")
        ]
        if c == 0:
            self._launches = []

    def __call__(self, **arrays: Any) -> None:
        places = [arrays.get(name) for name in (*_READ, *_WRITTEN)]
        for each in self._launches:
            each(*(0 if array is None else array.data.ptr for array in places))


def _ordered(array: Any) -> Any:
    return None if array is None else in_order(array)


def _parts(x: Any) -> Any:
    """Memory for the figures of chunks."""
    return cupy.empty((-(-x.shape[0] // _CHUNK) * 2 * x.shape[1],), x.dtype)


def _batch_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    moving_mean: Any = None,
    moving_variance: Any = None,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
) -> Callable[..., tuple[Any, Any, Any]]:
    """Figures of chunks, of columns, then numbers. Moving ones that lie apart are copied there and back."""
    launches = _Launches(x, ("moments", "join_moments"), epsilon, momentum)
    normalize = _Launches(x, ("normalize",), epsilon)
    (n, c), dtype = x.shape, x.dtype

    def run(
        x: Any, gamma: Any = None, beta: Any = None, moving_mean: Any = None, moving_variance: Any = None, *_: Any
    ) -> tuple[Any, Any, Any]:
        y, mean, rstd = cupy.empty((n, c), dtype), cupy.empty((c,), dtype), cupy.empty((c,), dtype)
        numbers, scale, shift, parts = in_order(x), _ordered(gamma), _ordered(beta), _parts(x)
        given = moving_mean, moving_variance
        moving = [_ordered(each) for each in given]
        figures = {"moving_mean": moving[0], "moving_variance": moving[1], "made_mean": mean, "made_rstd": rstd}
        launches(x=numbers, parts=parts, **figures)
        normalize(x=numbers, gamma=scale, beta=shift, mean=mean, rstd=rstd, y=y)
        for each, new in zip(given, moving, strict=True):
            if each is not None and new.data.ptr != each.data.ptr:
                each[...] = new
        return y, mean, rstd

    return run


def _batch_norm_inference(
    x: Any, moving_mean: Any, moving_variance: Any, gamma: Any = None, beta: Any = None, epsilon: float = 1e-3, *,
    out: Any = None,
) -> Callable[..., Any]:  # fmt: skip
    """Number by number."""
    launches = _Launches(x, ("normalize",), epsilon)
    place = placing(out, x.shape, x.dtype, x, ordered=True)

    def run(
        x: Any, moving_mean: Any, moving_variance: Any, gamma: Any = None, beta: Any = None, *_: Any, out: Any = None
    ) -> Any:
        y = place(out, x)
        columns = [_ordered(each) for each in (moving_mean, moving_variance, gamma, beta)]
        if y is out:  # what lies under the result is copied
            columns = [None if each is None else each.copy() for each in columns]
        numbers, (mean, variance, scale, shift) = in_order(x), columns
        launches(x=numbers, mean=mean, variance=variance, gamma=scale, beta=shift, y=y)
        return finish(y, out)

    return run


def _gradients(need: Sequence[str], *found: Any) -> tuple[Any, ...]:
    """Those that are needed."""
    return tuple(each if name in need else None for name, each in zip(_GRADIENTS, found, strict=True))


def _columns_backward(x: Any, epsilon: float, need: Sequence[str], moved: bool) -> Callable[..., tuple[Any, ...]]:
    """What gives the gradients of columns like x: ``run(dy, x, mean, rstd, variance, gamma)``."""
    entries = ("slopes", "join_slopes", *(("slope",) if "dx" in need else ()))
    launches = _Launches(x, entries, epsilon, moved=int(moved))
    (n, c), dtype = x.shape, x.dtype

    def run(dy: Any, x: Any, mean: Any, rstd: Any, variance: Any, gamma: Any) -> tuple[Any, ...]:
        dx = cupy.empty((n, c), dtype) if "dx" in need else None
        dgamma, dbeta, shift, slant = (cupy.empty((c,), dtype) for _ in range(4))
        read = dict(zip(_READ, map(_ordered, (x, dy, gamma, None, mean, rstd, variance)), strict=True))
        parts = _parts(x)
        launches(**read, parts=parts, shift=shift, slant=slant, y=dx, dgamma=dgamma, dbeta=dbeta)
        return _gradients(need, dx, dgamma, dbeta)

    return run


def _batch_norm_backward(
    dy: Any, x: Any, mean: Any, rstd: Any, gamma: Any = None, need: Sequence[str] = _GRADIENTS
) -> Callable[..., tuple[Any, ...]]:
    """Sums of chunks, of columns, then numbers."""
    compute = _columns_backward(x, 0.0, need, moved=True)
    return lambda dy, x, mean, rstd, gamma=None, *_, **__: compute(dy, x, mean, rstd, None, gamma)


def _batch_norm_inference_backward(
    dy: Any,
    x: Any,
    moving_mean: Any,
    moving_variance: Any,
    gamma: Any = None,
    epsilon: float = 1e-3,
    need: Sequence[str] = _GRADIENTS,
) -> Callable[..., tuple[Any, ...]]:
    """The same where the figures do not depend on x."""
    compute = _columns_backward(x, epsilon, need, moved=False)

    def run(dy: Any, x: Any, mean: Any, variance: Any, gamma: Any = None, *_: Any, **__: Any) -> tuple[Any, ...]:
        return compute(dy, x, mean, None, variance, gamma)

    return run


def _layer_norm(
    x: Any, gamma: Any = None, beta: Any = None, epsilon: float = 1e-3, *, out: Any = None
) -> Callable[..., Any]:
    """Row by row."""
    launches = _Launches(x, ("layer_norm",), epsilon)
    place = placing(out, x.shape, x.dtype, x, ordered=True)

    def run(x: Any, gamma: Any = None, beta: Any = None, *_: Any, out: Any = None) -> Any:
        y = place(out, x)
        columns = [_ordered(each) for each in (gamma, beta)]
        if y is out:  # what lies under the result is copied
            columns = [None if each is None else each.copy() for each in columns]
        numbers, (scale, shift) = in_order(x), columns
        launches(x=numbers, gamma=scale, beta=shift, y=y)
        return finish(y, out)

    return run


def _layer_norm_backward(
    dy: Any, x: Any, gamma: Any = None, epsilon: float = 1e-3, need: Sequence[str] = _GRADIENTS
) -> Callable[..., tuple[Any, ...]]:
    """Rows, with their figures, then sums of chunks and of columns."""
    launches = _Launches(x, ("layer_slope", "layer_weights", "join_slopes"), epsilon, of_rows=1)
    (n, c), dtype = x.shape, x.dtype

    def run(dy: Any, x: Any, gamma: Any = None, *_: Any, **__: Any) -> tuple[Any, ...]:
        dx = cupy.empty((n, c), dtype) if "dx" in need else None
        dgamma, dbeta = cupy.empty((c,), dtype), cupy.empty((c,), dtype)
        mean, rstd, parts = cupy.empty((n,), dtype), cupy.empty((n,), dtype), _parts(x)
        numbers, slopes, scale = in_order(x), in_order(dy), _ordered(gamma)
        made = {"made_mean": mean, "made_rstd": rstd, "parts": parts, "y": dx, "dgamma": dgamma, "dbeta": dbeta}
        launches(x=numbers, dy=slopes, gamma=scale, **made)
        return _gradients(need, dx, dgamma, dbeta)

    return run


batch_norm = Planned(implements("batch_norm", _batch_norm))
batch_norm_backward = Planned(implements("batch_norm_backward", _batch_norm_backward))
batch_norm_inference = Planned(implements("batch_norm_inference", _batch_norm_inference))
batch_norm_inference_backward = Planned(implements("batch_norm_inference_backward", _batch_norm_inference_backward))
layer_norm, layer_norm_backward = (
    Planned(implements("layer_norm", _layer_norm)),
    Planned(implements("layer_norm_backward", _layer_norm_backward)),
)
