"""Sequences of steps on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, finish, in_order, placing
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements

STEPS = Structure(
    "Steps",
    Field("n", "int64"),
    Field("t", "int64"),
    Field("f", "int64"),
    Field("x", "const real*"),
    Field("mask", "const real*"),
    Field("dy", "const real*"),
    Field("top", "const real*"),
    Field("index", "const int64*"),
    Field("y", "real*"),
    numbers=(Field("value", "real"),),
)


def modules() -> Iterator[launch.Module]:
    """The one, of both dtypes."""
    for dtype in DTYPES:
        yield launch.Module(dtype, launch.text("sequences.cu", dtype, (STEPS,)))


def stepping(
    entry: str, steps: tuple[int, ...], shape: tuple[int, ...], dtype: Any, threads: int, out: Any,
    sources: tuple[Any, ...], value: float = 0.0,
) -> Callable[..., Any]:  # fmt: skip
    """What runs a kernel on sequences (n, t, f): ``run(out, **operands)``, of which ``sources`` are like these."""
    place = placing(out, shape, dtype, *(each for each in sources if each is not None), ordered=True)
    record = STEPS.record(dtype)
    given = record[0]
    given["n"], given["t"], given["f"] = (*steps, 1)[:3]
    given["value"] = value
    kernel = launch.kernel("sequences.cu", entry, dtype.name, (STEPS,))
    launch_ = launch.Launch(kernel, launch.blocks(threads), record, "x", 6) if threads else None

    def run(
        out: Any, x: Any = None, mask: Any = None, dy: Any = None, top: Any = None, index: Any = None, over: Any = ()
    ) -> Any:
        operands = x, mask, dy, top, index
        y = place(out, *over)
        if launch_ is not None:
            kept = [None if each is None else in_order(each) for each in operands]
            launch_(*(0 if each is None else address(each) for each in kept), address(y))
        return finish(y, out)

    return run


def _given(*arrays: Any) -> tuple[Any, ...]:
    return tuple(array for array in arrays if array is not None)


def _step_mask(x: Any, value: float = 0.0, *, out: Any = None) -> Callable[..., Any]:
    """1 where any number of a step is another than ``value``."""
    n, t, _ = x.shape
    made = stepping("step_mask", x.shape, (n, t), x.dtype, n * t, out, (x,), x.dtype.type(value))
    return lambda x, value=0.0, *, out=None: made(out, x=x, over=(x,))


def _mask_steps(x: Any, mask: Any, *, out: Any = None) -> Callable[..., Any]:
    """Steps that count as they are, zeros in all others."""
    made = stepping("mask_steps", x.shape, x.shape, x.dtype, x.size, out, (x, mask))
    return lambda x, mask, *, out=None: made(out, x=x, mask=mask, over=(x, mask))


def _mask_steps_backward(dy: Any, mask: Any, *, out: Any = None) -> Callable[..., Any]:
    """The same for the gradient."""
    made = stepping("mask_steps", dy.shape, dy.shape, dy.dtype, dy.size, out, (dy, mask))
    return lambda dy, mask, *, out=None: made(out, x=dy, mask=mask, over=(dy, mask))


def _pooling(entry: str, x: Any, mask: Any, out: Any) -> Callable[..., Any]:
    n, _, f = x.shape
    made = stepping(entry, x.shape, (n, f), x.dtype, n * f, out, _given(x, mask))
    return lambda x, mask=None, *, out=None: made(out, x=x, mask=mask, over=_given(x, mask))


def _sequence_mean(x: Any, mask: Any = None, *, out: Any = None) -> Callable[..., Any]:
    """Sums in the order of the steps."""
    return _pooling("mean", x, mask, out)


def _sequence_max(x: Any, mask: Any = None, *, out: Any = None) -> Callable[..., Any]:
    """In the order of the steps."""
    return _pooling("largest_steps", x, mask, out)


def _sequence_mean_backward(dy: Any, x: Any, mask: Any = None, *, out: Any = None) -> Callable[..., Any]:
    """An equal share for every step that counts."""
    n, _, f = x.shape
    made = stepping("mean_backward", x.shape, x.shape, dy.dtype, n * f, out, _given(dy, mask))
    return lambda dy, x, mask=None, *, out=None: made(out, dy=dy, mask=mask, over=_given(dy, mask))


def _sequence_max_backward(dy: Any, x: Any, y: Any, mask: Any = None, *, out: Any = None) -> Callable[..., Any]:
    """All of it for the first step that has the largest number."""
    n, _, f = x.shape
    made = stepping("largest_backward", x.shape, x.shape, dy.dtype, n * f, out, _given(dy, x, y, mask))
    return lambda dy, x, y, mask=None, *, out=None: made(out, dy=dy, x=x, top=y, mask=mask, over=_given(dy, x, y, mask))


def index_mask(indices: Any, table: Any, *, out: Any = None) -> Callable[..., Any]:
    """1 where an index is not 0, in table's dtype."""
    n, t = indices.shape
    made = stepping("index_mask", (n, t), (n, t), table.dtype, n * t, out, (indices, table))

    def run(indices: Any, table: Any, *, out: Any = None) -> Any:
        return made(out, index=indices.astype(np.int64, copy=False), over=(indices, table))

    return run


step_mask = Planned(implements("step_mask", _step_mask))
mask_steps = Planned(implements("mask_steps", _mask_steps))
mask_steps_backward = Planned(implements("mask_steps_backward", _mask_steps_backward))
sequence_mean = Planned(implements("sequence_mean", _sequence_mean))
sequence_mean_backward = Planned(implements("sequence_mean_backward", _sequence_mean_backward))
sequence_max = Planned(implements("sequence_max", _sequence_max))
sequence_max_backward = Planned(implements("sequence_max_backward", _sequence_max_backward))
